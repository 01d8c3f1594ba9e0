/* Tensors: creation and reference counts. tape.c walks the tape; ops.c has the ops. */
#include "graph/graph.h"

#include "graph/tape.h"

#include <stdlib.h>

int graph_create(device *d, dtype compute, bool with_tape, graph **out) {
    *out = NULL;
    REQUIRE(compute == DTYPE_F32 || compute == DTYPE_BF16, LCKV_ERROR_ARGUMENT,
            "the compute type is float32 or bfloat16, found %s", dtype_name(compute));
    graph *g = calloc(1, sizeof *g);
    tape *t = with_tape ? calloc(1, sizeof *t) : NULL;
    if (!g || (with_tape && !t)) {
        free(g);
        free(t);
        return fail(LCKV_ERROR_MEMORY, "no memory for a graph");
    }
    *g = (graph){.device = d, .tape = t, .recording = with_tape, .compute = compute};
    int status = pool_create(d, &g->pool);
    if (status < 0)
        graph_free(g);
    else
        *out = g;
    return status;
}

static void free_tensors(graph *g) {
    while (g->live) {
        tensor *t = g->live;
        g->live = t->next;
        free(t);
    }
}

void graph_free(graph *g) {
    if (!g) return;
    free_tensors(g);
    pool_free(g->pool);
    if (g->tape) {
        free(g->tape->records);
        free(g->tape->pending);
    }
    free(g->tape);
    free(g);
}

/* Clears the counts of weights that records were to add to. */
static void forget_records(tape *t) {
    for (int i = 0; i < t->count; i++)
        for (int j = 0; j < RECORD_INPUTS; j++)
            if (t->records[i].in[j]) t->records[i].in[j]->uses = 0;
    for (int i = 0; i < t->pending_count; i++) t->pending[i]->uses = 0;
    t->count = t->mark = t->pending_count = 0;
}

int graph_reset(graph *g) {
    if (g->tape) forget_records(g->tape);
    free_tensors(g);
    g->masks = 0;
    return pool_reset(g->pool);
}

static tensor *new_tensor(graph *g, view value) {
    tensor *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->value = value;
    t->grad = (view){NULL, value.rows, value.cols, DTYPE_F32};
    t->holders = t->value_holders = 1;
    t->next = g->live;
    if (g->live) g->live->previous = t;
    g->live = t;
    return t;
}

int graph_tensor(graph *g, int64_t rows, int64_t cols, dtype type, tensor **out) {
    *out = NULL;
    view value = {NULL, rows, cols, type};
    TRY(pool_take(g->pool, view_bytes(value), &value.data));
    *out = new_tensor(g, value);
    if (*out) return LCKV_OK;
    pool_give(g->pool, value.data, view_bytes(value));
    return fail(LCKV_ERROR_MEMORY, "no memory for a tensor");
}

int graph_zeros(graph *g, int64_t rows, int64_t cols, dtype type, tensor **out) {
    TRY(graph_tensor(g, rows, cols, type, out));
    return tensor_made(g, g->device->memory.zero(g->device, (*out)->value.data, view_bytes((*out)->value)), out);
}

/* Another tensor over the memory of t, with the shape of `value`. */
static int make_alias(graph *g, tensor *t, view value, tensor **out) {
    *out = new_tensor(g, value);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a tensor");
    (*out)->alias_of = tensor_hold(t);
    return LCKV_OK;
}

int graph_prefix(graph *g, tensor *t, int64_t rows, tensor **out) {
    return make_alias(g, t, view_rows(t->value, 0, rows), out);
}

int graph_reshape(graph *g, tensor *t, int64_t rows, int64_t cols, tensor **out) {
    return make_alias(g, t, (view){t->value.data, rows, cols, t->value.type, NULL}, out);
}

int graph_borrow(graph *g, view value, bool differentiable, tensor **out) {
    *out = new_tensor(g, value);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a tensor");
    (*out)->borrowed = (*out)->wide_grad = true;
    (*out)->needs_grad = (*out)->sought = differentiable;
    return LCKV_OK;
}

tensor *tensor_hold(tensor *t) {
    if (t->weight) return t; /* not released either */
    t->holders++;
    t->value_holders++;
    return t;
}

static void give_back(graph *g, view *v) {
    if (v->data) pool_give(g->pool, v->data, view_bytes(*v));
    v->data = NULL;
}

void tensor_drop_gradient(graph *g, tensor *t) {
    if (t->weight) return;
    give_back(g, &t->grad);
    give_back(g, &t->grad_rounded);
}

void tensor_drop_value(graph *g, tensor *t) {
    if (t->weight || --t->value_holders) return;
    if (t->alias_of)
        tensor_release(g, t->alias_of);
    else if (!t->borrowed)
        pool_give(g->pool, t->value.data, view_bytes(t->value));
    t->alias_of = NULL;
    t->value.data = NULL;
}

void tensor_drop(graph *g, tensor *t) {
    if (t->weight || --t->holders) return;
    tensor_drop_gradient(g, t);
    if (t->previous)
        t->previous->next = t->next;
    else
        g->live = t->next;
    if (t->next) t->next->previous = t->previous;
    free(t);
}

void tensor_release(graph *g, tensor *t) {
    if (!t) return;
    tensor_drop_value(g, t);
    tensor_drop(g, t);
}

int tensor_made(graph *g, int status, tensor **t) {
    if (status >= 0) return status;
    tensor_release(g, *t);
    *t = NULL;
    return status;
}
