/* The tape, for the files of this room: an array of records that graph_backward() walks from its end.
 *
 * A record holds the tensors that it reads or adds gradients to; it also holds the memory of those whose values its
 * backward pass reads. It has the op's struct, filled by the forward pass, and a function that adds the gradients to
 * the struct and runs it. */
#ifndef GRAPH_TAPE_H
#define GRAPH_TAPE_H

#include "graph/graph.h"

#include <stddef.h>

enum { RECORD_INPUTS = 4 };

typedef struct record record;
typedef int (*record_backward)(graph *g, record *r);

struct record {
    record_backward backward;
    tensor *out;                   /* the walk starts from its gradient */
    tensor *in[RECORD_INPUTS];     /* tensors that gradients are added to; NULL: none */
    tensor *reads[RECORD_INPUTS];  /* tensors whose values the backward pass reads; NULL: none */
    tensor *x;                     /* a product's input, if the backward pass reads it; it may be made again */
    tensor *saved;                 /* result of the forward pass for the backward pass only (rstd, lse); may be NULL */
    tensor *outputs[WORK_OUTPUTS]; /* outputs of recomputed work, instead of `out`; NULL: absent */
    union {
        struct op_embed embed;
        struct op_gather_rows gather_rows;
        struct op_scatter_rows scatter_rows;
        struct op_rms_norm rms_norm;
        struct op_rope rope;
        struct op_split_heads split_heads;
        struct op_swiglu swiglu;
        struct op_dropout dropout;
        struct op_linear linear;
        struct op_accumulate accumulate;
        struct op_attention attention;
        struct graph_call {
            graph_callback run;
            void *user;
            int first, last;
        } call;
        struct recompute {
            int (*run)(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]);
            int pending;
            uint64_t masks; /* g->masks when it ran */
            _Alignas(max_align_t) char what[WORK_BYTES];
        } recompute;
    } op;
};

struct tape {
    record *records;
    int count, capacity;
    int mark; /* records when graph_mark() was last called */
    /* Weights whose gradients wait for work that will be recomputed, once per use. Those of the last such record are
     * at the end. */
    tensor **pending;
    int pending_count, pending_capacity;
};

/* op_split_heads of x into the parts that are not NULL. */
int tape_split_heads(graph *g, tensor *x, tensor *angles, tensor *const parts[PROJECT_PARTS]);

/* Whether an op with these inputs is recorded: the graph records, and one of the inputs needs a gradient. */
bool tape_wants(const graph *g, tensor *const *inputs, int count);

/* Appends a record, holds its tensors, and marks `out` as needing a gradient. */
int tape_push(graph *g, const record *r);

/* The same for an op whose backward pass can write the value of `out` again (`y_again` of its struct). */
int tape_push_maker(graph *g, const record *r);

/* What `y_again` is for a record with the output `out`: memory for its value, or absent. */
view tape_again(const tensor *out);

/* In tape_push() and when a record is released: holds, and drops, r->x. again_keep(): `t` is kept after all, because it
 * has another reader. */
void again_hold(graph *g, tensor *x);
void again_drop(graph *g, tensor *x);
void again_keep(tensor *t);

/* linear_backward of a product, filled but for the value of x, which is made again if it was not kept. */
int tape_linear_backward(graph *g, record *r, struct op_linear *a);

/* Walks the records from the last one down to index `first`. */
int tape_walk(graph *g, int first);

/* Whether the current walk adds to t's gradient. */
bool tape_receives(const graph *g, const tensor *t);
/* Before a walk that keeps records: marks what the records from index `first` on make as sought or not. */
void tape_mark_sought(graph *g, int first);
/* Whether a record adds to gradients that the current walk computes. */
bool tape_leads_on(const graph *g, const record *r);

/* Removes the records from index `first` on without walking them, because they will be pushed again. Their uses of
 * weights become pending; *pending is their number. */
int tape_detach(graph *g, int first, int *pending);

/* Removes the last `pending` pending uses of weights. With `announced`, reports weights whose gradients are complete.
 */
int tape_end_pending(graph *g, int pending, bool announced);

/* A tensor has two reference counts: of the tensor and of its value's memory. tensor_release() drops both. */
void tensor_drop(graph *g, tensor *t);
void tensor_drop_value(graph *g, tensor *t);
void tensor_drop_gradient(graph *g, tensor *t);

/* Ends every op that makes a tensor: on failure, *t is released and NULL. Returns `status`. */
int tensor_made(graph *g, int status, tensor **t);

/* The gradient of t for an op that adds to it, allocated if necessary: then it is fresh, or zeroed if the device does
 * not know fresh ones. Absent if t needs none, or if another walk of graph_backward_loop() computes it. */
int tensor_gradient(graph *g, tensor *t, view *out);

/* Memory for the rounded gradient of t, if the record that makes `t` reads it and the op that asks completes the
 * gradient; else absent. */
int tensor_rounded_gradient(graph *g, tensor *t, view *out);

/* The complete gradient of `out` is also that of `in`, which may be NULL: it takes over the memory if it has no
 * gradient yet, the usual case in the residual stream, or is added to. */
int tape_pass_gradient(graph *g, tensor *out, tensor *in);

/* The gradient of `from` becomes that of `to`, which has the same shape and gives up its own. */
void tensor_move_gradient(graph *g, tensor *from, tensor *to);

#endif
