/* Copies from host memory, and the distance of two tensors. */
#include "graph/graph.h"

int graph_copy_in(graph *g, const void *host, tensor *t) {
    return g->device->memory.copy_in(g->device, t->value.data, host, view_bytes(t->value));
}

int graph_square_distance(graph *g, const tensor *a, const tensor *b, view sums) {
    device *d = g->device;
    double *out = sums.data;
    const struct op_sum_squares distance = {a->value, {out, 1, 1, DTYPE_F64}, b->value};
    const struct op_sum_squares length = {.x = b->value, .out = {out + 1, 1, 1, DTYPE_F64}};
    TRY(d->ops.sum_squares(d, &distance));
    return d->ops.sum_squares(d, &length);
}
