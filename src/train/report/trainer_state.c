/* trainer_state.json, see trainer_state.h. */
#include "train/report/trainer_state.h"

#include "base/files/file.h"

#include <math.h>
#include <stdlib.h>

static const char NAME[] = "trainer_state.json";

/* ---------------------------------------------------------------- writing */

static json_t *evaluation_entry(const history_entry *e) {
    return json_pack("{sf so so sI}", "epoch", e->epoch, "eval_accuracy", json_number_or_null(e->evaluation.accuracy),
                     "eval_loss", json_number_or_null(e->evaluation.loss), "step", (json_int_t)e->step);
}

static json_t *step_entry(const history_entry *e) {
    return json_pack("{sf so sf so sI}", "epoch", e->epoch, "grad_norm", json_number_or_null(e->grad_norm),
                     "learning_rate", e->learning_rate, "loss", json_number_or_null(e->loss), "step",
                     (json_int_t)e->step);
}

/* NULL if there is no memory. */
static json_t *log_history(const history *h, json_t *last) {
    json_t *list = json_array();
    int failed = list == NULL;
    for (int64_t i = 0; i < h->count && !failed; i++) {
        const history_entry *e = &h->list[i];
        failed = json_array_append_new(list, e->is_evaluation ? evaluation_entry(e) : step_entry(e));
    }
    if (last && !failed) failed = json_array_append(list, last);
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

static json_t *best_checkpoint_name(const run_view *run, const char *home) {
    const char *slash = *home ? "/" : "";
    return json_sprintf("%s%scheckpoint-%lld", home, slash, (long long)run->best_step);
}

/* The checkpoint of the lowest loss. TrainerState has it only with load_best_model_at_end. */
static int add_best(const run_view *run, const char *home, json_t *state) {
    bool known = run->best_step >= 0;
    return json_object_set_new(state, "best_metric", known ? json_number_or_null(run->best_loss) : json_null()) |
           json_object_set_new(state, "best_model_checkpoint", known ? best_checkpoint_name(run, home) : json_null());
}

static int add_progress(const run_view *run, const history *h, json_t *last, json_t *state) {
    int64_t epochs = run->steps_per_epoch ? (run->steps + run->steps_per_epoch - 1) / run->steps_per_epoch : 0;
    json_t *more = json_pack("{sf sI sI sI so sI sI sI sI sf sI}", "epoch", run_view_epoch(run, run->step),
                             "eval_steps", (json_int_t)run->eval_steps, "global_step", (json_int_t)run->step,
                             "logging_steps", (json_int_t)run->logging_steps, "log_history", log_history(h, last),
                             "max_steps", (json_int_t)run->steps, "num_input_tokens_seen", (json_int_t)run->tokens,
                             "num_train_epochs", (json_int_t)epochs, "save_steps", (json_int_t)run->save_steps,
                             "total_flos", run->flops, "train_batch_size", (json_int_t)run->batch_size);
    int failed = more ? json_object_update(state, more) : -1;
    json_decref(more);
    return failed;
}

static int add_constants(json_t *state) {
    json_t *more = json_pack("{sb sb sb s{} sn sn}", "is_hyper_param_search", 0, "is_local_process_zero", 1,
                             "is_world_process_zero", 1, "stateful_callbacks", "trial_name", "trial_params");
    int failed = more ? json_object_update(state, more) : -1;
    json_decref(more);
    return failed;
}

int trainer_state_write(const run_view *run, const history *h, const char *folder, const char *home, json_t *last) {
    json_t *state = json_object();
    bool failed = !state || add_best(run, home, state) || add_progress(run, h, last, state) || add_constants(state);
    if (!failed) return json_write_file(state, folder, NAME);
    json_decref(state);
    return fail(LCKV_ERROR_MEMORY, "no memory for %s", NAME);
}

/* ---------------------------------------------------------------- reading */

static int read_evaluation(const json_t *from, const char *path, history_entry *e) {
    e->is_evaluation = true;
    TRY(json_get_number(from, path, "eval_loss", NAN, &e->evaluation.loss));
    TRY(json_get_number(from, path, "eval_accuracy", NAN, &e->evaluation.accuracy));
    e->evaluation.perplexity = exp(e->evaluation.loss);
    return LCKV_OK;
}

static int read_step(const json_t *from, const char *path, history_entry *e) {
    TRY(json_get_number(from, path, "loss", NAN, &e->loss));
    TRY(json_get_number(from, path, "grad_norm", NAN, &e->grad_norm));
    e->tokens_per_second = NAN;
    return json_get_number(from, path, "learning_rate", NAN, &e->learning_rate);
}

static int read_entry(history *h, const json_t *from, const char *path) {
    history_entry e = {0};
    TRY(json_get_int(from, path, "step", 0, &e.step));
    TRY(json_get_number(from, path, "epoch", 0, &e.epoch));
    TRY(json_object_get(from, "eval_loss") ? read_evaluation(from, path, &e) : read_step(from, path, &e));
    return history_add(h, e);
}

static int read_state(history *h, const char *path) {
    json_t *state, *entry;
    size_t i;
    int status = LCKV_OK;
    TRY(json_read_file(path, &state));
    json_array_foreach(json_object_get(state, "log_history"), i, entry) {
        if (status >= 0) status = read_entry(h, entry, path);
    }
    json_decref(state);
    return status;
}

int trainer_state_read(history *h, const char *folder) {
    char *path;
    TRY(path_join(folder, NAME, &path));
    int status = file_exists(path) ? read_state(h, path) : LCKV_OK;
    free(path);
    return status;
}
