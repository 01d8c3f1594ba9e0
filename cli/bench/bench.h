/* lckv bench: code shared by its measurements. Each measurement is a file that produces rows (result_table.h) and
 * optionally a chart.
 *
 * Most measurements use random weights, because speed and memory do not depend on the values of the weights. */
#ifndef CLI_BENCH_BENCH_H
#define CLI_BENCH_BENCH_H

#include "cli/bench/chart.h"
#include "cli/flags/flags.h"
#include "cli/output/result_table.h"
#include "cli/ranks.h"
#include "lckv.h"

#include <stdio.h>

enum { BENCH_SPEED, BENCH_BATCH, BENCH_STREAM, BENCH_ITERATIONS, BENCH_LOAD, BENCH_COSTS };

/* Values of the flags. */
typedef struct bench_options {
    /* Models. */
    flag_list configs;      /* configs of models with random weights */
    flag_list models;       /* checkpoints, for BENCH_ITERATIONS */
    const char *overrides;  /* changes to all configs, "K=V,..."; NULL: none */
    const char *device;     /* "cpu", "cuda:N", "auto" */
    int torch_dtype;        /* type of the weights, an index of TORCH_DTYPES */
    int weight_dtype;       /* format of the matrices, an index of WEIGHT_DTYPES */
    bool bf16;              /* compute in bfloat16; false: float32 */
    int kv_dtype;           /* type of keys and values, an index of KV_DTYPES */
    int64_t threads;        /* CPU threads; 0 uses all processors */
    int measure;            /* BENCH_SPEED, .. */
    int64_t repetitions;    /* measured repetitions, after a warmup */
    int encoding;           /* an lckv_encoding: of prompts */
    const char *cost_table; /* file, or "none"; NULL: the default */
    struct rank_flags ranks;
    /* BENCH_SPEED. */
    flag_list prompt_lengths, new_lengths; /* tokens per sequence of the prefill and the decode tests */
    flag_list depths;                      /* tokens in the KV cache before a test */
    int64_t num_sequences;                 /* batch size */
    const char *profile;                   /* file for the trace; NULL: no profile */
    /* BENCH_BATCH and BENCH_LOAD. */
    flag_list lengths;                        /* prompt length and new tokens, "512+128" */
    int search;                               /* BENCH_BY_PLAN or BENCH_BY_TRYING */
    int64_t memory_limit;                     /* bytes; 0 uses the free memory */
    bool plan_only;                           /* print the largest batch without running it */
    const char *url, *api_key, *api_key_file; /* server, and the key to send; NULL: none */
    flag_list rates;                          /* requests per second; 0 sends all at once */
    int64_t num_requests;                     /* requests per rate */
    /* BENCH_STREAM. */
    int64_t num_tokens;                     /* tokens to generate */
    int64_t window_length, num_sink_tokens; /* sink cache in tokens; 0 keeps all tokens */
    /* BENCH_ITERATIONS. */
    const char *file;               /* text to score */
    int64_t block_size, num_blocks; /* tokens per block, and maximum number of blocks */
    int64_t max_iterations;         /* largest number of iterations */
    bool no_loop_start;             /* start loops from zeros */
    /* Output. */
    const char *svg; /* file for the chart; NULL: none */
    bool json, csv, md;
} bench_options;

/* How the largest batch is found: by computing its memory, or by running it. */
enum { BENCH_BY_PLAN, BENCH_BY_TRYING };

/* Result of a measurement: rows, and the columns to print. */
typedef struct bench_result {
    json_t *rows;                /* array of objects */
    const table_column *columns; /* columns to print; ends with an entry without key */
    char *svg;                   /* chart for --svg; NULL: none. Release with free() */
    json_t *ops;                 /* time by op, printed after the rows (profile.c); NULL: no profile */
    char *trace;                 /* content of the file of --profile; NULL: none. Release with free() */
    lckv_device_speeds speeds;   /* reference speeds, for BENCH_SPEED; 0: not measured */
    char device[32];             /* name of the device */
} bench_result;

/* The measurements. Each returns 0, or an exit code after printing the error. */
int bench_speed(const bench_options *o, bench_result *out);
int bench_batch(const bench_options *o, bench_result *out);
int bench_stream(const bench_options *o, bench_result *out);
int bench_iterations(const bench_options *o, bench_result *out);
int bench_load(const bench_options *o, bench_result *out);
int bench_costs(const bench_options *o, bench_result *out);

/* ---------------------------------------------------------------- random_model.c: models and engines */

/* A model with random weights on its own device. */
typedef struct bench_model {
    lckv_device *device;
    lckv_config *config; /* config with at least the requested number of positions */
    lckv_model *model;
} bench_model;

/* Creates the model of a config on `device` (a name). Returns the status of the library; on failure `out` is empty. */
int bench_model_open(const bench_options *o, const char *config, const char *device, int64_t positions,
                     bench_model *out);
void bench_model_close(bench_model *m);
/* On ranks other than 0: opens the models of o->configs on o->device one after another, as measurements on rank 0 do,
 * and follows rank 0. Returns an exit code. */
int bench_follow(const bench_options *o);

/* The display name of a config: its file name. */
const char *bench_name(const char *config, char out[64]);

/* KV cache bytes per token in the type of computation. */
int64_t bench_kv_bytes(const bench_options *o, const bench_model *m);

/* An engine and the state of its run. */
typedef struct bench_engine {
    lckv_engine *engine;
    int64_t vocab_size;
    int64_t cached_tokens;  /* prompt tokens of this run that were in the prefix cache */
    bool failed;            /* the logits were NaN */
    lckv_encoding encoding; /* of prompts */
} bench_engine;

/* Opens an engine for that many sequences of at most `length` tokens; kv_cache_memory as in lckv_engine_options. `e`
 * must not move afterwards. Returns the status of the library. */
int bench_engine_open(const bench_options *o, const bench_model *m, int64_t sequences, int64_t length,
                      int64_t kv_cache_memory, bench_engine *e);
void bench_engine_close(bench_engine *e);

/* Requests with random prompts that run together. */
typedef struct bench_requests {
    int64_t count;         /* number of requests */
    int64_t prompt_length; /* tokens per prompt */
    int64_t prefix;        /* tokens at the start of the prompt that are the same in all prompts and runs */
    int64_t new_tokens;    /* tokens to generate per request */
    uint64_t seed;         /* random seed of the other prompt tokens */
    bool stop_early;       /* stop after the first step that only decodes */
    const char *label;     /* text of the progress line; NULL: none */
    double progress;       /* progress at the start of this run, 0 to 1 */
    double share;          /* part of the progress that is this run; 0: the total is unknown */
} bench_requests;

/* Durations and token counts of a run. */
typedef struct bench_times {
    double seconds;                        /* duration of the run */
    double prompt_seconds, decode_seconds; /* time in steps with prefill, and in steps that only decode */
    int64_t cached_tokens;                 /* prompt tokens that were in the prefix cache */
    int64_t decode_tokens;                 /* tokens of the steps that only decode */
    double decode_bytes;                   /* bytes of weights that these steps read */
    bool sequential;                       /* most prompt tokens were processed token by token */
} bench_times;

/* Runs the requests. Returns the status of the library; bench_outcome() makes an exit code of it and prints the error.
 */
int bench_engine_run(bench_engine *e, const bench_requests *r, bench_times *out);
/* Runs the requests once as a warmup, with `warmup_new_tokens` instead of their new_tokens, then `count` times with
 * different seeds; times[count]. `progress` and `share` of the requests apply to all runs together. */
int bench_engine_repeat(bench_engine *e, const bench_requests *r, int64_t warmup_new_tokens, int64_t count,
                        bench_times *times);
int bench_outcome(const bench_engine *e, int status);

/* ---------------------------------------------------------------- profile.c: time by op */

/* Calls of ops during a run. */
typedef struct bench_calls {
    lckv_op_call *items; /* [count], in order */
    int64_t count;
    double seconds; /* duration of the run */
} bench_calls;

/* Runs the requests once on a profiled device. Returns the status of the library; on failure `out` is empty. */
int bench_engine_profile(bench_engine *e, lckv_device *device, const bench_requests *r, bench_calls *out);
void bench_calls_free(bench_calls *c);

/* Columns of the rows of bench_profile_add(). */
extern const table_column BENCH_PROFILE_COLUMNS[];

/* The profiles of a command. */
typedef struct bench_profile {
    json_t *rows; /* one per model, test and op */
    FILE *trace;  /* writes to `text` */
    char *text;
    size_t length;
    int runs;
} bench_profile;

void bench_profile_open(bench_profile *p);
/* Adds a run: rows by op, and a process of the trace. */
void bench_profile_add(bench_profile *p, const char *model, const char *test, const bench_calls *calls);
/* Moves rows and trace to the result. */
void bench_profile_close(bench_profile *p, bench_result *out);

/* ---------------------------------------------------------------- lengths.c */

/* Parses a list of integers, each at least `least`. Returns 0, or an exit code after printing the error. */
int bench_numbers(const flag_list *list, const char *name, int64_t least, int64_t *numbers);

enum { BENCH_MAX_LENGTHS = 32 };

/* A pair of lengths. */
typedef struct bench_lengths {
    const char *text;           /* "512+128" */
    int64_t prompt, new_tokens; /* tokens */
} bench_lengths;

/* Parses o->lengths into out[BENCH_MAX_LENGTHS]. Returns 0, or an exit code after printing the error. */
int bench_read_lengths(const bench_options *o, bench_lengths *out, int *count);

/* ---------------------------------------------------------------- results.c */

/* The first row whose string `key` is `text`, or NULL. */
const json_t *bench_find_row(const json_t *rows, const char *key, const char *text);
/* Sets ratio_key to the row's value divided by that of the first row with the same string `key`, 1 if there is none.
 * Sets nothing if the ratio is not finite. */
void bench_set_ratio(json_t *row, const json_t *rows, const char *key, const char *value_key, const char *ratio_key);

/* A bar chart of rows. */
typedef struct bench_bars_of {
    const char *title, *value_title; /* title of the chart, and of its values with their unit */
    const char *const *groups;       /* [group_count] names of the groups */
    int group_count;
    const char *key, *deviation; /* keys of a row's value and of its standard deviation; NULL: none */
    int decimals;                /* decimals of the printed values */
} bench_bars_of;

/* Draws a bar for each config in each group, from rows sorted by config, then by group. Release with free(). */
char *bench_bars(const bench_options *o, const json_t *rows, const bench_bars_of *of);

/* Draws a line for each model. Its points are the next point_counts[i] of `points`. `chart` has titles and axes; its
 * series are set here. Release with free(). */
char *bench_lines(const flag_list *models, const int *point_counts, const chart_point *points, chart_lines chart);

/* Measured values of one quantity. */
typedef struct bench_sample {
    double *values; /* [count] */
    int count;
} bench_sample;

void bench_sample_add(bench_sample *s, double value);
void bench_sample_free(bench_sample *s);
double bench_mean(const bench_sample *s);
double bench_deviation(const bench_sample *s); /* standard deviation; NAN for a single value */
/* Sets `key` to the mean of the values, and `deviation` to their standard deviation if there is one. */
void bench_set_mean(json_t *row, const char *key, const char *deviation, const bench_sample *s);
double bench_quantile(const bench_sample *s, double share); /* nearest rank; sorts the values; NAN if there are none */

#endif
