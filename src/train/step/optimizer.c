/* AdamW over the table of weights, see optimizer.h. */
#include "train/step/optimizer.h"

#include <math.h>
#include <stdlib.h>

enum { ALIGNMENT = 256 };

static const uint64_t ROUNDING_STREAM = 0x726f756e64000000; /* "round"; separate from the streams of initial weights */

/* ---------------------------------------------------------------- shards */

static view subview(view whole, int64_t first, int64_t count) {
    if (!whole.data) return whole;
    return view_elements(whole, first, count);
}

/* The values of a unit, which follow each other in one allocation, see params_enable_masters(). */
static view first_value(const optimizer *o, const shard_unit *u) {
    return o->params->table[u->first].tensor.value;
}

static int list_slices(optimizer *o) {
    const params *p = o->params;
    o->slices = calloc((size_t)p->count, sizeof *o->slices);
    REQUIRE(o->slices, LCKV_ERROR_MEMORY, "no memory for the optimizer's table");
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        int64_t first, count = shards_part(o->shards, i, o->collectives->rank, &first);
        if (!count) continue;
        o->slices[o->slice_count++] = (shard_slice){
            .entry = i,
            .first = first,
            .count = count,
            .value = w->part.rows ? w->part : subview(w->tensor.value, first, count),
            .grad = shards_entry_gradient(o->shards, i),
            .master = subview(w->master, 0, count),
        };
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- memory */

/* Reserves the next `bytes` of an allocation, at an aligned offset. With base NULL, only counts them. */
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

/* Places every view in `base` (NULL: only counts); returns the total bytes. */
static size_t lay_out(optimizer *o, void *base) {
    size_t at = 0;
    o->state = carve_view(base, &at, 1, sizeof(step_state), DTYPE_U8);
    o->sum_squares = carve_view(base, &at, 1, 1, DTYPE_F64);
    shard_slice *begin = o->slices, *end = begin + o->slice_count;
    for (shard_slice *q = begin; q < end; q++) q->m = carve_view(base, &at, 1, q->count, o->state_type);
    for (shard_slice *q = begin; q < end; q++) q->v = carve_view(base, &at, 1, q->count, o->state_type);
    return at;
}

static int allocate(optimizer *o) {
    size_t bytes = lay_out(o, NULL);
    TRY(o->device->memory.alloc(o->device, bytes, &o->memory));
    lay_out(o, o->memory);
    return o->device->memory.zero(o->device, o->memory, bytes);
}

static int make(optimizer *o) {
    if (!o->params->shards) TRY(shards_create(o->params, o->collectives, &o->own_shards));
    o->shards = o->params->shards ? o->params->shards : o->own_shards;
    TRY(gradient_points_create(o->shards, &o->points));
    TRY(list_slices(o));
    return allocate(o);
}

int optimizer_create(params *p, const optimizer_options *options, optimizer **out) {
    *out = NULL;
    optimizer *o = calloc(1, sizeof *o);
    REQUIRE(o, LCKV_ERROR_MEMORY, "no memory for an optimizer");
    const collectives *e = options->collectives ? options->collectives : collectives_single();
    bool bf16 = !p->has_masters && params_type(p, 0) == DTYPE_BF16;
    *o = (optimizer){.params = p,
                     .device = p->device,
                     .collectives = e,
                     .options = *options,
                     .state_type = bf16 ? DTYPE_BF16 : DTYPE_F32};
    int status = make(o);
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
    free(o->slices);
    gradient_points_free(&o->points);
    shards_free(o->own_shards);
    free(o);
}

/* ---------------------------------------------------------------- a step */

/* The bias corrections use the betas rounded to f32, so that m / correction1 of the first step equals the gradient. */
static step_state state_of_step(const optimizer *o, double learning_rate) {
    step_state s = {
        .learning_rate = (float)learning_rate,
        .beta1 = (float)o->options.beta1,
        .beta2 = (float)o->options.beta2,
        .epsilon = (float)o->options.epsilon,
        .max_grad_norm = (float)o->options.max_grad_norm,
        .skip_grad_norm = (float)o->options.skip_grad_norm,
        .rounding_seed = o->options.seed + (uint64_t)o->steps,
    };
    s.correction1 = (float)(1 - pow((double)s.beta1, (double)o->steps));
    s.correction2 = (float)(1 - pow((double)s.beta2, (double)o->steps));
    return s;
}

/* Gradients of divided weights have been summed in the backward pass. The others are summed first, because the sum of
 * the loss waits for the whole backward pass. */
static int sum_gradients(optimizer *o) {
    const shards *s = o->shards;
    int unit = 0;
    if (s->divides_weights) return LCKV_OK;
    TRY(gradient_points_finish(&o->points));
    for (int i = 0; i < s->count; i++) {
        const shard_unit *u = &s->units[unit = shards_backward_unit(s, i)];
        collectives_parts parts = {o->params->table[u->first].tensor.grad.data, DTYPE_F32, shards_gradient_parts(s, u)};
        TRY(collectives_reduce_scatter_aside(o->collectives, parts, unit));
    }
    return collectives_join_aside(o->collectives, unit);
}

static int find_norm(optimizer *o, view loss) {
    const shards *s = o->shards;
    TRY(o->device->memory.zero(o->device, o->sum_squares.data, sizeof(double)));
    for (const shard_unit *u = s->units; u < s->units + s->count; u++) {
        struct op_sum_squares squares = {.x = shards_gradient(s, u), .out = o->sum_squares};
        if (squares.x.cols) TRY(DEVICE_RUN(o->device, sum_squares, &squares));
    }
    TRY(collectives_all_reduce(o->collectives, o->sum_squares));
    struct op_clip a = {.sum_squares = o->sum_squares, .loss = loss, .state = o->state};
    return DEVICE_RUN(o->device, clip, &a);
}

static float decay_of(const optimizer *o, const shard_slice *q) {
    return o->params->table[q->entry].dimensions == 2 ? (float)o->options.weight_decay : 0;
}

static bool continues(view v, view next) {
    return (char *)v.data + view_bytes(v) == (char *)next.data && v.type == next.type;
}

/* Whether `next` can be updated with `q` by one op: it continues q in every memory. Stochastic rounding, which depends
 * on the tensor, cannot. */
static bool joins(const optimizer *o, const shard_slice *q, const shard_slice *next) {
    bool master = q->master.data ? continues(q->master, next->master) : !next->master.data;
    return o->state_type == DTYPE_F32 && decay_of(o, q) == decay_of(o, next) && master &&
           continues(q->value, next->value) && continues(q->grad, next->grad) && continues(q->m, next->m) &&
           continues(q->v, next->v);
}

static void widen(view *v, int64_t count) {
    if (v->data) v->cols += count;
}

/* op_adamw takes gradients in f32. */
static int widen_gradient(optimizer *o, shard_slice *q) {
    view wide = {NULL, 1, q->count, DTYPE_F32};
    if (q->grad.type == DTYPE_F32) return LCKV_OK;
    TRY(shards_take_buffer(o->params->shards, view_bytes(wide), &wide.data));
    struct op_cast a = {.src = q->grad, .dst = wide};
    q->grad = wide;
    return DEVICE_RUN(o->device, cast, &a);
}

static int drop_wide_gradient(optimizer *o, const shard_slice *q, view sum) {
    shards_give_buffer(o->params->shards, q->grad.data);
    return o->device->memory.zero(o->device, sum.data, view_bytes(sum));
}

/* Updates slice *at and those that join it, and moves *at behind them. */
static int update_joined(optimizer *o, int *at) {
    shard_slice joined = o->slices[(*at)++], *q = &joined;
    for (; *at < o->slice_count && joins(o, q, &o->slices[*at]); (*at)++) {
        view *views[] = {&q->value, &q->grad, &q->master, &q->m, &q->v};
        for (int i = 0; i < 5; i++) widen(views[i], o->slices[*at].count);
    }
    bool rounded = q->master.data != NULL;
    view sum = q->grad;
    TRY(widen_gradient(o, q));
    struct op_adamw a = {
        .master = rounded ? q->master : q->value,
        .weight = rounded ? q->value : (view){0},
        .grad = q->grad,
        .m = q->m,
        .v = q->v,
        .state = o->state,
        .weight_decay = decay_of(o, q),
        .stream = ROUNDING_STREAM + (uint64_t)q->entry,
        .first = q->first,
    };
    TRY(DEVICE_RUN(o->device, adamw, &a));
    return sum.type == DTYPE_F32 ? LCKV_OK : drop_wide_gradient(o, q, sum);
}

/* Gathering a unit is an operation aside, numbered behind the sums of gradients, that may begin when the unit has been
 * updated. */
static int update_slices(optimizer *o, view loss) {
    const shards *s = o->shards;
    int at = 0;
    TRY(find_norm(o, loss));
    for (int unit = 0; unit < s->count; unit++) {
        while (at < o->slice_count && s->unit_of[o->slices[at].entry] == unit) TRY(update_joined(o, &at));
        if (!s->divides_weights) TRY(collectives_point(o->collectives, s->count + unit));
    }
    return LCKV_OK;
}

static int gather_values(optimizer *o) {
    const shards *s = o->shards;
    for (int unit = 0; unit < s->count; unit++) {
        const shard_unit *u = &s->units[unit];
        view value = first_value(o, u);
        collectives_parts parts = {value.data, value.type, shards_value_parts(s, u, value.type)};
        TRY(collectives_all_gather_aside(o->collectives, parts, s->count + unit));
    }
    return LCKV_OK;
}

/* op_adamw zeroes the gradients of this rank's shard alone. */
static int zero_gradients(optimizer *o) {
    const shards *s = o->shards;
    for (const shard_unit *u = s->units; u < s->units + s->count; u++) {
        void *gradient = o->params->table[u->first].tensor.grad.data;
        size_t bytes = (size_t)shards_unit_elements(s, u, DTYPE_F32) * sizeof(float);
        TRY(o->device->memory.zero(o->device, gradient, bytes));
    }
    return LCKV_OK;
}

/* Gathers the new values of all shards. */
static int gather(optimizer *o) {
    if (o->collectives->ranks == 1 || o->shards->divides_weights) return LCKV_OK;
    TRY(gather_values(o));
    TRY(zero_gradients(o));
    return collectives_join_aside(o->collectives, 2 * o->shards->count - 1);
}

int optimizer_send(optimizer *o, double learning_rate) {
    o->steps++;
    step_state state = state_of_step(o, learning_rate);
    return o->device->memory.copy_in(o->device, o->state.data, &state, sizeof state);
}

int optimizer_update(optimizer *o, view loss) {
    TRY(sum_gradients(o));
    TRY(collectives_all_reduce(o->collectives, loss));
    TRY(collectives_agree(o->collectives, update_slices(o, loss)));
    return gather(o);
}
