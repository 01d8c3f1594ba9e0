/* Evaluations and checkpoints between steps, see evaluate_and_save.h. */
#include "train/evaluate_and_save.h"

#include "base/clock.h"
#include "base/log.h"
#include "train/callback.h"

#include <math.h>

/* ---------------------------------------------------------------- when */

static bool due(const lckv_trainer *t, const interval *i, int64_t step) {
    if (i->strategy == LCKV_INTERVAL_NO || step == 0) return false;
    if (i->strategy == LCKV_INTERVAL_STEPS) return step % i->steps == 0;
    return step % t->steps_per_epoch == 0 || step == t->steps;
}

bool trainer_pauses_after(const lckv_trainer *t, int64_t step) {
    return step >= t->steps || due(t, &t->eval_interval, step) || due(t, &t->save_interval, step);
}

/* ---------------------------------------------------------------- evaluations */

static int evaluate_all(lckv_trainer *t, step_evaluation *all) {
    double sum = 0;
    int64_t count = t->validation->count;
    for (int64_t first = 0; first < count;) {
        int64_t left = count - first;
        int limit = stepper_eval_examples(t->stepper), now = left < limit ? (int)left : limit;
        step_evaluation e;
        TRY(stepper_evaluate(t->stepper, t->validation, first, now, &e));
        sum += e.loss * (double)e.labels;
        all->labels += e.labels;
        all->correct += e.correct;
        first += now;
        lckv_train_progress p = {.phase = LCKV_TRAIN_EVALUATING,
                                 .fraction = (double)first / (double)count,
                                 .step = t->state.step,
                                 .steps = t->steps};
        TRY(trainer_report(t, &p, LCKV_OK));
    }
    all->loss = sum / (double)all->labels;
    return LCKV_OK;
}

int trainer_evaluate(lckv_trainer *t) {
    step_evaluation all = {0};
    double begin = clock_seconds();
    TRY(evaluate_all(t, &all));
    t->evaluation = (lckv_evaluation){.loss = all.loss,
                                      .perplexity = exp(all.loss),
                                      .accuracy = (double)all.correct / (double)all.labels,
                                      .blocks = t->validation->count,
                                      .seconds = clock_seconds() - begin};
    t->state.evaluated_at = t->state.step;
    lckv_train_progress p = {.phase = LCKV_TRAIN_EVALUATED,
                             .fraction = 1,
                             .step = t->state.step,
                             .steps = t->steps,
                             .evaluation = t->evaluation};
    run_view run = trainer_view(t);
    return trainer_report(t, &p, observers_evaluated(&t->observers, &run, &t->evaluation));
}

/* A loss that is not finite is never better. */
static bool is_better(const lckv_trainer *t, double loss) {
    return t->state.best.step < 0 ? isfinite(loss) : loss < t->state.best.metric;
}

/* ---------------------------------------------------------------- checkpoints */

static void delete_old_checkpoints(const lckv_trainer *t) {
    int64_t best = t->load_best_model_at_end ? t->state.best.step : -1;
    if (t->collectives->rank == 0 && t->save_total_limit > 0 &&
        run_folder_rotate(&t->folder, t->save_total_limit, t->state.step, best) < 0)
        log_message(LCKV_LOG_WARNING, "cannot delete an old checkpoint: %s", lckv_last_error());
}

int trainer_save(lckv_trainer *t) {
    int64_t step = t->state.step;
    if (t->saved_at == step) return LCKV_OK;
    best_checkpoint before = t->state.best;
    if (t->state.evaluated_at == step && is_better(t, t->evaluation.loss))
        t->state.best = (best_checkpoint){.metric = t->evaluation.loss, .step = step, .since = before.since};
    checkpoint_contents contents = trainer_checkpoint(t);
    int status = train_checkpoint_write(&contents, &t->folder);
    if (status < 0) {
        t->state.best = before;
        return status;
    }
    t->saved_at = step;
    delete_old_checkpoints(t);
    return LCKV_OK;
}

static int save_or_warn(lckv_trainer *t) {
    int status = trainer_save(t);
    if (status != LCKV_ERROR_FILE) return status;
    if (t->saved_at > 0)
        log_message(LCKV_LOG_WARNING,
                    "no checkpoint of step %lld: %s; training continues, the newest checkpoint is checkpoint-%lld",
                    (long long)t->state.step, lckv_last_error(), (long long)t->saved_at);
    else
        log_message(LCKV_LOG_WARNING, "no checkpoint of step %lld: %s; training continues, there is no checkpoint yet",
                    (long long)t->state.step, lckv_last_error());
    return LCKV_OK;
}

/* ---------------------------------------------------------------- both */

static int evaluate_and_save(lckv_trainer *t) {
    int64_t step = t->state.step;
    if (due(t, &t->eval_interval, step) && t->state.evaluated_at != step) {
        TRY(trainer_evaluate(t));
        t->state.best.since = is_better(t, t->evaluation.loss) ? 0 : t->state.best.since + 1;
        if (t->saved_at == step) t->saved_at = -1; /* saved by a process that was stopped during this evaluation */
    }
    bool last = step > 0 && t->save_interval.strategy != LCKV_INTERVAL_NO && trainer_finished(t);
    return due(t, &t->save_interval, step) || last ? save_or_warn(t) : LCKV_OK;
}

int trainer_evaluate_and_save(lckv_trainer *t) {
    double begin = clock_seconds();
    int status = evaluate_and_save(t);
    t->window_begin += clock_seconds() - begin; /* the logged throughput counts steps alone */
    return status;
}
