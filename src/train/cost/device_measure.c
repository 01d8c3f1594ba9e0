/* Measurements of a device, see device_measure.h. Implements lckv_trainer_peak() and lckv_trainer_memory() of lckv.h.
 */
#include "train/cost/device_measure.h"

#include "device/speed.h"
#include "train/trainer.h"

#include <stdio.h>
#include <unistd.h>

/* ---------------------------------------------------------------- matrix product */

/* Smaller than the matrices of device_speed_open(), so that a run starts without delay. */
enum { CPU_SIZE = 1024, GPU_SIZE = 4096, REPEATS = 4 };

/* The fastest of several runs, because other processes may disturb some of them. */
int device_measure_product(device *d, dtype compute, double *flops_per_second) {
    device_speed s;
    *flops_per_second = 0;
    int status = device_speed_open_product(d, compute, compute, d->host_memory ? CPU_SIZE : GPU_SIZE, &s);
    for (int i = 0; i < REPEATS && status >= 0; i++) {
        double speed = 0;
        status = device_speed_product(&s, &speed);
        if (speed > *flops_per_second) *flops_per_second = speed;
    }
    device_speed_close(&s);
    if (status < 0) *flops_per_second = 0;
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

int64_t process_peak_bytes(void) {
    long long kib = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %lld kB", &kib) == 1) break;
    if (file) fclose(file);
    return kib * 1024;
}

int64_t device_memory_in_use(device *d) {
    size_t free_bytes, total_bytes;
    if (d->host_memory) return process_resident_bytes();
    return d->memory.available(d, &free_bytes, &total_bytes) < 0 ? 0 : (int64_t)(total_bytes - free_bytes);
}

int64_t lckv_trainer_memory(const lckv_trainer *t) {
    return device_memory_in_use(t->device);
}
