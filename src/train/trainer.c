/* The training loop: blocks in order, a step each, what is due between steps, and the model at the end. See lckv.h. */
#include "train/trainer.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "data/shuffle.h"
#include "train/between_steps.h"
#include "train/checkpoint/checkpoint.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- telling */

static int ask(const lckv_trainer *t, const lckv_train_progress *progress) {
    if (!t->callback || t->callback(t->user, progress)) return LCKV_OK;
    return fail(LCKV_ERROR_INTERRUPTED, "stopped after step %lld of %lld", (long long)t->step, (long long)t->steps);
}

int trainer_tell(const lckv_trainer *t, const lckv_train_progress *progress, int status) {
    return collectives_agree(t->collectives, status < 0 ? status : ask(t, progress));
}

static lckv_train_progress progress_of_step(const lckv_trainer *t, const step_result *r, double learning_rate) {
    double clock = clock_seconds(), seconds = clock - t->begin, since_log = clock - t->window.begin;
    int64_t here = t->step - t->first_step;
    return (lckv_train_progress){
        .phase = LCKV_TRAIN_STEPPING,
        .fraction = (double)t->step / (double)t->steps,
        .step = t->step,
        .steps = t->steps,
        .loss = r->loss,
        .mean_loss = t->window.steps ? t->window.loss / (double)t->window.steps : NAN,
        .grad_norm = r->grad_norm,
        .learning_rate = learning_rate,
        .tokens_per_second = since_log > 0 ? (double)t->window.tokens / since_log : 0,
        .seconds = seconds,
        .seconds_left = seconds / (double)here * (double)(t->steps - t->step),
        .skipped = !r->finite,
        .logged = t->step % t->logging_steps == 0 || t->step == t->steps,
    };
}

/* ---------------------------------------------------------------- steps that go wrong */

/* A norm so many times the usual one is told; it takes a few steps to know what is usual. */
static const double SPIKE = 10, MEMORY = 0.98;
enum { STEPS_TO_KNOW = 50 };

static void watch_norm(lckv_trainer *t, double norm) {
    if (t->step > STEPS_TO_KNOW && norm > SPIKE * t->usual_grad_norm)
        log_message(LCKV_LOG_WARNING, "step %lld: the gradient norm is %.4g, %.4g is usual", (long long)t->step, norm,
                    t->usual_grad_norm);
    t->usual_grad_norm = t->usual_grad_norm > 0 ? MEMORY * t->usual_grad_norm + (1 - MEMORY) * norm : norm;
}

static int too_many_skipped(const lckv_trainer *t, const step_result *r) {
    char newest[64];
    snprintf(newest, sizeof newest, "checkpoint-%lld", (long long)t->saved_at);
    return fail(LCKV_ERROR_NUMERIC,
                "step %lld: loss %g, gradient norm %g: not finite, training stops (max_skipped_steps %lld). The last "
                "good checkpoint in '%s': %s",
                (long long)t->step, r->loss, r->grad_norm, (long long)t->max_skipped_steps, t->output_dir,
                t->saved_at > 0 ? newest : "none, and no model was written");
}

/* No weight has changed. */
static int skip_step(lckv_trainer *t, const step_result *r) {
    if (isfinite(r->loss) && isfinite(r->grad_norm)) {
        log_message(LCKV_LOG_WARNING, "step %lld: gradient norm %g, above skip_grad_norm: skipped", (long long)t->step,
                    r->grad_norm);
        return LCKV_OK;
    }
    t->skipped++;
    if (t->skipped > t->max_skipped_steps) return too_many_skipped(t, r);
    log_message(LCKV_LOG_WARNING, "step %lld: loss %g, gradient norm %g: not finite, skipped (%lld of at most %lld)",
                (long long)t->step, r->loss, r->grad_norm, (long long)t->skipped, (long long)t->max_skipped_steps);
    return LCKV_OK;
}

static void count_step(lckv_trainer *t, const step_result *r) {
    t->learned++;
    t->loss_sum += r->loss;
    t->window.loss += r->loss;
    t->window.steps++;
    watch_norm(t, r->grad_norm);
}

/* ---------------------------------------------------------------- training */

/* The blocks of a step: the last one of an epoch takes what is left of it. */
static int64_t blocks_of_step(const lckv_trainer *t, int64_t step) {
    int64_t first = step % t->steps_per_epoch * t->blocks_per_step, left = t->train->count - first;
    return left < t->blocks_per_step ? left : t->blocks_per_step;
}

/* The number of a step's i-th block: a function of seed and step alone. */
static int64_t block_of_step(const lckv_trainer *t, int64_t step, int64_t i) {
    int64_t epoch = step / t->steps_per_epoch, first = step % t->steps_per_epoch * t->blocks_per_step;
    int64_t all = t->train->count;
    int64_t place = t->shuffle ? order_index(t->seed, (uint64_t)epoch, all, first + i) : first + i;
    return epoch * all + place; /* below 2^63: no run has so many steps */
}

static int64_t tokens_of_step(const lckv_trainer *t, int64_t step) {
    int64_t count = blocks_of_step(t, step), tokens = 0;
    if (!t->train->count_tokens) return count * t->train->block_size;
    for (int64_t i = 0; i < count; i++) tokens += t->train->count_tokens(t->train, block_of_step(t, step, i));
    return tokens;
}

/* A step has ended: counts it, logs it when its turn has come, tells those who want to know. */
static int report_step(lckv_trainer *t, const step_result *r) {
    double learning_rate = schedule_learning_rate(&t->schedule, t->step);
    int64_t tokens = tokens_of_step(t, t->step);
    t->step++;
    t->tokens += tokens;
    t->window.tokens += tokens;
    if (r->finite)
        count_step(t, r);
    else
        TRY(skip_step(t, r));
    lckv_train_progress p = progress_of_step(t, r, learning_rate);
    if (p.logged) t->window = (log_window){.begin = clock_seconds()};
    return trainer_tell(t, &p, watchers_step(&t->watchers, t, &p));
}

static int begin_step(lckv_trainer *t) {
    int64_t count = blocks_of_step(t, t->begun);
    double learning_rate = schedule_learning_rate(&t->schedule, t->begun);
    for (int64_t i = 0; i < count; i++) t->chosen[i] = block_of_step(t, t->begun, i);
    TRY(stepper_begin(t->stepper, t->train, t->chosen, count, learning_rate));
    t->begun++;
    return LCKV_OK;
}

static int end_step(lckv_trainer *t) {
    step_result r;
    TRY(stepper_end(t->stepper, &r));
    return report_step(t, &r);
}

/* The results of a step are read when the next one has begun, unless something is due between the two. */
static int take_steps(lckv_trainer *t) {
    for (;;) {
        if (t->begun == t->step) {
            TRY(milestones_reach(t));
            if (milestones_finished(t)) return LCKV_OK;
            TRY(begin_step(t));
        }
        if (t->run_ahead && !milestones_at(t, t->begun)) TRY(begin_step(t));
        TRY(end_step(t));
    }
}

static int train(lckv_trainer *t) {
    t->begin = t->window.begin = clock_seconds();
    t->first_step = t->begun = t->step;
    t->first_tokens = t->tokens;
    int status = take_steps(t);
    /* The weights have the step that has begun, and so must what is saved of them. */
    while (status == LCKV_ERROR_INTERRUPTED && t->begun > t->step) {
        int ended = end_step(t);
        if (ended < 0) status = ended;
    }
    return status;
}

/* ---------------------------------------------------------------- a whole run */

double trainer_tokens_of_example(const lckv_trainer *t) {
    bool differ = t->train->count_tokens && t->train->count;
    return differ ? (double)t->train_tokens / (double)t->train->count : (double)t->train->block_size;
}

double trainer_flops(const lckv_trainer *t) {
    return t->train->block_size ? t->flops_of_block * ((double)t->tokens / t->train->block_size) : 0;
}

bool trainer_has_output(const lckv_trainer *t, const char *name) {
    char *path;
    if (path_join(t->output_dir, name, &path) < 0) return false;
    bool there = file_exists(path);
    free(path);
    return there;
}

static lckv_train_result result_so_far(const lckv_trainer *t) {
    int64_t new_steps = t->do_train ? t->step - t->first_step : 0;
    int64_t new_tokens = new_steps ? t->tokens - t->first_tokens : 0;
    double seconds = new_steps ? clock_seconds() - t->begin : 0;
    return (lckv_train_result){
        .steps = t->step,
        .tokens = t->tokens,
        .skipped_steps = t->skipped,
        .new_steps = new_steps,
        .new_tokens = new_tokens,
        .seconds = seconds,
        .tokens_per_second = seconds > 0 ? (double)new_tokens / seconds : NAN,
        .train_loss = t->learned ? t->loss_sum / (double)t->learned : NAN,
        .eval_loss = NAN,
        .perplexity = NAN,
        .eval_accuracy = NAN,
    };
}

/* Leaves the message of the interruption alone unless saving fails too, which is only told: the caller asked to stop.
 */
static int save_interrupted(lckv_trainer *t) {
    if (milestones_save(t) < 0)
        log_message(LCKV_LOG_WARNING, "no checkpoint of step %lld: %s", (long long)t->step, lckv_last_error());
    return fail(LCKV_ERROR_INTERRUPTED, "stopped after step %lld of %lld; the newest checkpoint is of step %lld",
                (long long)t->step, (long long)t->steps, (long long)t->saved_at);
}

static int take_best(lckv_trainer *t) {
    char *folder;
    if (!t->load_best_model_at_end || t->best.step < 0 || t->best.step == t->step) return LCKV_OK;
    TRY(run_folder_checkpoint(&t->folder, t->best.step, "", &folder));
    int status = train_checkpoint_weights(t, folder);
    free(folder);
    TRY(status);
    log_message(LCKV_LOG_INFO, "the best evaluation was at step %lld: its weights are taken", (long long)t->best.step);
    t->evaluated_at = 0;
    return LCKV_OK;
}

static int evaluate_at_end(lckv_trainer *t, lckv_train_result *result) {
    if (!t->do_eval || !t->validation->count) return LCKV_OK;
    if (t->evaluation.blocks == 0 || t->evaluated_at != t->step) TRY(milestones_evaluate(t, &t->evaluation));
    result->eval_loss = t->evaluation.loss;
    result->perplexity = t->evaluation.perplexity;
    result->eval_accuracy = t->evaluation.accuracy;
    return LCKV_OK;
}

static int train_save_evaluate(lckv_trainer *t, lckv_train_result *result) {
    int status = t->do_train ? train(t) : LCKV_OK;
    *result = result_so_far(t);
    if (status == LCKV_ERROR_INTERRUPTED) return save_interrupted(t);
    TRY(status);
    if (t->do_train) {
        TRY(take_best(t));
        TRY(train_checkpoint_model(t, t->output_dir));
    }
    return evaluate_at_end(t, result);
}

int lckv_trainer_run(lckv_trainer *t, lckv_train_result *result) {
    lckv_train_result ignored;
    if (!result) result = &ignored;
    REQUIRE(!t->ran, LCKV_ERROR_ARGUMENT, "this trainer has run already");
    t->ran = true;
    TRY(collectives_agree(t->collectives, watchers_begin(&t->watchers, t)));
    int status = train_save_evaluate(t, result);
    int told = watchers_end(&t->watchers, t, result, status); /* leaves the message of a failure alone */
    TRY(collectives_agree(t->collectives, told));
    t->finished = status >= 0;
    return status;
}

lckv_train_summary lckv_trainer_summary(const lckv_trainer *t) {
    int64_t trainable = params_elements(model_trainable(t->model));
    return (lckv_train_summary){
        .parameters = params_elements(t->model->params) + (t->model->adapter ? trainable : 0),
        .trainable_parameters = trainable,
        .block_size = t->stepper->block_size,
        .train_blocks = t->train->count,
        .validation_blocks = t->validation->count,
        .train_tokens = t->train_tokens,
        .steps_per_epoch = t->steps_per_epoch,
        .steps = t->steps,
        .first_step = t->step,
        .flops_per_token = t->train->count ? t->flops_of_block / t->train->block_size : 0,
    };
}
