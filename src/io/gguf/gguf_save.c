/* Writing a model as a GGUF file, see gguf_save.h. */
#include "io/gguf/gguf_save.h"

#include "gguf/gguf_write.h"
#include "io/gguf/gguf_groups.h"
#include "io/gguf/gguf_names.h"
#include "io/gguf/gguf_vocabulary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FREQUENCIES "rope_freqs.weight"

/* Values of --gguf_dtype, and of general.file_type. */
static const struct {
    const char *name;
    uint32_t format, file_type;
} formats[] = {
    {"f32", GGUF_F32, 0}, {"f16", GGUF_F16, 1}, {"bf16", GGUF_BF16, 32}, {"q8_0", GGUF_Q8_0, 7}, {"q4_0", GGUF_Q4_0, 2},
};

typedef struct saving {
    const model_config *config;
    const params *params;
    const gguf_save_options *options;
    const char *architecture;
    int format;     /* index of `formats`; with `as_stored` that of general.file_type */
    bool as_stored; /* each matrix in its own format */
    gguf_keys keys;
    gguf_item *items; /* [count]: the entries of the table, then the factors of RoPE if there are any */
    int count;
} saving;

/* ---------------------------------------------------------------- what llama.cpp runs */

static int unsupported(const saving *s, const char *what) {
    return fail(LCKV_ERROR_UNSUPPORTED, "%s: llama.cpp does not run %s", s->config->name, what);
}

/* What distinguishes a layer from those of a plain model; NULL if nothing does. */
static const char *difference(const layer_description *l, int layer) {
    if (l->k_source != layer || l->v_source != layer) return "reads another layer's slot";
    if (l->strict) return "is strictly causal";
    return l->window ? "has a sliding window" : NULL;
}

static int check_layers(const saving *s) {
    const model_config *c = s->config;
    for (int i = 0; i < c->layers; i++) {
        const char *why = difference(&c->map.layer[i], i);
        char *layer_types;
        if (!why) continue;
        TRY(layer_map_format(&c->map, &layer_types));
        int status =
            fail(LCKV_ERROR_UNSUPPORTED,
                 "%s: layer_types: llama.cpp does not run layer %d of \"%.200s\", which %s; it runs plain models, in "
                 "which every layer attends to its own keys and values",
                 c->name, i, layer_types, why);
        free(layer_types);
        return status;
    }
    return LCKV_OK;
}

/* Biases that the architecture has in llama.cpp: llama all, qwen2 those of queries, keys and values. */
static int check_biases(const saving *s) {
    bool llama = !strcmp(s->architecture, "llama"), qwen2 = !strcmp(s->architecture, "qwen2");
    for (int i = 0; i < s->params->count; i++) {
        const char *name = s->params->table[i].name;
        bool bias = strlen(name) > 5 && !strcmp(name + strlen(name) - 5, ".bias");
        bool qkv = strstr(name, ".q_proj.") || strstr(name, ".k_proj.") || strstr(name, ".v_proj.");
        REQUIRE(!bias || llama || (qwen2 && qkv), LCKV_ERROR_UNSUPPORTED, "%s: llama.cpp does not run %s with %s",
                s->config->name, s->architecture, name);
    }
    return LCKV_OK;
}

static int choose_architecture(saving *s) {
    const model_config *c = s->config;
    s->architecture = c->architecture == ARCH_QWEN2 ? "qwen2" : c->architecture == ARCH_QWEN3 ? "qwen3" : "llama";
    TRY(check_layers(s));
    if (c->architecture == ARCH_QWEN2 && c->heads * (int64_t)c->head_dim != c->hidden_size)
        return unsupported(s, "qwen2 with a head_dim other than hidden_size / num_attention_heads");
    return check_biases(s);
}

/* ---------------------------------------------------------------- formats */

/* The format that has the values of a matrix exactly. */
static uint32_t stored_format(const weight *w) {
    dtype type = w->tensor.value.type;
    if (type == DTYPE_BF16) return GGUF_BF16;
    if (type == DTYPE_F16) return GGUF_F16;
    if (type == DTYPE_F32 || w->cols % DTYPE_GROUP) return GGUF_F32;
    return type == DTYPE_INT8 ? GGUF_Q8_0 : GGUF_Q4_0;
}

static int choose_format(saving *s) {
    const char *name = s->options->format;
    s->format = -1;
    s->as_stored = !name || !strcmp(name, "auto");
    if (s->as_stored) name = gguf_format_of(stored_format(&s->params->table[s->params->count > 1 ? 1 : 0]))->name;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(name, formats[i].name)) s->format = (int)i;
    REQUIRE(s->format >= 0, LCKV_ERROR_ARGUMENT,
            "expected gguf_dtype auto, f32, f16, bf16, q8_0 or q4_0, found '%.40s'", name);
    return LCKV_OK;
}

static uint32_t format_of(const saving *s, const weight *w) {
    uint32_t format = formats[s->format].format;
    bool vocabulary = strncmp(w->name, "model.layers.", 13) != 0;
    if (w->dimensions == 1) return GGUF_F32;
    if (s->as_stored) return stored_format(w);
    if (format == GGUF_Q4_0 && vocabulary) format = GGUF_Q8_0;
    return w->cols % gguf_format_of(format)->block ? GGUF_F16 : format;
}

/* Whether some tensors are quantized. */
static bool has_blocks(const saving *s) {
    for (int i = 0; i < s->params->count; i++)
        if (gguf_format_of(format_of(s, &s->params->table[i]))->block > 1) return true;
    return false;
}

/* ---------------------------------------------------------------- keys */

static int put(saving *s, const char *key, int64_t value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->architecture, key);
    REQUIRE(value <= UINT32_MAX, LCKV_ERROR_UNSUPPORTED, "%s: %s of %lld does not fit a GGUF file", s->config->name,
            name, (long long)value);
    return gguf_put_uint(&s->keys, name, (uint32_t)value);
}

static int put_number(saving *s, const char *key, double value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->architecture, key);
    return gguf_put_float(&s->keys, name, (float)value);
}

static int put_text(saving *s, const char *key, const char *value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->architecture, key);
    return gguf_put_string(&s->keys, name, value);
}

static int put_yarn(saving *s) {
    const rope_scaling *r = &s->config->rope_scaling;
    double implied = r->factor <= 1 ? 1 : 0.1 * log(r->factor) + 1; /* which llama.cpp applies itself */
    if (!r->truncate) return unsupported(s, "yarn without truncate");
    TRY(put_text(s, "rope.scaling.type", "yarn"));
    TRY(put_number(s, "rope.scaling.factor", r->factor));
    TRY(put(s, "rope.scaling.original_context_length", r->original_max_position_embeddings));
    TRY(put_number(s, "rope.scaling.yarn_beta_fast", r->beta_fast));
    TRY(put_number(s, "rope.scaling.yarn_beta_slow", r->beta_slow));
    return put_number(s, "rope.scaling.attn_factor", r->attention_factor / implied);
}

static int put_rope(saving *s) {
    const rope_scaling *r = &s->config->rope_scaling;
    TRY(put(s, "rope.dimension_count", s->config->head_dim));
    TRY(put_number(s, "rope.freq_base", s->config->rope_theta));
    switch (r->type) {
    case ROPE_DEFAULT:
    case ROPE_LLAMA3: /* see add_frequencies() */
        return LCKV_OK;
    case ROPE_LINEAR:
        TRY(put_text(s, "rope.scaling.type", "linear"));
        return put_number(s, "rope.scaling.factor", r->factor);
    case ROPE_YARN:
        return put_yarn(s);
    case ROPE_DYNAMIC:
        return unsupported(s, "the rope_type dynamic");
    case ROPE_LONGROPE: /* it chooses the factors by the size of its cache */
        return unsupported(s, "the rope_type longrope as transformers does");
    }
    return LCKV_OK;
}

/* The name of the folder that the config is in. */
static int put_name(saving *s) {
    const char *name = s->config->name, *base = path_base(name), *end = base > name ? base - 1 : base, *begin = end;
    while (begin > name && begin[-1] != '/') begin--;
    char *text = end > begin ? strndup(begin, (size_t)(end - begin)) : strdup(base);
    REQUIRE(text, LCKV_ERROR_MEMORY, "no memory for a name");
    int status = gguf_put_string(&s->keys, "general.name", text);
    free(text);
    return status;
}

static int put_keys(saving *s) {
    const model_config *c = s->config;
    TRY(gguf_put_string(&s->keys, "general.architecture", s->architecture));
    TRY(gguf_put_string(&s->keys, "general.type", "model"));
    TRY(put_name(s));
    TRY(gguf_put_uint(&s->keys, "general.file_type", formats[s->format].file_type));
    if (has_blocks(s)) TRY(gguf_put_uint(&s->keys, "general.quantization_version", 2));
    TRY(put(s, "vocab_size", c->vocab_size));
    TRY(put(s, "context_length", c->max_position_embeddings));
    TRY(put(s, "embedding_length", c->hidden_size));
    TRY(put(s, "block_count", c->layers));
    TRY(put(s, "feed_forward_length", c->intermediate_size));
    TRY(put(s, "attention.head_count", c->heads));
    TRY(put(s, "attention.head_count_kv", c->kv_heads));
    TRY(put(s, "attention.key_length", c->head_dim));
    TRY(put(s, "attention.value_length", c->head_dim));
    TRY(put_number(s, "attention.layer_norm_rms_epsilon", c->rms_norm_eps));
    TRY(put_rope(s));
    return gguf_put_tokenizer(&s->keys, s->options->tokenizer, c);
}

/* ---------------------------------------------------------------- tensors */

/* The factors by which llama3 divides frequencies, as llama.cpp reads them. */
static void add_frequencies(saving *s) {
    if (s->config->rope_scaling.type != ROPE_LLAMA3) return;
    gguf_item *item = &s->items[s->count++];
    *item = (gguf_item){
        .name = FREQUENCIES, .format = GGUF_F32, .dimensions = 1, .rows = 1, .cols = s->config->head_dim / 2};
}

static int list_items(saving *s) {
    const params *p = s->params;
    s->items = calloc((size_t)p->count + 1, sizeof *s->items);
    REQUIRE(s->items, LCKV_ERROR_MEMORY, "no memory for a list of %d tensors", p->count);
    for (; s->count < p->count; s->count++) {
        const weight *w = &p->table[s->count];
        gguf_item *item = &s->items[s->count];
        REQUIRE(gguf_name_of_hf(w->name, item->name), LCKV_ERROR_UNSUPPORTED, "%s: GGUF has no name for the tensor %s",
                s->config->name, w->name);
        item->format = format_of(s, w);
        item->dimensions = w->dimensions;
        item->rows = w->rows;
        item->cols = w->cols;
        item->encoded = gguf_groups_hold(gguf_format_of(item->format), w->tensor.value.type, w->cols);
    }
    add_frequencies(s);
    return LCKV_OK;
}

/* llama.cpp rotates neighbours in models of the architecture llama: row p n / 2 + i of a head of n rows becomes row
 * 2 i + p. Rows have `bytes` of values or of blocks. */
static int reorder(const saving *s, const weight *w, char *values, size_t bytes) {
    int64_t head = s->config->head_dim, rows = w->dimensions == 2 ? w->rows : w->cols;
    if (strcmp(s->architecture, "llama") != 0 || gguf_rows_of(w->name) == GGUF_ROWS_OTHER) return LCKV_OK;
    char *copy = malloc((size_t)head * bytes);
    REQUIRE(copy, LCKV_ERROR_MEMORY, "no memory to reorder %s", w->name);
    for (int64_t first = 0; first < rows; first += head) {
        memcpy(copy, values + (size_t)first * bytes, (size_t)head * bytes);
        for (int64_t i = 0; i < head; i++)
            memcpy(values + (size_t)(first + 2 * (i % (head / 2)) + i / (head / 2)) * bytes, copy + (size_t)i * bytes,
                   bytes);
    }
    free(copy);
    return LCKV_OK;
}

/* The frequency without scaling, divided by the scaled one. */
static int frequency_factors(const saving *s, float *values) {
    int pairs = s->config->head_dim / 2;
    double *scaled = calloc((size_t)pairs, sizeof *scaled);
    REQUIRE(scaled, LCKV_ERROR_MEMORY, "no memory for %d frequencies", pairs);
    config_inverse_frequencies(s->config, scaled);
    for (int i = 0; i < pairs; i++) values[i] = (float)(pow(s->config->rope_theta, -(double)i / pairs) / scaled[i]);
    free(scaled);
    return LCKV_OK;
}

static int item_blocks(const saving *s, int index, void *blocks) {
    const weight *w = &s->params->table[index];
    const gguf_format *f = gguf_format_of(s->items[index].format);
    dtype type = w->tensor.value.type;
    void *data = malloc((size_t)w->rows * dtype_row_bytes(type, w->cols) + 1);
    void *scales = malloc((size_t)w->rows * dtype_row_scale_bytes(type, w->cols) + 1);
    int status = data && scales ? s->options->quantized(s->options->user, index, type, data, scales)
                                : fail(LCKV_ERROR_MEMORY, "no memory for %s", w->name);
    if (status >= 0) gguf_groups_write(f, type, w->rows, w->cols, data, scales, blocks);
    free(data);
    free(scales);
    return status < 0 ? status : reorder(s, w, blocks, (size_t)(w->cols / f->block) * f->bytes);
}

static int item_values(void *user, int index, void *out) {
    const saving *s = user;
    if (index == s->params->count) return frequency_factors(s, out);
    if (s->items[index].encoded) return item_blocks(s, index, out);
    const weight *w = &s->params->table[index];
    TRY(s->options->values(s->options->user, index, out));
    return reorder(s, w, out, (size_t)(w->dimensions == 2 ? w->cols : 1) * sizeof(float));
}

/* ---------------------------------------------------------------- the file */

static int prepare(saving *s) {
    TRY(choose_architecture(s));
    TRY(choose_format(s));
    TRY(put_keys(s));
    return list_items(s);
}

static int write_file(saving *s, const char *path) {
    new_file file;
    TRY(file_begin(path, &file));
    int status = gguf_write(&file, &s->keys, s->items, s->count, item_values, s);
    if (status >= 0) status = file_commit(&file);
    file_abandon(&file);
    return status;
}

int gguf_save(const model_config *config, const params *p, const gguf_save_options *options, const char *path) {
    saving s = {.config = config, .params = p, .options = options};
    int status = prepare(&s);
    if (status >= 0) status = write_file(&s, path);
    gguf_keys_free(&s.keys);
    free(s.items);
    return status;
}
