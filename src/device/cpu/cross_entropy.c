/* Cross-entropy fused with the product that makes the logits: rows go through in pieces whose logits fit a bounded
 * buffer, [rows, vocab_size] of all rows never exists, and where gradients are wanted each piece's logits become their
 * own gradient in place. The three products are the device's linear entries, so the vendor's where there is one. */
#include "device/cpu/cpu.h"

#include <math.h>

enum { LOGITS_BYTES = 32 << 20, LEAST_ROWS = 16 };

/* One piece: rows [first, first + rows) of the call. */
struct piece {
    int64_t first, rows;
    float *logits;  /* [rows, vocab_size] */
    double *losses; /* [all rows of the call] */
};

static float largest(const float *x, int64_t n) {
    float most = x[0];
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* Summed in pieces, each in f32 and all in f64: the error does not grow with the vocabulary. */
static double sum_exponentials(const float *x, int64_t n, float most) {
    double total = 0;
    for (int64_t i = 0; i < n; i += 256) {
        int64_t end = i + 256 < n ? i + 256 : n;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = i; j < end; j++) sum += cpu_exp(x[j] - most);
        total += (double)sum;
    }
    return total;
}

/* 1 where no logit is larger, and none before is as large. */
static int32_t is_first_of_largest(const float *x, int64_t label, float most) {
    int64_t i = 0;
    while (x[i] < most) i++;
    return i == label;
}

/* d *loss / d logits = *scale * (softmax - one at the label) */
static void gradient_row(float *restrict x, int64_t n, float most, double sum, int64_t label, float scale) {
    float factor = (float)((double)scale / sum);
    for (int64_t i = 0; i < n; i++) x[i] = factor * cpu_exp(x[i] - most);
    x[label] -= scale;
}

static void loss_row(const struct op_linear_cross_entropy *a, const struct piece *p, int64_t r, bool gradient) {
    int64_t row = p->first + r, vocab_size = a->weight.rows;
    int32_t label = ((const int32_t *)a->labels.data)[row];
    float *logits = p->logits + r * vocab_size, nll = 0;
    int32_t correct = 0;
    p->losses[row] = 0;
    if (label >= 0 && label < vocab_size) {
        float most = largest(logits, vocab_size);
        double sum = sum_exponentials(logits, vocab_size, most);
        p->losses[row] = log(sum) + (double)most - (double)logits[label];
        nll = (float)p->losses[row];
        correct = is_first_of_largest(logits, label, most);
        if (gradient) gradient_row(logits, vocab_size, most, sum, label, *(const float *)a->scale.data);
    } else if (gradient) {
        memset(logits, 0, (size_t)vocab_size * sizeof *logits);
    }
    if (a->nll.data) ((float *)a->nll.data)[row] = nll;
    if (a->correct.data) ((int32_t *)a->correct.data)[row] = correct;
}

static view rows_of(view v, const struct piece *p) {
    if (v.data == NULL) return v;
    return (view){cpu_row(v, p->first), p->rows, v.cols, v.type};
}

static int run_piece(device *d, const struct op_linear_cross_entropy *a, const struct piece *p) {
    bool gradient = a->dx.data || a->dweight.data;
    view logits = {p->logits, p->rows, a->weight.rows, DTYPE_F32};
    struct op_linear product = {.x = rows_of(a->x, p), .weight = a->weight, .y = logits};
    TRY(d->ops.linear(d, &product));
    int parts = cpu_parts(d, p->rows * a->weight.rows);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < p->rows; r++) loss_row(a, p, r, gradient);
    if (!gradient) return LCKV_OK;
    product.dy = logits, product.dx = rows_of(a->dx, p), product.dweight = a->dweight;
    return d->ops.linear_backward(d, &product);
}

int CPU_ENTRY(cpu_linear_cross_entropy)(device *d, const struct op_linear_cross_entropy *a) {
    int64_t rows = a->x.rows, vocab_size = a->weight.rows, most = LOGITS_BYTES / (int64_t)sizeof(float);
    if (rows == 0) return LCKV_OK;
    if (vocab_size > 0) most /= vocab_size;
    if (most < LEAST_ROWS) most = LEAST_ROWS;
    int64_t pieces = (rows + most - 1) / most, each = (rows + pieces - 1) / pieces;
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OUTER, (size_t)rows * sizeof(double) + (size_t)(each * vocab_size) * sizeof(float),
                    &scratch));
    struct piece p = {.losses = scratch, .logits = (float *)((double *)scratch + rows)};
    for (; p.first < rows; p.first += each) {
        p.rows = rows - p.first < each ? rows - p.first : each;
        TRY(run_piece(d, a, &p));
    }
    double loss = 0;
    for (int64_t r = 0; r < rows; r++) loss += p.losses[r];
    if (a->loss.data) *(double *)a->loss.data += (double)*(const float *)a->scale.data * loss;
    return LCKV_OK;
}
