/* Saving a model: checkpoint_save() of hf_folder.h. */
#include "device/quantize.h"
#include "io/auto_map.h"
#include "io/hf_folder.h"
#include "io/loop_start_file.h"
#include "io/tensors/checkpoint_files.h"
#include "io/tensors/quantized_tensors.h"
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

static bool is_grouped(dtype type) {
    return (DTYPE_BIT(type) & DTYPE_GROUPED) != 0;
}

static dtype stored_type(const struct save *s, int entry) {
    const checkpoint_save_options *o = s->options;
    dtype own = params_type(s->params, entry);
    if (s->params->table[entry].dimensions == 2 && !params_is_outer(s->params, entry)) {
        if (o->format == WEIGHT_INT8) return DTYPE_INT8;
        if (o->format == WEIGHT_INT4) return DTYPE_INT4;
        if (o->format == WEIGHT_AUTO && is_grouped(own)) return own;
    }
    if (o->type != DTYPE_COUNT) return o->type;
    return is_grouped(own) ? DTYPE_F32 : own;
}

static int64_t item_bytes(const safetensors_item *item) {
    int64_t elements = 1;
    for (int i = 0; i < item->dimensions; i++) elements *= item->shape[i];
    return elements * (int64_t)dtype_element_bytes(item->type);
}

static int stored_bytes(const struct save *s, int entry, int64_t *out) {
    const weight *w = &s->params->table[entry];
    dtype type = stored_type(s, entry);
    quantized_items q;
    *out = w->rows * (int64_t)dtype_row_bytes(type, w->cols);
    if (!is_grouped(type)) return LCKV_OK;
    TRY(quantized_items_make(w, type, &q));
    *out = 0;
    for (int i = 0; i < QUANTIZED_TENSORS; i++) *out += item_bytes(&q.item[i]);
    return LCKV_OK;
}

/* Assigns tensors to shards in the order of the table. A tensor that does not fit starts a new shard. */
static int divide(struct save *s) {
    s->shard_of = malloc((size_t)s->count * sizeof *s->shard_of);
    REQUIRE(s->shard_of, LCKV_ERROR_MEMORY, "no memory for a list of %d tensors", s->count);
    int64_t limit = s->options->shard_bytes ? s->options->shard_bytes : DEFAULT_SHARD_BYTES, used = 0;
    s->shards = 1;
    for (int i = 0; i < s->count; i++) {
        int64_t bytes;
        TRY(stored_bytes(s, i, &bytes));
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

/* A tensor of the file. */
struct shard_item {
    int entry; /* of the table */
    int which; /* of its quantized_items; -1: the values themselves */
};

struct shard {
    const struct save *save;
    safetensors_item *items;
    struct shard_item *sources; /* by item */
    quantized_items *quantized; /* of entries, for their names */
    int count, quantized_count;
};

/* A value above the largest f16 would be written as infinite. */
static int check_f16(const struct save *s, int entry, const uint16_t *half, int64_t count) {
    enum { EXPONENT = 0x7c00 };
    for (int64_t i = 0; i < count; i++)
        REQUIRE((half[i] & EXPONENT) != EXPONENT, LCKV_ERROR_ARGUMENT,
                "%s: expected finite values of at most 65504 for float16", s->params->table[entry].name);
    return LCKV_OK;
}

static int entry_values(const struct save *s, int entry, element_range range, dtype type, void *host) {
    const checkpoint_save_options *o = s->options;
    TRY(o->values ? o->values(o->user, entry, range, type, host)
                  : params_read_range(s->params, entry, range, type, host));
    return type == DTYPE_F16 ? check_f16(s, entry, host, range.count) : LCKV_OK;
}

/* Whether the values of an entry that is not stored quantized are computed together. */
static bool entry_is_whole(const struct save *s, int entry) {
    const checkpoint_save_options *o = s->options;
    return o->values ? o->whole_entries : is_grouped(params_type(s->params, entry));
}

static int quantize_values(const struct save *s, int entry, dtype type, void *data, void *scales) {
    const weight *w = &s->params->table[entry];
    float *values = malloc((size_t)(w->rows * w->cols) * sizeof *values + 1);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the values of %s", w->name);
    int status = entry_values(s, entry, (element_range){0, w->rows * w->cols}, DTYPE_F32, values);
    if (status >= 0) {
        status = quantize_rows(type, w->rows, w->cols, values, data, scales, device_processors());
        if (status < 0) fail_within(status, "%s", w->name);
    }
    free(values);
    return status;
}

static int entry_quantized(const struct save *s, int entry, dtype type, void *data, void *scales) {
    const checkpoint_save_options *o = s->options;
    if (o->quantized) return o->quantized(o->user, entry, type, data, scales);
    bool own = !o->values && params_type(s->params, entry) == type;
    return own ? params_read_quantized(s->params, entry, data, scales) : quantize_values(s, entry, type, data, scales);
}

/* Integers and scales are computed for each of the tensors, so that no more than one matrix is in memory. */
static int quantized_item(const struct save *s, const struct shard_item *source, void *bytes) {
    const weight *w = &s->params->table[source->entry];
    dtype type = stored_type(s, source->entry);
    void *data = malloc((size_t)w->rows * dtype_row_bytes(type, w->cols) + 1);
    void *scales = malloc((size_t)w->rows * dtype_row_scale_bytes(type, w->cols) + 1);
    int status = data && scales ? entry_quantized(s, source->entry, type, data, scales)
                                : fail(LCKV_ERROR_MEMORY, "no memory for %s", w->name);
    if (status >= 0) quantized_item_values(source->which, w, type, data, scales, bytes);
    free(data);
    free(scales);
    return status;
}

static int shard_values(void *user, int index, element_range range, void *bytes) {
    const struct shard *shard = user;
    const struct shard_item *source = &shard->sources[index];
    if (source->which >= 0) return quantized_item(shard->save, source, bytes);
    return entry_values(shard->save, source->entry, range, shard->items[index].type, bytes);
}

static int list_quantized(struct shard *shard, int entry, dtype type) {
    quantized_items *q = &shard->quantized[shard->quantized_count++];
    TRY(quantized_items_make(&shard->save->params->table[entry], type, q));
    for (int i = 0; i < QUANTIZED_TENSORS; i++) {
        q->item[i].name = q->name[i];
        q->item[i].whole = true;
        shard->items[shard->count] = q->item[i];
        shard->sources[shard->count++] = (struct shard_item){entry, i};
    }
    return LCKV_OK;
}

static int list_items(struct shard *shard, int number) {
    const struct save *s = shard->save;
    for (int i = 0; i < s->count; i++) {
        const weight *w = &s->params->table[i];
        dtype type = stored_type(s, i);
        if (s->shard_of[i] != number) continue;
        if (is_grouped(type)) {
            TRY(list_quantized(shard, i, type));
            continue;
        }
        safetensors_item *item = &shard->items[shard->count];
        *item = (safetensors_item){.name = w->name, .type = type, .dimensions = w->dimensions};
        item->shape[0] = w->dimensions == 2 ? w->rows : w->cols;
        item->shape[1] = w->cols;
        item->whole = entry_is_whole(s, i);
        shard->sources[shard->count++] = (struct shard_item){i, -1};
    }
    return LCKV_OK;
}

static int stage_shard(struct save *s, int number) {
    char name[SHARD_NAME_BYTES];
    shard_name(s, number, name);
    size_t count = (size_t)s->count, most = QUANTIZED_TENSORS * count;
    struct shard shard = {.save = s,
                          .items = malloc(most * sizeof *shard.items),
                          .sources = malloc(most * sizeof *shard.sources),
                          .quantized = malloc(count * sizeof *shard.quantized)};
    new_file *file;
    int status = LCKV_OK;
    if (!shard.items || !shard.sources || !shard.quantized)
        status = fail(LCKV_ERROR_MEMORY, "no memory for a list of %zu tensors", most);
    if (status >= 0) status = list_items(&shard, number);
    if (status >= 0) status = staging_begin(&s->staged, name, &file);
    if (status >= 0) status = safetensors_write(file, shard.items, shard.count, shard_values, &shard);
    free(shard.items);
    free(shard.sources);
    free(shard.quantized);
    return status;
}

/* ---------------------------------------------------------------- JSON files */

static int add_to_index(const struct save *s, int entry, json_t *map) {
    char name[SHARD_NAME_BYTES];
    const weight *w = &s->params->table[entry];
    dtype type = stored_type(s, entry);
    quantized_items q;
    int failed = 0;
    shard_name(s, s->shard_of[entry], name);
    if (!is_grouped(type)) return json_object_set_new(map, w->name, json_string(name));
    TRY(quantized_items_make(w, type, &q));
    for (int i = 0; i < QUANTIZED_TENSORS; i++) failed += json_object_set_new(map, q.name[i], json_string(name));
    return failed;
}

static int stage_index(struct save *s) {
    json_t *map = json_object();
    int failed = 0;
    for (int i = 0; i < s->count; i++) failed += add_to_index(s, i, map);
    json_t *tree = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->bytes, "weight_map", map);
    if (!failed) return staging_json(&s->staged, CHECKPOINT_INDEX, tree, JSON_SORT_KEYS);
    json_decref(tree);
    return fail(LCKV_ERROR_MEMORY, "no memory to write %s", CHECKPOINT_INDEX);
}

/* The format with the fewest bits. */
static weight_format stored_format(const struct save *s) {
    weight_format format = WEIGHT_FLOAT;
    for (int i = 0; i < s->count; i++) {
        dtype type = stored_type(s, i);
        if (type == DTYPE_INT4) return WEIGHT_INT4;
        if (type == DTYPE_INT8) format = WEIGHT_INT8;
    }
    return format;
}

/* The written config has the data type, the format and the biases of the written weights. */
static void describe_weights(const struct save *s, model_config *config) {
    dtype type = stored_type(s, 0);
    config->weight_format = stored_format(s);
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
