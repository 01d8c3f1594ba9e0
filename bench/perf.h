/* Shared parts of the program `bench`, which measures the speed of parts of lckv against a reference. The command
 * `lckv bench` (cli/bench) measures whole models instead. */
#ifndef BENCH_PERF_H
#define BENCH_PERF_H

#include "base/clock.h"
#include "device/speed.h"
#include "model/model.h"

typedef struct perf_options {
    const char *config, *device;
    const char *weight_dtype; /* "float", "int8" or "int4", as for lckv bench */
    int batch, block;         /* sequences or clients; tokens of a training block */
    int seconds;              /* for the measurement, roughly */
    int threads;              /* 0: all processors */
    int prompt, length;       /* tokens of a prompt, and new tokens, per sequence */
    int chunk;                /* tokens of a prefill chunk; 0: the engine's default */
    dtype compute;
    int step;           /* examples of a training step; 0: batch */
    int reference_step; /* the same for the plan, the reference of the exact form; 0: step */
    bool gradient_checkpointing, exact;
} perf_options;

/* CPU time of this process in seconds, all threads. Other load changes it less than wall-clock time. */
double cpu_seconds(void);
double perf_median(double *values, int count); /* sorts the values */

/* A model of random weights on its own device. `overrides` as in lckv_config_load(), NULL for none. Close it also after
 * a failure. */
typedef struct perf_model {
    device *device;
    model *model;
} perf_model;

int perf_model_open(const perf_options *o, const char *overrides, perf_model *out);
void perf_model_close(perf_model *m);
void perf_random_ids(const perf_model *m, uint64_t stream, int32_t *ids, int count);

/* Runs `count` greedy requests with the prompts ids [count, prompt], read as `encoding` says. *seconds is the time from
 * the first submission to the last token; on the counting device it is the work in GFLOP instead, so that ratios
 * compare the work. */
int perf_engine_run(const perf_model *m, lckv_engine *e, const int32_t *ids, int prompt, int new_tokens, int count,
                    lckv_encoding encoding, double *seconds);

int perf_speeds(const perf_options *o);
int perf_training(const perf_options *o);
int perf_checkpointing(const perf_options *o);
int perf_exact(const perf_options *o);
int perf_processes(const perf_options *o);
int perf_sums(const perf_options *o);
int perf_generation(const perf_options *o);
int perf_few_rows(const perf_options *o);
int perf_prefix_cache(const perf_options *o);
int perf_concurrency(const perf_options *o);
int perf_loop_prefill(const perf_options *o);
int perf_lockstep(const perf_options *o);
int perf_http(const perf_options *o);

#endif
