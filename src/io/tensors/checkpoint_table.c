/* Matching a model with the tensors of a checkpoint, see checkpoint_table.h. */
#include "io/tensors/checkpoint_table.h"

#include "base/log.h"
#include "io/tensors/quantized_tensors.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- tensors of the model */

static bool has_tensor(void *user, const char *name) {
    return checkpoint_files_find(user, name) != NULL;
}

static int check_shape(const checkpoint_tensor *t, const weight *w) {
    const int64_t wanted[2] = {w->dimensions == 2 ? w->all_rows : w->all_cols, w->all_cols};
    const safetensors_entry *e = t->entry;
    bool same = e->dimensions == w->dimensions;
    for (int i = 0; same && i < w->dimensions; i++) same = e->shape[i] == wanted[i];
    if (same) return LCKV_OK;
    char found[SAFETENSORS_MAX_DIMENSIONS * 24] = "";
    for (int i = 0, at = 0; i < e->dimensions; i++)
        at += snprintf(found + at, sizeof found - (size_t)at, "%s%lld", i ? ", " : "", (long long)e->shape[i]);
    if (w->dimensions == 1)
        return fail(LCKV_ERROR_FORMAT, "%s: tensor %s: expected shape [%lld], found [%s]", t->file->path, w->name,
                    (long long)w->all_cols, found);
    return fail(LCKV_ERROR_FORMAT, "%s: tensor %s: expected shape [%lld, %lld], found [%s]", t->file->path, w->name,
                (long long)w->all_rows, (long long)w->all_cols, found);
}

int checkpoint_check_tensor(const checkpoint_tensor *t, const char *source, weight *w) {
    REQUIRE(t, LCKV_ERROR_FORMAT, "%s: tensor %s is missing", source, w->name);
    dtype type = t->entry->type;
    REQUIRE((DTYPE_BIT(type) & DTYPE_FLOATS) || t->entry->format, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected dtype F32, BF16 or F16, found %s", t->file->path, w->name, t->entry->stored_type);
    w->tensor.value.type = type;
    return check_shape(t, w);
}

/* ---------------------------------------------------------------- other tensors */

/* K or V that no layer reads. Published checkpoints may contain them. */
static bool is_unowned_kv(const model_config *c, const char *name) {
    static const char *const parts[] = {"k_proj.weight",       "k_proj.bias",         "v_proj.weight",
                                        "v_proj.bias",         "k_norm.weight",       "k_proj.weight_packed",
                                        "k_proj.weight_scale", "k_proj.weight_shape", "v_proj.weight_packed",
                                        "v_proj.weight_scale", "v_proj.weight_shape"};
    enum { FLOATS = 5 };
    size_t count = quantized_tensors_expected(c) ? sizeof parts / sizeof *parts : FLOATS;
    int layer, at = 0;
    if (sscanf(name, "model.layers.%9d.self_attn.%n", &layer, &at) != 1 || !at) return false;
    if (layer < 0 || layer >= c->layers) return false;
    if (name[at] == 'k' ? layer_map_stores_keys(&c->map, layer) : layer_map_stores_values(&c->map, layer)) return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(name + at, parts[i]) == 0) return true;
    return false;
}

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

static bool is_tied_head(const model_config *c, const char *name) {
    return c->tie_word_embeddings && strcmp(name, "lm_head.weight") == 0;
}

/* Like transformers, lckv uses the embeddings. A head with other values causes a warning. */
static void compare_tied_head(const checkpoint_files *files, const checkpoint_tensor *head) {
    const checkpoint_tensor *embed = checkpoint_files_find(files, "model.embed_tokens.weight");
    if (embed && embed->entry->type == head->entry->type && embed->entry->bytes == head->entry->bytes &&
        memcmp(embed->entry->data, head->entry->data, head->entry->bytes) == 0)
        return;
    log_message(LCKV_LOG_WARNING,
                "%s: lm_head.weight differs from the embeddings, but the config ties them: lckv ignores it; set "
                "tie_word_embeddings=false to use it",
                head->file->path);
}

static int ignore_others(const checkpoint_files *files, const model_config *c, params *p) {
    int ignored = 0;
    for (int i = 0; i < files->count; i++) {
        const char *name = files->tensors[i].entry->name;
        if (params_find(p, name) || quantized_tensors_belong(p, name)) continue;
        REQUIRE(is_unowned_kv(c, name) || ends_with(name, ".rotary_emb.inv_freq") || is_tied_head(c, name),
                LCKV_ERROR_FORMAT, "%s: tensor %s does not belong to this model (model_type %s)",
                files->tensors[i].file->path, name, config_model_type(c));
        if (is_tied_head(c, name)) compare_tied_head(files, &files->tensors[i]);
        ignored++;
    }
    if (ignored)
        log_message(LCKV_LOG_INFO,
                    "%s: ignored %d unused tensors (K and V of layers without a slot, inv_freq, a tied lm_head)",
                    files->source, ignored);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- blocks */

void checkpoint_dequantize_blocks(const checkpoint_files *files, params *p) {
    for (int i = 0; i < p->count; i++) {
        const checkpoint_tensor *t = checkpoint_files_find(files, p->table[i].name);
        dtype *type = &p->table[i].tensor.value.type;
        if (t && t->entry->format && (DTYPE_BIT(*type) & DTYPE_GROUPED)) *type = DTYPE_BF16;
    }
}

/* ---------------------------------------------------------------- both */

static int check_weight(const checkpoint_files *files, const model_config *config, weight *w) {
    const checkpoint_tensor *t = checkpoint_files_find(files, w->name);
    quantized_tensors q;
    if (t || !quantized_tensors_find(files, w->name, &q)) return checkpoint_check_tensor(t, files->source, w);
    REQUIRE(quantized_tensors_expected(config), LCKV_ERROR_FORMAT,
            "%s: tensor %s is quantized, but %s has no quantization_config", q.packed->file->path,
            q.packed->entry->name, config->name);
    return quantized_tensors_check(&q, files->source, w);
}

int checkpoint_table(const checkpoint_files *files, const model_config *config, params **out) {
    params *p;
    *out = NULL;
    TRY(params_create(config, has_tensor, (void *)(uintptr_t)files, &p));
    int status = LCKV_OK;
    for (int i = 0; i < p->count && status >= 0; i++) {
        status = check_weight(files, config, &p->table[i]);
    }
    if (status >= 0) status = ignore_others(files, config, p);
    if (status < 0)
        params_free(p);
    else
        *out = p;
    return status;
}
