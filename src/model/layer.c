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

/* h [rows, hidden_size] -> rotated keys, and values, into the slot. */
static int keys_values(pass *p, int layer, const layer_weights *w, tensor *h) {
    graph *g = p->g;
    tensor *k, *rotated, *v;
    TRY(graph_linear(g, h, w->k, w->k_bias, g->compute, &k));
    TRY(head_norm(p, w->k_norm, k, &k));
    TRY(graph_rope(g, k, p->rows->angles, &rotated));
    tensor_release(g, k);
    TRY(graph_linear(g, h, w->v, w->v_bias, g->compute, &v));
    TRY(show(p, layer, LAYER_K, rotated->value));
    TRY(show(p, layer, LAYER_V, v->value));
    TRY(pass_write_slot(p, p->m->config->map.slot_of_layer[layer], rotated, v));
    tensor_release(g, rotated);
    tensor_release(g, v);
    return LCKV_OK;
}

/* Queries of h on the slot that the layer reads -> [rows, heads * head_dim]. */
static int attend(pass *p, int layer, const layer_weights *w, tensor *h, tensor **out) {
    graph *g = p->g;
    tensor *q, *rotated, *sink = NULL, *k, *v;
    struct op_attention a;
    TRY(graph_linear(g, h, w->q, w->q_bias, g->compute, &q));
    TRY(head_norm(p, w->q_norm, q, &q));
    TRY(graph_rope(g, q, p->rows->angles, &rotated));
    if (p->rows->sink_angles) TRY(graph_rope(g, q, p->rows->sink_angles, &sink));
    tensor_release(g, q);
    TRY(pass_attention(p, layer, &a, &k, &v));
    TRY(graph_attention(g, rotated, sink, k, v, &a, out));
    tensor_release(g, rotated);
    tensor_release(g, sink);
    tensor_release(g, k);
    tensor_release(g, v);
    return LCKV_OK;
}

/* x + o_proj(attention). Where the queries see zeros alone the product is zero and only a bias is left of it. */
static int attention_block(pass *p, int layer, const layer_weights *w, tensor *x, tensor *h, tensor **out) {
    graph *g = p->g;
    const model_config *c = p->m->config;
    const view nothing = {NULL, x->value.rows, (int64_t)c->heads * c->head_dim, DTYPE_F32};
    tensor *heads, *branch;
    if (!pass_sees_nothing(p, c->map.slot_of_source[layer])) {
        TRY(attend(p, layer, w, h, &heads));
        TRY(show(p, layer, LAYER_ATTN, heads->value));
        TRY(graph_linear(g, heads, w->o, w->o_bias, DTYPE_F32, &branch));
        tensor_release(g, heads);
    } else if (w->o_bias) {
        TRY(show(p, layer, LAYER_ATTN, nothing));
        TRY(graph_bias(g, w->o_bias, x->value.rows, &branch));
    } else {
        TRY(show(p, layer, LAYER_ATTN, nothing));
        *out = tensor_hold(x);
        return LCKV_OK;
    }
    TRY(graph_add(g, x, branch, out));
    tensor_release(g, branch);
    return LCKV_OK;
}

/* x + down_proj(silu(gate_proj(norm(x))) * up_proj(norm(x))). */
static int mlp_block(pass *p, const layer_weights *w, tensor *x, tensor **out) {
    graph *g = p->g;
    tensor *h, *gate, *up, *inner, *branch;
    TRY(graph_rms_norm(g, x, w->post_norm, (float)p->m->config->rms_norm_eps, g->compute, &h));
    TRY(graph_linear(g, h, w->gate, w->gate_bias, g->compute, &gate));
    TRY(graph_linear(g, h, w->up, w->up_bias, g->compute, &up));
    tensor_release(g, h);
    TRY(graph_swiglu(g, gate, up, &inner));
    tensor_release(g, gate);
    tensor_release(g, up);
    TRY(graph_linear(g, inner, w->down, w->down_bias, DTYPE_F32, &branch));
    tensor_release(g, inner);
    TRY(graph_add(g, x, branch, out));
    tensor_release(g, branch);
    return LCKV_OK;
}

/* From here on only wanted rows matter: narrows x and h, which the caller holds, to them. */
static int narrow(pass *p, tensor **x, tensor **h) {
    tensor *wide_x = *x, *wide_h = *h;
    TRY(pass_want(p));
    TRY(graph_gather_rows(p->g, wide_x, p->b->wanted_rows, x));
    TRY(graph_gather_rows(p->g, wide_h, p->b->wanted_rows, h));
    tensor_release(p->g, wide_x);
    tensor_release(p->g, wide_h);
    p->rows = &p->wanted;
    return LCKV_OK;
}

static int run(pass *p, int layer, layer_part part, const layer_weights *w, tensor *x, tensor **out) {
    graph *g = p->g;
    tensor *h, *middle;
    *out = NULL;
    TRY(graph_rms_norm(g, x, w->input_norm, (float)p->m->config->rms_norm_eps, g->compute, &h));
    if (p->m->config->map.slot_of_layer[layer] >= 0) TRY(keys_values(p, layer, w, h));
    tensor_hold(x);
    if (part == LAYER_NARROW && p->b->wanted) TRY(narrow(p, &x, &h));
    if (part == LAYER_WHOLE || (part == LAYER_NARROW && p->b->wanted)) {
        TRY(attention_block(p, layer, w, x, h, &middle));
        TRY(mlp_block(p, w, middle, out));
        TRY(show(p, layer, LAYER_HIDDEN, (*out)->value));
        tensor_release(g, middle);
    }
    tensor_release(g, x);
    tensor_release(g, h);
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
    TRY(pass_write_slot(p, own, made[OUT_K], made[OUT_V]));
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
