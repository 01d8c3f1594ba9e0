/* The composed ops as sequences of other ops. This defines what they compute; devices without faster entries use it. */
#include "device/device.h"

int device_project(device *d, const struct op_project *a) {
    struct op_rms_norm norm = {.x = a->x, .weight = a->norm, .y = a->normed, .rstd = a->rstd, .eps = a->eps};
    TRY(DEVICE_RUN(d, rms_norm, &norm));
    for (int i = 0; i < a->parts; i++) {
        struct op_linear product = {
            .x = a->normed, .weight = a->part[i].weight, .bias = a->part[i].bias, .y = a->part[i].y};
        TRY(DEVICE_RUN(d, linear, &product));
    }
    if (!a->gated_y.data) return LCKV_OK;
    struct op_swiglu gate = {.gate = a->part[0].y, .up = a->part[1].y, .y = a->gated_y};
    return DEVICE_RUN(d, swiglu, &gate);
}

int device_linear_add(device *d, const struct op_linear_add *a) {
    TRY(DEVICE_RUN(d, linear, &a->product));
    struct op_add sum = {a->residual, a->product.y, a->product.y};
    return DEVICE_RUN(d, add, &sum);
}

/* x = x converted to the type of `room` and back. */
static int round_rows(device *d, view x, view room) {
    TRY(DEVICE_RUN(d, cast, &((struct op_cast){x, room})));
    return DEVICE_RUN(d, cast, &((struct op_cast){room, x}));
}

int device_rope_append(device *d, const struct op_rope_append *a) {
    struct op_rope q = {.x = a->q, .angles = a->angles, .y = a->q_out, .head_dim = a->head_dim};
    struct op_rope k = {.x = a->k, .angles = a->angles, .y = a->k_out, .head_dim = a->head_dim};
    struct op_scatter_rows keys = {.src = a->k_out, .index = a->index, .dst = a->pages_k};
    struct op_scatter_rows values = {.src = a->v, .index = a->index, .dst = a->pages_v};
    if (a->q.data) TRY(DEVICE_RUN(d, rope, &q));
    if (!a->k.data) return LCKV_OK;
    TRY(DEVICE_RUN(d, rope, &k));
    TRY(DEVICE_RUN(d, scatter_rows, &keys));
    TRY(DEVICE_RUN(d, scatter_rows, &values));
    if (!a->room.data) return LCKV_OK;
    TRY(round_rows(d, a->k_out, a->room));
    return round_rows(d, a->v, a->room);
}

int device_heads(device *d, const struct op_heads *a) {
    TRY(DEVICE_RUN(d, project, &a->project));
    return DEVICE_RUN(d, rope_append, &a->append);
}

void device_fill_composed(struct device_ops *ops) {
#define ENTRY(name, arguments)                                                                                         \
    if (!ops->name) ops->name = device_##name;
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
}
