/* Prompts of a model with loops that wait together: by the plan, token by token in lockstep, and as `auto` chooses, in
 * turn. See perf_main.c. */
#include "perf.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_ROUNDS = 50, MIN_ROUNDS = 3, FORMS = 3 };

typedef struct lockstep_form {
    const char *name;
    lckv_encoding encoding;
    double seconds[MAX_ROUNDS], ratios[MAX_ROUNDS], cpu_ratios[MAX_ROUNDS]; /* ratios to the plan */
} lockstep_form;

static lockstep_form forms[FORMS] = {
    {"plan", LCKV_ENCODING_PLAN}, {"auto", LCKV_ENCODING_AUTO}, {"sequential", LCKV_ENCODING_SEQUENTIAL}};

static int open_engine(const perf_options *o, const perf_model *m, lckv_engine **out) {
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = options.max_queue = o->batch;
    options.max_model_len = o->prompt + 1;
    options.bf16 = o->compute == DTYPE_BF16;
    if (o->chunk) options.prefill_chunk_size = o->chunk;
    return lckv_engine_create(m->model, NULL, &options, out);
}

static int run_form(const perf_options *o, const perf_model *m, lckv_engine *e, lckv_encoding encoding, int32_t *ids,
                    uint64_t stream) {
    for (int i = 0; i < o->batch; i++) {
        lckv_request r = lckv_request_defaults();
        uint64_t id;
        perf_random_ids(m, stream * (uint64_t)o->batch + (uint64_t)i, ids, o->prompt); /* not in the prefix cache */
        r.prompt = (lckv_prompt){ids, o->prompt};
        r.max_new_tokens = 1;
        r.temperature = 0;
        r.ignore_eos = true;
        r.encoding = encoding;
        TRY(lckv_engine_submit(e, &r, &id));
    }
    while (!lckv_engine_idle(e)) TRY(lckv_engine_step(e));
    return LCKV_OK;
}

static int run_round(const perf_options *o, const perf_model *m, lckv_engine *e, int32_t *ids, int round,
                     int64_t *sequential) {
    double cpu[FORMS];
    for (int i = 0; i < FORMS; i++) {
        lockstep_form *f = &forms[i];
        int64_t before = lckv_engine_describe(e).sequential_tokens;
        double begin = clock_seconds(), cpu_begin = cpu_seconds();
        TRY(run_form(o, m, e, f->encoding, ids, (uint64_t)(round * FORMS + i + 1)));
        f->seconds[round] = clock_seconds() - begin;
        cpu[i] = cpu_seconds() - cpu_begin;
        f->ratios[round] = f->seconds[round] / forms[0].seconds[round];
        f->cpu_ratios[round] = cpu[i] / cpu[0];
        if (f->encoding == LCKV_ENCODING_AUTO) *sequential = lckv_engine_describe(e).sequential_tokens - before;
    }
    return LCKV_OK;
}

static void report(const perf_options *o, int rounds, int64_t sequential) {
    double tokens = (double)o->batch * o->prompt;
    printf("{\"bench\": \"lockstep\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"batch\": %d, "
           "\"prompt\": %d, \"rounds\": %d, \"auto_sequential_share\": %.2f",
           o->config, o->device, dtype_name(o->compute), o->batch, o->prompt, rounds, (double)sequential / tokens);
    for (int i = 0; i < FORMS; i++)
        printf(", \"%s\": {\"tokens_per_second\": %.0f, \"ratio\": %.3f, \"cpu_ratio\": %.3f}", forms[i].name,
               tokens / perf_median(forms[i].seconds, rounds), perf_median(forms[i].ratios, rounds),
               perf_median(forms[i].cpu_ratios, rounds));
    printf("}\n");
}

static int measure(const perf_options *o, const perf_model *m, lckv_engine *e, int32_t *ids) {
    const lckv_step_cost *costs;
    int count, rounds = 0;
    int64_t sequential = 0;
    TRY(lckv_engine_costs(e, &costs, &count));
    for (int i = 0; i < count; i++)
        fprintf(stderr, "cost: %s, %lld rows at depth %lld: %.3f ms\n",
                costs[i].encoding == LCKV_ENCODING_PLAN ? "plan" : "sequential", (long long)costs[i].rows,
                (long long)costs[i].depth, 1e3 * costs[i].seconds);
    TRY(run_round(o, m, e, ids, 0, &sequential)); /* warm-up */
    for (double begin = clock_seconds(); rounds < MAX_ROUNDS; rounds++) {
        if (rounds >= (m->device->host_memory ? MIN_ROUNDS : 1) && clock_seconds() - begin > o->seconds) break;
        TRY(run_round(o, m, e, ids, rounds, &sequential));
    }
    report(o, rounds, sequential);
    return LCKV_OK;
}

int perf_lockstep(const perf_options *o) {
    perf_model m = {0};
    lckv_engine *e = NULL;
    int32_t *ids = malloc((size_t)o->prompt * sizeof *ids);
    int status = ids ? perf_model_open(o, NULL, &m) : fail(LCKV_ERROR_MEMORY, "no memory for a prompt");
    if (status >= 0) status = open_engine(o, &m, &e);
    if (status >= 0) status = measure(o, &m, e, ids);
    lckv_engine_free(e);
    perf_model_close(&m);
    free(ids);
    return status;
}
