/* --batch sessions that decode together beside one alone, in turns, see main.c. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { LEAST_ROUNDS = 3, MOST_ROUNDS = 50 };

/* Tokens a second of `count` sessions while nothing but decoding goes on. */
static int decode(const bench_options *o, const bench_model *m, lckv_engine *e, const int32_t *ids, int count,
                  double *speed) {
    double ignored;
    lckv_engine_stats before = lckv_engine_describe(e);
    TRY(bench_engine_run(m, e, ids, o->prompt, o->length, count, &ignored));
    lckv_engine_stats after = lckv_engine_describe(e);
    *speed = (double)(after.decode_tokens - before.decode_tokens) / (after.decode_seconds - before.decode_seconds);
    return LCKV_OK;
}

static int take_rounds(const bench_options *o, const bench_model *m, lckv_engine *e, const int32_t *ids) {
    double one[MOST_ROUNDS], all[MOST_ROUNDS], ratios[MOST_ROUNDS], ignored, begin = bench_now();
    int rounds = 0;
    TRY(decode(o, m, e, ids, o->batch, &ignored)); /* makes primitives, and touches memory */
    for (; rounds < MOST_ROUNDS && (rounds < LEAST_ROUNDS || bench_now() - begin < o->seconds); rounds++) {
        TRY(decode(o, m, e, ids, 1, &one[rounds]));
        TRY(decode(o, m, e, ids, o->batch, &all[rounds]));
        ratios[rounds] = all[rounds] / one[rounds];
    }
    printf("{\"bench\": \"together\", \"config\": \"%s\", \"compute\": \"%s\", \"sessions\": %d, \"prompt\": %d, "
           "\"length\": %d, \"rounds\": %d, \"one_tokens_per_second\": %.1f, \"all_tokens_per_second\": %.1f, "
           "\"ratio\": %.2f}\n",
           o->config, dtype_name(o->compute), o->batch, o->prompt, o->length, rounds, bench_median(one, rounds),
           bench_median(all, rounds), bench_median(ratios, rounds));
    return LCKV_OK;
}

int bench_together(const bench_options *o) {
    bench_model m;
    lckv_engine *e = NULL;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = o->batch;
    options.max_model_len = o->prompt + o->length;
    options.bf16 = o->compute == DTYPE_BF16;
    int32_t *ids = malloc((size_t)o->batch * (size_t)o->prompt * sizeof *ids);
    int status = bench_model_open(o, NULL, &m);
    if (status >= 0 && !ids) status = fail(LCKV_ERROR_MEMORY, "no memory for prompts");
    if (status >= 0) bench_random_ids(&m, 0, ids, o->batch * o->prompt);
    if (status >= 0) status = lckv_engine_create(m.model, NULL, &options, &e);
    if (status >= 0) status = take_rounds(o, &m, e, ids);
    lckv_engine_free(e);
    bench_model_close(&m);
    free(ids);
    return status;
}
