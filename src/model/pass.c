/* The state of a forward pass, see pass.h: which rows, which version of which slot, what of the past. */
#include "model/pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static row_set batch_rows(const batch *b, const kv_cache *cache) {
    row_set r = {.rows = b->rows, .sequences = b->sequences, .max_q_rows = b->most_rows, .max_kv_rows = b->most_rows};
    for (int g = 0; g < b->group_count; g++) {
        r.attention[g] = b->groups[g].sequences;
        r.host[g] = b->groups[g].host;
        r.max_past[g] = cache ? b->groups[g].max_past : 0;
    }
    return r;
}

/* The planned rows are the first ones, so that they are a prefix of everything. */
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
    *p = (pass){.m = m, .g = g, .b = b, .rows = rows};
    p->k = calloc(2 * (size_t)m->config->map.slots, sizeof(tensor *));
    REQUIRE(p->k, LCKV_ERROR_MEMORY, "no memory for a forward pass");
    p->v = p->k + m->config->map.slots;
    return LCKV_OK;
}

/* Angles of the rows at `positions`. How long their sequences are is only told where it matters. */
static int make_angles(const pass *p, view positions, tensor **out) {
    struct op_rope_angles what = p->m->rope;
    what.positions = positions;
    if (what.limit > 0) what.lengths = p->b->lengths;
    return graph_rope_angles(p->g, &what, out);
}

int pass_begin(const model *m, graph *g, const batch *b, kv_cache *cache, pass *p) {
    TRY(pass_begin_on(m, g, b, NULL, p));
    p->cache = cache;
    p->all = batch_rows(b, cache);
    TRY(make_angles(p, b->positions, &p->all.angles));
    if (cache && kv_cache_streams(cache)) TRY(make_angles(p, b->sink_positions, &p->all.sink_angles));
    return plan_rows(p);
}

static void release_rows(pass *p, row_set *r) {
    tensor_release(p->g, r->angles);
    tensor_release(p->g, r->sink_angles);
    r->angles = r->sink_angles = NULL;
}

void pass_end(pass *p) {
    for (int s = 0; p->k && s < p->m->config->map.slots; s++) {
        tensor_release(p->g, p->k[s]);
        tensor_release(p->g, p->v[s]);
    }
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

/* ---------------------------------------------------------------- slots */

/* Element i of a compute type. */
static double value_of(const void *data, dtype type, int64_t i) {
    if (type == DTYPE_F32) return (double)((const float *)data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static double square_distance(const void *a, const void *b, dtype type, int64_t count, double *length) {
    double moved = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = value_of(a, type, i), y = value_of(b, type, i);
        moved += (x - y) * (x - y);
        *length += y * y;
    }
    return moved;
}

/* How far a slot's new version is from the old one. On the host: it is asked for once a run, and little. */
static int measure(pass *p, const tensor *old, const tensor *new) {
    device *d = p->g->device;
    size_t bytes = view_bytes(new->value);
    char *both = malloc(2 * bytes);
    REQUIRE(both, LCKV_ERROR_MEMORY, "no memory to compare two runs of %lld rows", (long long)new->value.rows);
    int status = d->memory.copy_out(d, both, old->value.data, bytes);
    if (status >= 0) status = d->memory.copy_out(d, both + bytes, new->value.data, bytes);
    if (status >= 0) status = d->memory.wait(d);
    int64_t count = new->value.rows *new->value.cols;
    if (status >= 0) p->moved += square_distance(both, both + bytes, new->value.type, count, &p->length);
    free(both);
    return status;
}

static int group_of(const pass *p, int slot) {
    return p->cache ? kv_cache_group_of_slot(p->cache, slot) : 0;
}

/* The committing run appends to the cache; every query of this call still sees the past as it was. */
static int rotate(pass *p, int slot, tensor **q, tensor **k, tensor *v) {
    tensor *q_out = NULL, *k_out;
    struct kv_pages pages;
    view index;
    if (pass_appends(p, slot, &pages, &index)) {
        TRY(graph_rope_append(p->g, *q, *k, v, p->rows->angles, index, &pages, &q_out, &k_out));
    } else {
        if (*q) TRY(graph_rope(p->g, *q, p->rows->angles, &q_out));
        TRY(graph_rope(p->g, *k, p->rows->angles, &k_out));
    }
    if (*q) tensor_release(p->g, *q);
    tensor_release(p->g, *k);
    *q = q_out;
    *k = k_out;
    return LCKV_OK;
}

bool pass_appends(const pass *p, int slot, struct kv_pages *pages, view *index) {
    if (!p->cache || !p->commits) return false;
    *pages = kv_cache_pages(p->cache, slot);
    *index = p->b->groups[group_of(p, slot)].destination;
    return true;
}

void pass_set_slot(pass *p, int slot, tensor *k, tensor *v) {
    tensor_release(p->g, p->k[slot]);
    tensor_release(p->g, p->v[slot]);
    p->k[slot] = tensor_hold(k);
    p->v[slot] = tensor_hold(v);
}

int pass_write_slot(pass *p, int slot, tensor **q, tensor **k, tensor *v) {
    TRY(rotate(p, slot, q, k, v));
    if (p->slot_rows.data) { /* sequential training: the slot is one tensor, each token writes its row */
        TRY(graph_scatter_rows(p->g, *k, p->slot_rows, p->k[slot]));
        return graph_scatter_rows(p->g, v, p->slot_rows, p->v[slot]);
    }
    if (p->b->tolerance > 0 && !p->commits && p->k[slot]) {
        TRY(measure(p, p->k[slot], *k));
        TRY(measure(p, p->v[slot], v));
    }
    pass_set_slot(p, slot, *k, v);
    return LCKV_OK;
}

bool pass_sees_nothing(const pass *p, int slot) {
    return !p->k[slot] && !p->rows->max_past[group_of(p, slot)];
}

/* The number of (query, visible key) pairs: only the counting device asks. */
static double count_pairs(const row_set *r, int group, bool strict, int64_t window) {
    double pairs = 0;
    for (int i = 0; i < r->sequences; i++) {
        const attention_sequence *s = &r->host[group][i];
        for (int32_t q = 0; q < s->q_rows; q++) {
            int64_t seen = (int64_t)s->past + s->q_offset + q + !strict, most = window ? window - strict : INT64_MAX;
            pairs += (double)(seen < most ? seen : most);
        }
    }
    return pairs;
}

int pass_attention(pass *p, int layer, struct op_attention *a, tensor **k, tensor **v) {
    const model_config *c = p->m->config;
    const row_set *r = p->rows;
    int slot = c->map.slot_of_source[layer], group = group_of(p, slot);
    *a = (struct op_attention){.sequences = r->attention[group],
                               .max_q_rows = r->max_q_rows,
                               .max_kv_rows = r->max_kv_rows,
                               .max_past = r->max_past[group],
                               .heads = c->heads,
                               .kv_heads = c->kv_heads,
                               .head_dim = c->head_dim,
                               .strict = c->map.strict[layer],
                               .window = c->map.windowed[layer] ? c->sliding_window : 0,
                               .scale = 1.0f / sqrtf((float)c->head_dim)};
    if (p->cache) {
        a->past = kv_cache_pages(p->cache, slot);
        a->past.table = p->b->groups[group].table;
        a->past.table.rows = r->sequences;
    }
    if (p->g->device->counts_only) a->pairs = count_pairs(r, group, a->strict, a->window);
    *k = *v = NULL;
    if (p->k[slot]) {
        *k = tensor_hold(p->k[slot]);
        *v = tensor_hold(p->v[slot]);
    } else if (p->b->plan_rows) { /* the first run after a past: the new keys are zeros, which take their share */
        TRY(graph_zeros(p->g, r->rows, (int64_t)c->kv_heads * c->head_dim, p->g->compute, k));
        *v = tensor_hold(*k);
    }
    return LCKV_OK;
}
