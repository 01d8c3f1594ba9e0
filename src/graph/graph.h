/* Tensors and the tape: runs ops as they are asked for, and, when a tape is recording, walks them back for gradients.
 *
 * A tensor is counted by those who hold it. Whoever makes one (every graph_* function with `tensor **out`) holds it
 * once and lets it go with tensor_release(); a record of the tape holds what its backward pass needs, and holds the
 * memory of a value only where the backward pass reads it. So without a tape a value's memory goes back to the pool as
 * soon as the decoder lets go, and with one only what must be kept is kept.
 *
 * On failure a function hands out nothing and leaves its arguments alone. What is then still held is released together
 * by graph_reset(), which ends every step, good or bad.
 *
 * Gradients are f32 and are always added to. The gradient of an activation appears, zeroed, when something is first
 * added to it and is given back when the op that made the tensor has been walked. A weight's gradient lies outside (the
 * params room); a weight without one is frozen and its product is skipped.
 *
 * Leaves out: layers, models, devices.
 */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

#include "device/device.h"
#include "graph/pool.h"

typedef struct tensor tensor;

/* What is added to a weight [rows, cols]: scale * b a, of low rank (LoRA: Hu et al. 2021, section 4.1). In training
 * elements of a's input are dropped with probability `dropout`. */
typedef struct low_rank {
    tensor *a; /* weight [rank, cols] */
    tensor *b; /* weight [rows, rank] */
    float scale;
    double dropout; /* 0: none */
} low_rank;

struct tensor {
    view value;
    view grad;            /* f32, the same shape; data NULL: nothing was added yet (activation), or frozen (weight) */
    bool needs_grad;      /* something that requires a gradient lies behind it */
    bool weight;          /* belongs to the params: never released here */
    const low_rank *plus; /* of a weight: what graph_linear() adds to it; NULL: nothing */
    int uses;             /* records not yet walked that add to grad: a weight's gradient is whole when it falls to 0 */
    int holders, value_holders;
    tensor *alias_of;        /* the value lies in this one's memory */
    tensor *next, *previous; /* the graph's list of live tensors */
};

typedef struct tape tape;

typedef struct graph {
    device *device;
    pool *pool;
    tape *tape;     /* NULL where no gradients are wanted at all */
    bool recording; /* ops are recorded (needs a tape) */
    bool recompute; /* for whoever runs a model: what can go through graph_recompute() is to do so */
    /* Dropout: mask number i since graph_reset() is that of stream i of the seed, also where work runs again. */
    view seed;      /* i64 [1, 1], changed by whoever trains from batch to batch; absent: nothing is dropped */
    uint64_t masks; /* drawn so far */
    dtype compute;  /* DTYPE_F32 or DTYPE_BF16: products' operands, attention, saved activations */
    tensor *live;   /* every tensor that somebody holds */
    /* Called in the backward pass as soon as a weight's gradient is whole; may be NULL. */
    int (*gradient_ready)(void *user, tensor *weight);
    void *gradient_ready_user;
} graph;

/* A graph on `d`; with_tape where graph_backward() will be called. */
int graph_create(device *d, dtype compute, bool with_tape, graph **out);
void graph_free(graph *g); /* NULL is fine */

/* Lets go of every tensor and record. Weights stay. */
int graph_reset(graph *g);

/* A fresh tensor, undefined or zero, held once by the caller. */
int graph_tensor(graph *g, int64_t rows, int64_t cols, dtype type, tensor **out);
int graph_zeros(graph *g, int64_t rows, int64_t cols, dtype type, tensor **out);
/* The first `rows` rows of t as a tensor of its own without gradient. */
int graph_prefix(graph *g, tensor *t, int64_t rows, tensor **out);
/* The bytes of t from host memory, which is read before the call returns. */
int graph_copy_in(graph *g, const void *host, tensor *t);
/* *distance += sum of (a - b)^2, *length += sum of b^2, of two tensors of the same shape and type (f32 or bf16). It
 * waits for the device and computes on the host. */
int graph_square_distance(graph *g, const tensor *a, const tensor *b, double *distance, double *length);
/* One more holder of t. */
tensor *tensor_hold(tensor *t);
/* One holder fewer; NULL is fine. */
void tensor_release(graph *g, tensor *t);

/* The ops of device.h as functions of tensors; shapes and formulas stand there. Types follow from the inputs unless a
 * dtype is asked for. `view` arguments lie in memory that outlives the step (the batch). */
int graph_embed(graph *g, view ids, tensor *table, tensor **out);
/* The same with op_embed's `previous` and `from`, without gradients. */
int graph_embed_chosen(graph *g, view ids, view previous, view from, tensor *table, tensor **out);
int graph_gather_rows(graph *g, tensor *src, view index, tensor **out);
/* dst[index] = src in place; src's gradient comes from dst's. dst must have been made by graph_zeros(). */
int graph_scatter_rows(graph *g, tensor *src, view index, tensor *dst);
int graph_rms_norm(graph *g, tensor *x, tensor *weight, float eps, dtype type, tensor **out);
/* All fields of `what` but the angles. */
int graph_rope_angles(graph *g, const struct op_rope_angles *what, tensor **out);
int graph_rope(graph *g, tensor *x, tensor *angles, tensor **out);
int graph_swiglu(graph *g, tensor *gate, tensor *up, tensor **out);
/* With the graph's seed and next mask; x itself, held once more, where p is 0 or the graph has no seed. */
int graph_dropout(graph *g, tensor *x, double p, tensor **out);
int graph_add(graph *g, tensor *a, tensor *b, tensor **out);
/* bias NULL: none. With weight->plus, y = x weight^T + bias + scale (dropout(x) a^T) b^T: neither b a nor
 * the sum is formed. */
int graph_linear(graph *g, tensor *x, tensor *weight, tensor *bias, dtype type, tensor **out);
/* residual + x weight^T + bias, f32. bias NULL: none. */
int graph_linear_add(graph *g, tensor *x, tensor *weight, tensor *bias, tensor *residual, tensor **out);

/* Matrices that share their input, such as q, k and v, or gate and up. Each is found by its name, whether they are one
 * matrix in memory or not: LoRA, head splits and separate sources of keys and values concern a part. */
typedef struct weight_part {
    const char *name;      /* "q" */
    tensor *weight, *bias; /* bias NULL: none */
} weight_part;

typedef struct packed_weight {
    int count;
    weight_part part[PROJECT_PARTS];
} packed_weight;

/* A part by its name; NULL if there is none. */
const weight_part *packed_part(const packed_weight *w, const char *name);
/* Its weight, or its bias; NULL if there is none. */
tensor *packed_matrix(const packed_weight *w, const char *name);
tensor *packed_bias(const packed_weight *w, const char *name);
/* The rows of all parts as one matrix, if they follow each other in memory in one format; else absent. It is for
 * products that compute all parts at once. */
view packed_view(const packed_weight *w);

/* Products of rms_norm(x, norm, eps) with each part, in the graph's compute type. */
typedef struct graph_projection {
    tensor *norm;
    float eps;
    int parts; /* at most PROJECT_PARTS */
    const weight_part *part[PROJECT_PARTS];
} graph_projection;

int graph_project(graph *g, tensor *x, const graph_projection *p, tensor *out[PROJECT_PARTS]);
/* swiglu of the two products of a projection. */
int graph_project_gated(graph *g, tensor *x, const graph_projection *p, tensor **out);

/* *q_out = rope(q), *k_out = rope(k), and k_out and v are written to rows `index` of the pages. Without gradients. q
 * may be NULL, *q_out then is. */
int graph_rope_append(graph *g, tensor *q, tensor *k, tensor *v, tensor *angles, view index,
                      const struct kv_pages *pages, tensor **q_out, tensor **k_out);

/* Rows `index` of a slot's pages = src. Without gradients. */
int graph_append_rows(graph *g, tensor *src, view index, view pages);

/* Both: the projection's parts are queries, keys and values, of which queries, or keys and values (then pages is NULL
 * and index not read), may be absent -> rotated queries, rotated keys, and values. Whether it may be: no gradients, no
 * low-rank terms. */
bool graph_may_join_heads(const graph *g, tensor *x, const graph_projection *p);
int graph_heads(graph *g, tensor *x, const graph_projection *p, bool queries, tensor *angles, view index,
                const struct kv_pages *pages, tensor *out[PROJECT_PARTS]);

/* [rows, cols of bias] f32, each row the bias: a product whose other factor is known to be zero. */
int graph_bias(graph *g, tensor *bias, int64_t rows, tensor **out);
/* `constants` has everything but the tensors and `pairs`: past, sequences, maxima, heads, strict, window, scale. `host`
 * is `sequences` on the host, which only the counting device reads. q_sink, k and v may be NULL. */
int graph_attention(graph *g, tensor *q, tensor *q_sink, tensor *k, tensor *v, const struct op_attention *constants,
                    const attention_sequence *host, tensor **out);
/* Adds to `constants`' loss, writes nll and correct; when recording, gradients of x and weight are added at once. */
int graph_linear_cross_entropy(graph *g, tensor *x, tensor *weight, const struct op_linear_cross_entropy *constants);

/* A piece of the forward pass with few inputs and outputs, such as a layer. It may be run again: the same inputs must
 * then lead to the same ops and bits. */
enum { WORK_INPUTS = 4, WORK_OUTPUTS = 3, WORK_BYTES = 240 };

typedef struct graph_work {
    /* Makes out[], fresh tensors held once by the caller, from in[]. Absent ones are NULL. */
    int (*run)(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]);
    const void *what; /* which work it is: `bytes` (at most WORK_BYTES) that are copied where they are needed later */
    size_t bytes;
    tensor *in[WORK_INPUTS];
} graph_work;

/* Runs it while recording and keeps its inputs alone: the backward pass runs it again (Chen et al. 2016, "Training Deep
 * Nets with Sublinear Memory Cost"). Gradients are the same bits as those of run() by itself. */
int graph_recompute(graph *g, const graph_work *work, tensor *out[WORK_OUTPUTS]);

/* Walks the tape from its end to its start and empties it. */
int graph_backward(graph *g);

#endif
