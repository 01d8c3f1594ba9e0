/* The ops of device.h as functions of tensors. Each runs the device's entry and, if a gradient is needed, pushes the
 * record that runs its _backward. device.h defines what an op computes; products and attention are in
 * ops_products.c. */
#include "graph/tape.h"

#define RUN(g, op, ...) DEVICE_RUN((g)->device, op, __VA_ARGS__)

/* ---------------------------------------------------------------- embed */

static int embed_backward(graph *g, record *r) {
    struct op_embed *a = &r->op.embed;
    a->dout = r->out->grad;
    TRY(tensor_gradient(g, r->in[0], &a->dtable));
    return RUN(g, embed_backward, a);
}

static int embed_run(graph *g, view ids, tensor *table, tensor *out) {
    struct op_embed a = {.ids = ids, .table = table->value, .out = out->value};
    TRY(RUN(g, embed, &a));
    if (!tape_wants(g, &table, 1)) return LCKV_OK;
    return tape_push(g, &(record){.backward = embed_backward, .out = out, .in = {table}, .op.embed = a});
}

int graph_embed(graph *g, view ids, tensor *table, tensor **out) {
    TRY(graph_tensor(g, ids.rows, table->value.cols, DTYPE_F32, out));
    return tensor_made(g, embed_run(g, ids, table, *out), out);
}

int graph_embed_chosen(graph *g, view ids, view previous, view from, tensor *table, tensor **out) {
    TRY(graph_tensor(g, ids.rows, table->value.cols, DTYPE_F32, out));
    struct op_embed a = {.ids = ids, .previous = previous, .from = from, .table = table->value, .out = (*out)->value};
    return tensor_made(g, RUN(g, embed, &a), out);
}

/* ---------------------------------------------------------------- rows */

static int gather_backward(graph *g, record *r) {
    struct op_gather_rows *a = &r->op.gather_rows;
    a->ddst = r->out->grad;
    TRY(tensor_gradient(g, r->in[0], &a->dsrc));
    return RUN(g, gather_rows_backward, a);
}

static int gather_run(graph *g, tensor *src, view index, tensor *out) {
    struct op_gather_rows a = {.src = src->value, .index = index, .dst = out->value};
    TRY(RUN(g, gather_rows, &a));
    if (!tape_wants(g, &src, 1)) return LCKV_OK;
    return tape_push(g, &(record){.backward = gather_backward, .out = out, .in = {src}, .op.gather_rows = a});
}

int graph_gather_rows(graph *g, tensor *src, view index, tensor **out) {
    TRY(graph_tensor(g, index.rows, src->value.cols, src->value.type, out));
    return tensor_made(g, gather_run(g, src, index, *out), out);
}

/* The record has no output of its own. The gradient of dst is complete here, because readers of these rows of dst
 * come later on the tape; other rows do not matter. */
static int scatter_backward(graph *g, record *r) {
    struct op_scatter_rows *a = &r->op.scatter_rows;
    a->ddst = r->saved->grad;
    if (!a->ddst.data) return LCKV_OK;
    TRY(tensor_gradient(g, r->in[0], &a->dsrc));
    return RUN(g, scatter_rows_backward, a);
}

int graph_scatter_rows(graph *g, tensor *src, view index, tensor *dst) {
    struct op_scatter_rows a = {.src = src->value, .index = index, .dst = dst->value};
    TRY(RUN(g, scatter_rows, &a));
    if (!tape_wants(g, &src, 1)) return LCKV_OK;
    dst->needs_grad = true;
    return tape_push(g, &(record){.backward = scatter_backward, .in = {src}, .saved = dst, .op.scatter_rows = a});
}

int graph_append_rows(graph *g, tensor *src, view index, view pages) {
    struct op_scatter_rows a = {.src = src->value, .index = index, .dst = pages};
    return RUN(g, scatter_rows, &a);
}

int graph_rounding_room(graph *g, const tensor *x, dtype type, int64_t group, tensor **memory, view *out) {
    *memory = NULL;
    *out = (view){NULL, x->value.rows, x->value.cols, type};
    if (type == DTYPE_F32 || type == x->value.type) return LCKV_OK;
    if (type == DTYPE_KV_INT8) out->group = (int32_t)group;
    size_t scales = view_scale_bytes(*out); /* first, so that they are aligned */
    TRY(graph_tensor(g, 1, (int64_t)(scales + view_bytes(*out)), DTYPE_U8, memory));
    if (scales) out->scales = (*memory)->value.data;
    out->data = (char *)(*memory)->value.data + scales;
    return LCKV_OK;
}

int graph_round(graph *g, tensor *x, dtype type, int64_t group) {
    view rounded;
    tensor *memory;
    TRY(graph_rounding_room(g, x, type, group, &memory, &rounded));
    if (!rounded.data) return LCKV_OK;
    int status = RUN(g, cast, &((struct op_cast){x->value, rounded}));
    if (status >= 0) status = RUN(g, cast, &((struct op_cast){rounded, x->value}));
    tensor_release(g, memory);
    return status;
}

/* ---------------------------------------------------------------- norm, rope, swiglu */

static int rms_norm_backward(graph *g, record *r) {
    struct op_rms_norm *a = &r->op.rms_norm;
    a->dy = r->out->grad;
    a->weight = r->reads[1]->value;
    a->y_again = tape_again(r->out);
    TRY(tensor_gradient(g, r->in[0], &a->dx));
    TRY(tensor_gradient(g, r->in[1], &a->dweight));
    TRY(tensor_rounded_gradient(g, r->in[0], &a->dx_rounded));
    return RUN(g, rms_norm_backward, a);
}

static int rms_norm_run(graph *g, tensor *x, tensor *weight, float eps, tensor *out, tensor *rstd) {
    struct op_rms_norm a = {.x = x->value, .weight = weight->value, .y = out->value, .rstd = rstd->value, .eps = eps};
    TRY(RUN(g, rms_norm, &a));
    tensor *inputs[] = {x, weight};
    if (!tape_wants(g, inputs, 2)) return LCKV_OK;
    return tape_push_maker(g, &(record){.backward = rms_norm_backward,
                                        .out = out,
                                        .in = {x, weight},
                                        .reads = {x, weight},
                                        .saved = rstd,
                                        .op.rms_norm = a});
}

int graph_rms_norm(graph *g, tensor *x, tensor *weight, float eps, dtype type, tensor **out) {
    view v = x->value;
    tensor *rstd;
    TRY(graph_tensor(g, v.rows, v.cols, type, out));
    int status = graph_tensor(g, v.rows, v.cols / weight->value.cols, DTYPE_F32, &rstd);
    if (status >= 0) status = rms_norm_run(g, x, weight, eps, *out, rstd);
    tensor_release(g, rstd);
    return tensor_made(g, status, out);
}

int graph_rope_angles(graph *g, const struct op_rope_angles *what, tensor **out) {
    TRY(graph_tensor(g, what->positions.rows, 2 * what->inverse_frequencies.cols, DTYPE_F32, out));
    struct op_rope_angles a = *what;
    a.angles = (*out)->value;
    return tensor_made(g, RUN(g, rope_angles, &a), out);
}

static int rope_backward(graph *g, record *r) {
    struct op_rope *a = &r->op.rope;
    a->dy = r->out->grad;
    TRY(tensor_gradient(g, r->in[0], &a->dx));
    return RUN(g, rope_backward, a);
}

static int rope_run(graph *g, tensor *x, tensor *angles, tensor *out) {
    struct op_rope a = {.x = x->value, .angles = angles->value, .y = out->value, .head_dim = (int)angles->value.cols};
    TRY(RUN(g, rope, &a));
    if (!tape_wants(g, &x, 1)) return LCKV_OK;
    return tape_push(g, &(record){.backward = rope_backward, .out = out, .in = {x}, .reads = {angles}, .op.rope = a});
}

int graph_rope(graph *g, tensor *x, tensor *angles, tensor **out) {
    TRY(graph_tensor(g, x->value.rows, x->value.cols, x->value.type, out));
    return tensor_made(g, rope_run(g, x, angles, *out), out);
}

static int split_heads_backward(graph *g, record *r) {
    struct op_split_heads *a = &r->op.split_heads;
    view *parts[PROJECT_PARTS] = {&a->dq, &a->dk, &a->dv};
    for (int i = 0; i < PROJECT_PARTS; i++) *parts[i] = r->outputs[i] ? r->outputs[i]->grad : (view){0};
    if (!a->dq.data && !a->dk.data && !a->dv.data) return LCKV_OK;
    TRY(tensor_gradient(g, r->in[0], &a->dx));
    TRY(RUN(g, split_heads_backward, a));
    for (int i = 0; i < PROJECT_PARTS; i++)
        if (r->outputs[i]) tensor_drop_gradient(g, r->outputs[i]);
    return LCKV_OK;
}

int tape_split_heads(graph *g, tensor *x, tensor *angles, tensor *const parts[PROJECT_PARTS]) {
    struct op_split_heads a = {.x = x->value, .angles = angles->value, .head_dim = (int)angles->value.cols};
    if (parts[0]) a.q = parts[0]->value;
    if (parts[1]) a.k = parts[1]->value;
    if (parts[2]) a.v = parts[2]->value;
    TRY(RUN(g, split_heads, &a));
    if (!tape_wants(g, &x, 1)) return LCKV_OK;
    record r = {.backward = split_heads_backward, .in = {x}, .reads = {angles}, .op.split_heads = a};
    for (int i = 0; i < PROJECT_PARTS; i++)
        if ((r.outputs[i] = parts[i])) parts[i]->needs_grad = true;
    return tape_push(g, &r);
}

static int swiglu_backward(graph *g, record *r) {
    struct op_swiglu *a = &r->op.swiglu;
    a->dy = r->out->grad;
    a->y_again = tape_again(r->out);
    TRY(tensor_gradient(g, r->in[0], &a->dgate));
    TRY(tensor_gradient(g, r->in[1], &a->dup));
    return RUN(g, swiglu_backward, a);
}

static int swiglu_run(graph *g, tensor *gate, tensor *up, tensor *out) {
    struct op_swiglu a = {.gate = gate->value, .y = out->value};
    if (up) a.up = up->value;
    TRY(RUN(g, swiglu, &a));
    tensor *inputs[] = {gate, up};
    if (!tape_wants(g, inputs, 2)) return LCKV_OK;
    return tape_push_maker(
        g, &(record){.backward = swiglu_backward, .out = out, .in = {gate, up}, .reads = {gate, up}, .op.swiglu = a});
}

int graph_swiglu(graph *g, tensor *gate, tensor *up, tensor **out) {
    int64_t cols = up ? gate->value.cols : gate->value.cols / 2;
    TRY(graph_tensor(g, gate->value.rows, cols, gate->value.type, out));
    return tensor_made(g, swiglu_run(g, gate, up, *out), out);
}

/* ---------------------------------------------------------------- dropout */

static int dropout_backward(graph *g, record *r) {
    struct op_dropout *a = &r->op.dropout;
    a->dy = r->out->grad;
    TRY(tensor_gradient(g, r->in[0], &a->dx));
    return RUN(g, dropout_backward, a);
}

static int dropout_run(graph *g, tensor *x, double p, tensor *out) {
    struct op_dropout a = {.x = x->value, .y = out->value, .seed = g->seed, .p = p, .stream = g->masks++};
    TRY(RUN(g, dropout, &a));
    if (!tape_wants(g, &x, 1)) return LCKV_OK;
    return tape_push(g, &(record){.backward = dropout_backward, .out = out, .in = {x}, .op.dropout = a});
}

int graph_dropout(graph *g, tensor *x, double p, tensor **out) {
    if (p == 0 || !g->seed.data) {
        *out = tensor_hold(x);
        return LCKV_OK;
    }
    TRY(graph_tensor(g, x->value.rows, x->value.cols, x->value.type, out));
    return tensor_made(g, dropout_run(g, x, p, *out), out);
}

/* ---------------------------------------------------------------- add */

static int add_to_gradient(graph *g, tensor *t, view dy) {
    struct op_accumulate a = {.src = dy, .scale = 1};
    TRY(tensor_gradient(g, t, &a.dst));
    return a.dst.data ? RUN(g, accumulate, &a) : LCKV_OK;
}

int tape_pass_gradient(graph *g, tensor *out, tensor *in) {
    if (!in || !tape_receives(g, in)) return LCKV_OK;
    if (in->weight || in->grad.data) return add_to_gradient(g, in, out->grad);
    in->grad = out->grad;
    out->grad.data = NULL;
    return LCKV_OK;
}

/* Both gradients are dy. */
static int add_backward(graph *g, record *r) {
    if (r->in[1]) TRY(add_to_gradient(g, r->in[1], r->out->grad));
    return tape_pass_gradient(g, r->out, r->in[0]);
}

static int add_run(graph *g, tensor *a, tensor *b, tensor *out) {
    struct op_add arguments = {a->value, b->value, out->value};
    TRY(RUN(g, add, &arguments));
    tensor *inputs[] = {a, b};
    if (!tape_wants(g, inputs, 2)) return LCKV_OK;
    return tape_push(g, &(record){.backward = add_backward, .out = out, .in = {a, b}});
}

int graph_add(graph *g, tensor *a, tensor *b, tensor **out) {
    TRY(graph_tensor(g, a->value.rows, a->value.cols, DTYPE_F32, out));
    return tensor_made(g, add_run(g, a, b, *out), out);
}
