/* Dropout. A mask element depends on seed, stream and position only, not on threads. */
#include "base/rng.h"
#include "device/cpu/blocks.h"

/* Elements [at, at + n) of the mask: 0 if dropped, else the factor. `at` is a multiple of 4. */
static void make_mask(const struct op_dropout *a, int64_t at, int64_t n, float *mask) {
    uint64_t seed = *(const uint64_t *)a->seed.data;
    uint32_t threshold = dropout_threshold(a->p);
    float scale = dropout_scale(a->p);
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t words[4];
        rng_block(seed, a->stream, (uint64_t)(at + i) / 4, words);
        for (int64_t k = 0; k < 4 && i + k < n; k++) mask[i + k] = words[k] < threshold ? 0 : scale;
    }
}

static void forward(const struct op_dropout *a, int64_t at, int64_t n) {
    float mask[CPU_BLOCK], x_buffer[CPU_BLOCK], y_buffer[CPU_BLOCK];
    const float *x = cpu_block_in(a->x, at, n, x_buffer);
    float *y = cpu_block_out(a->y, at, y_buffer);
    make_mask(a, at, n, mask);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * mask[i];
    cpu_block_store(a->y, at, n, y);
}

static void backward(const struct op_dropout *a, int64_t at, int64_t n) {
    float mask[CPU_BLOCK];
    const float *dy = cpu_element(a->dy, at);
    float *dx = cpu_element(a->dx, at);
    make_mask(a, at, n, mask);
    for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * mask[i];
}

/* Runs `work` on blocks of n elements, divided between threads. */
static int walk(device *d, const struct op_dropout *a, int64_t n,
                void (*work)(const struct op_dropout *a, int64_t at, int64_t n)) {
    int64_t blocks = (n + CPU_BLOCK - 1) / CPU_BLOCK;
    int parts = cpu_parts(d, 16 * n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(blocks, parts, part);
        for (int64_t block = mine.begin; block < mine.end; block++) {
            int64_t at = block * CPU_BLOCK;
            work(a, at, cpu_block_length(at, n));
        }
    }
    return LCKV_OK;
}

int CPU_ENTRY(cpu_dropout)(device *d, const struct op_dropout *a) {
    return walk(d, a, cpu_elements(a->y), forward);
}

int CPU_ENTRY(cpu_dropout_backward)(device *d, const struct op_dropout *a) {
    return a->dx.data ? walk(d, a, cpu_elements(a->dy), backward) : LCKV_OK;
}
