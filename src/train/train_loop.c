/* The training loop: steps in order, evaluations and checkpoints between them, and the model at the end. Implements
 * lckv_trainer_run() and lckv_trainer_summary() of lckv.h. */
#include "train/trainer.h"

#include "base/clock.h"
#include "base/log.h"
#include "data/shuffle.h"
#include "train/add_loop_start.h"
#include "train/callback.h"
#include "train/evaluate_and_save.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- skipped steps */

/* A gradient norm above SPIKE times the moving average causes a warning, once the average is over WARMUP steps. */
static const double SPIKE = 10, AVERAGE_DECAY = 0.98;
enum { AVERAGE_WARMUP_STEPS = 50 };

static void watch_grad_norm(lckv_trainer *t, double norm) {
    training_state *s = &t->state;
    if (s->step > AVERAGE_WARMUP_STEPS && norm > SPIKE * s->usual_grad_norm)
        log_message(LCKV_LOG_WARNING, "step %lld: the gradient norm is %.4g, its average %.4g", (long long)s->step,
                    norm, s->usual_grad_norm);
    s->usual_grad_norm =
        s->usual_grad_norm > 0 ? AVERAGE_DECAY * s->usual_grad_norm + (1 - AVERAGE_DECAY) * norm : norm;
}

static int too_many_skipped(const lckv_trainer *t, const step_result *r) {
    char newest[64];
    snprintf(newest, sizeof newest, "checkpoint-%lld", (long long)t->saved_at);
    return fail(LCKV_ERROR_NUMERIC,
                "step %lld: the loss (%g) or the gradient norm (%g) is not finite; training stops after more than %lld "
                "such steps (max_skipped_steps). Newest checkpoint in '%s': %s",
                (long long)t->state.step, r->loss, r->grad_norm, (long long)t->max_skipped_steps, t->output_dir,
                t->saved_at > 0 ? newest : "none, and no model was written");
}

/* The step has changed no weight. */
static int skip_step(lckv_trainer *t, const step_result *r) {
    if (isfinite(r->loss) && isfinite(r->grad_norm)) {
        log_message(LCKV_LOG_WARNING, "step %lld: skipped, because the gradient norm %g is above skip_grad_norm",
                    (long long)t->state.step, r->grad_norm);
        return LCKV_OK;
    }
    t->state.skipped++;
    if (t->state.skipped > t->max_skipped_steps) return too_many_skipped(t, r);
    log_message(
        LCKV_LOG_WARNING,
        "step %lld: skipped, because the loss (%g) or the gradient norm (%g) is not finite (%lld of at most %lld)",
        (long long)t->state.step, r->loss, r->grad_norm, (long long)t->state.skipped, (long long)t->max_skipped_steps);
    return LCKV_OK;
}

static void count_applied(lckv_trainer *t, const step_result *r) {
    t->state.applied_steps++;
    t->state.loss_sum += r->loss;
    t->state.window.loss += r->loss;
    t->state.window.steps++;
    watch_grad_norm(t, r->grad_norm);
}

/* ---------------------------------------------------------------- steps */

/* The last step of an epoch has the examples that are left. */
static int64_t examples_of_step(const lckv_trainer *t, int64_t step) {
    int64_t first = step % t->steps_per_epoch * t->examples_per_step, left = t->train->count - first;
    return left < t->examples_per_step ? left : t->examples_per_step;
}

/* The number of a step's i-th example: a function of the seed and the step alone. */
static int64_t example_of_step(const lckv_trainer *t, int64_t step, int64_t i) {
    int64_t epoch = step / t->steps_per_epoch, first = step % t->steps_per_epoch * t->examples_per_step;
    int64_t count = t->train->count;
    int64_t place = t->shuffle ? shuffle_index(t->seed, (uint64_t)epoch, count, first + i) : first + i;
    return epoch * count + place; /* below 2^63: no run has that many steps */
}

static int64_t tokens_of_step(const lckv_trainer *t, int64_t step) {
    int64_t count = examples_of_step(t, step), tokens = 0;
    if (!t->train->count_tokens) return count * t->train->block_size;
    for (int64_t i = 0; i < count; i++) tokens += t->train->count_tokens(t->train, example_of_step(t, step, i));
    return tokens;
}

static lckv_train_progress progress_of_step(const lckv_trainer *t, const step_result *r, double learning_rate) {
    double seconds = r->ended - t->begin_seconds, since_log = r->ended - t->window_begin;
    const training_state *s = &t->state;
    return (lckv_train_progress){
        .phase = LCKV_TRAIN_STEPPING,
        .fraction = (double)s->step / (double)t->steps,
        .step = s->step,
        .steps = t->steps,
        .loss = r->loss,
        .mean_loss = s->window.steps ? s->window.loss / (double)s->window.steps : NAN,
        .grad_norm = r->grad_norm,
        .learning_rate = learning_rate,
        .tokens_per_second = since_log > 0 ? (double)s->window.tokens / since_log : 0,
        .seconds = seconds,
        .seconds_left = seconds / (double)(s->step - t->first_step) * (double)(t->steps - s->step),
        .skipped = !r->finite,
        .loop_residual = r->loop_residual,
        .loop_start_error = r->loop_start_error,
        .communication_wait = t->window_waited / (double)(s->step - t->window_first),
        .logged = s->step % t->logging_steps == 0 || s->step == t->steps,
    };
}

/* Counts a completed step and notifies the observers and the callback. */
static int report_step(lckv_trainer *t, const step_result *r) {
    double learning_rate = schedule_learning_rate(&t->schedule, t->state.step);
    int64_t tokens = tokens_of_step(t, t->state.step);
    t->state.step++;
    t->state.tokens += tokens;
    t->state.window.tokens += tokens;
    t->waited += r->communication_wait;
    t->window_waited += r->communication_wait;
    if (r->finite)
        count_applied(t, r);
    else
        TRY(skip_step(t, r));
    lckv_train_progress p = progress_of_step(t, r, learning_rate);
    if (p.logged) {
        t->state.window = (log_window){0};
        t->window_begin = r->ended;
        t->window_first = t->state.step;
        t->window_waited = 0;
    }
    run_view run = trainer_view(t);
    return trainer_report(t, &p, observers_step(&t->observers, &run, &p));
}

static int launch_step(lckv_trainer *t) {
    int64_t count = examples_of_step(t, t->launched);
    double learning_rate = schedule_learning_rate(&t->schedule, t->launched);
    for (int64_t i = 0; i < count; i++) t->chosen[i] = example_of_step(t, t->launched, i);
    TRY(stepper_begin(t->stepper, t->train, t->chosen, count, learning_rate));
    t->launched++;
    return LCKV_OK;
}

static int complete_step(lckv_trainer *t) {
    step_result r;
    TRY(stepper_end(t->stepper, &r));
    return report_step(t, &r);
}

/* With run_ahead, the next step is launched before the results of this one are read, unless an evaluation or a
 * checkpoint is due between the two. */
static int run_steps(lckv_trainer *t) {
    for (;;) {
        if (t->launched == t->state.step) {
            TRY(trainer_evaluate_and_save(t));
            if (trainer_finished(t)) return LCKV_OK;
            TRY(launch_step(t));
        }
        if (t->run_ahead && !trainer_pauses_after(t, t->launched)) TRY(launch_step(t));
        TRY(complete_step(t));
    }
}

static int train(lckv_trainer *t) {
    t->begin_seconds = t->window_begin = clock_seconds();
    t->first_step = t->window_first = t->launched = t->state.step;
    t->first_tokens = t->state.tokens;
    int status = run_steps(t);
    /* The weights already include the launched step, so the checkpoint has to include it too. */
    while (status == LCKV_ERROR_INTERRUPTED && t->launched > t->state.step) {
        int completed = complete_step(t);
        if (completed < 0) status = completed;
    }
    return status;
}

/* ---------------------------------------------------------------- the run */

static lckv_train_result result_so_far(const lckv_trainer *t) {
    const training_state *s = &t->state;
    int64_t new_steps = t->do_train ? s->step - t->first_step : 0;
    int64_t new_tokens = new_steps ? s->tokens - t->first_tokens : 0;
    double seconds = new_steps ? clock_seconds() - t->begin_seconds : 0;
    return (lckv_train_result){
        .steps = s->step,
        .tokens = s->tokens,
        .skipped_steps = s->skipped,
        .new_steps = new_steps,
        .new_tokens = new_tokens,
        .seconds = seconds,
        .tokens_per_second = seconds > 0 ? (double)new_tokens / seconds : NAN,
        .train_loss = s->applied_steps ? s->loss_sum / (double)s->applied_steps : NAN,
        .eval_loss = NAN,
        .perplexity = NAN,
        .eval_accuracy = NAN,
        .communication_wait = new_steps ? t->waited / (double)new_steps : NAN,
    };
}

/* A failure to save only causes a warning: the caller asked to stop, and that is the result. */
static int save_interrupted(lckv_trainer *t) {
    if (trainer_save(t) < 0)
        log_message(LCKV_LOG_WARNING, "no checkpoint of step %lld: %s", (long long)t->state.step, lckv_last_error());
    return fail(LCKV_ERROR_INTERRUPTED, "stopped after step %lld of %lld; the newest checkpoint is of step %lld",
                (long long)t->state.step, (long long)t->steps, (long long)t->saved_at);
}

static int load_best(lckv_trainer *t) {
    char *folder;
    int64_t best = t->state.best.step;
    if (!t->load_best_model_at_end || best < 0 || best == t->state.step) return LCKV_OK;
    TRY(run_folder_checkpoint(&t->folder, best, "", &folder));
    int status = train_checkpoint_read_weights(t->model, t->stepper->optimizer, folder);
    free(folder);
    TRY(status);
    log_message(LCKV_LOG_INFO, "loaded the weights of step %lld, which has the best evaluation", (long long)best);
    t->state.evaluated_at = 0;
    return LCKV_OK;
}

static int write_model(lckv_trainer *t) {
    TRY(load_best(t));
    int measured = trainer_measure_loop_start(t); /* keeps its message: a failure must not lose the model */
    checkpoint_contents contents = trainer_checkpoint(t);
    TRY(train_checkpoint_write_model(&contents, t->output_dir));
    return measured;
}

static int evaluate_at_end(lckv_trainer *t, lckv_train_result *result) {
    if (!t->do_eval || !t->validation->count) return LCKV_OK;
    if (t->evaluation.blocks == 0 || t->state.evaluated_at != t->state.step) TRY(trainer_evaluate(t));
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
    if (t->do_train) TRY(write_model(t));
    return evaluate_at_end(t, result);
}

int lckv_trainer_run(lckv_trainer *t, lckv_train_result *result) {
    lckv_train_result ignored;
    if (!result) result = &ignored;
    REQUIRE(!t->ran, LCKV_ERROR_ARGUMENT, "this trainer has run already; create a new one");
    t->ran = true;
    run_view run = trainer_view(t);
    TRY(collectives_agree(t->collectives, observers_begin(&t->observers, &run)));
    int status = train_save_evaluate(t, result);
    run = trainer_view(t);
    int observed = observers_end(&t->observers, &run, result, status); /* keeps the message of a failed run */
    TRY(collectives_agree(t->collectives, observed));
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
        .first_step = t->state.step,
        .flops_per_token = t->train->count ? t->flops_per_example / t->train->block_size : 0,
    };
}
