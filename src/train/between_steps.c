/* What happens between steps, see between_steps.h. */
#include "train/between_steps.h"

#include "base/clock.h"
#include "base/log.h"
#include "train/checkpoint/checkpoint.h"

#include <math.h>

/* ---------------------------------------------------------------- when */

static bool due(const lckv_trainer *t, const rhythm *r, int64_t step) {
    if (r->strategy == LCKV_INTERVAL_NO || step == 0) return false;
    if (r->strategy == LCKV_INTERVAL_STEPS) return step % r->steps == 0;
    return step % t->steps_per_epoch == 0 || step == t->steps;
}

bool milestones_at(const lckv_trainer *t, int64_t step) {
    return step >= t->steps || due(t, &t->evaluating, step) || due(t, &t->saving, step);
}

/* So many evaluations in a row have not been the best one. */
static bool out_of_patience(const lckv_trainer *t) {
    return t->early_stopping_patience > 0 && t->best.since >= t->early_stopping_patience;
}

bool milestones_finished(const lckv_trainer *t) {
    return t->step >= t->steps || out_of_patience(t);
}

/* ---------------------------------------------------------------- evaluations */

static int run_through(lckv_trainer *t, step_evaluation *all) {
    double sum = 0;
    int64_t count = t->validation->count;
    for (int64_t first = 0; first < count;) {
        int64_t left = count - first;
        int at_once = stepper_blocks_at_once(t->stepper), these = left < at_once ? (int)left : at_once;
        step_evaluation e;
        TRY(stepper_evaluate(t->stepper, t->validation, first, these, &e));
        sum += e.loss * (double)e.labels;
        all->labels += e.labels;
        all->correct += e.correct;
        first += these;
        lckv_train_progress p = {.phase = LCKV_TRAIN_EVALUATING,
                                 .fraction = (double)first / (double)count,
                                 .step = t->step,
                                 .steps = t->steps};
        TRY(trainer_tell(t, &p, LCKV_OK));
    }
    all->loss = sum / (double)all->labels;
    return LCKV_OK;
}

int milestones_evaluate(lckv_trainer *t, lckv_evaluation *out) {
    step_evaluation all = {0};
    double begin = clock_seconds();
    TRY(run_through(t, &all));
    *out = (lckv_evaluation){.loss = all.loss,
                             .perplexity = exp(all.loss),
                             .accuracy = (double)all.correct / (double)all.labels,
                             .blocks = t->validation->count,
                             .seconds = clock_seconds() - begin};
    t->evaluation = *out;
    t->evaluated_at = t->step;
    lckv_train_progress p = {
        .phase = LCKV_TRAIN_EVALUATED, .fraction = 1, .step = t->step, .steps = t->steps, .evaluation = *out};
    return trainer_tell(t, &p, watchers_evaluated(&t->watchers, t, out));
}

/* A loss that is not a number is never better. */
static bool is_better(const lckv_trainer *t, double loss) {
    return t->best.step < 0 ? isfinite(loss) : loss < t->best.metric;
}

/* ---------------------------------------------------------------- checkpoints */

static void rotate(const lckv_trainer *t) {
    int64_t best = t->load_best_model_at_end ? t->best.step : -1;
    if (t->collectives->rank == 0 && t->save_total_limit > 0 &&
        run_folder_rotate(&t->folder, t->save_total_limit, t->step, best) < 0)
        log_message(LCKV_LOG_WARNING, "an old checkpoint stays: %s", lckv_last_error());
}

int milestones_save(lckv_trainer *t) {
    if (t->saved_at == t->step) return LCKV_OK;
    best_checkpoint before = t->best;
    if (t->evaluated_at == t->step && is_better(t, t->evaluation.loss))
        t->best = (best_checkpoint){.metric = t->evaluation.loss, .step = t->step, .since = t->best.since};
    int status = train_checkpoint_write(t);
    if (status < 0) {
        t->best = before;
        return status;
    }
    t->saved_at = t->step;
    rotate(t);
    return LCKV_OK;
}

static int save_or_warn(lckv_trainer *t) {
    int status = milestones_save(t);
    if (status != LCKV_ERROR_FILE) return status;
    if (t->saved_at > 0)
        log_message(LCKV_LOG_WARNING,
                    "no checkpoint of step %lld: %s. Training goes on; the last one is checkpoint-%lld",
                    (long long)t->step, lckv_last_error(), (long long)t->saved_at);
    else
        log_message(LCKV_LOG_WARNING, "no checkpoint of step %lld: %s. Training goes on, and there is none yet",
                    (long long)t->step, lckv_last_error());
    return LCKV_OK;
}

/* ---------------------------------------------------------------- both */

static int reach(lckv_trainer *t) {
    if (due(t, &t->evaluating, t->step) && t->evaluated_at != t->step) {
        lckv_evaluation e;
        TRY(milestones_evaluate(t, &e));
        t->best.since = is_better(t, e.loss) ? 0 : t->best.since + 1;
        if (t->saved_at == t->step) t->saved_at = -1; /* by a run that was stopped while it evaluated */
    }
    bool last = t->step > 0 && t->saving.strategy != LCKV_INTERVAL_NO && milestones_finished(t);
    return due(t, &t->saving, t->step) || last ? save_or_warn(t) : LCKV_OK;
}

int milestones_reach(lckv_trainer *t) {
    double begin = clock_seconds();
    int status = reach(t);
    t->window.begin += clock_seconds() - begin; /* the speed that is logged is that of steps */
    return status;
}
