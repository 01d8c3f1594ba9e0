/* Two requests that have all of a prompt but its last PRIVATE tokens in common, one after the other: how long each
 * takes to its first token, see main.c. Each round has a prompt of its own. */
#include "base/rng.h"
#include "bench.h"
#include "generate/engine.h"

#include <stdio.h>
#include <stdlib.h>

enum { PRIVATE = 10, MOST_ROUNDS = 50 };

static int first_token(lckv_engine *e, const int32_t *ids, int count, double *seconds) {
    lckv_request r = lckv_request_defaults();
    uint64_t id;
    double begin = bench_now();
    r.prompt = (lckv_prompt){ids, count};
    r.max_new_tokens = 1;
    r.temperature = 0;
    TRY(lckv_engine_submit(e, &r, &id));
    while (!lckv_engine_idle(e)) TRY(lckv_engine_step(e));
    *seconds = bench_now() - begin;
    return LCKV_OK;
}

static int take_rounds(const bench_options *o, lckv_engine *e, int64_t vocab_size, int32_t *ids) {
    double first[MOST_ROUNDS], second[MOST_ROUNDS], begin = bench_now(), ignored;
    int count = 0, prompt = o->prompt + PRIVATE;
    for (int round = -1; round < MOST_ROUNDS && (round < 3 || bench_now() - begin < o->seconds); round++) {
        for (int i = 0; i < prompt + PRIVATE; i++)
            ids[i] = (int32_t)(rng_uniform(2, (uint64_t)(round + 1), (uint64_t)i) * (double)vocab_size);
        TRY(first_token(e, ids, prompt, round < 0 ? &ignored : &first[round]));
        for (int i = o->prompt; i < prompt; i++) ids[i] = ids[i + PRIVATE];
        TRY(first_token(e, ids, prompt, round < 0 ? &ignored : &second[round]));
        count = round + 1;
    }
    double a = bench_median(first, count), b = bench_median(second, count);
    printf(
        "{\"bench\": \"prefix\", \"config\": \"%s\", \"prefix\": %d, \"piece\": %d, \"rounds\": %d, \"first_seconds\": "
        "%.4f, \"second_seconds\": %.4f, \"ratio\": %.4f}\n",
        o->config, o->prompt, o->piece, count, a, b, b / a);
    return LCKV_OK;
}

int bench_prefix(const bench_options *o) {
    device *d = NULL;
    model_config *c;
    model *m = NULL;
    lckv_engine *e = NULL;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = 4;
    options.bf16 = o->compute == DTYPE_BF16;
    if (o->piece) options.prompt_piece = o->piece;
    int32_t *ids = malloc(((size_t)o->prompt + 2 * PRIVATE) * sizeof *ids);
    int status = ids ? device_open(o->device, o->threads, &d) : fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) status = config_read(o->config, NULL, &c);
    if (status >= 0) status = model_create_random(d, c, o->compute, 1, &m);
    if (status >= 0) status = lckv_engine_create(m, NULL, &options, &e);
    if (status >= 0) status = take_rounds(o, e, m->config->vocab_size, ids);
    lckv_engine_free(e);
    model_free(m);
    device_close(d);
    free(ids);
    return status;
}
