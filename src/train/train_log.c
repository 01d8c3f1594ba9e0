/* train_log.jsonl, see train_log.h. */
#include "train/train_log.h"

#include "base/file.h"
#include "base/json.h"
#include "train/trainer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct train_log {
    FILE *stream;
    char *path;
} train_log;

/* Where the lines of steps after `step` begin: they were logged after the checkpoint that the run goes on from. */
static size_t end_of_step(const char *text, int64_t step) {
    const char *at = text;
    for (const char *end; (end = strchr(at, '\n')); at = end + 1) {
        long long found;
        if (sscanf(at, "{\"step\": %lld", &found) != 1 || found > step) break;
    }
    return (size_t)(at - text);
}

/* What an earlier process logged of this run, cut where this one goes on; none of it is used where it begins anew. */
static int keep_earlier_lines(const train_log *log, int64_t step) {
    char *text;
    size_t bytes;
    if (!file_exists(log->path)) return LCKV_OK;
    TRY(file_read(log->path, &text, &bytes));
    int status = file_replace(log->path, text, step ? end_of_step(text, step) : 0);
    free(text);
    return status;
}

static int begin(void *self, const lckv_trainer *t) {
    train_log *log = self;
    TRY(path_join(t->output_dir, "train_log.jsonl", &log->path));
    TRY(keep_earlier_lines(log, t->step));
    log->stream = fopen(log->path, "a");
    REQUIRE(log->stream, LCKV_ERROR_FILE, "cannot write '%s': %s", log->path, strerror(errno));
    return LCKV_OK;
}

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static int write_line(train_log *log, const json_t *object) {
    char *text;
    TRY(json_format(object, 0, &text));
    bool written = fprintf(log->stream, "%s\n", text) > 0 && fflush(log->stream) == 0;
    free(text);
    REQUIRE(written, LCKV_ERROR_FILE, "cannot write '%s': %s", log->path, strerror(errno));
    return LCKV_OK;
}

static int step(void *self, const lckv_trainer *t, const lckv_train_progress *p) {
    (void)t;
    if (!p->logged) return LCKV_OK;
    json_t *object = json_pack("{sI so so sf sf}", "step", (json_int_t)p->step, "loss", number_or_null(p->mean_loss),
                               "grad_norm", number_or_null(p->grad_norm), "learning_rate", p->learning_rate,
                               "tokens_per_second", p->tokens_per_second);
    REQUIRE(object, LCKV_ERROR_MEMORY, "no memory for a line of the log");
    int status = write_line(self, object);
    json_decref(object);
    return status;
}

static void release(void *self) {
    train_log *log = self;
    if (log->stream) fclose(log->stream);
    free(log->path);
    free(log);
}

int train_log_watch(watchers *all) {
    train_log *log = calloc(1, sizeof *log);
    REQUIRE(log, LCKV_ERROR_MEMORY, "no memory for a log");
    return watchers_add(all, (watcher){.self = log, .begin = begin, .step = step, .release = release});
}
