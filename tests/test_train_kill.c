/* lckv train is killed with SIGKILL at random times, also while it writes, and started again with the same command: the
 * result has the bytes of an uninterrupted run. */
#include "base/files/checksum.h"
#include "base/rng.h"

#include "folder_fixture.h"

#include "id_rows.h"
#include "program_path.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { KILLS = 20, MAX_LIFETIME = 50000 /* microseconds that a process may live */ };

static const char CONFIG[] =
    ID_ROWS_CONFIG("3", ",\"layer_types\":\"0_2_2\",\"forward_passes\":1,\"backward_passes\":2");

static const char *write_ids(folder *r) {
    char text[ID_ROWS_BYTES];
    id_rows(text);
    return put_text_in(r, "ids.jsonl", text);
}

typedef struct job {
    const char *program, *config, *ids, *messages;
} job;

static pid_t start(const job *j, const char *output) {
    const char *const words[] = {j->program,
                                 "train",
                                 "--config_name",
                                 j->config,
                                 "--train_file",
                                 j->ids,
                                 "--validation_file",
                                 j->ids,
                                 "--output_dir",
                                 output,
                                 "--block_size",
                                 "16",
                                 "--per_device_train_batch_size",
                                 "3",
                                 "--max_steps",
                                 "300",
                                 "--save_steps",
                                 "4",
                                 "--eval_strategy",
                                 "steps",
                                 "--eval_steps",
                                 "8",
                                 "--save_total_limit",
                                 "2",
                                 "--logging_steps",
                                 "3",
                                 "--lr_scheduler_type",
                                 "cosine",
                                 "--threads",
                                 "1",
                                 NULL};
    pid_t child = fork();
    if (child) return child;
    int messages = open(j->messages, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (dup2(messages, 1) < 0 || dup2(messages, 2) < 0) _exit(99);
    execv(words[0], (char *const *)(uintptr_t)words);
    _exit(99);
}

/* True when it was killed, false when it had ended well before. */
static bool run_for(const job *j, const char *output, int64_t microseconds) {
    int status;
    pid_t child = start(j, output);
    usleep((useconds_t)microseconds);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) return true;
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static void run_to_the_end(const job *j, const char *output) {
    int status;
    char *messages;
    size_t bytes;
    pid_t child = start(j, output);
    assert_int_equal(waitpid(child, &status, 0), child);
    OK(file_read(j->messages, &messages, &bytes));
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fail_msg("status %d: %s", status, messages);
    free(messages);
}

static int compare_folders(const char *left, const char *right) {
    int files = 0;
    DIR *place = opendir(left);
    assert_non_null(place);
    for (struct dirent *e; (e = readdir(place));) {
        char a[2 * PATH_BYTES], b[2 * PATH_BYTES];
        uint64_t x, y;
        size_t bytes;
        if (e->d_name[0] == '.') continue;
        snprintf(a, sizeof a, "%.500s/%.200s", left, e->d_name);
        snprintf(b, sizeof b, "%.500s/%.200s", right, e->d_name);
        OK(checksum_file(a, &x, &bytes));
        OK(checksum_file(b, &y, &bytes));
        if (x != y) fail_msg("%s and %s differ", a, b);
        files++;
    }
    closedir(place);
    return files;
}

static void killed_runs_end_with_the_same_bytes(void **state) {
    folder *r = *state;
    job j = {program_path(), put_text_in(r, "config.json", CONFIG), write_ids(r), in(r, "messages")};
    const char *whole = in(r, "whole"), *killed = in(r, "killed");
    int hits = 0;
    run_to_the_end(&j, whole);
    for (uint64_t i = 0; i < KILLS; i++)
        hits += run_for(&j, killed, (int64_t)(rng_uniform((uint64_t)getpid(), 1, i) * MAX_LIFETIME));
    run_to_the_end(&j, killed);
    if (hits < KILLS / 2) fail_msg("only %d of %d processes were killed before they ended", hits, KILLS);
    assert_true(compare_folders(in(r, "whole/checkpoint-300"), in(r, "killed/checkpoint-300")) >= 5);
    assert_true(compare_folders(in(r, "whole/checkpoint-296"), in(r, "killed/checkpoint-296")) >= 5);
    assert_false(file_exists(in(r, "killed/run.lock")));
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(killed_runs_end_with_the_same_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
