/* Recording the history of a run, see history_observer.h. */
#include "train/report/history_observer.h"

#include "train/report/train_log.h"
#include "train/report/trainer_state.h"

#include <stdlib.h>

static int begin(void *self, const run_view *run) {
    if (!run->resumed_from) return LCKV_OK;
    TRY(trainer_state_read(self, run->resumed_from));
    return train_log_read_speeds(run->output_dir, self);
}

static int step(void *self, const run_view *run, const lckv_train_progress *p) {
    if (!p->logged) return LCKV_OK;
    return history_add(self, (history_entry){.step = p->step,
                                             .epoch = run_view_epoch(run, p->step),
                                             .loss = p->mean_loss,
                                             .grad_norm = p->grad_norm,
                                             .learning_rate = p->learning_rate,
                                             .tokens_per_second = p->tokens_per_second});
}

static int evaluated(void *self, const run_view *run, const lckv_evaluation *e) {
    return history_add(
        self, (history_entry){
                  .step = run->step, .epoch = run_view_epoch(run, run->step), .is_evaluation = true, .evaluation = *e});
}

static int saving(void *self, const run_view *run, const char *folder) {
    return trainer_state_write(run, self, folder, "", NULL);
}

static void release(void *self) {
    history_clear(self);
    free(self);
}

int history_attach(observers *all, history **out) {
    *out = calloc(1, sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for the history of a run");
    return observers_add(
        all,
        (observer){
            .self = *out, .begin = begin, .step = step, .evaluated = evaluated, .saving = saving, .release = release});
}
