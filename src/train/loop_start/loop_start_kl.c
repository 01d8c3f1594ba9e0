/* Measuring a learned start, see loop_start_kl.h. */
#include "train/loop_start/loop_start_kl.h"

#include "model/exact.h"
#include "train/step/example_batch.h"

#include <math.h>
#include <stdlib.h>

typedef struct measurement {
    model *model;
    const kl_options *options;
    graph *graph;
    example_batch *batch;
    exact_slots *slots;
    view residual; /* f64 [1, 2], which nobody reads */
    int iterations;
    float *exact, *logits; /* [block_size, vocab_size] of one block */
} measurement;

static int begin(measurement *r, const examples *data) {
    device *d = r->model->device;
    size_t values = (size_t)data->block_size * (size_t)r->model->config->vocab_size;
    r->residual = (view){NULL, 1, 2, DTYPE_F64, NULL};
    TRY(d->memory.alloc(d, view_bytes(r->residual), &r->residual.data));
    TRY(graph_create(d, r->options->compute, true, &r->graph));
    TRY(example_batch_create(d, 1, data->block_size, &r->batch));
    TRY(exact_slots_create(r->model, r->options->compute, data->block_size, &r->slots));
    r->exact = malloc(values * sizeof *r->exact);
    r->logits = malloc(values * sizeof *r->logits);
    REQUIRE(r->exact && r->logits, LCKV_ERROR_MEMORY, "no memory for the logits of %d tokens", data->block_size);
    return LCKV_OK;
}

static void end(measurement *r) {
    device *d = r->model->device;
    exact_slots_free(r->slots);
    example_batch_free(r->batch);
    graph_free(r->graph);
    if (r->residual.data) d->memory.release(d, r->residual.data);
    free(r->exact);
    free(r->logits);
}

static int read_logits(measurement *r, tensor *hidden, float *out) {
    device *d = r->model->device;
    tensor *logits;
    TRY(decoder_logits(r->model, r->graph, hidden, &logits));
    TRY(d->memory.copy_out(d, out, logits->value.data, view_bytes(logits->value)));
    return d->memory.wait(d);
}

static int run_exact(measurement *r) {
    tensor *hidden;
    exact_record record = {0};
    device *d = r->model->device;
    const batch *b = r->batch->batch;
    TRY(d->memory.zero(d, r->residual.data, view_bytes(r->residual)));
    TRY(decoder_fill(r->model, r->graph, b, r->slots, 0));
    int status = decoder_forward_exact(r->model, r->graph, b, r->slots, 0, r->residual, &record, &hidden);
    if (status >= 0) status = read_logits(r, hidden, r->exact);
    exact_record_free(r->graph, &record);
    return status;
}

static int run_plan(measurement *r, int iterations) {
    tensor *hidden;
    plan steps;
    TRY(plan_make(&r->model->config->map, iterations - 1, 1, &steps));
    r->batch->batch->plan = &steps;
    int status = decoder_forward(r->model, r->graph, r->batch->batch, NULL, &hidden);
    if (status >= 0) status = read_logits(r, hidden, r->logits);
    r->batch->batch->plan = NULL;
    plan_free(&steps);
    return status;
}

/* Ends a forward pass, of which nothing was recorded. */
static int finish(measurement *r, int status) {
    int reset = graph_reset(r->graph);
    return status < 0 ? status : reset;
}

/* Adds the divergence of each number of iterations to `sums`. */
static int add_column(measurement *r, loop_start *start, int32_t tokens, double *sums) {
    r->model->loop_start = start;
    for (int i = 1; i <= r->iterations; i++) {
        TRY(finish(r, run_plan(r, i)));
        sums[i - 1] += tokens * lckv_kl_divergence(r->exact, r->logits, tokens, r->model->config->vocab_size);
    }
    return LCKV_OK;
}

static int add_block(measurement *r, const examples *data, int64_t block, loop_start *start, loop_start_kl *kl,
                     int64_t *tokens) {
    TRY(example_batch_fill(r->batch, data, &block, 1));
    int32_t rows = r->batch->examples[0].tokens;
    TRY(finish(r, run_exact(r)));
    TRY(add_column(r, NULL, rows, kl->zeros));
    TRY(add_column(r, start, rows, kl->start));
    *tokens += rows;
    return LCKV_OK;
}

static int measure(measurement *r, const examples *data, const int64_t *chosen, int count, loop_start *start) {
    loop_start_kl kl = {.count = r->iterations, .trained = start->kl.trained};
    int64_t tokens = 0;
    TRY(begin(r, data));
    for (int i = 0; i < count; i++) {
        const kl_options *o = r->options;
        bool go_on = !o->go_on || o->go_on(o->user, (double)i / count);
        REQUIRE(go_on, LCKV_ERROR_INTERRUPTED, "interrupted after %d of %d blocks", i, count);
        TRY(add_block(r, data, chosen[i], start, &kl, &tokens));
    }
    for (int i = 0; i < kl.count; i++) {
        kl.zeros[i] /= (double)tokens;
        kl.start[i] /= (double)tokens;
        REQUIRE(isfinite(kl.zeros[i]) && isfinite(kl.start[i]), LCKV_ERROR_NUMERIC,
                "the divergence from the exact form is not finite after %d iterations", i + 1);
    }
    start->kl = kl;
    return LCKV_OK;
}

int measure_loop_start(model *m, const examples *data, const int64_t *chosen, int count, const kl_options *options) {
    loop_start *start = m->loop_start;
    int all = m->config->forward_passes + m->config->backward_passes;
    measurement r = {.model = m, .options = options, .iterations = all < LOOP_START_COLUMNS ? all : LOOP_START_COLUMNS};
    int status = measure(&r, data, chosen, count, start);
    m->loop_start = start;
    end(&r);
    return status;
}
