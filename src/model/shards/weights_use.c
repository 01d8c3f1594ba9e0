/* Gathering weights and summing gradients; see weights_use.h. */
#include "model/shards/weights_use.h"

unit_range weights_of_layers(int first_layer, int last_layer) {
    return (unit_range){first_layer + 1, last_layer + 1}; /* after the embedding */
}

unit_range weights_of(const params *p, const tensor *t) {
    int entry = 0, unit = 0;
    if (!p->shards) return (unit_range){0, 0};
    while (&p->table[entry].tensor != t) entry++;
    unit = p->shards->unit_of[entry];
    return (unit_range){unit, unit};
}

/* ---------------------------------------------------------------- values */

static size_t value_bytes(const shards *s, const shard_unit *u) {
    dtype type = s->params->table[u->first].tensor.value.type;
    return (size_t)shards_unit_elements(s, u, type) * dtype_element_bytes(type);
}

/* Gives every entry its place in the unit's memory, and copies this rank's part there. */
static int place_values(const shards *s, const shard_unit *u) {
    device *d = s->params->device;
    for (int i = u->first; i < u->first + u->count; i++) {
        weight *w = &s->params->table[i];
        view *v = &w->tensor.value;
        v->data = (char *)u->values + (size_t)shards_place(s, i, v->type) * dtype_element_bytes(v->type);
        if (!w->part.cols) continue;
        struct op_cast a = {w->part, view_elements(*v, w->part_first, w->part.cols)};
        TRY(DEVICE_RUN(d, cast, &a));
    }
    return LCKV_OK;
}

static int gather(shards *s, shard_unit *u) {
    dtype type = s->params->table[u->first].tensor.value.type;
    if (u->values) return LCKV_OK;
    TRY(shards_take_buffer(s, value_bytes(s, u), &u->values));
    TRY(place_values(s, u));
    return collectives_all_gather(s->collectives, (collectives_parts){u->values, type, shards_value_parts(s, u, type)});
}

static void release(shards *s, shard_unit *u) {
    if (!u->values) return;
    shards_give_buffer(s, u->values);
    u->values = NULL;
    for (int i = u->first; i < u->first + u->count; i++) s->params->table[i].tensor.value.data = NULL;
}

/* ---------------------------------------------------------------- gradients */

static size_t gradient_bytes(const shards *s, const shard_unit *u) {
    return (size_t)shards_unit_elements(s, u, DTYPE_F32) * sizeof(float);
}

/* Zeros, unless they are there or the weights are frozen. */
static int take_gradients(shards *s, graph *g, shard_unit *u) {
    weight *table = s->params->table;
    if (u->gradients || !table[u->first].tensor.needs_grad) return LCKV_OK;
    TRY(shards_take_buffer(s, gradient_bytes(s, u), &u->gradients));
    for (int i = u->first; i < u->first + u->count; i++)
        table[i].tensor.grad.data = (float *)u->gradients + shards_place(s, i, DTYPE_F32);
    return g->device->memory.zero(g->device, u->gradients, gradient_bytes(s, u));
}

static int sum_gradients(shards *s, graph *g, shard_unit *u) {
    if (!u->gradients) return LCKV_OK;
    const int64_t *begin = shards_gradient_parts(s, u);
    view mine = {(float *)u->gradients + begin[s->collectives->rank], 1, u->gradient.cols, DTYPE_F32};
    TRY(collectives_reduce_scatter(s->collectives, (collectives_parts){u->gradients, DTYPE_F32, begin}));
    if (mine.cols)
        TRY(DEVICE_RUN(g->device, accumulate, &(struct op_accumulate){.src = mine, .dst = u->gradient, .scale = 1}));
    shards_give_buffer(s, u->gradients);
    u->gradients = NULL;
    for (int i = u->first; i < u->first + u->count; i++) s->params->table[i].tensor.grad.data = NULL;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- in the backward pass */

static int begin_backward(params *p, graph *g, unit_range units, bool read) {
    for (int i = units.last; i >= units.first; i--) {
        shard_unit *u = &p->shards->units[i];
        u->uses++;
        if (read) TRY(gather(p->shards, u));
        if (!g->keeping) TRY(take_gradients(p->shards, g, u));
    }
    return LCKV_OK;
}

static int begin_reading(void *user, graph *g, int first, int last) {
    return begin_backward(user, g, (unit_range){first, last}, true);
}

static int begin_writing(void *user, graph *g, int first, int last) {
    return begin_backward(user, g, (unit_range){first, last}, false);
}

static int end_backward(void *user, graph *g, int first, int last) {
    params *p = user;
    for (int i = last; i >= first; i--) {
        shard_unit *u = &p->shards->units[i];
        if (--u->uses) continue;
        release(p->shards, u);
        TRY(sum_gradients(p->shards, g, u));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- in the forward pass */

int weights_begin_again(params *p, unit_range units) {
    for (int i = units.first; p->shards && i <= units.last; i++) {
        p->shards->units[i].uses++;
        TRY(gather(p->shards, &p->shards->units[i]));
    }
    return LCKV_OK;
}

void weights_end_again(params *p, unit_range units) {
    for (int i = units.first; p->shards && i <= units.last; i++)
        if (!--p->shards->units[i].uses) release(p->shards, &p->shards->units[i]);
}

int weights_begin(params *p, graph *g, unit_range units) {
    if (!p->shards) return LCKV_OK;
    TRY(graph_call_back(g, end_backward, p, units.first, units.last));
    return weights_begin_again(p, units);
}

int weights_end(params *p, graph *g, unit_range units, bool read) {
    if (!p->shards) return LCKV_OK;
    weights_end_again(p, units);
    return graph_call_back(g, read ? begin_reading : begin_writing, p, units.first, units.last);
}

int weights_take_gradients(params *p, graph *g, unit_range units) {
    for (int i = units.first; p->shards && g->recording && i <= units.last; i++)
        TRY(take_gradients(p->shards, g, &p->shards->units[i]));
    return LCKV_OK;
}
