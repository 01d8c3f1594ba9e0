/* One decoder layer, for every architecture: which biases and head norms there are is said by the weights that exist.
 * Follows Decoder.layer of goldens/oracle.py line by line. On failure what is held is left to graph_reset(). */
#include "model/pass.h"

#include <string.h>

/* RMSNorm over each head (Qwen3), where the model has it. Takes x. */
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

/* What comes of a layer's first norm and products, rotated; NULL where it is not there. */
typedef struct heads {
    tensor *q, *q_sink, *k, *v;
} heads;

static void release_heads(pass *p, heads *h) {
    tensor *all[] = {h->q, h->q_sink, h->k, h->v};
    for (int i = 0; i < 4; i++) tensor_release(p->g, all[i]);
    *h = (heads){0};
}

static graph_projection projection_of(const pass *p, const layer_weights *w, bool queries, bool keys) {
    graph_projection a = {.norm = w->input_norm, .eps = (float)p->m->config->rms_norm_eps};
    tensor *weights[] = {w->q, w->k, w->v}, *biases[] = {w->q_bias, w->k_bias, w->v_bias};
    for (int i = queries ? 0 : 1; i < (keys ? 3 : 1); i++) {
        a.weight[a.parts] = weights[i];
        a.bias[a.parts++] = biases[i];
    }
    return a;
}

static void name_parts(tensor *const made[PROJECT_PARTS], bool queries, bool keys, heads *out) {
    out->q = queries ? made[0] : NULL;
    if (keys) out->k = made[queries], out->v = made[queries + 1];
}

static int project(pass *p, const layer_weights *w, tensor *x, bool queries, bool keys, heads *out) {
    graph_projection a = projection_of(p, w, queries, keys);
    tensor *made[PROJECT_PARTS];
    TRY(graph_project(p->g, x, &a, made));
    name_parts(made, queries, keys, out);
    if (queries) TRY(head_norm(p, w->q_norm, out->q, &out->q));
    return keys ? head_norm(p, w->k_norm, out->k, &out->k) : LCKV_OK;
}

/* All of make_heads() as one op, where keys, if any, go straight to the cache and nothing comes between products and
 * rotation. */
static int make_at_once(pass *p, int slot, const layer_weights *w, tensor *x, bool queries, bool keys, heads *out,
                        bool *done) {
    graph_projection a = projection_of(p, w, queries, keys);
    struct kv_pages pages;
    view index = {0};
    tensor *made[PROJECT_PARTS];
    *done = !w->q_norm && !(queries && p->rows->sink_angles) && graph_may_join_heads(p->g, x, &a) &&
            (!keys || pass_appends(p, slot, &pages, &index));
    if (!*done) return LCKV_OK;
    TRY(graph_heads(p->g, x, &a, queries, p->rows->angles, index, keys ? &pages : NULL, made));
    name_parts(made, queries, keys, out);
    if (keys) pass_set_slot(p, slot, out->k, out->v);
    return LCKV_OK;
}

static int rotate(pass *p, tensor **x, tensor *angles) {
    tensor *rotated;
    TRY(graph_rope(p->g, *x, angles, &rotated));
    tensor_release(p->g, *x);
    *x = rotated;
    return LCKV_OK;
}

/* Queries of x [rows, hidden_size], and keys and values, which go into the layer's slot. */
static int make_heads(pass *p, int layer, const layer_weights *w, tensor *x, bool queries, bool keys, heads *out) {
    int slot = p->m->config->map.slot_of_layer[layer];
    bool done;
    *out = (heads){0};
    if (!queries && !keys) return LCKV_OK;
    TRY(make_at_once(p, slot, w, x, queries, keys, out, &done));
    if (!done) {
        TRY(project(p, w, x, queries, keys, out));
        if (queries && p->rows->sink_angles) TRY(graph_rope(p->g, out->q, p->rows->sink_angles, &out->q_sink));
        TRY(keys ? pass_write_slot(p, slot, &out->q, &out->k, out->v) : rotate(p, &out->q, p->rows->angles));
    }
    if (!keys) return LCKV_OK;
    TRY(show(p, layer, LAYER_K, out->k->value));
    return show(p, layer, LAYER_V, out->v->value);
}

/* Queries on the slot that the layer reads -> [rows, heads * head_dim]. */
static int attend(pass *p, int layer, const heads *h, tensor **out) {
    graph *g = p->g;
    tensor *k, *v;
    struct op_attention a;
    TRY(pass_attention(p, layer, &a, &k, &v));
    TRY(graph_attention(g, h->q, h->q_sink, k, v, &a, out));
    tensor_release(g, k);
    tensor_release(g, v);
    return LCKV_OK;
}

/* x + o_proj(attention). Without queries, which then see zeros alone, the product is zero and only a bias is left of
 * it.
 */
static int attention_block(pass *p, int layer, const layer_weights *w, tensor *x, const heads *h, tensor **out) {
    graph *g = p->g;
    const model_config *c = p->m->config;
    const view nothing = {NULL, x->value.rows, (int64_t)c->heads * c->head_dim, DTYPE_F32};
    tensor *attended, *branch;
    if (h->q) {
        TRY(attend(p, layer, h, &attended));
        TRY(show(p, layer, LAYER_ATTN, attended->value));
        TRY(graph_linear_add(g, attended, w->o, w->o_bias, x, out));
        tensor_release(g, attended);
        return LCKV_OK;
    }
    TRY(show(p, layer, LAYER_ATTN, nothing));
    if (!w->o_bias) {
        *out = tensor_hold(x);
        return LCKV_OK;
    }
    TRY(graph_bias(g, w->o_bias, x->value.rows, &branch));
    TRY(graph_add(g, x, branch, out));
    tensor_release(g, branch);
    return LCKV_OK;
}

/* x + down_proj(silu(gate_proj(norm(x))) * up_proj(norm(x))). */
static int mlp_block(pass *p, const layer_weights *w, tensor *x, tensor **out) {
    const graph_projection a = {.norm = w->post_norm,
                                .eps = (float)p->m->config->rms_norm_eps,
                                .parts = 2,
                                .weight = {w->gate, w->up},
                                .bias = {w->gate_bias, w->up_bias}};
    tensor *inner;
    TRY(graph_project_gated(p->g, x, &a, &inner));
    TRY(graph_linear_add(p->g, inner, w->down, w->down_bias, x, out));
    tensor_release(p->g, inner);
    return LCKV_OK;
}

/* From here on only wanted rows matter: narrows x, which the caller holds, to them. */
static int narrow(pass *p, tensor **x) {
    tensor *wide = *x;
    TRY(pass_want(p));
    TRY(graph_gather_rows(p->g, wide, p->b->wanted_rows, x));
    tensor_release(p->g, wide);
    p->rows = &p->wanted;
    return LCKV_OK;
}

static int run(pass *p, int layer, layer_part part, const layer_weights *w, tensor *x, tensor **out) {
    graph *g = p->g;
    const layer_map *map = &p->m->config->map;
    int own = map->slot_of_layer[layer], source = map->slot_of_source[layer];
    bool narrows = part == LAYER_NARROW && p->b->wanted, whole = part == LAYER_WHOLE || narrows;
    bool queries = whole && (source == own || !pass_sees_nothing(p, source));
    heads h;
    tensor *middle;
    *out = NULL;
    TRY(make_heads(p, layer, w, x, queries && !narrows, own >= 0, &h));
    tensor_hold(x);
    if (narrows) {
        release_heads(p, &h);
        TRY(narrow(p, &x));
        TRY(make_heads(p, layer, w, x, queries, false, &h));
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

static int run_with_weights(pass *p, int layer, layer_part part, tensor *x, tensor **out) {
    const layer_weights *w = params_layer_begin(p->m->params, layer);
    int status = run(p, layer, part, w, x, out);
    params_layer_end(p->m->params, layer);
    return status;
}

/* ---------------------------------------------------------------- a layer that runs again */

/* What a layer runs on, for when its pass is gone. */
typedef struct layer_work {
    const model *m;
    const batch *b;
    int layer;
    layer_part part;
    row_set rows;
} layer_work;

enum { IN_X, IN_ANGLES, IN_K, IN_V, OUT_X = 0, OUT_K, OUT_V };

_Static_assert(sizeof(layer_work) <= WORK_BYTES, "a graph has no room for a layer's work");

static void hold_slot(pass *p, int slot, tensor *k, tensor *v) {
    p->k[slot] = k ? tensor_hold(k) : NULL;
    p->v[slot] = v ? tensor_hold(v) : NULL;
}

/* The slot that it reads comes in unless the layer writes it first; the one that it writes goes out. */
static int run_work(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]) {
    layer_work w;
    pass p;
    memcpy(&w, what, sizeof w);
    const layer_map *map = &w.m->config->map;
    int own = map->slot_of_layer[w.layer];
    int status = pass_begin_on(w.m, g, w.b, &w.rows, &p);
    if (status >= 0) {
        hold_slot(&p, map->slot_of_source[w.layer], in[IN_K], in[IN_V]);
        status = run_with_weights(&p, w.layer, w.part, in[IN_X], &out[OUT_X]);
    }
    if (status >= 0 && own >= 0) {
        out[OUT_K] = tensor_hold(p.k[own]);
        out[OUT_V] = tensor_hold(p.v[own]);
    }
    pass_end(&p);
    return status;
}

static int recompute(pass *p, int layer, layer_part part, tensor *x, tensor **out) {
    const layer_map *map = &p->m->config->map;
    int own = map->slot_of_layer[layer], source = map->slot_of_source[layer];
    layer_work w = {.m = p->m, .b = p->b, .layer = layer, .part = part, .rows = *p->rows};
    graph_work work = {.run = run_work, .what = &w, .bytes = sizeof w, .in = {x, p->rows->angles}};
    tensor *made[WORK_OUTPUTS] = {NULL};
    if (part == LAYER_WHOLE && source != own) {
        work.in[IN_K] = p->k[source];
        work.in[IN_V] = p->v[source];
    }
    TRY(graph_recompute(p->g, &work, made));
    *out = made[OUT_X];
    if (own < 0) return LCKV_OK;
    pass_set_slot(p, own, made[OUT_K], made[OUT_V]);
    tensor_release(p->g, made[OUT_K]);
    tensor_release(p->g, made[OUT_V]);
    return LCKV_OK;
}

/* A layer by itself is a function of its rows and of the slot that it reads; not where rows of slots are written one by
 * one, pages are appended to, or the wanted rows are chosen inside. */
static bool may_recompute(const pass *p, layer_part part) {
    return p->g->recompute && p->g->recording && !p->cache && !p->slot_rows.data && part != LAYER_NARROW;
}

int layer_forward(pass *p, int layer, layer_part part, tensor *x, tensor **out) {
    return may_recompute(p, part) ? recompute(p, layer, part, x, out) : run_with_weights(p, layer, part, x, out);
}
