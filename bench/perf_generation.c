/* Prefill and decode throughput of concurrent sequences, with the device's reference speed. Weights are random, in the
 * compute type; prompts are random; every sequence is generated to its full length. The first round is a warm-up that
 * creates primitives, grows memory and captures steps. See perf_main.c. */
#include "base/rng.h"
#include "generate/batcher/batcher.h"
#include "generate/batcher/sampler.h"
#include "perf.h"

#include <stdio.h>
#include <stdlib.h>

enum { MIN_ROUNDS = 3, MAX_ROUNDS = 100 };

typedef struct generation {
    device *device;
    model *model;
    batcher *batcher;
    sequence **sequences; /* [batch] */
} generation;

static int generation_open(const perf_options *o, generation *g) {
    model_config *c;
    batcher_options options = {.compute = o->compute,
                               .sequences = o->batch,
                               .rows = (int64_t)o->batch * (o->prompt + o->length),
                               .chunk_tokens = o->chunk};
    *g = (generation){0};
    g->sequences = calloc((size_t)o->batch, sizeof *g->sequences);
    REQUIRE(g->sequences, LCKV_ERROR_MEMORY, "no memory for %d sequences", o->batch);
    TRY(device_open(o->device, o->threads, &g->device));
    char overrides[64];
    snprintf(overrides, sizeof overrides, "weight_dtype=%s", o->weight_dtype);
    TRY(kv_cache_choose_type(g->device, o->compute, o->kv_dtype, &options.kv_type));
    TRY(config_read(o->config, overrides, &c));
    TRY(model_create_random(g->device, c, o->compute, 1, &g->model));
    return batcher_create(g->model, &options, &g->batcher);
}

static void remove_sequences(const perf_options *o, generation *g) {
    for (int i = 0; g->sequences && i < o->batch; i++) {
        if (g->sequences[i]) batcher_remove(g->batcher, g->sequences[i]);
        sequence_free(g->sequences[i]);
        g->sequences[i] = NULL;
    }
}

static void generation_close(const perf_options *o, generation *g) {
    remove_sequences(o, g);
    free(g->sequences);
    batcher_free(g->batcher);
    model_free(g->model);
    device_close(g->device);
}

static int add_sequences(const perf_options *o, generation *g, int32_t *ids) {
    const sample_row greedy = sampler_greedy();
    int64_t vocab_size = g->model->config->vocab_size;
    for (int i = 0; i < o->batch; i++) {
        for (int j = 0; j < o->prompt; j++)
            ids[j] = (int32_t)(rng_uniform(1, (uint64_t)i, (uint64_t)j) * (double)vocab_size);
        TRY(sequence_create(ids, o->prompt, vocab_size, &greedy, &g->sequences[i]));
        g->sequences[i]->max_count = o->prompt + o->length;
        g->sequences[i]->ignore_eos = true;
        TRY(batcher_add(g->batcher, g->sequences[i]));
    }
    return LCKV_OK;
}

/* CPU time of steps with prompts, and of the others. */
typedef struct step_cpu {
    double prompt, decode;
} step_cpu;

static int run_step(generation *g, step_cpu *cpu) {
    int64_t prompt_tokens = batcher_times(g->batcher).prompt_tokens;
    double begin = cpu_seconds();
    TRY(batcher_step(g->batcher));
    bool prompt = batcher_times(g->batcher).prompt_tokens > prompt_tokens;
    *(prompt ? &cpu->prompt : &cpu->decode) += cpu_seconds() - begin;
    return LCKV_OK;
}

/* One round: prefill of all prompts, then decoding of all sequences. */
static int run_round(const perf_options *o, generation *g, int32_t *ids, batcher_timing *out, step_cpu *cpu) {
    batcher_timing before = batcher_times(g->batcher);
    *cpu = (step_cpu){0};
    TRY(add_sequences(o, g, ids));
    while (!batcher_idle(g->batcher)) TRY(run_step(g, cpu));
    batcher_timing after = batcher_times(g->batcher);
    *out = (batcher_timing){.prompt_seconds = after.prompt_seconds - before.prompt_seconds,
                            .decode_seconds = after.decode_seconds - before.decode_seconds,
                            .prompt_tokens = after.prompt_tokens - before.prompt_tokens,
                            .decode_tokens = after.decode_tokens - before.decode_tokens,
                            .decode_bytes = after.decode_bytes - before.decode_bytes};
    remove_sequences(o, g);
    return LCKV_OK;
}

typedef struct rounds {
    double prompt[MAX_ROUNDS], decode[MAX_ROUNDS], prompt_cpu[MAX_ROUNDS], decode_cpu[MAX_ROUNDS], bytes[MAX_ROUNDS];
    double product[MAX_ROUNDS], copy[MAX_ROUNDS], read[MAX_ROUNDS];
    int count;
} rounds;

static int measure(const perf_options *o, generation *g, device_speed *p, rounds *r) {
    int32_t *ids = malloc((size_t)o->prompt * sizeof *ids);
    REQUIRE(ids, LCKV_ERROR_MEMORY, "no memory for a prompt");
    batcher_timing t;
    step_cpu cpu;
    int status = run_round(o, g, ids, &t, &cpu);
    double begin = clock_seconds();
    for (r->count = 0; status >= 0 && r->count < MAX_ROUNDS; r->count++) {
        if (r->count >= MIN_ROUNDS && clock_seconds() - begin > o->seconds) break;
        status = run_round(o, g, ids, &t, &cpu);
        r->prompt[r->count] = (double)t.prompt_tokens / t.prompt_seconds;
        r->decode[r->count] = (double)t.decode_tokens / t.decode_seconds;
        r->prompt_cpu[r->count] = (double)t.prompt_tokens / cpu.prompt;
        r->decode_cpu[r->count] = (double)t.decode_tokens / cpu.decode;
        r->bytes[r->count] = t.decode_bytes / t.decode_seconds;
        if (status >= 0) status = device_speed_product(p, &r->product[r->count]);
        if (status >= 0) status = device_speed_copy(p, &r->copy[r->count]);
        r->read[r->count] = device_speed_read(p);
    }
    free(ids);
    return status;
}

/* FLOPs of prefill and one decoded token per sequence, on the counting device. */
static int count_flops(const perf_options *o, double *flops) {
    perf_options prompts = *o;
    generation g;
    batcher_timing ignored;
    step_cpu cpu;
    prompts.device = "count";
    prompts.length = 1;
    int32_t *ids = malloc((size_t)o->prompt * sizeof *ids);
    int status = ids ? generation_open(&prompts, &g) : fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) {
        g.device->counts.flops = 0;
        status = run_round(&prompts, &g, ids, &ignored, &cpu);
        *flops = g.device->counts.flops;
    }
    if (ids) generation_close(&prompts, &g);
    free(ids);
    return status;
}

static void report(const perf_options *o, rounds *r, double flops) {
    double product = perf_median(r->product, r->count), copy = perf_median(r->copy, r->count);
    double read = perf_median(r->read, r->count);
    double bytes = perf_median(r->bytes, r->count), prompt = perf_median(r->prompt, r->count);
    double gflops = 1e-9 * flops * prompt / ((double)o->batch * o->prompt);
    printf("{\"bench\": \"generate\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"weight_dtype\": "
           "\"%s\", \"kv_dtype\": \"%s\", "
           "\"batch\": %d, \"prompt\": %d, \"length\": %d, \"rounds\": %d, \"prompt_tokens_per_second\": %.1f, "
           "\"prompt_gflops\": %.2f, \"decode_tokens_per_second\": %.1f, "
           "\"prompt_tokens_per_cpu_second\": %.1f, \"decode_tokens_per_cpu_second\": %.1f, "
           "\"weight_gbytes_per_second\": %.2f, \"read_gbytes_per_second\": %.2f, \"copy_gbytes_per_second\": %.2f, "
           "\"product_gflops\": %.2f, \"prompt_of_product_speed\": %.2f, \"decode_of_read_bandwidth\": %.2f}\n",
           o->config, o->device, dtype_name(o->compute), o->weight_dtype, o->kv_dtype, o->batch, o->prompt, o->length,
           r->count, prompt, gflops, perf_median(r->decode, r->count), perf_median(r->prompt_cpu, r->count),
           perf_median(r->decode_cpu, r->count), 1e-9 * bytes, 1e-9 * read, 1e-9 * copy, 1e-9 * product,
           1e9 * gflops / product, read > 0 ? bytes / read : 0);
}

int perf_generation(const perf_options *o) {
    generation g;
    device_speed p = {0};
    static rounds r;
    double flops = 0;
    TRY(count_flops(o, &flops));
    int status = generation_open(o, &g);
    if (status >= 0) status = device_speed_open(g.device, o->compute, &p);
    if (status >= 0) status = measure(o, &g, &p, &r);
    if (status >= 0) report(o, &r, flops);
    device_speed_close(&p);
    generation_close(o, &g);
    return status;
}
