/* AdamW over the table of weights, see optimizer.h. */
#include "train/step/optimizer.h"

#include <math.h>
#include <stdlib.h>

enum {
    ALIGNMENT = 256,
    SHARD_ALIGNMENT = 64, /* in elements; 16 bytes also for 2-byte elements */
};

static const uint64_t ROUNDING_STREAM = 0x726f756e64000000; /* "round"; separate from the streams of initial weights */

/* ---------------------------------------------------------------- shards */

/* Offset of entry i's gradient in elements. All gradients are in one allocation in the table's order, each aligned to
 * 256 bytes; the zeros between them are summed too. */
static int64_t place(const params *p, int i) {
    return (float *)p->table[i].tensor.grad.data - (float *)p->table[0].tensor.grad.data;
}

static int64_t elements(const weight *w) {
    return w->rows * w->cols;
}

static view subview(view whole, int64_t first, int64_t count) {
    if (!whole.data) return whole;
    return view_elements(whole, first, count);
}

/* Offset of entry i's value in elements; values are in one allocation too, see params_enable_masters(). */
static int64_t value_place(const params *p, int i) {
    view first = p->table[0].tensor.value, v = p->table[i].tensor.value;
    return ((char *)v.data - (char *)first.data) / (int64_t)dtype_element_bytes(v.type);
}

/* Entries start at multiples of SHARD_ALIGNMENT, so that no shard starts between two entries. */
static int divide(optimizer *o) {
    const params *p = o->params;
    int ranks = o->collectives->ranks;
    int64_t end = place(p, p->count - 1) + elements(&p->table[p->count - 1]);
    o->shard_begin = calloc((size_t)ranks + 1, sizeof *o->shard_begin);
    o->shard_value_begin = calloc((size_t)ranks + 1, sizeof *o->shard_value_begin);
    REQUIRE(o->shard_begin && o->shard_value_begin, LCKV_ERROR_MEMORY, "no memory for the optimizer's shards");
    for (int r = 1; r < ranks; r++) o->shard_begin[r] = end / ranks * r / SHARD_ALIGNMENT * SHARD_ALIGNMENT;
    o->shard_begin[ranks] = end;
    return LCKV_OK;
}

int64_t optimizer_shard_of_entry(const optimizer *o, int entry, int rank, int64_t *first) {
    int64_t at = place(o->params, entry), count = elements(&o->params->table[entry]);
    int64_t begin = o->shard_begin[rank] - at, end = o->shard_begin[rank + 1] - at;
    *first = begin < 0 ? 0 : begin > count ? count : begin;
    end = end < *first ? *first : end > count ? count : end;
    return end - *first;
}

/* An empty shard starts where the next one starts. */
static void divide_values(optimizer *o) {
    const params *p = o->params;
    int last = p->count - 1, ranks = o->collectives->ranks;
    o->shard_value_begin[ranks] = value_place(p, last) + elements(&p->table[last]);
    for (int r = ranks - 1; r > 0; r--) {
        int64_t first;
        int i = 0;
        while (i < p->count && !optimizer_shard_of_entry(o, i, r, &first)) i++;
        o->shard_value_begin[r] = i < p->count ? value_place(p, i) + first : o->shard_value_begin[r + 1];
    }
}

static int list_slices(optimizer *o) {
    const params *p = o->params;
    o->slices = calloc((size_t)p->count, sizeof *o->slices);
    REQUIRE(o->slices, LCKV_ERROR_MEMORY, "no memory for the optimizer's table");
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        int64_t first, count = optimizer_shard_of_entry(o, i, o->collectives->rank, &first);
        if (!count) continue;
        o->slices[o->slice_count++] = (shard_slice){
            .entry = i,
            .first = first,
            .count = count,
            .value = subview(w->tensor.value, first, count),
            .grad = subview(w->tensor.grad, first, count),
            .master = subview(w->master, first, count),
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
    bool masters = o->collectives->ranks > 1 && o->params->masters;
    shard_slice *begin = o->slices, *end = begin + o->slice_count;
    for (shard_slice *q = begin; masters && q < end; q++) q->master = carve_view(base, &at, 1, q->count, DTYPE_F32);
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

/* With several ranks, keeps only the f32 master weights of this rank's shard. */
static int take_masters(optimizer *o) {
    if (o->collectives->ranks == 1 || !o->params->masters) return LCKV_OK;
    for (const shard_slice *q = o->slices; q < o->slices + o->slice_count; q++) {
        view whole = o->params->table[q->entry].master;
        struct op_cast a = {.src = subview(whole, q->first, q->count), .dst = q->master};
        TRY(DEVICE_RUN(o->device, cast, &a));
    }
    return params_drop_masters(o->params);
}

static int make(optimizer *o) {
    TRY(divide(o));
    divide_values(o);
    TRY(list_slices(o));
    TRY(allocate(o));
    return take_masters(o);
}

int optimizer_create(params *p, const optimizer_options *options, optimizer **out) {
    *out = NULL;
    optimizer *o = calloc(1, sizeof *o);
    REQUIRE(o, LCKV_ERROR_MEMORY, "no memory for an optimizer");
    const collectives *e = options->collectives ? options->collectives : collectives_single();
    bool bf16 = p->table[0].tensor.value.type == DTYPE_BF16 && !p->masters;
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
    free(o->shard_begin);
    free(o->shard_value_begin);
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

static int sum_gradients(optimizer *o, view loss) {
    collectives_parts gradients = {o->params->table[0].tensor.grad.data, DTYPE_F32, o->shard_begin};
    TRY(collectives_all_reduce(o->collectives, loss));
    return collectives_reduce_scatter(o->collectives, gradients);
}

static int find_norm(optimizer *o, view loss) {
    int rank = o->collectives->rank;
    int64_t first = o->shard_begin[rank], count = o->shard_begin[rank + 1] - first;
    TRY(o->device->memory.zero(o->device, o->sum_squares.data, sizeof(double)));
    struct op_sum_squares squares = {.x = view_elements(o->params->table[0].tensor.grad, first, count),
                                     .out = o->sum_squares};
    TRY(DEVICE_RUN(o->device, sum_squares, &squares));
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

/* Updates slice *at and those that join it, and moves *at behind them. */
static int update_joined(optimizer *o, int *at) {
    shard_slice joined = o->slices[(*at)++], *q = &joined;
    for (; *at < o->slice_count && joins(o, q, &o->slices[*at]); (*at)++) {
        view *views[] = {&q->value, &q->grad, &q->master, &q->m, &q->v};
        for (int i = 0; i < 5; i++) widen(views[i], o->slices[*at].count);
    }
    bool rounded = q->master.data != NULL;
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
    return DEVICE_RUN(o->device, adamw, &a);
}

static int update_slices(optimizer *o, view loss) {
    TRY(find_norm(o, loss));
    for (int at = 0; at < o->slice_count;) TRY(update_joined(o, &at));
    return LCKV_OK;
}

/* Gathers the new values of all shards, and zeroes the gradients, because op_adamw only zeroes those of this shard. */
static int gather(optimizer *o) {
    if (o->collectives->ranks == 1) return LCKV_OK;
    view values = o->params->table[0].tensor.value, gradients = o->params->table[0].tensor.grad;
    size_t bytes = (size_t)o->shard_begin[o->collectives->ranks] * sizeof(float);
    TRY(collectives_all_gather(o->collectives, (collectives_parts){values.data, values.type, o->shard_value_begin}));
    return o->device->memory.zero(o->device, gradients.data, bytes);
}

int optimizer_send(optimizer *o, double learning_rate) {
    o->steps++;
    step_state state = state_of_step(o, learning_rate);
    return o->device->memory.copy_in(o->device, o->state.data, &state, sizeof state);
}

int optimizer_update(optimizer *o, view loss) {
    TRY(sum_gradients(o, loss));
    TRY(collectives_agree(o->collectives, update_slices(o, loss)));
    return gather(o);
}
