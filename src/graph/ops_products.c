/* Products as functions of tensors: linear, attention, linear + cross-entropy. See ops.c. */
#include "graph/tape.h"

#define RUN(g, op, ...) DEVICE_RUN((g)->device, op, __VA_ARGS__)

/* ---------------------------------------------------------------- linear */

static int linear_backward(graph *g, record *r) {
    struct op_linear *a = &r->op.linear;
    a->dy = r->out->grad;
    if (r->reads[1]) a->weight = r->reads[1]->value;
    TRY(tensor_gradient(g, r->in[0], &a->dx));
    TRY(tensor_gradient(g, r->in[1], &a->dweight));
    TRY(tensor_gradient(g, r->in[2], &a->dbias));
    return tape_linear_backward(g, r, a);
}

static int linear_run(graph *g, tensor *x, tensor *weight, tensor *bias, tensor *out) {
    struct op_linear a = {.x = x->value, .weight = weight->value, .y = out->value};
    if (bias) a.bias = bias->value;
    TRY(RUN(g, linear, &a));
    tensor *inputs[] = {x, weight, bias};
    if (!tape_wants(g, inputs, 3)) return LCKV_OK;
    /* x is only read for the weight's gradient: with a frozen weight it is not kept. The weight may have moved until
     * it is read. */
    return tape_push(g, &(record){.backward = linear_backward,
                                  .out = out,
                                  .in = {x, weight, bias},
                                  .reads = {NULL, weight},
                                  .x = weight->needs_grad ? x : NULL,
                                  .op.linear = a});
}

static int plain_linear(graph *g, tensor *x, tensor *weight, tensor *bias, dtype type, tensor **out) {
    TRY(graph_tensor(g, x->value.rows, weight->value.rows, type, out));
    return tensor_made(g, linear_run(g, x, weight, bias, *out), out);
}

/* No other record has added to y's gradient, because the sum in y's memory is the only reader of y. */
static int sum_backward(graph *g, record *r) {
    tensor *y = r->in[0], *term = r->in[1];
    struct op_accumulate a = {.src = r->out->grad, .scale = r->op.accumulate.scale};
    TRY(tensor_gradient(g, term, &a.dst));
    if (a.dst.data) TRY(RUN(g, accumulate, &a));
    if (!y || !tape_receives(g, y)) return LCKV_OK;
    y->grad = r->out->grad;
    r->out->grad.data = NULL;
    return LCKV_OK;
}

static int sum_run(graph *g, tensor *y, tensor *term, float scale, tensor *out) {
    struct op_accumulate a = {.src = term->value, .dst = out->value, .scale = scale};
    TRY(RUN(g, accumulate, &a));
    tensor *inputs[] = {y, term};
    if (!tape_wants(g, inputs, 2)) return LCKV_OK;
    return tape_push(g, &(record){.backward = sum_backward, .out = out, .in = {y, term}, .op.accumulate = a});
}

/* dropout(x) a^T */
static int low_rank_inner(graph *g, tensor *x, const low_rank *plus, tensor **inner) {
    tensor *kept;
    *inner = NULL;
    TRY(graph_dropout(g, x, plus->dropout, &kept));
    int status = plain_linear(g, kept, plus->a, NULL, g->compute, inner);
    tensor_release(g, kept);
    return status;
}

/* out = y + scale (dropout(x) a^T) b^T, in y's memory. */
static int add_low_rank(graph *g, tensor *x, const low_rank *plus, tensor *y, tensor **out) {
    tensor *inner, *term;
    TRY(low_rank_inner(g, x, plus, &inner));
    int status = plain_linear(g, inner, plus->b, NULL, DTYPE_F32, &term);
    tensor_release(g, inner);
    TRY(status);
    status = graph_prefix(g, y, y->value.rows, out);
    if (status >= 0) status = tensor_made(g, sum_run(g, y, term, plus->scale, *out), out);
    tensor_release(g, term);
    return status;
}

int graph_linear(graph *g, tensor *x, tensor *weight, tensor *bias, dtype type, tensor **out) {
    tensor *y;
    if (!weight->plus) return plain_linear(g, x, weight, bias, type, out);
    *out = NULL;
    TRY(plain_linear(g, x, weight, bias, type, &y));
    int status = add_low_rank(g, x, weight->plus, y, out);
    tensor_release(g, y);
    return status;
}

/* A linear op without input columns is its bias. */
static int bias_run(graph *g, tensor *bias, tensor *out) {
    view v = out->value;
    struct op_linear a = {.x = {v.data, v.rows, 0, g->compute},
                          .weight = {bias->value.data, v.cols, 0, bias->value.type},
                          .bias = bias->value,
                          .y = v};
    TRY(RUN(g, linear, &a));
    if (!tape_wants(g, &bias, 1)) return LCKV_OK;
    return tape_push(g, &(record){.backward = linear_backward, .out = out, .in = {NULL, NULL, bias}, .op.linear = a});
}

int graph_bias(graph *g, tensor *bias, int64_t rows, tensor **out) {
    TRY(graph_tensor(g, rows, bias->value.cols, DTYPE_F32, out));
    return tensor_made(g, bias_run(g, bias, *out), out);
}

/* ---------------------------------------------------------------- attention */

static int attention_backward(graph *g, record *r) {
    struct op_attention *a = &r->op.attention;
    a->dout = r->out->grad;
    if (g->attention_begins) TRY(g->attention_begins(g->attention_user));
    TRY(tensor_gradient(g, r->in[0], &a->dq));
    TRY(tensor_gradient(g, r->in[1], &a->dk));
    TRY(tensor_gradient(g, r->in[2], &a->dv));
    return RUN(g, attention_backward, a);
}

static int attention_run(graph *g, struct op_attention *a, tensor *const in[3], tensor *out) {
    a->out = out->value;
    if (g->attention_begins) TRY(g->attention_begins(g->attention_user));
    if (!tape_wants(g, in, 3)) return RUN(g, attention, a);
    tensor *lse;
    TRY(graph_tensor(g, a->q.rows, a->heads, DTYPE_F32, &lse));
    a->lse = lse->value;
    int status = RUN(g, attention, a);
    if (status >= 0)
        status = tape_push(g, &(record){.backward = attention_backward,
                                        .out = out,
                                        .in = {in[0], in[1], in[2]},
                                        .reads = {in[0], in[1], in[2], out},
                                        .saved = lse,
                                        .op.attention = *a});
    tensor_release(g, lse);
    return status;
}

/* Number of (query, visible key) pairs. */
static double count_pairs(const struct op_attention *a, const attention_sequence *sequences) {
    double pairs = 0;
    for (int64_t i = 0; i < a->sequences.rows; i++) {
        const attention_sequence *s = &sequences[i];
        for (int32_t q = 0; q < s->q_rows; q++) {
            int64_t seen = (int64_t)s->past + s->q_offset + q + !a->strict;
            int64_t limit = a->window ? a->window - a->strict : INT64_MAX;
            pairs += (double)(seen < limit ? seen : limit);
        }
    }
    return pairs;
}

int graph_attention(graph *g, tensor *q, tensor *q_sink, tensor *k, tensor *v, const struct op_attention *constants,
                    const attention_sequence *host, tensor **out) {
    struct op_attention a = *constants;
    if (g->device->counts_only || g->device->profile) a.pairs = count_pairs(&a, host);
    a.q = q->value;
    if (q_sink) a.q_sink = q_sink->value;
    if (k) a.k = k->value;
    if (v) a.v = v->value;
    TRY(graph_tensor(g, q->value.rows, q->value.cols, q->value.type, out));
    return tensor_made(g, attention_run(g, &a, (tensor *[]){q, k, v}, *out), out);
}

/* ---------------------------------------------------------------- linear + cross-entropy */

/* The root of the backward pass. Its gradients are added when it runs, so it needs no record. */
int graph_linear_cross_entropy(graph *g, tensor *x, tensor *weight, const struct op_linear_cross_entropy *constants) {
    struct op_linear_cross_entropy a = *constants;
    a.x = x->value;
    a.weight = weight->value;
    tensor *inputs[] = {x, weight};
    if (tape_wants(g, inputs, 2)) {
        TRY(tensor_gradient(g, x, &a.dx));
        TRY(tensor_gradient(g, weight, &a.dweight));
    }
    return RUN(g, linear_cross_entropy, &a);
}

/* ---------------------------------------------------------------- square loss */

int graph_square_loss(graph *g, tensor *x, const tensor *target, float scale, view sums) {
    view gradient;
    TRY(graph_square_distance(g, x, target, sums));
    if (!g->recording || !x->needs_grad) return LCKV_OK;
    TRY(tensor_gradient(g, x, &gradient));
    TRY(RUN(g, accumulate, &(struct op_accumulate){.src = x->value, .dst = gradient, .scale = 2 * scale}));
    gradient.fresh = false;
    return RUN(g, accumulate, &(struct op_accumulate){.src = target->value, .dst = gradient, .scale = -2 * scale});
}
