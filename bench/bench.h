/* What the benchmarks share. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "device/device.h"

typedef struct bench_options {
    const char *config;
    int batch, block, seconds, threads;
    dtype compute;
} bench_options;

/* Seconds, monotonic. */
double bench_now(void);
double bench_median(double *values, int count); /* sorts them */

/* A plain square product y = x weight^T of `compute` operands on a device. */
typedef struct bench_product {
    device *device;
    struct op_linear op;
    double flops;
} bench_product;

int bench_product_open(device *d, dtype compute, bench_product *out);
void bench_product_close(bench_product *p);
int bench_product_run(bench_product *p, double *flops_per_second); /* once */

int bench_train(const bench_options *o);

#endif
