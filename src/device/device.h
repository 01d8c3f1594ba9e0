/* A device: memory, and a table of ops. The forward and backward passes are written once against this page.
 *
 * What every entry keeps to:
 *   - An absent entry (NULL) is "unsupported". An entry returns LCKV_OK or a negative status (status.h).
 *   - Work is put on the device's compute lane in order; no op waits. wait() is the one call that does. copy_in() has
 *     read its source when it returns; what copy_out() writes is there after wait().
 *   - What changes from step to step (ids, positions, sequences, page tables, labels, learning rate, clip factor,
 *     random counters) is read from device memory; struct fields carry shapes, constants and maxima. So the same
 *     structs, replayed, do the next step.
 *   - Tensors are row-major and contiguous: view {data, rows, cols, type}. A view whose data is NULL is absent.
 *   - "compute type": f32 or bf16, one a call. Weights may be f32, bf16 or f16 whatever the compute type.
 *     Sums and products accumulate in f32 or wider.
 *   - Forward entries write their outputs whole. Backward entries ADD to the gradients d*, which are f32, and skip each
 *     one that is absent. A backward entry reads the fields that its forward wrote.
 *   - Results are the same bits for the same call at the same thread count and processor features: no floating-point
 *     atomics.
 *   - Any extent may be 0 (rows, columns, width, heads, vocabulary, sequences; head_dim from 1 on). A sum over nothing
 * is 0, and a mean too: linear of depth 0 is the bias, attention to no key gives zeros (lse -inf). Outputs without
 *     elements are not touched. An index into an empty table is outside of it.
 *   - Rows behind the live ones of a batch ("dead rows") hold finite rubbish; nothing reads them. An index outside its
 *     table reads zeros and writes nothing.
 *   - Outputs never overlap inputs unless the op says so.
 *
 * Leaves out: models, layers, tapes, and who owns a tensor.
 */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "base/status.h"
#include "device/dtype.h"

typedef struct lckv_device device;

typedef struct view {
    void *data; /* device memory */
    int64_t rows, cols;
    dtype type;
    void *scales; /* of a grouped format (dtype.h); NULL for the others */
} view;

/* Bytes of the values, and of the scales. */
static inline size_t view_bytes(view v) {
    return (size_t)v.rows * dtype_row_bytes(v.type, v.cols);
}

static inline size_t view_scale_bytes(view v) {
    return (size_t)v.rows * dtype_row_scale_bytes(v.type, v.cols);
}

/* `count` rows from row `first` on. */
static inline view view_rows(view v, int64_t first, int64_t count) {
    v.data = (char *)v.data + (size_t)first * dtype_row_bytes(v.type, v.cols);
    if (v.scales) v.scales = (char *)v.scales + (size_t)first * dtype_row_scale_bytes(v.type, v.cols);
    v.rows = count;
    return v;
}

/* `count` elements from element `first` on, as one row. Not for grouped formats. */
static inline view view_elements(view v, int64_t first, int64_t count) {
    view part = {(char *)v.data + (size_t)first * dtype_element_bytes(v.type), 1, count, v.type, NULL};
    return part;
}

/* ---------------------------------------------------------------- rows and embeddings */

/* out[r] = table[ids[r]], where previous[from[r]] stands for ids[r] if from[r] >= 0.   backward, without `previous`:
 * dtable[ids[r]] += dout[r] */
struct op_embed {
    view ids;      /* i32 [rows, 1] */
    view previous; /* i32 [n, 1]: ids that an earlier op has chosen; may be absent */
    view from;     /* i32 [rows, 1], less than n; absent with it */
    view table;    /* weight [vocab_size, hidden_size] */
    view out;      /* f32 [rows, hidden_size] */
    view dout, dtable;
};

/* dst[r] = src[index[r]].   backward: dsrc[index[r]] += ddst[r] (an index may occur more than once) */
struct op_gather_rows {
    view src;   /* f32 or compute type [n, cols] */
    view index; /* i32 [rows, 1], 0 <= index < n */
    view dst;   /* same type [rows, cols] */
    view dsrc, ddst;
};

/* dst[index[r]] = src[r], converted to dst's type; rows with a negative index go nowhere; all others of dst stay.
 * backward: dsrc[r] += ddst[index[r]] (no two rows share an index) */
struct op_scatter_rows {
    view src;   /* f32 or bf16 [rows, cols] */
    view index; /* i64 [rows, 1] */
    view dst;   /* f32 or bf16 [n, cols] */
    view dsrc, ddst;
};

/* ---------------------------------------------------------------- norm, rope, mlp, residual */

/* RMSNorm (Zhang and Sennrich 2019) over each run of `width` columns:
 *   y = weight * x * rstd,  rstd = 1 / sqrt(mean(x^2) + eps)
 * With width = cols it is the layer's norm, with width = head_dim Qwen3's norm of each head. */
struct op_rms_norm {
    view x;      /* f32 or compute type [rows, cols] */
    view weight; /* weight [1, width], cols a multiple of width */
    view y;      /* compute type or f32 [rows, cols] */
    view rstd;   /* f32 [rows, cols / width] */
    float eps;
    view dy, dx, dweight;
};

/* angles[r] = scale * cos(positions[r] * f), scale * sin(positions[r] * f) for f in inverse_frequencies: the product
 * and the reduction of the angle in f64, since positions are 64-bit (a stream may be of any length).
 *
 * Where `lengths` is there, a row with lengths[r] > limit takes the second row of frequencies if there are two
 * (longrope), else f[i] = inverse_frequencies[i] * (growth * lengths[r] / limit - (growth - 1))^(-2i / (head_dim - 2)),
 * which is the dynamic NTK scaling of transformers with factor `growth`. */
struct op_rope_angles {
    view positions;           /* i64 [rows, 1] */
    view lengths;             /* i64 [rows, 1]: tokens of the row's sequence; may be absent */
    view inverse_frequencies; /* f64 [1 or 2, head_dim / 2] */
    view angles;              /* f32 [rows, head_dim]: the cosines, then the sines */
    int64_t limit;            /* of plain frequencies, in tokens, from 1 on */
    double growth;            /* from 1 on */
    float scale;              /* YaRN's attention factor; usually 1 */
};

/* RoPE (Su et al. 2021), half-split pairing as in transformers: for d < head_dim / 2, in each head
 *   y[d] = x[d] cos - x[d + D/2] sin,   y[d + D/2] = x[d + D/2] cos + x[d] sin.   backward: the same with -sin */
struct op_rope {
    view x;      /* compute type [rows, heads * head_dim] */
    view angles; /* f32 [rows, head_dim] */
    view y;      /* compute type [rows, heads * head_dim] */
    int head_dim;
    view dy, dx;
};

/* y = silu(gate) * up,  silu(x) = x / (1 + exp(-x)) */
struct op_swiglu {
    view gate, up, y; /* compute type [rows, cols] */
    view dy, dgate, dup;
};

/* Dropout (Srivastava et al. 2014): y = x * mask, where the mask is 0 with probability p, else 1 / (1 - p). It is a
 * function of (seed, stream, place) alone and made again in the backward pass: element e of the tensor is dropped where
 * word e % 4 of rng_block(seed, stream, e / 4) is below dropout_threshold(p).   backward: dx += dy * mask */
struct op_dropout {
    view x, y;       /* compute type [rows, cols] */
    view seed;       /* i64 [1, 1]: its 64 bits are the seed */
    double p;        /* 0 <= p < 1 */
    uint64_t stream; /* tells the uses of one seed apart */
    view dy, dx;
};

static inline uint32_t dropout_threshold(double p) {
    return (uint32_t)(p * 0x1p32);
}

static inline float dropout_scale(double p) {
    return (float)(1 / (1 - p));
}

/* y = a + b. y may be a or b. The gradients of a sum are copies: see op_accumulate. */
struct op_add {
    view a, b, y; /* f32 [rows, cols] */
};

/* dst += scale * src, rounded once where dst is bf16 */
struct op_accumulate {
    view src; /* f32, bf16 or f16 [rows, cols] */
    view dst; /* f32 or bf16 [rows, cols] */
    float scale;
};

/* dst = src, converted (round to nearest even). Any two of f32, bf16, f16; equal types copy. */
struct op_cast {
    view src, dst; /* [rows, cols] */
};

/* ---------------------------------------------------------------- products */

/* y = x weight^T + bias.   backward: dx += dy weight,  dweight += dy^T x,  dbias += sum of dy over rows */
struct op_linear {
    view x;      /* compute type [rows, in]; backward reads it for dweight alone and takes an absent one without */
    view weight; /* weight [out, in] */
    view bias;   /* weight [1, out], may be absent */
    view y;      /* compute type or f32 [rows, out] */
    view dy, dx, dweight, dbias;
};

/* Cross-entropy of x weight^T against labels, without ever holding [rows, vocab_size]. It is the root of a backward
 * pass, and the divisor of the loss is known beforehand (*scale), so that forward and backward share their one pass
 * over the logits: with dx or dweight given, gradients of *loss are added at once. nll[r] = logsumexp(x[r] weight^T) -
 * (x[r] weight^T)[labels[r]],   *loss += *scale * sum of nll */
struct op_linear_cross_entropy {
    view x;       /* compute type [rows, hidden_size] */
    view weight;  /* weight [vocab_size, hidden_size] */
    view labels;  /* i32 [rows, 1]; one outside the vocabulary is no label: nll 0, no gradient */
    view scale;   /* f32 [1, 1]: usually 1 / number of labels of the whole step */
    view loss;    /* f64 [1, 1], added to; may be absent */
    view nll;     /* f32 [rows, 1]; may be absent */
    view correct; /* i32 [rows, 1]: 1 where the label has the largest logit (first of equals), else 0; may be absent */
    view dx, dweight;
};

/* ---------------------------------------------------------------- attention */

/* Where one sequence's queries, new keys and past keys lie. The list of keys that a sequence sees is its past rows,
 * then its new rows; query row i stands at index `past + q_offset + i` of that list, and masks count in this list. */
typedef struct attention_sequence {
    int32_t q_row, q_rows;   /* its rows of q and out */
    int32_t kv_row, kv_rows; /* its rows of k and v */
    int32_t q_offset;        /* query row i stands beside new row q_offset + i */
    int32_t past;            /* committed rows, found through the page table */
    int32_t sinks;           /* the first `sinks` of the past rows lie in pages of their own, the table's first ones */
    int32_t skip;            /* past row sinks + j is row skip + j of the pages after those */
} attention_sequence;

/* Past row u of a sequence is row table[u / page_rows] * page_rows + u % page_rows of `k` and `v`, where for u < sinks
 * u counts from the table's first page, and for the others u - sinks + skip counts from page ceil(sinks / page_rows).
 */
struct kv_pages {
    view k, v;         /* f32 or bf16 [pages * page_rows, kv_heads * head_dim]; absent: no sequence has a past */
    view table;        /* i32 [sequences, most pages a sequence] */
    int32_t page_rows; /* tokens a page, a power of two */
};

/* out[i] = sum over visible u of softmax_u(scale * q[i] . k[u]) v[u], for each head; head h reads KV head
 * h / (heads / kv_heads). Entry u of the list is visible to the query at index t when
 *   u <= t (strict: u < t), and with a window W > 0 also u > t - W.
 * A query that sees nothing gets zeros. Keys are stored rotated at their absolute position; sinks, whose place in the
 * list is not their distance, are met by q_sink, the query rotated to its place in the list.
 * backward (no past, no q_sink): dq, dk, dv, from dout and lse; FlashAttention-2 (Dao 2023), section 3.1. */
struct op_attention {
    view q;      /* compute type [rows, heads * head_dim] */
    view q_sink; /* the same, rotated for the sinks; may be absent (sinks are then met by q) */
    view k, v;   /* new rows, compute type [kv rows, kv_heads * head_dim]; may be absent, or shorter than the sequences
                  say, where no   query sees the missing rows (decoding tokens of strict layers) */
    view out;    /* compute type [rows, heads * head_dim]; rows of no sequence are not written, nor are those of lse */
    view lse;    /* f32 [rows, heads]: log of the sum of exp(scores), -inf where nothing is visible; may be absent */
    struct kv_pages past;
    view sequences;                            /* attention_sequence as u8 [count, sizeof] */
    int32_t max_q_rows, max_kv_rows, max_past; /* of any sequence, rounded up as the caller likes */
    double pairs; /* (query, visible key) pairs over all sequences: what the counting device charges for */
    int heads, kv_heads, head_dim;
    bool strict;
    int64_t window; /* 0: none */
    float scale;    /* 1 / sqrt(head_dim) */
    view dout, dq, dk, dv;
};

/* ---------------------------------------------------------------- several ops in one */

/* These are sequences of the ops above, without a backward pass. compose.c runs them one after another: that is what
 * they compute, up to rounding of what lies between the ops. A device may have entries of its own that are faster. */

enum { PROJECT_PARTS = 3 };

/* Products of normed rows with several weights (queries, keys and values; gate and up):
 *   h = rms_norm(x, norm, eps);   part[i].y = h part[i].weight^T + part[i].bias
 * With gated_y, of two parts:  gated_y = swiglu(part[0].y, part[1].y). */
struct op_project {
    view x;    /* f32 [rows, in] */
    view norm; /* weight [1, in] */
    float eps;
    int parts;
    struct {
        view weight; /* weight [out, in] */
        view bias;   /* weight [1, out], may be absent */
        view y;      /* compute type [rows, out]; with gated_y undefined afterwards */
    } part[PROJECT_PARTS];
    view gated_y; /* compute type [rows, out], may be absent */
    view normed;  /* compute type [rows, in]: room for h, undefined afterwards */
    view rstd;    /* f32 [rows, 1]: likewise */
};

/* product.y = residual + product.x product.weight^T + product.bias */
struct op_linear_add {
    struct op_linear product; /* y: f32 */
    view residual;            /* f32 [rows, out] */
};

/* q_out = rope(q) and k_out = rope(k); then, for each row, k_out and v are written to row index[r] of pages_k and
 * pages_v as scatter_rows does. Queries may be absent, and so may keys with all that belongs to them. */
struct op_rope_append {
    view q, q_out;         /* compute type [rows, heads * head_dim] */
    view k, v, k_out;      /* compute type [rows, kv_heads * head_dim] */
    view angles;           /* f32 [rows, head_dim] */
    view index;            /* i64 [rows, 1] */
    view pages_k, pages_v; /* f32 or bf16 [n, kv_heads * head_dim] */
    int head_dim;
};

/* Both: products of normed rows whose parts are queries, keys and values (of which queries or the other two may be
 * absent), which are then rotated and appended. append.q, k and v are the parts' y; q and k are undefined afterwards.
 */
struct op_heads {
    struct op_project project;
    struct op_rope_append append;
};

/* ---------------------------------------------------------------- choosing tokens */

/* How one row's token is chosen, in the order of transformers' processors: bias, repetition penalty, temperature,
 * top-k, top-p, min-p. Temperature 0 is greedy: the largest penalized logit, the first of equals. Edges and the draw
 * itself, in integers so that every device repeats it: the head of cpu/sample.c. */
typedef struct sample_row {
    uint64_t seed, stream, counter; /* rng.h: the token is a function of these and the logits */
    float temperature;
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off */
    int32_t top_k;            /* 0: off */
    int32_t biased;           /* 1: its row of `bias` counts */
} sample_row;

struct op_sample {
    view logits;  /* f32 [rows, vocab_size], left as they are */
    view how;     /* sample_row as u8 [rows, sizeof] */
    view seen;    /* u8 [rows, vocab_size]: 1 for ids the penalty falls on; the chosen one is added. May be absent */
    view ids;     /* i32 [rows, 1]; -1 where a logit is NaN or +inf, or all are -inf: logprob is then NaN */
    view logprob; /* f32 [rows, 1]: log-softmax of the plain logits at the chosen id; may be absent */
    view bias;    /* f32 [rows, vocab_size], finite: added to the logits of biased rows; may be absent */
};

/* ---------------------------------------------------------------- optimizer */

/* *out += sum of x^2 */
struct op_sum_squares {
    view x;   /* f32 [rows, cols] */
    view out; /* f64 [1, 1] */
};

/* What one optimizer step needs, in device memory: the host fills the first part each step, op_clip the second. */
typedef struct step_state {
    float learning_rate, beta1, beta2, epsilon;
    float correction1, correction2; /* 1 - beta^step */
    float max_grad_norm;            /* 0: no clipping */
    float clip_factor;              /* by op_clip: min(1, max_grad_norm / (norm + 1e-6)), 1 without clipping */
    double grad_norm;               /* by op_clip */
    int32_t finite;                 /* by op_clip: 1 when norm and loss are finite and the norm is not above
                                     * skip_grad_norm; with 0 op_adamw only sets gradients to 0 */
    float skip_grad_norm;           /* 0: none is too long */
    uint64_t rounding_seed;         /* of this step, see op_adamw */
} step_state;

/* state->grad_norm = sqrt(*sum_squares), clip_factor and finite from it and *loss. */
struct op_clip {
    view sum_squares, loss; /* f64 [1, 1] */
    view state;             /* step_state as u8 [1, sizeof] */
};

/* AdamW (Loshchilov and Hutter 2019) as torch.optim.AdamW does it, gradients times clip_factor:
 *   p *= 1 - lr * decay;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *   p -= lr * (m / correction1) / (sqrt(v / correction2) + epsilon)
 * then weight = p, converted, and grad = 0.
 *
 * Where p, m and v are bf16 they are computed in f32 and rounded stochastically: up with a probability that is the
 * share of the way, so that they are right on average however small a step is (Gupta et al. 2015, "Deep Learning with
 * Limited Numerical Precision"). 16 random bits are added to the lower half of the f32, which is then dropped. Element
 * i of the call is element e = first + i of its tensor; of the words w of rng_block(rounding_seed, stream, e / 2), p, m
 * and v take the lower half of w[k], the upper half of it, and the lower half of w[k + 1], with k = 2 (e % 2). */
struct op_adamw {
    view master; /* f32 or bf16 [rows, cols] */
    view weight; /* what the ops read, where that is another buffer (bf16 of an f32 master); else absent */
    view grad;   /* f32 [rows, cols] */
    view m, v;   /* of master's type [rows, cols] */
    view state;  /* step_state */
    float weight_decay;
    uint64_t stream; /* tells the tensors of a model apart */
    int64_t first;
};

/* dst = deviation * standard normal numbers: element i is number i % 2 of rng_normal2(seed, stream, i / 2). */
struct op_fill_normal {
    view dst; /* f32, bf16 or f16 */
    float deviation;
    uint64_t seed, stream;
};

/* ---------------------------------------------------------------- the table */

/* name, and the struct it takes; _backward where there is one. */
#define DEVICE_OPS(ENTRY)                                                                                              \
    ENTRY(embed, embed)                                                                                                \
    ENTRY(embed_backward, embed)                                                                                       \
    ENTRY(gather_rows, gather_rows)                                                                                    \
    ENTRY(gather_rows_backward, gather_rows)                                                                           \
    ENTRY(scatter_rows, scatter_rows)                                                                                  \
    ENTRY(scatter_rows_backward, scatter_rows)                                                                         \
    ENTRY(rms_norm, rms_norm)                                                                                          \
    ENTRY(rms_norm_backward, rms_norm)                                                                                 \
    ENTRY(rope_angles, rope_angles)                                                                                    \
    ENTRY(rope, rope)                                                                                                  \
    ENTRY(rope_backward, rope)                                                                                         \
    ENTRY(swiglu, swiglu)                                                                                              \
    ENTRY(swiglu_backward, swiglu)                                                                                     \
    ENTRY(dropout, dropout)                                                                                            \
    ENTRY(dropout_backward, dropout)                                                                                   \
    ENTRY(add, add)                                                                                                    \
    ENTRY(accumulate, accumulate)                                                                                      \
    ENTRY(cast, cast)                                                                                                  \
    ENTRY(linear, linear)                                                                                              \
    ENTRY(linear_backward, linear)                                                                                     \
    ENTRY(linear_cross_entropy, linear_cross_entropy)                                                                  \
    ENTRY(attention, attention)                                                                                        \
    ENTRY(attention_backward, attention)                                                                               \
    ENTRY(sample, sample)                                                                                              \
    ENTRY(sum_squares, sum_squares)                                                                                    \
    ENTRY(clip, clip)                                                                                                  \
    ENTRY(adamw, adamw)                                                                                                \
    ENTRY(fill_normal, fill_normal)

/* Those that are several in one. */
#define DEVICE_COMPOSED_OPS(ENTRY)                                                                                     \
    ENTRY(project, project)                                                                                            \
    ENTRY(linear_add, linear_add)                                                                                      \
    ENTRY(rope_append, rope_append)                                                                                    \
    ENTRY(heads, heads)

struct device_ops {
#define ENTRY(name, arguments) int (*name)(device * d, const struct op_##arguments *a);
    DEVICE_OPS(ENTRY)
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
};

/* For each op, the set of grouped formats (dtype.h) that its entry takes as a weight. A composed op that the device
 * does not override takes those of `linear`. */
struct device_formats {
#define ENTRY(name, arguments) unsigned name;
    DEVICE_OPS(ENTRY)
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
};

enum { DEVICE_MARKS = 8 };

/* Memory and waiting: every device has all of them. copy_out()'s result is there after wait(), or after reach() of a
 * mark that was set behind it: so results can be read a step late, while the next step runs. */
struct device_memory {
    int (*alloc)(device *d, size_t bytes, void **out); /* 256-byte aligned, content undefined */
    void (*release)(device *d, void *memory);
    int (*copy_in)(device *d, void *to, const void *host, size_t bytes);
    int (*copy_out)(device *d, void *host, const void *from, size_t bytes);
    int (*zero)(device *d, void *memory, size_t bytes);
    int (*wait)(device *d);                /* until all work is done; reports what failed on the way */
    int (*mark)(device *d, int64_t *mark); /* the place behind all work so far; the last DEVICE_MARKS can be reached */
    int (*reach)(device *d, int64_t mark); /* waits until all work before the mark is done */
    int (*available)(device *d, size_t *free_bytes, size_t *total_bytes);
    int (*limit)(device *d,
                 size_t bytes); /* alloc() fails beyond so many in all; 0: none. NULL: it cannot be limited */
    void (*close)(device *d);
};

/* Work that is recorded once and put on the lane again as a whole, with the same arguments: what changes from step to
 * step lies in device memory. All NULL where a device cannot. */
typedef struct device_program device_program;

struct device_recording {
    int (*begin)(device *d); /* from here on work is not done but recorded; copies from and to the host, allocations and
                                waiting are errors */
    int (*end)(device *d, device_program **out); /* out NULL: forgets what was recorded, also after an error */
    int (*replay)(device *d, device_program *p);
    void (*release)(device *d, device_program *p); /* NULL is fine */
};

/* What the counting device has added up since its owner last set them to zero. */
typedef struct device_counts {
    double flops;        /* of products and attention, 2 a multiply-add, needed ones alone */
    double bytes;        /* read and written by ops, each operand once */
    size_t memory, peak; /* bytes allocated now and at most */
} device_counts;

struct lckv_device {
    struct device_ops ops;
    struct device_formats formats;
    struct device_memory memory;
    struct device_recording recording;
    char name[32];     /* "cpu", "count", "cuda:0" */
    char features[64]; /* what results depend on to the bit, besides threads: processor level, library's choice */
    int threads;
    bool host_memory;        /* device pointers are host pointers: weights may be used where a file is mapped */
    bool has_invariant_rows; /* it can do what the next says */
    bool invariant_rows;     /* a row of an op's result is the same bits whatever rows are beside it; set between ops */
    bool counts_only;        /* nothing is computed, memory is not real: never read or written by the host */
    device_counts counts;
    void *own; /* the device's private state */
};

/* name: "cpu", "cuda", "cuda:N", "count", or "auto" (the first GPU, or the CPU where none can be used). threads: 0 for
 * all processors that this process may use. */
int device_open(const char *name, int threads, device **out);
void device_close(device *d); /* NULL is fine */

/* The composed ops through the device's other entries: what stands in its table unless it has faster ones. */
#define ENTRY(name, arguments) int device_##name(device *d, const struct op_##arguments *a);
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
void device_fill_composed(struct device_ops *ops);

/* An op's position in the table. */
typedef enum device_op {
#define ENTRY(name, arguments) DEVICE_##name,
    DEVICE_OPS(ENTRY) DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
        DEVICE_OP_COUNT
} device_op;

/* Fails with LCKV_ERROR_UNSUPPORTED if an operand of the op has a format that the op does not know on this device:
 * formats.c lists the operands and their formats. `accepted`: grouped formats of weights that the entry knows. */
int device_check_formats(const device *d, device_op op, unsigned accepted, const void *arguments);

/* The error of a call to an entry that is NULL. */
int device_lacks(const device *d, device_op op);

/* Calls an op. Fails if the device does not have it or does not know the format of an operand. */
#define ENTRY(entry, arguments)                                                                                        \
    static inline int device_run_##entry(device *d, const struct op_##arguments *a) {                                  \
        if (!d->ops.entry) return device_lacks(d, DEVICE_##entry);                                                     \
        int status = device_check_formats(d, DEVICE_##entry, d->formats.entry, a);                                     \
        return status < 0 ? status : d->ops.entry(d, a);                                                               \
    }
DEVICE_OPS(ENTRY)
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY

#define DEVICE_RUN(d, op, ...) device_run_##op((d), __VA_ARGS__)

#endif
