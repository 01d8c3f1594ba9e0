/* The reference speeds of a device: reading and copying memory, and large products in f32, in bf16, and in bf16 with
 * weights in int8 and int4. See perf_main.c. */
#include "perf.h"

#include <stdio.h>

enum { ROUNDS = 7 };

static const struct {
    const char *name;
    dtype compute, weight;
} PRODUCTS[] = {{"f32", DTYPE_F32, DTYPE_F32},
                {"bf16", DTYPE_BF16, DTYPE_BF16},
                {"int8", DTYPE_BF16, DTYPE_INT8},
                {"int4", DTYPE_BF16, DTYPE_INT4}};

static int measure_product(device *d, dtype compute, dtype format, double *median) {
    device_speed s;
    double speed[ROUNDS];
    int status = device_speed_open_product(d, compute, format, 0, &s);
    for (int i = 0; i < ROUNDS && status >= 0; i++) status = device_speed_product(&s, &speed[i]);
    device_speed_close(&s);
    if (status >= 0) *median = perf_median(speed, ROUNDS);
    return status;
}

static int measure_memory(device *d, double *read, double *copy) {
    device_speed s;
    double reads[ROUNDS], copies[ROUNDS];
    int status = device_speed_open(d, DTYPE_F32, &s);
    for (int i = 0; i < ROUNDS && status >= 0; i++) {
        status = device_speed_copy(&s, &copies[i]);
        reads[i] = device_speed_read(&s);
    }
    device_speed_close(&s);
    if (status < 0) return status;
    *read = perf_median(reads, ROUNDS);
    *copy = perf_median(copies, ROUNDS);
    return LCKV_OK;
}

static int measure(device *d) {
    double read, copy, product;
    TRY(measure_memory(d, &read, &copy));
    printf("{\"bench\": \"speeds\", \"device\": \"%s\", \"features\": \"%s\", \"threads\": %d, "
           "\"read_gbytes_per_second\": %.2f, \"copy_gbytes_per_second\": %.2f",
           d->name, d->features, d->threads, 1e-9 * read, 1e-9 * copy);
    for (size_t i = 0; i < sizeof PRODUCTS / sizeof *PRODUCTS; i++) {
        if (!(DTYPE_BIT(PRODUCTS[i].weight) & (DTYPE_FLOATS | d->formats.linear))) continue;
        TRY(measure_product(d, PRODUCTS[i].compute, PRODUCTS[i].weight, &product));
        printf(", \"product_gflops_%s\": %.1f", PRODUCTS[i].name, 1e-9 * product);
    }
    printf("}\n");
    return LCKV_OK;
}

int perf_speeds(const perf_options *o) {
    device *d;
    TRY(device_open(o->device, o->threads, &d));
    int status = measure(d);
    device_close(d);
    return status;
}
