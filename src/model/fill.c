/* Filling exact slots (exact.h): the exact form in lockstep, without gradients. Step t runs token t of every sequence
 * that has one, through the layers up to the top of the last loop. As in decoding, a step is a few rows of each layer,
 * and on devices that record, most steps are replays of an earlier one.
 *
 * What differs between steps is in tables at fixed addresses, which the host sends before each step: ids, positions,
 * the rows of the slots that are written, and the attended rows of each sequence. */
#include "model/exact.h"
#include "model/pass.h"
#include "model/shards/weights_use.h"

#include <stdlib.h>

/* The tables, one entry per row of a step. */
typedef struct tables {
    int32_t room;
    void *host;
    tensor *memory;
    view scatter, positions, lengths, sequences, ids; /* i64, i64, i64, attention_sequence, i32 */
} tables;

typedef struct filling {
    pass p;
    exact_slots *out;
    int64_t first; /* row of `out` */
    int top;       /* of the last loop */
    tables tables;
    int32_t rows; /* of the current step; the last ones may be padding */
    int32_t keys; /* upper bound of the rows that one of them sees */
} filling;

/* ---------------------------------------------------------------- tables */

static const attention_sequence *sequence_of(const batch *b, int i) {
    return &b->groups[0].host[i];
}

static void *host_of(const tables *t, view v) {
    return (char *)t->host + ((char *)v.data - (char *)t->memory->value.data);
}

static view place(char **at, int64_t rows, int64_t cols, dtype type) {
    view v = {*at, rows, cols, type};
    *at += view_bytes(v);
    return v;
}

/* All sequences have a first token, except for padding. */
static int make_tables(graph *g, const batch *b, tables *t) {
    int32_t count = 0;
    for (int i = 0; i < b->sequences; i++) count += sequence_of(b, i)->q_rows > 0;
    t->room = b->rounds ? batch_rounded_rows(count) : count;
    size_t bytes = (size_t)t->room * (3 * sizeof(int64_t) + sizeof(attention_sequence) + sizeof(int32_t));
    t->host = calloc(1, bytes);
    REQUIRE(t->host, LCKV_ERROR_MEMORY, "no memory for a step of %d sequences", count);
    TRY(graph_tensor(g, 1, (int64_t)bytes, DTYPE_U8, &t->memory));
    char *at = t->memory->value.data;
    t->scatter = place(&at, t->room, 1, DTYPE_I64);
    t->positions = place(&at, t->room, 1, DTYPE_I64);
    t->lengths = place(&at, t->room, 1, DTYPE_I64);
    t->sequences = place(&at, t->room, sizeof(attention_sequence), DTYPE_U8);
    t->ids = place(&at, t->room, 1, DTYPE_I32);
    return LCKV_OK;
}

/* Row `at` of the step is token `token` of a sequence; a padding row sees nothing and writes nothing. */
static void set_row(const filling *f, int32_t at, const attention_sequence *s, int32_t token) {
    const batch *b = f->p.b;
    const tables *t = &f->tables;
    int32_t row = s ? s->q_row + token : -1;
    ((int64_t *)host_of(t, t->scatter))[at] = row;
    ((int64_t *)host_of(t, t->positions))[at] = s ? ((const int64_t *)batch_host(b, b->positions))[row] : 0;
    ((int64_t *)host_of(t, t->lengths))[at] = s ? ((const int64_t *)batch_host(b, b->lengths))[row] : 1;
    ((int32_t *)host_of(t, t->ids))[at] = s ? ((const int32_t *)batch_host(b, b->ids))[row] : 0;
    attention_sequence *to = (attention_sequence *)host_of(t, t->sequences) + at;
    *to = s ? *s : (attention_sequence){0};
    to->q_row = at;
    to->q_rows = 1;
    to->q_offset = token;
}

/* Sends the tables of the step of every sequence's token `token`. */
static int send_tables(filling *f, int32_t token) {
    const batch *b = f->p.b;
    int32_t count = 0;
    for (int i = 0; i < b->sequences; i++)
        if (sequence_of(b, i)->q_rows > token) set_row(f, count++, sequence_of(b, i), token);
    f->rows = b->rounds ? batch_rounded_rows(count) : count;
    for (int32_t i = count; i < f->rows; i++) set_row(f, i, NULL, 0);
    for (f->keys = 64; f->keys <= token;) f->keys *= 2;
    return graph_copy_in(f->p.g, f->tables.host, f->tables.memory);
}

/* ---------------------------------------------------------------- steps */

/* There is no past: attention reads the slot tensors. */
static int begin_step(filling *f, row_set *rows) {
    const tables *t = &f->tables;
    *rows = (row_set){.rows = f->rows, .sequences = f->rows, .max_q_rows = 1, .max_kv_rows = f->keys};
    rows->attention[0] = view_rows(t->sequences, 0, f->rows);
    rows->host[0] = host_of(t, t->sequences);
    f->p.rows = rows;
    f->p.slot_rows = view_rows(t->scatter, 0, f->rows);
    view positions = view_rows(t->positions, 0, f->rows), lengths = view_rows(t->lengths, 0, f->rows);
    return pass_make_angles(&f->p, positions, lengths, &rows->angles);
}

/* Of the top layer only keys and values are needed. */
static int run_step(void *user) {
    filling *f = user;
    pass *p = &f->p;
    row_set rows;
    tensor *x, *next;
    TRY(begin_step(f, &rows));
    TRY(graph_embed(p->g, view_rows(f->tables.ids, 0, f->rows), p->m->params->embed, &x));
    for (int layer = 0; layer <= f->top; layer++) {
        TRY(layer_forward(p, layer, layer < f->top ? LAYER_WHOLE : LAYER_KV, x, &next));
        tensor_release(p->g, x);
        x = next;
    }
    tensor_release(p->g, x);
    tensor_release(p->g, rows.angles);
    return LCKV_OK;
}

/* Weights that are divided between ranks move. The other addresses in the graph follow from the number of rows. */
static int run_or_replay(filling *f) {
    const pass *p = &f->p;
    const tables *t = &f->tables;
    replay_key key = {{f->rows, f->keys, p->b->rows, p->kv_type, f->first, t->room, (intptr_t)t->memory->value.data}};
    return p->m->params->shards ? run_step(f) : replay_set_run(&f->out->steps, p->g, &key, run_step, f);
}

/* Embedding and layers stay gathered over all steps. */
static int run_steps(filling *f) {
    params *weights = f->p.m->params;
    graph *g = f->p.g;
    int embed = weights_of(weights, weights->embed);
    unit_range layers = weights_of_layers(0, f->top);
    TRY(weights_begin_pass(weights, g));
    TRY(weights_begin(weights, g, embed, -1));
    TRY(weights_hold(weights, g, layers));
    for (int32_t token = 0; token < f->p.b->max_rows; token++) {
        TRY(send_tables(f, token));
        TRY(run_or_replay(f));
    }
    TRY(weights_let_go(weights, g, layers));
    return weights_end(weights, g, embed, false);
}

/* ---------------------------------------------------------------- slots */

/* In the caller's memory where it is given, else in the graph's. */
static int make_slot(pass *p, view given, int64_t width, tensor **out) {
    if (given.data) return graph_borrow(p->g, given, false, out);
    return width ? graph_tensor(p->g, p->b->rows, width, p->g->compute, out) : LCKV_OK;
}

static int make_slots(filling *f) {
    pass *p = &f->p;
    const layer_map *map = &p->m->config->map;
    int64_t rows = p->b->rows;
    for (int s = 0; s < map->slots && map->slot[s].layer <= f->top; s++) {
        TRY(make_slot(p, exact_keys(f->out, s, f->first, rows), layer_map_k_width(map, s), &p->k[s]));
        TRY(make_slot(p, exact_values(f->out, s, f->first, rows), layer_map_v_width(map, s), &p->v[s]));
    }
    return LCKV_OK;
}

static int fill(filling *f) {
    TRY(make_tables(f->p.g, f->p.b, &f->tables));
    TRY(make_slots(f));
    return run_steps(f);
}

int decoder_fill(const model *m, graph *g, const batch *b, exact_slots *out, int64_t first) {
    filling f = {.out = out, .first = first, .top = exact_top_layer(m)};
    bool recording = g->recording;
    REQUIRE(first >= 0 && first + b->rows <= out->rows, LCKV_ERROR_ARGUMENT,
            "room for the slots of %lld tokens, found a batch of %d from token %lld on", (long long)out->rows, b->rows,
            (long long)first);
    g->recording = false;
    int status = pass_begin_on(m, g, b, NULL, &f.p);
    if (status >= 0) status = fill(&f);
    pass_end(&f.p);
    tensor_release(g, f.tables.memory);
    g->recording = recording;
    free(f.tables.host);
    return status;
}
