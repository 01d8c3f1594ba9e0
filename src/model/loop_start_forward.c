/* The forward pass of a learned start: existing ops in the order of the formulas in loop_start.h; and its regression on
 * the slot's last values. Gradients reach its own weights alone: hidden states are an input, and the loop's first
 * iteration reads the prediction as a constant. */
#include "model/pass.h"
#include "model/shards/weights_use.h"

/* The normalized states of each row and of the two rows before it, side by side: [rows, 3 * hidden_size]. A row of the
 * gathered matrix is a third of a row of the result. */
static int join_tokens(pass *p, tensor *x, tensor **out) {
    graph *g = p->g;
    int64_t rows = x->value.rows, parts = rows * LOOP_START_TOKENS;
    tensor *normed, *gathered;
    TRY(graph_rms_norm(g, x, &p->m->loop_start->unit, (float)p->m->config->rms_norm_eps, g->compute, &normed));
    TRY(graph_gather_rows(g, normed, view_rows(p->b->nearby, 0, parts), &gathered));
    TRY(graph_reshape(g, gathered, rows, LOOP_START_TOKENS * x->value.cols, out));
    tensor_release(g, normed);
    tensor_release(g, gathered);
    return LCKV_OK;
}

static int run_hidden_layer(pass *p, const loop_start_net *net, tensor *x, tensor **out) {
    graph *g = p->g;
    tensor *joined, *gate, *up;
    bool recording = g->recording;
    g->recording = false;
    int status = join_tokens(p, x, &joined);
    g->recording = recording;
    TRY(status);
    TRY(graph_linear(g, joined, net->gate, net->gate_bias, g->compute, &gate));
    TRY(graph_linear(g, joined, net->up, NULL, g->compute, &up));
    TRY(graph_swiglu(g, gate, up, out));
    tensor_release(g, joined);
    tensor_release(g, gate);
    tensor_release(g, up);
    return LCKV_OK;
}

static int run_output(pass *p, const loop_start_slot *s, tensor *hidden) {
    graph *g = p->g;
    tensor *unrotated = NULL, *k = NULL, *v = NULL;
    if (s->k) {
        TRY(graph_linear(g, hidden, s->k, s->k_bias, g->compute, &unrotated));
        TRY(graph_rope(g, unrotated, p->rows->angles, &k));
    }
    if (s->v) TRY(graph_linear(g, hidden, s->v, s->v_bias, g->compute, &v));
    pass_set_slot(p, s->slot, k, v);
    tensor_release(g, unrotated);
    tensor_release(g, k);
    tensor_release(g, v);
    return LCKV_OK;
}

const loop_start_net *pass_loop_start(const pass *p, const plan_step *step) {
    const loop_start *s = p->m->loop_start;
    if (!s || !step->in_loop) return NULL;
    for (int i = 0; i < s->net_count; i++)
        if (s->nets[i].first_layer == step->first) return &s->nets[i];
    return NULL;
}

static int predict(pass *p, const loop_start_net *net, tensor *x) {
    tensor *hidden;
    TRY(run_hidden_layer(p, net, x, &hidden));
    for (int i = 0; i < net->slot_count; i++) TRY(run_output(p, &net->slots[i], hidden));
    tensor_release(p->g, hidden);
    return LCKV_OK;
}

int pass_predict(pass *p, const loop_start_net *net, tensor *x) {
    bool recording = p->g->recording;
    params *weights = p->m->loop_start->weights;
    int unit = weights_of(weights, net->gate);
    p->g->recording = p->learns;
    int status = weights_begin(weights, p->g, unit, -1);
    if (status >= 0) status = predict(p, net, x);
    if (status >= 0) status = weights_end(weights, p->g, unit, true);
    p->g->recording = recording;
    return status;
}

int pass_regress(pass *p, const loop_start_slot *s, tensor *k, tensor *v, const tensor *target_k,
                 const tensor *target_v) {
    const loop_start_loss *loss = p->b->start_loss;
    int keys = 2 * s->slot, values = keys + 1;
    bool recording = p->g->recording;
    int status = LCKV_OK;
    p->g->recording = true;
    if (s->k) status = graph_square_loss(p->g, k, target_k, loss->scales[keys], view_rows(loss->sums, keys, 1));
    if (s->v && status >= 0)
        status = graph_square_loss(p->g, v, target_v, loss->scales[values], view_rows(loss->sums, values, 1));
    p->g->recording = recording;
    return status;
}

/* ---------------------------------------------------------------- in the plan */

/* The loop reads the values without their gradient; the prediction is kept for the loss. */
static int detach(pass *p, tensor **newest, tensor **prediction) {
    *prediction = *newest;
    *newest = NULL;
    return *prediction ? graph_prefix(p->g, *prediction, (*prediction)->value.rows, newest) : LCKV_OK;
}

/* Rows that are not planned need no start. */
int pass_start_loop(pass *p, const plan_step *step, tensor *x) {
    const loop_start_net *net = pass_loop_start(p, step);
    if (!net || step->iteration || !p->b->plan_rows || p->exact_k) return LCKV_OK;
    TRY(pass_predict(p, net, x));
    for (int i = 0; p->learns && i < net->slot_count; i++) {
        int slot = net->slots[i].slot;
        TRY(detach(p, &p->k[slot], &p->start_k[slot]));
        TRY(detach(p, &p->v[slot], &p->start_v[slot]));
    }
    return LCKV_OK;
}

static void release(graph *g, tensor **t) {
    tensor_release(g, *t);
    *t = NULL;
}

int pass_end_loop(pass *p, const plan_step *step) {
    const loop_start_net *net = p->learns && !p->exact_k ? pass_loop_start(p, step) : NULL;
    for (int i = 0; net && i < net->slot_count; i++) {
        int slot = net->slots[i].slot;
        TRY(pass_regress(p, &net->slots[i], p->start_k[slot], p->start_v[slot], p->k[slot], p->v[slot]));
        release(p->g, &p->start_k[slot]);
        release(p->g, &p->start_v[slot]);
    }
    return LCKV_OK;
}
