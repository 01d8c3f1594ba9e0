/* lckv bench: code shared by its measurements. Each measurement is a file that produces rows (table.h) and optionally a
 * chart.
 *
 * Most measurements use random weights, because speed and memory do not depend on the values. */
#ifndef CLI_BENCH_BENCH_H
#define CLI_BENCH_BENCH_H

#include "cli/bench/chart.h"
#include "cli/flags.h"
#include "cli/table.h"
#include "lckv.h"

enum { BENCH_SPEED, BENCH_BATCH, BENCH_STREAM, BENCH_ITERATIONS, BENCH_LOAD };

typedef struct bench_options {
    flag_list configs;
    flag_list models; /* iterations: checkpoints */
    const char *overrides, *device;
    int torch_dtype;
    bool bf16;
    int64_t threads;

    int measure; /* BENCH_SPEED .. */
    int64_t repetitions;
    flag_list prompt_lengths, new_lengths, depths; /* speed */
    int64_t num_sequences;
    flag_list lengths; /* batch and load: "512+128" */
    int search;        /* BENCH_BY_PLAN or BENCH_BY_TRYING */
    int64_t memory_limit;
    bool plan_only;
    int64_t num_tokens, window_length, num_sink_tokens; /* stream */
    const char *file;                                   /* iterations */
    int64_t block_size, num_blocks, max_iterations;
    const char *url, *api_key, *api_key_file; /* load */
    flag_list rates;
    int64_t num_requests;

    const char *svg;
    bool json, csv, md;
} bench_options;

enum { BENCH_BY_PLAN, BENCH_BY_TRYING };

/* Result of a measurement: rows, and the columns to print. */
typedef struct bench_result {
    json_t *rows;                /* array of objects */
    const table_column *columns; /* ends with an entry without key */
    char *svg;                   /* chart for --svg, or NULL; free() */
    char device[32];
} bench_result;

/* Each returns 0, or an exit code after printing the error. */
int bench_speed(const bench_options *o, bench_result *out);
int bench_batch(const bench_options *o, bench_result *out);
int bench_stream(const bench_options *o, bench_result *out);
int bench_iterations(const bench_options *o, bench_result *out);
int bench_load(const bench_options *o, bench_result *out);

/* ---------------------------------------------------------------- models and engines */

typedef struct bench_model {
    lckv_device *device;
    lckv_config *config; /* has at least the requested number of positions */
    lckv_model *model;
} bench_model;

/* Creates the model of a config on `device` (a name). Returns the status of the library; on failure `out` is empty. */
int bench_model_open(const bench_options *o, const char *config, const char *device, int64_t positions,
                     bench_model *out);
void bench_model_close(bench_model *m);

/* The display name of a config: its file name. */
const char *bench_name(const char *config, char out[64]);

/* KV cache bytes per token in the type of computation. */
int64_t bench_kv_bytes(const bench_options *o, const bench_model *m);

/* An engine and its state. */
typedef struct bench_engine {
    lckv_engine *engine;
    int64_t vocab_size, cached_tokens;
    bool failed; /* the logits were NaN */
} bench_engine;

/* kv_cache_memory: as in lckv_engine_options. `e` must not move. */
int bench_engine_open(const bench_options *o, const bench_model *m, int64_t sequences, int64_t length,
                      int64_t kv_cache_memory, bench_engine *e);
void bench_engine_close(bench_engine *e);

/* Random prompts. The first `prefix` tokens are always the same; the others depend on `seed` and the prompt. */
typedef struct bench_requests {
    int64_t count, prefix, prompt_length; /* prompt length in tokens includes the prefix */
    int64_t new_tokens;
    uint64_t seed;
    bool stop_early;      /* stop after the first step that only decodes */
    const char *what;     /* text of the progress line; NULL: none */
    double begins, share; /* start of this run in the overall progress, 0 to 1, and its share of it */
} bench_requests;

typedef struct bench_times {
    double seconds; /* total */
    double prompt_seconds, decode_seconds;
    int64_t cached_tokens, decode_tokens;
} bench_times;

/* Returns the status of the library; bench_outcome() prints the error and returns an exit code. */
int bench_engine_run(bench_engine *e, const bench_requests *r, bench_times *out);
int bench_outcome(const bench_engine *e, int status);

/* ---------------------------------------------------------------- utilities */

/* Parses a list of integers, each at least `least`. Returns 0, or an exit code after printing the error. */
int bench_numbers(const flag_list *list, const char *name, int64_t least, int64_t *numbers);

enum { BENCH_MAX_LENGTHS = 32 };

/* "512+128" */
typedef struct bench_lengths {
    const char *text;
    int64_t prompt, new_tokens;
} bench_lengths;

/* Parses o->lengths. Returns 0, or an exit code after printing the error. */
int bench_read_lengths(const bench_options *o, bench_lengths *out, int *count);

typedef struct bench_bars_of {
    const char *title, *value_title;
    const char *const *groups; /* [group_count] names */
    int group_count;
    const char *key, *deviation; /* keys of a row's value and its deviation; NULL: none */
    int decimals;
} bench_bars_of;

/* Draws a bar for each config in each group, from rows sorted by config, then by group. Release with free(). */
char *bench_bars(const bench_options *o, const json_t *rows, const bench_bars_of *of);

double bench_now(void); /* seconds, monotonic */

typedef struct bench_sample {
    double *values;
    int count;
} bench_sample;

void bench_sample_add(bench_sample *s, double value);
void bench_sample_free(bench_sample *s);
double bench_mean(const bench_sample *s);
double bench_deviation(const bench_sample *s); /* standard deviation; NAN for a single value */
/* Sets `key` to the mean of the values, and `deviation` to their standard deviation if there is one. */
void bench_set_mean(json_t *row, const char *key, const char *deviation, const bench_sample *s);
double bench_quantile(const bench_sample *s, double share); /* nearest rank; sorts the values */

#endif
