/* The state of a forward pass, see pass.h. */
#include "model/pass.h"

#include <stdlib.h>

static row_set batch_rows(const batch *b, const kv_cache *cache) {
    row_set r = {.rows = b->rows,
                 .sequences = b->sequences,
                 .max_q_rows = b->padded_max_rows,
                 .max_kv_rows = b->padded_max_rows};
    for (int g = 0; g < b->group_count; g++) {
        r.attention[g] = b->groups[g].sequences;
        r.host[g] = b->groups[g].host;
        r.max_past[g] = cache ? b->groups[g].max_past : 0;
    }
    return r;
}

/* Planned rows come first, so that they are a prefix of everything. */
static int plan_rows(pass *p) {
    const batch *b = p->b;
    row_set *r = &p->planned;
    *r = p->all;
    if (b->plan_rows == b->rows) {
        tensor_hold(r->angles);
        if (r->sink_angles) tensor_hold(r->sink_angles);
        return LCKV_OK;
    }
    r->rows = b->plan_rows;
    r->sequences = b->plan_sequences;
    r->angles = r->sink_angles = NULL;
    for (int g = 0; g < b->group_count; g++) {
        r->attention[g].rows = b->plan_sequences;
        r->max_past[g] = b->groups[g].plan_max_past;
    }
    if (!b->plan_rows) return LCKV_OK;
    TRY(graph_prefix(p->g, p->all.angles, b->plan_rows, &r->angles));
    if (p->all.sink_angles) TRY(graph_prefix(p->g, p->all.sink_angles, b->plan_rows, &r->sink_angles));
    return LCKV_OK;
}

int pass_begin_on(const model *m, graph *g, const batch *b, const row_set *rows, pass *p) {
    size_t slots = (size_t)m->config->map.slots;
    *p = (pass){.m = m, .g = g, .b = b, .rows = rows, .kv_type = b->kv_type, .next_unit = -1};
    p->learns = m->loop_start && b->start_loss && g->recording;
    p->k = calloc(4 * slots, sizeof(tensor *));
    REQUIRE(p->k, LCKV_ERROR_MEMORY, "no memory for a forward pass");
    p->v = p->k + slots;
    p->start_k = p->v + slots;
    p->start_v = p->start_k + slots;
    return LCKV_OK;
}

int pass_make_angles(const pass *p, view positions, view lengths, tensor **out) {
    struct op_rope_angles what = p->m->rope;
    what.positions = positions;
    if (what.limit > 0) what.lengths = lengths;
    return graph_rope_angles(p->g, &what, out);
}

int pass_begin(const model *m, graph *g, const batch *b, kv_cache *cache, pass *p) {
    TRY(pass_begin_on(m, g, b, NULL, p));
    p->cache = cache;
    if (cache) p->kv_type = kv_cache_type(cache);
    p->all = batch_rows(b, cache);
    TRY(pass_make_angles(p, b->positions, b->lengths, &p->all.angles));
    if (cache && kv_cache_has_sinks(cache))
        TRY(pass_make_angles(p, b->sink_positions, b->lengths, &p->all.sink_angles));
    return plan_rows(p);
}

static void release_rows(pass *p, row_set *r) {
    tensor_release(p->g, r->angles);
    tensor_release(p->g, r->sink_angles);
    r->angles = r->sink_angles = NULL;
}

void pass_end(pass *p) {
    for (int i = 0; p->k && i < 4 * p->m->config->map.slots; i++) tensor_release(p->g, p->k[i]);
    tensor_release(p->g, p->change);
    p->change = NULL;
    release_rows(p, &p->all);
    release_rows(p, &p->planned);
    release_rows(p, &p->wanted);
    free(p->k);
    p->k = p->v = NULL;
}

int pass_want(pass *p) {
    const batch *b = p->b;
    row_set *r = &p->wanted;
    if (r->angles) return LCKV_OK;
    *r = p->all;
    r->angles = r->sink_angles = NULL;
    r->rows = b->wanted;
    for (int g = 0; g < b->group_count; g++) {
        r->attention[g] = b->groups[g].wanted_sequences;
        r->host[g] = b->groups[g].host_wanted;
    }
    TRY(graph_gather_rows(p->g, p->all.angles, b->wanted_rows, &r->angles));
    if (p->all.sink_angles) TRY(graph_gather_rows(p->g, p->all.sink_angles, b->wanted_rows, &r->sink_angles));
    return LCKV_OK;
}

/* ---------------------------------------------------------------- writing slots */

static int group_of(const pass *p, int slot) {
    return p->cache ? kv_cache_group_of_slot(p->cache, slot) : 0;
}

bool pass_appends(const pass *p, int slot, struct kv_pages *pages, view *index) {
    if (!p->cache || !p->commits) return false;
    *pages = kv_cache_pages(p->cache, slot, slot);
    *index = p->b->groups[group_of(p, slot)].destination;
    return true;
}

static int rotate_one(pass *p, tensor **x) {
    tensor *rotated;
    if (!*x) return LCKV_OK;
    TRY(graph_rope(p->g, *x, p->rows->angles, &rotated));
    tensor_release(p->g, *x);
    *x = rotated;
    return LCKV_OK;
}

int pass_round(pass *p, int slot, const heads *h) {
    const layer_map *map = &p->m->config->map;
    int64_t head_dim = map->layer[map->slot[slot].layer].head_dim;
    if (h->k) TRY(graph_round(p->g, h->k, p->kv_type, head_dim));
    return h->v ? graph_round(p->g, h->v, p->kv_type, head_dim) : LCKV_OK;
}

/* One op for all, which also rounds, if the slot stores keys and values. */
static int rotate_and_append(pass *p, int slot, heads *h, const struct kv_pages *pages, view index) {
    tensor *q, *k;
    if (h->k && h->v) {
        TRY(graph_rope_append(p->g, h->q, h->k, h->v, p->rows->angles, index, pages, &q, &k));
        tensor_release(p->g, h->q);
        tensor_release(p->g, h->k);
        h->q = q;
        h->k = k;
        return LCKV_OK;
    }
    TRY(rotate_one(p, &h->q));
    TRY(rotate_one(p, &h->k));
    if (h->k) TRY(graph_append_rows(p->g, h->k, index, pages->k));
    if (h->v) TRY(graph_append_rows(p->g, h->v, index, pages->v));
    return pass_round(p, slot, h);
}

/* Appended rows are past only for later calls: every query of this call sees the past as it was. */
static int rotate(pass *p, int slot, heads *h) {
    struct kv_pages pages;
    view index;
    if (pass_appends(p, slot, &pages, &index)) return rotate_and_append(p, slot, h, &pages, index);
    TRY(rotate_one(p, &h->q));
    TRY(rotate_one(p, &h->k));
    return pass_round(p, slot, h);
}

static void set_newest(pass *p, tensor **newest, tensor *t) {
    tensor_release(p->g, *newest);
    *newest = t ? tensor_hold(t) : NULL;
    if (t) t->wide_grad = true; /* the layers that read it, each once or several times, add to its gradient */
}

void pass_set_slot(pass *p, int slot, tensor *k, tensor *v) {
    set_newest(p, &p->k[slot], k);
    set_newest(p, &p->v[slot], v);
}

/* Sequential training: the slot is one tensor, and each token writes its row. */
static int write_rows(pass *p, int slot, const heads *h) {
    if (h->k) TRY(graph_scatter_rows(p->g, h->k, p->slot_rows, p->k[slot]));
    return h->v ? graph_scatter_rows(p->g, h->v, p->slot_rows, p->v[slot]) : LCKV_OK;
}

static int measure(pass *p, const tensor *old, const tensor *new) {
    return old && new ? graph_square_distance(p->g, old, new, p->change->value) : LCKV_OK;
}

/* KV heads that several ranks have count once. */
static bool measures(const pass *p, int slot) {
    const layer_map *map = &p->m->config->map;
    return p->change && !p->commits && !map->layer[map->slot[slot].layer].copies_kv;
}

int pass_write_slot(pass *p, int slot, heads *h) {
    TRY(rotate(p, slot, h));
    if (p->slot_rows.data) return write_rows(p, slot, h);
    if (measures(p, slot)) {
        TRY(measure(p, p->k[slot], h->k));
        TRY(measure(p, p->v[slot], h->v));
    }
    pass_set_slot(p, slot, h->k, h->v);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- reading slots */

static const layer_description *description_of(const pass *p, int layer) {
    return &p->m->config->map.layer[layer];
}

tensor *pass_keys_read_by(const pass *p, int layer) {
    const layer_description *l = description_of(p, layer);
    return (p->exact_k && l->k_source > layer ? p->exact_k : p->k)[l->k_slot];
}

tensor *pass_values_read_by(const pass *p, int layer) {
    const layer_description *l = description_of(p, layer);
    return (p->exact_v && l->v_source > layer ? p->exact_v : p->v)[l->v_slot];
}

bool pass_sees_nothing(const pass *p, int layer) {
    int slot = description_of(p, layer)->v_slot;
    return !pass_values_read_by(p, layer) && !p->rows->max_past[group_of(p, slot)];
}

static struct op_attention attention_of(const pass *p, const layer_description *l, int group) {
    const row_set *r = p->rows;
    struct op_attention a = {.sequences = r->attention[group],
                             .max_q_rows = r->max_q_rows,
                             .max_kv_rows = r->max_kv_rows,
                             .max_past = r->max_past[group],
                             .heads = l->heads,
                             .kv_heads = l->kv_heads,
                             .head_dim = l->head_dim,
                             .strict = l->strict,
                             .window = l->window,
                             .scale = l->attention_scale};
    if (!p->cache) return a;
    a.past = kv_cache_pages(p->cache, l->k_slot, l->v_slot);
    a.past.table = p->b->groups[group].table;
    a.past.table.rows = r->sequences;
    return a;
}

/* The newest version of what a slot stores; zeros before the first write. */
static int newest_or_zeros(pass *p, tensor *newest, int64_t width, tensor **out) {
    if (!newest) return graph_zeros(p->g, p->rows->rows, width, p->g->compute, out);
    *out = tensor_hold(newest);
    return LCKV_OK;
}

/* Keys and values of the new rows, held by the caller; NULL if no query sees one. Before a slot is written, planned
 * rows see zeros, which take part in the softmax. Rows that are not planned are single tokens: they do not see
 * themselves in a slot above. */
static int read_slots(pass *p, int layer, const layer_description *l, tensor **k, tensor **v) {
    tensor *newest_k = pass_keys_read_by(p, layer), *newest_v = pass_values_read_by(p, layer);
    *k = *v = NULL;
    if (!(newest_k && newest_v) && !p->b->plan_rows) return LCKV_OK;
    TRY(newest_or_zeros(p, newest_k, layer_kv_width(l), k));
    if (!newest_k && !newest_v) {
        *v = tensor_hold(*k);
        return LCKV_OK;
    }
    return newest_or_zeros(p, newest_v, layer_kv_width(l), v);
}

int pass_attend(pass *p, int layer, const heads *h, tensor **out) {
    const layer_description *l = description_of(p, layer);
    int group = group_of(p, l->v_slot);
    struct op_attention a = attention_of(p, l, group);
    tensor *k, *v;
    TRY(read_slots(p, layer, l, &k, &v));
    TRY(graph_attention(p->g, h->q, h->q_sink, k, v, &a, p->rows->host[group], out));
    tensor_release(p->g, k);
    tensor_release(p->g, v);
    return LCKV_OK;
}
