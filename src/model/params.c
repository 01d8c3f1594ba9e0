/* The table of weights; see params.h. PARTS lists the weights of a layer: names, shapes, and which models have them. */
#include "model/params.h"

#include "model/shards/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- what a layer has */

enum extent { ONE, HIDDEN, INTERMEDIATE, QUERIES, KEYS, HEAD, EXTENTS };

/* Conditions for a weight to exist. Biases also exist if a checkpoint has them. */
enum { KEYS_READ = 1, VALUES_READ = 2, QKV_BIAS = 4, O_BIAS = 8, MLP_BIAS = 16 };
enum { BIASES = QKV_BIAS | O_BIAS | MLP_BIAS };

struct part {
    const char *name;    /* in the checkpoint, after "model.layers.N." */
    size_t member;       /* of layer_weights: a packed_weight, or a tensor * for a norm */
    const char *in_pack; /* name of the part in its pack; NULL for a norm */
    enum extent rows, cols;
    int needs;
    unsigned norm; /* LAYER_NORM_...; 0: no norm */
};

#define MEMBER(name) offsetof(layer_weights, name)
#define MATRIX(name, pack, part, rows, cols, needs)                                                                    \
    { name ".weight", MEMBER(pack), part, rows, cols, needs, 0 }
#define BIAS(name, pack, part, cols, needs)                                                                            \
    { name ".bias", MEMBER(pack), part, ONE, cols, needs, 0 }
#define NORM(name, member, cols, needs, norm)                                                                          \
    { name ".weight", MEMBER(member), NULL, ONE, cols, needs, norm }
/* In the order of transformers' state dict. */
static const struct part PARTS[] = {
    MATRIX("self_attn.q_proj", qkv, "q", QUERIES, HIDDEN, 0),
    BIAS("self_attn.q_proj", qkv, "q", QUERIES, QKV_BIAS),
    MATRIX("self_attn.k_proj", qkv, "k", KEYS, HIDDEN, KEYS_READ),
    BIAS("self_attn.k_proj", qkv, "k", KEYS, KEYS_READ | QKV_BIAS),
    MATRIX("self_attn.v_proj", qkv, "v", KEYS, HIDDEN, VALUES_READ),
    BIAS("self_attn.v_proj", qkv, "v", KEYS, VALUES_READ | QKV_BIAS),
    MATRIX("self_attn.o_proj", o, "o", HIDDEN, QUERIES, 0),
    BIAS("self_attn.o_proj", o, "o", HIDDEN, O_BIAS),
    NORM("self_attn.q_norm", q_norm, HEAD, 0, LAYER_NORM_Q),
    NORM("self_attn.k_norm", k_norm, HEAD, KEYS_READ, LAYER_NORM_K),
    MATRIX("mlp.gate_proj", gate_up, "gate", INTERMEDIATE, HIDDEN, 0),
    BIAS("mlp.gate_proj", gate_up, "gate", INTERMEDIATE, MLP_BIAS),
    MATRIX("mlp.up_proj", gate_up, "up", INTERMEDIATE, HIDDEN, 0),
    BIAS("mlp.up_proj", gate_up, "up", INTERMEDIATE, MLP_BIAS),
    MATRIX("mlp.down_proj", down, "down", HIDDEN, INTERMEDIATE, 0),
    BIAS("mlp.down_proj", down, "down", HIDDEN, MLP_BIAS),
    NORM("input_layernorm", input_norm, HIDDEN, 0, LAYER_NORM_INPUT),
    NORM("post_attention_layernorm", post_norm, HIDDEN, 0, LAYER_NORM_MLP),
};
enum { PART_COUNT = sizeof PARTS / sizeof *PARTS, OUTSIDE_LAYERS = 3 };

/* Elements of one dimension of a tensor: those of this rank, and of the whole tensor. */
typedef struct range {
    int64_t count, first, all;
} range;

static range whole(int64_t size) {
    return (range){.count = size, .all = size};
}

static range heads_of(int count, int first, int all, int64_t size) {
    return (range){count * size, first * size, all * size};
}

static range range_of(const model_config *c, const layer_description *l, enum extent e) {
    const range ranges[EXTENTS] = {[ONE] = whole(1),
                                   [HIDDEN] = whole(c->hidden_size),
                                   [INTERMEDIATE] = {l->intermediate_size, l->first_intermediate, l->all_intermediate},
                                   [QUERIES] = heads_of(l->heads, l->first_head, l->all_heads, l->head_dim),
                                   [KEYS] = heads_of(l->kv_heads, l->first_kv_head, l->all_kv_heads, l->head_dim),
                                   [HEAD] = whole(l->head_dim)};
    return ranges[e];
}

static void part_name(const struct part *part, int layer, char *out, size_t bytes) {
    snprintf(out, bytes, "model.layers.%d.%s", layer, part->name);
}

static bool layer_may_have(const model_config *c, const struct part *part, int layer) {
    if ((part->needs & KEYS_READ) && !layer_map_stores_keys(&c->map, layer)) return false;
    if ((part->needs & VALUES_READ) && !layer_map_stores_values(&c->map, layer)) return false;
    return !part->norm || (c->map.layer[layer].norms & part->norm);
}

static bool config_announces(const model_config *c, int needs) {
    if (needs & QKV_BIAS) return c->attention_bias || c->qkv_bias;
    return needs & O_BIAS ? c->attention_bias : c->mlp_bias;
}

/* If one layer of the checkpoint has a bias, all layers must have it: a file that has lost some is not a file
 * without biases. */
static bool model_has(const model_config *c, const struct part *part, params_has_tensor has, void *user) {
    if (!(part->needs & BIASES)) return true;
    if (!has) return config_announces(c, part->needs);
    for (int layer = 0; layer < c->layers; layer++) {
        char name[sizeof((weight *)0)->name];
        part_name(part, layer, name, sizeof name);
        if (layer_may_have(c, part, layer) && has(user, name)) return true;
    }
    return false;
}

/* ---------------------------------------------------------------- the table */

weight *params_add(params *p, int64_t rows, int64_t cols, int dimensions) {
    weight *w = &p->table[p->count++];
    *w = (weight){.rows = rows, .cols = cols, .all_rows = rows, .all_cols = cols, .dimensions = dimensions};
    w->tensor = (tensor){.value = {NULL, rows, cols, DTYPE_F32}, .weight = true};
    return w;
}

static tensor *add_named(params *p, const char *name, int64_t rows, int64_t cols, int dimensions) {
    weight *w = params_add(p, rows, cols, dimensions);
    snprintf(w->name, sizeof w->name, "%s", name);
    return &w->tensor;
}

static weight *add_part(params *p, range rows, range cols, int dimensions) {
    weight *w = params_add(p, rows.count, cols.count, dimensions);
    w->all_rows = rows.all;
    w->all_cols = cols.all;
    w->first_row = rows.first;
    w->first_col = cols.first;
    return w;
}

/* Enters the weight where the decoder finds it. A matrix adds its part; its bias follows it in PARTS. */
static void enter(layer_weights *layer, const struct part *part, weight *w) {
    void *member = (char *)layer + part->member;
    packed_weight *pack = member;
    if (!part->in_pack) {
        *(tensor **)member = &w->tensor;
    } else if (w->dimensions == 2) {
        w->continues = pack->count && &w[-1].tensor == pack->part[pack->count - 1].weight;
        pack->part[pack->count++] = (weight_part){.name = part->in_pack, .weight = &w->tensor};
    } else {
        pack->part[pack->count - 1].bias = &w->tensor;
    }
}

static void add_layer(params *p, const model_config *c, const bool *present, int layer) {
    for (int i = 0; i < PART_COUNT; i++) {
        const struct part *part = &PARTS[i];
        if (!present[i] || !layer_may_have(c, part, layer)) continue;
        const layer_description *l = &c->map.layer[layer];
        weight *w = add_part(p, range_of(c, l, part->rows), range_of(c, l, part->cols), part->rows == ONE ? 1 : 2);
        part_name(part, layer, w->name, sizeof w->name);
        enter(&p->layers[layer], part, w);
    }
}

static void begin_unit(params *p) {
    p->unit_first[p->unit_count++] = p->count;
}

static void fill_table(params *p, const model_config *c, const bool *present) {
    begin_unit(p);
    p->embed = add_named(p, "model.embed_tokens.weight", c->vocab_size, c->hidden_size, 2);
    for (int layer = 0; layer < c->layers; layer++) {
        begin_unit(p);
        add_layer(p, c, present, layer);
    }
    begin_unit(p);
    p->norm = add_named(p, "model.norm.weight", 1, c->hidden_size, 1);
    p->head = p->embed;
    if (c->tie_word_embeddings) return;
    begin_unit(p);
    p->head = add_named(p, "lm_head.weight", c->vocab_size, c->hidden_size, 2);
}

int params_create(const model_config *c, params_has_tensor has, void *user, params **out) {
    *out = NULL;
    params *p = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for the table of weights");
    p->capacity =
        c->layers * PART_COUNT + OUTSIDE_LAYERS + c->map.loops * PARAMS_PER_LOOP + c->map.slots * PARAMS_PER_SLOT;
    p->table = calloc((size_t)p->capacity, sizeof *p->table);
    p->layers = calloc((size_t)c->layers, sizeof *p->layers);
    p->layer_count = c->layers;
    p->unit_first = calloc((size_t)(c->layers + OUTSIDE_LAYERS + c->map.loops), sizeof *p->unit_first);
    if (!p->table || !p->layers || !p->unit_first) {
        params_free(p);
        return fail(LCKV_ERROR_MEMORY, "no memory for the table of weights of %d layers", c->layers);
    }
    bool present[PART_COUNT];
    for (int i = 0; i < PART_COUNT; i++) present[i] = model_has(c, &PARTS[i], has, user);
    fill_table(p, c, present);
    *out = p;
    return LCKV_OK;
}

void params_free(params *p) {
    if (!p) return;
    void *memory[] = {p->memory, p->gradients, p->masters};
    for (int i = 0; i < 3; i++)
        if (memory[i]) p->device->memory.release(p->device, memory[i]);
    shards_free(p->shards);
    free(p->table);
    free(p->layers);
    free(p->unit_first);
    free(p);
}

weight *params_find(params *p, const char *name) {
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->table[i].name, name) == 0) return &p->table[i];
    return NULL;
}

int64_t params_elements(const params *p) {
    int64_t sum = 0;
    for (int i = 0; i < p->count; i++) sum += p->table[i].all_rows * p->table[i].all_cols;
    return sum;
}
