/* The yardstick: one large matrix product through the device's table. */
#include "bench.h"

#include <stdlib.h>
#include <time.h>

enum { SIZE = 2048 }; /* 17 GFLOP: long enough that calling it costs nothing, three matrices of 16 MiB in f32 */

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static int random_matrix(device *d, dtype type, uint64_t stream, view *out) {
    *out = (view){NULL, SIZE, SIZE, type};
    TRY(d->memory.alloc(d, view_bytes(*out), &out->data));
    struct op_fill_normal a = {.dst = *out, .deviation = 1, .seed = 1, .stream = stream};
    return DEVICE_RUN(d, fill_normal, &a);
}

int bench_product_open(device *d, dtype compute, bench_product *p) {
    *p = (bench_product){.device = d, .flops = 2.0 * SIZE * SIZE * SIZE};
    TRY(random_matrix(d, compute, 1, &p->op.x));
    TRY(random_matrix(d, compute, 2, &p->op.weight));
    TRY(random_matrix(d, DTYPE_F32, 3, &p->op.y));
    double ignored;
    return bench_product_run(p, &ignored); /* the first call makes the primitive */
}

void bench_product_close(bench_product *p) {
    if (!p->device) return;
    p->device->memory.release(p->device, p->op.x.data);
    p->device->memory.release(p->device, p->op.weight.data);
    p->device->memory.release(p->device, p->op.y.data);
}

int bench_product_run(bench_product *p, double *flops_per_second) {
    double start = bench_now();
    TRY(DEVICE_RUN(p->device, linear, &p->op));
    TRY(p->device->memory.wait(p->device));
    *flops_per_second = p->flops / (bench_now() - start);
    return LCKV_OK;
}
