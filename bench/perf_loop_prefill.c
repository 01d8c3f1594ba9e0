/* Prefill time of a model with loops, with all iterations and with fewer, relative to the same model without sharing.
 * On a CPU, the models have half the width of the config, which gives nearly the same ratio in a quarter of the time.
 * See perf_main.c. */
#include "model/loop_start.h"

#include "perf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SIX, FOUR: iterations, which a learned start may allow. */
enum { SIX = 6, FOUR = 4, CASES = 7, MODELS = 3, MAX_ROUNDS = 20 };

/* How the prompt is processed: as one chunk, as in training, or in the engine's chunks. */
typedef struct prefill_case {
    const char *name;
    int model;              /* 0: without loops, 1: with loops, 2: with a start for them */
    int iterations;         /* 0: those of the model */
    lckv_encoding encoding; /* PLAN: one chunk */
    lckv_engine *engine;
    double seconds[MAX_ROUNDS], cpu[MAX_ROUNDS];       /* wall-clock and CPU time */
    double ratios[MAX_ROUNDS], cpu_ratios[MAX_ROUNDS]; /* relative to the model without sharing */
} prefill_case;

static prefill_case cases[CASES] = {
    {.name = "plain"},
    {.name = "one_chunk", .model = 1, .encoding = LCKV_ENCODING_PLAN},
    {.name = "one_chunk_six_iterations", .model = 1, .encoding = LCKV_ENCODING_PLAN, .iterations = SIX},
    {.name = "chunks", .model = 1},
    {.name = "chunks_six_iterations", .model = 1, .iterations = SIX},
    {.name = "chunks_four_iterations", .model = 1, .iterations = FOUR},
    {.name = "chunks_four_iterations_from_start", .model = 2, .iterations = FOUR},
};

/* A start of random values: the speed is that of a fitted one. */
static int add_start(const perf_options *o, perf_model *m) {
    const model_config *c = m->model->config;
    loop_start **start = &m->model->loop_start;
    TRY(loop_start_create(m->device, c, loop_start_default_width(c), start));
    TRY(params_allocate((*start)->weights, m->device, o->compute));
    return loop_start_randomize(*start, 1);
}

static int open_models(const perf_options *o, perf_model models[MODELS]) {
    char overrides[16384];
    model_config *c;
    int part = strncmp(o->device, "cuda", 4) ? 2 : 1;
    TRY(config_read(o->config, NULL, &c));
    int written = snprintf(overrides, sizeof overrides,
                           "hidden_size=%lld,intermediate_size=%lld,num_attention_heads=%d,num_key_value_heads=%d,"
                           "max_position_embeddings=%d",
                           (long long)c->hidden_size / part, (long long)c->intermediate_size / part, c->heads / part,
                           c->kv_heads / part, o->prompt + 1);
    int layers = c->layers;
    config_free(c);
    for (int i = 1; i < MODELS; i++) TRY(perf_model_open(o, overrides, &models[i]));
    TRY(add_start(o, &models[2]));
    for (int i = 0; i < layers; i++)
        written += snprintf(overrides + written, sizeof overrides - (size_t)written, i ? "_%d" : ",layer_types=%d", i);
    return perf_model_open(o, overrides, &models[0]);
}

static int open_engines(const perf_options *o, perf_model models[MODELS]) {
    for (int i = 0; i < CASES; i++) {
        lckv_engine_options options = lckv_engine_defaults();
        options.max_num_seqs = 1;
        options.bf16 = o->compute == DTYPE_BF16;
        options.encoding_iterations = cases[i].iterations;
        if (o->chunk) options.prefill_chunk_size = o->chunk;
        TRY(lckv_engine_create(models[cases[i].model].model, NULL, &options, &cases[i].engine));
    }
    return LCKV_OK;
}

/* Runs a part of the prompt in each case, so that primitives exist. */
static int warm_up(const perf_options *o, const perf_model models[MODELS], const int32_t *ids) {
    double ignored;
    for (int i = 0; i < CASES; i++)
        TRY(perf_engine_run(&models[cases[i].model], cases[i].engine, ids, o->prompt / 8, 1, 1, cases[i].encoding,
                            &ignored));
    return LCKV_OK;
}

static int run_round(const perf_options *o, const perf_model models[MODELS], const int32_t *ids, int round) {
    for (int i = 0; i < CASES; i++) {
        prefill_case *k = &cases[i];
        double begin = cpu_seconds();
        TRY(perf_engine_run(&models[k->model], k->engine, ids, o->prompt, 1, 1, k->encoding, &k->seconds[round]));
        k->cpu[round] = cpu_seconds() - begin;
        k->ratios[round] = k->seconds[round] / cases[0].seconds[round];
        k->cpu_ratios[round] = k->cpu[round] / cases[0].cpu[round];
    }
    return LCKV_OK;
}

static int measure(const perf_options *o, const perf_model models[MODELS], int32_t *ids) {
    int rounds = 0;
    perf_random_ids(&models[0], 0, ids, o->prompt);
    TRY(warm_up(o, models, ids));
    for (double begin = clock_seconds(); rounds < MAX_ROUNDS && (!rounds || clock_seconds() - begin < o->seconds);
         rounds++) {
        perf_random_ids(&models[0], (uint64_t)(rounds + 1), ids, o->prompt); /* not in the prefix cache */
        TRY(run_round(o, models, ids, rounds));
    }
    printf("{\"bench\": \"encoding\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"prompt\": %d, "
           "\"rounds\": %d, \"plain_seconds\": %.6f",
           o->config, o->device, dtype_name(o->compute), o->prompt, rounds, perf_median(cases[0].seconds, rounds));
    for (int i = 1; i < CASES; i++)
        printf(", \"%s\": {\"ratio\": %.3f, \"cpu_ratio\": %.3f}", cases[i].name, perf_median(cases[i].ratios, rounds),
               perf_median(cases[i].cpu_ratios, rounds));
    printf("}\n");
    return LCKV_OK;
}

int perf_loop_prefill(const perf_options *o) {
    perf_model models[MODELS] = {0};
    int32_t *ids = malloc((size_t)o->prompt * sizeof *ids);
    int status = ids ? open_models(o, models) : fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) status = open_engines(o, models);
    if (status >= 0) status = measure(o, models, ids);
    for (int i = 0; i < CASES; i++) lckv_engine_free(cases[i].engine);
    for (int i = 0; i < MODELS; i++) perf_model_close(&models[i]);
    free(ids);
    return status;
}
