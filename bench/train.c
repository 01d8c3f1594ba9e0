/* Training steps beside plain products, and with layers computed again beside those without, see main.c. */
#include "base/rng.h"
#include "bench.h"
#include "data/blocks.h"
#include "train/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_TURNS = 1000, GPU_STEPS = 8 };

typedef struct trained {
    device *device;
    model *model;
    stepper *stepper;
    int32_t *ids; /* of data */
    blocks data;
} trained;

static int random_model(device *d, const bench_options *o, model **out) {
    model_config *c;
    TRY(config_read(o->config, NULL, &c));
    return model_create_random(d, c, DTYPE_F32, 1, out);
}

/* `ids` [batch * block] lie in memory of the bench. */
static int random_blocks(const bench_options *o, int64_t vocab_size, int32_t **ids, blocks *out) {
    int64_t count = (int64_t)o->batch * o->block;
    *ids = malloc((size_t)count * sizeof **ids);
    REQUIRE(*ids, LCKV_ERROR_MEMORY, "no memory for %lld ids", (long long)count);
    for (int64_t i = 0; i < count; i++) (*ids)[i] = (int32_t)(rng_uniform(1, 9, (uint64_t)i) * (double)vocab_size);
    *out = blocks_of_ids(*ids, o->block, o->batch);
    return LCKV_OK;
}

static int trained_open(const char *device_name, const bench_options *o, trained *t) {
    const stepper_options options = {
        .compute = o->compute,
        .batch_size = o->batch,
        .block_size = o->block,
        .gradient_checkpointing = o->gradient_checkpointing,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .max_grad_norm = 1},
    };
    *t = (trained){0};
    TRY(device_open(device_name, o->threads, &t->device));
    TRY(random_model(t->device, o, &t->model));
    TRY(random_blocks(o, t->model->config->vocab_size, &t->ids, &t->data));
    return stepper_create(t->model, &options, &t->stepper);
}

static void trained_close(trained *t) {
    stepper_free(t->stepper);
    free(t->ids);
    model_free(t->model);
    device_close(t->device);
}

/* Some steps as a trainer does them, the results of each read when the next has begun: seconds of one. On a CPU one
 * step is long enough to be measured alone. */
static int steps(trained *t, const bench_options *o, double *seconds) {
    int64_t chosen[1024];
    step_result result;
    int count = t->device->host_memory ? 1 : GPU_STEPS;
    REQUIRE(o->batch <= 1024, LCKV_ERROR_ARGUMENT, "a batch of %d blocks is too large for this benchmark", o->batch);
    for (int i = 0; i < o->batch; i++) chosen[i] = i;
    double start = bench_now();
    for (int i = 0; i < count; i++) {
        TRY(stepper_begin(t->stepper, &t->data.examples, chosen, o->batch, 1e-4));
        if (i > 0) TRY(stepper_end(t->stepper, &result));
    }
    TRY(stepper_end(t->stepper, &result));
    *seconds = (bench_now() - start) / count;
    return LCKV_OK;
}

/* One step on the counting device: what it needs. */
static int count_flops(const bench_options *o, double *flops) {
    trained t;
    int64_t chosen[1024];
    step_result ignored;
    int status = trained_open("count", o, &t);
    for (int i = 0; i < o->batch && i < 1024; i++) chosen[i] = i;
    if (status >= 0) {
        t.device->counts.flops = 0;
        status = stepper_step(t.stepper, &t.data.examples, chosen, o->batch, 0, &ignored);
        *flops = t.device->counts.flops;
    }
    trained_close(&t);
    return status;
}

typedef struct turns {
    double seconds[MOST_TURNS], product[MOST_TURNS];
    int count;
} turns;

static int take_turns(trained *t, bench_product *p, const bench_options *o, turns *out) {
    double first = 0, begin;
    TRY(steps(t, o, &first)); /* primitives are made, memory is touched, a GPU's steps are recorded */
    TRY(steps(t, o, &first));
    begin = bench_now();
    for (out->count = 0; out->count < MOST_TURNS; out->count++) {
        if (out->count >= 5 && bench_now() - begin > o->seconds) break;
        TRY(steps(t, o, &out->seconds[out->count]));
        TRY(bench_product_run(p, &out->product[out->count]));
    }
    return LCKV_OK;
}

static void report(const trained *t, const bench_options *o, turns *r, double flops) {
    double seconds = bench_median(r->seconds, r->count), product = bench_median(r->product, r->count);
    printf("{\"bench\": \"train\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"batch\": %d, "
           "\"block\": %d, "
           "\"threads\": %d, \"steps\": %d, \"tokens_per_second\": %.1f, \"gflops\": %.2f, \"product_gflops\": %.2f, "
           "\"ratio\": %.3f, \"activation_bytes\": %zu}\n",
           o->config, o->device, dtype_name(o->compute), o->batch, o->block, t->device->threads, r->count,
           o->batch * o->block / seconds, 1e-9 * flops / seconds, 1e-9 * product, flops / seconds / product,
           pool_peak(t->stepper->graph->pool));
}

int bench_train(const bench_options *o) {
    double flops = 0;
    trained t;
    bench_product p = {0};
    static turns r;
    TRY(count_flops(o, &flops));
    int status = trained_open(o->device, o, &t);
    if (status >= 0) status = bench_product_open(t.device, o->compute, &p);
    if (status >= 0) status = take_turns(&t, &p, o, &r);
    if (status >= 0) report(&t, o, &r, flops);
    bench_product_close(&p);
    trained_close(&t);
    return status;
}

/* ---------------------------------------------------------------- gradient checkpointing */

/* Bytes of this process that lie in memory. */
static double resident_bytes(void) {
    double pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*s %lf", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * (double)sysconf(_SC_PAGESIZE);
}

static int foresee(const bench_options *o, lckv_memory *out) {
    const lckv_training_shape shape = {.struct_size = sizeof shape,
                                       .batch_size = o->batch,
                                       .block_size = o->block,
                                       .bf16 = o->compute == DTYPE_BF16,
                                       .gradient_checkpointing = o->gradient_checkpointing};
    model_config *c;
    TRY(config_read(o->config, NULL, &c));
    int status = lckv_memory_for_training(c, &shape, out);
    config_free(c);
    return status;
}

typedef struct side {
    bench_options options;
    trained trained;
    lckv_memory foreseen;
    double resident; /* what the process grew by until its memory stood still */
    double seconds[MOST_TURNS];
} side;

static int side_open(side *s) {
    double before = resident_bytes(), seconds;
    TRY(foresee(&s->options, &s->foreseen));
    TRY(trained_open(s->options.device, &s->options, &s->trained));
    for (int i = 0; i < 2; i++) TRY(steps(&s->trained, &s->options, &seconds));
    s->resident = resident_bytes() - before;
    return LCKV_OK;
}

static int alternate(side sides[2], int seconds, int *rounds) {
    double begin = bench_now();
    for (*rounds = 0; *rounds < MOST_TURNS; ++*rounds) {
        if (*rounds >= 5 && bench_now() - begin > seconds) break;
        for (int i = 0; i < 2; i++) TRY(steps(&sides[i].trained, &sides[i].options, &sides[i].seconds[*rounds]));
    }
    return LCKV_OK;
}

static void report_sides(side sides[2], int rounds) {
    const bench_options *o = &sides[0].options;
    double seconds[2];
    for (int i = 0; i < 2; i++) seconds[i] = bench_median(sides[i].seconds, rounds);
    printf("{\"bench\": \"checkpointing\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"batch\": %d, "
           "\"block\": %d, \"threads\": %d, \"steps\": %d, \"time_ratio\": %.3f, \"flops_ratio\": %.3f, "
           "\"activations_ratio\": %.4f, ",
           o->config, o->device, dtype_name(o->compute), o->batch, o->block, sides[0].trained.device->threads, rounds,
           seconds[1] / seconds[0], sides[1].foreseen.flops / sides[0].foreseen.flops,
           (double)sides[1].foreseen.activations / (double)sides[0].foreseen.activations);
    for (int i = 0; i < 2; i++)
        printf("\"%s\": {\"tokens_per_second\": %.1f, \"foreseen_bytes\": %lld, \"resident_bytes\": %.0f}%s",
               i ? "recomputed" : "kept", o->batch * o->block / seconds[i], (long long)sides[i].foreseen.total,
               sides[i].resident, i ? "}\n" : ", ");
}

/* Both in one process, in turn, while the machine drifts. */
int bench_checkpointing(const bench_options *o) {
    static side sides[2];
    int status = LCKV_OK, rounds = 0;
    for (int i = 0; i < 2 && status >= 0; i++) {
        sides[i].options = *o;
        sides[i].options.gradient_checkpointing = i == 1;
        status = side_open(&sides[i]);
    }
    if (status >= 0) status = alternate(sides, o->seconds, &rounds);
    if (status >= 0) report_sides(sides, rounds);
    for (int i = 0; i < 2; i++) trained_close(&sides[i].trained);
    return status;
}
