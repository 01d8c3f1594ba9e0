/* Rotary position embedding (Su et al. 2021, "RoFormer"): the table of angles, the rotation, and the rotation of the
 * heads of one matrix. */
#include "device/cpu/blocks.h"

#include <math.h>

/* The factor of the frequencies of a long row from one pair to the next (dynamic scaling); 1 for other rows. */
static double shrinking(const struct op_rope_angles *a, int64_t length) {
    int64_t half = a->inverse_frequencies.cols;
    if (length <= a->limit || a->inverse_frequencies.rows > 1 || half < 2) return 1;
    return pow(a->growth * (double)length / (double)a->limit - (a->growth - 1), -1.0 / (double)(half - 1));
}

static void row_angles(const struct op_rope_angles *a, int64_t r) {
    int64_t half = a->inverse_frequencies.cols, length = a->lengths.data ? ((const int64_t *)a->lengths.data)[r] : 0;
    bool second = length > a->limit && a->inverse_frequencies.rows > 1;
    const double *frequencies = cpu_row(a->inverse_frequencies, second);
    double position = (double)((const int64_t *)a->positions.data)[r], shrinks = shrinking(a, length);
    float *cosines = cpu_row(a->angles, r), *sines = cosines + half;
    for (int64_t i = 0; i < half; i++) {
        double angle = position * (shrinks == 1 ? frequencies[i] : frequencies[i] * pow(shrinks, (double)i));
        cosines[i] = (float)(cos(angle) * (double)a->scale);
        sines[i] = (float)(sin(angle) * (double)a->scale);
    }
}

int CPU_ENTRY(cpu_rope_angles)(device *d, const struct op_rope_angles *a) {
    /* libm's cos and sin are also exact for large arguments */
    int parts = cpu_row_parts(d, a->positions.rows, 64 * cpu_elements(a->angles) / 2);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->positions.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) row_angles(a, r);
    }
    return LCKV_OK;
}

/* Rotates the two halves of one head, which starts at element `from` of x and `at` of y, by the row's angles. */
static void rotate(view y, int64_t at, view x, int64_t from, const float *restrict cosines, const float *restrict sines,
                   int64_t half) {
    float buffers[4][CPU_BLOCK];
    for (int64_t i = 0; i < half; i += CPU_BLOCK) {
        int64_t n = cpu_block_length(i, half), low = at + i, high = at + half + i;
        const float *restrict x0 = cpu_block_in(x, from + i, n, buffers[0]);
        const float *restrict x1 = cpu_block_in(x, from + half + i, n, buffers[1]);
        float *restrict y0 = cpu_block_out(y, low, buffers[2]);
        float *restrict y1 = cpu_block_out(y, high, buffers[3]);
        for (int64_t j = 0; j < n; j++) {
            y0[j] = x0[j] * cosines[i + j] - x1[j] * sines[i + j];
            y1[j] = x1[j] * cosines[i + j] + x0[j] * sines[i + j];
        }
        cpu_block_store(y, low, n, y0);
        cpu_block_store(y, high, n, y1);
    }
}

int CPU_ENTRY(cpu_rope)(device *d, const struct op_rope *a) {
    int64_t half = a->head_dim / 2;
    int parts = cpu_row_parts(d, a->y.rows, cpu_elements(a->y));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->y.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            const float *cosines = cpu_row(a->angles, r), *sines = cosines + half;
            for (int64_t at = r * a->y.cols; at < (r + 1) * a->y.cols; at += a->head_dim) {
                rotate(a->y, at, a->x, at, cosines, sines, half);
            }
        }
    }
    return LCKV_OK;
}

/* dx += dy rotated back. */
static void rotate_back(float *restrict dx, const float *restrict dy, const float *restrict cosines,
                        const float *restrict sines, int64_t half) {
    for (int64_t i = 0; i < half; i++) {
        dx[i] += dy[i] * cosines[i] + dy[half + i] * sines[i];
        dx[half + i] += dy[half + i] * cosines[i] - dy[i] * sines[i];
    }
}

int CPU_ENTRY(cpu_rope_backward)(device *d, const struct op_rope *a) {
    int64_t half = a->head_dim / 2;
    if (!a->dx.data) return LCKV_OK;
    int parts = cpu_parts(d, cpu_elements(a->dx));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->dx.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            const float *cosines = cpu_row(a->angles, r), *sines = cosines + half;
            float *dx = cpu_row(a->dx, r);
            const float *dy = cpu_row(a->dy, r);
            for (int64_t c = 0; c < a->dx.cols; c += a->head_dim) rotate_back(dx + c, dy + c, cosines, sines, half);
        }
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- split_heads */

/* Row r of a part, rotated, from element `from` of x on. Returns the part's end in x. */
static int64_t rotate_part(const struct op_split_heads *a, view part, int64_t r, int64_t from) {
    int64_t half = a->head_dim / 2;
    if (!part.data) return from;
    const float *cosines = cpu_row(a->angles, r);
    for (int64_t c = 0; c < part.cols; c += a->head_dim)
        rotate(part, r * part.cols + c, a->x, from + c, cosines, cosines + half, half);
    return from + part.cols;
}

int CPU_ENTRY(cpu_split_heads)(device *d, const struct op_split_heads *a) {
    int parts = cpu_parts(d, cpu_elements(a->x));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->x.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            int64_t at = rotate_part(a, a->q, r, r * a->x.cols);
            at = rotate_part(a, a->k, r, at);
            if (a->v.data) memcpy(cpu_row(a->v, r), cpu_element(a->x, at), dtype_row_bytes(a->v.type, a->v.cols));
        }
    }
    return LCKV_OK;
}

/* The gradient of a part of row r goes to dx; a part of x may have none. Returns the end of the part in dx. */
static float *rotate_part_back(const struct op_split_heads *a, view part, view gradient, int64_t r, float *dx) {
    int64_t half = a->head_dim / 2;
    if (!part.data) return dx;
    const float *cosines = cpu_row(a->angles, r), *dy = gradient.data ? cpu_row(gradient, r) : NULL;
    for (int64_t c = 0; dy && c < part.cols; c += a->head_dim)
        rotate_back(dx + c, dy + c, cosines, cosines + half, half);
    return dx + part.cols;
}

int CPU_ENTRY(cpu_split_heads_backward)(device *d, const struct op_split_heads *a) {
    if (!a->dx.data) return LCKV_OK;
    int parts = cpu_parts(d, cpu_elements(a->dx));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->dx.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            float *dx = rotate_part_back(a, a->q, a->dq, r, cpu_row(a->dx, r));
            dx = rotate_part_back(a, a->k, a->dk, r, dx);
            const float *dv = a->dv.data ? cpu_row(a->dv, r) : NULL;
            for (int64_t c = 0; dv && c < a->dv.cols; c++) dx[c] += dv[c];
        }
    }
    return LCKV_OK;
}
