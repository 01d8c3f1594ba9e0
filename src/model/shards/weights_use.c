/* Gathering weights and summing gradients; see weights_use.h. */
#include "model/shards/weights_use.h"

int weights_of_layer(int layer) {
    return layer + 1; /* after the embedding */
}

unit_range weights_of_layers(int first_layer, int last_layer) {
    return (unit_range){weights_of_layer(first_layer), weights_of_layer(last_layer)};
}

int weights_of(const params *p, const tensor *t) {
    int entry = 0;
    if (!p->shards) return 0;
    while (&p->table[entry].tensor != t) entry++;
    return p->shards->unit_of[entry];
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

/* Operations aside have the number of the unit, behind all units if they sum gradients. */
static int number_of(const shards *s, const shard_unit *u) {
    return (int)(u - s->units);
}

static int gather(shards *s, shard_unit *u) {
    dtype type = s->params->table[u->first].tensor.value.type;
    int number = number_of(s, u);
    if (u->values) return LCKV_OK;
    TRY(shards_take_buffer(s, value_bytes(s, u), &u->values));
    TRY(place_values(s, u));
    TRY(collectives_point(s->collectives, number));
    u->arriving = true;
    collectives_parts parts = {u->values, type, shards_value_parts(s, u, type)};
    return collectives_all_gather_aside(s->collectives, parts, number);
}

/* Later ops may read the values, or write to their memory. */
static int await_values(shards *s, shard_unit *u) {
    if (!u->arriving) return LCKV_OK;
    u->arriving = false;
    return collectives_join_aside(s->collectives, number_of(s, u));
}

/* Gathers a unit. The unit after it (-1: none) arrives while this one is used. */
static int gather_two(shards *s, shard_unit *u, int next) {
    TRY(gather(s, u));
    s->next = next;
    return await_values(s, u);
}

static int release(shards *s, shard_unit *u) {
    if (!u->values) return LCKV_OK;
    TRY(await_values(s, u));
    shards_give_buffer(s, u->values);
    u->values = NULL;
    for (int i = u->first; i < u->first + u->count; i++) s->params->table[i].tensor.value.data = NULL;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- gradients */

static size_t gradient_bytes(const shards *s, const shard_unit *u) {
    return (size_t)shards_unit_elements(s, u, DTYPE_F32) * sizeof(float);
}

static int begin_sum(shards *s, shard_unit *u) {
    int number = s->count + number_of(s, u);
    if (!u->sum_waits) return LCKV_OK;
    u->sum_waits = false;
    u->summing = true;
    TRY(collectives_point(s->collectives, number));
    collectives_parts parts = {u->gradients, DTYPE_F32, shards_gradient_parts(s, u)};
    return collectives_reduce_scatter_aside(s->collectives, parts, number);
}

/* Adds the sum over ranks to that over micro-batches. */
static int finish_sum(shards *s, shard_unit *u) {
    device *d = s->params->device;
    if (!u->summing) return LCKV_OK;
    u->summing = false;
    TRY(collectives_join_aside(s->collectives, s->count + number_of(s, u)));
    int64_t begin = shards_gradient_parts(s, u)[s->collectives->rank];
    view mine = {(float *)u->gradients + begin, 1, u->gradient.cols, DTYPE_F32};
    if (mine.cols) TRY(DEVICE_RUN(d, accumulate, &(struct op_accumulate){.src = mine, .dst = u->gradient, .scale = 1}));
    shards_give_buffer(s, u->gradients);
    u->gradients = NULL;
    return LCKV_OK;
}

/* In the order of the backward pass, so that all ranks begin them in the same order. */
static int for_all(shards *s, int (*run)(shards *s, shard_unit *u)) {
    for (int i = s->count - 1; i >= 0; i--) TRY(run(s, &s->units[i]));
    return LCKV_OK;
}

/* Zeros, unless they are there or the weights are frozen. A unit that is used again adds to a sum that waits. */
static int take_gradients(shards *s, graph *g, shard_unit *u) {
    weight *table = s->params->table;
    TRY(finish_sum(s, u));
    bool fresh = !u->gradients;
    if (!table[u->first].tensor.needs_grad) return LCKV_OK;
    if (fresh) TRY(shards_take_buffer(s, gradient_bytes(s, u), &u->gradients));
    u->sum_waits = false;
    for (int i = u->first; i < u->first + u->count; i++)
        table[i].tensor.grad.data = (float *)u->gradients + shards_place(s, i, DTYPE_F32);
    return fresh ? g->device->memory.zero(g->device, u->gradients, gradient_bytes(s, u)) : LCKV_OK;
}

int weights_finish_sums(params *p) {
    shards *s = p->shards;
    if (!s) return LCKV_OK;
    TRY(for_all(s, begin_sum));
    return for_all(s, finish_sum);
}

/* The gradient is complete. Its sum begins with the next attention, and ends when the next gradient is complete. */
static int let_sum_wait(shards *s, shard_unit *u) {
    TRY(weights_finish_sums(s->params));
    if (!u->gradients) return LCKV_OK;
    u->sum_waits = true;
    for (int i = u->first; i < u->first + u->count; i++) s->params->table[i].tensor.grad.data = NULL;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- at the start of a pass and of attention */

static int attention_begins(void *user) {
    shards *s = ((params *)user)->shards;
    int next = s->next;
    s->next = -1;
    TRY(for_all(s, begin_sum));
    return next < 0 ? LCKV_OK : gather(s, &s->units[next]);
}

int weights_begin_pass(params *p, graph *g) {
    shards *s = p->shards;
    if (!s) return LCKV_OK;
    g->attention_begins = attention_begins;
    g->attention_user = p;
    for (int i = 0; i < s->count; i++)
        if (!s->units[i].uses) TRY(release(s, &s->units[i]));
    s->read_before = -1;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- in the backward pass */

static int begin_reading(void *user, graph *g, int unit, int next) {
    shards *s = ((params *)user)->shards;
    s->units[unit].uses++;
    TRY(gather_two(s, &s->units[unit], next));
    return g->keeping ? LCKV_OK : take_gradients(s, g, &s->units[unit]);
}

static int begin_writing(void *user, graph *g, int unit, int unused) {
    shards *s = ((params *)user)->shards;
    (void)unused;
    s->units[unit].uses++;
    return take_gradients(s, g, &s->units[unit]);
}

/* Walks that keep their records compute no gradients of weights. A gradient is complete if the values are used no
 * longer, or if this was the last use. */
static int end_backward(void *user, graph *g, int unit, int unused) {
    shards *s = ((params *)user)->shards;
    shard_unit *u = &s->units[unit];
    (void)unused;
    if (!--u->uses) TRY(release(s, u));
    if (g->keeping) return LCKV_OK;
    u->recorded--;
    return u->uses && u->recorded ? LCKV_OK : let_sum_wait(s, u);
}

static int begin_holding(void *user, graph *g, int first, int last) {
    shards *s = ((params *)user)->shards;
    (void)g;
    for (int i = last; i >= first; i--) {
        s->units[i].uses++;
        TRY(gather(s, &s->units[i]));
    }
    return LCKV_OK;
}

static int end_holding(void *user, graph *g, int first, int last) {
    shards *s = ((params *)user)->shards;
    (void)g;
    for (int i = last; i >= first; i--)
        if (!--s->units[i].uses) TRY(release(s, &s->units[i]));
    return LCKV_OK;
}

/* ---------------------------------------------------------------- in the forward pass */

int weights_begin_again(params *p, int unit) {
    if (!p->shards) return LCKV_OK;
    p->shards->units[unit].uses++;
    return gather_two(p->shards, &p->shards->units[unit], -1);
}

int weights_end_again(params *p, int unit) {
    if (!p->shards || --p->shards->units[unit].uses) return LCKV_OK;
    return release(p->shards, &p->shards->units[unit]);
}

int weights_begin(params *p, graph *g, int unit, int next) {
    shards *s = p->shards;
    if (!s) return LCKV_OK;
    TRY(graph_call_back(g, end_backward, p, unit, 0));
    s->units[unit].recorded += g->recording;
    s->units[unit].uses++;
    return gather_two(s, &s->units[unit], next);
}

int weights_end(params *p, graph *g, int unit, bool read) {
    shards *s = p->shards;
    if (!s) return LCKV_OK;
    TRY(weights_end_again(p, unit));
    int next = s->read_before;
    if (g->recording) s->read_before = read ? unit : -1;
    return graph_call_back(g, read ? begin_reading : begin_writing, p, unit, next);
}

int weights_hold(params *p, graph *g, unit_range units) {
    shards *s = p->shards;
    if (!s) return LCKV_OK;
    TRY(graph_call_back(g, end_holding, p, units.first, units.last));
    for (int i = units.first; i <= units.last; i++) {
        s->units[i].uses++;
        TRY(gather(s, &s->units[i]));
    }
    return LCKV_OK;
}

int weights_let_go(params *p, graph *g, unit_range units) {
    if (!p->shards) return LCKV_OK;
    for (int i = units.first; i <= units.last; i++) TRY(weights_end_again(p, i));
    return graph_call_back(g, begin_holding, p, units.first, units.last);
}

int weights_take_gradients(params *p, graph *g, int unit) {
    return p->shards && g->recording ? take_gradients(p->shards, g, &p->shards->units[unit]) : LCKV_OK;
}
