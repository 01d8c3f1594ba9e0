/* Learning-rate schedules, see schedule.h. */
#include "train/step/schedule.h"

#include <math.h>

int64_t schedule_warmup_steps(int64_t warmup_steps, double warmup_ratio, int64_t steps) {
    return warmup_steps > 0 ? warmup_steps : (int64_t)ceil((double)steps * warmup_ratio);
}

static double at_least_one(int64_t steps) {
    return steps > 1 ? (double)steps : 1;
}

/* 0 at the end of the warm-up, 1 at the end of the run. */
static double progress(const schedule *s, int64_t done) {
    return (double)(done - s->warmup_steps) / at_least_one(s->steps - s->warmup_steps);
}

int64_t schedule_decay_steps(int64_t num_decay_steps, int64_t warmup_steps, int64_t steps) {
    int64_t wanted = num_decay_steps > 0 ? num_decay_steps : (steps + 9) / 10;
    int64_t left = steps > warmup_steps ? steps - warmup_steps : 0;
    return wanted < left ? wanted : left;
}

/* From 1 to min_lr_rate along half a cosine. */
static double decay(const schedule *s, double progress) {
    double cosine = fmax(0, 0.5 * (1 + cos(M_PI * progress)));
    return cosine * (1 - s->min_lr_rate) + s->min_lr_rate;
}

static double stable_then_decay(const schedule *s, int64_t done) {
    int64_t begin = s->steps - s->decay_steps;
    return done < begin ? 1 : decay(s, (double)(done - begin) / at_least_one(s->decay_steps));
}

static double factor(const schedule *s, int64_t done) {
    if (s->type == LCKV_SCHEDULE_CONSTANT) return 1;
    if (done < s->warmup_steps) return (double)done / at_least_one(s->warmup_steps);
    switch (s->type) {
    case LCKV_SCHEDULE_LINEAR:
        return fmax(0, (double)(s->steps - done) / at_least_one(s->steps - s->warmup_steps));
    case LCKV_SCHEDULE_COSINE:
        return fmax(0, 0.5 * (1 + cos(M_PI * progress(s, done))));
    case LCKV_SCHEDULE_COSINE_WITH_MIN_LR:
        return decay(s, progress(s, done));
    case LCKV_SCHEDULE_WARMUP_STABLE_DECAY:
        return stable_then_decay(s, done);
    default:
        return 1;
    }
}

double schedule_learning_rate(const schedule *s, int64_t done) {
    return s->learning_rate * factor(s, done);
}
