/* RMSNorm (Zhang and Sennrich 2019) of whole rows or of each head: a row has cols / width groups with a norm each. */
#include "device/cpu/blocks.h"

#include <math.h>

static float sum_of_squares(view x, int64_t begin, int64_t end) {
    float sum = 0.0f, buffer[CPU_BLOCK];
    for (int64_t at = begin; at < end; at += CPU_BLOCK) {
        int64_t n = cpu_block_length(at, end);
        const float *block = cpu_block_in(x, at, n, buffer);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += block[i] * block[i];
    }
    return sum;
}

/* y = weight * x * rstd for the group that starts at element `at`. */
static void scale(const struct op_rms_norm *a, view to, int64_t at, float rstd) {
    float x_buffer[CPU_BLOCK], weight_buffer[CPU_BLOCK], y_buffer[CPU_BLOCK];
    int64_t width = a->weight.cols;
    for (int64_t c = 0; c < width; c += CPU_BLOCK) {
        int64_t n = cpu_block_length(c, width);
        const float *restrict x = cpu_block_in(a->x, at + c, n, x_buffer);
        const float *restrict weight = cpu_block_in(a->weight, c, n, weight_buffer);
        float *restrict y = cpu_block_out(to, at + c, y_buffer);
        for (int64_t i = 0; i < n; i++) y[i] = weight[i] * (x[i] * rstd);
        cpu_block_store(to, at + c, n, y);
    }
}

int CPU_ENTRY(cpu_rms_norm)(device *d, const struct op_rms_norm *a) {
    int64_t width = a->weight.cols, runs = cpu_elements(a->rstd);
    float *rstd = a->rstd.data;
    int parts = cpu_row_parts(d, a->x.rows, 2 * cpu_elements(a->x));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(runs, parts, part);
        for (int64_t run = mine.begin; run < mine.end; run++) {
            float mean = sum_of_squares(a->x, run * width, (run + 1) * width) / (float)(width > 0 ? width : 1);
            rstd[run] = 1.0f / sqrtf(mean + a->eps);
            scale(a, a->y, run * width, rstd[run]);
        }
    }
    return LCKV_OK;
}

/* sum of dy * weight * x over the group that starts at element `at` */
static float weighted_product(const struct op_rms_norm *a, const float *restrict weight, int64_t at) {
    float sum = 0.0f, buffer[CPU_BLOCK];
    int64_t width = a->weight.cols;
    for (int64_t c = 0; c < width; c += CPU_BLOCK) {
        int64_t n = cpu_block_length(c, width);
        const float *x = cpu_block_in(a->x, at + c, n, buffer);
        const float *dy = cpu_element(a->dy, at + c);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += dy[i] * weight[c + i] * x[i];
    }
    return sum;
}

/* With g = dy * weight:  dx += rstd * g - x * rstd^3 * mean(g * x),   dweight += dy * x * rstd */
static void backward_run(const struct op_rms_norm *a, const float *restrict weight, float *restrict dweight, int64_t at,
                         float rstd) {
    float buffer[CPU_BLOCK];
    int64_t width = a->weight.cols;
    float pull = 0.0f;
    if (a->dx.data) pull = weighted_product(a, weight, at) / (float)width * rstd * rstd * rstd;
    for (int64_t c = 0; c < width; c += CPU_BLOCK) {
        int64_t n = cpu_block_length(c, width);
        const float *restrict x = cpu_block_in(a->x, at + c, n, buffer);
        const float *restrict dy = cpu_element(a->dy, at + c);
        if (a->dx.data) {
            float *restrict dx = cpu_element(a->dx, at + c);
            for (int64_t i = 0; i < n; i++) dx[i] += rstd * dy[i] * weight[c + i] - pull * x[i];
        }
        if (a->dweight.data) {
            for (int64_t i = 0; i < n; i++) dweight[c + i] += dy[i] * x[i] * rstd;
        }
    }
}

/* Each part sums its own dweight [width]; the sums are added in order. */
int CPU_ENTRY(cpu_rms_norm_backward)(device *d, const struct op_rms_norm *a) {
    int64_t width = a->weight.cols, runs = cpu_elements(a->rstd);
    const float *rstd = a->rstd.data;
    if (width == 0) return LCKV_OK;
    int parts = cpu_parts(d, 4 * cpu_elements(a->x));
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)(parts + 1) * (size_t)width * sizeof(float), &scratch));
    float *weight = scratch, *partial = weight + width;
    cpu_widen(weight, a->weight.data, a->weight.type, width);
    memset(partial, 0, (size_t)parts * (size_t)width * sizeof(float));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(runs, parts, part);
        for (int64_t run = mine.begin; run < mine.end; run++) {
            backward_run(a, weight, partial + part * width, run * width, rstd[run]);
            if (a->y_again.data) scale(a, a->y_again, run * width, rstd[run]);
        }
    }
    float *dweight = a->dweight.data;
    for (int part = 0; part < parts && dweight; part++) {
        for (int64_t i = 0; i < width; i++) dweight[i] += partial[part * width + i];
    }
    return LCKV_OK;
}
