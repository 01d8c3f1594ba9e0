/* The cost of each op. FLOPs: those of the formula, 2 per multiply-add, of products and attention only. Bytes: each
 * operand that the call reads or writes, once, even if it is read and added to. Of a table that is read through an
 * index, only the rows read count. */
#include "device/count/count.h"

static int charge(device *d, double flops, double bytes) {
    d->counts.flops += flops;
    d->counts.bytes += bytes;
    return LCKV_OK;
}

/* An absent view costs nothing. */
static double bytes_of(view v) {
    return v.data ? (double)(view_bytes(v) + view_scale_bytes(v)) : 0.0;
}

/* `rows` rows of `v`, found through an index. */
static double bytes_of_rows(view v, int64_t rows) {
    size_t each = dtype_row_bytes(v.type, v.cols) + view_row_scale_bytes(v);
    return v.data ? (double)rows * (double)each : 0.0;
}

static double present(view v) {
    return v.data ? 1.0 : 0.0;
}

/* ---------------------------------------------------------------- rows */

static int embed(device *d, const struct op_embed *a) {
    return charge(d, 0, bytes_of(a->ids) + bytes_of(a->from) + bytes_of_rows(a->table, a->ids.rows) + bytes_of(a->out));
}

static int embed_backward(device *d, const struct op_embed *a) {
    if (!a->dtable.data) return LCKV_OK;
    return charge(d, 0, bytes_of(a->ids) + bytes_of(a->dout) + bytes_of_rows(a->dtable, a->ids.rows));
}

static int gather_rows(device *d, const struct op_gather_rows *a) {
    return charge(d, 0, bytes_of(a->index) + bytes_of_rows(a->src, a->index.rows) + bytes_of(a->dst));
}

static int gather_rows_backward(device *d, const struct op_gather_rows *a) {
    if (!a->dsrc.data) return LCKV_OK;
    return charge(d, 0, bytes_of(a->index) + bytes_of(a->ddst) + bytes_of_rows(a->dsrc, a->index.rows));
}

static int scatter_rows(device *d, const struct op_scatter_rows *a) {
    return charge(d, 0, bytes_of(a->index) + bytes_of(a->src) + bytes_of_rows(a->dst, a->index.rows));
}

static int scatter_rows_backward(device *d, const struct op_scatter_rows *a) {
    if (!a->dsrc.data) return LCKV_OK;
    return charge(d, 0, bytes_of(a->index) + bytes_of(a->dsrc) + bytes_of_rows(a->ddst, a->index.rows));
}

/* ---------------------------------------------------------------- element by element */

static int rms_norm(device *d, const struct op_rms_norm *a) {
    return charge(d, 0, bytes_of(a->x) + bytes_of(a->weight) + bytes_of(a->y) + bytes_of(a->rstd));
}

static int rms_norm_backward(device *d, const struct op_rms_norm *a) {
    double read = bytes_of(a->x) + bytes_of(a->weight) + bytes_of(a->rstd) + bytes_of(a->dy);
    return charge(d, 0, read + bytes_of(a->dx) + bytes_of(a->dweight) + bytes_of(a->y_again));
}

static int rope_angles(device *d, const struct op_rope_angles *a) {
    double read = bytes_of(a->positions) + bytes_of(a->lengths) + bytes_of(a->inverse_frequencies);
    return charge(d, 0, read + bytes_of(a->angles));
}

static int rope(device *d, const struct op_rope *a) {
    return charge(d, 0, bytes_of(a->x) + bytes_of(a->angles) + bytes_of(a->y));
}

static int rope_backward(device *d, const struct op_rope *a) {
    if (!a->dx.data) return LCKV_OK;
    return charge(d, 0, bytes_of(a->dy) + bytes_of(a->angles) + bytes_of(a->dx));
}

static int split_heads(device *d, const struct op_split_heads *a) {
    return charge(d, 0, bytes_of(a->x) + bytes_of(a->angles) + bytes_of(a->q) + bytes_of(a->k) + bytes_of(a->v));
}

static int split_heads_backward(device *d, const struct op_split_heads *a) {
    if (!a->dx.data) return LCKV_OK;
    return charge(d, 0, bytes_of(a->dq) + bytes_of(a->dk) + bytes_of(a->dv) + bytes_of(a->angles) + bytes_of(a->dx));
}

static int swiglu(device *d, const struct op_swiglu *a) {
    return charge(d, 0, bytes_of(a->gate) + bytes_of(a->up) + bytes_of(a->y));
}

static int swiglu_backward(device *d, const struct op_swiglu *a) {
    double read = bytes_of(a->gate) + bytes_of(a->up) + bytes_of(a->dy);
    return charge(d, 0, read + bytes_of(a->dgate) + bytes_of(a->dup) + bytes_of(a->y_again));
}

static int dropout(device *d, const struct op_dropout *a) {
    return charge(d, 0, bytes_of(a->x) + bytes_of(a->seed) + bytes_of(a->y));
}

static int dropout_backward(device *d, const struct op_dropout *a) {
    if (!a->dx.data) return LCKV_OK;
    return charge(d, 0, bytes_of(a->dy) + bytes_of(a->seed) + bytes_of(a->dx));
}

static int add(device *d, const struct op_add *a) {
    return charge(d, 0, bytes_of(a->a) + bytes_of(a->b) + bytes_of(a->y));
}

static int accumulate(device *d, const struct op_accumulate *a) {
    return charge(d, 0, bytes_of(a->src) + bytes_of(a->dst));
}

static int cast(device *d, const struct op_cast *a) {
    return charge(d, 0, bytes_of(a->src) + bytes_of(a->dst));
}

/* ---------------------------------------------------------------- products */

/* FLOPs of one product of [rows, in] with [in, out]. */
static double product(int64_t rows, int64_t in, int64_t out) {
    return 2.0 * (double)rows * (double)in * (double)out;
}

static int linear(device *d, const struct op_linear *a) {
    double bytes = bytes_of(a->x) + bytes_of(a->weight) + bytes_of(a->bias) + bytes_of(a->y);
    return charge(d, product(a->x.rows, a->x.cols, a->weight.rows), bytes);
}

/* x is only read for dweight, the weight only for dx. */
static int linear_backward(device *d, const struct op_linear *a) {
    double flops = (present(a->dx) + present(a->dweight)) * product(a->dy.rows, a->weight.cols, a->weight.rows);
    double bytes = bytes_of(a->dy) + bytes_of(a->dx) + bytes_of(a->dweight) + bytes_of(a->dbias);
    if (a->dx.data) bytes += bytes_of(a->weight);
    if (a->dweight.data) bytes += bytes_of(a->x);
    return charge(d, flops, bytes);
}

static int linear_cross_entropy(device *d, const struct op_linear_cross_entropy *a) {
    double products = 1.0 + present(a->dx) + present(a->dweight);
    double bytes = bytes_of(a->x) + bytes_of(a->weight) + bytes_of(a->labels) + bytes_of(a->scale) + bytes_of(a->loss) +
                   bytes_of(a->nll) + bytes_of(a->correct) + bytes_of(a->dx) + bytes_of(a->dweight);
    return charge(d, products * product(a->x.rows, a->x.cols, a->weight.rows), bytes);
}

/* ---------------------------------------------------------------- attention */

/* FLOPs of one product over all visible pairs, such as q k^T. */
static double pair_product(const struct op_attention *a) {
    return 2.0 * a->pairs * (double)a->heads * (double)a->head_dim;
}

/* The past rows of each sequence are in device memory, so all sequences are charged for the longest. */
static double past_bytes(const struct op_attention *a) {
    if (!a->past.k.data) return 0.0;
    int64_t rows = a->sequences.rows * (int64_t)a->max_past;
    return bytes_of_rows(a->past.k, rows) + bytes_of_rows(a->past.v, rows) + bytes_of(a->past.table);
}

/* Two products: q k^T and probabilities v. */
static int attention(device *d, const struct op_attention *a) {
    double bytes = bytes_of(a->q) + bytes_of(a->q_sink) + bytes_of(a->k) + bytes_of(a->v) + bytes_of(a->out) +
                   bytes_of(a->lse) + bytes_of(a->sequences) + past_bytes(a);
    return charge(d, 2.0 * pair_product(a), bytes);
}

/* q k^T again, dout v^T, and those that give dq, dk and dv. */
static int attention_backward(device *d, const struct op_attention *a) {
    double bytes = bytes_of(a->q) + bytes_of(a->k) + bytes_of(a->v) + bytes_of(a->out) + bytes_of(a->lse) +
                   bytes_of(a->sequences) + bytes_of(a->dout) + bytes_of(a->dq) + bytes_of(a->dk) + bytes_of(a->dv);
    double products = 2.0 + present(a->dq) + present(a->dk) + present(a->dv);
    return charge(d, products * pair_product(a), bytes);
}

/* ---------------------------------------------------------------- tokens, optimizer, fill */

static int sample(device *d, const struct op_sample *a) {
    double read = bytes_of(a->logits) + bytes_of(a->how) + bytes_of(a->seen);
    return charge(d, 0, read + bytes_of(a->ids) + bytes_of(a->logprob));
}

static int sum_squares(device *d, const struct op_sum_squares *a) {
    return charge(d, 0, bytes_of(a->x) + bytes_of(a->minus) + bytes_of(a->out));
}

static int clip(device *d, const struct op_clip *a) {
    return charge(d, 0, bytes_of(a->sum_squares) + bytes_of(a->loss) + bytes_of(a->state));
}

static int adamw(device *d, const struct op_adamw *a) {
    double moments = bytes_of(a->m) + bytes_of(a->v) + bytes_of(a->state);
    return charge(d, 0, bytes_of(a->master) + bytes_of(a->weight) + bytes_of(a->grad) + moments);
}

static int fill_normal(device *d, const struct op_fill_normal *a) {
    return charge(d, 0, bytes_of(a->dst));
}

const struct device_formats count_formats = {
#define ENTRY(name, arguments) .name = DTYPE_GROUPED | DTYPE_PAGES,
    DEVICE_OPS(ENTRY) DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
};

const struct device_ops count_ops = {
#define ENTRY(name, arguments) .name = name,
    DEVICE_OPS(ENTRY)
#undef ENTRY
};
