/* Fitting a learned start, see fit_loop_start.h. */
#include "train/loop_start/fit_loop_start.h"

#include "base/log.h"
#include "data/shuffle.h"
#include "model/exact.h"
#include "train/loop_start/loop_start_kl.h"
#include "train/step/example_batch.h"
#include "train/step/optimizer.h"

#include <math.h>
#include <stdlib.h>

enum {
    STEP_TOKENS = 4096,
    FILL_TOKENS = 1 << 17,  /* tokens whose targets are computed together, */
    FILL_VALUES = 1 << 27,  /* and numbers in their embeddings, at most */
    HELD_OUT_TOKENS = 4096, /* at most a tenth of the text */
    MIN_STEPS = 1000,       /* default number of steps: this or EPOCHS, whichever is more, */
    MAX_STEPS = 4000,       /* but not more than this */
    EPOCHS = 6,
    PIECE_ROWS = 128, /* a start sees no token before its chunk: the fit has chunks about as long as those of prompts */
    WARMUP_STEPS = 50,
    REPORTED_STEPS = 50, /* the error is averaged over the last ones */
};

static const double LAST_RATE = 0.02; /* of the learning rate at the end of the cosine */

typedef struct fit {
    model *model;
    const examples *data;
    const fit_options *options;
    int64_t *order;      /* [data->count] random: first the blocks to fit to, then the held-out ones */
    int64_t count, held; /* blocks */
    exact_slots *slots;  /* targets: block order[i] has rows i * block_size on */
    example_batch *fill, *batch;
    graph *graph;
    optimizer *optimizer;
    view sums;     /* f64 [2 * slots, 2]: of the loss */
    double *host;  /* the same on the host */
    float *scales; /* [2 * slots] */
    loop_start_loss loss;
    int64_t steps;
    const char *part; /* of the work, for progress */
} fit;

/* ---------------------------------------------------------------- setup */

static int64_t largest(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t smallest(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Blocks whose targets fit into half of the free memory. */
static int limit_blocks(fit *f) {
    size_t available, total, each = exact_slots_bytes(f->model, f->options->compute, f->data->block_size);
    TRY(f->model->device->memory.available(f->model->device, &available, &total));
    int64_t fits = largest(1, (int64_t)(available / 2 / each));
    if (f->count > fits)
        log_message(LCKV_LOG_WARNING, "memory for the targets of %lld of %lld blocks: fitting the start to these",
                    (long long)fits, (long long)f->count);
    f->count = smallest(f->count, fits);
    return LCKV_OK;
}

static int choose_blocks(fit *f) {
    int64_t all = f->data->count, size = f->data->block_size;
    REQUIRE(all >= 2, LCKV_ERROR_FORMAT,
            "a text of %lld block%s of %lld tokens: fitting a start takes at least 2, one of them to measure it",
            (long long)all, plural(all), (long long)size);
    f->held = largest(1, smallest(HELD_OUT_TOKENS / size, all / 10));
    f->count = all - f->held;
    f->order = malloc((size_t)all * sizeof *f->order);
    REQUIRE(f->order, LCKV_ERROR_MEMORY, "no memory for the order of %lld blocks", (long long)all);
    for (int64_t i = 0; i < all; i++) f->order[i] = shuffle_index(f->options->seed, 0, all, i);
    return limit_blocks(f);
}

static int64_t batch_blocks(const fit *f, int64_t tokens) {
    return largest(1, smallest(tokens / f->data->block_size, f->count));
}

static void choose_steps(fit *f) {
    int64_t epoch = largest(1, f->count / f->batch->size);
    f->steps = f->options->steps ? f->options->steps : smallest(MAX_STEPS, largest(MIN_STEPS, EPOCHS * epoch));
}

static int make_start(fit *f) {
    model *m = f->model;
    int64_t width = f->options->width ? f->options->width : loop_start_default_width(m->config);
    TRY(loop_start_create(m->device, m->config, width, &m->loop_start));
    params *p = m->loop_start->weights;
    TRY(params_allocate(p, m->device, DTYPE_F32));
    TRY(loop_start_randomize(m->loop_start, f->options->seed));
    TRY(params_enable_masters(p, f->options->compute, NULL));
    TRY(params_enable_gradients(p));
    optimizer_options o = {
        .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.01, .seed = f->options->seed};
    return optimizer_create(p, &o, &f->optimizer);
}

static int allocate(fit *f) {
    device *d = f->model->device;
    int numbers = 2 * f->model->config->map.slots;
    f->sums = (view){NULL, numbers, 2, DTYPE_F64, NULL};
    f->host = calloc(2 * (size_t)numbers, sizeof *f->host);
    f->scales = calloc((size_t)numbers, sizeof *f->scales);
    REQUIRE(f->host && f->scales, LCKV_ERROR_MEMORY, "no memory for %d numbers", numbers);
    TRY(d->memory.alloc(d, view_bytes(f->sums), &f->sums.data));
    TRY(graph_create(d, f->options->compute, true, &f->graph));
    int64_t fill = smallest(FILL_TOKENS, FILL_VALUES / f->model->config->hidden_size);
    TRY(example_batch_create(d, (int)batch_blocks(f, fill), f->data->block_size, &f->fill));
    TRY(example_batch_create(d, (int)batch_blocks(f, STEP_TOKENS), f->data->block_size, &f->batch));
    f->loss = (loop_start_loss){f->scales, f->sums};
    f->batch->batch->start_loss = &f->loss;
    f->batch->batch->piece_rows = PIECE_ROWS;
    return exact_slots_create(f->model, f->options->compute, f->count * f->data->block_size, &f->slots);
}

static void end(fit *f) {
    device *d = f->model->device;
    optimizer_free(f->optimizer);
    exact_slots_free(f->slots);
    example_batch_free(f->fill);
    example_batch_free(f->batch);
    graph_free(f->graph);
    if (f->sums.data) d->memory.release(d, f->sums.data);
    free(f->host);
    free(f->scales);
    free(f->order);
}

/* ---------------------------------------------------------------- targets */

static int report(const fit *f, double fraction) {
    const fit_options *o = f->options;
    bool go_on = !o->go_on || o->go_on(o->user, f->part, fraction);
    REQUIRE(go_on, LCKV_ERROR_INTERRUPTED, "interrupted while %s", f->part);
    return LCKV_OK;
}

static int finish(fit *f, int status) {
    int reset = graph_reset(f->graph);
    return status < 0 ? status : reset;
}

static int compute_targets(fit *f) {
    f->part = "computing targets";
    for (int64_t i = 0; i < f->count; i += f->fill->size) {
        int now = (int)smallest(f->fill->size, f->count - i);
        TRY(report(f, (double)i / (double)f->count));
        TRY(example_batch_fill(f->fill, f->data, f->order + i, now));
        TRY(finish(f, decoder_fill(f->model, f->graph, f->fill->batch, f->slots, i * f->data->block_size)));
    }
    return LCKV_OK;
}

static int read_sums(fit *f) {
    device *d = f->model->device;
    TRY(d->memory.copy_out(d, f->host, f->sums.data, view_bytes(f->sums)));
    return d->memory.wait(d);
}

static int add_squares(fit *f, view target, int number) {
    view sum = view_rows(f->sums, number, 1);
    sum.cols = 1;
    return target.data ? DEVICE_RUN(f->model->device, sum_squares, &(struct op_sum_squares){.x = target, .out = sum})
                       : LCKV_OK;
}

/* Keys and values of each slot count alike: their errors are divided by the mean square of their targets. */
static int find_scales(fit *f) {
    device *d = f->model->device;
    int slots = f->model->config->map.slots;
    double rows = (double)f->batch->size * f->data->block_size, all = (double)f->count * f->data->block_size;
    TRY(d->memory.zero(d, f->sums.data, view_bytes(f->sums)));
    for (int s = 0; s < slots; s++) {
        TRY(add_squares(f, f->slots->k[s], 2 * s));
        TRY(add_squares(f, f->slots->v[s], 2 * s + 1));
    }
    TRY(read_sums(f));
    for (int i = 0; i < 2 * slots; i++) {
        double squares = f->host[2 * i] / all * rows;
        f->scales[i] = squares > 0 ? (float)(1 / squares) : 0;
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- steps */

static double rate_of(const fit *f, int64_t step) {
    double warmup = step < WARMUP_STEPS ? (double)(step + 1) / WARMUP_STEPS : 1;
    double cosine = 0.5 * (1 + cos(acos(-1) * (double)step / (double)f->steps));
    return f->options->learning_rate * warmup * (LAST_RATE + (1 - LAST_RATE) * cosine);
}

/* The first block of a step's batch: a random one of the ranges into which the blocks are cut, anew in each epoch. */
static int64_t first_block(const fit *f, int64_t step) {
    int64_t size = f->batch->size, shifts = smallest(size, f->count - size + 1), ranges = f->count / size;
    int64_t epoch = step / ranges, shift = shuffle_index(f->options->seed + 1, (uint64_t)epoch, shifts, 0);
    int64_t first = shift + size * shuffle_index(f->options->seed, (uint64_t)epoch + 1, ranges, step % ranges);
    return smallest(first, f->count - size);
}

static int run_step(fit *f, int64_t step) {
    device *d = f->model->device;
    int64_t first = first_block(f, step);
    view loss = {f->sums.data, 1, 1, DTYPE_F64, NULL};
    if (f->steps - step >= REPORTED_STEPS) TRY(d->memory.zero(d, f->sums.data, view_bytes(f->sums)));
    TRY(example_batch_fill(f->batch, f->data, f->order + first, f->batch->size));
    int status = decoder_fit_loop_start(f->model, f->graph, f->batch->batch, f->slots, first * f->data->block_size);
    if (status >= 0) status = graph_backward(f->graph);
    TRY(finish(f, status));
    TRY(optimizer_send(f->optimizer, rate_of(f, step)));
    return optimizer_update(f->optimizer, loss);
}

static int run_steps(fit *f) {
    f->part = "fitting";
    for (int64_t i = 0; i < f->steps; i++) {
        TRY(report(f, (double)i / (double)f->steps));
        TRY(run_step(f, i));
    }
    return LCKV_OK;
}

/* Mean over keys and values. */
static double relative_error(const fit *f) {
    double error = 0;
    int terms = 0;
    for (int i = 0; i < 2 * f->model->config->map.slots; i++) {
        if (!(f->host[2 * i + 1] > 0)) continue;
        error += f->host[2 * i] / f->host[2 * i + 1];
        terms++;
    }
    return error / terms;
}

/* ---------------------------------------------------------------- all of it */

static bool report_measuring(void *user, double fraction) {
    const fit *f = user;
    return !f->options->go_on || f->options->go_on(f->options->user, f->part, fraction);
}

static int run(fit *f, fit_result *out) {
    TRY(make_start(f)); /* fails without loops */
    TRY(choose_blocks(f));
    TRY(allocate(f));
    choose_steps(f);
    TRY(compute_targets(f));
    TRY(find_scales(f));
    TRY(run_steps(f));
    TRY(read_sums(f));
    int64_t size = f->data->block_size;
    *out = (fit_result){
        .tokens = f->count * size, .held_out = f->held * size, .steps = f->steps, .relative_error = relative_error(f)};
    REQUIRE(isfinite(out->relative_error), LCKV_ERROR_NUMERIC,
            "the error of the start is not finite; use a lower learning rate");
    f->part = "measuring";
    const kl_options kl = {.compute = f->options->compute, .go_on = report_measuring, .user = f};
    return measure_loop_start(f->model, f->data, f->order + f->data->count - f->held, (int)f->held, &kl);
}

int fit_loop_start(model *m, const examples *data, const fit_options *options, fit_result *out) {
    fit f = {.model = m, .data = data, .options = options};
    loop_start_free(m->loop_start);
    m->loop_start = NULL;
    int status = run(&f, out);
    end(&f);
    if (status >= 0) return LCKV_OK;
    loop_start_free(m->loop_start);
    m->loop_start = NULL;
    return status;
}
