/* The training loop: blocks in order, a step each, log, evaluation, and what is written at the end. See lckv.h. */
#include "train/trainer.h"

#include "io/hf_folder.h"
#include "train/optimizer_state.h"
#include "train/order.h"

#include <math.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------------------- telling */

static int ask(lckv_trainer *t, const lckv_train_progress *progress) {
    if (!t->callback || t->callback(t->user, progress)) return LCKV_OK;
    return fail(LCKV_ERROR_INTERRUPTED, "stopped after step %lld of %lld", (long long)t->step, (long long)t->steps);
}

/* `status` is what the watchers said, who are with one process: all stop where one is to. */
static int tell(lckv_trainer *t, const lckv_train_progress *progress, int status) {
    return exchange_agree(t->exchange, status < 0 ? status : ask(t, progress));
}

static lckv_train_progress progress_of_step(const lckv_trainer *t, const step_result *r, double learning_rate) {
    double clock = now(), seconds = clock - t->begin, since_log = clock - t->window.begin;
    return (lckv_train_progress){
        .phase = LCKV_TRAIN_STEPPING,
        .fraction = (double)t->step / (double)t->steps,
        .step = t->step,
        .steps = t->steps,
        .loss = r->loss,
        .mean_loss = t->window.loss / (double)t->window.steps,
        .grad_norm = r->grad_norm,
        .learning_rate = learning_rate,
        .tokens_per_second = since_log > 0 ? (double)t->window.tokens / since_log : 0,
        .seconds = seconds,
        .seconds_left = seconds / (double)t->step * (double)(t->steps - t->step),
        .logged = t->step % t->logging_steps == 0 || t->step == t->steps,
    };
}

/* A step has ended well: counts it, logs it when its turn has come, tells the caller. */
static int report_step(lckv_trainer *t, const step_result *r, int64_t tokens, double learning_rate) {
    t->step++;
    t->tokens += tokens;
    t->loss_sum += r->loss;
    t->window.steps++;
    t->window.tokens += tokens;
    t->window.loss += r->loss;
    lckv_train_progress p = progress_of_step(t, r, learning_rate);
    if (p.logged) t->window = (log_window){.begin = now()};
    return tell(t, &p, watchers_step(&t->watchers, t, &p));
}

/* ---------------------------------------------------------------- training */

/* The blocks of a step, a function of seed and step alone. The last step of an epoch takes what is left of it. */
static int64_t choose_blocks(lckv_trainer *t, int64_t step) {
    int64_t epoch = step / t->steps_per_epoch, first = step % t->steps_per_epoch * t->blocks_per_step;
    int64_t left = t->train.count - first, count = left < t->blocks_per_step ? left : t->blocks_per_step;
    for (int64_t i = 0; i < count; i++)
        t->chosen[i] = t->shuffle ? order_index(t->seed, (uint64_t)epoch, t->train.count, first + i) : first + i;
    return count;
}

static int train(lckv_trainer *t) {
    t->begin = t->window.begin = now();
    while (t->step < t->steps) {
        int64_t count = choose_blocks(t, t->step);
        double learning_rate = schedule_learning_rate(&t->schedule, t->step);
        step_result r;
        TRY(stepper_step(t->stepper, &t->train, t->chosen, count, learning_rate, &r));
        REQUIRE(r.finite, LCKV_ERROR_NUMERIC,
                "step %lld: loss %g, gradient norm %g: not finite, training stops. No model was written to '%s'",
                (long long)t->step + 1, r.loss, r.grad_norm, t->output_dir);
        TRY(report_step(t, &r, count * t->train.block_size, learning_rate));
    }
    return LCKV_OK;
}

static int evaluate(lckv_trainer *t, lckv_evaluation *out) {
    double sum = 0;
    int64_t count = t->validation.count;
    for (int64_t first = 0; first < count;) {
        int64_t left = count - first;
        int at_once = stepper_blocks_at_once(t->stepper), these = left < at_once ? (int)left : at_once;
        double mean;
        TRY(stepper_evaluate(t->stepper, &t->validation, first, these, &mean));
        sum += mean * these;
        first += these;
        lckv_train_progress p = {.phase = LCKV_TRAIN_EVALUATING, .fraction = (double)first / (double)count};
        TRY(tell(t, &p, LCKV_OK));
    }
    double loss = sum / (double)count;
    *out = (lckv_evaluation){.loss = loss, .perplexity = exp(loss), .blocks = count};
    return exchange_agree(t->exchange, watchers_evaluated(&t->watchers, t, out));
}

/* ---------------------------------------------------------------- a whole run */

static int values(void *user, int entry, dtype type, void *host) {
    const lckv_trainer *t = user;
    (void)type; /* f32, see below */
    return optimizer_read(t->stepper->optimizer, entry, OPTIMIZER_VALUE, host);
}

static int write_model(void *user) {
    lckv_trainer *t = user;
    checkpoint_save_options options = {
        .type = DTYPE_F32, .source = t->source_folder, .tokenizer = t->tokenizer_folder, .values = values, .user = t};
    return checkpoint_save(t->model->config, t->model->params, &options, t->output_dir);
}

static int save(lckv_trainer *t) {
    return optimizer_while_one_writes(t->stepper->optimizer, write_model, t);
}

static lckv_train_result result_so_far(const lckv_trainer *t) {
    return (lckv_train_result){
        .steps = t->step,
        .tokens = t->tokens,
        .seconds = now() - t->begin,
        .train_loss = t->step ? t->loss_sum / (double)t->step : NAN,
        .eval_loss = NAN,
        .perplexity = NAN,
    };
}

static int train_save_evaluate(lckv_trainer *t, lckv_train_result *result) {
    int status = train(t);
    *result = result_so_far(t);
    if (status < 0 && status != LCKV_ERROR_INTERRUPTED) return status;
    TRY(save(t)); /* leaves the message of an interruption alone */
    if (status < 0 || !t->validation.count) return status;
    lckv_evaluation e;
    TRY(evaluate(t, &e));
    result->eval_loss = e.loss;
    result->perplexity = e.perplexity;
    return LCKV_OK;
}

int lckv_trainer_run(lckv_trainer *t, lckv_train_result *result) {
    lckv_train_result ignored;
    if (!result) result = &ignored;
    REQUIRE(!t->ran, LCKV_ERROR_ARGUMENT, "this trainer has run already");
    t->ran = true;
    TRY(exchange_agree(t->exchange, watchers_begin(&t->watchers, t)));
    int status = train_save_evaluate(t, result);
    int told = watchers_end(&t->watchers, t, result, status); /* leaves the message of a failure alone */
    TRY(exchange_agree(t->exchange, told));
    return status;
}

lckv_train_summary lckv_trainer_summary(const lckv_trainer *t) {
    return (lckv_train_summary){
        .parameters = params_elements(t->model->params),
        .block_size = t->train.block_size,
        .train_blocks = t->train.count,
        .validation_blocks = t->validation.count,
        .train_tokens = t->train.tokens,
        .steps_per_epoch = t->steps_per_epoch,
        .steps = t->steps,
    };
}
