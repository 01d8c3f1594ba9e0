/* One training step on the device, see step.h. */
#include "train/step.h"

#include "base/rng.h"

#include <stdlib.h>

static const uint64_t DROPOUT_STREAM = 0x64726f7000000000; /* "drop"; separate from the other streams of a run's seed */

/* ---------------------------------------------------------------- creation */

static int prepare_weights(model *m, const stepper_options *o) {
    params *p = model_trainable(m);
    if (p != m->params) TRY(params_convert(m->params, o->compute));
    TRY(o->bf16_weights ? params_enable_values(p, DTYPE_BF16) : params_enable_masters(p, o->compute));
    return params_enable_gradients(p);
}

/* Assigns the buffers of each example. */
static void place_examples(stepper *s, int count) {
    for (int i = 0; i < count; i++) {
        int32_t *at = s->rows + 3 * (int64_t)i * s->block_size;
        s->examples[i] = (example){.ids = at, .labels = at + s->block_size, .lengths = at + 2 * (int64_t)s->block_size};
    }
}

/* Makes room for `most` examples, and initially for as many sequences. */
static int allocate_batch(stepper *s, int most) {
    batch_limits limits = {.rows = most * s->block_size, .sequences = most};
    s->examples = malloc((size_t)most * sizeof *s->examples);
    s->rows = malloc(3 * (size_t)limits.rows * sizeof *s->rows);
    s->entries = malloc((size_t)most * sizeof *s->entries);
    s->entry_room = most;
    REQUIRE(s->examples && s->rows && s->entries, LCKV_ERROR_MEMORY, "no memory for a batch of %d blocks of %d tokens",
            most, s->block_size);
    place_examples(s, most);
    s->correct = (view){NULL, limits.rows, 1, DTYPE_I32};
    TRY(s->model->device->memory.alloc(s->model->device, (size_t)limits.rows * sizeof(int32_t), &s->correct.data));
    return batch_create(s->model->device, limits, &s->batch);
}

/* Recorded micro-batches refer to the batch's memory, so they are freed with it. */
static void free_batch(stepper *s) {
    replay_set_forget(&s->batches, s->model->device);
    batch_free(s->batch);
    free(s->examples);
    free(s->rows);
    free(s->entries);
    if (s->correct.data) s->model->device->memory.release(s->model->device, s->correct.data);
    s->batch = NULL;
    s->correct.data = NULL;
    s->examples = NULL;
    s->rows = NULL;
    s->entries = NULL;
}

static int allocate_scalars(stepper *s) {
    device *d = s->model->device;
    TRY(d->memory.alloc(d, 4 * sizeof(double), &s->scalars));
    s->sums = (view){s->scalars, 1, 2, DTYPE_F64};
    s->scale = (view){(char *)s->scalars + 2 * sizeof(double), 1, 1, DTYPE_F32};
    s->seed = (view){(char *)s->scalars + 3 * sizeof(double), 1, 1, DTYPE_I64};
    return LCKV_OK;
}

static int make(stepper *s, const stepper_options *o) {
    device *d = s->model->device;
    TRY(allocate_batch(s, s->batch_size));
    TRY(allocate_scalars(s));
    TRY(graph_create(d, o->compute, true, &s->graph));
    s->graph->recompute = o->gradient_checkpointing;
    TRY(prepare_weights(s->model, o));
    return optimizer_create(model_trainable(s->model), &o->optimizer, &s->optimizer);
}

static int check_exchange(const device *d, const collectives *e) {
    bool taken = !e || e->ranks == 1 || d->host_memory || !e->host_memory;
    REQUIRE(taken, LCKV_ERROR_UNSUPPORTED,
            "%d processes on device %s: several processes train on CPUs alone (device cpu)", e->ranks, d->name);
    return LCKV_OK;
}

static int check_batch(int batch_size, int32_t block_size) {
    REQUIRE(batch_size >= 1 && (int64_t)batch_size * block_size <= INT32_MAX, LCKV_ERROR_ARGUMENT,
            "a batch of %d block%s of %d tokens: expected at least one block and at most %d tokens", batch_size,
            plural(batch_size), block_size, INT32_MAX);
    return LCKV_OK;
}

static int check_checkpointing(const model *m, bool wanted) {
    REQUIRE(!wanted || !m->config->use_sequential, LCKV_ERROR_UNSUPPORTED,
            "gradient_checkpointing is for the plan: use_sequential writes its slots token by token");
    return LCKV_OK;
}

int stepper_create(model *m, const stepper_options *o, stepper **out) {
    *out = NULL;
    TRY(check_batch(o->batch_size, o->block_size));
    TRY(check_exchange(m->device, o->optimizer.collectives));
    TRY(check_checkpointing(m, o->gradient_checkpointing));
    stepper *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for training");
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
    if (s->begun > s->ended) s->model->device->memory.wait(s->model->device); /* results are still being copied */
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

/* ---------------------------------------------------------------- running */

static int reserve_entries(stepper *s, int sequences) {
    if (sequences <= s->entry_room) return LCKV_OK;
    batch_entry *more = realloc(s->entries, (size_t)sequences * sizeof *more);
    REQUIRE(more, LCKV_ERROR_MEMORY, "no memory for a batch of %d sequences", sequences);
    s->entries = more;
    s->entry_room = sequences;
    return LCKV_OK;
}

/* Adds the sequences of an example as entries of the batch, from `at` on. */
static void add_entries(batch_entry *at, const example *e) {
    int32_t begin = 0;
    for (int32_t i = 0; i < e->sequences; i++) {
        int32_t rows = e->lengths[i];
        at[i] = (batch_entry){.ids = e->ids + begin,
                              .labels = e->labels + begin,
                              .rows = rows,
                              .wanted = rows,
                              .cache_id = -1,
                              .planned = true};
        begin += rows;
    }
}

/* Copies the first `count` of s->examples to the device. */
static int fill_batch(stepper *s, int count) {
    int64_t sequences = 0;
    for (int i = 0; i < count; i++) sequences += s->examples[i].sequences;
    TRY(reserve_entries(s, (int)sequences)); /* at most the number of tokens */
    batch_entry *at = s->entries;
    for (int i = 0; i < count; at += s->examples[i++].sequences) add_entries(at, &s->examples[i]);
    return batch_fill(s->batch, NULL, s->entries, (int)sequences);
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

/* The sequential form copies tables from the host, so that it cannot be recorded. */
static int accumulate_gradients(stepper *s) {
    if (s->model->config->use_sequential) return forward_and_backward(s);
    const batch *b = s->batch;
    replay_key key = {{b->rows, b->moves, b->sequences, b->most_rows}};
    return replay_set_run(&s->batches, s->graph, &key, forward_and_backward, s);
}

static view correct_of_batch(const stepper *s) {
    return (view){s->correct.data, s->batch->rows, 1, DTYPE_I32};
}

/* Runs the first `count` of s->examples. Adds to the loss, and to the gradients if `learn` is set, else finds the
 * correct labels. Releases everything else. */
static int run_batch(stepper *s, int count, bool learn) {
    TRY(fill_batch(s, count));
    s->graph->recording = learn;
    s->graph->seed = learn ? s->seed : (view){0};
    int status = learn ? accumulate_gradients(s) : forward(s, correct_of_batch(s));
    int reset = graph_reset(s->graph);
    return status < 0 ? status : reset;
}

/* Zeroes the loss and sets its divisor to `items`, unless that is 0. */
static int begin_loss(stepper *s, int64_t items) {
    device *d = s->model->device;
    float scale = items ? (float)(1.0 / (double)items) : 0;
    TRY(d->memory.zero(d, s->sums.data, 2 * sizeof(double)));
    return d->memory.copy_in(d, s->scale.data, &scale, sizeof scale);
}

static int update(void *user) {
    stepper *s = user;
    return optimizer_update(s->optimizer, loss_of(s));
}

/* Counts the items of the step over all ranks. */
static int count_items(const examples *data, const int64_t *chosen, int64_t count, int64_t *all) {
    *all = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t items;
        TRY((data->count_items ? data->count_items : data->count_labels)(data, chosen[i], &items));
        *all += items;
    }
    return LCKV_OK;
}

/* The seed of a micro-batch's dropout masks is a function of the run's seed, the step, and the position of its first
 * example in the step. */
static int send_seed(stepper *s, int64_t at) {
    device *d = s->model->device;
    const optimizer *o = s->optimizer;
    uint32_t words[4];
    if (!s->model->adapter || s->model->adapter->options.dropout == 0) return LCKV_OK;
    rng_block(o->options.seed, DROPOUT_STREAM + (uint64_t)o->steps, (uint64_t)at, words);
    return d->memory.copy_in(d, s->seed.data, words, sizeof(uint64_t));
}

/* Runs this rank's share of the step, one micro-batch after another. */
static int run_share(stepper *s, const examples *data, const int64_t *chosen, int64_t count) {
    int64_t items;
    TRY(count_items(data, chosen, count, &items));
    TRY(begin_loss(s, items));
    int64_t first, end = collectives_share(s->optimizer->collectives, count, &first) + first;
    for (int64_t at = first; at < end;) {
        int now = end - at < s->batch_size ? (int)(end - at) : s->batch_size;
        for (int i = 0; i < now; i++) TRY(data->read(data, chosen[at + i], &s->examples[i]));
        TRY(send_seed(s, at));
        TRY(run_batch(s, now, true));
        at += now;
    }
    return LCKV_OK;
}

/* With several ranks the update is not recorded, because it contains collectives. */
static int update_weights(stepper *s) {
    replay_key always = {{0}};
    return s->optimizer->collectives->ranks > 1 ? update(s) : replay_run(&s->update, s->graph, &always, update, s);
}

static int send_results(stepper *s) {
    device *d = s->model->device;
    step_pending *p = &s->pending[s->begun % STEPPER_AHEAD];
    TRY(d->memory.copy_out(d, &p->loss, s->sums.data, sizeof p->loss));
    TRY(d->memory.copy_out(d, &p->state, s->optimizer->state.data, sizeof p->state));
    return d->memory.mark(d, &p->mark);
}

int stepper_begin(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate) {
    REQUIRE(s->begun - s->ended < STEPPER_AHEAD, LCKV_ERROR_ARGUMENT, "%d steps have begun and not ended",
            STEPPER_AHEAD);
    int status = run_share(s, data, chosen, count);
    if (status >= 0) status = optimizer_send(s->optimizer, learning_rate);
    TRY(collectives_agree(s->optimizer->collectives, status));
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
    TRY(collectives_agree(s->optimizer->collectives, d->memory.reach(d, p->mark)));
    *out = (step_result){.loss = p->loss, .grad_norm = p->state.grad_norm, .finite = p->state.finite};
    s->ended++;
    return LCKV_OK;
}

int stepper_step(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate,
                 step_result *out) {
    TRY(stepper_begin(s, data, chosen, count, learning_rate));
    return stepper_end(s, out);
}

int stepper_eval_examples(const stepper *s) {
    return s->eval_batch_size * s->optimizer->collectives->ranks;
}

/* Counts the correct labels of the batch; the caller sums them over the ranks. */
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

static int evaluate_share(stepper *s, const examples *data, int64_t first, int count, int64_t *labels) {
    *labels = 0;
    for (int64_t i = first; i < first + count; i++) {
        int64_t here;
        TRY(data->count_labels(data, i, &here));
        *labels += here;
    }
    TRY(begin_loss(s, *labels));
    int64_t mine, here = collectives_share(s->optimizer->collectives, count, &mine);
    if (!here) return LCKV_OK;
    for (int64_t i = 0; i < here; i++) TRY(data->read(data, first + mine + i, &s->examples[i]));
    TRY(run_batch(s, (int)here, false));
    return count_correct(s);
}

int stepper_evaluate(stepper *s, const examples *data, int64_t first, int count, step_evaluation *out) {
    device *d = s->model->device;
    const collectives *e = s->optimizer->collectives;
    double sums[2];
    int64_t labels;
    *out = (step_evaluation){0};
    TRY(collectives_agree(e, evaluate_share(s, data, first, count, &labels)));
    TRY(collectives_all_reduce(e, s->sums));
    TRY(d->memory.copy_out(d, sums, s->sums.data, sizeof sums));
    TRY(collectives_agree(e, d->memory.wait(d)));
    *out = (step_evaluation){.loss = sums[0], .labels = labels, .correct = (int64_t)sums[1]};
    return LCKV_OK;
}
