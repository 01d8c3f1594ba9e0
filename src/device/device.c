/* Opens and closes a device by its name. */
#include "device/device.h"
#include "device/open.h"
#include "device/profile.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "cuda" is the first GPU, "cuda:N" the one with number N. */
static int open_cuda(device *d, const char *name) {
    int number = 0, length = 4;
    if (name[4] == ':') sscanf(name, "cuda:%4d%n", &number, &length);
    REQUIRE(!name[length] && number >= 0, LCKV_ERROR_ARGUMENT, "expected device cuda or cuda:N, found \"%s\"", name);
#ifdef DEVICE_CUDA
    return cuda_open(d, number);
#else
    (void)d;
    return fail(LCKV_ERROR_UNSUPPORTED, "device %s: this lckv was built without CUDA", name);
#endif
}

/* The first GPU if lckv can use it, else the CPU. A GPU that fails is an error: lckv does not silently use a much
 * slower device. */
static int open_best(device *d, int threads) {
#ifdef DEVICE_CUDA
    if (cuda_usable()) return open_cuda(d, "cuda");
#endif
    return cpu_open(d, threads);
}

static int open_named(device *d, const char *name, int threads) {
    if (strcmp(name, "auto") == 0) return open_best(d, threads);
    if (strcmp(name, "cpu") == 0) return cpu_open(d, threads);
    if (strcmp(name, "count") == 0) return count_open(d);
    if (strncmp(name, "cuda", 4) == 0) return open_cuda(d, name);
    return fail(LCKV_ERROR_ARGUMENT, "expected device auto, cpu, cuda, cuda:N or count, found \"%s\"", name);
}

int device_open(const char *name, int threads, device **out) {
    *out = NULL;
    REQUIRE(threads >= 0, LCKV_ERROR_ARGUMENT, "expected a number of threads from 0 (all), found %d", threads);
    device *d = calloc(1, sizeof *d);
    REQUIRE(d != NULL, LCKV_ERROR_MEMORY, "no memory for a device");
    int status = open_named(d, name, threads);
    if (status < 0) {
        free(d);
        return status;
    }
    *out = d;
    return LCKV_OK;
}

int device_processors(void) {
    return omp_get_num_procs();
}

int device_gpus(void) {
#ifdef DEVICE_CUDA
    if (cuda_usable()) return cuda_count();
#endif
    return 0;
}

void device_close(device *d) {
    if (d == NULL) return;
    device_profile_discard(d);
    d->memory.close(d);
    free(d);
}
