/* training_state.json, see training_state.h. */
#include "train/checkpoint/training_state.h"

#include "base/files/file.h"
#include "base/log.h"
#include "base/text/json.h"
#include "base/text/text_buffer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char NAME[] = "training_state.json";

/* ---------------------------------------------------------------- writing */

static json_t *conditions_json(const run_conditions *c) {
    return json_pack("{ss ss sI sI sI sb sI sI sI sI}", "version", lckv_version(), "device", c->device, "processes",
                     (json_int_t)c->ranks, "threads", (json_int_t)c->threads, "seed", (json_int_t)c->seed, "shuffle",
                     (int)c->shuffle, "block_size", (json_int_t)c->block_size, "blocks", (json_int_t)c->examples,
                     "batch_size", (json_int_t)c->batch_size, "blocks_per_step", (json_int_t)c->examples_per_step);
}

static json_t *describe(const training_state *s, const run_conditions *now) {
    return json_pack("{sI sI sI sf sI s{sf sI sI} sf sI s{sI so sI sI} so}", "format", (json_int_t)1, "step",
                     (json_int_t)s->step, "tokens", (json_int_t)s->tokens, "loss_sum", s->loss_sum, "learned_steps",
                     (json_int_t)s->applied_steps, "since_log", "loss", s->window.loss, "steps",
                     (json_int_t)s->window.steps, "tokens", (json_int_t)s->window.tokens, "usual_grad_norm",
                     s->usual_grad_norm, "skipped_steps", (json_int_t)s->skipped, "evaluation", "last_step",
                     (json_int_t)s->evaluated_at, "best_eval_loss", json_number_or_null(s->best.metric), "best_step",
                     (json_int_t)s->best.step, "since_best", (json_int_t)s->best.since, "repeats_under",
                     conditions_json(now));
}

int training_state_write(const training_state *state, const run_conditions *now, const char *folder) {
    return json_write_file(describe(state, now), folder, NAME);
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

/* Whether a run continues on the same blocks if this condition differs. */
static bool keeps_blocks(const char *key) {
    static const char *const keys[] = {"version", "device", "processes", "threads", "batch_size"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i])) return true;
    return false;
}

/* Logs one line if the conditions of the checkpoint differ from those of now. */
static int compare(const run_conditions *conditions, const json_t *then, const char *folder) {
    json_t *now = conditions_json(conditions), *value;
    const char *key;
    text_buffer differences = {0};
    bool same_blocks = true;
    int status = LCKV_OK;
    json_object_foreach(now, key, value) {
        const json_t *old = json_object_get(then, key);
        if (json_equal(value, old)) continue;
        same_blocks = same_blocks && keeps_blocks(key);
        if (status >= 0) status = add_difference(&differences, key, old, value);
    }
    if (status >= 0 && differences.length)
        log_message(LCKV_LOG_WARNING, "'%s' was written with %s: the resumed run %s", folder, differences.data,
                    same_blocks ? "matches it up to rounding, not bit for bit"
                                : "continues on other blocks than an uninterrupted one");
    text_free(&differences);
    json_decref(now);
    return status;
}

static int read_evaluation(training_state *s, const json_t *tree, const char *path) {
    TRY(json_get_int(tree, path, "last_step", 0, &s->evaluated_at));
    TRY(json_get_number(tree, path, "best_eval_loss", NAN, &s->best.metric));
    TRY(json_get_int(tree, path, "best_step", -1, &s->best.step));
    return json_get_int(tree, path, "since_best", 0, &s->best.since);
}

static int read_tree(training_state *s, const json_t *tree, const char *path) {
    const json_t *since_log = json_object_get(tree, "since_log");
    int64_t format;
    TRY(json_get_int(tree, path, "format", 0, &format));
    REQUIRE(format == 1, LCKV_ERROR_FORMAT, "%s: expected format 1, found %lld", path, (long long)format);
    TRY(json_get_int(tree, path, "step", -1, &s->step));
    REQUIRE(s->step >= 0, LCKV_ERROR_FORMAT, "%s: expected a step, found none", path);
    TRY(json_get_int(tree, path, "tokens", 0, &s->tokens));
    TRY(json_get_number(tree, path, "loss_sum", 0, &s->loss_sum));
    TRY(json_get_number(tree, path, "usual_grad_norm", 0, &s->usual_grad_norm));
    TRY(json_get_int(tree, path, "skipped_steps", 0, &s->skipped));
    TRY(json_get_int(tree, path, "learned_steps", s->step - s->skipped, &s->applied_steps));
    TRY(json_get_number(since_log, path, "loss", 0, &s->window.loss));
    TRY(json_get_int(since_log, path, "steps", 0, &s->window.steps));
    TRY(json_get_int(since_log, path, "tokens", 0, &s->window.tokens));
    return read_evaluation(s, json_object_get(tree, "evaluation"), path);
}

int training_state_read(const char *folder, const run_conditions *now, training_state *out) {
    char *path;
    json_t *tree = NULL;
    *out = (training_state){0};
    TRY(path_join(folder, NAME, &path));
    int status = json_read_file(path, &tree);
    if (status >= 0) status = read_tree(out, tree, path);
    if (status >= 0) status = compare(now, json_object_get(tree, "repeats_under"), folder);
    json_decref(tree);
    free(path);
    return status;
}
