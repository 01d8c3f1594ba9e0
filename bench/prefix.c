/* Two requests that have all of a prompt but its last PRIVATE tokens in common, one after the other: how long each
 * takes to its first token, see main.c. Each round has a prompt of its own. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { PRIVATE = 10, LEAST_ROUNDS = 3, MOST_ROUNDS = 50 };

typedef struct rounds {
    double first[MOST_ROUNDS], second[MOST_ROUNDS], ratios[MOST_ROUNDS], cpu_ratios[MOST_ROUNDS];
} rounds;

static int take_round(const bench_options *o, const bench_model *m, lckv_engine *e, int32_t *ids, rounds *r,
                      int round) {
    int prompt = o->prompt + PRIVATE;
    double begin = bench_cpu(), middle;
    TRY(bench_engine_run(m, e, ids, prompt, 1, 1, &r->first[round]));
    for (int i = o->prompt; i < prompt; i++) ids[i] = ids[i + PRIVATE];
    middle = bench_cpu();
    TRY(bench_engine_run(m, e, ids, prompt, 1, 1, &r->second[round]));
    r->ratios[round] = r->second[round] / r->first[round];
    r->cpu_ratios[round] = (bench_cpu() - middle) / (middle - begin);
    return LCKV_OK;
}

static int take_rounds(const bench_options *o, const bench_model *m, lckv_engine *e, int32_t *ids) {
    static rounds r;
    double begin = bench_now();
    int count = 0;
    for (int round = -1; round < MOST_ROUNDS && (round < LEAST_ROUNDS || bench_now() - begin < o->seconds); round++) {
        bench_random_ids(m, (uint64_t)(round + 1), ids, o->prompt + 2 * PRIVATE);
        TRY(take_round(o, m, e, ids, &r, round < 0 ? 0 : round)); /* the first makes primitives */
        count = round + 1;
    }
    printf("{\"bench\": \"prefix\", \"config\": \"%s\", \"device\": \"%s\", \"prefix\": %d, \"piece\": %d, "
           "\"rounds\": %d, \"first_seconds\": %.4f, \"second_seconds\": %.4f, \"ratio\": %.4f, \"cpu_ratio\": %.4f}\n",
           o->config, o->device, o->prompt, o->piece, count, bench_median(r.first, count),
           bench_median(r.second, count), bench_median(r.ratios, count), bench_median(r.cpu_ratios, count));
    return LCKV_OK;
}

int bench_prefix(const bench_options *o) {
    bench_model m;
    lckv_engine *e = NULL;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = 4;
    options.bf16 = o->compute == DTYPE_BF16;
    if (o->piece) options.prompt_piece = o->piece;
    int32_t *ids = malloc(((size_t)o->prompt + 2 * PRIVATE) * sizeof *ids);
    int status = bench_model_open(o, NULL, &m);
    if (status >= 0 && !ids) status = fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) status = lckv_engine_create(m.model, NULL, &options, &e);
    if (status >= 0) status = take_rounds(o, &m, e, ids);
    lckv_engine_free(e);
    bench_model_close(&m);
    free(ids);
    return status;
}
