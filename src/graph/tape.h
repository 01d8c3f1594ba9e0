/* The tape, for the files of this room: an array of records that graph_backward() walks from its end.
 *
 * A record holds the tensors it reads or adds gradients to; of those whose *values* its backward pass reads it holds
 * the memory too. It keeps the op's own struct, filled in by the forward pass, and a function that completes it with
 * gradients and runs it. */
#ifndef GRAPH_TAPE_H
#define GRAPH_TAPE_H

#include "graph/graph.h"

#include <stddef.h>

enum { RECORD_INPUTS = 4 };

typedef struct record record;
typedef int (*record_backward)(graph *g, record *r);

struct record {
    record_backward backward;
    tensor *out;                   /* its gradient is what the walk starts from */
    tensor *in[RECORD_INPUTS];     /* tensors that gradients are added to; NULL: none */
    tensor *kept[RECORD_INPUTS];   /* tensors whose values the backward pass reads; NULL: none */
    tensor *saved;                 /* what the forward pass left for the backward pass alone (rstd, lse); may be NULL */
    tensor *outputs[WORK_OUTPUTS]; /* of work that runs again, which has these instead of `out`; NULL: absent */
    union {
        struct op_embed embed;
        struct op_gather_rows gather_rows;
        struct op_scatter_rows scatter_rows;
        struct op_rms_norm rms_norm;
        struct op_rope rope;
        struct op_swiglu swiglu;
        struct op_dropout dropout;
        struct op_linear linear;
        struct op_accumulate accumulate;
        struct op_attention attention;
        struct recompute {
            int (*run)(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]);
            int owed;
            uint64_t masks; /* g->masks when it ran */
            _Alignas(max_align_t) char what[WORK_BYTES];
        } recompute;
    } op;
};

struct tape {
    record *records;
    int count, capacity;
    /* Weights whose gradients wait for work that will run again, a use each: those of the last such record come last.
     */
    tensor **owed;
    int owed_count, owed_capacity;
};

/* Whether an op with these inputs is to be recorded: the graph records, and one of them needs a gradient. */
bool tape_wants(const graph *g, tensor *const *inputs, int count);

/* Appends a record; takes hold of its tensors and marks `out` as needing a gradient. */
int tape_push(graph *g, const record *r);

/* Walks the records from the last one down to number `first`. */
int tape_walk(graph *g, int first);

/* Takes the records from number `first` on off the tape, unwalked: they will be pushed again. Until then the weights
 * that they add to are owed; *owed is their number. */
int tape_forget(graph *g, int first, int *owed);

/* The last `owed` uses of weights are owed no more; those of which nothing else is are announced where `announced`. */
int tape_settle(graph *g, int owed, bool announced);

/* A tensor is held twice over: the tensor itself, and its value's memory. tensor_release() drops both. */
void tensor_drop(graph *g, tensor *t);
void tensor_drop_value(graph *g, tensor *t);
void tensor_drop_gradient(graph *g, tensor *t);

/* The end of every op that makes a tensor: on failure *t is released and NULL. Returns `status`. */
int tensor_made(graph *g, int status, tensor **t);

/* The gradient of t, which appears zeroed if it is not there; absent where t needs none. */
int tensor_gradient(graph *g, tensor *t, view *out);

#endif
