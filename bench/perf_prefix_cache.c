/* Time to first token with the prefix cache: two requests after another that share all of a prompt but its last
 * OWN_TOKENS. Each round has a new prompt. See perf_main.c. */
#include "perf.h"

#include <stdio.h>
#include <stdlib.h>

enum { OWN_TOKENS = 10, MIN_ROUNDS = 3, MAX_ROUNDS = 50 };

typedef struct rounds {
    double first[MAX_ROUNDS], second[MAX_ROUNDS], ratios[MAX_ROUNDS], cpu_ratios[MAX_ROUNDS];
} rounds;

static int run_round(const perf_options *o, const perf_model *m, lckv_engine *e, int32_t *ids, rounds *r, int round) {
    int prompt = o->prompt + OWN_TOKENS;
    double begin = cpu_seconds(), middle;
    TRY(perf_engine_run(m, e, ids, prompt, 1, 1, LCKV_ENCODING_AUTO, &r->first[round]));
    for (int i = o->prompt; i < prompt; i++) ids[i] = ids[i + OWN_TOKENS];
    middle = cpu_seconds();
    TRY(perf_engine_run(m, e, ids, prompt, 1, 1, LCKV_ENCODING_AUTO, &r->second[round]));
    r->ratios[round] = r->second[round] / r->first[round];
    r->cpu_ratios[round] = (cpu_seconds() - middle) / (middle - begin);
    return LCKV_OK;
}

static int measure(const perf_options *o, const perf_model *m, lckv_engine *e, int32_t *ids) {
    static rounds r;
    double begin = clock_seconds();
    int count = 0;
    for (int round = -1; round < MAX_ROUNDS && (round < MIN_ROUNDS || clock_seconds() - begin < o->seconds); round++) {
        perf_random_ids(m, (uint64_t)(round + 1), ids, o->prompt + 2 * OWN_TOKENS);
        TRY(run_round(o, m, e, ids, &r, round < 0 ? 0 : round)); /* the first round is a warm-up */
        count = round + 1;
    }
    printf("{\"bench\": \"prefix\", \"config\": \"%s\", \"device\": \"%s\", \"prefix\": %d, \"chunk\": %d, "
           "\"rounds\": %d, \"first_seconds\": %.4f, \"second_seconds\": %.4f, \"ratio\": %.4f, \"cpu_ratio\": %.4f}\n",
           o->config, o->device, o->prompt, o->chunk, count, perf_median(r.first, count), perf_median(r.second, count),
           perf_median(r.ratios, count), perf_median(r.cpu_ratios, count));
    return LCKV_OK;
}

int perf_prefix_cache(const perf_options *o) {
    perf_model m;
    lckv_engine *e = NULL;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = 4;
    options.bf16 = o->compute == DTYPE_BF16;
    if (o->chunk) options.prefill_chunk_size = o->chunk;
    int32_t *ids = malloc(((size_t)o->prompt + 2 * OWN_TOKENS) * sizeof *ids);
    int status = perf_model_open(o, NULL, &m);
    if (status >= 0 && !ids) status = fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) status = lckv_engine_create(m.model, NULL, &options, &e);
    if (status >= 0) status = measure(o, &m, e, ids);
    lckv_engine_free(e);
    perf_model_close(&m);
    free(ids);
    return status;
}
