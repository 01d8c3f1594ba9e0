/* Learning rate schedules, see schedule.h. */
#include "train/schedule.h"

#include <math.h>

int64_t schedule_warmup_steps(int64_t warmup_steps, double warmup_ratio, int64_t steps) {
    return warmup_steps > 0 ? warmup_steps : (int64_t)ceil((double)steps * warmup_ratio);
}

static double at_least_one(int64_t steps) {
    return steps > 1 ? (double)steps : 1;
}

/* 0 at the end of warming up, 1 at the end of the run. */
static double progress(const schedule *s, int64_t done) {
    return (double)(done - s->warmup_steps) / at_least_one(s->steps - s->warmup_steps);
}

static double factor(const schedule *s, int64_t done) {
    if (s->type == LCKV_SCHEDULE_CONSTANT) return 1;
    if (done < s->warmup_steps) return (double)done / at_least_one(s->warmup_steps);
    switch (s->type) {
    case LCKV_SCHEDULE_LINEAR:
        return fmax(0, (double)(s->steps - done) / at_least_one(s->steps - s->warmup_steps));
    case LCKV_SCHEDULE_COSINE:
        return fmax(0, 0.5 * (1 + cos(M_PI * progress(s, done))));
    default:
        return 1;
    }
}

double schedule_learning_rate(const schedule *s, int64_t done) {
    return s->learning_rate * factor(s, done);
}
