/* A training checkpoint, see checkpoint.h. */
#include "train/checkpoint/checkpoint.h"

#include "base/files/file.h"
#include "base/files/folder.h"
#include "base/log.h"
#include "io/adapter/adapter_file.h"
#include "io/adapter/adapter_save.h"
#include "io/hf_folder.h"
#include "io/loop_start_file.h"
#include "io/tensors/checkpoint_files.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/optimizer_file.h"
#include "train/checkpoint/optimizer_state.h"
#include "train/initial_model.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- writing */

static int read_value(void *user, int entry, element_range range, dtype type, void *host) {
    return optimizer_read(user, entry, OPTIMIZER_VALUE, range, type, host);
}

static int write_adapter(const checkpoint_contents *c, const char *folder) {
    adapter_save_options options = {.type = c->optimizer->state_type,
                                    .base = c->origin->name,
                                    .tokenizer = c->origin->tokenizer_folder,
                                    .chat_template = c->origin->chat_template,
                                    .values = read_value,
                                    .user = c->optimizer};
    return adapter_save(c->model->adapter, &options, folder);
}

static int write_model(const checkpoint_contents *c, const char *folder) {
    if (c->model->adapter) return write_adapter(c, folder);
    checkpoint_save_options options = {.type = c->optimizer->state_type,
                                       .source = c->origin->source_folder,
                                       .code = c->origin->code_folder,
                                       .tokenizer = c->origin->tokenizer_folder,
                                       .chat_template = c->origin->chat_template,
                                       .values = read_value,
                                       .user = c->optimizer,
                                       .loop_start = c->model->loop_start};
    return checkpoint_save(c->model->config, c->model->params, &options, folder);
}

/* What rank 0 writes while the other ranks send their parts of the optimizer's state. */
typedef struct write_task {
    const checkpoint_contents *contents;
    const char *folder;
    run_folder *run; /* NULL when only the model is written */
} write_task;

static int write_model_alone(void *user) {
    const write_task *w = user;
    return write_model(w->contents, w->folder);
}

int train_checkpoint_write_model(const checkpoint_contents *c, const char *folder) {
    write_task w = {c, folder, NULL};
    return optimizer_while_one_writes(c->optimizer, write_model_alone, &w);
}

static int write_optimizer(const checkpoint_contents *c, const char *folder) {
    char *path;
    TRY(path_join(folder, "optimizer.safetensors", &path));
    int status = optimizer_save(c->optimizer, path);
    free(path);
    return status;
}

static int write_all(const checkpoint_contents *c, const char *folder) {
    TRY(folder_remove(folder));
    TRY(folder_create(folder));
    TRY(write_model(c, folder));
    TRY(write_optimizer(c, folder));
    TRY(training_state_write(c->state, &c->conditions, folder));
    TRY(observers_saving(c->observers, &c->view, folder));
    return manifest_write(folder);
}

/* Removes the incomplete checkpoint and keeps the message of the failure. */
static int remove_incomplete(const char *folder, int status) {
    char message[1024];
    snprintf(message, sizeof message, "%s", lckv_last_error());
    if (folder_remove(folder) < 0) log_message(LCKV_LOG_WARNING, "%s", lckv_last_error());
    return fail(status, "%s", message);
}

static int write_checkpoint(void *user) {
    const write_task *w = user;
    int status = write_all(w->contents, w->folder);
    if (status >= 0) status = run_folder_put(w->run, w->contents->state->step);
    return status < 0 ? remove_incomplete(w->folder, status) : LCKV_OK;
}

int train_checkpoint_write(const checkpoint_contents *c, run_folder *to) {
    char *folder;
    TRY(run_folder_checkpoint(to, c->state->step, ".partial", &folder));
    write_task w = {c, folder, to};
    int status = optimizer_while_one_writes(c->optimizer, write_checkpoint, &w);
    free(folder);
    return status;
}

/* ---------------------------------------------------------------- choosing */

static int choose_newest(const run_folder *from, char **out) {
    bool damaged = false;
    for (int64_t step = INT64_MAX;;) {
        char *folder;
        TRY(run_folder_highest(from, step, &step));
        if (step < 0) break;
        TRY(run_folder_checkpoint(from, step, "", &folder));
        *out = folder;
        if (manifest_check(folder) >= 0) return LCKV_OK;
        log_message(LCKV_LOG_WARNING, "%s: not resuming from '%s', trying the checkpoint before it", lckv_last_error(),
                    folder);
        *out = NULL;
        free(folder);
        damaged = true;
    }
    REQUIRE(!damaged, LCKV_ERROR_FORMAT, "every checkpoint in '%s' is damaged: there is none to resume from",
            from->path);
    return LCKV_OK;
}

static bool is_word_true(const char *text) {
    return !strcmp(text, "True") || !strcmp(text, "true") || !strcmp(text, "TRUE");
}

int train_checkpoint_choose(const run_folder *from, const char *given, char **out) {
    *out = NULL;
    if (!given || is_word_true(given)) {
        TRY(choose_newest(from, out));
        REQUIRE(!given || *out, LCKV_ERROR_FILE, "resume_from_checkpoint: there is no checkpoint in output_dir '%s'",
                from->path);
        return LCKV_OK;
    }
    TRY(manifest_check(given));
    *out = strdup(given);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

/* ---------------------------------------------------------------- resuming */

/* `e` is the tensor of that name, NULL if the file has none. */
static int set_weight(optimizer *o, int i, const safetensors_entry *e, const char *source) {
    const weight *w = &o->params->table[i];
    REQUIRE(e, LCKV_ERROR_FORMAT, "%s: tensor %s is missing: the checkpoint is of another model", source, w->name);
    bool same = e->dimensions == w->dimensions && e->elements == w->rows * w->cols;
    same = same && e->shape[w->dimensions - 1] == w->cols;
    REQUIRE(same && e->type != DTYPE_COUNT, LCKV_ERROR_FORMAT,
            "%s: tensor %s should have the shape [%lld, %lld]: the checkpoint is of another model", source, w->name,
            (long long)w->rows, (long long)w->cols);
    TRY(optimizer_write(o, i, OPTIMIZER_VALUE, e->data, e->type));
    safetensors_drop(e);
    return LCKV_OK;
}

static int check_count(const char *folder, int there, int expected) {
    REQUIRE(there == expected, LCKV_ERROR_FORMAT,
            "'%s': expected %d tensors, found %d: the checkpoint is of another model", folder, expected, there);
    return LCKV_OK;
}

/* The learned start is in a file of its own. */
static int read_start(const loop_start *s, optimizer *o, const char *folder) {
    safetensors_file file;
    char *path;
    if (!s) return LCKV_OK;
    TRY(path_join(folder, LOOP_START_FILE, &path));
    int status = safetensors_open(path, &file);
    free(path);
    TRY(status);
    status = check_count(folder, file.count, s->count);
    for (int i = s->first; i < s->first + s->count && status >= 0; i++)
        status = set_weight(o, i, safetensors_find(&file, o->params->table[i].name), file.path);
    safetensors_close(&file);
    return status;
}

static int read_model(model *m, optimizer *o, const char *folder) {
    checkpoint_files files;
    const params *p = m->params;
    int count = m->loop_start ? m->loop_start->first : p->count;
    TRY(checkpoint_files_open(folder, &files));
    int status = check_count(folder, files.count, count);
    for (int i = 0; i < count && status >= 0; i++) {
        const checkpoint_tensor *found = checkpoint_files_find(&files, p->table[i].name);
        status = set_weight(o, i, found ? found->entry : NULL, files.source);
    }
    checkpoint_files_close(&files);
    return status < 0 ? status : read_start(m->loop_start, o, folder);
}

static int read_adapter(model *m, optimizer *o, const char *folder) {
    adapter_file file;
    const params *p = m->adapter->weights;
    TRY(adapter_file_open(folder, &file));
    const safetensors_file *tensors = &file.tensors;
    int status = check_count(folder, tensors->count, p->count);
    for (int i = 0; i < p->count && status >= 0; i++)
        status = set_weight(o, i, safetensors_find(tensors, p->table[i].name), tensors->path);
    adapter_file_close(&file);
    return status;
}

int train_checkpoint_read_weights(model *m, optimizer *o, const char *folder) {
    return m->adapter ? read_adapter(m, o, folder) : read_model(m, o, folder);
}

static int read_optimizer(optimizer *o, const char *folder) {
    char *path;
    TRY(path_join(folder, "optimizer.safetensors", &path));
    int status = optimizer_load(o, path);
    free(path);
    return status;
}

static int check_model(const model_config *now, const model_config *then) {
    bool same = now->hidden_size == then->hidden_size && now->intermediate_size == then->intermediate_size &&
                now->vocab_size == then->vocab_size && now->layers == then->layers && now->heads == then->heads &&
                now->kv_heads == then->kv_heads && now->head_dim == then->head_dim &&
                now->forward_passes == then->forward_passes && now->backward_passes == then->backward_passes &&
                now->use_sequential == then->use_sequential;
    same = same && layer_map_same_sources(&now->map, &then->map);
    REQUIRE(
        same, LCKV_ERROR_ARGUMENT,
        "'%s' is a checkpoint of another model than '%s' (sizes, layer_types or passes); choose another output_dir, "
        "or set overwrite_output_dir",
        then->name, now->name);
    return LCKV_OK;
}

int train_checkpoint_check_adapter(const adapter *a, const char *folder) {
    adapter_file then;
    REQUIRE(adapter_folder(folder), LCKV_ERROR_ARGUMENT,
            "'%s' has no adapter: it is a checkpoint of a run without use_peft; choose another output_dir, or set "
            "overwrite_output_dir",
            folder);
    TRY(adapter_file_open(folder, &then));
    bool same = then.config.rank == a->options.rank && then.config.alpha == a->options.alpha &&
                then.tensors.count == a->weights->count;
    adapter_file_close(&then);
    REQUIRE(same, LCKV_ERROR_ARGUMENT,
            "'%s' is a checkpoint of another adapter (lora_r, lora_alpha, lora_target_modules); choose another "
            "output_dir, or set overwrite_output_dir",
            folder);
    return LCKV_OK;
}

int train_checkpoint_load_model(device *d, const char *folder, const model_config *expected, const collectives *divide,
                                model **out) {
    *out = NULL;
    REQUIRE(!adapter_folder(folder), LCKV_ERROR_ARGUMENT,
            "'%s' has an adapter: it is a checkpoint of a run with use_peft; choose another output_dir, or set "
            "overwrite_output_dir",
            folder);
    TRY(initial_model_load(d, folder, NULL, DTYPE_COUNT, WEIGHT_AUTO, divide, NULL, out));
    int status = check_model(expected, (*out)->config);
    if (status < 0) {
        model_free(*out);
        *out = NULL;
    }
    return status;
}

int train_checkpoint_restore(model *m, optimizer *o, const run_conditions *now, const char *folder,
                             training_state *out) {
    if (m->adapter) TRY(read_adapter(m, o, folder));
    TRY(read_optimizer(o, folder));
    return training_state_read(folder, now, out);
}
