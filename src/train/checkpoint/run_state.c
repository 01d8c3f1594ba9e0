/* training_state.json, see run_state.h. */
#include "train/checkpoint/run_state.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text_buffer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char NAME[] = "training_state.json";

/* ---------------------------------------------------------------- writing */

/* Everything besides weights, moments and options that bits depend on. Random numbers are a function of seed, stream
 * and counter (base/rng.h), so the seed and the step are their whole state. */
static json_t *repeats_under(const lckv_trainer *t) {
    const device *d = t->device;
    return json_pack("{ss ss sI sI sI sb sI sI sI sI}", "version", lckv_version(), "device", d->features, "processes",
                     (json_int_t)t->stepper->optimizer->collectives->ranks, "threads", (json_int_t)d->threads, "seed",
                     (json_int_t)t->seed, "shuffle", (int)t->shuffle, "block_size", (json_int_t)t->stepper->block_size,
                     "blocks", (json_int_t)t->train->count, "batch_size", (json_int_t)t->stepper->batch_size,
                     "blocks_per_step", (json_int_t)t->blocks_per_step);
}

static json_t *describe(const lckv_trainer *t) {
    return json_pack("{sI sI sI sf sI s{sf sI sI} sf sI s{sI so sI sI} so}", "format", (json_int_t)1, "step",
                     (json_int_t)t->step, "tokens", (json_int_t)t->tokens, "loss_sum", t->loss_sum, "learned_steps",
                     (json_int_t)t->learned, "since_log", "loss", t->window.loss, "steps", (json_int_t)t->window.steps,
                     "tokens", (json_int_t)t->window.tokens, "usual_grad_norm", t->usual_grad_norm, "skipped_steps",
                     (json_int_t)t->skipped, "evaluation", "last_step", (json_int_t)t->evaluated_at, "best_eval_loss",
                     json_number_or_null(t->best.metric), "best_step", (json_int_t)t->best.step, "since_best",
                     (json_int_t)t->best.since, "repeats_under", repeats_under(t));
}

int run_state_write(const lckv_trainer *t, const char *folder) {
    return json_write_file(describe(t), folder, NAME);
}

/* ---------------------------------------------------------------- reading */

static int add_difference(text_buffer *b, const char *key, const json_t *then, const json_t *now) {
    char *old = then ? json_dumps(then, JSON_ENCODE_ANY) : NULL, *new = json_dumps(now, JSON_ENCODE_ANY);
    int status = text_printf(b, "%s%s %.80s (now %.80s)", b->length ? ", " : "", key, old ? old : "unknown",
                             new ? new : "unknown");
    free(old);
    free(new);
    return status;
}

/* One line, where anything differs. */
static int compare(const lckv_trainer *t, const json_t *then, const char *folder) {
    json_t *now = repeats_under(t), *value;
    const char *key;
    text_buffer differences = {0};
    int status = LCKV_OK;
    json_object_foreach(now, key, value) {
        const json_t *old = json_object_get(then, key);
        if (status >= 0 && !json_equal(value, old)) status = add_difference(&differences, key, old, value);
    }
    if (status >= 0 && differences.length)
        log_message(LCKV_LOG_WARNING, "'%s' was written with %s: the run goes on from it, but not bit for bit", folder,
                    differences.data);
    text_free(&differences);
    json_decref(now);
    return status;
}

static int read_evaluation(lckv_trainer *t, const json_t *tree, const char *path) {
    TRY(json_get_int(tree, path, "last_step", 0, &t->evaluated_at));
    TRY(json_get_number(tree, path, "best_eval_loss", NAN, &t->best.metric));
    TRY(json_get_int(tree, path, "best_step", -1, &t->best.step));
    return json_get_int(tree, path, "since_best", 0, &t->best.since);
}

static int read_tree(lckv_trainer *t, const json_t *tree, const char *path) {
    const json_t *since_log = json_object_get(tree, "since_log");
    int64_t format;
    TRY(json_get_int(tree, path, "format", 0, &format));
    REQUIRE(format == 1, LCKV_ERROR_FORMAT, "%s has format %lld, this program reads 1", path, (long long)format);
    TRY(json_get_int(tree, path, "step", -1, &t->step));
    REQUIRE(t->step >= 0, LCKV_ERROR_FORMAT, "%s has no step", path);
    TRY(json_get_int(tree, path, "tokens", 0, &t->tokens));
    TRY(json_get_number(tree, path, "loss_sum", 0, &t->loss_sum));
    TRY(json_get_number(tree, path, "usual_grad_norm", 0, &t->usual_grad_norm));
    TRY(json_get_int(tree, path, "skipped_steps", 0, &t->skipped));
    TRY(json_get_int(tree, path, "learned_steps", t->step - t->skipped, &t->learned));
    TRY(json_get_number(since_log, path, "loss", 0, &t->window.loss));
    TRY(json_get_int(since_log, path, "steps", 0, &t->window.steps));
    TRY(json_get_int(since_log, path, "tokens", 0, &t->window.tokens));
    return read_evaluation(t, json_object_get(tree, "evaluation"), path);
}

int run_state_read(lckv_trainer *t, const char *folder) {
    char *path;
    json_t *tree = NULL;
    TRY(path_join(folder, NAME, &path));
    int status = json_read_file(path, &tree);
    if (status >= 0) status = read_tree(t, tree, path);
    if (status >= 0) status = compare(t, json_object_get(tree, "repeats_under"), folder);
    json_decref(tree);
    free(path);
    return status;
}
