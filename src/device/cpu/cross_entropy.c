/* Cross-entropy fused with the product that computes the logits. Rows are processed in chunks whose logits fit a
 * bounded buffer, so that [rows, vocab_size] of all rows is not stored. For gradients, the logits of a chunk are
 * replaced by their gradient in place. The three products are the device's linear entries (oneDNN's if available). */
#include "device/cpu/cpu.h"

#include <math.h>

enum { LOGITS_BYTES = 32 << 20, MIN_ROWS = 16 };

/* One chunk: rows [first, first + rows) of the call. */
struct chunk {
    int64_t first, rows;
    float *logits;  /* [rows, vocab_size] */
    double *losses; /* [all rows of the call] */
};

static float largest(const float *x, int64_t n) {
    float maximum = x[0];
#pragma omp simd reduction(max : maximum)
    for (int64_t i = 0; i < n; i++) maximum = x[i] > maximum ? x[i] : maximum;
    return maximum;
}

/* Summed in blocks, each in f32 and all in f64, so that the error does not grow with the vocabulary. */
static double sum_exponentials(const float *x, int64_t n, float maximum) {
    double total = 0;
    for (int64_t i = 0; i < n; i += 256) {
        int64_t end = i + 256 < n ? i + 256 : n;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = i; j < end; j++) sum += cpu_exp(x[j] - maximum);
        total += (double)sum;
    }
    return total;
}

/* 1 if no logit is larger and no earlier one is equal. */
static int32_t is_first_of_largest(const float *x, int64_t label, float maximum) {
    int64_t i = 0;
    while (x[i] < maximum) i++;
    return i == label;
}

/* d *loss / d logits = *scale * (softmax - one at the label) */
static void gradient_row(float *restrict x, int64_t n, float maximum, double sum, int64_t label, float scale) {
    float factor = (float)((double)scale / sum);
    for (int64_t i = 0; i < n; i++) x[i] = factor * cpu_exp(x[i] - maximum);
    x[label] -= scale;
}

static void loss_row(const struct op_linear_cross_entropy *a, const struct chunk *p, int64_t r, bool gradient) {
    int64_t row = p->first + r, vocab_size = a->weight.rows;
    int32_t label = ((const int32_t *)a->labels.data)[row];
    float *logits = p->logits + r * vocab_size, nll = 0;
    int32_t correct = 0;
    p->losses[row] = 0;
    if (label >= 0 && label < vocab_size) {
        float maximum = largest(logits, vocab_size);
        double sum = sum_exponentials(logits, vocab_size, maximum);
        p->losses[row] = log(sum) + (double)maximum - (double)logits[label];
        nll = (float)p->losses[row];
        correct = is_first_of_largest(logits, label, maximum);
        if (gradient) gradient_row(logits, vocab_size, maximum, sum, label, *(const float *)a->scale.data);
    } else if (gradient) {
        memset(logits, 0, (size_t)vocab_size * sizeof *logits);
    }
    if (a->nll.data) ((float *)a->nll.data)[row] = nll;
    if (a->correct.data) ((int32_t *)a->correct.data)[row] = correct;
}

static view rows_of(view v, const struct chunk *p) {
    if (v.data == NULL) return v;
    return (view){cpu_row(v, p->first), p->rows, v.cols, v.type};
}

static int run_chunk(device *d, const struct op_linear_cross_entropy *a, const struct chunk *p) {
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
    int64_t rows = a->x.rows, vocab_size = a->weight.rows, maximum = LOGITS_BYTES / (int64_t)sizeof(float);
    if (rows == 0) return LCKV_OK;
    if (vocab_size > 0) maximum /= vocab_size;
    if (maximum < MIN_ROWS) maximum = MIN_ROWS;
    int64_t chunks = (rows + maximum - 1) / maximum, each = (rows + chunks - 1) / chunks;
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OUTER, (size_t)rows * sizeof(double) + (size_t)(each * vocab_size) * sizeof(float),
                    &scratch));
    struct chunk p = {.losses = scratch, .logits = (float *)((double *)scratch + rows)};
    for (; p.first < rows; p.first += each) {
        p.rows = rows - p.first < each ? rows - p.first : each;
        TRY(run_chunk(d, a, &p));
    }
    double loss = 0;
    for (int64_t r = 0; r < rows; r++) loss += p.losses[r];
    if (a->loss.data) *(double *)a->loss.data += (double)*(const float *)a->scale.data * loss;
    return LCKV_OK;
}
