/* The output folder of a run, see run_folder.h. */
#include "train/checkpoint/run_folder.h"

#include "base/files/file.h"
#include "base/files/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char LOCK[] = "run.lock", PREFIX[] = "checkpoint-", PARTIAL[] = ".partial", OLD[] = ".old";
enum { NAME_BYTES = 64 };

/* ---------------------------------------------------------------- names */

int run_folder_checkpoint(const run_folder *f, int64_t step, const char *suffix, char **out) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%" PRId64 "%s", PREFIX, step, suffix);
    return path_join(f->path, name, out);
}

/* The step in "checkpoint-STEP" + suffix; -1 for any other name. */
static int64_t step_of(const char *name, const char *suffix) {
    char *end;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1)) return -1;
    const char *digits = name + sizeof PREFIX - 1;
    if (*digits < '0' || *digits > '9') return -1;
    errno = 0;
    long long step = strtoll(digits, &end, 10);
    return errno || strcmp(end, suffix) ? -1 : step;
}

typedef struct steps {
    int64_t *list; /* ascending */
    int count;
} steps;

static int by_step(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Lists the steps that have a folder with this suffix; the caller frees the list. */
static int list_steps(const run_folder *f, const char *suffix, steps *out) {
    struct dirent **entries;
    int count = scandir(f->path, &entries, NULL, NULL);
    *out = (steps){0};
    REQUIRE(count >= 0, LCKV_ERROR_FILE, "cannot list '%s': %s", f->path, strerror(errno));
    out->list = malloc((size_t)(count + 1) * sizeof *out->list);
    for (int i = 0; i < count; i++) {
        int64_t step = step_of(entries[i]->d_name, suffix);
        if (out->list && step >= 0) out->list[out->count++] = step;
        free(entries[i]);
    }
    free(entries);
    REQUIRE(out->list, LCKV_ERROR_MEMORY, "no memory for a list of checkpoints");
    qsort(out->list, (size_t)out->count, sizeof *out->list, by_step);
    return LCKV_OK;
}

int run_folder_highest(const run_folder *f, int64_t below, int64_t *step) {
    steps all;
    *step = -1;
    TRY(list_steps(f, "", &all));
    for (int i = 0; i < all.count; i++)
        if (all.list[i] < below) *step = all.list[i];
    free(all.list);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- moving and removing */

static int rename_checkpoint(const run_folder *f, int64_t step, const char *from, const char *to) {
    char *source, *target = NULL;
    TRY(run_folder_checkpoint(f, step, from, &source));
    int status = run_folder_checkpoint(f, step, to, &target);
    if (status >= 0) status = folder_move(source, target);
    free(source);
    free(target);
    return status;
}

static int remove_checkpoint(const run_folder *f, int64_t step, const char *suffix) {
    char *path;
    TRY(run_folder_checkpoint(f, step, suffix, &path));
    int status = folder_remove(path);
    free(path);
    return status;
}

static int remove_all(const run_folder *f, const char *suffix) {
    steps all;
    TRY(list_steps(f, suffix, &all));
    int status = LCKV_OK;
    for (int i = 0; i < all.count && status >= 0; i++) status = remove_checkpoint(f, all.list[i], suffix);
    free(all.list);
    return status;
}

/* Renames a checkpoint before deleting its files, so that an incomplete one never has a valid name. */
static int delete_checkpoint(const run_folder *f, int64_t step) {
    TRY(remove_checkpoint(f, step, PARTIAL));
    TRY(rename_checkpoint(f, step, "", PARTIAL));
    return remove_checkpoint(f, step, PARTIAL);
}

/* Renames the checkpoints that the new one supersedes to checkpoint-STEP.old, oldest first. */
static int rename_superseded(const run_folder *f, int64_t step) {
    steps all;
    TRY(list_steps(f, "", &all));
    int status = LCKV_OK;
    for (int i = 0; i < all.count && status >= 0; i++)
        if (all.list[i] > f->resumed_at || all.list[i] == step) status = rename_checkpoint(f, all.list[i], "", OLD);
    free(all.list);
    return status;
}

static int restore_superseded(const run_folder *f) {
    steps all;
    TRY(list_steps(f, OLD, &all));
    int status = LCKV_OK;
    for (int i = 0; i < all.count && status >= 0; i++) status = rename_checkpoint(f, all.list[i], OLD, "");
    free(all.list);
    return status;
}

int run_folder_put(run_folder *f, int64_t step) {
    TRY(rename_superseded(f, step));
    TRY(rename_checkpoint(f, step, PARTIAL, ""));
    f->resumed_at = INT64_MAX;
    return remove_all(f, OLD);
}

int run_folder_rotate(const run_folder *f, int64_t limit, int64_t newest, int64_t best) {
    steps all;
    TRY(list_steps(f, "", &all));
    int status = LCKV_OK, left = all.count;
    for (int i = 0; i < all.count && left > limit && status >= 0; i++) {
        if (all.list[i] == newest || all.list[i] == best) continue;
        status = delete_checkpoint(f, all.list[i]);
        left--;
    }
    free(all.list);
    return status;
}

/* ---------------------------------------------------------------- opening */

static bool has_entries(const char *path) {
    DIR *folder = opendir(path);
    bool found = false;
    for (struct dirent *entry; folder && !found && (entry = readdir(folder));)
        found = strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    if (folder) closedir(folder);
    return found;
}

/* Cleans up after a crash: deletes incomplete checkpoints, and restores superseded ones if there is no other. */
static int clean_up(const run_folder *f) {
    int64_t highest;
    TRY(remove_all(f, PARTIAL));
    TRY(folder_sweep(f->path, ""));
    TRY(run_folder_highest(f, INT64_MAX, &highest));
    return highest < 0 ? restore_superseded(f) : remove_all(f, OLD);
}

/* On a file system without locks there is no protection against a second run. */
static int take_lock(run_folder *f) {
    char *path;
    TRY(path_join(f->path, LOCK, &path));
    f->lock_was_there = file_exists(path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666), error = errno;
    free(path);
    REQUIRE(fd >= 0, LCKV_ERROR_FILE, "cannot write '%s/%s': %s", f->path, LOCK, strerror(error));
    f->lock = fd + 1;
    REQUIRE(flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, LCKV_ERROR_FILE,
            "another run is writing to '%s'; wait until it has ended, or choose another output_dir", f->path);
    return LCKV_OK;
}

/* Called before anything is written. */
static int check_use(const run_folder *f, bool any_content) {
    int64_t highest;
    steps old;
    char *lock;
    if (any_content || !has_entries(f->path)) return LCKV_OK;
    TRY(run_folder_highest(f, INT64_MAX, &highest));
    TRY(list_steps(f, OLD, &old));
    free(old.list);
    TRY(path_join(f->path, LOCK, &lock));
    bool begun = file_exists(lock);
    free(lock);
    REQUIRE(highest >= 0 || old.count > 0 || begun, LCKV_ERROR_ARGUMENT,
            "output_dir '%s' is not empty and has no checkpoint to resume from; choose another one, or set "
            "overwrite_output_dir",
            f->path);
    return LCKV_OK;
}

int run_folder_join(const char *path, run_folder *out) {
    *out = (run_folder){.path = strdup(path), .resumed_at = -1};
    REQUIRE(out->path, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

int run_folder_open(const char *path, bool any_content, run_folder *out) {
    TRY(run_folder_join(path, out));
    int status = check_use(out, any_content);
    if (status >= 0) status = folder_create(path);
    if (status >= 0) status = take_lock(out);
    if (status >= 0) status = clean_up(out);
    if (status < 0) run_folder_close(out, false);
    return status;
}

void run_folder_close(run_folder *f, bool finished) {
    char *path;
    if (f->lock && finished && path_join(f->path, LOCK, &path) >= 0) {
        unlink(path);
        free(path);
    }
    if (f->lock) close(f->lock - 1);
    free(f->path);
    *f = (run_folder){0};
}
