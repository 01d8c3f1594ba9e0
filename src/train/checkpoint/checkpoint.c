/* A training checkpoint, see checkpoint.h. */
#include "train/checkpoint/checkpoint.h"

#include "base/file.h"
#include "base/folder.h"
#include "base/log.h"
#include "io/adapter_file.h"
#include "io/adapter_save.h"
#include "io/checkpoint_files.h"
#include "io/hf_folder.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/optimizer_file.h"
#include "train/checkpoint/optimizer_state.h"
#include "train/checkpoint/run_state.h"
#include "train/initial_model.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- writing */

static int read_value(void *user, int entry, dtype type, void *host) {
    return optimizer_read_as(user, entry, OPTIMIZER_VALUE, type, host);
}

static int write_adapter(const lckv_trainer *t, const char *folder) {
    adapter_save_options options = {.type = t->stepper->optimizer->kept,
                                    .base = t->model_name,
                                    .tokenizer = t->tokenizer_folder,
                                    .chat_template = t->template_text,
                                    .values = read_value,
                                    .user = t->stepper->optimizer};
    return adapter_save(t->model->adapter, &options, folder);
}

static int write_model(lckv_trainer *t, const char *folder) {
    if (t->model->adapter) return write_adapter(t, folder);
    checkpoint_save_options options = {.type = t->stepper->optimizer->kept,
                                       .source = t->source_folder,
                                       .code = t->code_folder,
                                       .tokenizer = t->tokenizer_folder,
                                       .chat_template = t->template_text,
                                       .values = read_value,
                                       .user = t->stepper->optimizer};
    return checkpoint_save(t->model->config, t->model->params, &options, folder);
}

/* What process 0 writes, while the others hand over their parts of the optimizer's state. */
typedef struct writing {
    lckv_trainer *trainer;
    const char *folder;
} writing;

static int write_model_alone(void *user) {
    const writing *w = user;
    return write_model(w->trainer, w->folder);
}

int train_checkpoint_model(lckv_trainer *t, const char *folder) {
    writing w = {t, folder};
    return optimizer_while_one_writes(t->stepper->optimizer, write_model_alone, &w);
}

static int write_optimizer(lckv_trainer *t, const char *folder) {
    char *path;
    TRY(path_join(folder, "optimizer.safetensors", &path));
    int status = optimizer_save(t->stepper->optimizer, path);
    free(path);
    return status;
}

static int write_all(lckv_trainer *t, const char *folder) {
    TRY(folder_remove(folder));
    TRY(folder_create(folder));
    TRY(write_model(t, folder));
    TRY(write_optimizer(t, folder));
    TRY(run_state_write(t, folder));
    TRY(watchers_saving(&t->watchers, t, folder));
    return manifest_write(folder);
}

/* Removing what was begun keeps the message of why. */
static int give_up(const char *folder, int status) {
    char message[1024];
    snprintf(message, sizeof message, "%s", lckv_last_error());
    if (folder_remove(folder) < 0) log_message(LCKV_LOG_WARNING, "%s", lckv_last_error());
    return fail(status, "%s", message);
}

static int write_or_give_up(void *user) {
    const writing *w = user;
    int status = write_all(w->trainer, w->folder);
    if (status < 0) return give_up(w->folder, status);
    return run_folder_put(&w->trainer->folder, w->trainer->step);
}

int train_checkpoint_write(lckv_trainer *t) {
    char *folder;
    TRY(run_folder_checkpoint(&t->folder, t->step, ".partial", &folder));
    writing w = {t, folder};
    int status = optimizer_while_one_writes(t->stepper->optimizer, write_or_give_up, &w);
    free(folder);
    return status;
}

/* ---------------------------------------------------------------- choosing */

static int choose_newest(lckv_trainer *t) {
    bool damaged = false;
    for (int64_t step = INT64_MAX;;) {
        char *folder;
        TRY(run_folder_highest(&t->folder, step, &step));
        if (step < 0) break;
        TRY(run_folder_checkpoint(&t->folder, step, "", &folder));
        t->resumed_from = folder;
        if (manifest_check(folder) >= 0) return LCKV_OK;
        log_message(LCKV_LOG_WARNING, "%s: NOT going on from '%s' but from what was written before it",
                    lckv_last_error(), folder);
        t->resumed_from = NULL;
        free(folder);
        damaged = true;
    }
    REQUIRE(!damaged, LCKV_ERROR_FORMAT, "every checkpoint in '%s' is damaged: there is none to go on from",
            t->folder.path);
    return LCKV_OK;
}

static bool is_word_true(const char *text) {
    return !strcmp(text, "True") || !strcmp(text, "true") || !strcmp(text, "TRUE");
}

int train_checkpoint_choose(lckv_trainer *t, const char *asked) {
    if (!asked || is_word_true(asked)) {
        TRY(choose_newest(t));
        REQUIRE(!asked || t->resumed_from, LCKV_ERROR_FILE,
                "resume_from_checkpoint: there is no checkpoint in output_dir '%s'", t->folder.path);
        return LCKV_OK;
    }
    TRY(manifest_check(asked));
    t->resumed_from = strdup(asked);
    REQUIRE(t->resumed_from, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

/* ---------------------------------------------------------------- going on */

/* Through the optimizer, which keeps f32 masters that processes have divided. */
static int set_f32_weight(optimizer *o, int i, const safetensors_entry *e) {
    float *values = malloc(e->bytes); /* what lies in the file is aligned to nothing */
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the %zu bytes of %s", e->bytes, e->name);
    memcpy(values, e->data, e->bytes);
    int status = optimizer_write(o, i, OPTIMIZER_VALUE, values);
    free(values);
    return status;
}

/* `e` is the tensor of its name, NULL: there is none. */
static int set_weight(optimizer *o, int i, const safetensors_entry *e, const char *source) {
    const weight *w = &o->params->table[i];
    REQUIRE(e, LCKV_ERROR_FORMAT, "%s has no %s: it is of another model", source, w->name);
    bool same = e->dimensions == w->dimensions && e->elements == w->rows * w->cols;
    same = same && e->shape[w->dimensions - 1] == w->cols;
    REQUIRE(same && e->type != DTYPE_COUNT, LCKV_ERROR_FORMAT,
            "%s: %s is not of the shape [%lld, %lld]: it is of another model", source, w->name, (long long)w->rows,
            (long long)w->cols);
    return e->type == DTYPE_F32 ? set_f32_weight(o, i, e) : params_set(o->params, i, e->data, e->type);
}

static int check_count(const char *folder, int there, int expected) {
    REQUIRE(there == expected, LCKV_ERROR_FORMAT, "'%s' has %d weights, the model %d: it is of another model", folder,
            there, expected);
    return LCKV_OK;
}

static int set_model(lckv_trainer *t, const char *folder) {
    checkpoint_files files;
    const params *p = t->model->params;
    TRY(checkpoint_files_open(folder, &files));
    int status = check_count(folder, files.count, p->count);
    for (int i = 0; i < p->count && status >= 0; i++) {
        const checkpoint_tensor *found = checkpoint_files_find(&files, p->table[i].name);
        status = set_weight(t->stepper->optimizer, i, found ? found->entry : NULL, files.source);
    }
    checkpoint_files_close(&files);
    return status;
}

static int set_adapter(lckv_trainer *t, const char *folder) {
    adapter_file file;
    const params *p = t->model->adapter->weights;
    TRY(adapter_file_open(folder, &file));
    const safetensors_file *tensors = &file.tensors;
    int status = check_count(folder, tensors->count, p->count);
    for (int i = 0; i < p->count && status >= 0; i++)
        status = set_weight(t->stepper->optimizer, i, safetensors_find(tensors, p->table[i].name), tensors->path);
    adapter_file_close(&file);
    return status;
}

int train_checkpoint_weights(lckv_trainer *t, const char *folder) {
    return t->model->adapter ? set_adapter(t, folder) : set_model(t, folder);
}

static int read_optimizer(lckv_trainer *t, const char *folder) {
    char *path;
    TRY(path_join(folder, "optimizer.safetensors", &path));
    int status = optimizer_load(t->stepper->optimizer, path);
    free(path);
    return status;
}

static int check_model(const model_config *now, const model_config *then) {
    bool same = now->hidden_size == then->hidden_size && now->intermediate_size == then->intermediate_size &&
                now->vocab_size == then->vocab_size && now->layers == then->layers && now->heads == then->heads &&
                now->kv_heads == then->kv_heads && now->head_dim == then->head_dim &&
                now->forward_passes == then->forward_passes && now->backward_passes == then->backward_passes &&
                now->use_sequential == then->use_sequential;
    for (int i = 0; same && i < now->layers; i++) same = now->map.source[i] == then->map.source[i];
    REQUIRE(same, LCKV_ERROR_ARGUMENT,
            "'%s' is of another model than '%s' (sizes, layer_types or passes): choose another output_dir, or ask for "
            "overwrite_output_dir",
            then->name, now->name);
    return LCKV_OK;
}

int train_checkpoint_check_adapter(const lckv_trainer *t) {
    const adapter_options *now = &t->model->adapter->options;
    adapter_file then;
    REQUIRE(adapter_folder(t->resumed_from), LCKV_ERROR_ARGUMENT,
            "'%s' has no adapter: it is of a run without use_peft; choose another output_dir, or ask for "
            "overwrite_output_dir",
            t->resumed_from);
    TRY(adapter_file_open(t->resumed_from, &then));
    bool same = then.config.rank == now->rank && then.config.alpha == now->alpha &&
                then.tensors.count == t->model->adapter->weights->count;
    adapter_file_close(&then);
    REQUIRE(same, LCKV_ERROR_ARGUMENT,
            "'%s' is of another adapter (lora_r, lora_alpha, lora_target_modules): choose another output_dir, or ask "
            "for overwrite_output_dir",
            t->resumed_from);
    return LCKV_OK;
}

int train_checkpoint_start(lckv_trainer *t, int64_t vocab_size) {
    REQUIRE(!adapter_folder(t->resumed_from), LCKV_ERROR_ARGUMENT,
            "'%s' has an adapter: it is of a run with use_peft; choose another output_dir, or ask for "
            "overwrite_output_dir",
            t->resumed_from);
    TRY(start_from_checkpoint(t->device, t->resumed_from, NULL, &t->model));
    t->config->vocab_size = vocab_size;
    return check_model(t->config, t->model->config);
}

int train_checkpoint_restore(lckv_trainer *t) {
    if (!t->resumed_from) return LCKV_OK;
    if (t->model->adapter) TRY(set_adapter(t, t->resumed_from));
    TRY(read_optimizer(t, t->resumed_from));
    TRY(run_state_read(t, t->resumed_from));
    t->stepper->optimizer->steps = t->step;
    t->folder.kept = t->saved_at = t->step;
    log_message(LCKV_LOG_INFO, "going on from '%s', step %lld of %lld", t->resumed_from, (long long)t->step,
                (long long)t->steps);
    return LCKV_OK;
}
