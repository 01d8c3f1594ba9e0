/* What has been logged of a run, see history.h. */
#include "train/report/history.h"

#include "train/report/log.h"
#include "train/report/trainer_state.h"
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>

int history_add(history *h, history_entry one) {
    if (h->count == h->capacity) {
        int64_t capacity = h->capacity ? 2 * h->capacity : 64;
        history_entry *list = realloc(h->list, (size_t)capacity * sizeof *list);
        REQUIRE(list, LCKV_ERROR_MEMORY, "no memory for %lld logged steps", (long long)capacity);
        h->list = list;
        h->capacity = capacity;
    }
    h->list[h->count++] = one;
    return LCKV_OK;
}

/* In blocks, since the last step of an epoch has fewer. */
double history_epoch(const lckv_trainer *t, int64_t step) {
    if (!t->steps_per_epoch) return 0; /* it does not train */
    int64_t whole = step / t->steps_per_epoch, more = step % t->steps_per_epoch * t->blocks_per_step;
    return (double)whole + (double)more / (double)t->train->count;
}

/* ---------------------------------------------------------------- watching */

static int begin(void *self, const lckv_trainer *t) {
    if (!t->resumed_from) return LCKV_OK;
    TRY(trainer_state_read(self, t->resumed_from));
    return train_log_read_speeds(t->output_dir, self);
}

static int step(void *self, const lckv_trainer *t, const lckv_train_progress *p) {
    if (!p->logged) return LCKV_OK;
    return history_add(self, (history_entry){.step = p->step,
                                             .epoch = history_epoch(t, p->step),
                                             .loss = p->mean_loss,
                                             .grad_norm = p->grad_norm,
                                             .learning_rate = p->learning_rate,
                                             .tokens_per_second = p->tokens_per_second});
}

static int evaluated(void *self, const lckv_trainer *t, const lckv_evaluation *e) {
    return history_add(
        self,
        (history_entry){.step = t->step, .epoch = history_epoch(t, t->step), .is_evaluation = true, .evaluation = *e});
}

static int saving(void *self, const lckv_trainer *t, const char *folder) {
    return trainer_state_write(t, self, folder, "", NULL);
}

static void release(void *self) {
    history *h = self;
    free(h->list);
    free(h);
}

int history_watch(watchers *all, history **out) {
    *out = calloc(1, sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for the history of a run");
    return watchers_add(
        all,
        (watcher){
            .self = *out, .begin = begin, .step = step, .evaluated = evaluated, .saving = saving, .release = release});
}
