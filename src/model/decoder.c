/* The forward pass: embedding, the steps of the plan, the final norm. See decoder.h; layer.c runs one layer. */
#include "model/pass.h"
#include "model/ranks/rank_group.h"
#include "model/shards/weights_use.h"

/* The input of a step. An iteration that does not commit runs on the planned rows only. */
static int step_input(pass *p, const plan_step *step, tensor *x, tensor **out) {
    p->step = step;
    p->commits = step->commit;
    if (p->rows == &p->wanted) { /* narrowed before */
        *out = tensor_hold(x);
        return LCKV_OK;
    }
    p->rows = step->commit ? &p->all : &p->planned;
    if (p->rows->rows == x->value.rows) {
        *out = tensor_hold(x);
        return LCKV_OK;
    }
    return graph_prefix(p->g, x, p->rows->rows, out);
}

/* The part of a layer that a step needs. Of the last layer of a non-committing iteration only keys and values are
 * needed; above the last stored keys and values only wanted rows are. */
static layer_part part_of(const pass *p, const plan_step *step, int layer) {
    if (!step->commit && layer == step->last) return LAYER_KV;
    if (layer == p->m->last_slot_layer && step->commit && !p->b->wants_all) return LAYER_NARROW;
    return LAYER_WHOLE;
}

/* The weights that are used after those of a layer: of the layer above it, or of the final norm; before another
 * iteration, those of the loop's first layer. */
static int unit_after(const plan_step *step, int layer) {
    return weights_of_layer(layer < step->last || step->commit ? layer + 1 : step->first);
}

int decoder_run_step(pass *p, const plan_step *step, tensor **x) {
    tensor *y, *next;
    TRY(step_input(p, step, *x, &y));
    TRY(pass_start_loop(p, step, y));
    for (int layer = step->first; y && layer <= step->last; layer++) {
        p->next_unit = unit_after(step, layer);
        TRY(layer_forward(p, layer, part_of(p, step, layer), y, &next));
        tensor_release(p->g, y);
        y = next;
    }
    if (!step->commit) {
        tensor_release(p->g, y);
        return LCKV_OK;
    }
    tensor_release(p->g, *x);
    *x = y;
    return pass_end_loop(p, step);
}

/* Whether the slots of a loop have changed so little that the next iteration can commit. The first iteration has no
 * change. */
static int find_converged(const pass *p, bool *converged) {
    device *d = p->g->device;
    double sums[2], tolerance = p->b->tolerance;
    *converged = false;
    if (!p->change) return LCKV_OK;
    TRY(rank_group_sum(p->m->ranks, p->change->value));
    TRY(d->memory.copy_out(d, sums, p->change->value.data, sizeof sums));
    TRY(d->memory.wait(d));
    *converged = sums[1] > 0 && sums[0] < tolerance * tolerance * sums[1];
    return LCKV_OK;
}

static int begin_measure(pass *p) {
    device *d = p->g->device;
    return p->change ? d->memory.zero(d, p->change->value.data, view_bytes(p->change->value)) : LCKV_OK;
}

/* A loop's weights stay gathered over its iterations, unless each iteration gathers them again. */
static bool holds_loop(const pass *p, const plan_step *step) {
    const shards *s = p->m->params->shards;
    return s && step->in_loop && !s->regathers_loops;
}

int decoder_begin_loop(pass *p, const plan_step *step) {
    return holds_loop(p, step) ? weights_hold(p->m->params, p->g, weights_of_layers(step->first, step->last)) : LCKV_OK;
}

int decoder_end_loop(pass *p, const plan_step *step) {
    return holds_loop(p, step) ? weights_let_go(p->m->params, p->g, weights_of_layers(step->first, step->last))
                               : LCKV_OK;
}

/* One step of a recorded plan is recorded if it has a gradient. */
static int run_recorded(pass *p, const plan_step *step, bool recording, tensor **x, bool *converged) {
    if (step->iteration == 0) TRY(decoder_begin_loop(p, step));
    p->g->recording = recording && step->with_grad;
    TRY(begin_measure(p));
    TRY(decoder_run_step(p, step, x));
    TRY(find_converged(p, converged));
    p->g->recording = recording;
    return step->commit ? decoder_end_loop(p, step) : LCKV_OK;
}

static int run_plan(pass *p, tensor **x) {
    const plan *steps = p->b->plan ? p->b->plan : &p->m->plan;
    bool recording = p->g->recording, converged = false;
    /* Decoding alone has no iterations to choose. It may be recorded, which forbids reading the change. */
    bool measures = p->b->tolerance > 0 && p->b->plan_rows;
    int status = measures ? graph_zeros(p->g, 1, 2, DTYPE_F64, &p->change) : LCKV_OK;
    for (int i = 0; i < steps->count && *x && status >= 0; i++) {
        const plan_step *step = &steps->steps[i];
        if (step->commit || step->iteration == 0) converged = false;
        if (!step->commit && (!p->b->plan_rows || converged))
            continue; /* decoding rows run only in iterations that commit */
        status = run_recorded(p, step, recording, x, &converged);
    }
    p->g->recording = recording;
    return status;
}

int decoder_last_norm(const model *m, graph *g, tensor *x, tensor **hidden) {
    int norm = weights_of(m->params, m->params->norm);
    TRY(weights_begin(m->params, g, norm, weights_of(m->params, m->params->head)));
    TRY(graph_rms_norm(g, x, m->params->norm, (float)m->config->rms_norm_eps, g->compute, hidden));
    tensor_release(g, x);
    return weights_end(m->params, g, norm, true);
}

int decoder_embed(pass *p, tensor **x) {
    const batch *b = p->b;
    params *weights = p->m->params;
    int embed = weights_of(weights, weights->embed);
    TRY(weights_begin_pass(weights, p->g));
    TRY(weights_begin(weights, p->g, embed, weights_of_layer(0)));
    TRY(b->previous.data ? graph_embed_chosen(p->g, b->ids, b->previous, b->from, weights->embed, x)
                         : graph_embed(p->g, b->ids, weights->embed, x));
    return weights_end(weights, p->g, embed, false);
}

static int forward(pass *p, tensor **hidden) {
    tensor *x;
    if (p->b->reads_previous) TRY(rank_group_share(p->m->ranks, p->b->previous));
    TRY(decoder_embed(p, &x));
    TRY(run_plan(p, &x));
    return x ? decoder_last_norm(p->m, p->g, x, hidden) : LCKV_OK;
}

int decoder_forward(const model *m, graph *g, const batch *b, kv_cache *cache, tensor **hidden) {
    pass p;
    *hidden = NULL;
    int status = pass_begin(m, g, b, cache, &p);
    if (status >= 0) status = forward(&p, hidden);
    pass_end(&p);
    return status;
}

int decoder_logits(const model *m, graph *g, tensor *hidden, tensor **logits) {
    return graph_linear(g, hidden, m->params->head, NULL, DTYPE_F32, logits);
}

int decoder_loss(const model *m, graph *g, const batch *b, tensor *hidden, view scale, view loss, view nll,
                 view correct) {
    struct op_linear_cross_entropy a = {
        .labels = b->labels, .scale = scale, .loss = loss, .nll = nll, .correct = correct};
    params *p = m->params;
    int head = weights_of(p, p->head);
    bool tied = p->head == p->embed; /* its gradient is complete after that of the embedding */
    TRY(tied ? weights_begin_again(p, head) : weights_begin(p, g, head, -1));
    TRY(weights_take_gradients(p, g, head));
    TRY(graph_linear_cross_entropy(g, hidden, p->head, &a));
    return tied ? weights_end_again(p, head) : weights_end(p, g, head, false);
}
