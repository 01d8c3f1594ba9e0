/* AdamW over the table of weights, see optimizer.h. */
#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>

enum { ALIGNMENT = 256 };

/* The next `bytes` of a piece of memory whose layout is being counted (base NULL) or handed out. */
static void *carve(void *base, size_t *at, size_t bytes) {
    void *here = base ? (char *)base + *at : NULL;
    *at += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return here;
}

static view carve_view(void *base, size_t *at, int64_t rows, int64_t cols, dtype type) {
    view v = {NULL, rows, cols, type};
    v.data = carve(base, at, view_bytes(v));
    return v;
}

/* Gives every view its place in `base`; returns the bytes that it takes. */
static size_t lay_out(optimizer *o, void *base) {
    size_t at = 0;
    o->state = carve_view(base, &at, 1, sizeof(step_state), DTYPE_U8);
    o->sum_squares = carve_view(base, &at, 1, 1, DTYPE_F64);
    for (int i = 0; i < o->params->count; i++) {
        const weight *w = &o->params->table[i];
        o->table[i].m = carve_view(base, &at, w->rows, w->cols, DTYPE_F32);
        o->table[i].v = carve_view(base, &at, w->rows, w->cols, DTYPE_F32);
    }
    return at;
}

static int allocate(optimizer *o) {
    o->table = calloc((size_t)o->params->count, sizeof *o->table);
    REQUIRE(o->table, LCKV_ERROR_MEMORY, "no memory for the optimizer's table");
    size_t bytes = lay_out(o, NULL);
    TRY(o->device->memory.alloc(o->device, bytes, &o->memory));
    lay_out(o, o->memory);
    return o->device->memory.zero(o->device, o->memory, bytes);
}

int optimizer_create(params *p, const optimizer_options *options, optimizer **out) {
    *out = NULL;
    optimizer *o = calloc(1, sizeof *o);
    REQUIRE(o, LCKV_ERROR_MEMORY, "no memory for an optimizer");
    *o = (optimizer){.params = p, .device = p->device, .options = *options};
    int status = allocate(o);
    if (status < 0) {
        optimizer_free(o);
        return status;
    }
    *out = o;
    return LCKV_OK;
}

void optimizer_free(optimizer *o) {
    if (!o) return;
    if (o->memory) o->device->memory.release(o->device, o->memory);
    free(o->table);
    free(o);
}

/* Corrections are of the betas as f32 has them, so that the first step's m / correction1 is the gradient itself. */
static step_state state_of_step(const optimizer *o, double learning_rate) {
    step_state s = {
        .learning_rate = (float)learning_rate,
        .beta1 = (float)o->options.beta1,
        .beta2 = (float)o->options.beta2,
        .epsilon = (float)o->options.epsilon,
        .max_grad_norm = (float)o->options.max_grad_norm,
    };
    s.correction1 = (float)(1 - pow((double)s.beta1, (double)o->steps));
    s.correction2 = (float)(1 - pow((double)s.beta2, (double)o->steps));
    return s;
}

static int find_norm(optimizer *o, view loss) {
    TRY(o->device->memory.zero(o->device, o->sum_squares.data, sizeof(double)));
    for (int i = 0; i < o->params->count; i++) {
        struct op_sum_squares a = {.x = o->params->table[i].tensor.grad, .out = o->sum_squares};
        TRY(DEVICE_RUN(o->device, sum_squares, &a));
    }
    struct op_clip a = {.sum_squares = o->sum_squares, .loss = loss, .state = o->state};
    return DEVICE_RUN(o->device, clip, &a);
}

static int update(optimizer *o, int i) {
    const weight *w = &o->params->table[i];
    bool rounded = w->master.data != NULL;
    struct op_adamw a = {
        .master = rounded ? w->master : w->tensor.value,
        .weight = rounded ? w->tensor.value : (view){0},
        .grad = w->tensor.grad,
        .m = o->table[i].m,
        .v = o->table[i].v,
        .state = o->state,
        .weight_decay = w->dimensions == 2 ? (float)o->options.weight_decay : 0,
    };
    return DEVICE_RUN(o->device, adamw, &a);
}

int optimizer_step(optimizer *o, double learning_rate, view loss) {
    o->steps++;
    step_state state = state_of_step(o, learning_rate);
    TRY(o->device->memory.copy_in(o->device, o->state.data, &state, sizeof state));
    TRY(find_norm(o, loss));
    for (int i = 0; i < o->params->count; i++) TRY(update(o, i));
    return LCKV_OK;
}
