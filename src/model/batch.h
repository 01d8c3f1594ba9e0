/* A batch: the rows of several sequences in one matrix, and a record per sequence of its rows and its past.
 *
 * A batch is created once for its limits and filled for each call. Its contents are in one allocation of device
 * memory at fixed addresses. Sequences that go through the plan come first ("planned"), so that a non-committing
 * iteration runs on a prefix of the rows. The others (decoding, one row each) only take part in committing
 * iterations.
 *
 * Leaves out: the cache (kv_cache.h), and scheduling (generate, train). */
#ifndef MODEL_BATCH_H
#define MODEL_BATCH_H

#include "model/cache/kv_cache.h"

/* One sequence's part of a call. */
typedef struct batch_entry {
    const int32_t *ids;
    const int32_t *labels; /* label of row i (the next id); negative: none. NULL: no labels */
    int32_t rows;
    int32_t wanted; /* hidden states of the last `wanted` rows are returned: rows, 1 or 0 */
    int64_t length; /* tokens of the sequence if more than these rows are known (its prompt), for RoPE types whose
                     * frequencies depend on the length. 0: up to its last row here */
    int cache_id;   /* sequence in the cache; -1: no past, and nothing is cached */
    bool planned;   /* goes through the plan; if false, rows must be 1 unless the model has no loops */
    int32_t chosen; /* for one row: 1 + the row of the batch's `previous` that has its id; 0: `ids` has it */
} batch_entry;

/* Activations of a layer that an observer can read. */
typedef enum layer_value {
    LAYER_HIDDEN, /* residual stream after the layer, f32 [rows, hidden_size] */
    LAYER_ATTN,   /* output of attention, before o_proj, [rows, heads * head_dim] */
    LAYER_K,      /* keys as cached: normed and rotated, [rows, kv_heads * head_dim]; only of layers that store them */
    LAYER_V
} layer_value;

/* Called for each activation in each iteration. `step` tells the iteration, and whether its values are final. A
 * value without data is zeros. */
typedef struct layer_watch {
    int (*see)(void *user, int layer, const plan_step *step, layer_value what, view value);
    void *user;
} layer_watch;

/* The regression of a learned start while its model is trained: the sum over slots i of scales[2 i] times the squared
 * distance of the predicted keys from the slot's last ones, and scales[2 i + 1] times that of the values. The targets
 * count as constants. */
typedef struct loop_start_loss {
    const float *scales; /* [2 * slots] */
    view sums; /* f64 [2 * slots, 2] on the device: squared distances, and squares of the targets, are added to it */
} loop_start_loss;

typedef struct batch_limits {
    int32_t rows, sequences;
    int32_t pages; /* per sequence; grows as needed, start with 0 */
} batch_limits;

/* Attention's view of the batch for the slots of one group (kv_cache.h). Without a cache there is one group. */
typedef struct batch_group {
    view sequences;        /* attention_sequence as u8 [sequences, sizeof], with all rows as queries */
    view wanted_sequences; /* the same with the wanted rows as queries; q_row counts wanted rows */
    view table;            /* i32 [sequences, pages] */
    view destination;      /* i64 [rows, 1]: row of the pages for each new row; -1: none */
    const attention_sequence *host, *host_wanted; /* the same, on the host */
    int32_t max_past, plan_max_past;              /* upper bounds; see `rounds` */
} batch_group;

typedef struct batch {
    device *device;
    int32_t rows, sequences;           /* of this call; the last ones may be padding, see `rounds` */
    int32_t plan_rows, plan_sequences; /* planned rows and sequences, which come first */
    int32_t wanted;                    /* number of rows whose hidden states are returned */
    bool wants_all;                    /* all rows are wanted */
    int32_t max_rows;                  /* of one sequence */
    int32_t padded_max_rows;           /* upper bound; see `rounds` */
    int32_t labels_counted;            /* number of labels of wanted rows that are not negative */
    view ids;                          /* i32 [rows, 1] */
    view previous;                     /* i32 [n, 1]: ids chosen by an earlier step, owned by the caller; absent:
                                        * none */
    bool reads_previous;               /* some row may take its id from `previous` */
    view from;                         /* i32 [rows, 1]: the row of `previous` that has a row's id; -1: `ids` has it */
    view labels;                       /* i32 [wanted, 1] */
    view positions, sink_positions;    /* i64 [rows, 1]: absolute positions, and positions in the list of a sink
                                        * cache */
    view lengths;                      /* i64 [rows, 1]: tokens of the row's sequence; in a sink cache, of its list */
    view wanted_rows;                  /* i32 [wanted, 1] */
    view nearby;                       /* i32 [3 * rows, 1]: for each row itself and the two rows before it in its
                                        * sequence; -1: none in this call */
    batch_group groups[KV_MAX_GROUPS];
    int group_count;
    batch_limits limits;
    void *memory, *staging; /* device, host: the same layout */
    size_t bytes;
    const plan *plan; /* plan of the planned rows, owned by the caller; NULL (default): the model's */
    double tolerance; /* A loop commits once the relative change of its slots between two iterations is below this
                       * value; 0 (default): it runs all iterations. For batches with one planned sequence, because
                       * the change is measured over all of them */
    const loop_start_loss *start_loss; /* owned by the caller; NULL (default): a start is used and not trained */
    /* Regression of the loops' slots after one iteration from the start (zeros, or the learned one) on the exact ones,
     * in decoder_forward_exact(); owned by the caller. Its gradient reaches the model. NULL (default): none */
    const loop_start_loss *iteration_loss;
    int32_t piece_rows; /* A learned start sees pieces of this many rows; 0 (default): each sequence is one. For
                               * fitting one to what prompts in pieces look like */
    dtype kv_type; /* Type that keys and values are rounded to in calls without a cache, as a cache of this type would
                    * store them; DTYPE_F32 (default): not rounded. With a cache it is the cache's. Not for training */
    const layer_watch *watch; /* observer, owned by the caller; NULL (default): none */
    int64_t moves;            /* changes whenever the addresses change */
    /* set by the caller: if the device records steps, steps of one row per sequence are padded to one of a few sizes;
     * false (default): no padding rows */
    bool fills;
    /* set by the caller: with `fills`, a prompt by itself is padded, too, to at most this number of rows; not with a
     * tolerance */
    int32_t prompt_room;
    rank_group *ranks; /* ranks that have the same batch (ranks/rank_group.h); NULL: none */
    int id;            /* of the batch on these ranks; 0: none yet */
    bool rounds;       /* the device records steps: maxima are rounded up, and batches without a cache are padded with
                  * empty sequences, so that recorded steps can be reused */
} batch;

int batch_create(device *d, batch_limits limits, batch **out);
void batch_free(batch *b); /* NULL is fine */

/* Fills the batch and sends it to the device. The batch grows if its limits are exceeded. Entries with `planned`
 * come first. With a cache, pages for the new rows are taken (LCKV_ERROR_MEMORY if there are none; then nothing has
 * changed), and the rows are cached after kv_cache_commit(). Positions follow from the cache; without one they start
 * at 0. */
int batch_fill(batch *b, kv_cache *cache, const batch_entry *entries, int count);

/* The host's copy of a view of the batch. */
const void *batch_host(const batch *b, view v);

/* A number of rows of which there are few: the next multiple of an eighth of the next lower power of two. At most one
 * row in nine is padding. */
int32_t batch_rounded_rows(int32_t rows);

/* A filled batch for a process with the same kind of device: bytes, and filling another batch from them. The plan and
 * `previous` are the caller's. */
size_t batch_packed_bytes(const batch *b);
void batch_pack(const batch *b, void *out);
int batch_unpack(batch *b, const void *packed, size_t bytes);

#endif
