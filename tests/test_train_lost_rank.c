/* A rank is killed in each phase of a step. The other ranks end at once and name it, no process is left, the newest
 * checkpoint is the last complete one, and the same command ends with the bytes of a run that was not killed. The
 * program kills itself at the points of dying/dying.c. Deaths at random times: test_train_zero.c. */

/* The program of the tests is lckv with points at which a rank dies. */
#undef PROGRAM
#define PROGRAM DYING_PROGRAM

#include "ranks_runs.h"

#include <sys/prctl.h>
#include <time.h>

enum { RANKS = 3 };

/* Ranks that do not end by themselves get a signal after 10 s. */
static const double ENOUGH_SECONDS = 9;

/* Evaluations and checkpoints after steps 2, 4 and 6. The time limit of a collective is far above ENOUGH_SECONDS. */
static const char FLAGS[] = "--max_steps 6 --save_steps 2 --eval_strategy steps --eval_steps 2 --max_eval_samples 12 "
                            "--per_device_train_batch_size 2 --gradient_accumulation_steps 2 --learning_rate 1e-3 "
                            "--ddp_timeout 600 --overwrite_output_dir False --validation_file";

/* `newest`: step of the newest checkpoint afterwards. */
typedef struct death {
    const char *point;
    int rank, step, pass, newest;
    bool partial; /* an incomplete checkpoint is left */
} death;

/* Step 3 is the first one after a checkpoint. Every rank dies in some phases. Rank 0 writes checkpoints, with parts
 * that the others send; if it survives, it removes the incomplete one. */
static const death DEATHS[] = {
    {"forward", 2, 3, 1, 2},        {"forward", 0, 4, 6, 2},        {"backward", 0, 3, 1, 2},
    {"backward", 1, 4, 5, 2},       {"reduction", 1, 3, 1, 2},      {"reduction", 0, 4, 4, 2},
    {"optimizer", 2, 3, 1, 2},      {"optimizer", 0, 4, 7, 2},      {"gathering", 0, 3, 1, 2},
    {"gathering", 2, 4, 5, 2},      {"evaluation", 1, 4, 1, 2},     {"evaluation", 0, 4, 6, 2},
    {"sending", 1, 4, 3, 2},        {"sending", 2, 4, 9, 2},        {"writing", 0, 4, 2, 2, true},
    {"writing", 0, 4, 40, 2, true}, {"renaming", 0, 4, 1, 2, true}, {"renamed", 0, 4, 1, 4},
};

/* Processes whose parent has ended become children of this one. */
static void nothing_is_left(const char *what) {
    if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) fail_msg("%s: a process is left", what);
}

static double seconds_since(const char *file) {
    struct stat s;
    struct timespec now;
    assert_int_equal(stat(file, &s), 0);
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)(now.tv_sec - s.st_mtim.tv_sec) + 1e-9 * (double)(now.tv_nsec - s.st_mtim.tv_nsec);
}

static void die(const folder *f, const death *d, const char *flags, const char *what) {
    char setting[2 * PATH_BYTES], part[64], text[FLAG_BYTES];
    const char *died = in(f, "died");
    snprintf(setting, sizeof setting, "%d %s %d %d %s", d->rank, d->point, d->step, d->pass, died);
    setenv("LCKV_DIES", setting, 1);
    int code = program_wait(start(f, RANKS, "out", flags, text));
    unsetenv("LCKV_DIES");
    if (code != 128 + SIGKILL) fail_msg("%s: exit code %d: %s", what, code, messages_of(f));
    if (seconds_since(died) > ENOUGH_SECONDS) fail_msg("%s: %.0f s after it", what, seconds_since(died));
    unlink(died);
    nothing_is_left(what);
    snprintf(part, sizeof part, "lckv train: process %d of %d is lost", d->rank, RANKS);
    contains(f, part, 1);
    snprintf(part, sizeof part, "lckv train: process %d of %d was killed by signal 9", d->rank, RANKS);
    contains(f, part, 1);
    if (newest_checkpoint(f) != d->newest) fail_msg("%s: checkpoint-%ld", what, newest_checkpoint(f));
    if (folder_exists(in(f, "out/checkpoint-4.partial")) != d->partial) fail_msg("%s: checkpoint-4.partial", what);
}

/* In the first `phases` rows. */
static void ranks_die(const folder *f, const char *form, size_t phases) {
    char flags[FLAG_BYTES], what[64], part[64];
    snprintf(flags, sizeof flags, "%s %s %s", FLAGS, in(f, "data.jsonl"), form);
    run(f, RANKS, "whole", "%s", flags);
    for (size_t i = 0; i < phases; i++) {
        const death *d = &DEATHS[i];
        snprintf(what, sizeof what, "%s, rank %d, step %d, pass %d", d->point, d->rank, d->step, d->pass);
        die(f, d, flags, what);
        run(f, RANKS, "out", "%s", flags);
        snprintf(part, sizeof part, "checkpoint-%d', step %d of 6", d->newest, d->newest);
        contains(f, part, 1);
        same_checkpoint(f, "whole/checkpoint-6", "out/checkpoint-6", what);
        same_file(f, "whole", "out", "model.safetensors", what);
        assert_false(folder_exists(in(f, "out/checkpoint-4.partial")));
        remove_tree(in(f, "out"));
    }
}

static void optimizer_state_is_divided(void **state) {
    ranks_die(*state, "--zero 1", sizeof DEATHS / sizeof *DEATHS);
}

static void weights_are_divided(void **state) {
    ranks_die(*state, "--zero 3", sizeof DEATHS / sizeof *DEATHS);
}

/* The first attention of a step fills a slot. */
static void slots_are_exact(void **state) {
    ranks_die(*state, "--zero 3 --loop_form exact", 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {RANKS_TEST(optimizer_state_is_divided), RANKS_TEST(weights_are_divided),
                                       RANKS_TEST(slots_are_exact)};
    by_lckv = true;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
