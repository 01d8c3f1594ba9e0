/* One forward pass on its way through the layers: the rows at hand and the newest keys and values of each slot.
 * For the decoder's files alone.
 */
#ifndef MODEL_PASS_H
#define MODEL_PASS_H

#include "model/decoder.h"

/* Rows that a layer runs on: all, those that are planned, the wanted ones, or the tokens of one sequential step. */
typedef struct row_set {
    int64_t rows;
    tensor *angles;      /* [rows, head_dim]; held by the pass */
    tensor *sink_angles; /* the same at the rows' places in a sink cache; NULL without one */
    int sequences;
    view attention[BATCH_MAX_GROUPS];                 /* attention_sequence [sequences], on the device */
    const attention_sequence *host[BATCH_MAX_GROUPS]; /* the same */
    int32_t max_past[BATCH_MAX_GROUPS], max_q_rows, max_kv_rows;
} row_set;

typedef struct pass {
    const model *m;
    graph *g;
    const batch *b;
    kv_cache *cache; /* NULL: nothing is kept */
    row_set all, planned, wanted;
    const row_set *rows;   /* the ones at hand */
    tensor **k, **v;       /* [slots] newest version of the new rows' keys and values; NULL before the first */
    const plan_step *step; /* that runs; NULL where there is no plan */
    bool commits;          /* this run's keys and values are the ones to keep */
    double moved,
        length;     /* of the slots that this run has written: squares of how far they moved, and of what they are */
    view slot_rows; /* sequential: i64 [rows], the rows of k and v that the rows at hand write; else absent */
} pass;

int pass_begin(const model *m, graph *g, const batch *b, kv_cache *cache, pass *p);
/* One that runs on `rows`, which are the caller's, without a cache; its slots are empty. */
int pass_begin_on(const model *m, graph *g, const batch *b, const row_set *rows, pass *p);
void pass_end(pass *p);

/* The rows of `all` that are wanted; made when they are first needed. */
int pass_want(pass *p);

/* Rotates keys (and queries, unless *q is NULL) of the rows at hand in place of what *q and *k held, and makes keys and
 * values the slot's newest; a run that commits appends them to the cache. */
int pass_write_slot(pass *p, int slot, tensor **q, tensor **k, tensor *v);
/* Whether a write to the slot appends to the cache and has no other purpose: then where to. */
bool pass_appends(const pass *p, int slot, struct kv_pages *pages, view *index);
/* Makes rotated keys and values of the rows at hand the slot's newest. */
void pass_set_slot(pass *p, int slot, tensor *k, tensor *v);

/* Whether queries of the rows at hand on this slot see zeros alone: it was not written and there is no past. */
bool pass_sees_nothing(const pass *p, int slot);

/* What attention of `layer` over its slot needs besides the queries. k and v are held for the caller; NULL where no new
 * row can be seen. */
int pass_attention(pass *p, int layer, struct op_attention *a, tensor **k, tensor **v);

typedef enum layer_part {
    LAYER_WHOLE,
    LAYER_KV,     /* keys and values alone: nothing else of it is needed */
    LAYER_NARROW, /* keys and values of all rows, the rest for the wanted rows */
} layer_part;

/* One decoder layer on x [rows, hidden_size] -> *out, NULL where nothing of it is needed any more. x stays the
 * caller's. */
int layer_forward(pass *p, int layer, layer_part part, tensor *x, tensor **out);

/* The last norm on x, which it takes. */
int decoder_last_norm(const model *m, graph *g, tensor *x, tensor **hidden);

#endif
