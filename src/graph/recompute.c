/* Activation checkpointing: work that keeps only its inputs and runs again in the backward pass; see
 * graph_recompute() in graph.h.
 *
 * In the forward pass its records are pushed and then removed together; one record stands for them. Walking this
 * record runs the work again, gives the gradients of the old outputs to the new ones, and walks the new records.
 * They read and add to the same inputs in the same order as before, so that the bits are the same. */
#include "graph/tape.h"

#include <string.h>

static bool any_gradient(tensor *const out[WORK_OUTPUTS]) {
    for (int i = 0; i < WORK_OUTPUTS; i++)
        if (out[i] && out[i]->grad.data) return true;
    return false;
}

/* Moves the gradients of the outputs to the same outputs made again. */
static void move_gradients(graph *g, tensor *const from[WORK_OUTPUTS], tensor *const to[WORK_OUTPUTS]) {
    for (int i = 0; i < WORK_OUTPUTS; i++)
        if (from[i] && from[i]->grad.data) tensor_move_gradient(g, from[i], to[i]);
}

/* With the same dropout masks as the first time. */
static int run_again(graph *g, const record *r) {
    tensor *fresh[WORK_OUTPUTS] = {NULL};
    bool recording = g->recording;
    uint64_t masks = g->masks;
    g->recording = true;
    g->masks = r->op.recompute.masks;
    int status = r->op.recompute.run(g, r->op.recompute.what, r->reads, fresh);
    g->recording = recording;
    g->masks = masks;
    TRY(status);
    move_gradients(g, r->outputs, fresh);
    for (int i = 0; i < WORK_OUTPUTS; i++) tensor_release(g, fresh[i]);
    return LCKV_OK;
}

static int recompute_backward(graph *g, record *walked) {
    record r = *walked; /* the records may move */
    int first = g->tape->count;
    if (!any_gradient(r.outputs)) return g->keeping ? LCKV_OK : tape_end_pending(g, r.op.recompute.pending, true);
    TRY(run_again(g, &r));
    if (g->keeping)
        tape_mark_sought(g, first);
    else
        TRY(tape_end_pending(g, r.op.recompute.pending, false)); /* the new records use these weights now */
    return tape_walk(g, first);
}

static int push(graph *g, const graph_work *work, int pending, uint64_t masks, tensor *const out[WORK_OUTPUTS]) {
    record r = {.backward = recompute_backward, .op.recompute = {.run = work->run, .pending = pending, .masks = masks}};
    memcpy(r.in, work->in, sizeof work->in);
    memcpy(r.reads, work->in, sizeof work->in);
    memcpy(r.outputs, out, sizeof r.outputs);
    memcpy(r.op.recompute.what, work->what, work->bytes);
    return tape_push(g, &r);
}

int graph_recompute(graph *g, const graph_work *work, tensor *out[WORK_OUTPUTS]) {
    int first = g->tape->count, pending;
    uint64_t masks = g->masks;
    TRY(work->run(g, work->what, work->in, out));
    if (g->tape->count == first) return LCKV_OK; /* nothing in it needs a gradient */
    TRY(tape_detach(g, first, &pending));
    return push(g, work, pending, masks, out);
}
