/* One decoder layer, for every architecture: biases and head norms are applied if the layer has their weights. The
 * formulas are those of Decoder.layer in reference/decoder.py. On failure, graph_reset() releases what is still held.
 */
#include "model/pass.h"
#include "model/shards/weights_use.h"

#include "model/ranks/rank_group.h"

#include <string.h>

/* RMSNorm of each head (Qwen3) if the model has it. Takes ownership of x. */
static int head_norm(pass *p, tensor *norm, tensor *x, tensor **out) {
    *out = x;
    if (!norm) return LCKV_OK;
    TRY(graph_rms_norm(p->g, x, norm, (float)p->m->config->rms_norm_eps, p->g->compute, out));
    tensor_release(p->g, x);
    return LCKV_OK;
}

static int show(const pass *p, int layer, layer_value what, view value) {
    const layer_watch *watch = p->b->watch;
    return watch && p->step ? watch->see(watch->user, layer, p->step, what, value) : LCKV_OK;
}

static void release_heads(pass *p, heads *h) {
    tensor *all[] = {h->q, h->q_sink, h->k, h->v};
    for (int i = 0; i < 4; i++) tensor_release(p->g, all[i]);
    *h = (heads){0};
}

/* Which of queries, keys and values are computed. */
typedef struct head_parts {
    bool q, k, v;
} head_parts;

static graph_projection projection_of(const pass *p, const layer_weights *w, head_parts parts) {
    graph_projection a = {.norm = w->input_norm, .eps = (float)p->m->config->rms_norm_eps};
    if (parts.q) a.part[a.parts++] = packed_part(&w->qkv, "q");
    if (parts.k) a.part[a.parts++] = packed_part(&w->qkv, "k");
    if (parts.v) a.part[a.parts++] = packed_part(&w->qkv, "v");
    return a;
}

static void name_parts(tensor *const made[PROJECT_PARTS], head_parts parts, heads *out) {
    int at = 0;
    out->q = parts.q ? made[at++] : NULL;
    out->k = parts.k ? made[at++] : NULL;
    out->v = parts.v ? made[at] : NULL;
}

static int project(pass *p, const layer_weights *w, tensor *x, head_parts parts, heads *out) {
    graph_projection a = projection_of(p, w, parts);
    tensor *made[PROJECT_PARTS];
    TRY(graph_project(p->g, x, &a, made));
    name_parts(made, parts, out);
    if (parts.q) TRY(head_norm(p, w->q_norm, out->q, &out->q));
    return parts.k ? head_norm(p, w->k_norm, out->k, &out->k) : LCKV_OK;
}

/* All of make_heads() as one op. This is possible if nothing comes between products and rotation, and if keys and
 * values, if any, go straight to the cache. */
static int make_at_once(pass *p, int slot, const layer_weights *w, tensor *x, head_parts parts, heads *out,
                        bool *done) {
    graph_projection a = projection_of(p, w, parts);
    struct kv_pages pages;
    view index = {0};
    tensor *made[PROJECT_PARTS];
    *done = !w->q_norm && !w->k_norm && !(parts.q && p->rows->sink_angles) && parts.k == parts.v &&
            graph_may_join_heads(p->g, x, &a) && (!parts.k || pass_appends(p, slot, &pages, &index));
    if (!*done) return LCKV_OK;
    TRY(graph_heads(p->g, x, &a, parts.q, p->rows->angles, index, parts.k ? &pages : NULL, made));
    name_parts(made, parts, out);
    if (parts.k) pass_set_slot(p, slot, out->k, out->v);
    return LCKV_OK;
}

/* The same for training and for forward passes without a cache, where keys and values stay with the pass. */
static int make_packed(pass *p, int slot, const layer_weights *w, tensor *x, head_parts parts, heads *out, bool *done) {
    graph_projection a = projection_of(p, w, parts);
    const bool present[PROJECT_PARTS] = {parts.q, parts.k, parts.v};
    tensor *made[PROJECT_PARTS];
    *done = !w->q_norm && !w->k_norm && !p->cache && !p->slot_rows.data && !p->change && graph_is_packed(&a);
    if (!*done) return LCKV_OK;
    TRY(graph_project_heads(p->g, x, &a, present, p->rows->angles, made));
    *out = (heads){.q = made[0], .k = made[1], .v = made[2]};
    if (!parts.k && !parts.v) return LCKV_OK;
    TRY(pass_round(p, slot, out));
    pass_set_slot(p, slot, out->k, out->v);
    return LCKV_OK;
}

static int rotate_queries(pass *p, heads *h) {
    tensor *rotated;
    TRY(graph_rope(p->g, h->q, p->rows->angles, &rotated));
    tensor_release(p->g, h->q);
    h->q = rotated;
    return LCKV_OK;
}

/* Queries, keys and values of x [rows, hidden_size]; keys and values are written to the layer's slot. */
static int make_heads(pass *p, int layer, const layer_weights *w, tensor *x, head_parts parts, heads *out) {
    int slot = p->m->config->map.layer[layer].slot;
    bool done, writes = parts.k || parts.v;
    *out = (heads){0};
    if (!parts.q && !writes) return LCKV_OK;
    TRY(make_at_once(p, slot, w, x, parts, out, &done));
    if (!done) TRY(make_packed(p, slot, w, x, parts, out, &done));
    if (!done) {
        TRY(project(p, w, x, parts, out));
        if (parts.q && p->rows->sink_angles) TRY(graph_rope(p->g, out->q, p->rows->sink_angles, &out->q_sink));
        TRY(writes ? pass_write_slot(p, slot, out) : rotate_queries(p, out));
    }
    if (parts.k) TRY(show(p, layer, LAYER_K, out->k->value));
    return parts.v ? show(p, layer, LAYER_V, out->v->value) : LCKV_OK;
}

/* residual + x weight^T + bias, where weight and bias are the only part of a pack. If ranks have parts of the layer,
 * the product is a partial sum: one of them adds the rest, and all add up their sums. */
static int add_branch(const pass *p, tensor *x, const packed_weight *pack, tensor *residual, tensor **out) {
    const rank_group *ranks = p->m->ranks;
    const weight_part *part = &pack->part[0];
    TRY(rank_group_adds_rest(ranks) ? graph_linear_add(p->g, x, part->weight, part->bias, residual, out)
                                    : graph_linear(p->g, x, part->weight, NULL, DTYPE_F32, out));
    return rank_group_sum(ranks, (*out)->value);
}

/* x + o_proj(attention). Without queries, which then would see zeros only, the product is zero and its bias remains. */
static int attention_block(pass *p, int layer, const layer_weights *w, tensor *x, const heads *h, tensor **out) {
    graph *g = p->g;
    const layer_description *l = &p->m->config->map.layer[layer];
    const view nothing = {NULL, x->value.rows, (int64_t)l->heads * l->head_dim, DTYPE_F32};
    tensor *attended, *branch, *bias = packed_bias(&w->o, "o");
    if (h->q) {
        TRY(pass_attend(p, layer, h, &attended));
        TRY(show(p, layer, LAYER_ATTN, attended->value));
        TRY(add_branch(p, attended, &w->o, x, out));
        tensor_release(g, attended);
        return LCKV_OK;
    }
    TRY(show(p, layer, LAYER_ATTN, nothing));
    if (!bias) {
        *out = tensor_hold(x);
        return LCKV_OK;
    }
    TRY(graph_bias(g, bias, x->value.rows, &branch));
    TRY(graph_add(g, x, branch, out));
    tensor_release(g, branch);
    return LCKV_OK;
}

/* x + down_proj(silu(gate_proj(norm(x))) * up_proj(norm(x))). */
static int mlp_block(pass *p, const layer_weights *w, tensor *x, tensor **out) {
    const graph_projection a = {.norm = w->post_norm,
                                .eps = (float)p->m->config->rms_norm_eps,
                                .parts = 2,
                                .part = {packed_part(&w->gate_up, "gate"), packed_part(&w->gate_up, "up")}};
    tensor *inner;
    TRY(graph_project_gated(p->g, x, &a, &inner));
    TRY(add_branch(p, inner, &w->down, x, out));
    tensor_release(p->g, inner);
    return LCKV_OK;
}

/* Only wanted rows are needed from here on. Replaces *x, which the caller holds, by these rows. */
static int narrow(pass *p, tensor **x) {
    tensor *wide = *x;
    TRY(pass_want(p));
    TRY(graph_gather_rows(p->g, wide, p->b->wanted_rows, x));
    tensor_release(p->g, wide);
    p->rows = &p->wanted;
    return LCKV_OK;
}

static int run(pass *p, int layer, layer_part part, tensor *x, tensor **out) {
    graph *g = p->g;
    const layer_weights *w = &p->m->params->layers[layer];
    const layer_map *map = &p->m->config->map;
    const layer_description *l = &map->layer[layer];
    bool narrows = part == LAYER_NARROW && p->b->wanted, whole = part == LAYER_WHOLE || narrows;
    bool queries = whole && (l->v_slot == l->slot || !pass_sees_nothing(p, layer));
    head_parts parts = {queries && !narrows, layer_map_stores_keys(map, layer), layer_map_stores_values(map, layer)};
    heads h;
    tensor *middle;
    *out = NULL;
    TRY(make_heads(p, layer, w, x, parts, &h));
    tensor_hold(x);
    if (narrows) {
        release_heads(p, &h);
        TRY(narrow(p, &x));
        TRY(make_heads(p, layer, w, x, (head_parts){.q = queries}, &h));
    }
    if (whole) {
        TRY(attention_block(p, layer, w, x, &h, &middle));
        TRY(mlp_block(p, w, middle, out));
        TRY(show(p, layer, LAYER_HIDDEN, (*out)->value));
        tensor_release(g, middle);
    }
    tensor_release(g, x);
    release_heads(p, &h);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- a layer that runs again */

/* What is needed to run a layer again after its pass has ended. */
typedef struct layer_work {
    const model *m;
    const batch *b;
    int layer;
    layer_part part;
    row_set rows;
} layer_work;

enum { IN_X, IN_ANGLES, IN_K, IN_V, OUT_X = 0, OUT_K, OUT_V };

_Static_assert(sizeof(layer_work) <= WORK_BYTES, "a graph has no room for a layer's work");

static tensor *hold_if(tensor *t) {
    return t ? tensor_hold(t) : NULL;
}

/* Inputs are the slots that the layer reads but does not write; the slot that it writes is an output. */
static int run_work(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]) {
    layer_work w;
    pass p;
    memcpy(&w, what, sizeof w);
    const layer_description *l = &w.m->config->map.layer[w.layer];
    int status = pass_begin_on(w.m, g, w.b, &w.rows, &p);
    if (status >= 0) {
        p.k[l->k_slot] = hold_if(in[IN_K]);
        p.v[l->v_slot] = hold_if(in[IN_V]);
        status = run(&p, w.layer, w.part, in[IN_X], &out[OUT_X]);
    }
    if (status >= 0 && l->slot >= 0) {
        out[OUT_K] = hold_if(p.k[l->slot]);
        out[OUT_V] = hold_if(p.v[l->slot]);
    }
    pass_end(&p);
    return status;
}

static int recompute(pass *p, int layer, layer_part part, tensor *x, tensor **out) {
    const layer_description *l = &p->m->config->map.layer[layer];
    layer_work w = {.m = p->m, .b = p->b, .layer = layer, .part = part, .rows = *p->rows};
    graph_work work = {.run = run_work, .what = &w, .bytes = sizeof w, .in = {x, p->rows->angles}};
    tensor *made[WORK_OUTPUTS] = {NULL};
    if (part == LAYER_WHOLE && l->k_slot != l->slot) work.in[IN_K] = pass_keys_read_by(p, layer);
    if (part == LAYER_WHOLE && l->v_slot != l->slot) work.in[IN_V] = pass_values_read_by(p, layer);
    TRY(graph_recompute(p->g, &work, made));
    *out = made[OUT_X];
    if (l->slot < 0) return LCKV_OK;
    pass_set_slot(p, l->slot, made[OUT_K], made[OUT_V]);
    tensor_release(p->g, made[OUT_K]);
    tensor_release(p->g, made[OUT_V]);
    return LCKV_OK;
}

/* A layer is a function of its rows and of the slots that it reads, except if slots are written row by row, if rows
 * are appended to pages, or if the wanted rows are selected inside. */
static bool may_recompute(const pass *p, layer_part part) {
    return p->g->recompute && p->g->recording && !p->cache && !p->slot_rows.data && part != LAYER_NARROW;
}

int layer_forward(pass *p, int layer, layer_part part, tensor *x, tensor **out) {
    int weights = weights_of_layer(layer);
    TRY(weights_begin(p->m->params, p->g, weights, p->next_unit));
    TRY(may_recompute(p, part) ? recompute(p, layer, part, x, out) : run(p, layer, part, x, out));
    return weights_end(p->m->params, p->g, weights, true);
}
