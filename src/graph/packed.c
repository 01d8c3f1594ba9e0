/* Packed weights: finding parts by name, and all parts as one matrix. See graph.h. */
#include "graph/graph.h"

#include <string.h>

const weight_part *packed_part(const packed_weight *w, const char *name) {
    for (int i = 0; i < w->count; i++)
        if (strcmp(w->part[i].name, name) == 0) return &w->part[i];
    return NULL;
}

tensor *packed_matrix(const packed_weight *w, const char *name) {
    const weight_part *part = packed_part(w, name);
    return part ? part->weight : NULL;
}

tensor *packed_bias(const packed_weight *w, const char *name) {
    const weight_part *part = packed_part(w, name);
    return part ? part->bias : NULL;
}

bool view_continues(view v, view next) {
    view end = view_rows(v, v.rows, 0);
    return next.data == end.data && next.scales == end.scales && next.type == v.type && next.cols == v.cols;
}

view packed_view(const packed_weight *w) {
    if (!w->count || !w->part[0].weight->value.data) return (view){0};
    view all = w->part[0].weight->value;
    for (int i = 1; i < w->count; i++) {
        view next = w->part[i].weight->value;
        if (!view_continues(all, next)) return (view){0};
        all.rows += next.rows;
    }
    return all;
}
