/* Calling the caller's callback, see callback.h. */
#include "train/callback.h"

static int call(const lckv_trainer *t, const lckv_train_progress *progress) {
    if (!t->callback || t->callback(t->user, progress)) return LCKV_OK;
    return fail(LCKV_ERROR_INTERRUPTED, "stopped after step %lld of %lld", (long long)t->state.step,
                (long long)t->steps);
}

int trainer_report(const lckv_trainer *t, const lckv_train_progress *progress, int status) {
    return collectives_agree(t->collectives, status < 0 ? status : call(t, progress));
}

bool callback_reading(lckv_train_callback callback, void *user, double fraction) {
    const lckv_train_progress p = {.phase = LCKV_TRAIN_READING, .fraction = fraction};
    return !callback || callback(user, &p);
}

bool trainer_reading(void *user, double fraction) {
    const lckv_trainer *t = user;
    return callback_reading(t->callback, t->user, fraction);
}
