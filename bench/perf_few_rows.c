/* Products of 1 to 16 rows with the weights of a model's MLP, as in decoding. Every product reads other weights, so
 * that they come from memory. Reference: reading memory with all threads, and a large product of the same type. See
 * perf_main.c. */
#include "perf.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 7, MAX_FEW_ROWS = 16 };

static const size_t WEIGHT_BYTES = 256 << 20; /* of all weights together */

static const struct {
    dtype weight, compute;
} TYPES[] = {{DTYPE_BF16, DTYPE_BF16},
             {DTYPE_F16, DTYPE_F32},
             {DTYPE_F32, DTYPE_F32},
             {DTYPE_INT8, DTYPE_BF16},
             {DTYPE_INT4, DTYPE_BF16}};

static int random_floats(device *d, void **memory, int64_t rows, int64_t cols, dtype type) {
    view v = {NULL, rows, cols, type};
    TRY(d->memory.alloc(d, view_bytes(v), memory));
    v.data = *memory;
    struct op_fill_normal fill = {.dst = v, .deviation = 1, .seed = 1};
    return DEVICE_RUN(d, fill_normal, &fill);
}

/* In a grouped format, the integers are the bits of random numbers. */
static int random_values(device *d, view *v) {
    if (dtype_element_bytes(v->type)) return random_floats(d, &v->data, v->rows, v->cols, v->type);
    int64_t floats = (int64_t)(view_bytes(*v) / sizeof(float)) + 1, scales = (int64_t)view_scale_bytes(*v) / 2;
    TRY(random_floats(d, &v->data, 1, floats, DTYPE_F32));
    return random_floats(d, &v->scales, 1, scales, DTYPE_F16);
}

/* Bytes per second over all weights of [out, in]. */
static int run_products(device *d, view weights, struct op_linear a, double *speed) {
    int64_t out = a.weight.rows, count = weights.rows / out;
    size_t bytes = view_bytes(a.weight) + view_scale_bytes(a.weight);
    double begin = clock_seconds();
    for (int64_t i = 0; i < count; i++) {
        a.weight = view_rows(weights, i * out, out);
        TRY(DEVICE_RUN(d, linear, &a));
    }
    TRY(d->memory.wait(d));
    *speed = (double)count * (double)bytes / (clock_seconds() - begin);
    return LCKV_OK;
}

static int measure_rows(device_speed *p, view weights, struct op_linear a, const char *shape) {
    double speed[ROUNDS], read[ROUNDS], product[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        TRY(run_products(p->device, weights, a, &speed[i]));
        TRY(device_speed_product(p, &product[i]));
        read[i] = device_speed_read(p);
    }
    double bytes = perf_median(speed, ROUNDS), all = (double)(view_bytes(a.weight) + view_scale_bytes(a.weight));
    double elements = bytes / all * (double)(a.weight.rows * a.weight.cols);
    printf("{\"bench\": \"few\", \"shape\": \"%s\", \"weight\": \"%s\", \"rows\": %lld, \"gbytes_per_second\": %.2f, "
           "\"read_gbytes_per_second\": %.2f, \"gflops\": %.1f, \"product_gflops\": %.1f}\n",
           shape, dtype_name(a.weight.type), (long long)a.x.rows, 1e-9 * bytes, 1e-9 * perf_median(read, ROUNDS),
           2e-9 * elements * (double)a.x.rows, 1e-9 * perf_median(product, ROUNDS));
    return LCKV_OK;
}

/* One shape in one type, with 1, 2, 4, 8 and 16 rows. */
static int measure_shape(device_speed *p, int type, int64_t out, int64_t in) {
    device *d = p->device;
    dtype format = TYPES[type].weight;
    size_t each = (dtype_row_bytes(format, in) + dtype_row_scale_bytes(format, in)) * (size_t)out;
    int64_t count = (int64_t)(WEIGHT_BYTES / each) + 1;
    view weights = {NULL, count * out, in, format};
    struct op_linear a = {.x = {NULL, MAX_FEW_ROWS, in, TYPES[type].compute},
                          .weight = {NULL, out, in, format},
                          .y = {NULL, MAX_FEW_ROWS, out, TYPES[type].compute}};
    char shape[64];
    snprintf(shape, sizeof shape, "%lldx%lld", (long long)out, (long long)in);
    int status = random_values(d, &weights);
    if (status >= 0) status = random_values(d, &a.x);
    if (status >= 0) status = random_values(d, &a.y);
    for (int64_t rows = 1; rows <= MAX_FEW_ROWS && status >= 0; rows *= 2) {
        a.x.rows = a.y.rows = rows;
        status = measure_rows(p, weights, a, shape);
    }
    d->memory.release(d, weights.data);
    if (weights.scales) d->memory.release(d, weights.scales);
    d->memory.release(d, a.x.data);
    d->memory.release(d, a.y.data);
    return status;
}

static int measure_types(device *d, const model_config *c) {
    int64_t hidden = c->hidden_size, width = c->intermediate_size;
    int status = LCKV_OK;
    for (int type = 0; type < (int)(sizeof TYPES / sizeof *TYPES) && status >= 0; type++) {
        device_speed p = {0};
        status = device_speed_open(d, TYPES[type].compute, &p);
        if (status >= 0) status = measure_shape(&p, type, width, hidden);
        if (status >= 0) status = measure_shape(&p, type, hidden, width);
        device_speed_close(&p);
    }
    return status;
}

int perf_few_rows(const perf_options *o) {
    model_config *c;
    device *d;
    TRY(config_read(o->config, NULL, &c));
    int status = device_open(o->device, o->threads, &d);
    if (status >= 0) status = measure_types(d, c);
    device_close(d);
    config_free(c);
    return status;
}
