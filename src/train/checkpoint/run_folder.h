/* The output folder of a run: who may write into it, which checkpoints stand there, which of them are gone on from.
 *
 *   run.lock               one process at a time; left behind by a run that was killed, gone after one that finished
 *   checkpoint-STEP        whole: it got its name when everything in it was on disk
 *   checkpoint-STEP.partial  being written, or being removed; never taken for one
 *   checkpoint-STEP.old    about to be superseded; it gets its name back where the new one did not come to stand
 *
 * Leaves out: what a checkpoint holds (checkpoint.h). */
#ifndef TRAIN_CHECKPOINT_RUN_FOLDER_H
#define TRAIN_CHECKPOINT_RUN_FOLDER_H

#include "base/status.h"

typedef struct run_folder {
    char *path;
    int lock;            /* file descriptor + 1 of run.lock; 0: none */
    bool lock_was_there; /* a run has begun here before */
    int64_t resumed_at;  /* checkpoints above this step are superseded by the first one of this run */
} run_folder;

/* Makes `path` where it is not there, locks it and tidies up what a crash left. One that has files but no checkpoint,
 * and in which no run has begun, is LCKV_ERROR_ARGUMENT unless `any`. Errors also when another process writes there. */
int run_folder_open(const char *path, bool any, run_folder *out);
/* The folder that another process of the same run has opened: to look at, not to write. */
int run_folder_join(const char *path, run_folder *out);
/* Lets go of it. `finished`: nothing has to be gone on with; run.lock goes. All zeros is fine. */
void run_folder_close(run_folder *f, bool finished);

/* PATH/checkpoint-STEP and what follows; release with free(). */
int run_folder_checkpoint(const run_folder *f, int64_t step, const char *suffix, char **out);
/* The highest step that has a checkpoint below `below`, -1 when there is none. */
int run_folder_highest(const run_folder *f, int64_t below, int64_t *step);

/* checkpoint-STEP.partial, everything of which is on disk, becomes checkpoint-STEP. */
int run_folder_put(run_folder *f, int64_t step);
/* Removes the oldest checkpoints until at most `limit` are left, but neither `newest` nor `best` (-1: there is none).
 */
int run_folder_rotate(const run_folder *f, int64_t limit, int64_t newest, int64_t best);

#endif
