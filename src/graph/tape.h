/* The tape, for the files of this room: an array of records that graph_backward() walks from its end.
 *
 * A record holds the tensors it reads or adds gradients to; of those whose *values* its backward pass reads it holds
 * the memory too. It keeps the op's own struct, filled in by the forward pass, and a function that completes it with
 * gradients and runs it. */
#ifndef GRAPH_TAPE_H
#define GRAPH_TAPE_H

#include "graph/graph.h"

enum { RECORD_INPUTS = 4 };

typedef struct record record;
typedef int (*record_backward)(graph *g, record *r);

struct record {
    record_backward backward;
    tensor *out;                 /* its gradient is what the walk starts from */
    tensor *in[RECORD_INPUTS];   /* tensors that gradients are added to; NULL: none */
    tensor *kept[RECORD_INPUTS]; /* tensors whose values the backward pass reads; NULL: none */
    tensor *saved;               /* what the forward pass left for the backward pass alone (rstd, lse); may be NULL */
    union {
        struct op_embed embed;
        struct op_gather_rows gather_rows;
        struct op_scatter_rows scatter_rows;
        struct op_rms_norm rms_norm;
        struct op_rope rope;
        struct op_swiglu swiglu;
        struct op_linear linear;
        struct op_attention attention;
    } op;
};

struct tape {
    record *records;
    int count, capacity;
};

/* Whether an op with these inputs is to be recorded: the graph records, and one of them needs a gradient. */
bool tape_wants(const graph *g, tensor *const *inputs, int count);

/* Appends a record; takes hold of its tensors and marks `out` as needing a gradient. */
int tape_push(graph *g, const record *r);

/* A tensor is held twice over: the tensor itself, and its value's memory. tensor_release() drops both. */
void tensor_drop(graph *g, tensor *t);
void tensor_drop_value(graph *g, tensor *t);
void tensor_drop_gradient(graph *g, tensor *t);

/* The end of every op that makes a tensor: on failure *t is released and NULL. Returns `status`. */
int tensor_made(graph *g, int status, tensor **t);

/* The gradient of t, which appears zeroed if it is not there; absent where t needs none. */
int tensor_gradient(graph *g, tensor *t, view *out);

#endif
