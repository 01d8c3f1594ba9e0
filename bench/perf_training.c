/* Speed of training steps relative to a matrix product, with gradient checkpointing, and in the exact form. See
 * perf_main.c. */
#include "base/rng.h"
#include "data/blocks.h"
#include "perf.h"
#include "train/cost/device_measure.h"
#include "train/step/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ROUNDS = 1000, GPU_STEPS = 8 };

typedef struct trained {
    device *device;
    model *model;
    stepper *stepper;
    int32_t *ids; /* of `data` */
    blocks data;
} trained;

static int examples_per_step(const perf_options *o) {
    return o->step ? o->step : o->batch;
}

/* Steps of several micro-batches take long enough to be measured one by one. */
static bool large_step(const perf_options *o) {
    return examples_per_step(o) > o->batch;
}

static int random_model(device *d, const perf_options *o, model **out) {
    model_config *c;
    TRY(config_read(o->config, NULL, &c));
    return model_create_random(d, c, DTYPE_F32, 1, out);
}

/* *ids [examples, block] must outlive the blocks; release with free(). */
static int random_blocks(const perf_options *o, int64_t vocab_size, int32_t **ids, blocks *out) {
    int64_t count = (int64_t)examples_per_step(o) * o->block;
    *ids = malloc((size_t)count * sizeof **ids);
    REQUIRE(*ids, LCKV_ERROR_MEMORY, "no memory for %lld ids", (long long)count);
    for (int64_t i = 0; i < count; i++) (*ids)[i] = (int32_t)(rng_uniform(1, 9, (uint64_t)i) * (double)vocab_size);
    *out = blocks_of_ids(*ids, o->block, examples_per_step(o));
    return LCKV_OK;
}

static int trained_open(const char *device_name, const perf_options *o, trained *t) {
    const stepper_options options = {
        .compute = o->compute,
        .batch_size = o->batch,
        .block_size = o->block,
        .gradient_checkpointing = o->gradient_checkpointing,
        .exact = o->exact,
        .fill_size = examples_per_step(o),
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

/* Seconds per step. Runs steps as the trainer does: results are read after the next step is launched. On a CPU one step
 * is long enough to be measured alone. */
static int steps(trained *t, const perf_options *o, double *seconds) {
    int64_t chosen[1024];
    step_result result;
    int per_step = examples_per_step(o), count = t->device->host_memory || large_step(o) ? 1 : GPU_STEPS;
    REQUIRE(per_step <= 1024, LCKV_ERROR_ARGUMENT, "a step of %d blocks is too large for this benchmark", per_step);
    for (int i = 0; i < per_step; i++) chosen[i] = i;
    double start = clock_seconds();
    for (int i = 0; i < count; i++) {
        TRY(stepper_begin(t->stepper, &t->data.examples, chosen, per_step, 1e-4));
        if (i > 0) TRY(stepper_end(t->stepper, &result));
    }
    TRY(stepper_end(t->stepper, &result));
    *seconds = (clock_seconds() - start) / count;
    return LCKV_OK;
}

/* FLOPs of one step and the memory of training, on the counting device. */
static int count(const perf_options *o, device_counts *out) {
    trained t;
    int64_t chosen[1024];
    step_result ignored;
    int status = trained_open("count", o, &t);
    int per_step = examples_per_step(o);
    for (int i = 0; i < per_step && i < 1024; i++) chosen[i] = i;
    if (status >= 0) {
        t.device->counts.flops = 0;
        status = stepper_step(t.stepper, &t.data.examples, chosen, per_step, 0, &ignored);
        *out = t.device->counts;
    }
    trained_close(&t);
    return status;
}

typedef struct step_times {
    double seconds[MAX_ROUNDS], product[MAX_ROUNDS];
    int count;
} step_times;

static int measure(trained *t, device_speed *p, const perf_options *o, step_times *out) {
    double first = 0, begin;
    TRY(steps(t, o, &first)); /* warm-up: creates primitives, touches memory, captures a GPU's steps */
    TRY(steps(t, o, &first));
    begin = clock_seconds();
    for (out->count = 0; out->count < MAX_ROUNDS; out->count++) {
        if (out->count >= 5 && clock_seconds() - begin > o->seconds) break;
        TRY(steps(t, o, &out->seconds[out->count]));
        TRY(device_speed_product(p, &out->product[out->count]));
    }
    return LCKV_OK;
}

/* GiB of a GPU that are in use, by every program and the driver; 0 on a CPU. Training does not release memory, so that
 * this is the largest value at the end. */
static double gib_in_use(const device *d) {
    size_t free_bytes, total;
    if (d->host_memory || d->memory.available((device *)d, &free_bytes, &total) < 0) return 0;
    return (double)(total - free_bytes) / (1 << 30);
}

static void report(const trained *t, const perf_options *o, step_times *r, const device_counts *counted) {
    double seconds = perf_median(r->seconds, r->count), product = perf_median(r->product, r->count);
    double flops = counted->flops;
    printf("{\"bench\": \"train\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"batch\": %d, "
           "\"block\": %d, "
           "\"threads\": %d, \"steps\": %d, \"tokens_per_second\": %.1f, \"gflops\": %.2f, \"product_gflops\": %.2f, "
           "\"ratio\": %.3f, \"activation_bytes\": %zu, \"planned_gib\": %.2f, \"gib_in_use\": %.2f}\n",
           o->config, o->device, dtype_name(o->compute), o->batch, o->block, t->device->threads, r->count,
           examples_per_step(o) * o->block / seconds, 1e-9 * flops / seconds, 1e-9 * product, flops / seconds / product,
           pool_peak(t->stepper->graph->pool), (double)counted->peak / (1 << 30), gib_in_use(t->device));
}

int perf_training(const perf_options *o) {
    device_counts counted = {0};
    trained t;
    device_speed p = {0};
    static step_times r;
    TRY(count(o, &counted));
    int status = trained_open(o->device, o, &t);
    if (status >= 0) status = device_speed_open(t.device, o->compute, &p);
    if (status >= 0) status = measure(&t, &p, o, &r);
    if (status >= 0) report(&t, o, &r, &counted);
    device_speed_close(&p);
    trained_close(&t);
    return status;
}

/* ---------------------------------------------------------------- two ways to train */

static int predict(const perf_options *o, lckv_memory *out) {
    const lckv_training_shape shape = {.struct_size = sizeof shape,
                                       .batch_size = o->batch,
                                       .block_size = o->block,
                                       .bf16 = o->compute == DTYPE_BF16,
                                       .gradient_checkpointing = o->gradient_checkpointing,
                                       .loop_form = o->exact ? LCKV_LOOP_EXACT : LCKV_LOOP_PLAN,
                                       .loop_group_size = examples_per_step(o)};
    model_config *c;
    TRY(config_read(o->config, NULL, &c));
    int status = lckv_memory_for_training(c, &shape, out);
    config_free(c);
    return status;
}

typedef struct side {
    const char *name;
    perf_options options;
    trained trained;
    lckv_memory predicted;
    double resident; /* growth of a process of its own at most in its first steps */
    double seconds[MAX_ROUNDS];
} side;

static int side_open(side *s) {
    double seconds;
    TRY(predict(&s->options, &s->predicted));
    TRY(trained_open(s->options.device, &s->options, &s->trained));
    for (int i = 0; i < (large_step(&s->options) ? 1 : 2); i++) TRY(steps(&s->trained, &s->options, &seconds));
    return LCKV_OK;
}

/* In a child, whose memory no other run has used. To be called before threads and devices are in use. */
static int measure_resident(side *s) {
    int ends[2], code;
    REQUIRE(pipe(ends) == 0, LCKV_ERROR_DEVICE, "cannot create a pipe");
    pid_t child = fork();
    REQUIRE(child >= 0, LCKV_ERROR_DEVICE, "cannot start a process");
    if (!child) {
        double before = (double)process_resident_bytes();
        int status = side_open(s);
        if (status < 0) fprintf(stderr, "%s\n", lckv_last_error());
        s->resident = (double)process_peak_bytes() - before;
        _exit(status < 0 || write(ends[1], &s->resident, sizeof s->resident) != sizeof s->resident);
    }
    close(ends[1]);
    ssize_t bytes = read(ends[0], &s->resident, sizeof s->resident);
    close(ends[0]);
    waitpid(child, &code, 0);
    REQUIRE(bytes == sizeof s->resident, LCKV_ERROR_DEVICE, "the process that measures memory has failed");
    return LCKV_OK;
}

static int alternate(side sides[2], int seconds, int *rounds) {
    double begin = clock_seconds();
    for (*rounds = 0; *rounds < MAX_ROUNDS; ++*rounds) {
        if (*rounds >= (large_step(&sides[1].options) ? 1 : 5) && clock_seconds() - begin > seconds) break;
        for (int i = 0; i < 2; i++) TRY(steps(&sides[i].trained, &sides[i].options, &sides[i].seconds[*rounds]));
    }
    return LCKV_OK;
}

static void report_sides(const char *bench, side sides[2], int rounds) {
    const perf_options *o = &sides[0].options;
    double seconds[2]; /* per block */
    for (int i = 0; i < 2; i++)
        seconds[i] = perf_median(sides[i].seconds, rounds) / examples_per_step(&sides[i].options);
    printf("{\"bench\": \"%s\", \"config\": \"%s\", \"device\": \"%s\", \"compute\": \"%s\", \"batch\": %d, "
           "\"step\": %d, \"block\": %d, \"threads\": %d, \"steps\": %d, \"time_ratio\": %.3f, \"flops_ratio\": %.3f, "
           "\"activations_ratio\": %.4f, ",
           bench, o->config, o->device, dtype_name(o->compute), o->batch, examples_per_step(&sides[1].options),
           o->block, sides[0].trained.device->threads, rounds, seconds[1] / seconds[0],
           sides[1].predicted.flops / sides[0].predicted.flops,
           (double)sides[1].predicted.activations / (double)sides[0].predicted.activations);
    for (int i = 0; i < 2; i++)
        printf("\"%s\": {\"tokens_per_second\": %.1f, \"foreseen_bytes\": %lld, \"resident_bytes\": %.0f}%s",
               sides[i].name, o->block / seconds[i], (long long)sides[i].predicted.total, sides[i].resident,
               i ? "}\n" : ", ");
}

/* Alternates between both in one process, so that drift of the machine affects both alike. */
static int compare(const char *bench, const char *const names[2], const perf_options options[2]) {
    static side sides[2];
    int status = LCKV_OK, rounds = 0;
    for (int i = 0; i < 2 && status >= 0; i++) {
        sides[i].name = names[i];
        sides[i].options = options[i];
        status = measure_resident(&sides[i]);
    }
    for (int i = 0; i < 2 && status >= 0; i++) status = side_open(&sides[i]);
    if (status >= 0) status = alternate(sides, options[0].seconds, &rounds);
    if (status >= 0) report_sides(bench, sides, rounds);
    for (int i = 0; i < 2; i++) trained_close(&sides[i].trained);
    return status;
}

int perf_checkpointing(const perf_options *o) {
    perf_options options[2] = {*o, *o};
    options[1].gradient_checkpointing = true;
    return compare("checkpointing", (const char *const[]){"kept", "recomputed"}, options);
}

int perf_exact(const perf_options *o) {
    perf_options options[2] = {*o, *o};
    if (o->reference_step) options[0].step = o->reference_step;
    options[1].exact = true;
    return compare("exact", (const char *const[]){"plan", "exact"}, options);
}
