/* The yardsticks: one large matrix product and one large copy through the device's table. */
#include "bench.h"

#include <stdlib.h>
#include <time.h>

/* Long enough that calling it costs nothing: a product of 17 GFLOP on a CPU, of 1.1 TFLOP on a GPU. The copy goes
 * through matrices that no cache holds. */
enum { CPU_SIZE = 2048, GPU_SIZE = 8192, CPU_REPEATS = 1, GPU_REPEATS = 8 };

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_now(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

double bench_cpu(void) {
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static int random_matrix(device *d, int64_t size, dtype type, uint64_t stream, view *out) {
    *out = (view){NULL, size, size, type};
    TRY(d->memory.alloc(d, view_bytes(*out), &out->data));
    struct op_fill_normal a = {.dst = *out, .deviation = 1, .seed = 1, .stream = stream};
    return DEVICE_RUN(d, fill_normal, &a);
}

int bench_product_open(device *d, dtype compute, bench_product *p) {
    int64_t size = d->host_memory ? CPU_SIZE : GPU_SIZE;
    *p = (bench_product){.device = d, .flops = 2.0 * (double)size * (double)size * (double)size};
    TRY(random_matrix(d, size, compute, 1, &p->product.x));
    TRY(random_matrix(d, size, compute, 2, &p->product.weight));
    TRY(random_matrix(d, size, compute, 3, &p->product.y));
    TRY(random_matrix(d, 2 * size, DTYPE_F32, 4, &p->copy.src));
    TRY(random_matrix(d, 2 * size, DTYPE_F32, 5, &p->copy.dst));
    p->bytes = 2.0 * (double)view_bytes(p->copy.src);
    double ignored;
    TRY(bench_copy_run(p, &ignored));
    return bench_product_run(p, &ignored); /* the first call makes the primitive */
}

void bench_product_close(bench_product *p) {
    if (!p->device) return;
    void *memory[] = {p->product.x.data, p->product.weight.data, p->product.y.data, p->copy.src.data, p->copy.dst.data};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) p->device->memory.release(p->device, memory[i]);
}

int bench_product_run(bench_product *p, double *flops_per_second) {
    int repeats = p->device->host_memory ? CPU_REPEATS : GPU_REPEATS;
    TRY(p->device->memory.wait(p->device));
    double start = bench_now();
    for (int i = 0; i < repeats; i++) TRY(DEVICE_RUN(p->device, linear, &p->product));
    TRY(p->device->memory.wait(p->device));
    *flops_per_second = repeats * p->flops / (bench_now() - start);
    return LCKV_OK;
}

int bench_copy_run(bench_product *p, double *bytes_per_second) {
    int repeats = p->device->host_memory ? CPU_REPEATS : GPU_REPEATS;
    TRY(p->device->memory.wait(p->device));
    double start = bench_now();
    for (int i = 0; i < repeats; i++) TRY(DEVICE_RUN(p->device, cast, &p->copy));
    TRY(p->device->memory.wait(p->device));
    *bytes_per_second = repeats * p->bytes / (bench_now() - start);
    return LCKV_OK;
}
