/* Result files of a run, see run_results.h. */
#include "train/report/run_results.h"

#include "base/files/file.h"
#include "train/report/trainer_state.h"
#include "train/report/training_args.h"

#include <math.h>
#include <stdlib.h>

typedef struct results {
    const history *history;
    json_t *training_args; /* until it is written */
} results;

static int begin(void *self, const run_view *run) {
    results *r = self;
    json_t *written = r->training_args;
    r->training_args = NULL;
    return json_write_file(written, run->output_dir, "training_args.json");
}

/* ---------------------------------------------------------------- content */

static json_t *rate(double count, double seconds) {
    return json_number_or_null(seconds > 0 ? count / seconds : NAN);
}

/* Speeds are those of this process, everything else is of the whole run. */
static json_t *train_results(const run_view *run, const lckv_train_result *r) {
    double samples = (double)r->new_tokens / run->tokens_per_example;
    json_t *part = json_pack("{sf sI sf so sf sI so so so}", "epoch", run_view_epoch(run, r->steps), "skipped_steps",
                             (json_int_t)r->skipped_steps, "total_flos", run->flops, "train_loss",
                             json_number_or_null(r->train_loss), "train_runtime", r->seconds, "train_samples",
                             (json_int_t)run->train_examples, "train_samples_per_second", rate(samples, r->seconds),
                             "train_steps_per_second", rate((double)r->new_steps, r->seconds),
                             "train_tokens_per_second", json_number_or_null(r->tokens_per_second));
    if (part && isfinite(r->communication_wait))
        json_object_set_new(part, "train_communication_wait_seconds", json_real(r->communication_wait));
    return part;
}

static json_t *eval_results(const run_view *run, const lckv_evaluation *e) {
    double samples = (double)e->blocks, batch = run->eval_batch_size;
    return json_pack("{sf so so sf sI so so so}", "epoch", run_view_epoch(run, run->step), "eval_accuracy",
                     json_number_or_null(e->accuracy), "eval_loss", json_number_or_null(e->loss), "eval_runtime",
                     e->seconds, "eval_samples", (json_int_t)e->blocks, "eval_samples_per_second",
                     rate(samples, e->seconds), "eval_steps_per_second", rate(ceil(samples / batch), e->seconds),
                     "perplexity", json_number_or_null(e->perplexity));
}

/* ---------------------------------------------------------------- files */

/* The content of an existing file, else an empty object: an evaluation alone keeps the results of an earlier training.
 * NULL if there is no memory. */
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

/* Writes `part` (NULL: there was no memory for it) as FOLDER/name and copies its keys into `all`. */
static int write_part(json_t *part, const char *folder, const char *name, json_t *all) {
    REQUIRE(part && json_object_update(all, part) == 0, LCKV_ERROR_MEMORY, "no memory for %s", name);
    return json_write_file(json_incref(part), folder, name);
}

static int write_training(const results *r, const run_view *run, const lckv_train_result *result, json_t *all) {
    json_t *part = train_results(run, result);
    int status = write_part(part, run->output_dir, "train_results.json", all);
    if (status >= 0 && json_object_set_new(part, "step", json_integer((json_int_t)run->step)))
        status = fail(LCKV_ERROR_MEMORY, "no memory for the results of a run");
    if (status >= 0) status = trainer_state_write(run, r->history, run->output_dir, run->output_dir, part);
    json_decref(part);
    return status;
}

static int write_evaluation(const run_view *run, json_t *all) {
    json_t *part = eval_results(run, &run->evaluation);
    int status = write_part(part, run->output_dir, "eval_results.json", all);
    json_decref(part);
    return status;
}

/* If nothing was left to do, the results of the run that did the work stay. */
static bool has_new_training(const run_view *run, const lckv_train_result *result) {
    return run->do_train && (result->new_steps || !run_view_has_output(run, "train_results.json"));
}

static int end(void *self, const run_view *run, const lckv_train_result *result, int status) {
    if (status < 0) return LCKV_OK;
    json_t *all = read_results(run->output_dir, "all_results.json");
    REQUIRE(all, LCKV_ERROR_MEMORY, "no memory for all_results.json");
    if (has_new_training(run, result)) status = write_training(self, run, result, all);
    if (status >= 0 && run->evaluates) status = write_evaluation(run, all);
    if (status >= 0) return json_write_file(all, run->output_dir, "all_results.json");
    json_decref(all);
    return status;
}

/* ---------------------------------------------------------------- observing */

static void release(void *self) {
    results *r = self;
    json_decref(r->training_args);
    free(r);
}

int run_results_attach(observers *all, const history *h, const lckv_train_options *options) {
    results *r = calloc(1, sizeof *r);
    REQUIRE(r, LCKV_ERROR_MEMORY, "no memory for the results of a run");
    *r = (results){h, training_args(options)};
    return observers_add(all, (observer){.self = r, .begin = begin, .end = end, .release = release});
}
