/* The time of a prompt in a model with loops, by all of its runs and by fewer, beside the same model without sharing,
 * in turns, see main.c. Half the width of the config, which says as much about the ratio in a quarter of the time. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { FEWER_RUNS = 6, KINDS = 5, MOST_ROUNDS = 20 };

/* How it is read: by the plan in one piece, as in training, or in the engine's pieces. */
typedef struct kind {
    const char *name;
    bool loops;
    int runs; /* 0: the model's */
    bool whole;
    lckv_engine *engine;
    double seconds[MOST_ROUNDS], cpu[MOST_ROUNDS];       /* of the processors */
    double ratios[MOST_ROUNDS], cpu_ratios[MOST_ROUNDS]; /* to the plain one */
} kind;

static kind kinds[KINDS] = {
    {.name = "plain"},
    {.name = "whole", .loops = true, .whole = true},
    {.name = "whole_six_runs", .loops = true, .whole = true, .runs = FEWER_RUNS},
    {.name = "pieces", .loops = true},
    {.name = "pieces_six_runs", .loops = true, .runs = FEWER_RUNS},
};

static int open_models(const bench_options *o, bench_model models[2]) {
    char overrides[16384];
    model_config *c;
    TRY(config_read(o->config, NULL, &c));
    int written = snprintf(overrides, sizeof overrides,
                           "hidden_size=%lld,intermediate_size=%lld,num_attention_heads=%d,num_key_value_heads=%d,"
                           "max_position_embeddings=%d",
                           (long long)c->hidden_size / 2, (long long)c->intermediate_size / 2, c->heads / 2,
                           c->kv_heads / 2, o->prompt + 1);
    int layers = c->layers;
    config_free(c);
    TRY(bench_model_open(o, overrides, &models[1]));
    for (int i = 0; i < layers; i++)
        written += snprintf(overrides + written, sizeof overrides - (size_t)written, i ? "_%d" : ",layer_types=%d", i);
    return bench_model_open(o, overrides, &models[0]);
}

static int open_engines(const bench_options *o, bench_model models[2]) {
    for (int i = 0; i < KINDS; i++) {
        lckv_engine_options options = lckv_engine_defaults();
        options.max_num_seqs = 1;
        options.bf16 = o->compute == DTYPE_BF16;
        options.encoding_iterations = kinds[i].runs;
        if (kinds[i].whole) options.prompt_piece = o->prompt;
        if (o->piece && !kinds[i].whole) options.prompt_piece = o->piece;
        TRY(lckv_engine_create(models[kinds[i].loops].model, NULL, &options, &kinds[i].engine));
    }
    return LCKV_OK;
}

/* A part of a prompt in each, which makes primitives. */
static int warm_up(const bench_options *o, const bench_model models[2], const int32_t *ids) {
    double ignored;
    for (int i = 0; i < KINDS; i++)
        TRY(bench_engine_run(&models[kinds[i].loops], kinds[i].engine, ids, o->prompt / 8, 1, 1, &ignored));
    return LCKV_OK;
}

static int take_round(const bench_options *o, const bench_model models[2], const int32_t *ids, int round) {
    for (int i = 0; i < KINDS; i++) {
        kind *k = &kinds[i];
        double begin = bench_cpu();
        TRY(bench_engine_run(&models[k->loops], k->engine, ids, o->prompt, 1, 1, &k->seconds[round]));
        k->cpu[round] = bench_cpu() - begin;
        k->ratios[round] = k->seconds[round] / kinds[0].seconds[round];
        k->cpu_ratios[round] = k->cpu[round] / kinds[0].cpu[round];
    }
    return LCKV_OK;
}

static int take_rounds(const bench_options *o, const bench_model models[2], int32_t *ids) {
    int rounds = 0;
    bench_random_ids(&models[0], 0, ids, o->prompt);
    TRY(warm_up(o, models, ids));
    for (double begin = bench_now(); rounds < MOST_ROUNDS && (!rounds || bench_now() - begin < o->seconds); rounds++) {
        bench_random_ids(&models[0], (uint64_t)(rounds + 1), ids, o->prompt); /* nothing is known of them */
        TRY(take_round(o, models, ids, rounds));
    }
    printf("{\"bench\": \"encoding\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"prompt\": %d, "
           "\"rounds\": %d, \"plain_seconds\": %.3f",
           o->config, o->device, dtype_name(o->compute), o->prompt, rounds, bench_median(kinds[0].seconds, rounds));
    for (int i = 1; i < KINDS; i++)
        printf(", \"%s\": {\"ratio\": %.2f, \"cpu_ratio\": %.2f}", kinds[i].name, bench_median(kinds[i].ratios, rounds),
               bench_median(kinds[i].cpu_ratios, rounds));
    printf("}\n");
    return LCKV_OK;
}

int bench_encoding(const bench_options *o) {
    bench_model models[2] = {0}; /* without loops, with them */
    int32_t *ids = malloc((size_t)o->prompt * sizeof *ids);
    int status = ids ? open_models(o, models) : fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) status = open_engines(o, models);
    if (status >= 0) status = take_rounds(o, models, ids);
    for (int i = 0; i < KINDS; i++) lckv_engine_free(kinds[i].engine);
    for (int i = 0; i < 2; i++) bench_model_close(&models[i]);
    free(ids);
    return status;
}
