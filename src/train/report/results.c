/* What a run leaves in its output folder, see results.h. */
#include "train/report/results.h"

#include "base/file.h"
#include "train/report/trainer_state.h"
#include "train/report/training_args.h"
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>

typedef struct results {
    const history *history;
    json_t *training_args; /* until it is written */
} results;

static int begin(void *self, const lckv_trainer *t) {
    results *r = self;
    json_t *written = r->training_args;
    r->training_args = NULL;
    return json_write_file(written, t->output_dir, "training_args.json");
}

/* ---------------------------------------------------------------- their contents */

static json_t *rate(double count, double seconds) {
    return json_number_or_null(seconds > 0 ? count / seconds : NAN);
}

/* Speeds are of this process; all else is of the whole run. */
static json_t *train_results(const lckv_trainer *t, const lckv_train_result *r) {
    double samples = (double)r->new_tokens / trainer_tokens_of_example(t);
    return json_pack("{sf sI sf so sf sI so so so}", "epoch", history_epoch(t, r->steps), "skipped_steps",
                     (json_int_t)r->skipped_steps, "total_flos", trainer_flops(t), "train_loss",
                     json_number_or_null(r->train_loss), "train_runtime", r->seconds, "train_samples",
                     (json_int_t)t->train->count, "train_samples_per_second", rate(samples, r->seconds),
                     "train_steps_per_second", rate((double)r->new_steps, r->seconds), "train_tokens_per_second",
                     json_number_or_null(r->tokens_per_second));
}

static json_t *eval_results(const lckv_trainer *t, const lckv_evaluation *e) {
    double samples = (double)e->blocks, at_once = stepper_blocks_at_once(t->stepper);
    return json_pack("{sf so so sf sI so so so}", "epoch", history_epoch(t, t->step), "eval_accuracy",
                     json_number_or_null(e->accuracy), "eval_loss", json_number_or_null(e->loss), "eval_runtime",
                     e->seconds, "eval_samples", (json_int_t)e->blocks, "eval_samples_per_second",
                     rate(samples, e->seconds), "eval_steps_per_second", rate(ceil(samples / at_once), e->seconds),
                     "perplexity", json_number_or_null(e->perplexity));
}

/* ---------------------------------------------------------------- files */

/* What the folder's file says, an empty object where it says nothing: an evaluation alone leaves the results of the
 * training before it. NULL where there is no memory. */
static json_t *read_results(const char *folder, const char *name) {
    char *path;
    json_t *found = NULL;
    if (path_join(folder, name, &path) < 0) return NULL;
    bool there = file_exists(path) && json_read_file(path, &found) >= 0 && json_is_object(found);
    free(path);
    if (there) return found;
    json_decref(found);
    return json_object();
}

/* `part` (NULL: there was no memory for it) as FOLDER/name, and what it has into `all`. */
static int write_part(json_t *part, const char *folder, const char *name, json_t *all) {
    REQUIRE(part && json_object_update(all, part) == 0, LCKV_ERROR_MEMORY, "no memory for %s", name);
    return json_write_file(json_incref(part), folder, name);
}

static int write_training(const results *r, const lckv_trainer *t, const lckv_train_result *result, json_t *all) {
    json_t *part = train_results(t, result);
    int status = write_part(part, t->output_dir, "train_results.json", all);
    if (status >= 0 && json_object_set_new(part, "step", json_integer((json_int_t)t->step)))
        status = fail(LCKV_ERROR_MEMORY, "no memory for the results of a run");
    if (status >= 0) status = trainer_state_write(t, r->history, t->output_dir, t->output_dir, part);
    json_decref(part);
    return status;
}

static int write_evaluation(const lckv_trainer *t, json_t *all) {
    json_t *part = eval_results(t, &t->evaluation);
    int status = write_part(part, t->output_dir, "eval_results.json", all);
    json_decref(part);
    return status;
}

/* A command that finds nothing left to do leaves the speeds of the one that did it. */
static bool has_news_of_training(const lckv_trainer *t, const lckv_train_result *result) {
    return t->do_train && (result->new_steps || !trainer_has_output(t, "train_results.json"));
}

static int end(void *self, const lckv_trainer *t, const lckv_train_result *result, int status) {
    if (status < 0) return LCKV_OK;
    json_t *all = read_results(t->output_dir, "all_results.json");
    REQUIRE(all, LCKV_ERROR_MEMORY, "no memory for all_results.json");
    if (has_news_of_training(t, result)) status = write_training(self, t, result, all);
    if (status >= 0 && t->do_eval && t->validation->count) status = write_evaluation(t, all);
    if (status >= 0) return json_write_file(all, t->output_dir, "all_results.json");
    json_decref(all);
    return status;
}

/* ---------------------------------------------------------------- watching */

static void release(void *self) {
    results *r = self;
    json_decref(r->training_args);
    free(r);
}

int results_watch(watchers *all, const history *h, const lckv_train_options *options) {
    results *r = calloc(1, sizeof *r);
    REQUIRE(r, LCKV_ERROR_MEMORY, "no memory for the results of a run");
    *r = (results){h, training_args(options)};
    return watchers_add(all, (watcher){.self = r, .begin = begin, .end = end, .release = release});
}
