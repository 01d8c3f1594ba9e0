/* Exact training: a step at the fixed point of every loop, instead of m + b iterations from zeros (docs/model.md).
 *
 * One iteration of a loop is s' = F(s, x): new keys and values from the old ones and from the hidden states below. The
 * exact slot s* is its only fixed point. decoder_fill() computes s* token by token, without gradient, for many
 * sequences at once. decoder_forward_exact() then runs each loop once and records it: lookups read s*, every other
 * layer reads what this pass writes. At the fixed point all b recorded iterations of the plan would have the same
 * activations, so decoder_backward_exact() walks this one record b times. The first walk starts from the gradients of
 * the loss. Each further walk adds to them, where the loop writes the slot, the gradient at s* that the walk before
 * left. Only the last walk computes gradients of weights and of what lies below the loop. They follow from the first
 * b - 1 terms of the Neumann series of (dL/ds) (I - dF/ds)^-1. dF/ds moves gradients to earlier tokens only: b equal to
 * the number of tokens gives the gradient of sequential training.
 *
 * Leaves out: which sequences are filled together, and when (train).
 */
#ifndef MODEL_EXACT_H
#define MODEL_EXACT_H

#include "graph/replay.h"
#include "model/decoder.h"

/* Keys and values of the slots that lookups read, for many sequences, on the device. Other slots have none. */
typedef struct exact_slots {
    device *device;
    int64_t rows; /* room, in tokens */
    view *k, *v;  /* [slots] compute type [rows, kv_heads * head_dim]; data NULL where no layer looks up */
    void *memory;
    replay_set steps; /* recorded steps of decoder_fill() */
} exact_slots;

/* Widths of a row of the slot's keys and values; 0 for what no lookup reads. */
int64_t exact_keys_width(const layer_map *map, int slot);
int64_t exact_values_width(const layer_map *map, int slot);

/* Bytes of device memory that exact_slots_create() takes. */
size_t exact_slots_bytes(const model *m, dtype compute, int64_t rows);
/* Room for `rows` tokens; the caller owns *out until exact_slots_free(). A model without loops needs none. */
int exact_slots_create(const model *m, dtype compute, int64_t rows, exact_slots **out);
void exact_slots_free(exact_slots *s); /* NULL is fine */

/* Rows first .. first + rows - 1 of a slot; absent where no layer looks it up. */
view exact_keys(const exact_slots *s, int slot, int64_t first, int64_t rows);
view exact_values(const exact_slots *s, int slot, int64_t first, int64_t rows);

/* The top layer of the last loop; -1: the model has none. */
int exact_top_layer(const model *m);

/* Computes the exact slots of the batch's sequences into rows first .. first + b->rows - 1 of *out, without gradient.
 * For batches without a cache. The graph is as after graph_reset(), and is reset afterwards. */
int decoder_fill(const model *m, graph *g, const batch *b, exact_slots *out, int64_t first);

/* What the backward pass of a recorded forward pass needs besides the tape: the records of each loop, and where its
 * slots are read and written. Zeros to begin with; exact_record_free() at the end, before graph_reset(). */
typedef struct exact_record {
    struct exact_loop {
        int first, end; /* numbers of its records on the tape */
    } * loops;
    int count;
    /* [slots], values after keys in memory: s* as lookups read it, NULL where none does; what this pass has written */
    tensor **read_k, **read_v;
    tensor **written_k, **written_v;
    int slots;
} exact_record;

void exact_record_free(graph *g, exact_record *r);

/* One recorded forward pass over the batch's sequences, whose exact slots are rows first .. of `s`. As
 * decoder_forward() otherwise, for batches without a cache. Adds to `residual` (f64 [1, 2] on the device) the squares
 * of F(s*) - s* and of s*: without rounding the first is 0. */
int decoder_forward_exact(const model *m, graph *g, const batch *b, const exact_slots *s, int64_t first, view residual,
                          exact_record *record, tensor **hidden);

/* The backward pass: what lies above a loop once, the loop `walks` (at least 1) times, what lies below once. */
int decoder_backward_exact(graph *g, exact_record *record, int walks);

/* Regression of the model's learned start on exact slots, with the loss in b->start_loss; graph_backward() computes its
 * gradient. Runs the layers below the last loop, without gradient. For batches without a cache; `s` as above. */
int decoder_fit_loop_start(const model *m, graph *g, const batch *b, const exact_slots *s, int64_t first);

#endif
