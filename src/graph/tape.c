/* The tape; see tape.h. Reverse-mode differentiation over an array of records (Griewank and Walther, "Evaluating
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
            if (++fresh->in[i]->uses > 1) again_keep(fresh->in[i]);
        }
        if (fresh->reads[i]) tensor_hold(fresh->reads[i]);
    }
    for (int i = 0; i < WORK_OUTPUTS; i++)
        if (fresh->outputs[i]) fresh->outputs[i]->holders++;
    if (fresh->x) again_hold(g, fresh->x);
    if (fresh->saved) tensor_hold(fresh->saved);
    return LCKV_OK;
}

/* Borrowed tensors are what a loop reads. */
bool tape_receives(const graph *g, const tensor *t) {
    return t && t->needs_grad && (g->keeping ? t->sought : !t->borrowed);
}

/* A sum of several gradients is f32, so that it is not rounded after each. */
static dtype gradient_type(const graph *g, const tensor *t) {
    bool narrow = g->device->compute_gradients && t->uses <= 1 && !t->wide_grad;
    return narrow ? t->value.type : DTYPE_F32;
}

int tensor_gradient(graph *g, tensor *t, view *out) {
    *out = (view){0};
    if (!tape_receives(g, t)) return LCKV_OK;
    bool fresh = !t->grad.data;
    if (fresh) {
        t->grad.type = gradient_type(g, t);
        TRY(pool_take(g->pool, view_bytes(t->grad), &t->grad.data));
        if (!g->device->compute_gradients) TRY(g->device->memory.zero(g->device, t->grad.data, view_bytes(t->grad)));
    }
    *out = t->grad;
    out->fresh = fresh && g->device->compute_gradients;
    return LCKV_OK;
}

/* The last use of t completes the gradient. */
int tensor_rounded_gradient(graph *g, tensor *t, view *out) {
    *out = (view){0};
    bool wanted = tape_receives(g, t) && t->rounds_grad && t->uses == 1 && !t->grad_rounded.data;
    if (!wanted || !g->device->compute_gradients || g->compute != DTYPE_BF16) return LCKV_OK;
    t->grad_rounded = (view){NULL, t->value.rows, t->value.cols, DTYPE_BF16};
    TRY(pool_take(g->pool, view_bytes(t->grad_rounded), &t->grad_rounded.data));
    *out = t->grad_rounded;
    return LCKV_OK;
}

void tensor_move_gradient(graph *g, tensor *from, tensor *to) {
    tensor_drop_gradient(g, to);
    to->grad = from->grad;
    to->grad_rounded = from->grad_rounded;
    from->grad.data = from->grad_rounded.data = NULL;
}

/* Removes one use of t. Reports a weight whose gradient is complete. */
static int end_use(graph *g, tensor *t) {
    bool complete = --t->uses == 0 && t->weight && g->gradient_ready;
    return complete ? g->gradient_ready(g->gradient_ready_user, t) : LCKV_OK;
}

static void release_record(graph *g, record *r) {
    for (int i = 0; i < RECORD_INPUTS; i++) {
        if (r->in[i]) tensor_drop(g, r->in[i]);
        tensor_release(g, r->reads[i]);
    }
    if (r->x) again_drop(g, r->x);
    tensor_release(g, r->saved);
    for (int i = 0; i < WORK_OUTPUTS; i++)
        if (r->outputs[i]) tensor_drop(g, r->outputs[i]);
    if (!r->out) return;
    r->out->made_by = 0;
    tensor_drop(g, r->out);
}

static int finish_record(graph *g, record *r) {
    for (int i = 0; i < RECORD_INPUTS; i++)
        if (r->in[i]) TRY(end_use(g, r->in[i]));
    if (r->out) tensor_drop_gradient(g, r->out); /* complete and used: every reader of `out` comes later on the tape */
    release_record(g, r);
    return LCKV_OK;
}

/* Records without inputs are calls. */
bool tape_leads_on(const graph *g, const record *r) {
    bool inputs = false;
    for (int i = 0; i < RECORD_INPUTS; i++) {
        if (tape_receives(g, r->in[i])) return true;
        inputs |= r->in[i] != NULL;
    }
    return !g->keeping || !inputs;
}

void tape_mark_sought(graph *g, int first) {
    for (int i = first; i < g->tape->count; i++) {
        record *r = &g->tape->records[i];
        bool sought = false;
        for (int j = 0; j < RECORD_INPUTS; j++) sought |= r->in[j] && r->in[j]->sought;
        if (r->out) r->out->sought = sought;
        for (int j = 0; j < WORK_OUTPUTS; j++)
            if (r->outputs[j]) r->outputs[j]->sought = sought;
    }
}

int tape_walk(graph *g, int first) {
    tape *t = g->tape;
    while (t->count > first) {
        int last = t->count - 1;
        record *r = &t->records[last];
        /* If no gradient has reached the output, there is none to propagate. */
        if ((!r->out || r->out->grad.data) && tape_leads_on(g, r)) TRY(r->backward(g, r));
        TRY(finish_record(g, &t->records[last])); /* recomputed work may have moved the records */
        t->count--;
    }
    return LCKV_OK;
}

static int call(graph *g, record *r) {
    struct graph_call c = r->op.call; /* the records may move */
    return c.run(c.user, g, c.first, c.last);
}

int graph_call_back(graph *g, graph_callback run, void *user, int first, int last) {
    if (!g->tape || !g->recording) return LCKV_OK;
    return tape_push(g, &(record){.backward = call, .op.call = {run, user, first, last}});
}

int graph_backward(graph *g) {
    return tape_walk(g, 0);
}

int graph_mark(graph *g) {
    return g->tape->mark = g->tape->count;
}

int graph_backward_to(graph *g, int first) {
    return tape_walk(g, first);
}

/* ---------------------------------------------------------------- records that will be pushed again */

static int add_pending(tape *t, tensor *weight) {
    if (t->pending_count == t->pending_capacity) {
        int capacity = t->pending_capacity ? 2 * t->pending_capacity : 256;
        tensor **pending = realloc(t->pending, (size_t)capacity * sizeof *pending);
        REQUIRE(pending, LCKV_ERROR_MEMORY, "no memory for a tape's list of %d weights", capacity);
        t->pending = pending;
        t->pending_capacity = capacity;
    }
    t->pending[t->pending_count++] = weight;
    return LCKV_OK;
}

int tape_detach(graph *g, int first, int *pending) {
    tape *t = g->tape;
    int before = t->pending_count;
    while (t->count > first) {
        record *r = &t->records[t->count - 1];
        for (int i = 0; i < RECORD_INPUTS; i++) {
            if (!r->in[i]) continue;
            if (r->in[i]->weight)
                TRY(add_pending(t, r->in[i]));
            else
                r->in[i]->uses--;
        }
        release_record(g, r);
        t->count--;
    }
    *pending = t->pending_count - before;
    return LCKV_OK;
}

int tape_end_pending(graph *g, int pending, bool announced) {
    tape *t = g->tape;
    for (int i = 0; i < pending; i++) {
        tensor *weight = t->pending[--t->pending_count];
        if (announced)
            TRY(end_use(g, weight));
        else
            weight->uses--;
    }
    return LCKV_OK;
}
