/* Prompts and decoding of many sequences together, beside the device's yardsticks, see main.c. Random weights of the
 * compute type, random prompts; every sequence is generated to its full length. The first round, which makes
 * primitives, grows memory and captures steps, is not counted. */
#include "base/rng.h"
#include "bench.h"
#include "generate/batcher.h"

#include <stdio.h>
#include <stdlib.h>

enum { LEAST_ROUNDS = 3, MOST_ROUNDS = 100 };

typedef struct generated {
    device *device;
    model *model;
    batcher *batcher;
    sequence **sequences; /* [batch] */
} generated;

static int generated_open(const bench_options *o, generated *g) {
    model_config *c;
    batcher_options options = {.compute = o->compute,
                               .sequences = o->batch,
                               .rows = (int64_t)o->batch * (o->prompt + o->length),
                               .piece_tokens = o->piece};
    *g = (generated){0};
    g->sequences = calloc((size_t)o->batch, sizeof *g->sequences);
    REQUIRE(g->sequences, LCKV_ERROR_MEMORY, "no memory for %d sequences", o->batch);
    TRY(device_open(o->device, o->threads, &g->device));
    TRY(config_read(o->config, NULL, &c));
    TRY(model_create_random(g->device, c, o->compute, 1, &g->model));
    return batcher_create(g->model, &options, &g->batcher);
}

static void forget_sequences(const bench_options *o, generated *g) {
    for (int i = 0; g->sequences && i < o->batch; i++) {
        if (g->sequences[i]) batcher_remove(g->batcher, g->sequences[i]);
        sequence_free(g->sequences[i]);
        g->sequences[i] = NULL;
    }
}

static void generated_close(const bench_options *o, generated *g) {
    forget_sequences(o, g);
    free(g->sequences);
    batcher_free(g->batcher);
    model_free(g->model);
    device_close(g->device);
}

static int add_sequences(const bench_options *o, generated *g, int32_t *ids) {
    const sample_row greedy = {.top_p = 1, .repetition_penalty = 1};
    int64_t vocab_size = g->model->config->vocab_size;
    for (int i = 0; i < o->batch; i++) {
        for (int j = 0; j < o->prompt; j++)
            ids[j] = (int32_t)(rng_uniform(1, (uint64_t)i, (uint64_t)j) * (double)vocab_size);
        TRY(sequence_create(ids, o->prompt, vocab_size, &greedy, &g->sequences[i]));
        g->sequences[i]->most = o->prompt + o->length;
        g->sequences[i]->ignore_eos = true;
        TRY(batcher_add(g->batcher, g->sequences[i]));
    }
    return LCKV_OK;
}

/* One round: all prompts, then all new tokens. */
static int run_round(const bench_options *o, generated *g, int32_t *ids, batcher_timing *out) {
    batcher_timing before = batcher_times(g->batcher);
    TRY(add_sequences(o, g, ids));
    while (!batcher_idle(g->batcher)) TRY(batcher_step(g->batcher));
    batcher_timing after = batcher_times(g->batcher);
    *out = (batcher_timing){.prompt_seconds = after.prompt_seconds - before.prompt_seconds,
                            .decode_seconds = after.decode_seconds - before.decode_seconds,
                            .prompt_tokens = after.prompt_tokens - before.prompt_tokens,
                            .decode_tokens = after.decode_tokens - before.decode_tokens,
                            .decode_bytes = after.decode_bytes - before.decode_bytes};
    forget_sequences(o, g);
    return LCKV_OK;
}

typedef struct rounds {
    double prompt[MOST_ROUNDS], decode[MOST_ROUNDS], bytes[MOST_ROUNDS], product[MOST_ROUNDS], copy[MOST_ROUNDS];
    int count;
} rounds;

static int take_rounds(const bench_options *o, generated *g, bench_product *p, rounds *r) {
    int32_t *ids = malloc((size_t)o->prompt * sizeof *ids);
    REQUIRE(ids, LCKV_ERROR_MEMORY, "no memory for a prompt");
    batcher_timing t;
    int status = run_round(o, g, ids, &t);
    double begin = bench_now();
    for (r->count = 0; status >= 0 && r->count < MOST_ROUNDS; r->count++) {
        if (r->count >= LEAST_ROUNDS && bench_now() - begin > o->seconds) break;
        status = run_round(o, g, ids, &t);
        r->prompt[r->count] = (double)t.prompt_tokens / t.prompt_seconds;
        r->decode[r->count] = (double)t.decode_tokens / t.decode_seconds;
        r->bytes[r->count] = t.decode_bytes / t.decode_seconds;
        if (status >= 0) status = bench_product_run(p, &r->product[r->count]);
        if (status >= 0) status = bench_copy_run(p, &r->copy[r->count]);
    }
    free(ids);
    return status;
}

/* What the prompts need, by the counting device, and one token of each. */
static int count_flops(const bench_options *o, double *flops) {
    bench_options prompts = *o;
    generated g;
    batcher_timing ignored;
    prompts.device = "count";
    prompts.length = 1;
    int32_t *ids = malloc((size_t)o->prompt * sizeof *ids);
    int status = ids ? generated_open(&prompts, &g) : fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) {
        g.device->counts.flops = 0;
        status = run_round(&prompts, &g, ids, &ignored);
        *flops = g.device->counts.flops;
    }
    if (ids) generated_close(&prompts, &g);
    free(ids);
    return status;
}

static void report(const bench_options *o, rounds *r, double flops) {
    double product = bench_median(r->product, r->count), copy = bench_median(r->copy, r->count);
    double bytes = bench_median(r->bytes, r->count), prompt = bench_median(r->prompt, r->count);
    double gflops = 1e-9 * flops * prompt / ((double)o->batch * o->prompt);
    printf("{\"bench\": \"generate\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"batch\": %d, "
           "\"prompt\": %d, \"length\": %d, \"rounds\": %d, \"prompt_tokens_per_second\": %.1f, "
           "\"prompt_gflops\": %.2f, \"decode_tokens_per_second\": %.1f, \"weight_gbytes_per_second\": %.2f, "
           "\"copy_gbytes_per_second\": %.2f, "
           "\"product_gflops\": %.2f}\n",
           o->config, o->device, dtype_name(o->compute), o->batch, o->prompt, o->length, r->count, prompt, gflops,
           bench_median(r->decode, r->count), 1e-9 * bytes, 1e-9 * copy, 1e-9 * product);
}

int bench_generate(const bench_options *o) {
    generated g;
    bench_product p = {0};
    static rounds r;
    double flops = 0;
    TRY(count_flops(o, &flops));
    int status = generated_open(o, &g);
    if (status >= 0) status = bench_product_open(g.device, o->compute, &p);
    if (status >= 0) status = take_rounds(o, &g, &p, &r);
    if (status >= 0) report(o, &r, flops);
    bench_product_close(&p);
    generated_close(o, &g);
    return status;
}
