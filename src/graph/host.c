/* Tensors and host memory: copies, and results that the host computes from device values. */
#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

int graph_copy_in(graph *g, const void *host, tensor *t) {
    return g->device->memory.copy_in(g->device, t->value.data, host, view_bytes(t->value));
}

/* Element i of f32 or bf16 values. */
static double value_of(const void *data, dtype type, int64_t i) {
    if (type == DTYPE_F32) return (double)((const float *)data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static void add_distance(const void *a, const void *b, view v, double *distance, double *length) {
    double sum = 0;
    for (int64_t i = 0; i < v.rows * v.cols; i++) {
        double x = value_of(a, v.type, i), y = value_of(b, v.type, i);
        sum += (x - y) * (x - y);
        *length += y * y;
    }
    *distance += sum;
}

int graph_square_distance(graph *g, const tensor *a, const tensor *b, double *distance, double *length) {
    device *d = g->device;
    size_t bytes = view_bytes(b->value);
    char *both = malloc(2 * bytes);
    REQUIRE(both, LCKV_ERROR_MEMORY, "no memory to compare tensors of %lld rows", (long long)b->value.rows);
    int status = d->memory.copy_out(d, both, a->value.data, bytes);
    if (status >= 0) status = d->memory.copy_out(d, both + bytes, b->value.data, bytes);
    if (status >= 0) status = d->memory.wait(d);
    if (status >= 0) add_distance(both, both + bytes, b->value, distance, length);
    free(both);
    return status;
}
