/* One training step on the device, see step.h. */
#include "train/step/step.h"

#include "base/rng.h"
#include "model/shards/weights_use.h"

#include <math.h>
#include <stdlib.h>

static const uint64_t DROPOUT_STREAM = 0x64726f7000000000; /* "drop"; separate from the other streams of a run's seed */

/* ---------------------------------------------------------------- creation */

static int prepare_weights(model *m, const stepper_options *o) {
    params *p = model_trainable(m);
    if (p != m->params) TRY(params_convert(m->params, o->compute));
    TRY(o->bf16_weights ? params_enable_values(p, DTYPE_BF16)
                        : params_enable_masters(p, o->compute, o->optimizer.collectives));
    model_drop_files(m);
    if (m->loop_start) loop_start_drop_initial(m->loop_start);
    if (p->shards && o->bf16_gradients) p->shards->gradient_type = DTYPE_BF16;
    return params_enable_gradients(p);
}

/* Makes room for `most` examples at a time. */
static int allocate_batch(stepper *s, int most) {
    s->correct = (view){NULL, most * s->block_size, 1, DTYPE_I32};
    TRY(s->model->device->memory.alloc(s->model->device, view_bytes(s->correct), &s->correct.data));
    TRY(example_batch_create(s->model->device, most, s->block_size, &s->batch));
    if (s->model->loop_start) s->batch->batch->start_loss = &s->start_loss;
    if (s->iteration_weight > 0) s->batch->batch->iteration_loss = &s->iteration_loss;
    return LCKV_OK;
}

/* Recorded micro-batches refer to the batch's memory, so they are freed with it. */
static void free_batch(stepper *s) {
    replay_set_forget(&s->batches, s->model->device);
    example_batch_free(s->batch);
    if (s->correct.data) s->model->device->memory.release(s->model->device, s->correct.data);
    s->batch = NULL;
    s->correct.data = NULL;
}

/* Exact slots of a group of examples. */
static int allocate_group(stepper *s, dtype compute, int size) {
    if (!s->exact) return LCKV_OK;
    TRY(example_batch_create(s->model->device, size, s->block_size, &s->group));
    return exact_slots_create(s->model, compute, (int64_t)size * s->block_size, &s->slots);
}

static void free_group(stepper *s) {
    example_batch_free(s->group);
    exact_slots_free(s->slots);
    s->group = NULL;
    s->slots = NULL;
}

static int allocate_scalars(stepper *s) {
    device *d = s->model->device;
    int64_t start = 2 * s->model->config->map.slots;
    size_t bytes = (size_t)(8 + 4 * start) * sizeof(double);
    TRY(d->memory.alloc(d, bytes, &s->scalars));
    TRY(d->memory.zero(d, s->scalars, bytes));
    double *at = s->scalars;
    s->idle_residual = (view){at + 6 + 4 * start, 1, 2, DTYPE_F64};
    s->idle_start_loss.sums = (view){at + 6 + 2 * start, start, 2, DTYPE_F64};
    s->start_loss.sums = (view){at + 6, start, 2, DTYPE_F64, NULL};
    s->sums = (view){at, 1, 2, DTYPE_F64};
    s->residual = (view){at + 2, 1, 2, DTYPE_F64};
    s->scale = (view){at + 4, 1, 1, DTYPE_F32};
    s->seed = (view){at + 5, 1, 1, DTYPE_I64};
    return LCKV_OK;
}

/* A constant divisor: a squared error is per number of the looked-up keys and values, of a whole step. */
static void find_scales(const layer_map *map, double factor, double tokens, float *scales) {
    for (int i = 0; i < map->slots; i++) {
        int64_t k = exact_keys_width(map, i), v = exact_values_width(map, i);
        if (k) scales[2 * i] = (float)(factor / tokens / (double)k);
        if (v) scales[2 * i + 1] = (float)(factor / tokens / (double)v);
    }
}

static int prepare_start(stepper *s, const stepper_options *o) {
    const layer_map *map = &s->model->config->map;
    size_t numbers = 2 * (size_t)map->slots;
    double tokens = (double)(o->examples_per_step ? o->examples_per_step : o->batch_size) * o->block_size;
    s->start_scales = calloc(3 * numbers, sizeof *s->start_scales);
    REQUIRE(s->start_scales, LCKV_ERROR_MEMORY, "no memory for training");
    s->start_loss.scales = s->start_scales;
    s->idle_start_loss.scales = s->start_scales + numbers;
    s->iteration_loss = (loop_start_loss){s->start_scales + 2 * numbers, s->idle_start_loss.sums};
    find_scales(map, o->loop_start_weight, tokens, s->start_scales);
    find_scales(map, s->iteration_weight, tokens, s->start_scales + 2 * numbers);
    for (int i = 0; i < STEPPER_AHEAD; i++) {
        s->pending[i].start = calloc(2 * numbers, sizeof(double));
        REQUIRE(s->pending[i].start, LCKV_ERROR_MEMORY, "no memory for training");
    }
    return LCKV_OK;
}

static int make(stepper *s, const stepper_options *o) {
    device *d = s->model->device;
    int group = o->fill_size > s->batch_size ? o->fill_size : s->batch_size;
    TRY(allocate_batch(s, s->batch_size));
    TRY(allocate_group(s, o->compute, group));
    TRY(allocate_scalars(s));
    TRY(prepare_start(s, o));
    TRY(graph_create(d, o->compute, true, &s->graph));
    s->graph->recompute = o->gradient_checkpointing;
    TRY(prepare_weights(s->model, o));
    if (s->model->params->shards) s->model->params->shards->regathers_loops = o->regather_loops;
    return optimizer_create(model_trainable(s->model), &o->optimizer, &s->optimizer);
}

static int check_collectives(const device *d, const collectives *e) {
    bool taken = !e || e->ranks == 1 || d->host_memory || !e->host_memory;
    REQUIRE(taken, LCKV_ERROR_UNSUPPORTED, "%d processes on device %s: their collectives work on host memory alone",
            e->ranks, d->name);
    return LCKV_OK;
}

static int check_batch(int batch_size, int32_t block_size) {
    REQUIRE(batch_size >= 1 && (int64_t)batch_size * block_size <= INT32_MAX, LCKV_ERROR_ARGUMENT,
            "a batch of %d block%s of %d tokens: expected at least one block and at most %d tokens", batch_size,
            plural(batch_size), block_size, INT32_MAX);
    return LCKV_OK;
}

static int check_form(const model *m, const stepper_options *o) {
    bool sequential = m->config->use_sequential;
    REQUIRE(!o->gradient_checkpointing || !sequential, LCKV_ERROR_UNSUPPORTED,
            "gradient_checkpointing is not supported with use_sequential, which writes its slots token by token");
    REQUIRE(!m->loop_start || !sequential, LCKV_ERROR_UNSUPPORTED,
            "a learned start is trained by the plan or in the exact form, not with use_sequential");
    REQUIRE(!o->exact || !sequential, LCKV_ERROR_ARGUMENT, "exact and use_sequential exclude each other");
    return LCKV_OK;
}

int stepper_create(model *m, const stepper_options *o, stepper **out) {
    *out = NULL;
    TRY(check_batch(o->batch_size, o->block_size));
    TRY(check_collectives(m->device, o->optimizer.collectives));
    TRY(check_form(m, o));
    stepper *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for training");
    *s = (stepper){.model = m,
                   .batch_size = o->batch_size,
                   .eval_batch_size = o->batch_size,
                   .block_size = o->block_size,
                   .exact = o->exact && exact_top_layer(m) >= 0};
    if (s->exact) s->plan_share = o->plan_share;
    if (s->exact) s->iteration_weight = o->iteration_weight;
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
    free_group(s);
    for (int i = 0; i < STEPPER_AHEAD; i++) free(s->pending[i].start);
    free(s->start_scales);
    free(s);
}

int stepper_set_eval_batch(stepper *s, int eval_batch_size) {
    TRY(check_batch(eval_batch_size, s->block_size));
    s->eval_batch_size = eval_batch_size;
    if (eval_batch_size <= s->batch_size) return LCKV_OK;
    free_batch(s);
    TRY(allocate_batch(s, eval_batch_size));
    if (!s->group || s->group->size >= eval_batch_size) return LCKV_OK;
    free_group(s);
    return allocate_group(s, s->graph->compute, eval_batch_size);
}

/* ---------------------------------------------------------------- running */

static view loss_of(const stepper *s) {
    return (view){s->sums.data, 1, 1, DTYPE_F64};
}

static bool runs_exact(const stepper *s) {
    return s->exact && !s->by_plan;
}

/* The hidden states of the batch by the form that trains. `record` is used by the exact one. */
static int run_decoder(stepper *s, exact_record *record, tensor **hidden) {
    const model *m = s->model;
    const batch *b = s->batch->batch;
    if (m->config->use_sequential) return decoder_forward_sequential(m, s->graph, b, hidden);
    if (runs_exact(s))
        return decoder_forward_exact(m, s->graph, b, s->slots, s->group_row, s->residual, record, hidden);
    return decoder_forward(m, s->graph, b, NULL, hidden);
}

static int forward(stepper *s, view correct, exact_record *record) {
    tensor *hidden;
    TRY(run_decoder(s, record, &hidden));
    TRY(decoder_loss(s->model, s->graph, s->batch->batch, hidden, s->scale, loss_of(s), (view){0}, correct));
    tensor_release(s->graph, hidden);
    return LCKV_OK;
}

static int walk(stepper *s, exact_record *record) {
    int walks = s->model->config->backward_passes;
    return runs_exact(s) ? decoder_backward_exact(s->graph, record, walks) : graph_backward(s->graph);
}

static int backward(stepper *s, exact_record *record) {
    gradient_points *points = &s->optimizer->points;
    int status = gradient_points_begin(points, s->graph);
    if (status >= 0) status = walk(s, record);
    int ended = gradient_points_end(points, s->graph);
    TRY(status < 0 ? status : ended);
    return weights_finish_sums(s->model->params);
}

static int forward_and_backward(void *user) {
    stepper *s = user;
    exact_record record = {0};
    int status = forward(s, (view){0}, &record);
    if (status >= 0) status = backward(s, &record);
    exact_record_free(s->graph, &record);
    return status;
}

static int forward_alone(stepper *s) {
    exact_record record = {0};
    int status = forward(s, (view){s->correct.data, s->batch->batch->rows, 1, DTYPE_I32}, &record);
    exact_record_free(s->graph, &record);
    return status;
}

/* Whether ranks communicate within a micro-batch. */
static bool communicates(const stepper *s) {
    return s->model->params->shards != NULL;
}

/* The sequential form copies tables from the host, so that it cannot be recorded. Collectives are not recorded. */
static int accumulate_gradients(stepper *s) {
    s->optimizer->points.passed = true;
    if (s->model->config->use_sequential || communicates(s)) return forward_and_backward(s);
    const batch *b = s->batch->batch;
    replay_key key = {{b->rows, b->moves, b->sequences, b->padded_max_rows, s->group_row, s->by_plan}};
    return replay_set_run(&s->batches, s->graph, &key, forward_and_backward, s);
}

/* Runs the batch. Adds to the loss, and to the gradients if `learn` is set, else finds the correct labels. Releases
 * everything else. */
static int run_batch(stepper *s, bool learn) {
    s->graph->recording = learn;
    s->graph->seed = learn ? s->seed : (view){0};
    int status = learn ? accumulate_gradients(s) : forward_alone(s);
    int reset = graph_reset(s->graph);
    return status < 0 ? status : reset;
}

/* Computes the exact slots of the examples of the next batches. */
static int fill_group(stepper *s, const examples *data, const int64_t *chosen, int count) {
    s->group_row = 0;
    if (!runs_exact(s)) return LCKV_OK;
    TRY(example_batch_fill(s->group, data, chosen, count));
    s->graph->seed = (view){0};
    int status = decoder_fill(s->model, s->graph, s->group->batch, s->slots, 0);
    int reset = graph_reset(s->graph);
    return status < 0 ? status : reset;
}

/* Zeroes the loss and the residual, and sets the loss's divisor to `items`, unless that is 0. */
static int begin_loss(stepper *s, int64_t items) {
    device *d = s->model->device;
    float scale = items ? (float)(1.0 / (double)items) : 0;
    TRY(d->memory.zero(d, s->sums.data, 4 * sizeof(double)));
    if (s->model->loop_start) TRY(d->memory.zero(d, s->start_loss.sums.data, view_bytes(s->start_loss.sums)));
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

/* A micro-batch that adds zeros to loss and gradients. `which` is the first example of the group. */
static int run_idle(stepper *s, const examples *data, int64_t which, bool learn) {
    batch *b = s->batch->batch;
    view residual = s->residual;
    TRY(example_batch_fill_unlabeled(s->batch, data, which));
    if (s->model->loop_start) b->start_loss = &s->idle_start_loss;
    if (s->iteration_weight > 0) b->iteration_loss = &s->idle_start_loss;
    s->residual = s->idle_residual;
    s->group_row = 0;
    int status = run_batch(s, learn);
    s->residual = residual;
    if (s->model->loop_start) b->start_loss = &s->start_loss;
    if (s->iteration_weight > 0) b->iteration_loss = &s->iteration_loss;
    return status;
}

/* The examples of a group, which its first micro-batches run. */
typedef struct group {
    const int64_t *chosen; /* [count]; at least one also if count is 0 */
    int64_t at;            /* number of the first one within the step */
    int64_t count;
    int64_t most; /* of any rank that this one communicates with */
} group;

static int run_group(stepper *s, const examples *data, const group *g) {
    TRY(fill_group(s, data, g->chosen, g->count ? (int)g->count : 1));
    for (int64_t i = 0; i < g->most; i += s->batch_size) {
        int64_t left = g->count - i;
        if (left <= 0) {
            TRY(run_idle(s, data, g->chosen[0], true));
            continue;
        }
        TRY(example_batch_fill(s->batch, data, g->chosen + i, left < s->batch_size ? (int)left : s->batch_size));
        TRY(send_seed(s, g->at + i));
        TRY(run_batch(s, true));
        if (runs_exact(s)) s->group_row += s->batch->batch->rows;
    }
    return LCKV_OK;
}

/* Whether a step, counted from 0, of the exact form runs by the plan. A function of the step alone, so that a resumed
 * run continues the sequence; the first one is in the middle of its interval. */
static bool falls_to_plan(double share, int64_t step) {
    return floor(share * (double)(step + 1) + 0.5) > floor(share * (double)step + 0.5);
}

/* Runs this rank's share of the step, one group after another; without exact slots it is one group. */
static int run_share(stepper *s, const examples *data, const int64_t *chosen, int64_t count) {
    int64_t items;
    TRY(count_items(data, chosen, count, &items));
    TRY(begin_loss(s, items));
    const collectives *c = s->optimizer->collectives;
    int64_t first, mine = collectives_share(c, count, &first);
    int64_t most = communicates(s) ? (count + c->ranks - 1) / c->ranks : mine;
    for (int64_t done = 0; done < most;) {
        int64_t size = s->group && most - done > s->group->size ? s->group->size : most - done, left = mine - done;
        group g = {.at = first + done, .count = left < 0 ? 0 : left < size ? left : size, .most = size};
        g.chosen = g.count ? chosen + g.at : chosen;
        TRY(run_group(s, data, &g));
        done += size;
    }
    return LCKV_OK;
}

/* Other ranks may be waiting for this one in the middle of a micro-batch. */
static int agree_on_share(stepper *s, int status) {
    const collectives *c = s->optimizer->collectives;
    if (status < 0 && communicates(s)) collectives_give_up(c);
    return collectives_agree(c, status);
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
    TRY(d->memory.copy_out(d, p->residual, s->residual.data, sizeof p->residual));
    if (s->model->loop_start)
        TRY(d->memory.copy_out(d, p->start, s->start_loss.sums.data, view_bytes(s->start_loss.sums)));
    TRY(d->memory.copy_out(d, &p->state, s->optimizer->state.data, sizeof p->state));
    TRY(d->memory.clock_out(d, &p->ended));
    return d->memory.mark(d, &p->mark);
}

static int launch_step(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate) {
    s->by_plan = falls_to_plan(s->plan_share, s->optimizer->steps);
    int status = run_share(s, data, chosen, count);
    s->by_plan = false; /* evaluations are in the exact form */
    if (status >= 0) status = optimizer_send(s->optimizer, learning_rate);
    TRY(agree_on_share(s, status));
    TRY(update_weights(s));
    return send_results(s);
}

int stepper_begin(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate) {
    const collectives *c = s->optimizer->collectives;
    REQUIRE(s->begun - s->ended < STEPPER_AHEAD, LCKV_ERROR_ARGUMENT, "%d steps have begun and not ended",
            STEPPER_AHEAD);
    collectives_count_waits(c, (int)(s->begun % STEPPER_AHEAD));
    int status = launch_step(s, data, chosen, count, learning_rate);
    collectives_count_waits(c, -1);
    if (status >= 0) s->begun++;
    return status;
}

static double start_error(const stepper *s, const double *sums) {
    double error = 0;
    int terms = 0;
    for (int64_t i = 0; s->model->loop_start && i < s->start_loss.sums.rows; i++) {
        if (!(sums[2 * i + 1] > 0)) continue;
        error += sums[2 * i] / sums[2 * i + 1];
        terms++;
    }
    return terms ? error / terms : (double)NAN;
}

int stepper_end(stepper *s, step_result *out) {
    device *d = s->model->device;
    int slot = (int)(s->ended % STEPPER_AHEAD);
    const step_pending *p = &s->pending[slot];
    *out = (step_result){0};
    REQUIRE(s->ended < s->begun, LCKV_ERROR_ARGUMENT, "no step has begun");
    TRY(collectives_agree(s->optimizer->collectives, d->memory.reach(d, p->mark)));
    *out = (step_result){.loss = p->loss,
                         .grad_norm = p->state.grad_norm,
                         .finite = p->state.finite,
                         .loop_residual = p->residual[1] > 0 ? sqrt(p->residual[0] / p->residual[1]) : NAN,
                         .loop_start_error = start_error(s, p->start),
                         .communication_wait = collectives_waited(s->optimizer->collectives, slot),
                         .ended = p->ended};
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
    int64_t rows = s->batch->batch->rows;
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

static int evaluate_batch(stepper *s, const examples *data, const int64_t *chosen, int count) {
    TRY(fill_group(s, data, chosen, count));
    TRY(example_batch_fill(s->batch, data, chosen, count));
    return run_batch(s, false);
}

static int evaluate_idle(stepper *s, const examples *data, int64_t which) {
    TRY(fill_group(s, data, &which, 1));
    return run_idle(s, data, which, false);
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
    if (!here) return communicates(s) ? evaluate_idle(s, data, first) : LCKV_OK;
    int64_t *chosen = malloc((size_t)here * sizeof *chosen);
    REQUIRE(chosen, LCKV_ERROR_MEMORY, "no memory for %lld numbers", (long long)here);
    for (int64_t i = 0; i < here; i++) chosen[i] = first + mine + i;
    int status = evaluate_batch(s, data, chosen, (int)here);
    free(chosen);
    TRY(status);
    return count_correct(s);
}

int stepper_evaluate(stepper *s, const examples *data, int64_t first, int count, step_evaluation *out) {
    device *d = s->model->device;
    const collectives *e = s->optimizer->collectives;
    double sums[2];
    int64_t labels;
    *out = (step_evaluation){0};
    TRY(agree_on_share(s, evaluate_share(s, data, first, count, &labels)));
    TRY(collectives_all_reduce(e, s->sums));
    TRY(d->memory.copy_out(d, sums, s->sums.data, sizeof sums));
    TRY(collectives_agree(e, d->memory.wait(d)));
    *out = (step_evaluation){.loss = sums[0], .labels = labels, .correct = (int64_t)sums[1]};
    return LCKV_OK;
}
