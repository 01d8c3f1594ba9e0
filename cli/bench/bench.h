/* lckv bench: what its measures share. Each is a file of its own, makes rows (table.h) and may make a chart.
 *
 * Models have random weights: speed and memory do not depend on what a weight is. */
#ifndef CLI_BENCH_BENCH_H
#define CLI_BENCH_BENCH_H

#include "cli/bench/chart.h"
#include "cli/flags.h"
#include "cli/table.h"
#include "lckv.h"

enum { BENCH_SPEED, BENCH_BATCH, BENCH_STREAM, BENCH_RUNS, BENCH_LOAD };

typedef struct bench_options {
    flag_list configs;
    flag_list models; /* runs: checkpoints */
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
    const char *file;                                   /* runs */
    int64_t block_size, num_blocks, most_runs;
    const char *url, *api_key, *api_key_file; /* load */
    flag_list rates;
    int64_t num_requests;

    const char *svg;
    bool json, csv, md;
} bench_options;

enum { BENCH_BY_PLAN, BENCH_BY_TRYING };

/* What a measure leaves. It adds rows, and says how they are shown. */
typedef struct bench_result {
    json_t *rows;                /* array of objects */
    const table_column *columns; /* ends with one without key */
    char *svg;                   /* with --svg alone; free() */
    char device[32];
} bench_result;

/* Each returns 0, or an exit code after the message. */
int bench_speed(const bench_options *o, bench_result *out);
int bench_batch(const bench_options *o, bench_result *out);
int bench_stream(const bench_options *o, bench_result *out);
int bench_runs(const bench_options *o, bench_result *out);
int bench_load(const bench_options *o, bench_result *out);

/* ---------------------------------------------------------------- models and runs */

typedef struct bench_model {
    lckv_device *device;
    lckv_config *config; /* with at least as many positions as were asked for */
    lckv_model *model;
} bench_model;

/* A config's model on `device` (a name). The status of the library; `out` is empty where that is negative. */
int bench_model_open(const bench_options *o, const char *config, const char *device, int64_t positions,
                     bench_model *out);
void bench_model_close(bench_model *m);

/* What people call a config: its file's name. */
const char *bench_name(const char *config, char out[64]);

/* Bytes of K and V that a token leaves in the cache, as it is computed here. */
int64_t bench_kv_bytes(const bench_options *o, const bench_model *m);

/* An engine, and what has been told to it. */
typedef struct bench_engine {
    lckv_engine *engine;
    int64_t vocab_size, cached_tokens;
    bool failed; /* a token was none: logits were not numbers */
} bench_engine;

/* kv_cache_memory: as in lckv_engine_options. `e` must stay where it is. */
int bench_engine_open(const bench_options *o, const bench_model *m, int64_t sequences, int64_t length,
                      int64_t kv_cache_memory, bench_engine *e);
void bench_engine_close(bench_engine *e);

/* Random prompts: the first `prefix` tokens are always the same, those behind are of `seed` and of each prompt's own.
 */
typedef struct bench_requests {
    int64_t count, prefix, prompt_length; /* tokens of a prompt, its prefix included */
    int64_t new_tokens;
    uint64_t seed;
    bool stop_early;      /* as soon as a step has made tokens without reading a prompt */
    const char *what;     /* for the progress line; NULL: none is shown */
    double begins, share; /* where this run begins in all that is measured, 0 to 1, and what part of it it is */
} bench_requests;

typedef struct bench_times {
    double seconds; /* of all */
    double prompt_seconds, decode_seconds;
    int64_t cached_tokens, decode_tokens;
} bench_times;

/* The status of the library; bench_outcome() makes it an exit code, after the message. */
int bench_engine_run(bench_engine *e, const bench_requests *r, bench_times *out);
int bench_outcome(const bench_engine *e, int status);

/* ---------------------------------------------------------------- small things */

/* The numbers of a list, each from `least` on. 0, or an exit code after the message. */
int bench_numbers(const flag_list *list, const char *name, int64_t least, int64_t *numbers);

enum { BENCH_MOST_LENGTHS = 32 };

/* "512+128" */
typedef struct bench_lengths {
    const char *text;
    int64_t prompt, new_tokens;
} bench_lengths;

/* All of o->lengths; 0, or an exit code after the message. */
int bench_read_lengths(const bench_options *o, bench_lengths *out, int *count);

typedef struct bench_bars_of {
    const char *title, *value_title;
    const char *const *groups; /* [group_count] names */
    int group_count;
    const char *key, *deviation; /* of a row's value and of its deviation, NULL: none */
    int decimals;
} bench_bars_of;

/* A bar for each config in each group, from rows that stand by config, then by group. The caller's, free(). */
char *bench_bars(const bench_options *o, const json_t *rows, const bench_bars_of *of);

double bench_now(void); /* seconds, monotonic */

typedef struct bench_sample {
    double *values;
    int count;
} bench_sample;

void bench_sample_add(bench_sample *s, double value);
void bench_sample_free(bench_sample *s);
double bench_mean(const bench_sample *s);
double bench_deviation(const bench_sample *s); /* of the values; NAN for one, which has none */
/* The mean of the values as `key`, and their deviation as `deviation` where there is one. */
void bench_set_mean(json_t *row, const char *key, const char *deviation, const bench_sample *s);
double bench_quantile(const bench_sample *s, double share); /* sorts them; nearest rank */

#endif
