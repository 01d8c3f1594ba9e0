/* One training step on the device, see stepper.h. */
#include "train/stepper.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- making one */

static int prepare_weights(model *m, const stepper_options *o) {
    TRY(o->bf16_weights ? params_enable_values(m->params, DTYPE_BF16) : params_enable_masters(m->params, o->compute));
    return params_enable_gradients(m->params);
}

/* Room for `most` blocks at a time. */
static int allocate_batch(stepper *s, int most) {
    batch_limits limits = {.rows = most * s->block_size, .sequences = most};
    s->ids = malloc((size_t)most * (size_t)s->block_size * sizeof *s->ids);
    s->labels = malloc((size_t)most * (size_t)s->block_size * sizeof *s->labels);
    s->entries = malloc((size_t)most * sizeof *s->entries);
    REQUIRE(s->ids && s->labels && s->entries, LCKV_ERROR_MEMORY, "no memory for a batch of %d blocks of %d tokens",
            most, s->block_size);
    s->correct = (view){NULL, limits.rows, 1, DTYPE_I32};
    TRY(s->model->device->memory.alloc(s->model->device, (size_t)limits.rows * sizeof(int32_t), &s->correct.data));
    return batch_create(s->model->device, limits, &s->batch);
}

/* What was recorded reads the batch's memory and goes with it. */
static void free_batch(stepper *s) {
    replay_set_forget(&s->batches, s->model->device);
    batch_free(s->batch);
    free(s->ids);
    free(s->labels);
    free(s->entries);
    if (s->correct.data) s->model->device->memory.release(s->model->device, s->correct.data);
    s->batch = NULL;
    s->correct.data = NULL;
    s->ids = NULL;
    s->labels = NULL;
    s->entries = NULL;
}

static int allocate_scalars(stepper *s) {
    device *d = s->model->device;
    TRY(d->memory.alloc(d, 3 * sizeof(double), &s->scalars));
    s->sums = (view){s->scalars, 1, 2, DTYPE_F64};
    s->scale = (view){(char *)s->scalars + 2 * sizeof(double), 1, 1, DTYPE_F32};
    return LCKV_OK;
}

static int make(stepper *s, const stepper_options *o) {
    device *d = s->model->device;
    TRY(allocate_batch(s, s->batch_size));
    TRY(allocate_scalars(s));
    TRY(graph_create(d, o->compute, true, &s->graph));
    s->graph->recompute = o->gradient_checkpointing;
    TRY(prepare_weights(s->model, o));
    return optimizer_create(s->model->params, &o->optimizer, &s->optimizer);
}

static int check_exchange(const device *d, const exchange *e) {
    bool taken = !e || e->ranks == 1 || d->host_memory || !e->host_memory;
    REQUIRE(taken, LCKV_ERROR_UNSUPPORTED,
            "%d processes on device %s: several processes train on CPUs alone (device cpu)", e->ranks, d->name);
    return LCKV_OK;
}

static int check_batch(int batch_size, int32_t block_size) {
    REQUIRE(batch_size >= 1 && (int64_t)batch_size * block_size <= INT32_MAX, LCKV_ERROR_ARGUMENT,
            "a batch of %d blocks of %d tokens: expected at least one block and at most %d tokens", batch_size,
            block_size, INT32_MAX);
    return LCKV_OK;
}

static int check_checkpointing(const model *m, bool asked) {
    REQUIRE(!asked || !m->config->use_sequential, LCKV_ERROR_UNSUPPORTED,
            "gradient_checkpointing is for the plan: use_sequential writes its slots token by token");
    return LCKV_OK;
}

int stepper_create(model *m, const stepper_options *o, stepper **out) {
    *out = NULL;
    TRY(check_batch(o->batch_size, o->block_size));
    TRY(check_exchange(m->device, o->optimizer.exchange));
    TRY(check_checkpointing(m, o->gradient_checkpointing));
    stepper *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory to train");
    *s = (stepper){
        .model = m, .batch_size = o->batch_size, .eval_batch_size = o->batch_size, .block_size = o->block_size};
    int status = make(s, o);
    if (status < 0)
        stepper_free(s);
    else
        *out = s;
    return status;
}

void stepper_free(stepper *s) {
    if (!s) return;
    if (s->begun > s->ended) s->model->device->memory.wait(s->model->device); /* results are still on their way here */
    replay_forget(&s->update, s->model->device);
    optimizer_free(s->optimizer);
    graph_free(s->graph);
    if (s->scalars) s->model->device->memory.release(s->model->device, s->scalars);
    free_batch(s);
    free(s);
}

int stepper_set_eval_batch(stepper *s, int eval_batch_size) {
    TRY(check_batch(eval_batch_size, s->block_size));
    s->eval_batch_size = eval_batch_size;
    if (eval_batch_size <= s->batch_size) return LCKV_OK;
    free_batch(s);
    return allocate_batch(s, eval_batch_size);
}

/* ---------------------------------------------------------------- running one */

/* The label of a token is the next one of its block; the last has none. */
static int add_block(stepper *s, int i, const blocks *data, int64_t block) {
    int32_t *ids = s->ids + (int64_t)i * s->block_size, *labels = s->labels + (int64_t)i * s->block_size;
    TRY(blocks_read(data, block, ids));
    for (int32_t t = 0; t + 1 < s->block_size; t++) labels[t] = ids[t + 1];
    labels[s->block_size - 1] = -1;
    s->entries[i] = (batch_entry){
        .ids = ids, .labels = labels, .rows = s->block_size, .wanted = s->block_size, .cache_id = -1, .planned = true};
    return LCKV_OK;
}

static view loss_of(const stepper *s) {
    return (view){s->sums.data, 1, 1, DTYPE_F64};
}

static int forward(stepper *s, view correct) {
    const model *m = s->model;
    tensor *hidden;
    TRY(m->config->use_sequential ? decoder_forward_sequential(m, s->graph, s->batch, &hidden)
                                  : decoder_forward(m, s->graph, s->batch, NULL, &hidden));
    TRY(decoder_loss(m, s->graph, s->batch, hidden, s->scale, loss_of(s), (view){0}, correct));
    tensor_release(s->graph, hidden);
    return LCKV_OK;
}

static int forward_and_backward(void *user) {
    stepper *s = user;
    TRY(forward(s, (view){0}));
    return graph_backward(s->graph);
}

/* The exact form sends a table of its steps, so it is done as it comes. */
static int learn_from_batch(stepper *s) {
    if (s->model->config->use_sequential) return forward_and_backward(s);
    replay_key key = {{s->batch->rows, s->batch->moves}};
    return replay_set_run(&s->batches, s->graph, &key, forward_and_backward, s);
}

static view correct_of_batch(const stepper *s) {
    return (view){s->correct.data, s->batch->rows, 1, DTYPE_I32};
}

/* Runs the entries that stand ready; everything of it but the loss, what is correct, and the weights' gradients is let
 * go. */
static int run_batch(stepper *s, int count, bool learn) {
    TRY(batch_fill(s->batch, NULL, s->entries, count));
    s->graph->recording = learn;
    int status = learn ? learn_from_batch(s) : forward(s, correct_of_batch(s));
    int reset = graph_reset(s->graph);
    return status < 0 ? status : reset;
}

/* The loss starts at 0 and will be divided by the labels of `count` blocks. */
static int begin_loss(stepper *s, int64_t count) {
    device *d = s->model->device;
    float scale = (float)(1.0 / ((double)count * (double)(s->block_size - 1)));
    TRY(d->memory.zero(d, s->sums.data, 2 * sizeof(double)));
    return d->memory.copy_in(d, s->scale.data, &scale, sizeof scale);
}

static int update(void *user) {
    stepper *s = user;
    return optimizer_update(s->optimizer, loss_of(s));
}

/* The share of this process, one batch after the other. */
static int run_share(stepper *s, const blocks *data, const int64_t *chosen, int64_t count) {
    TRY(begin_loss(s, count));
    int64_t first, end = exchange_share(s->optimizer->exchange, count, &first) + first;
    for (int64_t at = first; at < end;) {
        int now = end - at < s->batch_size ? (int)(end - at) : s->batch_size;
        for (int i = 0; i < now; i++) TRY(add_block(s, i, data, chosen[at + i]));
        TRY(run_batch(s, now, true));
        at += now;
    }
    return LCKV_OK;
}

/* What processes exchange is not recorded. */
static int update_weights(stepper *s) {
    replay_key always = {{0}};
    return s->optimizer->exchange->ranks > 1 ? update(s) : replay_run(&s->update, s->graph, &always, update, s);
}

static int send_results(stepper *s) {
    device *d = s->model->device;
    step_pending *p = &s->pending[s->begun % STEPPER_AHEAD];
    TRY(d->memory.copy_out(d, &p->loss, s->sums.data, sizeof p->loss));
    TRY(d->memory.copy_out(d, &p->state, s->optimizer->state.data, sizeof p->state));
    return d->memory.mark(d, &p->mark);
}

int stepper_begin(stepper *s, const blocks *data, const int64_t *chosen, int64_t count, double learning_rate) {
    REQUIRE(s->begun - s->ended < STEPPER_AHEAD, LCKV_ERROR_ARGUMENT, "%d steps have begun and not ended",
            STEPPER_AHEAD);
    int status = run_share(s, data, chosen, count);
    if (status >= 0) status = optimizer_send(s->optimizer, learning_rate);
    TRY(exchange_agree(s->optimizer->exchange, status));
    TRY(update_weights(s));
    TRY(send_results(s));
    s->begun++;
    return LCKV_OK;
}

int stepper_end(stepper *s, step_result *out) {
    device *d = s->model->device;
    const step_pending *p = &s->pending[s->ended % STEPPER_AHEAD];
    *out = (step_result){0};
    REQUIRE(s->ended < s->begun, LCKV_ERROR_ARGUMENT, "no step has begun");
    TRY(exchange_agree(s->optimizer->exchange, d->memory.reach(d, p->mark)));
    *out = (step_result){.loss = p->loss, .grad_norm = p->state.grad_norm, .finite = p->state.finite};
    s->ended++;
    return LCKV_OK;
}

int stepper_step(stepper *s, const blocks *data, const int64_t *chosen, int64_t count, double learning_rate,
                 step_result *out) {
    TRY(stepper_begin(s, data, chosen, count, learning_rate));
    return stepper_end(s, out);
}

int stepper_blocks_at_once(const stepper *s) {
    return s->eval_batch_size * s->optimizer->exchange->ranks;
}

/* Adds up what the batch has right, to be summed over processes. */
static int count_correct(stepper *s) {
    device *d = s->model->device;
    int64_t rows = s->batch->rows;
    double sum = 0;
    int32_t *correct = malloc((size_t)rows * sizeof *correct);
    int status = correct ? d->memory.copy_out(d, correct, s->correct.data, (size_t)rows * sizeof *correct)
                         : fail(LCKV_ERROR_MEMORY, "no memory for %lld numbers", (long long)rows);
    if (status >= 0) status = d->memory.wait(d);
    for (int64_t r = 0; status >= 0 && r < rows; r++) sum += correct[r];
    free(correct);
    TRY(status);
    return d->memory.copy_in(d, (double *)s->sums.data + 1, &sum, sizeof sum);
}

static int evaluate_share(stepper *s, const blocks *data, int64_t first, int count) {
    TRY(begin_loss(s, count));
    int64_t mine, here = exchange_share(s->optimizer->exchange, count, &mine);
    if (!here) return LCKV_OK;
    for (int64_t i = 0; i < here; i++) TRY(add_block(s, (int)i, data, first + mine + i));
    TRY(run_batch(s, (int)here, false));
    return count_correct(s);
}

int stepper_evaluate(stepper *s, const blocks *data, int64_t first, int count, step_evaluation *out) {
    device *d = s->model->device;
    const exchange *e = s->optimizer->exchange;
    double sums[2];
    *out = (step_evaluation){0};
    TRY(exchange_agree(e, evaluate_share(s, data, first, count)));
    TRY(exchange_sum(e, s->sums));
    TRY(d->memory.copy_out(d, sums, s->sums.data, sizeof sums));
    TRY(exchange_agree(e, d->memory.wait(d)));
    *out =
        (step_evaluation){.loss = sums[0], .labels = (int64_t)count * (s->block_size - 1), .correct = (int64_t)sums[1]};
    return LCKV_OK;
}
