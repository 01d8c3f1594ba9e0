/* Token by token through the layers. This is the exact form that the plan approximates (Wu and Tu 2024, section 3). A
 * slot is one tensor for all tokens; each token writes its row, and gradients add up. Step t runs token t of every
 * sequence that has one. Every step is recorded. fill.c runs steps without gradients.
 *
 * Leaves out: speed. */
#include "model/pass.h"
#include "model/shards/weights_use.h"

#include <stdlib.h>
#include <string.h>

/* Tables of all steps in one tensor on the device: for each step and sequence, the row (twice) and a record for
 * attention. The entries of step t start at first[t]. */
typedef struct steps {
    int32_t count;
    int32_t *first; /* [count + 1] */
    void *host;
    tensor *memory;
    view gather, scatter, sequences; /* i32, i64, attention_sequence: one entry per row of the batch */
} steps;

static void *host_of(const steps *s, view v) {
    return (char *)s->host + ((char *)v.data - (char *)s->memory->value.data);
}

static void fill_steps(const batch *b, steps *s) {
    int32_t *gather = host_of(s, s->gather), entry = 0;
    int64_t *scatter = host_of(s, s->scatter);
    attention_sequence *sequences = host_of(s, s->sequences);
    for (int32_t t = 0; t < s->count; t++) {
        s->first[t] = entry;
        for (int32_t i = 0; i < b->sequences; i++) {
            attention_sequence whole = b->groups[0].host[i];
            if (whole.q_rows <= t) continue;
            gather[entry] = whole.q_row + t;
            scatter[entry] = whole.q_row + t;
            whole.q_row = entry - s->first[t];
            whole.q_rows = 1;
            whole.q_offset = t;
            sequences[entry++] = whole;
        }
    }
    s->first[s->count] = entry;
}

static int make_steps(graph *g, const batch *b, steps *s) {
    int64_t rows = b->rows, sequence_bytes = (int64_t)sizeof(attention_sequence);
    s->count = b->max_rows;
    s->first = calloc((size_t)s->count + 1, sizeof *s->first);
    s->host = calloc((size_t)rows, (size_t)sequence_bytes + 12);
    REQUIRE(s->first && s->host, LCKV_ERROR_MEMORY, "no memory for the steps of %d tokens", b->rows);
    TRY(graph_tensor(g, rows, sequence_bytes + 12, DTYPE_U8, &s->memory));
    char *at = s->memory->value.data;
    s->scatter = (view){at, rows, 1, DTYPE_I64};
    s->sequences = (view){at + rows * 8, rows, sequence_bytes, DTYPE_U8};
    s->gather = (view){at + rows * (8 + sequence_bytes), rows, 1, DTYPE_I32};
    fill_steps(b, s);
    return graph_copy_in(g, s->host, s->memory);
}

/* Entries first .. last - 1 of a view. */
static view part(view v, int32_t first, int32_t last) {
    return view_rows(v, first, last - first);
}

/* Makes the rows of step t the current ones. There is no past: attention reads the slot tensors. */
static int begin_step(pass *p, const steps *s, int32_t t, row_set *rows) {
    int32_t first = s->first[t], last = s->first[t + 1];
    *rows = (row_set){.rows = last - first, .sequences = last - first, .max_q_rows = 1, .max_kv_rows = s->count};
    rows->attention[0] = part(s->sequences, first, last);
    rows->host[0] = (const attention_sequence *)host_of(s, s->sequences) + first;
    p->rows = rows;
    p->slot_rows = part(s->scatter, first, last);
    return graph_gather_rows(p->g, p->all.angles, part(s->gather, first, last), &rows->angles);
}

/* Writes the hidden states of the last layer to the step's rows of `out`. */
static int run_step(pass *p, const steps *s, int32_t t, tensor *embedded, tensor *out) {
    row_set rows;
    tensor *x, *next;
    TRY(begin_step(p, s, t, &rows));
    TRY(graph_gather_rows(p->g, embedded, part(s->gather, s->first[t], s->first[t + 1]), &x));
    for (int layer = 0; layer < p->m->config->layers; layer++) {
        TRY(layer_forward(p, layer, LAYER_WHOLE, x, &next));
        tensor_release(p->g, x);
        x = next;
    }
    TRY(graph_scatter_rows(p->g, x, p->slot_rows, out));
    tensor_release(p->g, x);
    tensor_release(p->g, rows.angles);
    return LCKV_OK;
}

/* The layers stay gathered over all tokens. */
static int run_steps(pass *p, const steps *s, tensor *embedded, tensor *out) {
    unit_range layers = weights_of_layers(0, p->m->config->layers - 1);
    TRY(weights_hold(p->m->params, p->g, layers));
    for (int32_t t = 0; t < s->count; t++) TRY(run_step(p, s, t, embedded, out));
    return weights_let_go(p->m->params, p->g, layers);
}

static int make_slots(pass *p) {
    const layer_map *map = &p->m->config->map;
    for (int s = 0; s < map->slots; s++) {
        int64_t rows = p->b->rows, k_width = layer_map_k_width(map, s), v_width = layer_map_v_width(map, s);
        if (k_width) TRY(graph_zeros(p->g, rows, k_width, p->g->compute, &p->k[s]));
        if (v_width) TRY(graph_zeros(p->g, rows, v_width, p->g->compute, &p->v[s]));
    }
    return LCKV_OK;
}

static int forward(pass *p, steps *s, tensor **hidden) {
    tensor *embedded, *x;
    TRY(make_steps(p->g, p->b, s));
    TRY(make_slots(p));
    TRY(decoder_embed(p, &embedded));
    TRY(graph_zeros(p->g, p->b->rows, p->m->config->hidden_size, DTYPE_F32, &x));
    TRY(run_steps(p, s, embedded, x));
    tensor_release(p->g, embedded);
    return decoder_last_norm(p->m, p->g, x, hidden);
}

int decoder_forward_sequential(const model *m, graph *g, const batch *b, tensor **hidden) {
    pass p;
    steps s = {0};
    *hidden = NULL;
    int status = pass_begin(m, g, b, NULL, &p);
    if (status >= 0) status = forward(&p, &s, hidden);
    pass_end(&p);
    /* records of gathers and scatters read the tables until the graph is reset */
    free(s.first);
    free(s.host);
    return status;
}
