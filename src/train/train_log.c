/* train_log.jsonl, see train_log.h. */
#include "train/train_log.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int train_log_open(const char *folder, train_log *out) {
    *out = (train_log){0};
    TRY(path_join(folder, "train_log.jsonl", &out->path));
    out->stream = fopen(out->path, "w");
    if (out->stream) return LCKV_OK;
    int status = fail(LCKV_ERROR_FILE, "cannot write '%s': %s", out->path, strerror(errno));
    train_log_close(out);
    return status;
}

int train_log_write(train_log *log, const train_log_line *line) {
    json_t *object =
        json_pack("{sI sf sf sf sf}", "step", (json_int_t)line->step, "loss", line->loss, "grad_norm", line->grad_norm,
                  "learning_rate", line->learning_rate, "tokens_per_second", line->tokens_per_second);
    REQUIRE(object, LCKV_ERROR_NUMERIC, "the figures of step %lld cannot be logged: one is not finite",
            (long long)line->step);
    char *text;
    int status = json_format(object, 0, &text);
    json_decref(object);
    TRY(status);
    bool written = fprintf(log->stream, "%s\n", text) > 0 && fflush(log->stream) == 0;
    free(text);
    REQUIRE(written, LCKV_ERROR_FILE, "cannot write '%s': %s", log->path, strerror(errno));
    return LCKV_OK;
}

void train_log_close(train_log *log) {
    if (log->stream) fclose(log->stream);
    free(log->path);
    *log = (train_log){0};
}
