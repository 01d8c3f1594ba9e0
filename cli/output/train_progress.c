/* Progress of training; see train_progress.h. */
#include "train_progress.h"
#include "output.h"

#include <math.h>
#include <unistd.h>

void train_progress_begin(train_progress *s, lckv_trainer *trainer, bool prints) {
    s->trainer = trainer;
    s->flops_per_token = lckv_trainer_summary(trainer).flops_per_token;
    if (prints && isatty(STDERR_FILENO) && lckv_trainer_peak(trainer, &s->peak) < 0) s->peak = 0;
}

/* Updates the exponential moving average of the loss, whose half-life is 34 steps. */
static void smooth(train_progress *s, const lckv_train_progress *p) {
    static const double DECAY = 0.98;
    if (p->skipped || !isfinite(p->loss)) return;
    s->smoothed = DECAY * s->smoothed + (1 - DECAY) * p->loss;
    s->weight = DECAY * s->weight + (1 - DECAY);
}

static void show_line(train_progress *s, const lckv_train_progress *p) {
    char speed[32], share[32] = "", memory[32], left[32];
    int64_t bytes = lckv_trainer_memory(s->trainer);
    if (s->peak > 0)
        snprintf(share, sizeof share, " (%.0f %% of peak)", 100 * p->tokens_per_second * s->flops_per_token / s->peak);
    progress(p->fraction, "%lld/%lld  loss %.4f ~%.4f  %s tok/s%s  %s left  %s", (long long)p->step,
             (long long)p->steps, p->loss, s->weight > 0 ? s->smoothed / s->weight : p->loss,
             human_count(p->tokens_per_second, speed), share, human_time(p->seconds_left, left),
             human_bytes((double)bytes, memory));
}

/* Updates the line at most ten times per second. */
static void show_on_terminal(train_progress *s, const lckv_train_progress *p) {
    if (progress_due() || p->step == p->steps) show_line(s, p);
}

static void show_logged(const lckv_train_progress *p) {
    char speed[32], left[32];
    notice("step %lld/%lld  loss %.4f  grad_norm %.3f  learning_rate %.3g  %s tokens/s  %s left", (long long)p->step,
           (long long)p->steps, p->mean_loss, p->grad_norm, p->learning_rate, human_count(p->tokens_per_second, speed),
           human_time(p->seconds_left, left));
}

static void show_step(train_progress *s, const lckv_train_progress *p) {
    smooth(s, p);
    if (isatty(STDERR_FILENO))
        show_on_terminal(s, p);
    else if (p->logged)
        show_logged(p);
}

/* The final evaluation is printed with the results. */
static void show_evaluation(const lckv_train_progress *p) {
    if (p->step < p->steps)
        notice("evaluation at step %lld: loss %.4f, perplexity %.3f, accuracy %.4f", (long long)p->step,
               p->evaluation.loss, p->evaluation.perplexity, p->evaluation.accuracy);
}

bool train_progress_show(void *user, const lckv_train_progress *p) {
    switch (p->phase) {
    case LCKV_TRAIN_READING:
        if (progress_due()) progress(p->fraction, "reading data %.0f %%", 100 * p->fraction);
        break;
    case LCKV_TRAIN_STEPPING:
        show_step(user, p);
        break;
    case LCKV_TRAIN_EVALUATING:
        if (progress_due()) progress(p->fraction, "evaluating %.0f %%", 100 * p->fraction);
        break;
    case LCKV_TRAIN_EVALUATED:
        show_evaluation(p);
        break;
    }
    return !interrupted();
}
