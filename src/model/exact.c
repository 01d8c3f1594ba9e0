/* Exact training (exact.h): memory of the slots, the recorded forward pass, and the backward passes. fill.c fills the
 * slots. */
#include "model/exact.h"

#include "model/pass.h"

#include <stdlib.h>

enum { SLOT_ALIGNMENT = 256 };

/* ---------------------------------------------------------------- slots */

int64_t exact_keys_width(const layer_map *map, int slot) {
    for (int i = 0; i < map->layers; i++)
        if (map->layer[i].k_source > i && map->layer[i].k_slot == slot) return layer_map_k_width(map, slot);
    return 0;
}

int64_t exact_values_width(const layer_map *map, int slot) {
    for (int i = 0; i < map->layers; i++)
        if (map->layer[i].v_source > i && map->layer[i].v_slot == slot) return layer_map_v_width(map, slot);
    return 0;
}

static size_t padded_bytes(int64_t rows, int64_t width, dtype type) {
    size_t bytes = view_bytes((view){NULL, rows, width, type});
    return (bytes + SLOT_ALIGNMENT - 1) / SLOT_ALIGNMENT * SLOT_ALIGNMENT;
}

size_t exact_slots_bytes(const model *m, dtype compute, int64_t rows) {
    const layer_map *map = &m->config->map;
    size_t bytes = 0;
    for (int s = 0; s < map->slots; s++)
        bytes += padded_bytes(rows, exact_keys_width(map, s), compute) +
                 padded_bytes(rows, exact_values_width(map, s), compute);
    return bytes;
}

static view place(char **at, int64_t rows, int64_t width, dtype type) {
    view v = {width ? *at : NULL, rows, width, type};
    *at += padded_bytes(rows, width, type);
    return v;
}

static void place_slots(exact_slots *s, const model *m, dtype compute) {
    const layer_map *map = &m->config->map;
    char *at = s->memory;
    for (int i = 0; i < map->slots; i++) {
        s->k[i] = place(&at, s->rows, exact_keys_width(map, i), compute);
        s->v[i] = place(&at, s->rows, exact_values_width(map, i), compute);
    }
}

int exact_slots_create(const model *m, dtype compute, int64_t rows, exact_slots **out) {
    exact_slots *s = calloc(1, sizeof *s);
    size_t bytes = exact_slots_bytes(m, compute, rows);
    *out = NULL;
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for exact slots");
    *s = (exact_slots){.device = m->device, .rows = rows};
    s->k = calloc(2 * (size_t)m->config->map.slots, sizeof *s->k);
    int status = s->k ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for exact slots");
    if (status >= 0 && bytes) status = m->device->memory.alloc(m->device, bytes, &s->memory);
    if (status < 0) {
        exact_slots_free(s);
        return status;
    }
    s->v = s->k + m->config->map.slots;
    if (bytes) place_slots(s, m, compute);
    *out = s;
    return LCKV_OK;
}

void exact_slots_free(exact_slots *s) {
    if (!s) return;
    replay_set_forget(&s->steps, s->device);
    if (s->memory) s->device->memory.release(s->device, s->memory);
    free(s->k);
    free(s);
}

static view rows_of(view v, int64_t first, int64_t rows) {
    if (!v.data) return v;
    v.rows = first;
    v.data = (char *)v.data + view_bytes(v);
    v.rows = rows;
    return v;
}

view exact_keys(const exact_slots *s, int slot, int64_t first, int64_t rows) {
    return rows_of(s->k[slot], first, rows);
}

view exact_values(const exact_slots *s, int slot, int64_t first, int64_t rows) {
    return rows_of(s->v[slot], first, rows);
}

int exact_top_layer(const model *m) {
    const plan *steps = &m->plan;
    int top = -1;
    for (int i = 0; i < steps->count; i++)
        if (steps->steps[i].in_loop) top = steps->steps[i].last;
    return top;
}

/* ---------------------------------------------------------------- the recorded pass */

static int make_record(const model *m, exact_record *r) {
    int slots = m->config->map.slots;
    *r = (exact_record){.slots = slots};
    r->loops = calloc((size_t)m->config->map.loops + 1, sizeof *r->loops);
    r->read_k = calloc(4 * (size_t)slots, sizeof(tensor *));
    REQUIRE(r->loops && r->read_k, LCKV_ERROR_MEMORY, "no memory for the record of a forward pass");
    r->read_v = r->read_k + slots;
    r->written_k = r->read_v + slots;
    r->written_v = r->written_k + slots;
    return LCKV_OK;
}

void exact_record_free(graph *g, exact_record *r) {
    for (int i = 0; r->read_k && i < 4 * r->slots; i++) tensor_release(g, r->read_k[i]);
    free(r->read_k);
    free(r->loops);
    *r = (exact_record){0};
}

static int borrow_slots(pass *p, const exact_slots *s, int64_t first, exact_record *r) {
    for (int i = 0; i < r->slots; i++) {
        view k = exact_keys(s, i, first, p->b->rows), v = exact_values(s, i, first, p->b->rows);
        if (k.data) TRY(graph_borrow(p->g, k, p->g->recording, &r->read_k[i]));
        if (v.data) TRY(graph_borrow(p->g, v, p->g->recording, &r->read_v[i]));
    }
    p->exact_k = r->read_k;
    p->exact_v = r->read_v;
    return LCKV_OK;
}

static int keep_written(const pass *p, view residual, exact_record *r) {
    for (int i = 0; i < r->slots; i++) {
        if (r->read_k[i]) r->written_k[i] = tensor_hold(p->k[i]);
        if (r->read_v[i]) r->written_v[i] = tensor_hold(p->v[i]);
        if (r->read_k[i]) TRY(graph_square_distance(p->g, p->k[i], r->read_k[i], residual));
        if (r->read_v[i]) TRY(graph_square_distance(p->g, p->v[i], r->read_v[i], residual));
    }
    return LCKV_OK;
}

/* The loss of the learned start of the loop that `step` is about to run. */
static int learn_start(pass *p, const plan_step *step, const exact_record *r, tensor *x) {
    const loop_start_net *net = p->learns ? pass_loop_start(p, step) : NULL;
    if (!net) return LCKV_OK;
    p->rows = &p->all;
    TRY(pass_predict(p, net, x));
    for (int i = 0; i < net->slot_count; i++) {
        int slot = net->slots[i].slot;
        TRY(pass_regress(p, &net->slots[i], p->k[slot], p->v[slot], r->read_k[slot], r->read_v[slot]));
    }
    return LCKV_OK;
}

/* Adds the squared distances of the newest keys and values of the loop's slots from the exact ones. */
static int regress_slots(pass *p, const plan_step *step, const exact_record *r) {
    const loop_start_loss *loss = p->b->iteration_loss;
    for (int i = 0; i < r->slots; i++) {
        int owner = p->m->config->map.slot[i].layer, keys = 2 * i, values = keys + 1;
        if (owner < step->first || owner > step->last) continue;
        if (r->read_k[i])
            TRY(graph_square_loss(p->g, p->k[i], r->read_k[i], loss->scales[keys], view_rows(loss->sums, keys, 1)));
        if (r->read_v[i])
            TRY(graph_square_loss(p->g, p->v[i], r->read_v[i], loss->scales[values], view_rows(loss->sums, values, 1)));
    }
    return LCKV_OK;
}

/* The loss of one iteration from the start of the loop that `step` is about to run. A learned start is a constant. */
static int learn_iteration(pass *p, const plan_step *step, const exact_record *r, tensor *x) {
    plan_step once = *step;
    bool learns = p->learns;
    if (!p->b->iteration_loss || !p->g->recording || !step->in_loop) return LCKV_OK;
    once.commit = false;
    once.iteration = 0;
    p->exact_k = p->exact_v = NULL;
    p->learns = false;
    int status = decoder_run_step(p, &once, &x);
    p->learns = learns;
    p->exact_k = r->read_k;
    p->exact_v = r->read_v;
    return status < 0 ? status : regress_slots(p, step, r);
}

/* Every step that commits: loops run once. */
static int run_once(pass *p, exact_record *r, tensor **x) {
    const plan *steps = &p->m->plan;
    for (int i = 0; i < steps->count && *x; i++) {
        const plan_step *step = &steps->steps[i];
        if (!step->commit) continue;
        TRY(learn_start(p, step, r, *x)); /* its records lie below those of the loop, which are walked several times */
        TRY(decoder_begin_loop(p, step));
        TRY(learn_iteration(p, step, r, *x));
        int first = graph_mark(p->g);
        TRY(decoder_run_step(p, step, x));
        if (step->in_loop) r->loops[r->count++] = (struct exact_loop){first, graph_mark(p->g)};
        TRY(decoder_end_loop(p, step));
    }
    return LCKV_OK;
}

static int forward(pass *p, const exact_slots *s, int64_t first, view residual, exact_record *r, tensor **hidden) {
    tensor *x;
    TRY(make_record(p->m, r));
    TRY(borrow_slots(p, s, first, r));
    TRY(decoder_embed(p, &x));
    TRY(run_once(p, r, &x));
    TRY(keep_written(p, residual, r));
    return decoder_last_norm(p->m, p->g, x, hidden);
}

int decoder_forward_exact(const model *m, graph *g, const batch *b, const exact_slots *s, int64_t first, view residual,
                          exact_record *record, tensor **hidden) {
    pass p;
    *hidden = NULL;
    int status = pass_begin(m, g, b, NULL, &p);
    if (status >= 0) status = forward(&p, s, first, residual, record, hidden);
    pass_end(&p);
    return status;
}

/* ---------------------------------------------------------------- walks */

/* Slots of other loops have no gradient where they are read: each loop's last walk leaves none. */
int decoder_backward_exact(graph *g, exact_record *r, int walks) {
    for (int i = r->count - 1; i >= 0; i--) {
        TRY(graph_backward_to(g, r->loops[i].end));
        TRY(graph_backward_loop(g, r->loops[i].first, walks, r->read_k, r->written_k, 2 * r->slots));
    }
    return graph_backward(g);
}

/* ---------------------------------------------------------------- fitting a learned start */

/* What lies below a loop is exact, because lookups read s*. Nothing above the last start is needed. */
static int fit_all(pass *p, const exact_slots *s, int64_t first, exact_record *r) {
    const plan *steps = &p->m->plan;
    int left = p->m->loop_start->net_count;
    tensor *x;
    TRY(make_record(p->m, r));
    TRY(borrow_slots(p, s, first, r));
    TRY(decoder_embed(p, &x));
    for (int i = 0; i < steps->count && left; i++) {
        const plan_step *step = &steps->steps[i];
        if (!step->commit) continue;
        TRY(learn_start(p, step, r, x));
        left -= pass_loop_start(p, step) != NULL;
        if (left) TRY(decoder_run_step(p, step, &x));
    }
    tensor_release(p->g, x);
    return LCKV_OK;
}

int decoder_fit_loop_start(const model *m, graph *g, const batch *b, const exact_slots *s, int64_t first) {
    pass p;
    exact_record record = {0};
    g->recording = true;
    int status = pass_begin(m, g, b, NULL, &p); /* learns */
    g->recording = false;
    if (status >= 0) status = fit_all(&p, s, first, &record);
    pass_end(&p);
    exact_record_free(g, &record);
    g->recording = true;
    return status;
}
