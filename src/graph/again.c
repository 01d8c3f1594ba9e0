/* Values that are made again in the backward pass instead of being kept: outputs of swiglu and rms_norm that one
 * product reads. They are large and cheap: the backward entries of these ops read all that the values are made from,
 * and write them in the same pass.
 *
 * The product's backward pass then has three steps: the gradient of its input; the backward pass of the op that made
 * the input, which writes the value again; and the gradient of the weight. The walk later finds no gradient at the op's
 * output and goes on. Every sum has the same terms in the same order as with a kept value, so that the bits are the
 * same.
 *
 * A walk that keeps its records (graph_backward_loop()) computes no gradients of weights, and therefore makes no value
 * again.
 *
 * A value is kept if a second record adds to its gradient, because the gradient is then incomplete between the two
 * products. It is also kept if graph_mark() was called between the op and the product, because the walk may then end
 * between them. */
#include "graph/tape.h"

#define RUN(g, op, ...) DEVICE_RUN((g)->device, op, __VA_ARGS__)

int tape_push_maker(graph *g, const record *r) {
    TRY(tape_push(g, r));
    r->out->made_by = g->tape->count;
    return LCKV_OK;
}

view tape_again(const tensor *out) {
    return out->again ? out->value : (view){0};
}

void again_keep(tensor *t) {
    t->value_holders += t->unkept;
    t->unkept = t->made_by = 0;
}

void again_hold(graph *g, tensor *x) {
    if (x->made_by <= g->tape->mark) again_keep(x);
    if (!x->made_by) {
        tensor_hold(x);
        return;
    }
    x->holders++;
    x->unkept++;
}

void again_drop(graph *g, tensor *x) {
    if (!x->made_by) {
        tensor_release(g, x);
        return;
    }
    x->unkept--;
    tensor_drop(g, x);
}

/* The backward pass of the op that made x, whose gradient is complete. The caller holds the value afterwards. */
static int make_again(graph *g, tensor *x) {
    record *maker = &g->tape->records[x->made_by - 1];
    TRY(pool_take(g->pool, view_bytes(x->value), &x->value.data));
    x->value_holders = 1;
    x->again = true;
    int status = maker->backward(g, maker);
    x->again = false;
    tensor_drop_gradient(g, x);
    return status;
}

/* Memory for dy as both products read it. */
static int take_rounded(graph *g, struct op_linear *a, tensor **rounded) {
    *rounded = NULL;
    if (a->dy.type == g->compute) return LCKV_OK;
    TRY(graph_tensor(g, a->dy.rows, a->dy.cols, g->compute, rounded));
    a->dy_rounded = (*rounded)->value;
    a->dy_rounded.fresh = true;
    return LCKV_OK;
}

static int run_apart(graph *g, tensor *x, struct op_linear a) {
    struct op_linear first = a;
    first.dweight = first.dbias = (view){0};
    TRY(RUN(g, linear_backward, &first));
    TRY(make_again(g, x));
    a.dx = (view){0};
    a.dy_rounded.fresh = false;
    a.x = x->value;
    int status = RUN(g, linear_backward, &a);
    tensor_drop_value(g, x);
    return status;
}

int tape_linear_backward(graph *g, record *r, struct op_linear *a) {
    struct op_linear apart = *a;
    tensor *rounded;
    if (!r->x || r->x->value.data || !a->dweight.data) return RUN(g, linear_backward, a);
    TRY(take_rounded(g, &apart, &rounded));
    int status = run_apart(g, r->x, apart);
    tensor_release(g, rounded);
    return status;
}
