/* Tensors and the tape: runs ops immediately, and, if the tape records, walks them back for gradients.
 *
 * Tensors are reference counted. The caller of a graph_* function with `tensor **out` holds the tensor once and
 * releases it with tensor_release(). A record of the tape holds what its backward pass needs; it holds the memory of
 * a value only if the backward pass reads it and does not make it again (again.c). Without a tape, the memory of a
 * value returns to the pool as soon as the decoder releases it.
 *
 * On failure a function creates nothing and leaves its arguments unchanged. graph_reset(), which ends every step,
 * releases all tensors that are still held.
 *
 * Gradients are f32, and ops add to them. The gradient of an activation is allocated when the first op adds to it,
 * which writes it (on devices with `compute_gradients`; on others it is zeroed before), and released when the record
 * of the op that made the tensor has been walked. On such devices it has the type of the value if only one record adds
 * to it. The gradient of a weight is outside (the params room); a weight without one is frozen, and its gradient is not
 * computed.
 *
 * Leaves out: layers, models, devices. */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

#include "device/device.h"
#include "graph/pool.h"

typedef struct tensor tensor;

/* A low-rank addition to a weight [rows, cols]: scale * b a (LoRA: Hu et al. 2021, section 4.1). In training,
 * elements of the input of `a` are dropped with probability `dropout`. */
typedef struct low_rank {
    tensor *a; /* weight [rank, cols] */
    tensor *b; /* weight [rows, rank] */
    float scale;
    double dropout; /* 0: none */
} low_rank;

struct tensor {
    view value;
    view grad;            /* the same shape; data NULL: not allocated yet (activation), or frozen (weight) */
    view grad_rounded;    /* bf16, complete gradient of an f32 tensor for the op that made it; data NULL: none */
    bool rounds_grad;     /* the op that made the tensor reads grad_rounded */
    bool wide_grad;       /* the gradient is f32 in any case: the number of its readers differs between passes */
    bool needs_grad;      /* depends on a tensor that requires a gradient */
    bool sought;          /* depends on a differentiable borrowed tensor, while g->keeping */
    bool weight;          /* belongs to the params and is not released here */
    bool borrowed;        /* the caller owns the memory of the value */
    const low_rank *plus; /* of a weight: the low-rank addition in graph_linear(); NULL: none */
    int uses;             /* unwalked records that add to grad; the gradient of a weight is complete at 0 */
    int holders, value_holders;
    int made_by; /* 1 + number of the record whose backward pass can write the value again; 0: it is kept for readers */
    int unkept;  /* records that read the value in the backward pass and do not hold its memory */
    bool again;  /* the record's backward pass is to write the value now */
    tensor *alias_of;        /* the value is in this tensor's memory */
    tensor *next, *previous; /* the graph's list of live tensors */
};

typedef struct tape tape;

typedef struct graph {
    device *device;
    pool *pool;
    tape *tape;     /* NULL: no gradients */
    bool recording; /* ops are recorded (needs a tape) */
    bool keeping;   /* a walk of graph_backward_loop() is running that keeps its records */
    bool recompute; /* set by the caller: the decoder uses graph_recompute() where it can (activation checkpointing) */
    /* Dropout: mask i since graph_reset() is stream i of the seed, also if work is recomputed. */
    view seed;      /* i64 [1, 1], changed by the trainer for each batch; absent: no dropout */
    uint64_t masks; /* number of masks so far */
    dtype compute;  /* DTYPE_F32 or DTYPE_BF16: of operands of products, attention and saved activations */
    tensor *live;   /* all tensors that are held */
    /* Called in the backward pass when the gradient of a weight with records on the tape is complete; may be NULL. */
    int (*gradient_ready)(void *user, tensor *weight);
    void *gradient_ready_user;
    /* Called before attention, in the forward and in the backward pass; may be NULL. Work beside that of the device
     * begins here: blocks of attention are many and short, and share the multiprocessors with it. A large product
     * occupies all of them at once, and waits for those that other work has taken. */
    int (*attention_begins)(void *user);
    void *attention_user;
} graph;

/* A graph on `d`. with_tape: graph_backward() can be called. */
int graph_create(device *d, dtype compute, bool with_tape, graph **out);
void graph_free(graph *g); /* NULL is fine */

/* Releases every tensor and record. Weights stay. */
int graph_reset(graph *g);

/* A new tensor with undefined values or zeros, held once by the caller. */
int graph_tensor(graph *g, int64_t rows, int64_t cols, dtype type, tensor **out);
int graph_zeros(graph *g, int64_t rows, int64_t cols, dtype type, tensor **out);
/* The first `rows` rows of t as a tensor without gradient. */
int graph_prefix(graph *g, tensor *t, int64_t rows, tensor **out);
/* t with another shape of as many elements, as a tensor without gradient. */
int graph_reshape(graph *g, tensor *t, int64_t rows, int64_t cols, tensor **out);
/* Copies t from host memory, which is read before the call returns. */
int graph_copy_in(graph *g, const void *host, tensor *t);
/* sums[0] += sum of (a - b)^2, sums[1] += sum of b^2, of two tensors of the same shape and type (f32 or bf16). sums:
 * f64 [1, 2] on the device. Never recorded. */
int graph_square_distance(graph *g, const tensor *a, const tensor *b, view sums);
/* A tensor over memory of the caller, which outlives the step. If `differentiable`, it can be what a loop reads
 * (graph_backward_loop()). */
int graph_borrow(graph *g, view value, bool differentiable, tensor **out);
/* Adds a reference to t. */
tensor *tensor_hold(tensor *t);
/* Removes a reference; NULL is fine. */
void tensor_release(graph *g, tensor *t);

/* The ops of device.h as functions of tensors; see there for shapes and formulas. Types follow from the inputs
 * unless a dtype is given. `view` arguments are in memory that outlives the step (the batch). */
int graph_embed(graph *g, view ids, tensor *table, tensor **out);
/* The same with op_embed's `previous` and `from`, without gradients. */
int graph_embed_chosen(graph *g, view ids, view previous, view from, tensor *table, tensor **out);
int graph_gather_rows(graph *g, tensor *src, view index, tensor **out);
/* dst[index] = src in place. The gradient of src comes from that of dst, which must have been made by graph_zeros(). */
int graph_scatter_rows(graph *g, tensor *src, view index, tensor *dst);
int graph_rms_norm(graph *g, tensor *x, tensor *weight, float eps, dtype type, tensor **out);
/* `what` has all fields except the angles. */
int graph_rope_angles(graph *g, const struct op_rope_angles *what, tensor **out);
int graph_rope(graph *g, tensor *x, tensor *angles, tensor **out);
/* up NULL: the columns of gate are those of both. */
int graph_swiglu(graph *g, tensor *gate, tensor *up, tensor **out);
/* Uses the graph's seed and the next mask. Returns x, held once more, if p is 0 or the graph has no seed. */
int graph_dropout(graph *g, tensor *x, double p, tensor **out);
int graph_add(graph *g, tensor *a, tensor *b, tensor **out);
/* bias NULL: none. With weight->plus, y = x weight^T + bias + scale (dropout(x) a^T) b^T, without forming b a or the
 * sum. */
int graph_linear(graph *g, tensor *x, tensor *weight, tensor *bias, dtype type, tensor **out);
/* residual + x weight^T + bias, f32. bias NULL: none. */
int graph_linear_add(graph *g, tensor *x, tensor *weight, tensor *bias, tensor *residual, tensor **out);

/* Matrices that share their input, such as q, k and v, or gate and up. LoRA, head splits and separate sources of
 * keys and values find their part by its name, whether the parts are one matrix in memory or not. */
typedef struct weight_part {
    const char *name;      /* "q" */
    tensor *weight, *bias; /* bias NULL: none */
} weight_part;

typedef struct packed_weight {
    int count;
    weight_part part[PROJECT_PARTS];
} packed_weight;

/* Whether `next` continues the rows of `v` in memory. */
bool view_continues(view v, view next);

/* A part by its name; NULL if there is none. */
const weight_part *packed_part(const packed_weight *w, const char *name);
/* Its weight, or its bias; NULL if there is none. */
tensor *packed_matrix(const packed_weight *w, const char *name);
tensor *packed_bias(const packed_weight *w, const char *name);
/* The rows of all parts as one matrix, if they follow each other in memory in one format; else absent. For products
 * that compute all parts at once. */
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

/* Whether the parts are one matrix in memory, without biases and low-rank additions, and so are their gradients if they
 * have some. */
bool graph_is_packed(const graph_projection *p);
/* Queries, keys and values, of which those that are `present` are the parts of a packed projection, as one product.
 * Queries and keys are rotated. Absent ones are NULL. */
int graph_project_heads(graph *g, tensor *x, const graph_projection *p, const bool present[PROJECT_PARTS],
                        tensor *angles, tensor *out[PROJECT_PARTS]);

/* *q_out = rope(q), *k_out = rope(k), and k_out and v are written to rows `index` of the pages, and rounded as by
 * graph_round(). Without gradients. q may be NULL; then *q_out is NULL. */
int graph_rope_append(graph *g, tensor *q, tensor *k, tensor *v, tensor *angles, view index,
                      const struct kv_pages *pages, tensor **q_out, tensor **k_out);

/* Rows `index` of a slot's pages = src. Without gradients. */
int graph_append_rows(graph *g, tensor *src, view index, view pages);

/* x = x converted to `type` and back, in place: what pages of that type hold (f32, bf16 or kv_int8 with `group` columns
 * per scale). Nothing else may use the memory of x. Without gradients. */
int graph_round(graph *g, tensor *x, dtype type, int64_t group);
/* Workspace for it: *out views *memory, which the caller releases. Both are empty if x stays as it is. */
int graph_rounding_room(graph *g, const tensor *x, dtype type, int64_t group, tensor **memory, view *out);

/* Both in one op. The parts are queries, keys and values; either the queries or the keys and values may be absent
 * (without keys, pages is NULL and index is ignored). Outputs: rotated queries, rotated keys, values.
 * graph_may_join_heads(): possible without gradients and low-rank additions. */
bool graph_may_join_heads(const graph *g, tensor *x, const graph_projection *p);
int graph_heads(graph *g, tensor *x, const graph_projection *p, bool queries, tensor *angles, view index,
                const struct kv_pages *pages, tensor *out[PROJECT_PARTS]);

/* [rows, cols of bias] f32; each row is the bias. It is a product whose other factor is known to be zero. */
int graph_bias(graph *g, tensor *bias, int64_t rows, tensor **out);
/* `constants` has everything but the tensors and `pairs`: past, sequences, maxima, heads, strict, window, scale. `host`
 * is `sequences` on the host, which only the counting device reads. q_sink, k and v may be NULL. */
int graph_attention(graph *g, tensor *q, tensor *q_sink, tensor *k, tensor *v, const struct op_attention *constants,
                    const attention_sequence *host, tensor **out);
/* Adds to the loss of `constants` and writes nll and correct. If the graph records, gradients of x and weight are
 * added at once. */
int graph_linear_cross_entropy(graph *g, tensor *x, tensor *weight, const struct op_linear_cross_entropy *constants);

/* Mean-square regression as the root of a backward pass: adds the gradient of scale * sum of (x - target)^2 to x's, if
 * it needs one, and the sums of graph_square_distance() to `sums`. */
int graph_square_loss(graph *g, tensor *x, const tensor *target, float scale, view sums);

/* A part of the forward pass with few inputs and outputs, such as a layer. It may run again; the same inputs must
 * then give the same ops and bits. */
enum { WORK_INPUTS = 4, WORK_OUTPUTS = 3, WORK_BYTES = 240 };

typedef struct graph_work {
    /* Makes out[], new tensors held once by the caller, from in[]. Absent ones are NULL. */
    int (*run)(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]);
    const void *what; /* parameters: `bytes` (at most WORK_BYTES) that are copied for later */
    size_t bytes;
    tensor *in[WORK_INPUTS];
} graph_work;

/* Runs the work while recording, but keeps only its inputs; the backward pass runs it again (Chen et al. 2016,
 * "Training Deep Nets with Sublinear Memory Cost"). Gradients have the same bits as without. */
int graph_recompute(graph *g, const graph_work *work, tensor *out[WORK_OUTPUTS]);

/* A call in the middle of the backward pass: when everything that comes after this point has been walked, run(user, g,
 * first, last) is called. Nothing happens if the graph does not record. */
typedef int (*graph_callback)(void *user, graph *g, int first, int last);
int graph_call_back(graph *g, graph_callback run, void *user, int first, int last);

/* Walks the tape from its end to its start. The tape is empty afterwards. */
int graph_backward(graph *g);

/* The number of the next record. */
int graph_mark(graph *g);
/* Walks the records from the last to `first` and removes them. */
int graph_backward_to(graph *g, int first);
/* The same for the records of a loop, which compute s' = F(s) at a fixed point s, as if F had been applied `walks`
 * times (at least 1). read[i] is a tensor of s, differentiable and borrowed, and written[i] the tensor of s' in its
 * place; both may be NULL.
 *
 * Let g be the gradient of s that follows from the gradients of what the records have made, and J = dF/ds. The first
 * walks - 1 terms of g + gJ + gJ^2 + ... are added to the gradient of s'. This takes one walk per term, which keeps the
 * records and computes only the gradient of s. Then the records are walked once more and removed. Because a backward
 * pass is linear in the gradients that it starts from, this last walk alone computes the gradients of weights and of
 * tensors that were made before `first`. It computes none of s. */
int graph_backward_loop(graph *g, int first, int walks, tensor *const *read, tensor *const *written, int count);

#endif
