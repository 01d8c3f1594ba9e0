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
    for (int i = 0; i < WORK_OUTPUTS; i++)
        if (fresh->outputs[i]) fresh->outputs[i]->holders++;
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

/* One use of t fewer; a weight whose gradient is whole now is announced. */
static int end_use(graph *g, tensor *t) {
    bool whole = --t->uses == 0 && t->weight && g->gradient_ready;
    return whole ? g->gradient_ready(g->gradient_ready_user, t) : LCKV_OK;
}

static void release_record(graph *g, record *r) {
    for (int i = 0; i < RECORD_INPUTS; i++) {
        if (r->in[i]) tensor_drop(g, r->in[i]);
        tensor_release(g, r->kept[i]);
    }
    tensor_release(g, r->saved);
    for (int i = 0; i < WORK_OUTPUTS; i++)
        if (r->outputs[i]) tensor_drop(g, r->outputs[i]);
    if (r->out) tensor_drop(g, r->out);
}

static int finish_record(graph *g, record *r) {
    for (int i = 0; i < RECORD_INPUTS; i++)
        if (r->in[i]) TRY(end_use(g, r->in[i]));
    if (r->out) tensor_drop_gradient(g, r->out); /* whole and used: every reader of `out` stands later on the tape */
    release_record(g, r);
    return LCKV_OK;
}

int tape_walk(graph *g, int first) {
    tape *t = g->tape;
    while (t->count > first) {
        int last = t->count - 1;
        record *r = &t->records[last];
        /* Where no gradient has reached the output there is none to hand on. */
        if (!r->out || r->out->grad.data) TRY(r->backward(g, r));
        TRY(finish_record(g, &t->records[last])); /* work that has run again may have moved the records */
        t->count--;
    }
    return LCKV_OK;
}

int graph_backward(graph *g) {
    return tape_walk(g, 0);
}

/* ---------------------------------------------------------------- records that will be pushed again */

static int owe(tape *t, tensor *weight) {
    if (t->owed_count == t->owed_capacity) {
        int capacity = t->owed_capacity ? 2 * t->owed_capacity : 256;
        tensor **owed = realloc(t->owed, (size_t)capacity * sizeof *owed);
        REQUIRE(owed, LCKV_ERROR_MEMORY, "no memory for a tape's list of %d weights", capacity);
        t->owed = owed;
        t->owed_capacity = capacity;
    }
    t->owed[t->owed_count++] = weight;
    return LCKV_OK;
}

int tape_forget(graph *g, int first, int *owed) {
    tape *t = g->tape;
    int before = t->owed_count;
    while (t->count > first) {
        record *r = &t->records[t->count - 1];
        for (int i = 0; i < RECORD_INPUTS; i++) {
            if (!r->in[i]) continue;
            if (r->in[i]->weight)
                TRY(owe(t, r->in[i]));
            else
                r->in[i]->uses--;
        }
        release_record(g, r);
        t->count--;
    }
    *owed = t->owed_count - before;
    return LCKV_OK;
}

int tape_settle(graph *g, int owed, bool announced) {
    tape *t = g->tape;
    for (int i = 0; i < owed; i++) {
        tensor *weight = t->owed[--t->owed_count];
        if (announced)
            TRY(end_use(g, weight));
        else
            weight->uses--;
    }
    return LCKV_OK;
}
