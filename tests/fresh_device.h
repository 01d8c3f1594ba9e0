/* A CPU that keeps a GPU's rules (device.h), so that what is only done on GPUs is tested without one.
 *
 * - Memory that is allocated, or handed out by a pool, contains POISON, which is NaN as f32 and as bf16.
 * - A fresh gradient must contain POISON only. The op writes it: the CPU's entry adds to zeros. A second op with the
 *   same fresh view would replace the gradient of the first on a GPU; here it fails.
 * - Any other gradient must not contain POISON: an op has written it.
 * - A bf16 gradient also has its f32 values beside it, which the CPU's entries read and write, so that no result is
 *   rounded more often than on the CPU. Its memory must still contain these values, rounded, when an op reads them.
 * - Recorded work does not run before it is replayed. Copies, waiting and allocations within it fail.
 * - Copies to the host arrive when the caller waits. Until then the host's memory contains POISON.
 * - Memory is not host memory, so that the library does not use files in place.
 *
 * Sums are those of the CPU in the same order, so that results have the same bits. One device at a time. The test is
 * linked with --wrap=pool_take and --wrap=cpu_open. Include this before cmocka.h, which has a macro fail(). */
#ifndef TESTS_FRESH_DEVICE_H
#define TESTS_FRESH_DEVICE_H

#include "base/clock.h"
#include "device/device.h"
#include "device/half.h"
#include "graph/pool.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { FRESH_POISON = 0xff, FRESH_FIELDS = 3, FRESH_MOST = 16 << 20 /* bytes of an allocation, for speed */ };
static const double FRESH_SECONDS = 2; /* between two readings of the clock */

/* ---------------------------------------------------------------- gradients of each op */

/* 1 + offsets of views in an op's struct; 0: none. */
typedef struct fresh_fields {
    size_t adds_to[FRESH_FIELDS]; /* gradients that the op adds to, or writes if they are fresh */
    size_t reads[FRESH_FIELDS];   /* complete gradients, which are never fresh */
} fresh_fields;

#define AT(op, field) (1 + offsetof(struct op_##op, field))
static const fresh_fields fresh_gradients[DEVICE_OP_COUNT] = {
    [DEVICE_embed_backward] = {{AT(embed, dtable)}, {AT(embed, dout)}},
    [DEVICE_gather_rows_backward] = {{AT(gather_rows, dsrc)}, {AT(gather_rows, ddst)}},
    [DEVICE_scatter_rows_backward] = {{AT(scatter_rows, dsrc)}, {AT(scatter_rows, ddst)}},
    [DEVICE_rms_norm_backward] = {{AT(rms_norm, dx), AT(rms_norm, dweight)}, {AT(rms_norm, dy)}},
    [DEVICE_rope_backward] = {{AT(rope, dx)}, {AT(rope, dy)}},
    [DEVICE_split_heads_backward] = {{AT(split_heads, dx)},
                                     {AT(split_heads, dq), AT(split_heads, dk), AT(split_heads, dv)}},
    [DEVICE_swiglu_backward] = {{AT(swiglu, dgate), AT(swiglu, dup)}, {AT(swiglu, dy)}},
    [DEVICE_dropout_backward] = {{AT(dropout, dx)}, {AT(dropout, dy)}},
    [DEVICE_accumulate] = {{AT(accumulate, dst)}, {AT(accumulate, src)}},
    [DEVICE_linear_backward] = {{AT(linear, dx), AT(linear, dweight), AT(linear, dbias)}, {AT(linear, dy)}},
    [DEVICE_linear_cross_entropy] = {{AT(linear_cross_entropy, dx), AT(linear_cross_entropy, dweight)}, {0}},
    [DEVICE_attention_backward] = {{AT(attention, dq), AT(attention, dk), AT(attention, dv)}, {AT(attention, dout)}},
};
#undef AT

/* ---------------------------------------------------------------- state */

/* An op with its struct, or a fill of memory. */
typedef struct fresh_call {
    int (*run)(device *d, const void *arguments);
    void *arguments; /* owned */
    void *memory;
    size_t bytes;
    int byte;
} fresh_call;

struct device_program {
    fresh_call *calls;
    int count, capacity;
};

/* The f32 values of a bf16 gradient. */
typedef struct fresh_values {
    void *data; /* the gradient's memory */
    float *values;
    int64_t count;
} fresh_values;

/* Memory of the device. */
typedef struct fresh_block {
    char *start;
    size_t bytes;
} fresh_block;

/* A copy to the host that has not arrived. */
typedef struct fresh_copy {
    void *host, *values; /* values: owned */
    size_t bytes;
    int64_t mark; /* the next mark when it began */
} fresh_copy;

static struct fresh_device {
    struct device_ops cpu; /* the device's own entries */
    struct device_memory memory;
    bool wanted, open;
    fresh_values *wide; /* [wide_count] */
    int wide_count;
    fresh_block *blocks; /* [block_count] */
    int block_count;
    fresh_copy *copies; /* [copy_count] */
    int copy_count;
    int64_t marks;
    double clock;             /* the last clock_out() */
    device_program *recorded; /* work that is being recorded; NULL: none */
    /* So far: fresh gradients, fresh ones of bf16, rounded copies of gradients, replayed recordings. */
    int64_t written, narrow, rounded, replays;
} fresh;

/* ---------------------------------------------------------------- calls */

static inline fresh_call *fresh_append(device_program *p) {
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 64;
        p->calls = realloc(p->calls, (size_t)p->capacity * sizeof *p->calls);
        if (!p->calls) abort();
    }
    p->calls[p->count] = (fresh_call){0};
    return &p->calls[p->count++];
}

static inline int fresh_call_op(device *d, int (*run)(device *, const void *), const void *arguments, size_t bytes) {
    if (!fresh.recorded) return run(d, arguments);
    fresh_call *c = fresh_append(fresh.recorded);
    c->run = run;
    c->arguments = malloc(bytes);
    if (!c->arguments) abort();
    memcpy(c->arguments, arguments, bytes);
    return LCKV_OK;
}

static inline void fresh_fill(void *memory, int byte, size_t bytes) {
    if (!bytes) return;
    if (fresh.recorded)
        *fresh_append(fresh.recorded) = (fresh_call){.memory = memory, .bytes = bytes, .byte = byte};
    else
        memset(memory, byte, bytes);
}

/* ---------------------------------------------------------------- values of bf16 gradients */

static inline fresh_values *fresh_find(const void *data) {
    for (int i = 0; i < fresh.wide_count; i++)
        if (fresh.wide[i].data == data) return &fresh.wide[i];
    return NULL;
}

/* The values beside a gradient, if its memory contains them, rounded; else NULL. */
static inline float *fresh_wide(view v) {
    fresh_values *f = v.type == DTYPE_BF16 ? fresh_find(v.data) : NULL;
    if (!f || f->count != v.rows * v.cols) return NULL;
    for (int64_t i = 0; i < f->count; i++)
        if (((const uint16_t *)v.data)[i] != bf16_of_float(f->values[i])) return NULL;
    return f->values;
}

/* Zeros beside a gradient that is about to be written. */
static inline float *fresh_make_wide(view v) {
    fresh_values *f = fresh_find(v.data);
    if (!f) {
        fresh.wide = realloc(fresh.wide, (size_t)(fresh.wide_count + 1) * sizeof *fresh.wide);
        if (!fresh.wide) abort();
        f = &fresh.wide[fresh.wide_count++];
        *f = (fresh_values){.data = v.data};
    }
    free(f->values);
    f->count = v.rows * v.cols;
    f->values = calloc((size_t)f->count + 1, sizeof *f->values);
    if (!f->values) abort();
    return f->values;
}

/* ---------------------------------------------------------------- before and after an op */

/* The number of elements that are POISON. */
static inline int64_t fresh_poisoned(view v) {
    size_t size = dtype_element_bytes(v.type);
    const unsigned char *at = v.data;
    int64_t count = 0;
    for (int64_t i = 0; i < v.rows * v.cols; i++, at += size) {
        bool poison = true;
        for (size_t k = 0; k < size; k++) poison = poison && at[k] == FRESH_POISON;
        count += poison;
    }
    return count;
}

static inline view *fresh_field(void *arguments, size_t at) {
    return (view *)(void *)((char *)arguments + at - 1);
}

/* Replaces a bf16 gradient by its f32 values. op_accumulate may also have activations, which have no such values. */
static inline int fresh_widen(device_op op, view *v, const char *what) {
    if (v->type != DTYPE_BF16) return LCKV_OK;
    float *values = fresh_wide(*v);
    if (!values && op == DEVICE_accumulate) return LCKV_OK;
    REQUIRE(values, LCKV_ERROR_ARGUMENT, "%s: the memory of a gradient that it %s has changed", device_op_name(op),
            what);
    *v = (view){values, v->rows, v->cols, DTYPE_F32};
    return LCKV_OK;
}

/* A fresh gradient becomes zeros that the CPU's entry adds to. */
static inline int fresh_begin_gradient(device_op op, int number, view *v) {
    int64_t poisoned = fresh_poisoned(*v);
    REQUIRE(v->fresh || !poisoned, LCKV_ERROR_ARGUMENT, "%s: gradient %d, which it adds to, has no value",
            device_op_name(op), number);
    REQUIRE(!v->fresh || poisoned == v->rows * v->cols, LCKV_ERROR_ARGUMENT,
            "%s: gradient %d is fresh, but an op has written it", device_op_name(op), number);
    if (v->fresh) {
        memset(v->data, 0, view_bytes(*v));
        fresh.written++;
        fresh.narrow += v->type == DTYPE_BF16;
        if (v->type == DTYPE_BF16) fresh_make_wide(*v);
    } else {
        REQUIRE(!fresh_wide(*v), LCKV_ERROR_ARGUMENT, "%s: gradient %d, a sum of several, is bfloat16",
                device_op_name(op), number);
    }
    v->fresh = false;
    return fresh_widen(op, v, "adds to");
}

static inline int fresh_before(device_op op, void *arguments) {
    const fresh_fields *f = &fresh_gradients[op];
    for (int i = 0; i < FRESH_FIELDS && f->reads[i]; i++) {
        view *v = fresh_field(arguments, f->reads[i]);
        if (!v->data) continue;
        REQUIRE(!v->fresh && !fresh_poisoned(*v), LCKV_ERROR_ARGUMENT, "%s: gradient %d, which it reads, has no value",
                device_op_name(op), i);
        TRY(fresh_widen(op, v, "reads"));
    }
    for (int i = 0; i < FRESH_FIELDS && f->adds_to[i]; i++) {
        view *v = fresh_field(arguments, f->adds_to[i]);
        if (v->data) TRY(fresh_begin_gradient(op, i, v));
    }
    return LCKV_OK;
}

/* The rounded copy of a gradient; only GPUs write it. */
static inline int fresh_round(const struct op_rms_norm *a, view rounded) {
    int64_t count = rounded.rows * rounded.cols;
    if (!rounded.data) return LCKV_OK;
    REQUIRE(a->dx.data && a->dx.type == DTYPE_F32 && fresh_poisoned(rounded) == count, LCKV_ERROR_ARGUMENT,
            "rms_norm_backward: expected an f32 gradient and new memory for its copy");
    memcpy(fresh_make_wide(rounded), a->dx.data, (size_t)count * sizeof(float));
    cpu_narrow(rounded.data, DTYPE_BF16, a->dx.data, count);
    fresh.rounded++;
    return LCKV_OK;
}

/* `given`: the op's struct before fresh_before() changed it to `used`. */
static inline int fresh_after(device_op op, void *given, void *used) {
    const fresh_fields *f = &fresh_gradients[op];
    for (int i = 0; i < FRESH_FIELDS && f->adds_to[i]; i++) {
        const view *to = fresh_field(given, f->adds_to[i]), *from = fresh_field(used, f->adds_to[i]);
        if (to->data != from->data) cpu_narrow(to->data, DTYPE_BF16, from->data, to->rows * to->cols);
    }
    if (op == DEVICE_rms_norm_backward) return fresh_round(used, ((struct op_rms_norm *)given)->dx_rounded);
    const struct op_cast *cast = given;
    float *values = op == DEVICE_cast && cast->dst.type == DTYPE_BF16 ? fresh_wide(cast->src) : NULL;
    if (values) /* a copy of a gradient */
        memcpy(fresh_make_wide(cast->dst), values, (size_t)(cast->dst.rows * cast->dst.cols) * sizeof *values);
    return LCKV_OK;
}

#define ENTRY(name, type)                                                                                              \
    static inline int fresh_run_##name(device *d, const void *arguments) {                                             \
        struct op_##type given, a;                                                                                     \
        memcpy(&given, arguments, sizeof given);                                                                       \
        a = given;                                                                                                     \
        TRY(fresh_before(DEVICE_##name, &a));                                                                          \
        TRY(fresh.cpu.name(d, &a));                                                                                    \
        return fresh_after(DEVICE_##name, &given, &a);                                                                 \
    }                                                                                                                  \
    static inline int fresh_##name(device *d, const struct op_##type *a) {                                             \
        return fresh_call_op(d, fresh_run_##name, a, sizeof *a);                                                       \
    }
DEVICE_OPS(ENTRY)
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY

/* ---------------------------------------------------------------- memory */

static inline int fresh_refuse(const char *what) {
    REQUIRE(!fresh.recorded, LCKV_ERROR_ARGUMENT, "%s while work is recorded", what);
    return LCKV_OK;
}

/* Whether it is memory of the device; others are the host and the counting device. */
static inline bool fresh_has(const void *memory, size_t bytes) {
    for (int i = 0; i < fresh.block_count; i++) {
        const fresh_block *b = &fresh.blocks[i];
        if ((const char *)memory >= b->start && (const char *)memory + bytes <= b->start + b->bytes) return true;
    }
    return false;
}

static inline int fresh_own(const void *memory, size_t bytes) {
    REQUIRE(!bytes || fresh_has(memory, bytes), LCKV_ERROR_ARGUMENT, "%zu bytes that are not memory of the device",
            bytes);
    return LCKV_OK;
}

static inline int fresh_alloc(device *d, size_t bytes, void **out) {
    TRY(fresh_refuse("an allocation"));
    TRY(fresh.memory.alloc(d, bytes, out));
    fresh.blocks = realloc(fresh.blocks, (size_t)(fresh.block_count + 1) * sizeof *fresh.blocks);
    if (!fresh.blocks) abort();
    fresh.blocks[fresh.block_count++] = (fresh_block){*out, bytes};
    memset(*out, FRESH_POISON, bytes < FRESH_MOST ? bytes : FRESH_MOST);
    return LCKV_OK;
}

static inline void fresh_free(device *d, void *memory) {
    for (int i = 0; i < fresh.block_count; i++) {
        if (fresh.blocks[i].start != memory) continue;
        fresh.blocks[i] = fresh.blocks[--fresh.block_count];
        break;
    }
    fresh.memory.release(d, memory);
}

int __real_pool_take(pool *p, size_t bytes, void **out);
int __wrap_pool_take(pool *p, size_t bytes, void **out);

int __wrap_pool_take(pool *p, size_t bytes, void **out) {
    TRY(__real_pool_take(p, bytes, out));
    if (fresh.open && fresh_has(*out, bytes)) fresh_fill(*out, FRESH_POISON, bytes);
    return LCKV_OK;
}

static inline int fresh_zero(device *d, void *memory, size_t bytes) {
    (void)d;
    TRY(fresh_own(memory, bytes));
    fresh_fill(memory, 0, bytes);
    return LCKV_OK;
}

static inline int fresh_copy_in(device *d, void *to, const void *host, size_t bytes) {
    TRY(fresh_refuse("a copy from the host"));
    TRY(fresh_own(to, bytes));
    return fresh.memory.copy_in(d, to, host, bytes);
}

/* The host gets the result after the next mark, and cannot read it before. */
static inline void fresh_send(void *host, const void *result, size_t bytes) {
    fresh.copies = realloc(fresh.copies, (size_t)(fresh.copy_count + 1) * sizeof *fresh.copies);
    void *values = malloc(bytes);
    if (!fresh.copies || !values) abort();
    memcpy(values, result, bytes);
    memset(host, FRESH_POISON, bytes);
    fresh.copies[fresh.copy_count++] = (fresh_copy){host, values, bytes, fresh.marks};
}

static inline int fresh_copy_out(device *d, void *host, const void *from, size_t bytes) {
    (void)d;
    TRY(fresh_refuse("a copy to the host"));
    TRY(fresh_own(from, bytes));
    if (bytes) fresh_send(host, from, bytes);
    return LCKV_OK;
}

/* The time on the device: it reads the clock every FRESH_SECONDS, however long that took on the CPU. */
static inline int fresh_clock_out(device *d, double *host) {
    (void)d;
    TRY(fresh_refuse("reading the clock"));
    fresh.clock = fresh.clock > 0 ? fresh.clock + FRESH_SECONDS : clock_seconds();
    fresh_send(host, &fresh.clock, sizeof fresh.clock);
    return LCKV_OK;
}

/* Copies that began before a mark arrive. */
static inline void fresh_arrive(int64_t mark) {
    int left = 0;
    for (int i = 0; i < fresh.copy_count; i++) {
        fresh_copy c = fresh.copies[i];
        if (c.mark > mark) {
            fresh.copies[left++] = c;
            continue;
        }
        memcpy(c.host, c.values, c.bytes);
        free(c.values);
    }
    fresh.copy_count = left;
}

static inline int fresh_wait(device *d) {
    (void)d;
    TRY(fresh_refuse("waiting"));
    fresh_arrive(INT64_MAX);
    return LCKV_OK;
}

static inline int fresh_mark(device *d, int64_t *mark) {
    (void)d;
    TRY(fresh_refuse("a mark"));
    *mark = fresh.marks++;
    return LCKV_OK;
}

static inline int fresh_reach(device *d, int64_t mark) {
    (void)d;
    TRY(fresh_refuse("waiting"));
    REQUIRE(mark >= 0 && mark < fresh.marks, LCKV_ERROR_ARGUMENT, "mark %lld of %lld", (long long)mark,
            (long long)fresh.marks);
    fresh_arrive(mark);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- recording */

static inline void fresh_release(device *d, device_program *p) {
    (void)d;
    if (!p) return;
    for (int i = 0; i < p->count; i++) free(p->calls[i].arguments);
    free(p->calls);
    free(p);
}

static inline int fresh_begin(device *d) {
    (void)d;
    TRY(fresh_refuse("a recording"));
    fresh.recorded = calloc(1, sizeof *fresh.recorded);
    if (!fresh.recorded) abort();
    return LCKV_OK;
}

static inline int fresh_end(device *d, device_program **out) {
    device_program *p = fresh.recorded;
    fresh.recorded = NULL;
    if (out)
        *out = p;
    else
        fresh_release(d, p);
    return LCKV_OK;
}

static inline int fresh_replay(device *d, device_program *p) {
    for (int i = 0; i < p->count; i++) {
        const fresh_call *c = &p->calls[i];
        if (c->run)
            TRY(c->run(d, c->arguments));
        else
            fresh_fill(c->memory, c->byte, c->bytes);
    }
    fresh.replays++;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- opening */

static inline void fresh_close(device *d) {
    for (int i = 0; i < fresh.wide_count; i++) free(fresh.wide[i].values);
    for (int i = 0; i < fresh.copy_count; i++) free(fresh.copies[i].values);
    free(fresh.wide);
    free(fresh.copies);
    free(fresh.blocks);
    fresh.wide = NULL;
    fresh.copies = NULL;
    fresh.blocks = NULL;
    fresh.wide_count = fresh.copy_count = fresh.block_count = 0;
    fresh.open = false;
    fresh.memory.close(d);
}

static inline void fresh_begin_device(device *d) {
    fresh = (struct fresh_device){.cpu = d->ops, .memory = d->memory, .wanted = true, .open = true};
    d->compute_gradients = true;
    d->host_memory = false;
    d->recording = (struct device_recording){fresh_begin, fresh_end, fresh_replay, fresh_release};
#define ENTRY(name, type) d->ops.name = fresh_##name;
    DEVICE_OPS(ENTRY)
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
    d->memory.alloc = fresh_alloc;
    d->memory.release = fresh_free;
    d->memory.zero = fresh_zero;
    d->memory.copy_in = fresh_copy_in;
    d->memory.copy_out = fresh_copy_out;
    d->memory.clock_out = fresh_clock_out;
    d->memory.wait = fresh_wait;
    d->memory.mark = fresh_mark;
    d->memory.reach = fresh_reach;
    d->memory.close = fresh_close;
}

int __real_cpu_open(device *d, int threads);
int __wrap_cpu_open(device *d, int threads);

int __wrap_cpu_open(device *d, int threads) {
    TRY(__real_cpu_open(d, threads));
    if (fresh.wanted && !fresh.open) fresh_begin_device(d);
    return LCKV_OK;
}

/* Whether the next CPU that is opened keeps the rules. Forgets one that a failed test has left open. */
static inline void fresh_want(bool wanted) {
    fresh = (struct fresh_device){.wanted = wanted};
}

#endif
