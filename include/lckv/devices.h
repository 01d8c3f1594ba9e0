/* Where models run: devices, their speeds and profiles, and the processes that share the work on one model. */
#ifndef LCKV_DEVICES_H
#define LCKV_DEVICES_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- devices */

/* A CPU or GPU that models run on. */
typedef struct lckv_device lckv_device;

/* Opens a device. `name`:
 *   "cpu"             the CPU
 *   "cuda", "cuda:N"  an NVIDIA GPU: the first one, or number N
 *   "auto"            the first usable GPU, else the CPU
 *   "count"           computes nothing and counts bytes and FLOPs
 * `threads`: number of CPU threads; 0 uses every processor that this process may use. Free all models of a device
 * before you close it. LCKV_ERROR_ARGUMENT: another name. LCKV_ERROR_UNSUPPORTED: a GPU, but the library was built
 * without CUDA. LCKV_ERROR_DEVICE: the GPU is missing, too old, or used exclusively by another process. */
LCKV_API int lckv_device_open(const char *name, int threads, lckv_device **out);
LCKV_API void lckv_device_close(lckv_device *device);

typedef struct lckv_device_info {
    char name[32];                   /* "cpu", "cuda:0", "count" */
    int64_t free_bytes, total_bytes; /* Device memory at this moment. */
    int64_t peak_bytes;              /* "count": peak memory footprint. Other devices: 0. */
} lckv_device_info;

/* LCKV_ERROR_DEVICE: the device does not answer. */
LCKV_API int lckv_device_describe(lckv_device *device, lckv_device_info *out);

/* Limits the device memory to `bytes` in total; 0 removes the limit (default). Allocations beyond it fail with
 * LCKV_ERROR_MEMORY. Linux overcommits memory: without a limit it may kill the process. Mapped files do not count.
 *   LCKV_ERROR_UNSUPPORTED: the device is a GPU, whose allocations fail by themselves. */
LCKV_API int lckv_device_limit(lckv_device *device, int64_t bytes);

/* Reference speeds of a device, to compare the speed of models with; 0 on the device "count". */
typedef struct lckv_device_speeds {
    double product_flops; /* FLOP/s of a large matrix product. */
    double copy_bytes;    /* Bytes per second of a large copy in device memory, read and written. */
    double read_bytes;    /* CPU: bytes per second that all threads together read from memory. GPU: 0. */
} lckv_device_speeds;

/* Measures the reference speeds in a few seconds at most. The product is in bfloat16 with `bf16`, else in float32. No
 * other work should run on the device.
 *   LCKV_ERROR_MEMORY: the matrices do not fit into device memory, up to 3 GiB on a GPU and 200 MiB on a CPU. */
LCKV_API int lckv_device_speed(lckv_device *device, bool bf16, lckv_device_speeds *out);

/* One call of an op on a device that is profiled. */
typedef struct lckv_op_call {
    /* Name of the op, such as "linear", or of an operation between processes: "all_reduce", "reduce_scatter",
     * "all_gather" or "broadcast". A constant, not to be freed. */
    const char *op;
    double begin;   /* Seconds from lckv_profile_start() to the start of the op. */
    double seconds; /* Duration of the op. */
    double flops;   /* FLOPs of products and attention, 2 per multiply-add, as on the device "count". */
    double bytes;   /* Bytes of the operands that the op reads or writes, each operand once. */
} lckv_op_call;

/* Starts a profile: from here on, the device records every op. The device waits before and after each op and does not
 * replay recorded steps, so that work takes longer than without a profile. Results do not change, except for rounding
 * on a GPU if the engine is created during the profile.
 *   LCKV_ERROR_ARGUMENT: a profile of this device is running. */
LCKV_API int lckv_profile_start(lckv_device *device);

/* Stops the profile and returns the calls in the order of their execution, *calls [*count]. Free *calls with
 * lckv_free(). lckv_device_close() discards a profile that is still running.
 *   LCKV_ERROR_ARGUMENT: no profile of this device is running. */
LCKV_API int lckv_profile_stop(lckv_device *device, lckv_op_call **calls, int64_t *count);

/* ---------------------------------------------------------------- processes */

/* The processes that train or run one model together, on one machine or several (docs/processes.md). A launcher
 * starts them: torchrun, accelerate, Slurm, mpirun, or lckv train --num_processes. In training, all of them make the
 * same calls with the same options. Each process trains its share of a step's blocks and holds its part of the
 * optimizer state. Only rank 0 writes files. For inference, see lckv_model_options. */
typedef struct lckv_processes lckv_processes;

/* Number of processes that the launcher of this one announces in the environment: 1 if it was started alone, 0 if the
 * launcher does not say.
 *   LCKV_ERROR_ARGUMENT: variables of a launcher are missing, malformed or contradictory. */
LCKV_API int lckv_processes_announced(int *count);
/* Joins the processes that were started with this one; a process that was started alone has rank 0 of 1. With several
 * processes, call it once per process. `time_limit`: seconds to wait for the other processes, when joining and in each
 * exchange of data; 0 uses 1800. With MPI there is no limit.
 *   LCKV_ERROR_ARGUMENT: variables of a launcher are missing, malformed or contradictory.
 *   LCKV_ERROR_UNSUPPORTED: MPI started several processes, and lckv was built without MPI.
 *   LCKV_ERROR_DEVICE: the processes could not join, or MPI failed.
 *   LCKV_ERROR_INTERRUPTED: a signal handler ran while this process waited for others. */
LCKV_API int lckv_processes_open(double time_limit, lckv_processes **out);
/* Returns the rank of this process, 0 to count - 1. */
LCKV_API int lckv_processes_rank(const lckv_processes *processes);
LCKV_API int lckv_processes_count(const lckv_processes *processes);
/* Opens this process's device, as lckv_device_open() does. With several processes, "cuda" is the GPU with the number of
 * the process on its host, and so is "auto" if there are GPUs; `threads` 0 divides the processors between the processes
 * of the host that share them. NULL is one process. */
LCKV_API int lckv_processes_device(const lckv_processes *processes, const char *name, int threads, lckv_device **out);
/* Tells the other processes that this one has failed, with lckv_last_error(): what they wait for fails with that
 * message. With MPI, this process then has to exit with a code other than 0, and mpirun ends the others. */
LCKV_API void lckv_processes_give_up(lckv_processes *processes);
/* Waits until all processes call it. Afterwards a process may exit at any time; before, only together with all others.
 */
LCKV_API void lckv_processes_close(lckv_processes *processes);

#ifdef __cplusplus
}
#endif
#endif
