/* The values of the table of weights: memory, conversion, initialization. See params.h.
 *
 * The device converts between types (op_cast), in chunks, so that a large tensor is not staged at once. */
#include "model/params.h"
#include "model/shards/shards.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256, CHUNK = 1 << 22 /* elements converted at a time */ };

/* ---------------------------------------------------------------- memory */

/* What is stored: the value, or this rank's part of it. */
static view *value_of(weight *w) {
    return w->part.rows ? &w->part : &w->tensor.value;
}

static view *gradient_of(weight *w) {
    return &w->tensor.grad;
}

static view *master_of(weight *w) {
    return &w->master;
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Where the next entry begins. Quantized parts of a packed weight follow each other without a gap, so that one product
 * reads all of them. */
static size_t place_next(const params *p, int i, view *(*view_of)(weight *), size_t at) {
    if (i == 0 || !p->table[i].continues) return aligned(at);
    view v = *view_of(&p->table[i]), before = *view_of(&p->table[i - 1]);
    bool gapless = (DTYPE_BIT(v.type) & DTYPE_GROUPED) && before.type == v.type && before.cols == v.cols;
    return gapless ? at : aligned(at);
}

/* Places the views of a kind that have no memory yet at `base`: all values, then all scales. NULL: places nothing.
 * Returns the bytes. */
static size_t lay_out(params *p, view *(*view_of)(weight *), char *base) {
    size_t at = 0;
    for (int scales = 0; scales < 2; scales++)
        for (int i = 0; i < p->count; i++) {
            view *v = view_of(&p->table[i]);
            size_t bytes = scales ? view_scale_bytes(*v) : view_bytes(*v);
            if ((scales ? v->scales : v->data) || !bytes) continue;
            at = place_next(p, i, view_of, at);
            if (base) *(scales ? &v->scales : &v->data) = base + at;
            at += bytes;
        }
    return aligned(at);
}

/* One allocation for all views of a kind that have no memory yet. */
static int carve(params *p, view *(*view_of)(weight *), void **memory) {
    size_t bytes = lay_out(p, view_of, NULL);
    if (!bytes) return LCKV_OK;
    REQUIRE(!*memory, LCKV_ERROR_ARGUMENT, "the weights already have their memory");
    TRY(p->device->memory.alloc(p->device, bytes, memory));
    lay_out(p, view_of, *memory);
    return LCKV_OK;
}

int params_allocate(params *p, device *d, dtype type) {
    for (int i = 0; i < p->count; i++)
        if (!p->table[i].tensor.value.data) p->table[i].tensor.value.type = type;
    return params_allocate_as_typed(p, d);
}

int params_allocate_as_typed(params *p, device *d) {
    p->device = d;
    for (int i = 0; i < p->count; i++)
        if (!p->table[i].part.data) p->table[i].part.type = p->table[i].tensor.value.type;
    return carve(p, value_of, &p->memory);
}

void params_adopt(params *p, int i, device *d, void *data, dtype type) {
    weight *w = &p->table[i];
    p->device = d;
    p->adopted = true;
    w->tensor.value = (view){data, w->rows, w->cols, type};
}

/* The parts of all units, each at an aligned address. */
static int divide_gradients(params *p) {
    shards *s = p->shards;
    size_t bytes = 0;
    for (int i = 0; i < s->count; i++) {
        shard_unit *u = &s->units[i];
        const int64_t *begin = shards_gradient_parts(s, u) + s->collectives->rank;
        u->gradient = (view){NULL, 1, begin[1] - begin[0], s->gradient_type};
        bytes += aligned(view_bytes(u->gradient));
    }
    TRY(p->device->memory.alloc(p->device, bytes, &p->gradients));
    char *at = p->gradients;
    for (int i = 0; i < s->count; i++) {
        s->units[i].gradient.data = at;
        at += aligned(view_bytes(s->units[i].gradient));
    }
    for (int i = 0; i < p->count; i++) {
        weight *w = &p->table[i];
        w->tensor.grad = (view){NULL, w->rows, w->cols, DTYPE_F32};
        w->tensor.needs_grad = true;
    }
    return p->device->memory.zero(p->device, p->gradients, bytes);
}

int params_enable_gradients(params *p) {
    REQUIRE(!p->gradients, LCKV_ERROR_ARGUMENT, "the weights already have gradients");
    if (p->shards) return divide_gradients(p);
    for (int i = 0; i < p->count; i++)
        p->table[i].tensor.grad = (view){NULL, p->table[i].rows, p->table[i].cols, DTYPE_F32};
    size_t bytes = lay_out(p, gradient_of, NULL);
    TRY(carve(p, gradient_of, &p->gradients));
    for (int i = 0; i < p->count; i++) p->table[i].tensor.needs_grad = true;
    return p->device->memory.zero(p->device, p->gradients, bytes);
}

/* ---------------------------------------------------------------- conversions */

static int convert(device *d, view src, view dst) {
    return DEVICE_RUN(d, cast, &(struct op_cast){.src = src, .dst = dst});
}

/* Copies host memory of `type` into v, or v into host memory. `buffer` holds a chunk of that type on the device. */
static int move_chunks(device *d, view v, char *host, dtype type, bool in, void *buffer) {
    int64_t elements = v.rows * v.cols;
    for (int64_t first = 0; first < elements; first += CHUNK) {
        int64_t count = elements - first < CHUNK ? elements - first : CHUNK;
        view staged = {buffer, 1, count, type}, chunk = view_elements(v, first, count);
        char *at = host + (size_t)first * dtype_element_bytes(type);
        if (in) TRY(d->memory.copy_in(d, buffer, at, view_bytes(staged)));
        TRY(in ? convert(d, staged, chunk) : convert(d, chunk, staged));
        if (!in) TRY(d->memory.copy_out(d, at, buffer, view_bytes(staged)));
        TRY(d->memory.wait(d));
    }
    return LCKV_OK;
}

static int move_converted(device *d, view v, char *host, dtype type, bool in) {
    int64_t elements = v.rows * v.cols;
    void *buffer;
    TRY(d->memory.alloc(d, (size_t)(elements < CHUNK ? elements : CHUNK) * dtype_element_bytes(type), &buffer));
    int status = move_chunks(d, v, host, type, in, buffer);
    d->memory.release(d, buffer);
    return status;
}

int view_from_host(device *d, view v, const void *host, dtype type) {
    if (v.type != type) return move_converted(d, v, (char *)(uintptr_t)host, type, true);
    TRY(d->memory.copy_in(d, v.data, host, view_bytes(v)));
    return d->memory.wait(d);
}

int view_to_host(device *d, view v, void *host, dtype type) {
    if (v.type != type) return move_converted(d, v, host, type, false);
    TRY(d->memory.copy_out(d, host, v.data, view_bytes(v)));
    return d->memory.wait(d);
}

static int check_float(dtype type) {
    REQUIRE(DTYPE_BIT(type) & DTYPE_FLOATS, LCKV_ERROR_UNSUPPORTED,
            "weights are copied from and to the host as float32, bfloat16 or float16, not as %s", dtype_name(type));
    return LCKV_OK;
}

/* ---------------------------------------------------------------- values */

static bool has_whole_master(const weight *w) {
    return w->master.data && w->master.rows * w->master.cols == w->rows * w->cols;
}

/* The master if there is all of it, else the value, or this rank's part of it. */
static view original(const weight *w) {
    if (w->part.rows) return w->part;
    return has_whole_master(w) ? w->master : w->tensor.value;
}

bool params_has_value(const params *p, int i) {
    const weight *w = &p->table[i];
    return w->part.rows ? w->part.data || !w->part.cols : w->tensor.value.data != NULL;
}

/* The same part of an array of the whole entry. */
static const void *host_part(const weight *w, const void *host, dtype type) {
    return (const char *)host + (size_t)w->part_first * dtype_element_bytes(type);
}

static int refresh_value(params *p, const weight *w) {
    return has_whole_master(w) ? convert(p->device, w->master, w->tensor.value) : LCKV_OK;
}

int params_set(params *p, int i, const void *host, dtype type) {
    const weight *w = &p->table[i];
    if (w->part.rows && !w->part.cols) return LCKV_OK;
    TRY(check_float(type));
    if (view_is_quantized(original(w))) return quantize_weight(p, w, host, type);
    if (w->part.rows) return view_from_host(p->device, w->part, host_part(w, host, type), type);
    TRY(view_from_host(p->device, original(w), host, type));
    if (has_whole_master(w) || !w->master.data) return refresh_value(p, w);
    return view_from_host(p->device, w->master, host_part(w, host, type), type);
}

int params_read_range(params *p, int i, element_range range, dtype type, void *host) {
    const weight *w = &p->table[i];
    REQUIRE(!w->part.rows, LCKV_ERROR_UNSUPPORTED, "%s is divided between ranks and cannot be read as a whole",
            w->name);
    TRY(check_float(type));
    if (view_is_quantized(original(w))) return dequantize_weight(p, w, type, host);
    return view_to_host(p->device, view_elements(original(w), range.first, range.count), host, type);
}

int params_read(params *p, int i, dtype type, void *host) {
    return params_read_range(p, i, (element_range){0, p->table[i].rows * p->table[i].cols}, type, host);
}

int params_get(params *p, int i, float *host) {
    return params_read(p, i, DTYPE_F32, host);
}

dtype params_type(const params *p, int i) {
    return original(&p->table[i]).type;
}

/* ---------------------------------------------------------------- division between ranks */

static void divide_entry(const shards *s, weight *table, int i) {
    weight *w = &table[i];
    int64_t count = shards_part(s, i, s->collectives->rank, &w->part_first);
    w->part = (view){NULL, 1, count, w->tensor.value.type};
}

int params_divide(params *p, const collectives *c) {
    if (c->ranks == 1) return LCKV_OK;
    TRY(shards_create(p, c, &p->shards));
    p->shards->divides_weights = true;
    for (int i = 0; i < p->count; i++) divide_entry(p->shards, p->table, i);
    return LCKV_OK;
}

/* This rank's part of what entry i holds. */
static view part_of(const weight *w, const weight *fresh) {
    return w->part.rows ? w->part : view_elements(w->tensor.value, fresh->part_first, fresh->part.cols);
}

static int convert_parts(params *p, weight *fresh) {
    for (int i = 0; i < p->count; i++)
        if (fresh[i].part.cols) TRY(convert(p->device, part_of(&p->table[i], &fresh[i]), fresh[i].part));
    return p->device->memory.wait(p->device);
}

static void take_parts(params *p, const weight *fresh, dtype used) {
    for (int i = 0; i < p->count; i++) {
        weight *w = &p->table[i];
        w->part = fresh[i].part;
        w->part_first = fresh[i].part_first;
        w->tensor.value = (view){NULL, w->rows, w->cols, used};
    }
    p->adopted = false;
}

/* Stores the parts in new memory, as `stored`, to be gathered as `used`. Entries that have been added since the weights
 * were divided are divided now. */
static int make_parts(params *p, params *fresh, dtype stored, dtype used) {
    shards *s;
    TRY(shards_create(p, p->shards->collectives, &s));
    s->divides_weights = true;
    shards_free(p->shards);
    p->shards = s;
    for (int i = 0; i < p->count; i++) {
        fresh->table[i] = (weight){.tensor.value.type = stored};
        divide_entry(s, fresh->table, i);
    }
    TRY(carve(fresh, value_of, &fresh->memory));
    TRY(convert_parts(p, fresh->table));
    take_parts(p, fresh->table, used);
    void *old = p->memory;
    p->memory = fresh->memory;
    fresh->memory = old;
    return LCKV_OK;
}

static int replace_parts(params *p, dtype stored, dtype used) {
    params fresh = {.count = p->count, .device = p->device, .table = calloc((size_t)p->count, sizeof *p->table)};
    REQUIRE(fresh.table, LCKV_ERROR_MEMORY, "no memory for a table of %d weights", p->count);
    int status = make_parts(p, &fresh, stored, used);
    if (fresh.memory) p->device->memory.release(p->device, fresh.memory);
    free(fresh.table);
    return status;
}

/* ---------------------------------------------------------------- masters */

/* Gives every weight memory of its own of `type`, filled from its current value. */
static int replace_values(params *p, dtype type) {
    params fresh = {.count = p->count, .device = p->device, .table = malloc((size_t)p->count * sizeof *p->table)};
    REQUIRE(fresh.table, LCKV_ERROR_MEMORY, "no memory for a table of %d weights", p->count);
    for (int i = 0; i < p->count; i++)
        fresh.table[i] = (weight){.tensor.value = {NULL, p->table[i].rows, p->table[i].cols, type}};
    int status = carve(&fresh, value_of, &fresh.memory);
    for (int i = 0; i < p->count && status >= 0; i++)
        status = convert(p->device, p->table[i].tensor.value, fresh.table[i].tensor.value);
    if (status >= 0) status = p->device->memory.wait(p->device);
    if (status >= 0) {
        for (int i = 0; i < p->count; i++) p->table[i].tensor.value = fresh.table[i].tensor.value;
        void *old = p->memory;
        p->memory = fresh.memory;
        fresh.memory = old;
        p->adopted = false;
    }
    if (fresh.memory) p->device->memory.release(p->device, fresh.memory);
    free(fresh.table);
    return status;
}

/* The masters of a rank, without memory. */
static int describe_masters(params *p, const collectives *c) {
    shards *s;
    TRY(shards_create(p, c, &s));
    for (int i = 0; i < p->count; i++) {
        weight *w = &p->table[i];
        int64_t count = shards_part(s, i, c->rank, &w->part_first);
        bool whole = count == w->rows * w->cols;
        w->master = (view){NULL, whole ? w->rows : 1, whole ? w->cols : count, DTYPE_F32};
    }
    shards_free(s);
    return LCKV_OK;
}

static int fill_masters(params *p, const collectives *c) {
    TRY(describe_masters(p, c));
    TRY(carve(p, master_of, &p->masters));
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        int64_t count = w->master.rows * w->master.cols;
        view value = view_elements(w->tensor.value, w->part_first, count);
        if (count) TRY(convert(p->device, value, view_elements(w->master, 0, count)));
    }
    p->has_masters = true;
    return LCKV_OK;
}

static void drop_masters(params *p) {
    (void)p->device->memory.wait(p->device); /* the failure that led here is the one to report */
    for (int i = 0; i < p->count; i++) {
        p->table[i].master = (view){0};
        p->table[i].part_first = 0;
    }
    if (p->masters) p->device->memory.release(p->device, p->masters);
    p->masters = NULL;
    p->has_masters = false;
}

int params_convert(params *p, dtype type) {
    if (p->shards) return replace_parts(p, type, type);
    bool same = true;
    if (params_quantized(p)) return LCKV_OK;
    for (int i = 0; i < p->count; i++) same = same && p->table[i].tensor.value.type == type;
    return same ? LCKV_OK : replace_values(p, type);
}

static int check_trainable(const params *p) {
    REQUIRE(
        !params_quantized(p), LCKV_ERROR_UNSUPPORTED,
        "quantized weights (int8, int4) are not trained; train an adapter on them (use_peft), or load the weights with "
        "weight_dtype float");
    return LCKV_OK;
}

int params_enable_values(params *p, dtype type) {
    TRY(check_trainable(p));
    REQUIRE(!p->has_masters, LCKV_ERROR_ARGUMENT, "the weights already have masters");
    if (p->shards) return replace_parts(p, type, type);
    return p->adopted ? replace_values(p, type) : params_convert(p, type);
}

int params_enable_masters(params *p, dtype type, const collectives *c) {
    if (type == DTYPE_F32) return params_enable_values(p, type);
    TRY(check_trainable(p));
    if (p->shards) return replace_parts(p, DTYPE_F32, type);
    REQUIRE(!p->has_masters, LCKV_ERROR_ARGUMENT, "the weights already have masters");
    int status = fill_masters(p, c ? c : collectives_single());
    if (status >= 0) status = replace_values(p, type);
    if (status < 0) drop_masters(p); /* keeps the message */
    return status;
}

/* ---------------------------------------------------------------- random values */

static int fill_constant(params *p, int i, float constant) {
    size_t elements = (size_t)(p->table[i].rows * p->table[i].cols);
    float *host = malloc(elements * sizeof *host);
    REQUIRE(host, LCKV_ERROR_MEMORY, "no memory for %zu numbers", elements);
    for (size_t k = 0; k < elements; k++) host[k] = constant;
    int status = params_set(p, i, host, DTYPE_F32);
    free(host);
    return status;
}

/* Random numbers are made for the whole entry, of which this rank keeps its part. */
static int fill_part(params *p, int i, double deviation, uint64_t seed) {
    device *d = p->device;
    const weight *w = &p->table[i];
    view whole = {NULL, w->rows, w->cols, w->part.type};
    if (!w->part.cols) return LCKV_OK;
    TRY(d->memory.alloc(d, view_bytes(whole), &whole.data));
    struct op_fill_normal a = {whole, (float)deviation, seed, (uint64_t)i};
    int status = DEVICE_RUN(d, fill_normal, &a);
    if (status >= 0) status = convert(d, view_elements(whole, w->part_first, w->part.cols), w->part);
    if (status >= 0) status = d->memory.wait(d);
    d->memory.release(d, whole.data);
    return status;
}

/* Random values in memory for a moment, which are then quantized. */
static int fill_quantized(params *p, int i, double deviation, uint64_t seed) {
    const weight *w = &p->table[i];
    device *d = p->device;
    view wide = {NULL, w->rows, w->cols, DTYPE_F32};
    if (d->counts_only) return LCKV_OK;
    float *host = malloc(view_bytes(wide) + 1);
    REQUIRE(host, LCKV_ERROR_MEMORY, "no memory for the values of %s", w->name);
    int status = d->memory.alloc(d, view_bytes(wide), &wide.data);
    struct op_fill_normal a = {wide, (float)deviation, seed, (uint64_t)i};
    if (status >= 0) status = DEVICE_RUN(d, fill_normal, &a);
    if (status >= 0) status = view_to_host(d, wide, host, DTYPE_F32);
    if (status >= 0) status = params_set(p, i, host, DTYPE_F32);
    if (wide.data) d->memory.release(d, wide.data);
    free(host);
    return status;
}

int params_fill_normal(params *p, int i, double deviation, uint64_t seed) {
    const weight *w = &p->table[i];
    if (w->part.rows) return fill_part(p, i, deviation, seed);
    if (view_is_quantized(original(w))) return fill_quantized(p, i, deviation, seed);
    struct op_fill_normal a = {original(w), (float)deviation, seed, (uint64_t)i};
    TRY(DEVICE_RUN(p->device, fill_normal, &a));
    return refresh_value(p, w);
}

/* torch.nn.Embedding keeps the row of its padding_idx zero. */
static int zero_pad_row(params *p, const model_config *c) {
    if (c->pad_token_id < 0 || c->pad_token_id >= c->vocab_size) return LCKV_OK;
    const weight *w = &p->table[0];
    if (!w->part.rows) {
        view row = view_rows(original(w), c->pad_token_id, 1);
        TRY(p->device->memory.zero(p->device, row.data, view_bytes(row)));
        return refresh_value(p, w);
    }
    int64_t elements = w->part.cols, first = c->pad_token_id * w->cols - w->part_first, end = first + w->cols;
    first = first < 0 ? 0 : first;
    end = end > elements ? elements : end;
    if (first >= end) return LCKV_OK;
    view row = view_elements(w->part, first, end - first);
    TRY(p->device->memory.zero(p->device, row.data, view_bytes(row)));
    return refresh_value(p, w);
}

int params_randomize(params *p, const model_config *c, uint64_t seed) {
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        size_t length = strlen(w->name);
        bool bias = length > 5 && strcmp(w->name + length - 5, ".bias") == 0;
        TRY(w->dimensions == 2 ? params_fill_normal(p, i, c->initializer_range, seed)
                               : fill_constant(p, i, bias ? 0 : 1));
    }
    TRY(zero_pad_row(p, c));
    return p->device->memory.wait(p->device);
}
