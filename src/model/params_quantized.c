/* Quantized weights of the table: which they are, and their values. See params.h.
 *
 * The host converts some rows at a time, so that a large matrix is not in memory as f32. */
#include "model/params.h"

#include "device/half.h"
#include "device/quantize.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 22 /* elements converted at a time, at least one row */ };

/* ---------------------------------------------------------------- formats */

static bool is_grouped(dtype type) {
    return (DTYPE_BIT(type) & DTYPE_GROUPED) != 0;
}

bool view_is_quantized(view v) {
    return is_grouped(v.type);
}

bool params_quantized(const params *p) {
    for (int i = 0; i < p->count; i++)
        if (is_grouped(p->table[i].tensor.value.type)) return true;
    return false;
}

bool params_is_outer(const params *p, int i) {
    const tensor *t = &p->table[i].tensor;
    return t == p->embed || t == p->head;
}

weight_format params_format(const params *p) {
    weight_format format = WEIGHT_FLOAT;
    for (int i = 0; i < p->count; i++) {
        dtype type = p->table[i].tensor.value.type;
        if (type == DTYPE_INT4 && !params_is_outer(p, i)) return WEIGHT_INT4;
        if (type == DTYPE_INT8) format = WEIGHT_INT8;
    }
    return format;
}

dtype params_float_type(const params *p) {
    dtype type = p->embed->value.type;
    return is_grouped(type) ? p->norm->value.type : type;
}

/* DTYPE_COUNT if the weight is not quantized. */
static dtype choose_quantized(const params *p, int i, weight_format format, bool quantized) {
    const weight *w = &p->table[i];
    bool outer = params_is_outer(p, i);
    if (w->dimensions != 2 || format == WEIGHT_FLOAT) return DTYPE_COUNT;
    if (format == WEIGHT_AUTO && is_grouped(w->tensor.value.type)) return w->tensor.value.type;
    if (format == WEIGHT_AUTO) return outer && quantized ? DTYPE_INT8 : DTYPE_COUNT;
    return outer || format == WEIGHT_INT8 ? DTYPE_INT8 : DTYPE_INT4;
}

void params_choose_types(params *p, dtype floats, weight_format format) {
    bool quantized = params_quantized(p);
    for (int i = 0; i < p->count; i++) {
        dtype *type = &p->table[i].tensor.value.type, chosen = choose_quantized(p, i, format, quantized);
        if (p->table[i].tensor.value.data) continue;
        if (chosen != DTYPE_COUNT)
            *type = chosen;
        else if (floats != DTYPE_COUNT)
            *type = floats;
        else if (is_grouped(*type))
            *type = p->norm->value.type;
    }
}

/* ---------------------------------------------------------------- values */

/* Host memory for a chunk of rows of a weight. */
typedef struct staged_rows {
    int64_t rows; /* at most */
    float *wide;
    void *narrow; /* the same rows of another type, aligned */
    void *data, *scales;
} staged_rows;

static void free_staged(staged_rows *s) {
    free(s->wide);
    free(s->narrow);
    free(s->data);
    free(s->scales);
}

static int make_staged(const weight *w, staged_rows *s) {
    dtype type = w->tensor.value.type;
    int64_t cols = w->cols > 0 ? w->cols : 1, rows = CHUNK / cols < 1 ? 1 : CHUNK / cols;
    *s = (staged_rows){.rows = rows < w->rows ? rows : w->rows};
    size_t count = (size_t)s->rows, wide = count * dtype_row_bytes(DTYPE_F32, w->cols);
    s->wide = malloc(wide + 1);
    s->narrow = malloc(wide + 1);
    s->data = malloc(count * dtype_row_bytes(type, w->cols) + 1);
    s->scales = malloc(count * dtype_row_scale_bytes(type, w->cols) + 1);
    if (s->wide && s->narrow && s->data && s->scales) return LCKV_OK;
    free_staged(s);
    return fail(LCKV_ERROR_MEMORY, "no memory for %lld rows of %s", (long long)s->rows, w->name);
}

/* The host converts, also for a device with memory of its own. */
static int threads_of(const params *p) {
    return p->device->host_memory ? p->device->threads : device_processors();
}

/* s->wide = rows of a file, which are not aligned. */
static void widen_rows(view rows, const char *host, dtype type, const staged_rows *s, int threads) {
    size_t bytes = dtype_row_bytes(type, rows.cols);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows.rows; r++) {
        void *narrow = (char *)s->narrow + (size_t)r * bytes;
        memcpy(narrow, host + (size_t)r * bytes, bytes);
        cpu_widen(s->wide + r * rows.cols, narrow, type, rows.cols);
    }
}

static int quantize_chunk(params *p, view rows, const char *host, dtype type, const staged_rows *s) {
    device *d = p->device;
    widen_rows(rows, host, type, s, threads_of(p));
    TRY(quantize_rows(rows.type, rows.rows, rows.cols, s->wide, s->data, s->scales, threads_of(p)));
    TRY(d->memory.copy_in(d, rows.data, s->data, view_bytes(rows)));
    TRY(d->memory.copy_in(d, rows.scales, s->scales, view_scale_bytes(rows)));
    return d->memory.wait(d);
}

static int dequantize_chunk(params *p, view rows, char *host, dtype type, const staged_rows *s) {
    device *d = p->device;
    int64_t count = rows.rows * rows.cols;
    TRY(d->memory.copy_out(d, s->data, rows.data, view_bytes(rows)));
    TRY(d->memory.copy_out(d, s->scales, rows.scales, view_scale_bytes(rows)));
    TRY(d->memory.wait(d));
    dequantize_rows(rows.type, rows.rows, rows.cols, s->data, s->scales, s->wide, threads_of(p));
    cpu_narrow(s->narrow, type, s->wide, count);
    memcpy(host, s->narrow, (size_t)count * dtype_element_bytes(type));
    return LCKV_OK;
}

static int move_rows(params *p, const weight *w, char *host, dtype type, bool in) {
    staged_rows s;
    int status = LCKV_OK;
    if (p->device->counts_only) return LCKV_OK;
    TRY(make_staged(w, &s));
    for (int64_t first = 0; first < w->rows && status >= 0; first += s.rows) {
        int64_t count = w->rows - first < s.rows ? w->rows - first : s.rows;
        view rows = view_rows(w->tensor.value, first, count);
        char *at = host + (size_t)first * dtype_row_bytes(type, w->cols);
        status = in ? quantize_chunk(p, rows, at, type, &s) : dequantize_chunk(p, rows, at, type, &s);
    }
    free_staged(&s);
    return status < 0 ? fail_within(status, "%s", w->name) : LCKV_OK;
}

int quantize_weight(params *p, const weight *w, const void *host, dtype type) {
    return move_rows(p, w, (char *)(uintptr_t)host, type, true);
}

int dequantize_weight(params *p, const weight *w, dtype type, void *host) {
    return move_rows(p, w, host, type, false);
}

int params_set_quantized(params *p, int i, const void *data, const void *scales) {
    view v = p->table[i].tensor.value;
    device *d = p->device;
    TRY(d->memory.copy_in(d, v.data, data, view_bytes(v)));
    TRY(d->memory.copy_in(d, v.scales, scales, view_scale_bytes(v)));
    return d->memory.wait(d);
}

int params_read_quantized(params *p, int i, void *data, void *scales) {
    view v = p->table[i].tensor.value;
    device *d = p->device;
    TRY(d->memory.copy_out(d, data, v.data, view_bytes(v)));
    TRY(d->memory.copy_out(d, scales, v.scales, view_scale_bytes(v)));
    return d->memory.wait(d);
}
