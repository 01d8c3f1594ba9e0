/* Measurements of a device, see device_measure.h. Implements lckv_trainer_peak() and lckv_trainer_memory() of lckv.h.
 */
#include "train/cost/device_measure.h"

#include "base/clock.h"
#include "train/trainer.h"

#include <stdio.h>
#include <unistd.h>

/* ---------------------------------------------------------------- matrix product */

enum { CPU_SIZE = 1024, GPU_SIZE = 4096, REPEATS = 4 };

static int random_matrix(device *d, int64_t size, dtype type, uint64_t stream, view *out) {
    *out = (view){NULL, size, size, type};
    TRY(d->memory.alloc(d, view_bytes(*out), &out->data));
    struct op_fill_normal a = {.dst = *out, .deviation = 1, .seed = 1, .stream = stream};
    return DEVICE_RUN(d, fill_normal, &a);
}

static int seconds_of(device *d, const struct op_linear *product, double *seconds) {
    double begin = clock_seconds();
    TRY(DEVICE_RUN(d, linear, product));
    TRY(d->memory.wait(d));
    *seconds = clock_seconds() - begin;
    return LCKV_OK;
}

/* The fastest of several runs: the first one prepares primitives, and other processes may disturb some of them. */
static int fastest(device *d, const struct op_linear *product, double *seconds) {
    TRY(seconds_of(d, product, seconds));
    for (int i = 0; i < REPEATS; i++) {
        double again;
        TRY(seconds_of(d, product, &again));
        if (again < *seconds) *seconds = again;
    }
    return LCKV_OK;
}

int device_measure_product(device *d, dtype compute, double *flops_per_second) {
    int64_t size = d->host_memory ? CPU_SIZE : GPU_SIZE;
    struct op_linear product = {.bias = {0}};
    double seconds = 0;
    *flops_per_second = 0;
    int status = random_matrix(d, size, compute, 1, &product.x);
    if (status >= 0) status = random_matrix(d, size, compute, 2, &product.weight);
    if (status >= 0) status = random_matrix(d, size, compute, 3, &product.y);
    if (status >= 0) status = fastest(d, &product, &seconds);
    view *matrices[] = {&product.x, &product.weight, &product.y};
    for (int i = 0; i < 3; i++)
        if (matrices[i]->data) d->memory.release(d, matrices[i]->data);
    if (status >= 0) *flops_per_second = 2.0 * (double)size * (double)size * (double)size / seconds;
    return status;
}

int lckv_trainer_peak(lckv_trainer *t, double *flops_per_second) {
    TRY(device_measure_product(t->device, t->stepper->graph->compute, flops_per_second));
    *flops_per_second *= t->collectives->ranks;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- memory */

int64_t process_resident_bytes(void) {
    long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*d %lld", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

int64_t device_memory_in_use(device *d) {
    size_t free_bytes, total_bytes;
    if (d->host_memory) return process_resident_bytes();
    return d->memory.available(d, &free_bytes, &total_bytes) < 0 ? 0 : (int64_t)(total_bytes - free_bytes);
}

int64_t lckv_trainer_memory(const lckv_trainer *t) {
    return device_memory_in_use(t->device);
}
