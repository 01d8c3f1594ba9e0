/* Normal random numbers for new weights. Element i depends on seed, stream and i only, not on threads. */
#include "base/rng.h"
#include "device/cpu/blocks.h"

/* Elements [begin, end) of one block; begin is even. */
static void fill_block(const struct op_fill_normal *a, int64_t begin, int64_t end) {
    float buffer[CPU_BLOCK];
    for (int64_t i = begin; i < end; i += 2) {
        double pair[2];
        rng_normal2(a->seed, a->stream, (uint64_t)i / 2, pair);
        buffer[i - begin] = (float)(pair[0] * (double)a->deviation);
        if (i + 1 < end) buffer[i + 1 - begin] = (float)(pair[1] * (double)a->deviation);
    }
    cpu_narrow(cpu_element(a->dst, begin), a->dst.type, buffer, end - begin);
}

int CPU_ENTRY(cpu_fill_normal)(device *d, const struct op_fill_normal *a) {
    int64_t n = cpu_elements(a->dst), blocks = (n + CPU_BLOCK - 1) / CPU_BLOCK;
    int parts = cpu_parts(d, 64 * n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(blocks, parts, part);
        for (int64_t block = mine.begin; block < mine.end; block++) {
            int64_t begin = block * CPU_BLOCK;
            fill_block(a, begin, begin + cpu_block_length(begin, n));
        }
    }
    return LCKV_OK;
}
