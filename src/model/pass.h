/* The state of one forward pass: which rows the current layer runs on, and the newest keys and values of each slot.
 * For the decoder's files only. It runs ops through the graph alone and does not know the device. */
#ifndef MODEL_PASS_H
#define MODEL_PASS_H

#include "model/decoder.h"

/* Rows that a layer runs on: all rows, the planned ones, the wanted ones, or the tokens of one sequential step. */
typedef struct row_set {
    int64_t rows;
    tensor *angles;      /* [rows, head_dim]; held by the pass */
    tensor *sink_angles; /* the same for the rows' positions in a sink cache; NULL without one */
    int sequences;
    view attention[KV_MAX_GROUPS];                 /* attention_sequence [sequences], on the device */
    const attention_sequence *host[KV_MAX_GROUPS]; /* the same, on the host */
    int32_t max_past[KV_MAX_GROUPS], max_q_rows, max_kv_rows;
} row_set;

typedef struct pass {
    const model *m;
    graph *g;
    const batch *b;
    kv_cache *cache; /* NULL: no past, and nothing is appended */
    dtype kv_type;   /* that keys and values are rounded to when they are written */
    row_set all, planned, wanted;
    const row_set *rows; /* the current ones */
    tensor **k, **v;     /* [slots] newest keys and values of the new rows; NULL before the first write, or if the slot
                            does not store them */
    tensor **exact_k, **exact_v; /* [slots] what lookups read instead (exact.h); the caller owns them; NULL: as above */
    bool learns;                 /* the batch's start_loss is computed, */
    tensor **start_k, **start_v; /* [slots] of what the start has predicted, until the loop ends; NULL: nothing */
    const plan_step *step;       /* the current one; NULL without a plan */
    int next_unit;               /* of the weights that are used after those of the current layer; -1: unknown */
    bool commits;                /* keys and values of this iteration are final */
    tensor *change; /* f64 [1, 2], of the slots written in this iteration: squared distance to the previous iteration,
                       and squared length; NULL: not measured */
    view slot_rows; /* sequential training: i64 [rows], the rows of k and v that the current rows write; else absent */
} pass;

int pass_begin(const model *m, graph *g, const batch *b, kv_cache *cache, pass *p);
/* A pass on `rows`, which the caller owns, without a cache. All slots are unwritten. */
int pass_begin_on(const model *m, graph *g, const batch *b, const row_set *rows, pass *p);
void pass_end(pass *p);

/* Angles of the rows at `positions`. `lengths` of their sequences are read by RoPE types that depend on them alone.
 * Both are i64 [rows, 1]. */
int pass_make_angles(const pass *p, view positions, view lengths, tensor **out);

/* Fills p->wanted when it is first needed. */
int pass_want(pass *p);

/* What a layer computes from its input; NULL where it is absent. */
typedef struct heads {
    tensor *q, *q_sink, *k, *v;
} heads;

/* Rotates q and k of the current rows, replacing them in *h, and makes k and v the newest version of `slot`. A
 * committing iteration appends them to the cache. q, k or v may be absent. */
int pass_write_slot(pass *p, int slot, heads *h);
/* Rounds keys and values that a layer computed to the pass's kv_type, so that all readers see what pages hold.
 * Before pass_set_slot(). Every iteration rounds them: the plan then converges to the exact form with the same
 * cache. A learned start's prediction is not rounded. */
int pass_round(pass *p, int slot, const heads *h);
/* Whether pass_write_slot() only appends to the cache; then where to. */
bool pass_appends(const pass *p, int slot, struct kv_pages *pages, view *index);
/* Makes rotated keys and values of the current rows the newest version of the slot. NULL: not stored. */
void pass_set_slot(pass *p, int slot, tensor *k, tensor *v);

/* Keys (values) of the new rows that `layer` attends to; NULL before the first version. */
tensor *pass_keys_read_by(const pass *p, int layer);
tensor *pass_values_read_by(const pass *p, int layer);

/* Whether the values that `layer` attends to are all zero: they were not written and there is no past. */
bool pass_sees_nothing(const pass *p, int layer);

/* Attention of the current rows' queries over the slots that `layer` reads -> *out [rows, heads * head_dim]. */
int pass_attend(pass *p, int layer, const heads *h, tensor **out);

typedef enum layer_part {
    LAYER_WHOLE,
    LAYER_KV,     /* keys and values only */
    LAYER_NARROW, /* keys and values of all rows, the rest for the wanted rows */
} layer_part;

/* One decoder layer on x [rows, hidden_size] -> *out, NULL if its hidden states are not needed. The caller keeps x. */
int layer_forward(pass *p, int layer, layer_part part, tensor *x, tensor **out);

/* The learned start of the step's loop; NULL if the model has none or the step is outside of loops. */
const loop_start_net *pass_loop_start(const pass *p, const plan_step *step);
/* Fills the slots of a loop from the hidden states below it, [rows, hidden_size] of the current rows. Records it if the
 * pass learns. */
int pass_predict(pass *p, const loop_start_net *net, tensor *x);
/* The loss of predicted keys and values of a slot; a target that does not exist is NULL. */
int pass_regress(pass *p, const loop_start_slot *s, tensor *k, tensor *v, const tensor *target_k,
                 const tensor *target_v);
/* Before a step of the plan: if it is the first iteration of a loop, fills its slots. After it: if it is the last one,
 * adds the loss. */
int pass_start_loop(pass *p, const plan_step *step, tensor *x);
int pass_end_loop(pass *p, const plan_step *step);

/* Runs one step of the plan on *x. A committing step replaces *x by its hidden states (NULL: no row is wanted). */
int decoder_run_step(pass *p, const plan_step *step, tensor **x);

/* Before the first and after the last iteration of a loop (weights_use.h). */
int decoder_begin_loop(pass *p, const plan_step *step);
int decoder_end_loop(pass *p, const plan_step *step);

/* The embeddings of the batch's tokens, f32 [rows, hidden_size]. */
int decoder_embed(pass *p, tensor **x);

/* The final norm of x. Takes ownership of x. */
int decoder_last_norm(const model *m, graph *g, tensor *x, tensor **hidden);

#endif
