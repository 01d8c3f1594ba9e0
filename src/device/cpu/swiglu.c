/* y = silu(gate) * up, the gated activation of the MLP (Shazeer 2020, "GLU Variants Improve Transformer"). */
#include "device/cpu/blocks.h"

/* Row r of a call whose gate and up are one matrix, as a call with one row. */
static struct op_swiglu joined_row(const struct op_swiglu *a, int64_t r) {
    int64_t n = a->gate.cols / 2;
    struct op_swiglu row = {.gate = view_elements(a->gate, 2 * r * n, n),
                            .up = view_elements(a->gate, (2 * r + 1) * n, n)};
    if (a->y.data) row.y = view_elements(a->y, r * n, n);
    if (a->dy.data) row.dy = view_elements(a->dy, r * n, n);
    if (a->dgate.data) row.dgate = view_elements(a->dgate, 2 * r * n, n);
    if (a->dgate.data) row.dup = view_elements(a->dgate, (2 * r + 1) * n, n);
    if (a->y_again.data) row.y_again = view_elements(a->y_again, r * n, n);
    return row;
}

/* `part` of elements [0, n) of the call, or of the rows of a call whose gate and up are one matrix. */
static void run_part(const struct op_swiglu *a, int64_t n, int parts, int part,
                     void (*run)(const struct op_swiglu *a, int64_t begin, int64_t end)) {
    struct cpu_range mine = cpu_share(a->up.data ? n : a->gate.rows, parts, part);
    if (a->up.data) return run(a, mine.begin, mine.end);
    for (int64_t r = mine.begin; r < mine.end; r++) {
        struct op_swiglu row = joined_row(a, r);
        run(&row, 0, a->gate.cols / 2);
    }
}

static void forward(const struct op_swiglu *a, int64_t begin, int64_t end) {
    float gate_buffer[CPU_BLOCK], up_buffer[CPU_BLOCK], y_buffer[CPU_BLOCK];
    for (int64_t at = begin; at < end; at += CPU_BLOCK) {
        int64_t n = cpu_block_length(at, end);
        const float *restrict gate = cpu_block_in(a->gate, at, n, gate_buffer);
        const float *restrict up = cpu_block_in(a->up, at, n, up_buffer);
        float *restrict y = cpu_block_out(a->y, at, y_buffer);
        for (int64_t i = 0; i < n; i++) y[i] = gate[i] * cpu_sigmoid(gate[i]) * up[i];
        cpu_block_store(a->y, at, n, y);
    }
}

int CPU_ENTRY(cpu_swiglu)(device *d, const struct op_swiglu *a) {
    int64_t n = cpu_elements(a->y);
    int parts = cpu_parts(d, 8 * n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) run_part(a, n, parts, part, forward);
    return LCKV_OK;
}

/* silu'(x) = s (1 + x (1 - s)),  s = cpu_sigmoid(x) */
static void backward(const struct op_swiglu *a, int64_t begin, int64_t end) {
    float gate_buffer[CPU_BLOCK], up_buffer[CPU_BLOCK], y_buffer[CPU_BLOCK], s[CPU_BLOCK];
    for (int64_t at = begin; at < end; at += CPU_BLOCK) {
        int64_t n = cpu_block_length(at, end);
        const float *restrict gate = cpu_block_in(a->gate, at, n, gate_buffer);
        const float *restrict up = cpu_block_in(a->up, at, n, up_buffer);
        const float *restrict dy = cpu_element(a->dy, at);
        for (int64_t i = 0; i < n; i++) s[i] = cpu_sigmoid(gate[i]);
        if (a->dgate.data) {
            float *restrict dgate = cpu_element(a->dgate, at);
            for (int64_t i = 0; i < n; i++) dgate[i] += dy[i] * up[i] * s[i] * (1.0f + gate[i] * (1.0f - s[i]));
        }
        if (a->dup.data) {
            float *restrict dup = cpu_element(a->dup, at);
            for (int64_t i = 0; i < n; i++) dup[i] += dy[i] * gate[i] * s[i];
        }
        if (a->y_again.data) {
            float *restrict y = cpu_block_out(a->y_again, at, y_buffer);
            for (int64_t i = 0; i < n; i++) y[i] = gate[i] * s[i] * up[i];
            cpu_block_store(a->y_again, at, n, y);
        }
    }
}

int CPU_ENTRY(cpu_swiglu_backward)(device *d, const struct op_swiglu *a) {
    int64_t n = cpu_elements(a->dy);
    int parts = cpu_parts(d, 8 * n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) run_part(a, n, parts, part, backward);
    return LCKV_OK;
}
