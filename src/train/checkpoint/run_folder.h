/* The output folder of a run: its lock and its checkpoints.
 *
 *   run.lock                 held by the process that writes; stays after a run that was killed, deleted after one that
 *                            finished
 *   checkpoint-STEP          a complete checkpoint; it was renamed after all its files were synced
 *   checkpoint-STEP.partial  a checkpoint that is being written or deleted; never loaded
 *   checkpoint-STEP.old      a superseded checkpoint; restored if the new one was not completed
 *
 * Leaves out: the content of a checkpoint (checkpoint.h). */
#ifndef TRAIN_CHECKPOINT_RUN_FOLDER_H
#define TRAIN_CHECKPOINT_RUN_FOLDER_H

#include "base/status.h"

typedef struct run_folder {
    char *path;
    int lock;            /* file descriptor + 1 of run.lock; 0: none */
    bool lock_was_there; /* an earlier run has used the folder */
    int64_t resumed_at;  /* step of the checkpoint that this run resumed from (-1: a new run). The first checkpoint of
                          * this run  supersedes those of later steps */
} run_folder;

/* Creates `path` if absent, locks it, and cleans up after a crash. LCKV_ERROR_ARGUMENT if it has other content, no
 * checkpoint, and was not used by a run before, unless `any_content`. Fails if another process is writing to it. */
int run_folder_open(const char *path, bool any_content, run_folder *out);
/* The folder that another rank of the same run has opened, for reading. */
int run_folder_join(const char *path, run_folder *out);
/* Releases the lock. `finished`: the run is complete, and run.lock is deleted. All zeros is fine. */
void run_folder_close(run_folder *f, bool finished);

/* PATH/checkpoint-STEP + suffix; release with free(). */
int run_folder_checkpoint(const run_folder *f, int64_t step, const char *suffix, char **out);
/* The highest step below `below` that has a checkpoint; -1 if there is none. */
int run_folder_highest(const run_folder *f, int64_t below, int64_t *step);

/* Renames checkpoint-STEP.partial, whose files are all synced, to checkpoint-STEP. */
int run_folder_put(run_folder *f, int64_t step);
/* Deletes the oldest checkpoints until at most `limit` are left, but never `newest` and `best` (-1: none). */
int run_folder_rotate(const run_folder *f, int64_t limit, int64_t newest, int64_t best);

#endif
