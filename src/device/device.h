/* A device: memory, and a table of ops. The forward and backward passes are written once against this interface.
 *
 * Rules for every entry:
 * - A NULL entry is unsupported. An entry returns LCKV_OK or a negative status (status.h).
 * - Ops run in order on the device's compute stream and do not wait. Only wait() and reach() wait. copy_in() has
 *   read its source when it returns; the result of copy_out() is complete after wait().
 * - Values that change between steps (ids, positions, sequences, page tables, labels, learning rate, clip factor,
 *   random counters) are read from device memory. Struct fields contain shapes, constants and maxima. Therefore the
 *   same structs, replayed, perform the next step.
 * - Tensors are row-major and contiguous: view {data, rows, cols, type}. A view whose data is NULL is absent.
 * - "compute type": f32 or bf16, one per call. "weight": f32, bf16 or f16, whatever the compute type, or a grouped
 *   format that the device knows (device_formats). Sums and products accumulate in f32 or wider.
 * - Forward entries write all of their outputs. Backward entries add to the gradients d*, which are f32, and skip
 *   absent ones. A backward entry reads the fields that its forward entry wrote.
 * - On a device with `compute_gradients`, the gradients of activations may also be bf16 if the compute type is, and a
 *   gradient may be marked `fresh`: it has no value yet, and the entry writes all of it instead of adding.
 * - The same call gives the same bits with the same number of threads and processor features. There are no
 *   floating-point atomics.
 * - Any extent may be 0 (rows, columns, width, heads, vocabulary, sequences; head_dim is at least 1). A sum or mean
 *   over nothing is 0: linear of depth 0 is the bias, attention to no key gives zeros (lse -inf). Empty outputs are
 *   not touched. An index into an empty table is out of range.
 * - Padding rows of a batch contain arbitrary finite values that nothing reads. An index out of range reads zeros
 *   and writes nothing.
 * - Outputs do not overlap inputs unless the op says so.
 *
 * Leaves out: models, layers, tapes, ownership of tensors. */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "base/status.h"
#include "device/dtype.h"

typedef struct lckv_device device;

typedef struct view {
    void *data; /* device memory */
    int64_t rows, cols;
    dtype type;
    void *scales;  /* of a format with scales (dtype.h); NULL for the others */
    bool fresh;    /* of a gradient: undefined so far; see the rules above */
    int32_t group; /* columns per scale of kv_int8; 0 for the others */
} view;

/* Bytes of the values, of the scales, and of both. */
static inline size_t view_bytes(view v) {
    return (size_t)v.rows * dtype_row_bytes(v.type, v.cols);
}

static inline size_t view_row_scale_bytes(view v) {
    return v.group ? (size_t)(v.cols / v.group) * sizeof(float) : dtype_row_scale_bytes(v.type, v.cols);
}

static inline size_t view_scale_bytes(view v) {
    return (size_t)v.rows * view_row_scale_bytes(v);
}

static inline size_t view_all_bytes(view v) {
    return view_bytes(v) + view_scale_bytes(v);
}

/* `count` rows from row `first` on. */
static inline view view_rows(view v, int64_t first, int64_t count) {
    v.data = (char *)v.data + (size_t)first * dtype_row_bytes(v.type, v.cols);
    if (v.scales) v.scales = (char *)v.scales + (size_t)first * view_row_scale_bytes(v);
    v.rows = count;
    return v;
}

/* `count` elements from element `first` on, as one row. Not for grouped formats. */
static inline view view_elements(view v, int64_t first, int64_t count) {
    view part = {(char *)v.data + (size_t)first * dtype_element_bytes(v.type), 1, count, v.type, NULL, false, 0};
    return part;
}

/* ---------------------------------------------------------------- rows and embeddings */

/* out[r] = table[ids[r]], with previous[from[r]] instead of ids[r] if from[r] >= 0.
 * backward, without `previous`: dtable[ids[r]] += dout[r] */
struct op_embed {
    view ids;      /* i32 [rows, 1] */
    view previous; /* i32 [n, 1]: ids chosen by an earlier op; may be absent */
    view from;     /* i32 [rows, 1], less than n; absent with it */
    view table;    /* weight [vocab_size, hidden_size] */
    view out;      /* f32 [rows, hidden_size] */
    view dout, dtable;
};

/* dst[r] = src[index[r]].
 * backward: dsrc[index[r]] += ddst[r] (an index may occur several times) */
struct op_gather_rows {
    view src;   /* f32 or compute type [n, cols] */
    view index; /* i32 [rows, 1], 0 <= index < n */
    view dst;   /* same type [rows, cols] */
    view dsrc, ddst;
};

/* dst[index[r]] = src[r], converted to dst's type. Rows with a negative index are skipped; other rows of dst do not
 * change. dst may be kv_int8, if the device knows it.
 * backward: dsrc[r] += ddst[index[r]] (no two rows share an index) */
struct op_scatter_rows {
    view src;   /* f32 or bf16 [rows, cols] */
    view index; /* i64 [rows, 1] */
    view dst;   /* f32 or bf16 [n, cols] */
    view dsrc, ddst;
};

/* ---------------------------------------------------------------- norm, rope, mlp, residual */

/* RMSNorm (Zhang and Sennrich 2019) over each group of `width` columns:
 *   y = weight * x * rstd,  rstd = 1 / sqrt(mean(x^2) + eps)
 * With width = cols it is the layer's norm, with width = head_dim Qwen3's norm of each head. */
struct op_rms_norm {
    view x;      /* f32 or compute type [rows, cols] */
    view weight; /* weight [1, width], cols a multiple of width */
    view y;      /* compute type or f32 [rows, cols] */
    view rstd;   /* f32 [rows, cols / width] */
    float eps;
    view dy, dx, dweight;
    view y_again;    /* of y's type and shape: backward writes y again, with the same bits; may be absent */
    view dx_rounded; /* bf16 [rows, cols]: dx after this op, rounded; only with `compute_gradients`, may be absent */
};

/* angles[r] = scale * cos(positions[r] * f), scale * sin(positions[r] * f) for f in inverse_frequencies. The product
 * and the reduction of the angle are in f64, because positions are 64-bit (a stream may have any length).
 *
 * If `lengths` is present, a row with lengths[r] > limit uses the second row of frequencies if there are two
 * (longrope); otherwise
 *   f[i] = inverse_frequencies[i] * (growth * lengths[r] / limit - (growth - 1))^(-2i / (head_dim - 2)),
 * the dynamic NTK scaling of transformers with factor `growth`. */
struct op_rope_angles {
    view positions;           /* i64 [rows, 1] */
    view lengths;             /* i64 [rows, 1]: tokens of the row's sequence; may be absent */
    view inverse_frequencies; /* f64 [1 or 2, head_dim / 2] */
    view angles;              /* f32 [rows, head_dim]: the cosines, then the sines */
    int64_t limit;            /* maximum length with plain frequencies, in tokens, at least 1 */
    double growth;            /* at least 1 */
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

/* Queries, keys and values of one matrix, whose columns are those of q, k and v: q and k are rotated as by op_rope, v
 * is copied. Absent parts have no columns in x. backward: dx += the parts' gradients, rotated back. Absent gradients
 * of present parts are zero. */
struct op_split_heads {
    view x;       /* compute type [rows, cols of q, k and v] */
    view angles;  /* f32 [rows, head_dim] */
    view q, k, v; /* compute type [rows, heads * head_dim] and twice [rows, kv_heads * head_dim] */
    int head_dim;
    view dq, dk, dv, dx;
};

/* y = silu(gate) * up,  silu(x) = x / (1 + exp(-x)). Without `up`, the columns of `gate`, and of `dgate`, are those of
 * both: [rows, 2 * cols]. */
struct op_swiglu {
    view gate, up, y; /* compute type [rows, cols] */
    view dy, dgate, dup;
    view y_again; /* of y's type and shape: backward writes y again, with the same bits; may be absent */
};

/* Dropout (Srivastava et al. 2014): y = x * mask, where the mask is 0 with probability p, else 1 / (1 - p). It is a
 * function of (seed, stream, position) and computed again in the backward pass: element e of the tensor is dropped
 * if word e % 4 of rng_block(seed, stream, e / 4) is below dropout_threshold(p).
 * backward: dx += dy * mask */
struct op_dropout {
    view x, y;       /* compute type [rows, cols] */
    view seed;       /* i64 [1, 1]: its 64 bits are the seed */
    double p;        /* 0 <= p < 1 */
    uint64_t stream; /* distinguishes the uses of one seed */
    view dy, dx;
};

static inline uint32_t dropout_threshold(double p) {
    return (uint32_t)(p * 0x1p32);
}

static inline float dropout_scale(double p) {
    return (float)(1 / (1 - p));
}

/* y = a + b. y may be a or b. Gradients of a sum are copies: see op_accumulate. */
struct op_add {
    view a, b, y; /* f32 [rows, cols] */
};

/* dst += scale * src, rounded once if dst is bf16; dst = scale * src if dst is fresh */
struct op_accumulate {
    view src; /* f32, bf16 or f16 [rows, cols] */
    view dst; /* f32 or bf16 [rows, cols] */
    float scale;
};

/* dst = src, converted (round to nearest even). Any two of f32, bf16, f16 and, if the device knows it, kv_int8; equal
 * types copy. */
struct op_cast {
    view src, dst; /* [rows, cols] */
};

/* ---------------------------------------------------------------- products */

/* y = x weight^T + bias.   backward: dx += dy weight,  dweight += dy^T x,  dbias += sum of dy over rows */
struct op_linear {
    view x;      /* compute type [rows, in]; backward only reads it for dweight, and it may be absent without */
    view weight; /* weight [out, in] */
    view bias;   /* weight [1, out], may be absent */
    view y;      /* compute type or f32 [rows, out] */
    view dy, dx, dweight, dbias;
    view dy_rounded; /* compute type [rows, out]: workspace of two calls with the same dy, one for dx and one for
                      * dweight. The first one, where it is fresh, may leave the rounded dy there. May be absent */
};

/* Cross-entropy of x weight^T against labels, without storing [rows, vocab_size]. It is the root of a backward pass,
 * and the divisor of the loss is known beforehand (*scale). Therefore forward and backward share one pass over the
 * logits: if dx or dweight is given, gradients of *loss are added at once.
 *   nll[r] = logsumexp(x[r] weight^T) - (x[r] weight^T)[labels[r]],   *loss += *scale * sum of nll */
struct op_linear_cross_entropy {
    view x;       /* compute type [rows, hidden_size] */
    view weight;  /* weight [vocab_size, hidden_size] */
    view labels;  /* i32 [rows, 1]; a label outside the vocabulary means none: nll 0, no gradient */
    view scale;   /* f32 [1, 1]: usually 1 / number of labels of the whole step */
    view loss;    /* f64 [1, 1], added to; may be absent */
    view nll;     /* f32 [rows, 1]; may be absent */
    view correct; /* i32 [rows, 1]: 1 if the label has the largest logit (the first of equal ones), else 0; may be
                   * absent */
    view dx, dweight;
};

/* ---------------------------------------------------------------- attention */

/* The rows of one sequence's queries, new keys and past keys. The list of keys of a sequence is its past rows
 * followed by its new rows. Query row i has index `past + q_offset + i` in this list; masks refer to these indices. */
typedef struct attention_sequence {
    int32_t q_row, q_rows;   /* its rows of q and out */
    int32_t kv_row, kv_rows; /* its rows of k and v */
    int32_t q_offset;        /* query row i has the position of new row q_offset + i */
    int32_t past;            /* committed rows, found through the page table */
    int32_t sinks;           /* the first `sinks` past rows are in pages of their own, the first ones of the table */
    int32_t skip;            /* past row sinks + j is row skip + j of the pages after those */
} attention_sequence;

/* Past row u of a sequence is row table[u / page_rows] * page_rows + u % page_rows of `k` and `v`. For u < sinks, u
 * counts from the table's first page; for the others, u - sinks + skip counts from page ceil(sinks / page_rows). */
struct kv_pages {
    view k, v;  /* f32, bf16 or kv_int8 [pages * page_rows, kv_heads * head_dim]; absent: no sequence has a past */
    view table; /* i32 [sequences, maximum pages per sequence] */
    int32_t page_rows; /* tokens per page, a power of two */
};

/* out[i] = sum over visible u of softmax_u(scale * q[i] . k[u]) v[u], for each head; head h reads KV head h / (heads
 * / kv_heads). Entry u of the list is visible to the query at index t if
 *   u <= t (strict: u < t), and with a window W > 0 also u > t - W.
 * A query without visible keys yields zeros. Keys are stored rotated at their absolute position. Sinks, whose index
 * in the list is not their distance, are multiplied by q_sink, the query rotated to its index in the list.
 * backward (no past, no q_sink): dq, dk, dv from dout and lse; FlashAttention-2 (Dao 2023), section 3.1. */
struct op_attention {
    view q;      /* compute type [rows, heads * head_dim] */
    view q_sink; /* the same, rotated for the sinks; may be absent, then q is used */
    view k, v;   /* new rows, compute type [kv rows, kv_heads * head_dim]; may be absent, or have fewer rows than the
                  * sequences say if no query sees the missing rows (decoding tokens of strict layers) */
    view out;    /* compute type [rows, heads * head_dim]; rows of no sequence are not written, also of lse */
    view lse;    /* f32 [rows, heads]: log of the sum of exp(scores), -inf where nothing is visible; may be absent */
    struct kv_pages past;
    view sequences;                            /* attention_sequence as u8 [count, sizeof] */
    int32_t max_q_rows, max_kv_rows, max_past; /* of any sequence; upper bounds */
    double pairs; /* (query, visible key) pairs of all sequences, for the counting device */
    int heads, kv_heads, head_dim;
    bool strict;
    int64_t window; /* 0: none */
    float scale;    /* usually 1 / sqrt(head_dim) */
    view dout, dq, dk, dv;
};

/* ---------------------------------------------------------------- several ops in one */

/* Sequences of the ops above in one call, without a backward entry. compose.c defines what they compute, up to
 * rounding between the ops. A device may have faster entries. */

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
    view normed;  /* compute type [rows, in]: workspace for h, undefined afterwards */
    view rstd;    /* f32 [rows, 1]: workspace */
};

/* product.y = residual + product.x product.weight^T + product.bias */
struct op_linear_add {
    struct op_linear product; /* y: f32 */
    view residual;            /* f32 [rows, out] */
};

/* q_out = rope(q) and k_out = rope(k). Then, for each row, k_out and v are written to row index[r] of pages_k and
 * pages_v, as in scatter_rows. With `room`, k_out and v are then rounded to the pages' type and back, so that they have
 * the values that pages hold. Queries may be absent, and so may keys, values and pages. */
struct op_rope_append {
    view q, q_out;         /* compute type [rows, heads * head_dim] */
    view k, v, k_out;      /* compute type [rows, kv_heads * head_dim] */
    view angles;           /* f32 [rows, head_dim] */
    view index;            /* i64 [rows, 1] */
    view pages_k, pages_v; /* f32, bf16 or kv_int8 [n, kv_heads * head_dim] */
    view room;             /* pages' type [rows, kv_heads * head_dim]: workspace; may be absent */
    int head_dim;
};

/* Both: products of normed rows whose parts are queries, keys and values (either the queries or the other two may be
 * absent), which are then rotated and appended. append.q, k and v are the parts' y; q and k are undefined
 * afterwards. */
struct op_heads {
    struct op_project project;
    struct op_rope_append append;
};

/* ---------------------------------------------------------------- choosing tokens */

/* How a token is sampled from one row, in the order of transformers' processors: bias, repetition penalty,
 * temperature, top-k, top-p, min-p. Temperature 0 is greedy: the largest penalized logit, the first of equal ones.
 * cpu/sample.c defines edge cases and the draw, in integers, so that every device gives the same token. */
typedef struct sample_row {
    uint64_t seed, stream, counter; /* rng.h: the token is a function of these and the logits */
    float temperature;
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off */
    int32_t top_k;            /* 0: off */
    int32_t biased;           /* 1: its row of `bias` is used */
    /* With `biased`: subtracted from the bias of the chosen id; the first only if `penalized` does not have the id. */
    float presence_penalty, frequency_penalty;
} sample_row;

struct op_sample {
    view logits;    /* f32 [rows, vocab_size], not changed */
    view how;       /* sample_row as u8 [rows, sizeof] */
    view seen;      /* u8 [rows, vocab_size]: 1 for ids that are penalized; the chosen one is added. May be absent */
    view ids;       /* i32 [rows, 1]; -1 if a logit is NaN or +inf, or all are -inf; then logprob is NaN */
    view logprob;   /* f32 [rows, 1]: log-softmax of the original logits at the chosen id; may be absent */
    view bias;      /* f32 [rows, vocab_size], finite: added to the logits of biased rows; may be absent */
    view penalized; /* u8 [rows, vocab_size]: 1 for ids that had the presence penalty; the chosen one is added in biased
                     * rows. May be absent if no row has a presence penalty */
};

/* ---------------------------------------------------------------- optimizer */

/* *out += sum of (x - minus)^2 */
struct op_sum_squares {
    view x;     /* f32 or bf16 [rows, cols] */
    view out;   /* f64 [1, 1] */
    view minus; /* shape and type of x; absent: 0 */
};

/* State of one optimizer step in device memory. The host fills the first part in each step, op_clip the second. */
typedef struct step_state {
    float learning_rate, beta1, beta2, epsilon;
    float correction1, correction2; /* 1 - beta^step */
    float max_grad_norm;            /* 0: no clipping */
    float clip_factor;              /* by op_clip: min(1, max_grad_norm / (norm + 1e-6)), 1 without clipping */
    double grad_norm;               /* by op_clip */
    int32_t finite;                 /* by op_clip: 1 if norm and loss are finite and the norm is at most
                                     * skip_grad_norm; with 0, op_adamw only sets gradients to 0 */
    float skip_grad_norm;           /* 0 disables skipping */
    uint64_t rounding_seed;         /* of this step, see op_adamw */
} step_state;

/* state->grad_norm = sqrt(*sum_squares); clip_factor and finite follow from it and *loss. */
struct op_clip {
    view sum_squares, loss; /* f64 [1, 1] */
    view state;             /* step_state as u8 [1, sizeof] */
};

/* AdamW (Loshchilov and Hutter 2019) as in torch.optim.AdamW, on gradients times clip_factor:
 *   p *= 1 - lr * decay;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *   p -= lr * (m / correction1) / (sqrt(v / correction2) + epsilon)
 * then weight = p, converted, and grad = 0.
 *
 * If p, m and v are bf16, they are computed in f32 and rounded stochastically: up with a probability equal to the
 * fraction, so that they are right on average however small a step is (Gupta et al. 2015, "Deep Learning with
 * Limited Numerical Precision"). 16 random bits are added to the lower half of the f32, which is then dropped.
 * Element i of the call is element e = first + i of its tensor; of the words w of rng_block(rounding_seed, stream, e
 * / 2), p, m and v use the lower half of w[k], the upper half of it, and the lower half of w[k + 1], with k = 2 (e %
 * 2). */
struct op_adamw {
    view master; /* f32 or bf16 [rows, cols] */
    view weight; /* what ops read, if that is another buffer (bf16 of an f32 master); else absent */
    view grad;   /* f32 [rows, cols] */
    view m, v;   /* of master's type [rows, cols] */
    view state;  /* step_state */
    float weight_decay;
    uint64_t stream; /* distinguishes the tensors of a model */
    int64_t first;
};

/* dst = deviation * standard normal numbers: element i is number i % 2 of rng_normal2(seed, stream, i / 2). */
struct op_fill_normal {
    view dst; /* f32, bf16 or f16 */
    float deviation;
    uint64_t seed, stream;
};

/* ---------------------------------------------------------------- the table */

/* Name and argument struct; _backward if there is one. */
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
    ENTRY(split_heads, split_heads)                                                                                    \
    ENTRY(split_heads_backward, split_heads)                                                                           \
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

/* Composed ops. */
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

/* For each op, the set of grouped formats (dtype.h) that its entry accepts as a weight. A composed op that the
 * device does not override accepts those of `linear`. `attention` has the formats of KV pages that may differ from the
 * compute type; with kv_int8, scatter_rows and cast know it, too. */
struct device_formats {
#define ENTRY(name, arguments) unsigned name;
    DEVICE_OPS(ENTRY)
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
};

enum { DEVICE_MARKS = 8 };

/* Memory and synchronization; every device has all entries. The result of copy_out() is complete after wait(), or
 * after reach() of a later mark, so that results can be read one step late while the next step runs. */
struct device_memory {
    int (*alloc)(device *d, size_t bytes, void **out); /* 256-byte aligned, content undefined */
    void (*release)(device *d, void *memory);
    int (*copy_in)(device *d, void *to, const void *host, size_t bytes);
    int (*copy_out)(device *d, void *host, const void *from, size_t bytes);
    int (*clock_out)(device *d, double *host); /* clock_seconds() at the moment at which all work so far is done;
                                                * arrives as the result of a copy_out() */
    int (*zero)(device *d, void *memory, size_t bytes);
    int (*wait)(device *d);                /* until all work is done; returns errors of that work */
    int (*mark)(device *d, int64_t *mark); /* a point after all work so far */
    int (*reach)(device *d, int64_t mark); /* waits until all work before the mark is done; an older mark than the last
                                            * DEVICE_MARKS waits for the oldest of these */
    int (*available)(device *d, size_t *free_bytes, size_t *total_bytes);
    int (*limit)(device *d, size_t bytes); /* maximum bytes of all alloc() together; 0: none. NULL: no limit possible */
    void (*close)(device *d);
};

/* Work that is recorded once and then replayed with the same arguments: values that change between steps are in
 * device memory. All entries are NULL if the device cannot record. */
typedef struct device_program device_program;

struct device_recording {
    int (*begin)(device *d); /* from here on, work is recorded instead of run; copies from and to the host,
                              * allocations and waiting are errors */
    int (*end)(device *d, device_program **out); /* out NULL: discards the recording, also after an error */
    int (*replay)(device *d, device_program *p);
    void (*release)(device *d, device_program *p); /* NULL is fine */
};

/* Totals of the counting device since its owner set them to zero. */
typedef struct device_counts {
    double flops;        /* of products and attention, 2 per multiply-add, without masked pairs */
    double bytes;        /* read and written by ops, once per operand */
    size_t memory, peak; /* bytes allocated now, and the maximum */
} device_counts;

struct lckv_device {
    struct device_ops ops;
    struct device_formats formats;
    struct device_memory memory;
    struct device_recording recording;
    char name[32];     /* "cpu", "count", "cuda:0" */
    char features[64]; /* results depend on this and on the number of threads: CPU feature level, library */
    int threads;
    bool host_memory;        /* device pointers are host pointers, so that weights can be used in mapped files */
    bool has_invariant_rows; /* supports invariant_rows */
    bool invariant_rows;     /* the bits of a row do not depend on the other rows of the call; changed between ops
                              * only */
    bool compute_gradients;  /* see the rules for gradients above */
    bool counts_only;        /* nothing is computed, and memory must not be read or written */
    device_counts counts;
    struct device_profile *profile; /* NULL unless the device is profiled (profile.h) */
    void *own;                      /* private state of the device */
};

/* name: "cpu", "cuda", "cuda:N", "count", or "auto" (the first GPU, or the CPU if there is no usable one). threads:
 * 0 for all processors available to this process. */
int device_open(const char *name, int threads, device **out);
void device_close(device *d); /* NULL is fine */
int device_processors(void);  /* number of CPU threads that this process may use; device_open() takes them for 0 */
int device_gpus(void);        /* number of GPUs that this process sees; 0 if lckv cannot use the first one */

/* The composed ops as sequences of the device's other entries. */
#define ENTRY(name, arguments) int device_##name(device *d, const struct op_##arguments *a);
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
void device_fill_composed(struct device_ops *ops); /* entries that are NULL */

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

const char *device_op_name(device_op op); /* "linear" */

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
