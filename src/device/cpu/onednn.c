/* Matrix products by oneDNN, versions 2 and 3, in place of the plain entries.
 *
 * They are used for more than CPU_FEW_ROWS rows if all operands are f32, or all are bf16 and the processor
 * multiplies bf16 natively (oneDNN would otherwise refuse, or emulate it at a fraction of the speed). Weights and
 * gradients stay in place: strides express transposed operands, and adding to a gradient is a "sum" post-op. The
 * plain entries handle the rest: few rows, for which calling oneDNN costs more than it saves, and mixed types, which
 * they widen block by block. Weights in grouped formats are widened to the compute type, a panel of rows at a time.
 *
 * A primitive (code for one shape) takes up to a millisecond to create, so the device caches the last PRIMITIVES. */
#include "device/cpu/onednn.h"
#include "device/cpu/cpu.h"
#include "device/cpu/linear.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PRIMITIVES = 128,
    PANEL_BYTES = 4 << 20, /* of widened rows of a weight: large products that stay in the last-level cache */
    PANEL_MULTIPLE = 64    /* rows */
};

/* c (+)= a b + bias. a is [rows, depth], or stored as [depth, rows] if transposed; b [depth, cols] likewise. a_row and
 * c_row: elements between rows of a and c, if they are parts of larger matrices; else 0. Compared as bytes, so all
 * fields have one width. */
struct shape {
    int64_t rows, cols, depth, a_transposed, b_transposed, type, c_type, bias_type /* NO_BIAS: none */, add;
    int64_t a_row, c_row;
};

enum { NO_BIAS = -1 };

struct primitive {
    struct shape shape;
    uint64_t used; /* 0: unused entry */
    dnnl_primitive_t run;
    dnnl_memory_t a, b, c, bias;
};

struct onednn {
    struct device_ops plain;
    bool has_bf16;
    uint64_t calls;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct primitive primitives[PRIMITIVES];
};

static struct onednn *onednn_of(device *d) {
    return ((struct cpu_state *)d->own)->products;
}

/* Returns oneDNN's errors within this file, as TRY does for ours. */
#define CALL(expression)                                                                                               \
    do {                                                                                                               \
        dnnl_status_t status_ = (expression);                                                                          \
        if (status_ != dnnl_success) return status_;                                                                   \
    } while (0)

/* ---------------------------------------------------------------- what differs between versions 2 and 3 */

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t descriptor;

static dnnl_status_t describe(descriptor *out, const dnnl_dims_t dims, dnnl_data_type_t type,
                              const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides);
}

static void forget(descriptor *d) {
    if (*d) dnnl_memory_desc_destroy(*d);
}

static dnnl_status_t create_memory(dnnl_memory_t *out, const descriptor *d, dnnl_engine_t engine) {
    return dnnl_memory_create(out, *d, engine, NULL);
}

static dnnl_status_t append_sum(dnnl_post_ops_t after) {
    return dnnl_post_ops_append_sum(after, 1.0f, 0, dnnl_data_type_undef);
}

static dnnl_status_t create_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const descriptor *a,
                                   const descriptor *b, const descriptor *bias, const descriptor *c,
                                   dnnl_primitive_attr_t attributes) {
    return dnnl_matmul_primitive_desc_create(out, engine, *a, *b, bias ? *bias : NULL, *c, attributes);
}

#else

typedef dnnl_memory_desc_t descriptor; /* a struct in version 2, a pointer in version 3 */

static dnnl_status_t describe(descriptor *out, const dnnl_dims_t dims, dnnl_data_type_t type,
                              const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(out, 2, dims, type, strides);
}

static void forget(descriptor *d) {
    (void)d;
}

static dnnl_status_t create_memory(dnnl_memory_t *out, const descriptor *d, dnnl_engine_t engine) {
    return dnnl_memory_create(out, d, engine, NULL);
}

static dnnl_status_t append_sum(dnnl_post_ops_t after) {
    return dnnl_post_ops_append_sum(after, 1.0f);
}

static dnnl_status_t create_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const descriptor *a,
                                   const descriptor *b, const descriptor *bias, const descriptor *c,
                                   dnnl_primitive_attr_t attributes) {
    dnnl_matmul_desc_t operation;
    CALL(dnnl_matmul_desc_init(&operation, a, b, bias, c));
    return dnnl_primitive_desc_create(out, &operation, attributes, engine, NULL);
}

#endif

/* ---------------------------------------------------------------- primitives */

static dnnl_data_type_t type_of(int64_t type) {
    return type == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* A row-major matrix, or a transposed one. `row`: elements between rows of the former; 0 for `cols`. */
static dnnl_status_t describe_matrix(descriptor *out, int64_t rows, int64_t cols, int64_t row, bool transposed,
                                     int64_t type) {
    dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : row ? row : cols, transposed ? rows : 1};
    return describe(out, dims, type_of(type), strides);
}

/* What is needed to create a primitive only. */
struct making {
    descriptor a, b, c, bias;
    dnnl_post_ops_t after;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t description;
};

static dnnl_status_t make(struct making *m, struct primitive *p, dnnl_engine_t engine) {
    const struct shape *s = &p->shape;
    bool bias = s->bias_type != NO_BIAS;
    CALL(describe_matrix(&m->a, s->rows, s->depth, s->a_row, s->a_transposed, s->type));
    CALL(describe_matrix(&m->b, s->depth, s->cols, 0, s->b_transposed, s->type));
    CALL(describe_matrix(&m->c, s->rows, s->cols, s->c_row, false, s->c_type));
    if (bias) CALL(describe_matrix(&m->bias, 1, s->cols, 0, false, s->bias_type));
    CALL(dnnl_primitive_attr_create(&m->attributes));
    CALL(dnnl_post_ops_create(&m->after));
    if (s->add) CALL(append_sum(m->after));
    CALL(dnnl_primitive_attr_set_post_ops(m->attributes, m->after));
    CALL(create_matmul(&m->description, engine, &m->a, &m->b, bias ? &m->bias : NULL, &m->c, m->attributes));
    CALL(dnnl_primitive_create(&p->run, m->description));
    CALL(create_memory(&p->a, &m->a, engine));
    CALL(create_memory(&p->b, &m->b, engine));
    CALL(create_memory(&p->c, &m->c, engine));
    if (bias) CALL(create_memory(&p->bias, &m->bias, engine));
    return dnnl_success;
}

static void empty(struct primitive *p) {
    if (p->run) dnnl_primitive_destroy(p->run);
    dnnl_memory_t all[] = {p->a, p->b, p->c, p->bias};
    for (int i = 0; i < 4; i++)
        if (all[i]) dnnl_memory_destroy(all[i]);
    *p = (struct primitive){0};
}

/* The primitive of a shape, created if it is not cached, in place of the least recently used one. NULL if oneDNN has
 * none. */
static struct primitive *primitive_for(struct onednn *o, const struct shape *shape) {
    struct primitive *oldest = o->primitives;
    o->calls++;
    for (struct primitive *p = o->primitives; p < o->primitives + PRIMITIVES; p++) {
        if (p->used && memcmp(&p->shape, shape, sizeof *shape) == 0) {
            p->used = o->calls;
            return p;
        }
        if (p->used < oldest->used) oldest = p;
    }
    empty(oldest);
    oldest->shape = *shape;
    struct making m = {0};
    dnnl_status_t status = make(&m, oldest, o->engine);
    if (m.description) dnnl_primitive_desc_destroy(m.description);
    if (m.after) dnnl_post_ops_destroy(m.after);
    if (m.attributes) dnnl_primitive_attr_destroy(m.attributes);
    forget(&m.a), forget(&m.b), forget(&m.c), forget(&m.bias);
    if (status == dnnl_success)
        oldest->used = o->calls;
    else
        empty(oldest);
    return status == dnnl_success ? oldest : NULL;
}

static dnnl_status_t execute(struct onednn *o, struct primitive *p, const void *a, const void *b, const void *bias,
                             void *c) {
    dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}, {DNNL_ARG_BIAS, p->bias}};
    CALL(dnnl_memory_set_data_handle(p->a, (void *)a));
    CALL(dnnl_memory_set_data_handle(p->b, (void *)b));
    CALL(dnnl_memory_set_data_handle(p->c, c));
    if (p->bias) CALL(dnnl_memory_set_data_handle(p->bias, (void *)bias));
    CALL(dnnl_primitive_execute(p->run, o->stream, p->bias ? 4 : 3, arguments));
    return dnnl_stream_wait(o->stream);
}

/* All products pass through here. *done: false if oneDNN has nothing for the shape, or an extent is 0: version 3.7
 * then returns success without writing the result, not even the bias. oneDNN uses the number of threads of OpenMP,
 * which is the device's during the call. */
static int multiply(device *d, const struct shape *shape, const void *a, const void *b, const void *bias, void *c,
                    bool *done) {
    struct onednn *o = onednn_of(d);
    int threads = omp_get_max_threads();
    *done = false;
    if (shape->rows == 0 || shape->cols == 0 || shape->depth == 0) return LCKV_OK;
    omp_set_num_threads(d->threads);
    struct primitive *p = primitive_for(o, shape);
    dnnl_status_t status = p ? execute(o, p, a, b, bias, c) : dnnl_success;
    omp_set_num_threads(threads);
    *done = p != NULL;
    REQUIRE(status == dnnl_success, LCKV_ERROR_DEVICE, "oneDNN failed with status %d in a product %lld x %lld x %lld",
            (int)status, (long long)shape->rows, (long long)shape->depth, (long long)shape->cols);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- the entries */

static bool is_grouped(view v) {
    return (DTYPE_BIT(v.type) & DTYPE_GROUPED) != 0;
}

/* Whether oneDNN multiplies rows of the compute type with the weight, or with the widened weight. Its summation order
 * depends on the number of rows. */
static bool takes(const device *d, int64_t rows, dtype compute, view weight) {
    const struct onednn *o = ((struct cpu_state *)d->own)->products;
    return !d->invariant_rows && rows > CPU_FEW_ROWS && (compute == weight.type || is_grouped(weight)) &&
           (compute == DTYPE_F32 || (compute == DTYPE_BF16 && o->has_bf16));
}

/* linear_few.c is faster up to this number of rows: its kernels for these formats read the weight in place. */
static int64_t few_rows(const device *d, dtype compute, view weight) {
    const struct cpu_state *state = d->own;
    bool bf16 = state->level >= CPU_AVX512_BF16 && compute == DTYPE_BF16 && weight.type == DTYPE_BF16;
    return bf16 || is_grouped(weight) ? 2 * CPU_FEW_ROWS : CPU_FEW_ROWS;
}

/* Rows of a panel, at most. */
static int64_t panel_rows(view weight, dtype compute) {
    int64_t bytes = weight.cols * (int64_t)dtype_element_bytes(compute), rows = bytes ? PANEL_BYTES / bytes : 0;
    return rows < PANEL_MULTIPLE ? PANEL_MULTIPLE : rows / PANEL_MULTIPLE * PANEL_MULTIPLE;
}

/* Rows [first, first + count) of a weight as the compute type. */
static int widen_panel(device *d, view weight, int64_t first, int64_t count, dtype compute, const void **out) {
    void *panel;
    size_t row = (size_t)weight.cols * dtype_element_bytes(compute);
    TRY(cpu_scratch(d, CPU_SCRATCH_PANEL, (size_t)panel_rows(weight, compute) * row, &panel));
    struct op_cast cast = {.src = view_rows(weight, first, count), .dst = {panel, count, weight.cols, compute}};
    *out = panel;
    return d->ops.cast(d, &cast);
}

/* y, a panel of columns at a time. */
static int multiply_grouped(device *d, const struct op_linear *a, struct shape y, bool *done) {
    int64_t each = panel_rows(a->weight, a->x.type);
    y.c_row = a->weight.rows;
    *done = true;
    for (int64_t first = 0; first < a->weight.rows && *done; first += each) {
        const void *panel;
        y.cols = a->weight.rows - first < each ? a->weight.rows - first : each;
        TRY(widen_panel(d, a->weight, first, y.cols, a->x.type, &panel));
        TRY(multiply(d, &y, a->x.data, panel, a->bias.data ? cpu_at(a->bias, 0, first) : NULL, cpu_at(a->y, 0, first),
                     done));
    }
    return LCKV_OK;
}

static int linear(device *d, const struct op_linear *a) {
    struct onednn *o = onednn_of(d);
    bool bias = a->bias.data != NULL, done = false;
    if (takes(d, a->x.rows, a->x.type, a->weight) && a->x.rows > few_rows(d, a->x.type, a->weight) &&
        (!bias || a->bias.type == DTYPE_F32 || a->bias.type == a->x.type)) {
        struct shape y = {.rows = a->x.rows, .cols = a->weight.rows, .depth = a->x.cols, .b_transposed = true};
        y.type = a->x.type, y.c_type = a->y.type, y.bias_type = bias ? (int64_t)a->bias.type : NO_BIAS;
        if (is_grouped(a->weight))
            TRY(multiply_grouped(d, a, y, &done));
        else
            TRY(multiply(d, &y, a->x.data, a->weight.data, a->bias.data, a->y.data, &done));
    }
    return done ? LCKV_OK : o->plain.linear(d, a);
}

/* dy as the products' type: with bf16, a rounded copy. */
static int rounded_dy(device *d, const struct op_linear *a, dtype compute, const void **dy) {
    *dy = a->dy.data;
    if (compute == DTYPE_F32) return LCKV_OK;
    void *copy;
    *dy = copy = a->dy_rounded.data;
    if (copy && !a->dy_rounded.fresh) return LCKV_OK;
    if (!copy) TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)(a->dy.rows * a->dy.cols) * 2, &copy));
    struct op_cast cast = {.src = a->dy, .dst = {copy, a->dy.rows, a->dy.cols, DTYPE_BF16}};
    *dy = copy;
    return d->ops.cast(d, &cast);
}

/* dx += dy weight, a panel of the weight at a time. After a panel, a product that oneDNN does not have is an error,
 * because a part of the sum is done. */
static int add_dx_grouped(device *d, const struct op_linear *a, const void *dy, struct shape dx, bool *done) {
    int64_t each = panel_rows(a->weight, (dtype)dx.type);
    size_t element = dtype_element_bytes((dtype)dx.type);
    dx.a_row = a->weight.rows;
    for (int64_t first = 0; first < a->weight.rows; first += each) {
        const void *panel;
        dx.depth = a->weight.rows - first < each ? a->weight.rows - first : each;
        TRY(widen_panel(d, a->weight, first, dx.depth, (dtype)dx.type, &panel));
        TRY(multiply(d, &dx, (const char *)dy + (size_t)first * element, panel, NULL, a->dx.data, done));
        REQUIRE(*done || first == 0, LCKV_ERROR_DEVICE, "oneDNN has no product %lld x %lld x %lld", (long long)dx.rows,
                (long long)dx.depth, (long long)dx.cols);
        if (!*done) return LCKV_OK;
    }
    return LCKV_OK;
}

/* The plain entry does what oneDNN does not do, including the bias. x may be absent if the weight is frozen. */
static int linear_backward(device *d, const struct op_linear *a) {
    struct onednn *o = onednn_of(d);
    struct op_linear rest = *a;
    dtype compute = a->x.data ? a->x.type : DTYPE_F32;
    bool done = false;
    if (!takes(d, a->dy.rows, compute, a->weight)) return o->plain.linear_backward(d, a);
    const void *dy;
    TRY(rounded_dy(d, a, compute, &dy));
    struct shape dx = {.rows = a->dy.rows, .cols = a->weight.cols, .depth = a->weight.rows, .add = true};
    dx.type = compute, dx.c_type = DTYPE_F32, dx.bias_type = NO_BIAS;
    if (a->dx.data && is_grouped(a->weight))
        TRY(add_dx_grouped(d, a, dy, dx, &done));
    else if (a->dx.data)
        TRY(multiply(d, &dx, dy, a->weight.data, NULL, a->dx.data, &done));
    if (done) rest.dx.data = NULL;
    struct shape dweight = dx;
    dweight.rows = a->weight.rows, dweight.depth = a->dy.rows, dweight.a_transposed = true, done = false;
    if (a->dweight.data) TRY(multiply(d, &dweight, dy, a->x.data, NULL, a->dweight.data, &done));
    if (done) rest.dweight.data = NULL;
    return o->plain.linear_backward(d, &rest);
}

/* ---------------------------------------------------------------- opening */

static bool processor_has_bf16(void) {
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

static dnnl_status_t create(struct onednn *o) {
    CALL(dnnl_engine_create(&o->engine, dnnl_cpu, 0));
    return dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags);
}

int onednn_open(device *d) {
    struct onednn *o = calloc(1, sizeof *o);
    REQUIRE(o != NULL, LCKV_ERROR_MEMORY, "no memory for oneDNN's state");
    ((struct cpu_state *)d->own)->products = o;
    o->plain = d->ops;
    o->has_bf16 = processor_has_bf16();
    dnnl_status_t status = create(o);
    REQUIRE(status == dnnl_success, LCKV_ERROR_DEVICE, "oneDNN failed with status %d when it was opened", (int)status);
    d->ops.linear = linear;
    d->ops.linear_backward = linear_backward;
    const dnnl_version_t *v = dnnl_version();
    size_t length = strlen(d->features);
    snprintf(d->features + length, sizeof d->features - length, ", oneDNN %d.%d.%d isa %x", v->major, v->minor,
             v->patch, (unsigned)dnnl_get_effective_cpu_isa());
    return LCKV_OK;
}

void onednn_close(device *d) {
    struct onednn *o = onednn_of(d);
    if (o == NULL) return;
    for (int i = 0; i < PRIMITIVES; i++) empty(&o->primitives[i]);
    if (o->stream) dnnl_stream_destroy(o->stream);
    if (o->engine) dnnl_engine_destroy(o->engine);
    free(o);
}
