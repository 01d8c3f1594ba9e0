/* The devices of device_open(). Each function fills the tables, the memory functions and `own` of a zeroed device. */
#ifndef DEVICE_OPEN_H
#define DEVICE_OPEN_H

#include "device/device.h"

int cpu_open(device *d, int threads);
int count_open(device *d);

/* Only if DEVICE_CUDA is defined. */
int cuda_open(device *d, int number); /* by number, from 0 */
bool cuda_usable(void);               /* whether the first GPU exists and has the features that lckv needs */
int cuda_count(void);                 /* GPUs that this process sees */

/* A device whose ops that read or write KV pages know all types of pages. */
static inline void device_add_page_formats(struct device_formats *f) {
    f->attention |= DTYPE_PAGES;
    f->scatter_rows |= DTYPE_PAGES;
    f->cast |= DTYPE_PAGES;
    f->rope_append |= DTYPE_PAGES;
    f->heads |= DTYPE_PAGES;
}

#endif
