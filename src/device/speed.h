/* The reference speeds of a device: a large matrix product, a large copy, and reading memory. Benchmarks compare the
 * speed of models and ops with them. */
#ifndef DEVICE_SPEED_H
#define DEVICE_SPEED_H

#include "device/device.h"

/* The operands of the measurements. */
typedef struct device_speed {
    device *device;
    struct op_linear product; /* y = x weight^T, square matrices; x and y of the compute type */
    struct op_cast copy;      /* f32 matrices, larger than the caches */
    double flops, bytes;      /* of one product; of one copy, read and written */
} device_speed;

/* Allocates the operands of all measurements and runs each op once. Close `s` also after a failure. */
int device_speed_open(device *d, dtype compute, device_speed *s);
/* The same for products only. `weight`: its format. `size`: rows and columns; 0 for the size of device_speed_open(). */
int device_speed_open_product(device *d, dtype compute, dtype weight, int64_t size, device_speed *s);
/* Allocates the values of a view and fills them with random numbers. In a grouped format, the integers are the bits of
 * random numbers. The caller releases data and scales, also after a failure. */
int device_speed_random(device *d, uint64_t stream, view *v);
void device_speed_close(device_speed *s);

/* Each measures once. */
int device_speed_product(const device_speed *s, double *flops_per_second);
int device_speed_copy(const device_speed *s, double *bytes_per_second); /* read and written */
/* Bytes per second that all threads read from memory, the limit of decoding; 0 without host memory. */
double device_speed_read(const device_speed *s);

#endif
