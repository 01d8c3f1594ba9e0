/* The tensors of a checkpoint folder, see checkpoint_files.h. */
#include "io/tensors/checkpoint_files.h"

#include "base/files/content.h"
#include "gguf/gguf.h"
#include "io/gguf/gguf_tensors.h"

#include <stdlib.h>
#include <string.h>

bool checkpoint_shard_name_is_safe(const char *name) {
    return *name && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const checkpoint_tensor *)left)->entry->name, ((const checkpoint_tensor *)right)->entry->name);
}

/* ---------------------------------------------------------------- files */

static int open_file(checkpoint_files *c, const char *folder, const char *name) {
    char *path;
    TRY(path_join(folder, name, &path));
    int status = safetensors_open(path, &c->files[c->file_count]);
    free(path);
    if (status >= 0) c->file_count++;
    return status;
}

static int allocate_files(checkpoint_files *c, size_t count) {
    c->files = calloc(count, sizeof *c->files);
    REQUIRE(c->files, LCKV_ERROR_MEMORY, "no memory for %zu files", count);
    return LCKV_OK;
}

/* One sorted list over all files. */
static int list_tensors(checkpoint_files *c) {
    size_t count = 1;
    for (int f = 0; f < c->file_count; f++) count += (size_t)c->files[f].count;
    c->tensors = calloc(count, sizeof *c->tensors);
    REQUIRE(c->tensors, LCKV_ERROR_MEMORY, "%s: no memory for a list of %zu tensors", c->source, count);
    for (int f = 0; f < c->file_count; f++)
        for (int i = 0; i < c->files[f].count; i++)
            c->tensors[c->count++] = (checkpoint_tensor){&c->files[f].entries[i], &c->files[f]};
    qsort(c->tensors, (size_t)c->count, sizeof *c->tensors, by_name);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- shards */

static const safetensors_file *opened(const checkpoint_files *c, const char *shard) {
    for (int i = 0; i < c->file_count; i++)
        if (strcmp(path_base(c->files[i].path), shard) == 0) return &c->files[i];
    return NULL;
}

static int open_shard(checkpoint_files *c, const char *folder, const char *tensor, const char *shard) {
    REQUIRE(checkpoint_shard_name_is_safe(shard), LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected the name of a file in this folder, found '%.200s'", c->source, tensor, shard);
    if (opened(c, shard)) return LCKV_OK;
    char *path;
    TRY(path_join(folder, shard, &path));
    bool there = path_exists(path);
    free(path);
    REQUIRE(there, LCKV_ERROR_FILE, "%s: tensor %s is assigned to %s, which does not exist", c->source, tensor, shard);
    return open_file(c, folder, shard);
}

static int open_shards(checkpoint_files *c, const char *folder, json_t *map) {
    TRY(allocate_files(c, json_object_size(map) + 1));
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value) {
        const char *shard = json_string_value(value);
        REQUIRE(shard, LCKV_ERROR_FORMAT, "%s: weight_map of tensor %s: expected the name of a file", c->source,
                tensor);
        TRY(open_shard(c, folder, tensor, shard));
        REQUIRE(safetensors_find(opened(c, shard), tensor), LCKV_ERROR_FORMAT,
                "%s: tensor %s is assigned to %s, which does not contain it", c->source, tensor, shard);
    }
    return LCKV_OK;
}

/* The other direction: every tensor of a shard is in the index. */
static int check_shards(const checkpoint_files *c, const json_t *map) {
    for (int i = 0; i < c->count; i++) {
        const checkpoint_tensor *t = &c->tensors[i];
        const char *shard = json_string_value(json_object_get(map, t->entry->name));
        REQUIRE(shard && strcmp(shard, path_base(t->file->path)) == 0, LCKV_ERROR_FORMAT,
                "%s: tensor %s is in this file, but %s assigns it to %s", t->file->path, t->entry->name,
                CHECKPOINT_INDEX, shard ? shard : "none");
    }
    return LCKV_OK;
}

static int open_index(checkpoint_files *c, const char *folder) {
    json_t *tree;
    TRY(json_read_file(c->source, &tree));
    json_t *map = json_object_get(tree, "weight_map");
    int status = json_is_object(map) ? open_shards(c, folder, map)
                                     : fail(LCKV_ERROR_FORMAT, "%s: expected a weight_map, found none", c->source);
    if (status >= 0) status = list_tensors(c);
    if (status >= 0) status = check_shards(c, map);
    json_decref(tree);
    return status;
}

/* ---------------------------------------------------------------- single file or shards */

/* *out is the path of folder/name if that exists, else NULL. Opening it fails if it is not a file. */
static int path_if_exists(const char *folder, const char *name, char **out) {
    TRY(path_join(folder, name, out));
    if (path_exists(*out)) return LCKV_OK;
    free(*out);
    *out = NULL;
    return LCKV_OK;
}

/* Rejects weights in formats that lckv does not read. Pickled Python objects can run arbitrary code when they are read.
 */
static int check_other_weights(const char *folder) {
    static const char *const others[][2] = {/* file name, and the name in the message */
                                            {"pytorch_model.bin", "pytorch_model.bin"},
                                            {"pytorch_model.bin.index.json", "pytorch_model.bin"},
                                            {"consolidated.00.pth", "consolidated.00.pth"},
                                            {"tf_model.h5", "tf_model.h5"},
                                            {"flax_model.msgpack", "flax_model.msgpack"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char *path;
        TRY(path_if_exists(folder, others[i][0], &path));
        int status = path ? content_check_file(path) : LCKV_OK;
        bool there = path != NULL;
        free(path);
        TRY(status);
        REQUIRE(!there, LCKV_ERROR_UNSUPPORTED,
                "%s has only %s, which lckv does not read; load it with transformers and save it with "
                "save_pretrained(folder, safe_serialization=True)",
                folder, others[i][1]);
    }
    return LCKV_OK;
}

static int no_weights(const char *folder) {
    TRY(check_other_weights(folder));
    return fail(LCKV_ERROR_FILE, "%s: expected %s or %s, found neither", folder, CHECKPOINT_SINGLE, CHECKPOINT_INDEX);
}

static int open_gguf(const char *path, checkpoint_files *c) {
    c->source = strdup(path);
    REQUIRE(c->source, LCKV_ERROR_MEMORY, "no memory for a path");
    TRY(allocate_files(c, 1));
    TRY(gguf_tensors_open(path, &c->files[0]));
    c->file_count = 1;
    return list_tensors(c);
}

static int open_folder(const char *folder, checkpoint_files *c) {
    if (gguf_is_file(folder)) return open_gguf(folder, c);
    TRY(path_if_exists(folder, CHECKPOINT_SINGLE, &c->source));
    if (c->source) {
        TRY(allocate_files(c, 1));
        TRY(open_file(c, folder, CHECKPOINT_SINGLE));
        return list_tensors(c);
    }
    TRY(path_if_exists(folder, CHECKPOINT_INDEX, &c->source));
    return c->source ? open_index(c, folder) : no_weights(folder);
}

int checkpoint_files_open(const char *folder, checkpoint_files *out) {
    *out = (checkpoint_files){0};
    int status = open_folder(folder, out);
    if (status < 0) checkpoint_files_close(out);
    return status;
}

void checkpoint_files_close(checkpoint_files *c) {
    for (int i = 0; i < c->file_count; i++) safetensors_close(&c->files[i]);
    free(c->files);
    free(c->tensors);
    free(c->source);
    *c = (checkpoint_files){0};
}

const checkpoint_tensor *checkpoint_files_find(const checkpoint_files *c, const char *name) {
    safetensors_entry wanted = {.name = name};
    checkpoint_tensor key = {.entry = &wanted};
    return c->count ? bsearch(&key, c->tensors, (size_t)c->count, sizeof key, by_name) : NULL;
}
