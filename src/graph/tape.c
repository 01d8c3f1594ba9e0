/* The tape, see tape.h: reverse-mode differentiation over an array of records (as in Griewank and Walther, "Evaluating
 * Derivatives", chapter 3). */
#include "graph/tape.h"

#include <stdlib.h>
#include <string.h>

bool tape_wants(const graph *g, tensor *const *inputs, int count) {
    if (!g->tape || !g->recording) return false;
    for (int i = 0; i < count; i++)
        if (inputs[i] && inputs[i]->needs_grad) return true;
    return false;
}

static int reserve_record(tape *t) {
    if (t->count < t->capacity) return LCKV_OK;
    int capacity = t->capacity ? 2 * t->capacity : 256;
    record *records = realloc(t->records, (size_t)capacity * sizeof *records);
    REQUIRE(records, LCKV_ERROR_MEMORY, "no memory for a tape of %d records", capacity);
    t->records = records;
    t->capacity = capacity;
    return LCKV_OK;
}

int tape_push(graph *g, const record *r) {
    TRY(reserve_record(g->tape));
    record *fresh = &g->tape->records[g->tape->count++];
    *fresh = *r;
    if (fresh->out) {
        fresh->out->needs_grad = true;
        fresh->out->holders++;
    }
    for (int i = 0; i < RECORD_INPUTS; i++) {
        if (fresh->in[i] && !fresh->in[i]->needs_grad) fresh->in[i] = NULL;
        if (fresh->in[i]) {
            fresh->in[i]->holders++;
            fresh->in[i]->uses++;
        }
        if (fresh->kept[i]) tensor_hold(fresh->kept[i]);
    }
    if (fresh->saved) tensor_hold(fresh->saved);
    return LCKV_OK;
}

int tensor_gradient(graph *g, tensor *t, view *out) {
    *out = (view){0};
    if (!t || !t->needs_grad) return LCKV_OK;
    if (!t->grad.data) {
        TRY(pool_take(g->pool, view_bytes(t->grad), &t->grad.data));
        TRY(g->device->memory.zero(g->device, t->grad.data, view_bytes(t->grad)));
    }
    *out = t->grad;
    return LCKV_OK;
}

/* A record lets go of its tensors; a weight whose gradient is whole now is announced. */
static int finish_record(graph *g, record *r) {
    for (int i = 0; i < RECORD_INPUTS; i++) {
        tensor *t = r->in[i];
        if (t && --t->uses == 0 && t->weight && g->gradient_ready) TRY(g->gradient_ready(g->gradient_ready_user, t));
    }
    for (int i = 0; i < RECORD_INPUTS; i++) {
        if (r->in[i]) tensor_drop(g, r->in[i]);
        tensor_release(g, r->kept[i]);
    }
    tensor_release(g, r->saved);
    if (r->out) {
        tensor_drop_gradient(g, r->out); /* whole and used: every reader of `out` stands later on the tape */
        tensor_drop(g, r->out);
    }
    return LCKV_OK;
}

int graph_backward(graph *g) {
    while (g->tape->count) {
        record *r = &g->tape->records[g->tape->count - 1];
        /* Where no gradient has reached the output there is none to hand on. */
        if (!r->out || r->out->grad.data) TRY(r->backward(g, r));
        TRY(finish_record(g, r));
        g->tape->count--;
    }
    return LCKV_OK;
}
