/* Comparisons of runs with int8 weights.
 *
 * Two steps lie between them and the expected values, which are those of the folder's own weights. Quantizing
 * changes the weights: the loss with the dequantized weights, in f32, is within a bound that follows from the
 * expected gradients. Kernels that read int8 may round their input too: their logits are near those with the
 * dequantized weights. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Replaces the values of a weight by half their scales: the most that quantizing changes them. */
static void halve_scales(float *values, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t first = 0; first < cols; first += DTYPE_GROUP) {
            float largest = 0, *row = values + r * cols;
            int64_t end = first + DTYPE_GROUP < cols ? first + DTYPE_GROUP : cols;
            for (int64_t c = first; c < end; c++) largest = fmaxf(largest, fabsf(row[c]));
            for (int64_t c = first; c < end; c++) row[c] = largest / 254;
        }
}

/* The sum over all weights of |gradient| times half a scale: to first order, the loss changes by no more. *found is
 * false if the folder has no gradients. */
static int loss_bound(golden *g, double *bound, bool *found) {
    params *p = g->model->params;
    *bound = 0;
    *found = false;
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        char name[128];
        snprintf(name, sizeof name, "plan.grad.%s", w->name);
        const safetensors_entry *e = golden_expected(g, name);
        if (w->dimensions != 2 || !e || e->elements != w->rows * w->cols) continue;
        float *half = malloc(e->bytes), value;
        int status = params_get(p, i, half);
        if (status >= 0) halve_scales(half, w->rows, w->cols);
        for (int64_t k = 0; k < e->elements && status >= 0; k++) {
            memcpy(&value, e->data + 4 * k, 4);
            *bound += fabs((double)value) * (double)half[k];
        }
        free(half);
        TRY(status);
        *found = true;
    }
    return LCKV_OK;
}

static void compare_loss(golden *g, float loss) {
    const safetensors_entry *e = golden_expected(g, "plan.loss");
    float expected;
    double bound;
    bool found;
    if (!e) return;
    memcpy(&expected, e->data, 4);
    if (loss_bound(g, &bound, &found) < 0) {
        golden_report(g, "plan.loss", false, "%s", lckv_last_error());
        return;
    }
    double error = fabs((double)loss - (double)expected);
    if (found) golden_report(g, "plan.loss", error <= bound, "error %.2e, allowed %.2e", error, bound);
}

static void record(golden *g, const char *name, const float *found, int64_t count) {
    golden_record *r = calloc(1, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    r->values = malloc((size_t)count * sizeof *r->values);
    memcpy(r->values, found, (size_t)count * sizeof *r->values);
    r->count = count;
    r->next = g->records;
    g->records = r;
}

/* Rounding the input to 8 bits in groups of 32 changes a value by at most 1 / 254 of the largest magnitude of the
 * group, and with a uniform distribution by 1 / (254 sqrt(3)) of it in the root mean square. The largest of 32
 * values is at most some 4 times their root mean square, so that a product, a sum of independent terms, changes by
 * at most u = 4 / (254 sqrt(3)) of itself. A layer has four successive products (q, k, v; o; gate, up; down), and
 * the head is one more. As for bf16, twice the error of independent changes is allowed. */
static double rounded_input_tolerance(const golden *g) {
    return 2 * 4 / (254 * sqrt(3)) * sqrt(4.0 * golden_layers(g) + 1) * g->largest_logit;
}

static void compare_with_record(golden *g, const char *name, const float *found, int64_t count) {
    const golden_record *r = g->records;
    while (r && strcmp(r->name, name)) r = r->next;
    if (!r || r->count != count) {
        golden_report(g, name, false, "no result with dequantized weights");
        return;
    }
    double worst = 0, allowed = rounded_input_tolerance(g);
    bool finite = true;
    for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)found[i] - (double)r->values[i]);
        finite = finite && isfinite(error);
        worst = error > worst ? error : worst;
    }
    golden_report(g, name, finite && worst <= allowed, "largest error %.2e, allowed %.2e", worst, allowed);
}

void golden_compare_quantized(golden *g, const char *name, const float *found, int64_t count) {
    if (g->weights == GOLDEN_INT8) {
        compare_with_record(g, name, found, count);
        return;
    }
    record(g, name, found, count);
    if (!strcmp(name, "plan.loss")) compare_loss(g, *found);
}

void golden_free_records(golden_record *records) {
    while (records) {
        golden_record *next = records->next;
        free(records->values);
        free(records);
        records = next;
    }
}
