/* Training on several processes, each with its own GPU, against each of them alone with micro-batches of the same size.
 * The launcher's variables say how many processes there are (src/collectives/launch.h). See perf_main.c. */
#include "base/rng.h"
#include "collectives/collectives.h"
#include "data/blocks.h"
#include "graph/pool.h"
#include "perf.h"
#include "train/step/step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_ROUNDS = 100, WARM_UP_STEPS = 4 /* also records them */, STEPS = 2, LEAST_ROUNDS = 2, WAYS = 3 };

/* A training run with blocks of random ids. */
typedef struct training {
    const collectives *ranks; /* on the memory of the device; NULL: this process alone */
    int zero;                 /* stage */
    device *device;
    model *model;
    stepper *stepper;
    int32_t *ids;
    int64_t *chosen; /* [per_step] */
    blocks data;
    int per_step;                                  /* examples */
    double seconds[MAX_ROUNDS], waits[MAX_ROUNDS]; /* per step */
    int rounds;
    step_result last, same; /* of the newest step, and of one whose number does not depend on the speed */
} training;

static int make_model(const perf_options *o, training *t) {
    model_config *c;
    params *weights = NULL;
    TRY(config_read(o->config, NULL, &c));
    int status = params_create(c, NULL, NULL, &weights);
    if (status >= 0 && t->ranks && t->zero == 3) status = params_divide(weights, t->ranks);
    if (status >= 0) status = params_allocate(weights, t->device, DTYPE_F32);
    if (status >= 0) status = params_randomize(weights, c, 1);
    if (status >= 0) return model_create(t->device, c, weights, &t->model);
    params_free(weights);
    config_free(c);
    return status;
}

static int make_data(const perf_options *o, training *t) {
    int64_t count = (int64_t)t->per_step * o->block, vocabulary = t->model->config->vocab_size;
    t->ids = malloc((size_t)count * sizeof *t->ids);
    t->chosen = malloc((size_t)t->per_step * sizeof *t->chosen);
    REQUIRE(t->ids && t->chosen, LCKV_ERROR_MEMORY, "no memory for %lld ids", (long long)count);
    for (int64_t i = 0; i < count; i++) t->ids[i] = (int32_t)(rng_uniform(1, 9, (uint64_t)i) * (double)vocabulary);
    for (int i = 0; i < t->per_step; i++) t->chosen[i] = i;
    t->data = blocks_of_ids(t->ids, o->block, t->per_step);
    return LCKV_OK;
}

static int training_open(const perf_options *o, training *t) {
    int each = o->step ? o->step : o->batch;
    t->per_step = each * (t->ranks ? t->ranks->ranks : 1);
    const stepper_options options = {
        .compute = o->compute,
        .batch_size = o->batch,
        .block_size = o->block,
        .fill_size = each,
        .optimizer = {.beta1 = 0.9,
                      .beta2 = 0.95,
                      .epsilon = 1e-8,
                      .weight_decay = 0.1,
                      .max_grad_norm = 1,
                      .collectives = t->ranks},
    };
    TRY(make_model(o, t));
    TRY(make_data(o, t));
    return stepper_create(t->model, &options, &t->stepper);
}

static void training_close(training *t) {
    stepper_free(t->stepper);
    model_free(t->model);
    free(t->ids);
    free(t->chosen);
}

static int end_step(training *t, double *waited) {
    TRY(stepper_end(t->stepper, &t->last));
    *waited += t->last.communication_wait;
    return LCKV_OK;
}

/* Seconds per step, and those of them in which it waited for other processes. As the trainer does, reads results after
 * the next step is launched. */
static int run_steps(training *t, int count, double *seconds, double *waited) {
    double start = clock_seconds();
    *waited = 0;
    for (int i = 0; i < count; i++) {
        TRY(stepper_begin(t->stepper, &t->data.examples, t->chosen, t->per_step, 1e-4));
        if (i) TRY(end_step(t, waited));
    }
    TRY(end_step(t, waited));
    *seconds = (clock_seconds() - start) / count;
    *waited /= count;
    return LCKV_OK;
}

/* All processes run as many rounds as rank 0. */
static int measure(training *t, const perf_options *o) {
    double warm_up, waited, begin;
    bool over = false;
    TRY(run_steps(t, WARM_UP_STEPS, &warm_up, &waited));
    begin = clock_seconds();
    for (t->rounds = 0; t->rounds < MAX_ROUNDS && !over; t->rounds++) {
        TRY(run_steps(t, STEPS, &t->seconds[t->rounds], &t->waits[t->rounds]));
        if (t->rounds + 1 == LEAST_ROUNDS) t->same = t->last;
        over = t->rounds + 1 >= LEAST_ROUNDS && clock_seconds() - begin > o->seconds;
        if (t->ranks) TRY(collectives_broadcast_host(t->ranks, &over, sizeof over));
    }
    return LCKV_OK;
}

typedef struct way {
    const char *name;
    bool together;
    int zero;
    double tokens_per_second, waited;
    step_result same;
} way;

static int run(device *d, const collectives *ranks, const perf_options *o, way *w) {
    static training t;
    t = (training){.device = d, .ranks = w->together ? ranks : NULL, .zero = w->zero};
    int status = training_open(o, &t);
    if (status >= 0) status = measure(&t, o);
    if (status >= 0) w->tokens_per_second = (double)t.per_step * o->block / perf_median(t.seconds, t.rounds);
    w->waited = status >= 0 && w->together ? perf_median(t.waits, t.rounds) : NAN;
    w->same = t.same;
    training_close(&t);
    return collectives_agree(ranks, status);
}

static int compare(device *d, const collectives *ranks, const perf_options *o) {
    way ways[WAYS] = {{.name = "alone"}, {"zero_1", true, 1}, {"zero_3", true, 3}};
    for (int i = 0; i < WAYS; i++) TRY(run(d, ranks, o, &ways[i]));
    if (ranks->rank) return LCKV_OK;
    printf("{\"bench\": \"processes\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"processes\": %d, "
           "\"batch\": %d, \"block\": %d",
           o->config, d->name, dtype_name(o->compute), ranks->ranks, o->batch, o->block);
    for (const way *w = ways; w < ways + WAYS; w++) {
        printf(", \"%s\": {\"tokens_per_second\": %.1f, \"ratio\": %.3f, \"loss\": \"%a\", \"grad_norm\": \"%a\"",
               w->name, w->tokens_per_second, w->tokens_per_second / ways[0].tokens_per_second, w->same.loss,
               w->same.grad_norm);
        if (isfinite(w->waited)) printf(", \"communication_wait_seconds\": %.6f", w->waited);
        printf("}");
    }
    printf("}\n");
    return LCKV_OK;
}

int perf_processes(const perf_options *o) {
    lckv_processes *host;
    device *d = NULL;
    collectives *gpus = NULL;
    TRY(lckv_processes_open(120, &host));
    int status = collectives_agree(host, collectives_device_open(host, o->device, o->threads, &d));
    if (status >= 0) status = collectives_on_device(host, d, &gpus);
    if (status >= 0) status = compare(d, gpus ? gpus : host, o);
    collectives_close(gpus);
    device_close(d);
    lckv_processes_close(host);
    return status;
}
