/* Threads for steps of few rows (decoding), which have some hundred short parallel sections per step.
 *
 * A job has parts, which threads claim one after the other; the caller's thread claims, too. The caller waits only for
 * parts that were claimed, never for a thread that has not started. So a step loses little if other processes take the
 * processors. Waiting threads poll for some microseconds and then sleep.
 *
 * Steps of many rows use OpenMP, as oneDNN's products do: its waiting threads poll for milliseconds. Both kinds of
 * threads in turn would compete for the processors. */
#ifndef DEVICE_CPU_THREADS_H
#define DEVICE_CPU_THREADS_H

/* Computes one part of a job. Its results may depend on the part but not on the thread, which is below the number of
 * threads. */
typedef void cpu_task(void *job, int part, int thread);

typedef struct cpu_threads cpu_threads;

/* `threads` threads, the caller of cpu_threads_run() included; fewer if not all can be created. NULL without memory. */
cpu_threads *cpu_threads_create(int threads);
void cpu_threads_free(cpu_threads *p); /* NULL is fine */

/* Runs all parts and returns when they are complete. One job at a time; a task must not run jobs. */
void cpu_threads_run(cpu_threads *p, int parts, cpu_task *task, void *job);

#endif
