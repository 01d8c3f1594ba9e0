/* train_log.jsonl, see train_log.h. */
#include "train/report/train_log.h"

#include "base/files/file.h"
#include "base/text/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char NAME[] = "train_log.jsonl";

typedef struct train_log {
    FILE *stream;
    char *path;
} train_log;

/* Length of the lines up to `step`. Later lines were logged after the checkpoint that the run resumes from. */
static size_t end_of_step(const char *text, int64_t step) {
    const char *at = text;
    for (const char *end; (end = strchr(at, '\n')); at = end + 1) {
        long long found;
        if (sscanf(at, "{\"step\": %lld", &found) != 1 || found > step) break;
    }
    return (size_t)(at - text);
}

/* Keeps the lines up to the step that the run resumes from; none for a new run. */
static int keep_earlier_lines(const train_log *log, int64_t step) {
    char *text;
    size_t bytes;
    if (!file_exists(log->path)) return LCKV_OK;
    TRY(file_read(log->path, &text, &bytes));
    int status = file_replace(log->path, text, step ? end_of_step(text, step) : 0);
    free(text);
    return status;
}

static int begin(void *self, const run_view *run) {
    train_log *log = self;
    TRY(path_join(run->output_dir, NAME, &log->path));
    TRY(keep_earlier_lines(log, run->step));
    return file_append(log->path, &log->stream);
}

/* ---------------------------------------------------------------- writing */

static int write_line(train_log *log, const json_t *object) {
    char *text;
    TRY(json_format(object, 0, &text));
    bool written = fprintf(log->stream, "%s\n", text) > 0 && fflush(log->stream) == 0;
    free(text);
    REQUIRE(written, LCKV_ERROR_FILE, "cannot write '%s': %s", log->path, strerror(errno));
    return LCKV_OK;
}

/* Takes ownership of `object`; NULL: there was no memory for it. */
static int log_object(train_log *log, json_t *object) {
    REQUIRE(object, LCKV_ERROR_MEMORY, "no memory for a line of the log");
    int status = write_line(log, object);
    json_decref(object);
    return status;
}

/* A skipped step always has a line of its own. */
static int step(void *self, const run_view *run, const lckv_train_progress *p) {
    (void)run;
    if (!p->logged && !p->skipped) return LCKV_OK;
    json_t *object = json_pack("{sI so so sf sf}", "step", (json_int_t)p->step, "loss",
                               json_number_or_null(p->logged ? p->mean_loss : p->loss), "grad_norm",
                               json_number_or_null(p->grad_norm), "learning_rate", p->learning_rate,
                               "tokens_per_second", p->tokens_per_second);
    if (object && isfinite(p->loop_residual)) json_object_set_new(object, "loop_residual", json_real(p->loop_residual));
    if (object && isfinite(p->loop_start_error))
        json_object_set_new(object, "loop_start_error", json_real(p->loop_start_error));
    if (object && isfinite(p->communication_wait))
        json_object_set_new(object, "communication_wait_seconds", json_real(p->communication_wait));
    if (object && p->skipped) json_object_set_new(object, "skipped", json_true());
    return log_object(self, object);
}

static int evaluated(void *self, const run_view *run, const lckv_evaluation *e) {
    return log_object(self, json_pack("{sI so so so}", "step", (json_int_t)run->step, "eval_loss",
                                      json_number_or_null(e->loss), "perplexity", json_number_or_null(e->perplexity),
                                      "eval_accuracy", json_number_or_null(e->accuracy)));
}

static void release(void *self) {
    train_log *log = self;
    if (log->stream) fclose(log->stream);
    free(log->path);
    free(log);
}

int train_log_attach(observers *all) {
    train_log *log = calloc(1, sizeof *log);
    REQUIRE(log, LCKV_ERROR_MEMORY, "no memory for a log");
    return observers_add(
        all, (observer){.self = log, .begin = begin, .step = step, .evaluated = evaluated, .release = release});
}

/* ---------------------------------------------------------------- reading */

/* Ignores incomplete lines and lines without a throughput. */
static void take_speed(history *h, int64_t *at, const char *line, size_t bytes) {
    json_t *object;
    if (json_parse(line, bytes, NAME, &object) < 0) return;
    const json_t *speed = json_object_get(object, "tokens_per_second");
    int64_t step = json_integer_value(json_object_get(object, "step"));
    while (speed && *at < h->count && h->list[*at].step < step) ++*at;
    for (int64_t i = *at; speed && i < h->count && h->list[i].step == step; i++)
        if (!h->list[i].is_evaluation) h->list[i].tokens_per_second = json_number_value(speed);
    json_decref(object);
}

int train_log_read_speeds(const char *output_dir, history *h) {
    char *path, *text;
    size_t bytes;
    TRY(path_join(output_dir, NAME, &path));
    int status = file_exists(path) ? file_read(path, &text, &bytes) : 1;
    free(path);
    if (status) return status < 0 ? status : LCKV_OK;
    int64_t at = 0;
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        take_speed(h, &at, line, (size_t)(end - line));
    free(text);
    return LCKV_OK;
}
