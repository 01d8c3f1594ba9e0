/* Elementwise ops: add, accumulate, cast. Tensors are flat here, and threads divide the elements. */
#include "device/cpu/groups.h"
#include "device/cpu/kv_int8.h"

int CPU_ENTRY(cpu_add)(device *d, const struct op_add *a) {
    const float *left = a->a.data, *right = a->b.data;
    float *sum = a->y.data; /* may be `left` or `right` */
    int64_t n = cpu_elements(a->y);
    int parts = cpu_parts(d, n);
#pragma omp parallel for simd num_threads(parts) schedule(static)
    for (int64_t i = 0; i < n; i++) sum[i] = left[i] + right[i];
    return LCKV_OK;
}

static void accumulate(const struct op_accumulate *a, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += CPU_BLOCK) {
        float src_buffer[CPU_BLOCK], old_buffer[CPU_BLOCK], dst_buffer[CPU_BLOCK];
        int64_t n = cpu_block_length(at, end);
        const float *term = cpu_block_in(a->src, at, n, src_buffer), *old = cpu_block_in(a->dst, at, n, old_buffer);
        float *sum = cpu_block_out(a->dst, at, dst_buffer); /* may be `old` */
#pragma omp simd
        for (int64_t i = 0; i < n; i++) sum[i] = old[i] + a->scale * term[i];
        cpu_block_store(a->dst, at, n, sum);
    }
}

int CPU_ENTRY(cpu_accumulate)(device *d, const struct op_accumulate *a) {
    int64_t n = cpu_elements(a->dst);
    int parts = cpu_parts(d, n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(n, parts, part);
        accumulate(a, mine.begin, mine.end);
    }
    return LCKV_OK;
}

static int cast_groups(device *d, const struct op_cast *a) {
    int parts = cpu_parts(d, cpu_elements(a->dst));
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->dst.rows; r++) cpu_convert_groups(a->dst, r, a->src, r);
    return LCKV_OK;
}

static int cast_heads(device *d, const struct op_cast *a) {
    TRY(kv_int8_check(a->src));
    TRY(kv_int8_check(a->dst));
    int parts = cpu_row_parts(d, a->dst.rows, cpu_elements(a->dst));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->dst.rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) kv_int8_convert_row(a->dst, r, a->src, r);
    }
    return LCKV_OK;
}

/* Also widens weights in grouped formats, for onednn.c. */
int CPU_ENTRY(cpu_cast)(device *d, const struct op_cast *a) {
    if (cpu_is_grouped(a->src.type)) return cast_groups(d, a);
    int64_t n = cpu_elements(a->dst);
    if (a->src.type == DTYPE_KV_INT8 || a->dst.type == DTYPE_KV_INT8) return n ? cast_heads(d, a) : LCKV_OK;
    int parts = cpu_parts(d, n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(n, parts, part);
        cpu_convert(a->dst, mine.begin, a->src, mine.begin, mine.end - mine.begin);
    }
    return LCKV_OK;
}
