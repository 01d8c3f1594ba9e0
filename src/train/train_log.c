/* train_log.jsonl, see train_log.h. */
#include "train/train_log.h"

#include "base/file.h"
#include "base/json.h"
#include "train/trainer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct train_log {
    FILE *stream;
    char *path;
} train_log;

static int begin(void *self, const lckv_trainer *t) {
    train_log *log = self;
    TRY(path_join(t->output_dir, "train_log.jsonl", &log->path));
    log->stream = fopen(log->path, "w");
    REQUIRE(log->stream, LCKV_ERROR_FILE, "cannot write '%s': %s", log->path, strerror(errno));
    return LCKV_OK;
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
    json_t *object =
        json_pack("{sI sf sf sf sf}", "step", (json_int_t)p->step, "loss", p->mean_loss, "grad_norm", p->grad_norm,
                  "learning_rate", p->learning_rate, "tokens_per_second", p->tokens_per_second);
    REQUIRE(object, LCKV_ERROR_NUMERIC, "the figures of step %lld cannot be logged: one is not finite",
            (long long)p->step);
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
