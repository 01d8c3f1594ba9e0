/* Opens the CPU: selects the entries of a CPU feature level and puts oneDNN's over them. */
#include "device/cpu/cpu.h"
#include "device/cpu/level.h"
#include "device/cpu/onednn.h"
#include "device/open.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

static const struct device_ops *level_ops(enum cpu_level level) {
#ifdef CPU_X86_LEVELS
    if (level >= CPU_AVX512) return &cpu_ops_avx512;
    if (level == CPU_AVX2) return &cpu_ops_avx2;
#endif
    (void)level;
    return &cpu_ops_base;
}

void cpu_run(device *d, int64_t rows, int parts, cpu_task *task, void *job) {
    struct cpu_state *state = d->own;
    int threads = parts < d->threads ? parts : d->threads;
    bool few = threads > 1 && rows <= CPU_FEW_ROWS;
    if (few && !state->few_threads) state->few_threads = cpu_threads_create(d->threads);
    if (few && state->few_threads) {
        cpu_threads_run(state->few_threads, parts, task, job);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int part = 0; part < parts; part++) task(job, part, omp_get_thread_num());
}

static const struct device_formats formats = {
    .embed = DTYPE_GROUPED,
    .linear = DTYPE_GROUPED,
    .linear_backward = DTYPE_GROUPED,
    .linear_cross_entropy = DTYPE_GROUPED,
    .project = DTYPE_GROUPED,
    .linear_add = DTYPE_GROUPED,
    .heads = DTYPE_GROUPED,
};

static void close(device *d) {
#ifdef CPU_ONEDNN
    onednn_close(d);
#endif
    cpu_threads_free(((struct cpu_state *)d->own)->few_threads);
    cpu_memory_free(d);
    free(d->own);
}

int cpu_open_level(device *d, int threads, enum cpu_level level) {
    REQUIRE(level <= cpu_level_here(), LCKV_ERROR_UNSUPPORTED, "this build or processor has no level %d", (int)level);
    struct cpu_state *state = calloc(1, sizeof *state);
    REQUIRE(state != NULL, LCKV_ERROR_MEMORY, "no memory for the cpu's state");
    state->level = level;
    *d = (device){.ops = *level_ops(level), .formats = formats, .name = "cpu", .host_memory = true, .own = state};
    device_fill_composed(&d->ops);
    device_add_page_formats(&d->formats);
    d->has_invariant_rows = true;
    d->threads = threads > 0 ? threads : device_processors();
    static const char *const names[] = {[CPU_BASE] = "base",
                                        [CPU_AVX2] = "avx2",
                                        [CPU_AVX512] = "avx512",
                                        [CPU_AVX512_BF16] = "avx512-bf16",
                                        [CPU_AMX] = "amx"};
    snprintf(d->features, sizeof d->features, "cpu %s", names[level]);
    cpu_memory_fill(&d->memory);
    d->memory.close = close;
    return LCKV_OK;
}

int cpu_open(device *d, int threads) {
    TRY(cpu_open_level(d, threads, cpu_level_here()));
#ifdef CPU_ONEDNN
    int status = onednn_open(d);
    if (status < 0) close(d);
    return status;
#else
    return LCKV_OK;
#endif
}
