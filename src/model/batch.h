/* A batch: rows of many sequences, end to end, and per sequence where its rows and its past lie.
 *
 * It is made once for the largest numbers it will carry and filled for each call; all of it lies in one piece of device
 * memory at fixed places. Sequences that need the plan's many runs come first ("planned"), so that a run covers a
 * prefix of the rows; the others (decoding tokens, one row each) join the committing run alone.
 *
 * Leaves out: what the cache does (kv_cache.h) and who decides what runs together (generate, train).
 */
#ifndef MODEL_BATCH_H
#define MODEL_BATCH_H

#include "model/kv_cache.h"

/* One sequence's part of a call. */
typedef struct batch_entry {
    const int32_t *ids;
    const int32_t *labels; /* label of row i (the id that follows it), negative: none. NULL: no labels */
    int32_t rows;
    int32_t wanted; /* the last `wanted` rows' hidden states are handed out: rows, 1 or 0 */
    int64_t length; /* tokens of the sequence, where more than these rows are known (its prompt): RoPE types whose
                       frequencies depend on the length go by it. 0: up to its last row here */
    int cache_id;   /* sequence of the cache; -1: no past, nothing is kept */
    bool planned;   /* through the plan; false: rows must be 1 unless the model has no loops */
    int32_t chosen; /* of one row: 1 + the row of the batch's `previous` that is its id; 0: ids has it */
} batch_entry;

/* What a layer makes, for whoever looks inside. */
typedef enum layer_value {
    LAYER_HIDDEN, /* the residual stream behind it, f32 [rows, hidden_size] */
    LAYER_ATTN,   /* what its attention gives, before o_proj, [rows, heads * head_dim] */
    LAYER_K,      /* keys as they are cached: normed and rotated, [rows, kv_heads * head_dim]; of slot owners alone */
    LAYER_V
} layer_value;

/* Told of each of them in each run of the plan; `step` says which run, and whether its values are the ones that stay. A
 * value without data is zeros. */
typedef struct layer_watch {
    int (*see)(void *user, int layer, const plan_step *step, layer_value what, view value);
    void *user;
} layer_watch;

typedef struct batch_limits {
    int32_t rows, sequences;
    int32_t pages; /* of a sequence; grows by itself, start with 0 */
} batch_limits;

/* Attention's view of the batch for slots of one group (kv_cache.h). Without a cache there is one. */
typedef struct batch_group {
    view sequences;        /* attention_sequence as u8 [sequences, sizeof], all rows query */
    view wanted_sequences; /* the wanted rows query, q_row counting wanted rows */
    view table;            /* i32 [sequences, pages] */
    view destination;      /* i64 [rows, 1]: the row of the pages that keeps each new row, -1 for none */
    const attention_sequence *host, *host_wanted; /* the same, readable by the host */
    int32_t max_past, plan_max_past;              /* at least; see `rounds` */
} batch_group;

typedef struct batch {
    device *device;
    int32_t rows, sequences;           /* in this call; the last ones may be dead or empty, see `rounds` */
    int32_t plan_rows, plan_sequences; /* the prefix that needs many runs */
    int32_t wanted;                    /* rows handed out */
    bool wants_all;                    /* wanted rows are all rows */
    int32_t max_rows;                  /* of one sequence */
    int32_t most_rows;                 /* at least; see `rounds` */
    int32_t labels_counted;            /* labels of wanted rows that are not negative */
    view ids;                          /* i32 [rows, 1] */
    view previous;                     /* i32 [n, 1]: ids that an earlier step chooses, the caller's; absent: none */
    view from;                         /* i32 [rows, 1]: the row of `previous` that is a row's id, -1: ids has it */
    view labels;                       /* i32 [wanted, 1] */
    view positions, sink_positions;    /* i64 [rows, 1]: absolute, and in a sink cache's list */
    view lengths;                      /* i64 [rows, 1]: tokens of the row's sequence, in a sink cache of its list */
    view wanted_rows;                  /* i32 [wanted, 1] */
    batch_group groups[KV_MAX_GROUPS];
    int group_count;
    batch_limits limits;
    void *memory, *staging; /* device, host: the same layout */
    size_t bytes;
    const plan *plan; /* of the planned rows, the caller's; NULL (default): the model's */
    double tolerance; /* a loop commits once its slots move less than this part of their length from one run to the
                         next; 0 (default): it does all runs. For one planned sequence: what is said of a batch of
                         several would depend on all of them */
    const layer_watch *watch; /* the caller's; NULL (default): nobody looks */
    int64_t moves;            /* times that the memory got another place */
    bool fills;  /* the caller's: where the device records steps, a step of one wanted row a sequence is filled up
                   with dead rows to one of a few sizes; false (default): rows are those of the entries */
    bool rounds; /* the device records steps: maxima are rounded up, and empty sequences fill a batch without a cache
                    up, so that steps are alike */
} batch;

int batch_create(device *d, batch_limits limits, batch **out);
void batch_free(batch *b); /* NULL is fine */

/* Fills the batch (it grows where its limits are passed) and sends it to the device. Entries with `planned` come first.
 * With a cache, pages for the new rows are taken (LCKV_ERROR_MEMORY when there are none: nothing has changed then), and
 * the rows count as cached only after kv_cache_commit(). Positions follow from the cache; without one they start at 0.
 */
int batch_fill(batch *b, kv_cache *cache, const batch_entry *entries, int count);

#endif
