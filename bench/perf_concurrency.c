/* Decode throughput of --batch concurrent sequences, relative to one sequence. See perf_main.c. */
#include "perf.h"

#include <stdio.h>
#include <stdlib.h>

enum { MIN_ROUNDS = 3, MAX_ROUNDS = 50 };

/* Decode throughput of `count` concurrent sequences in tokens/s. */
static int decode(const perf_options *o, const perf_model *m, lckv_engine *e, const int32_t *ids, int count,
                  double *speed) {
    double ignored;
    lckv_engine_stats before = lckv_engine_describe(e);
    TRY(perf_engine_run(m, e, ids, o->prompt, o->length, count, LCKV_ENCODING_AUTO, &ignored));
    lckv_engine_stats after = lckv_engine_describe(e);
    *speed = (double)(after.decode_tokens - before.decode_tokens) / (after.decode_seconds - before.decode_seconds);
    return LCKV_OK;
}

static int measure(const perf_options *o, const perf_model *m, lckv_engine *e, const int32_t *ids) {
    double one[MAX_ROUNDS], all[MAX_ROUNDS], ratios[MAX_ROUNDS], ignored, begin = clock_seconds();
    int rounds = 0;
    TRY(decode(o, m, e, ids, o->batch, &ignored)); /* warms up: creates primitives and touches memory */
    for (; rounds < MAX_ROUNDS && (rounds < MIN_ROUNDS || clock_seconds() - begin < o->seconds); rounds++) {
        TRY(decode(o, m, e, ids, 1, &one[rounds]));
        TRY(decode(o, m, e, ids, o->batch, &all[rounds]));
        ratios[rounds] = all[rounds] / one[rounds];
    }
    printf("{\"bench\": \"together\", \"config\": \"%s\", \"compute\": \"%s\", \"sessions\": %d, \"prompt\": %d, "
           "\"length\": %d, \"rounds\": %d, \"one_tokens_per_second\": %.1f, \"all_tokens_per_second\": %.1f, "
           "\"ratio\": %.2f}\n",
           o->config, dtype_name(o->compute), o->batch, o->prompt, o->length, rounds, perf_median(one, rounds),
           perf_median(all, rounds), perf_median(ratios, rounds));
    return LCKV_OK;
}

int perf_concurrency(const perf_options *o) {
    perf_model m;
    lckv_engine *e = NULL;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = o->batch;
    options.max_model_len = o->prompt + o->length;
    options.bf16 = o->compute == DTYPE_BF16;
    int32_t *ids = malloc((size_t)o->batch * (size_t)o->prompt * sizeof *ids);
    int status = perf_model_open(o, NULL, &m);
    if (status >= 0 && !ids) status = fail(LCKV_ERROR_MEMORY, "no memory for prompts");
    if (status >= 0) perf_random_ids(&m, 0, ids, o->batch * o->prompt);
    if (status >= 0) status = lckv_engine_create(m.model, NULL, &options, &e);
    if (status >= 0) status = measure(o, &m, e, ids);
    lckv_engine_free(e);
    perf_model_close(&m);
    free(ids);
    return status;
}
