/* Saving a model: checkpoint_save() of hf_folder.h. */
#include "io/auto_map.h"
#include "io/hf_folder.h"
#include "io/loop_start_file.h"
#include "io/tensors/checkpoint_files.h"
#include "io/tensors/staging.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHARD_NAME_BYTES = 64 };
static const int64_t DEFAULT_SHARD_BYTES = 5000000000;

struct save {
    const model_config *config;
    params *params;
    int count; /* entries of the model itself: a start that is trained beside it has the rest */
    const checkpoint_save_options *options;
    const char *folder;
    staging staged;
    int *shard_of; /* [count] */
    int shards;
    int64_t bytes; /* of all tensors */
    json_t *old;   /* weight_map of an index that the folder already has; NULL: none */
    bool config_changes;
    bool has_old_start; /* the folder has a learned start already */
};

/* ---------------------------------------------------------------- shards */

static dtype stored_type(const struct save *s, int entry) {
    return s->options->type == DTYPE_COUNT ? params_type(s->params, entry) : s->options->type;
}

static int64_t stored_bytes(const struct save *s, int entry) {
    const weight *w = &s->params->table[entry];
    return w->rows * (int64_t)dtype_row_bytes(stored_type(s, entry), w->cols);
}

/* Assigns tensors to shards in the order of the table. A tensor that does not fit starts a new shard. */
static int divide(struct save *s) {
    s->shard_of = malloc((size_t)s->count * sizeof *s->shard_of);
    REQUIRE(s->shard_of, LCKV_ERROR_MEMORY, "no memory for a list of %d tensors", s->count);
    int64_t limit = s->options->shard_bytes ? s->options->shard_bytes : DEFAULT_SHARD_BYTES, used = 0;
    s->shards = 1;
    for (int i = 0; i < s->count; i++) {
        int64_t bytes = stored_bytes(s, i);
        if (used && used + bytes > limit) {
            s->shards++;
            used = 0;
        }
        used += bytes;
        s->bytes += bytes;
        s->shard_of[i] = s->shards - 1;
    }
    return LCKV_OK;
}

static void shard_name(const struct save *s, int shard, char out[SHARD_NAME_BYTES]) {
    if (s->shards == 1)
        snprintf(out, SHARD_NAME_BYTES, "%s", CHECKPOINT_SINGLE);
    else
        snprintf(out, SHARD_NAME_BYTES, "model-%05d-of-%05d.safetensors", shard + 1, s->shards);
}

/* ---------------------------------------------------------------- writing a shard */

struct shard {
    const struct save *save;
    safetensors_item *items;
    int *entries; /* of the table, by item */
    int count;
};

static int shard_values(void *user, int index, void *bytes) {
    const struct shard *shard = user;
    const struct save *s = shard->save;
    int entry = shard->entries[index];
    dtype type = shard->items[index].type;
    if (s->options->values) return s->options->values(s->options->user, entry, type, bytes);
    return params_read(s->params, entry, type, bytes);
}

static void list_items(struct shard *shard, int number) {
    const struct save *s = shard->save;
    for (int i = 0; i < s->count; i++) {
        const weight *w = &s->params->table[i];
        if (s->shard_of[i] != number) continue;
        safetensors_item *item = &shard->items[shard->count];
        *item = (safetensors_item){.name = w->name, .type = stored_type(s, i), .dimensions = w->dimensions};
        item->shape[0] = w->dimensions == 2 ? w->rows : w->cols;
        item->shape[1] = w->cols;
        shard->entries[shard->count++] = i;
    }
}

static int stage_shard(struct save *s, int number) {
    char name[SHARD_NAME_BYTES];
    shard_name(s, number, name);
    size_t count = (size_t)s->count;
    struct shard shard = {s, malloc(count * sizeof *shard.items), malloc(count * sizeof *shard.entries), 0};
    new_file *file;
    int status = LCKV_OK;
    if (!shard.items || !shard.entries) status = fail(LCKV_ERROR_MEMORY, "no memory for a list of %zu tensors", count);
    if (status >= 0) status = staging_begin(&s->staged, name, &file);
    if (status >= 0) {
        list_items(&shard, number);
        status = safetensors_write(file, shard.items, shard.count, shard_values, &shard);
    }
    free(shard.items);
    free(shard.entries);
    return status;
}

/* ---------------------------------------------------------------- JSON files */

static int stage_index(struct save *s) {
    json_t *map = json_object();
    int failed = 0;
    for (int i = 0; i < s->count; i++) {
        char name[SHARD_NAME_BYTES];
        shard_name(s, s->shard_of[i], name);
        failed += json_object_set_new(map, s->params->table[i].name, json_string(name));
    }
    json_t *tree = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->bytes, "weight_map", map);
    if (!failed) return staging_json(&s->staged, CHECKPOINT_INDEX, tree, JSON_SORT_KEYS);
    json_decref(tree);
    return fail(LCKV_ERROR_MEMORY, "no memory to write %s", CHECKPOINT_INDEX);
}

/* The written config has the data type and the biases of the written weights. */
static void describe_weights(const struct save *s, model_config *config) {
    dtype type = stored_type(s, 0);
    config->torch_dtype = type == DTYPE_F32    ? CONFIG_DTYPE_F32
                          : type == DTYPE_BF16 ? CONFIG_DTYPE_BF16
                                               : CONFIG_DTYPE_F16;
    const layer_weights *layer = &s->params->layers[0];
    bool attention = packed_bias(&layer->qkv, "q") || packed_bias(&layer->o, "o");
    if (!config->qkv_bias) config->attention_bias = config->attention_bias || attention;
    config->mlp_bias = config->mlp_bias || packed_bias(&layer->gate_up, "gate");
}

static int make_config(const struct save *s, json_t **out) {
    model_config *config;
    TRY(config_copy(s->config, &config));
    describe_weights(s, config);
    int status = config_to_json(config, out);
    config_free(config);
    return status;
}

/* Whether the folder has no config.json, or one with other content. */
static int compare_config(struct save *s, const json_t *tree) {
    char *path;
    json_t *old = NULL;
    TRY(path_join(s->folder, "config.json", &path));
    if (file_exists(path) && json_read_file(path, &old) < 0) old = NULL; /* unreadable: changes */
    free(path);
    s->config_changes = !old || !json_equal(old, tree);
    json_decref(old);
    return LCKV_OK;
}

static int stage_config(struct save *s) {
    json_t *tree;
    TRY(make_config(s, &tree));
    int status = compare_config(s, tree);
    if (status >= 0) return staging_json(&s->staged, "config.json", tree, 0);
    json_decref(tree);
    return status;
}

/* ---------------------------------------------------------------- tokenizer, code, generation config */

static int stage_code(struct save *s, const char *folder) {
    json_t *files = json_object();
    REQUIRE(files, LCKV_ERROR_MEMORY, "no memory for a list of files");
    int status = auto_map_files(s->config->raw, folder, files);
    const char *name;
    json_t *unused;
    json_object_foreach(files, name, unused) {
        if (status >= 0) status = staging_copy(&s->staged, folder, name);
    }
    json_decref(files);
    return status;
}

static int stage_companions(struct save *s) {
    const checkpoint_save_options *o = s->options;
    const char *code = o->code ? o->code : o->source;
    if (o->tokenizer) TRY(staging_tokenizer(&s->staged, o->tokenizer, o->chat_template));
    if (o->source) TRY(staging_copy(&s->staged, o->source, "generation_config.json"));
    return code ? stage_code(s, code) : LCKV_OK;
}

/* ---------------------------------------------------------------- an older checkpoint in the folder */

/* An old index that cannot be read is ignored; it lists no shards to remove. */
static int read_old_index(struct save *s) {
    char *path;
    json_t *tree = NULL;
    TRY(path_join(s->folder, CHECKPOINT_INDEX, &path));
    if (file_exists(path) && json_read_file(path, &tree) < 0) tree = NULL;
    free(path);
    s->old = json_incref(json_object_get(tree, "weight_map"));
    json_decref(tree);
    return LCKV_OK;
}

static bool writes_file(const struct save *s, const char *name) {
    for (int i = 0; i < s->shards; i++) {
        char shard[SHARD_NAME_BYTES];
        shard_name(s, i, shard);
        if (strcmp(shard, name) == 0) return true;
    }
    return false;
}

/* A missing file is fine. */
static int remove_file(const struct save *s, const char *name) {
    char *path;
    int status = LCKV_OK;
    TRY(path_join(s->folder, name, &path));
    if (unlink(path) < 0 && errno != ENOENT)
        status = fail(LCKV_ERROR_FILE, "cannot remove '%s': %s", path, strerror(errno));
    free(path);
    return status;
}

/* Whether renaming the files one by one could leave a loadable mixture of old and new files after a crash. If so, the
 * old checkpoint is made unloadable first; otherwise it stays until the new one is complete. */
static bool would_mix(const struct save *s) {
    const char *key;
    json_t *shard;
    json_object_foreach(s->old, key, shard) {
        const char *name = json_string_value(shard);
        if (name && s->shards > 1 && writes_file(s, name)) return true;
    }
    return s->config_changes || s->options->loop_start || s->has_old_start;
}

/* model-00001-of-00002.safetensors. Files with other names are never removed, even if an index lists them. */
static bool is_shard_name(const char *name) {
    int shard, shards, length = 0;
    return sscanf(name, "model-%5d-of-%5d.safetensors%n", &shard, &shards, &length) == 2 && length && name[length] == 0;
}

static int remove_old_shards(const struct save *s) {
    const char *key;
    json_t *shard;
    json_object_foreach(s->old, key, shard) {
        const char *name = json_string_value(shard);
        if (name && is_shard_name(name) && !writes_file(s, name)) TRY(remove_file(s, name));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- learned start */

static int stage_loop_start(struct save *s) {
    const checkpoint_save_options *o = s->options;
    bool shared = o->loop_start->shared;
    const loop_start_save save = {
        .start = o->loop_start, .type = o->type, .values = shared ? o->values : NULL, .user = o->user};
    return loop_start_stage(&s->staged, &save);
}

static int find_old_start(struct save *s) {
    char *path;
    TRY(path_join(s->folder, LOOP_START_FILE, &path));
    s->has_old_start = file_exists(path);
    free(path);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- saving */

/* Files are renamed in the order of staging; the one that makes the folder a checkpoint comes last. */
static int stage_all(struct save *s) {
    TRY(stage_config(s));
    TRY(stage_companions(s));
    if (s->options->loop_start) TRY(stage_loop_start(s));
    for (int i = 0; i < s->shards; i++) TRY(stage_shard(s, i));
    if (s->shards > 1) TRY(stage_index(s));
    return staging_sync(&s->staged);
}

static int put_in_place(struct save *s) {
    if (would_mix(s)) {
        TRY(remove_file(s, CHECKPOINT_SINGLE));
        TRY(remove_file(s, CHECKPOINT_INDEX));
    }
    if (!s->options->loop_start) TRY(remove_file(s, LOOP_START_FILE));
    TRY(staging_commit(&s->staged));
    TRY(remove_file(s, s->shards > 1 ? CHECKPOINT_SINGLE : CHECKPOINT_INDEX));
    return remove_old_shards(s);
}

int checkpoint_save(const model_config *config, params *p, const checkpoint_save_options *options, const char *folder) {
    const loop_start *start = options->loop_start;
    struct save s = {.config = config, .params = p, .options = options, .folder = folder, .staged.folder = folder};
    s.count = start && start->shared ? start->first : p->count;
    REQUIRE(options->shard_bytes >= 0, LCKV_ERROR_ARGUMENT, "expected a shard size of at least 0 bytes, found %lld",
            (long long)options->shard_bytes);
    int status = folder_create(folder);
    if (status >= 0) status = divide(&s);
    if (status >= 0) status = read_old_index(&s);
    if (status >= 0) status = find_old_start(&s);
    if (status >= 0) status = stage_all(&s);
    if (status >= 0) status = put_in_place(&s);
    staging_abandon(&s.staged);
    json_decref(s.old);
    free(s.shard_of);
    return status;
}
