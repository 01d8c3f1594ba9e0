/* The composed ops of device.h as functions of tensors. If a weight has a low-rank addition, or if a gradient is needed
 * of other ops than linear_add, their parts run as separate ops; packed parts then are one product. */
#include "graph/tape.h"

#define RUN(g, op, ...) DEVICE_RUN((g)->device, op, __VA_ARGS__)

/* ---------------------------------------------------------------- linear_add */

/* The product's gradients, then the residual's, which is that of the sum. */
static int linear_add_backward(graph *g, record *r) {
    struct op_linear *a = &r->op.linear;
    a->dy = r->out->grad_rounded.data ? r->out->grad_rounded : r->out->grad;
    a->weight = r->reads[1]->value;
    TRY(tensor_gradient(g, r->in[0], &a->dx));
    TRY(tensor_gradient(g, r->in[1], &a->dweight));
    TRY(tensor_gradient(g, r->in[2], &a->dbias));
    TRY(tape_linear_backward(g, r, a));
    return tape_pass_gradient(g, r->out, r->in[3]);
}

static int run_linear_add(graph *g, tensor *x, tensor *weight, tensor *bias, tensor *residual, tensor *out) {
    struct op_linear_add a = {.product = {.x = x->value, .weight = weight->value, .y = out->value},
                              .residual = residual->value};
    tensor *inputs[] = {x, weight, bias, residual};
    if (bias) a.product.bias = bias->value;
    TRY(RUN(g, linear_add, &a));
    if (!tape_wants(g, inputs, 4)) return LCKV_OK;
    out->rounds_grad = !bias || !bias->needs_grad; /* the gradient of a bias is a sum of unrounded numbers */
    return tape_push(g, &(record){.backward = linear_add_backward,
                                  .out = out,
                                  .in = {x, weight, bias, residual},
                                  .reads = {NULL, weight},
                                  .x = weight->needs_grad ? x : NULL,
                                  .op.linear = a.product});
}

int graph_linear_add(graph *g, tensor *x, tensor *weight, tensor *bias, tensor *residual, tensor **out) {
    tensor *branch;
    *out = NULL;
    if (!weight->plus) {
        TRY(graph_tensor(g, x->value.rows, weight->value.rows, DTYPE_F32, out));
        return tensor_made(g, run_linear_add(g, x, weight, bias, residual, *out), out);
    }
    TRY(graph_linear(g, x, weight, bias, DTYPE_F32, &branch));
    int status = graph_add(g, residual, branch, out);
    tensor_release(g, branch);
    return status;
}

/* ---------------------------------------------------------------- project */

bool graph_is_packed(const graph_projection *p) {
    const weight_part *first = p->part[0];
    for (int i = 0; i < p->parts; i++) {
        const weight_part *part = p->part[i];
        if (part->bias || part->weight->plus || part->weight->needs_grad != first->weight->needs_grad) return false;
        if (i == 0) continue;
        const tensor *before = p->part[i - 1]->weight;
        if (!view_continues(before->value, part->weight->value)) return false;
        bool placed = part->weight->needs_grad && before->grad.data; /* others will continue as the values do */
        if (placed && !view_continues(before->grad, part->weight->grad)) return false;
    }
    return p->parts > 1;
}

/* in[0] is x, the others are the parts, whose gradients are one matrix. */
static int packed_backward(graph *g, record *r) {
    struct op_linear *a = &r->op.linear;
    a->dy = r->out->grad;
    a->weight.data = r->reads[1]->value.data;
    TRY(tensor_gradient(g, r->in[0], &a->dx));
    TRY(tensor_gradient(g, r->in[1], &a->dweight));
    a->dweight.rows = a->weight.rows;
    return tape_linear_backward(g, r, a);
}

static int run_packed(graph *g, tensor *h, const graph_projection *p, tensor *out) {
    struct op_linear a = {.x = h->value, .weight = p->part[0]->weight->value, .y = out->value};
    record r = {.backward = packed_backward, .out = out, .in = {h}};
    a.weight.rows = out->value.cols;
    TRY(RUN(g, linear, &a));
    for (int i = 0; i < p->parts; i++) r.in[1 + i] = p->part[i]->weight;
    if (!tape_wants(g, r.in, 1 + p->parts)) return LCKV_OK;
    if (p->part[0]->weight->needs_grad) r.x = h;
    r.reads[1] = p->part[0]->weight;
    r.op.linear = a;
    return tape_push(g, &r);
}

/* The products of all parts side by side, [rows, cols of all]. */
static int project_packed(graph *g, tensor *x, const graph_projection *p, tensor **out) {
    tensor *h;
    int64_t cols = 0;
    *out = NULL;
    for (int i = 0; i < p->parts; i++) cols += p->part[i]->weight->value.rows;
    TRY(graph_rms_norm(g, x, p->norm, p->eps, g->compute, &h));
    int status = graph_tensor(g, x->value.rows, cols, g->compute, out);
    if (status >= 0) status = tensor_made(g, run_packed(g, h, p, *out), out);
    tensor_release(g, h);
    return status;
}

static bool is_composed(const graph *g, tensor *x, const graph_projection *p) {
    tensor *inputs[2 + 2 * PROJECT_PARTS] = {x, p->norm};
    int count = 2;
    for (int i = 0; i < p->parts; i++) {
        if (p->part[i]->weight->plus) return false;
        inputs[count++] = p->part[i]->weight;
        inputs[count++] = p->part[i]->bias;
    }
    return !tape_wants(g, inputs, count);
}

static void release_parts(graph *g, tensor *out[PROJECT_PARTS]) {
    for (int i = 0; i < PROJECT_PARTS; i++) tensor_release(g, out[i]);
    for (int i = 0; i < PROJECT_PARTS; i++) out[i] = NULL;
}

static int project_apart(graph *g, tensor *x, const graph_projection *p, tensor *out[PROJECT_PARTS]) {
    tensor *h;
    TRY(graph_rms_norm(g, x, p->norm, p->eps, g->compute, &h));
    int status = LCKV_OK;
    for (int i = 0; i < p->parts && status >= 0; i++)
        status = graph_linear(g, h, p->part[i]->weight, p->part[i]->bias, g->compute, &out[i]);
    tensor_release(g, h);
    return status;
}

/* Allocates the parts and the workspace of the op, and fills `a`. */
static int take_project(graph *g, tensor *x, const graph_projection *p, tensor *out[PROJECT_PARTS], tensor *room[2],
                        struct op_project *a) {
    int64_t rows = x->value.rows;
    *a = (struct op_project){.x = x->value, .norm = p->norm->value, .eps = p->eps, .parts = p->parts};
    for (int i = 0; i < p->parts; i++) {
        const weight_part *part = p->part[i];
        TRY(graph_tensor(g, rows, part->weight->value.rows, g->compute, &out[i]));
        a->part[i].weight = part->weight->value;
        a->part[i].y = out[i]->value;
        if (part->bias) a->part[i].bias = part->bias->value;
    }
    TRY(graph_tensor(g, rows, x->value.cols, g->compute, &room[0]));
    TRY(graph_tensor(g, rows, 1, DTYPE_F32, &room[1]));
    a->normed = room[0]->value;
    a->rstd = room[1]->value;
    return LCKV_OK;
}

static int run_project(graph *g, tensor *x, const graph_projection *p, tensor *out[PROJECT_PARTS], tensor *gated) {
    struct op_project a;
    tensor *room[2] = {NULL};
    int status = take_project(g, x, p, out, room, &a);
    if (status >= 0) {
        if (gated) a.gated_y = gated->value;
        status = RUN(g, project, &a);
    }
    for (int i = 0; i < 2; i++) tensor_release(g, room[i]);
    return status;
}

int graph_project(graph *g, tensor *x, const graph_projection *p, tensor *out[PROJECT_PARTS]) {
    for (int i = 0; i < PROJECT_PARTS; i++) out[i] = NULL;
    int status = is_composed(g, x, p) ? run_project(g, x, p, out, NULL) : project_apart(g, x, p, out);
    if (status < 0) release_parts(g, out);
    return status;
}

int graph_project_gated(graph *g, tensor *x, const graph_projection *p, tensor **out) {
    tensor *parts[PROJECT_PARTS] = {NULL};
    int status;
    *out = NULL;
    if (is_composed(g, x, p)) {
        TRY(graph_tensor(g, x->value.rows, p->part[0]->weight->value.rows, g->compute, out));
        status = tensor_made(g, run_project(g, x, p, parts, *out), out);
    } else {
        status = graph_is_packed(p) ? project_packed(g, x, p, parts) : project_apart(g, x, p, parts);
        if (status >= 0) status = graph_swiglu(g, parts[0], parts[1], out);
    }
    release_parts(g, parts);
    return status;
}

static int split(graph *g, tensor *all, const graph_projection *p, const bool present[PROJECT_PARTS], tensor *angles,
                 tensor *out[PROJECT_PARTS]) {
    for (int i = 0, part = 0; i < PROJECT_PARTS; i++)
        if (present[i]) TRY(graph_tensor(g, all->value.rows, p->part[part++]->weight->value.rows, g->compute, &out[i]));
    return tape_split_heads(g, all, angles, out);
}

int graph_project_heads(graph *g, tensor *x, const graph_projection *p, const bool present[PROJECT_PARTS],
                        tensor *angles, tensor *out[PROJECT_PARTS]) {
    tensor *all;
    for (int i = 0; i < PROJECT_PARTS; i++) out[i] = NULL;
    TRY(project_packed(g, x, p, &all));
    int status = split(g, all, p, present, angles, out);
    tensor_release(g, all);
    if (status < 0) release_parts(g, out);
    return status;
}

/* ---------------------------------------------------------------- rope_append */

int graph_rope_append(graph *g, tensor *q, tensor *k, tensor *v, tensor *angles, view index,
                      const struct kv_pages *pages, tensor **q_out, tensor **k_out) {
    struct op_rope_append a = {.k = k->value,
                               .v = v->value,
                               .angles = angles->value,
                               .index = index,
                               .pages_k = pages->k,
                               .pages_v = pages->v,
                               .head_dim = (int)angles->value.cols};
    tensor *room = NULL;
    *q_out = NULL;
    TRY(graph_tensor(g, k->value.rows, k->value.cols, k->value.type, k_out));
    int status = q ? graph_tensor(g, q->value.rows, q->value.cols, q->value.type, q_out) : LCKV_OK;
    if (status >= 0) status = graph_rounding_room(g, k, pages->k.type, pages->k.group, &room, &a.room);
    if (status >= 0) {
        a.k_out = (*k_out)->value;
        if (q) a.q = q->value, a.q_out = (*q_out)->value;
        status = RUN(g, rope_append, &a);
    }
    tensor_release(g, room);
    if (status >= 0) return status;
    tensor_release(g, *q_out);
    *q_out = NULL;
    return tensor_made(g, status, k_out);
}

/* ---------------------------------------------------------------- heads */

bool graph_may_join_heads(const graph *g, tensor *x, const graph_projection *p) {
    return is_composed(g, x, p);
}

/* Products in `raw`; rotated ones, and values that are not, in `out`. */
static int run_heads(graph *g, tensor *x, const graph_projection *p, struct op_rope_append *append, bool queries,
                     tensor *raw[PROJECT_PARTS], tensor *room[3], tensor *out[PROJECT_PARTS]) {
    struct op_heads a;
    int keys = queries ? 1 : 0, rotated = p->parts < keys + 2 ? keys : keys + 1;
    TRY(take_project(g, x, p, raw, room, &a.project));
    for (int i = 0; i < rotated; i++) TRY(graph_tensor(g, x->value.rows, raw[i]->value.cols, g->compute, &out[i]));
    if (queries) append->q = raw[0]->value, append->q_out = out[0]->value;
    if (rotated > keys) {
        out[keys + 1] = tensor_hold(raw[keys + 1]);
        append->k = raw[keys]->value;
        append->k_out = out[keys]->value;
        append->v = raw[keys + 1]->value;
        view pages = append->pages_k;
        TRY(graph_rounding_room(g, raw[keys], pages.type, pages.group, &room[2], &append->room));
    }
    a.append = *append;
    return RUN(g, heads, &a);
}

int graph_heads(graph *g, tensor *x, const graph_projection *p, bool queries, tensor *angles, view index,
                const struct kv_pages *pages, tensor *out[PROJECT_PARTS]) {
    struct op_rope_append append = {.angles = angles->value, .head_dim = (int)angles->value.cols};
    if (pages) append.index = index, append.pages_k = pages->k, append.pages_v = pages->v;
    tensor *raw[PROJECT_PARTS] = {NULL}, *room[3] = {NULL};
    for (int i = 0; i < PROJECT_PARTS; i++) out[i] = NULL;
    int status = run_heads(g, x, p, &append, queries, raw, room, out);
    release_parts(g, raw);
    for (int i = 0; i < 3; i++) tensor_release(g, room[i]);
    if (status < 0) release_parts(g, out);
    return status;
}
