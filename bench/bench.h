/* What the benchmarks share. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "model/model.h"

typedef struct bench_options {
    const char *config, *device;
    int batch, block, seconds, threads;
    int prompt, length; /* tokens of each sequence that is generated */
    int piece;          /* of a prompt, in tokens; 0: the default */
    dtype compute;
    bool gradient_checkpointing;
} bench_options;

/* Seconds, monotonic. */
double bench_now(void);
double bench_cpu(void); /* of this process, all threads: what a busy machine changes little about */
double bench_median(double *values, int count); /* sorts them */

/* The yardsticks of a device: a plain square product y = x weight^T of `compute` operands, and a plain copy. */
typedef struct bench_product {
    device *device;
    struct op_linear product;
    struct op_cast copy;
    double flops, bytes; /* of one run: operations, and bytes read and written */
} bench_product;

int bench_product_open(device *d, dtype compute, bench_product *out);
void bench_product_close(bench_product *p);
int bench_product_run(bench_product *p, double *flops_per_second); /* once */
int bench_copy_run(bench_product *p, double *bytes_per_second);    /* once */

/* A model of random weights on a device of its own. `overrides` as in lckv_config_load(), NULL for none. What there is
 * after a failure is closed too. */
typedef struct bench_model {
    device *device;
    model *model;
} bench_model;

int bench_model_open(const bench_options *o, const char *overrides, bench_model *out);
void bench_model_close(bench_model *m);
void bench_random_ids(const bench_model *m, uint64_t stream, int32_t *ids, int count);

/* `count` greedy requests, the prompts [count, prompt] in `ids`, from the first one's coming to the last one's end: in
 * seconds, and on the counting device in GFLOP, so that ratios are those of the work that is needed. */
int bench_engine_run(const bench_model *m, lckv_engine *e, const int32_t *ids, int prompt, int new_tokens, int count,
                     double *seconds);

int bench_train(const bench_options *o);
int bench_checkpointing(const bench_options *o);
int bench_generate(const bench_options *o);
int bench_prefix(const bench_options *o);
int bench_together(const bench_options *o);
int bench_encoding(const bench_options *o);
int bench_server(const bench_options *o);

#endif
