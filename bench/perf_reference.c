/* The reference speed: one large matrix product and one large copy through the device's op table; reading memory. */
#include "perf.h"

#include <stdlib.h>
#include <time.h>

/* Large enough that the overhead of a call does not matter: 17 GFLOP on a CPU, 1.1 TFLOP on a GPU. The matrices that
 * are copied are larger than the caches. */
enum { CPU_SIZE = 2048, GPU_SIZE = 8192, CPU_REPEATS = 1, GPU_REPEATS = 8 };

double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double perf_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static int random_matrix(device *d, int64_t size, dtype type, uint64_t stream, view *out) {
    *out = (view){NULL, size, size, type};
    TRY(d->memory.alloc(d, view_bytes(*out), &out->data));
    struct op_fill_normal a = {.dst = *out, .deviation = 1, .seed = 1, .stream = stream};
    return DEVICE_RUN(d, fill_normal, &a);
}

int perf_reference_open(device *d, dtype compute, perf_reference *p) {
    int64_t size = d->host_memory ? CPU_SIZE : GPU_SIZE;
    *p = (perf_reference){.device = d, .flops = 2.0 * (double)size * (double)size * (double)size};
    TRY(random_matrix(d, size, compute, 1, &p->product.x));
    TRY(random_matrix(d, size, compute, 2, &p->product.weight));
    TRY(random_matrix(d, size, compute, 3, &p->product.y));
    TRY(random_matrix(d, 2 * size, DTYPE_F32, 4, &p->copy.src));
    TRY(random_matrix(d, 2 * size, DTYPE_F32, 5, &p->copy.dst));
    p->bytes = 2.0 * (double)view_bytes(p->copy.src);
    double ignored;
    TRY(perf_run_copy(p, &ignored));
    return perf_run_product(p, &ignored); /* the first call creates the primitive */
}

void perf_reference_close(perf_reference *p) {
    if (!p->device) return;
    void *memory[] = {p->product.x.data, p->product.weight.data, p->product.y.data, p->copy.src.data, p->copy.dst.data};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) p->device->memory.release(p->device, memory[i]);
}

int perf_run_product(perf_reference *p, double *flops_per_second) {
    int repeats = p->device->host_memory ? CPU_REPEATS : GPU_REPEATS;
    TRY(p->device->memory.wait(p->device));
    double start = clock_seconds();
    for (int i = 0; i < repeats; i++) TRY(DEVICE_RUN(p->device, linear, &p->product));
    TRY(p->device->memory.wait(p->device));
    *flops_per_second = repeats * p->flops / (clock_seconds() - start);
    return LCKV_OK;
}

int perf_run_copy(perf_reference *p, double *bytes_per_second) {
    int repeats = p->device->host_memory ? CPU_REPEATS : GPU_REPEATS;
    TRY(p->device->memory.wait(p->device));
    double start = clock_seconds();
    for (int i = 0; i < repeats; i++) TRY(DEVICE_RUN(p->device, cast, &p->copy));
    TRY(p->device->memory.wait(p->device));
    *bytes_per_second = repeats * p->bytes / (clock_seconds() - start);
    return LCKV_OK;
}

typedef uint64_t words __attribute__((vector_size(16)));
enum {
    LINE_WORDS = 4,
    AHEAD_LINES = 128
}; /* vectors of a cache line; lines that are prefetched before they are read */

static uint64_t read_lines(const words *from, int64_t begin, int64_t end) {
    words a = {0}, b = {0}, c = {0}, d = {0};
    for (const words *at = from + begin * LINE_WORDS; at < from + end * LINE_WORDS; at += LINE_WORDS) {
        __builtin_prefetch(at + AHEAD_LINES * LINE_WORDS);
        a ^= at[0];
        b ^= at[1];
        c ^= at[2];
        d ^= at[3];
    }
    words all = a ^ b ^ c ^ d;
    return all[0] ^ all[1];
}

double perf_run_read(const perf_reference *p) {
    if (!p->device->host_memory) return 0;
    const view *both[] = {&p->copy.src, &p->copy.dst};
    int threads = p->device->threads;
    int64_t lines = (int64_t)(view_bytes(p->copy.src) / (LINE_WORDS * sizeof(words)));
    uint64_t all = 0;
    double start = clock_seconds();
    for (int i = 0; i < 2; i++) {
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(^ : all)
        for (int part = 0; part < threads; part++)
            all ^= read_lines(both[i]->data, lines * part / threads, lines * (part + 1) / threads);
    }
    double seconds = clock_seconds() - start;
    volatile uint64_t kept = all; /* so that reading is not optimized away */
    (void)kept;
    return p->bytes / seconds;
}
