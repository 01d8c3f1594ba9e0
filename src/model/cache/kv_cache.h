/* The KV cache: pages of committed rows for every slot. It is indexed by slot, never by layer.
 *
 * A page holds `page_rows` tokens of every slot of a group. A group is the slots with the same policy, which share
 * page tables; their widths may differ. Policies: "full" keeps all rows; "window" (slots all of whose readers have
 * sliding windows) drops pages before the window; "sinks" (StreamingLLM, Xiao et al. 2024; all slots) keeps the
 * first rows and the most recent ones. Keys are stored rotated at their absolute position and do not change.
 *
 * Rows are converted to the type of the pages once, when they are appended. The decoder rounds the new rows of a
 * call in the same way before anything reads them (pass.h), so that it does not matter how a prompt was split into
 * calls.
 *
 * Attention reads pages; only committing iterations append. A sequence may start as a copy of another one and share
 * its pages. A *snapshot* is a sequence that cannot run: its pages are shared by sequences with the same prefix.
 * Leaves out: scheduling, sampling, and the choice of prefixes (generate/batcher/prefix_cache.h). */
#ifndef MODEL_KV_CACHE_H
#define MODEL_KV_CACHE_H

#include "model/model.h"

typedef struct kv_cache_options {
    int sequences;         /* maximum number of sequences at a time; default 1 */
    int snapshots;         /* maximum number of snapshots; default 0 */
    int64_t rows;          /* initial capacity in tokens of all sequences together; the cache grows as needed */
    int64_t max_rows;      /* maximum capacity; 0: limited by memory */
    size_t max_bytes;      /* > 0: fixed capacity in bytes, allocated at once; rows and max_rows are ignored */
    dtype type;            /* of stored keys and values, see kv_cache_choose_type() */
    int page_rows;         /* default 16 */
    int64_t window_length; /* > 0: a sink cache with this window */
    int64_t sinks;         /* tokens kept from the start; < window_length */
} kv_cache_options;

typedef struct kv_cache kv_cache;

/* Options of calls that have a cache: `kv_type` DTYPE_F32, which is 0, means the compute type. */
static inline dtype kv_cache_type_for(dtype compute, dtype kv_type) {
    return kv_type == DTYPE_F32 ? compute : kv_type;
}

enum { KV_MAX_GROUPS = 2 };

kv_cache_options kv_cache_defaults(void);
/* The type of pages by the name of an option: "auto" or NULL for the compute type, "float32", "bfloat16" or "int8".
 * LCKV_ERROR_ARGUMENT: another name. LCKV_ERROR_UNSUPPORTED: the device cannot read such pages. */
int kv_cache_choose_type(const device *d, dtype compute, const char *name, dtype *out);
int kv_cache_create(const model *m, const kv_cache_options *options, kv_cache **out);
/* A cache of exactly `pages` [groups] pages, with options->type, page_rows, window_length and sinks. It keeps no
 * sequences: it has the pages of the cache of another rank (ranks/rank_group.h). */
int kv_cache_create_pages(const model *m, const kv_cache_options *options, const int32_t *pages, kv_cache **out);
/* Bytes of `sequences` sequences of `rows` tokens each that share nothing. Every prediction comes from here; it
 * equals the usage of a cache that holds such sequences. */
typedef struct kv_cache_need {
    double held;     /* of their pages: used_bytes of kv_cache_used() */
    double reserved; /* max_bytes with which they fit in any order of prefill and decoding */
    double plain;    /* plain_bytes of kv_cache_used() */
} kv_cache_need;

/* Reads type, page_rows, window_length and sinks of the options. */
int kv_cache_bytes_for(const model *m, const kv_cache_options *options, int64_t sequences, int64_t rows,
                       kv_cache_need *out);
void kv_cache_free(kv_cache *c);

int kv_cache_add(kv_cache *c, int *id);    /* an empty sequence; LCKV_ERROR_MEMORY if all are in use */
void kv_cache_remove(kv_cache *c, int id); /* releases its pages */

/* Makes an empty sequence a copy of another one. Pages are copied on write. */
int kv_cache_copy(kv_cache *c, int from, int to);
/* Keeps the first `position` tokens of a sequence (all of them if the cache cannot truncate) as a snapshot;
 * LCKV_ERROR_MEMORY if all snapshots are in use. */
int kv_cache_snapshot(kv_cache *c, int from, int64_t position, int *id);
/* `evict` is called when pages are needed. It removes a snapshot, or returns false if there is none. */
void kv_cache_set_evict(kv_cache *c, bool (*evict)(void *user), void *user);
bool kv_cache_can_truncate(const kv_cache *c); /* whether kv_cache_truncate() works */

/* Reserves pages, so that the sequence never runs out of pages up to `rows` tokens. Its first `prefix` tokens (0:
 * none) will be shared with another sequence that has reserved them. */
bool kv_cache_reserve(kv_cache *c, int id, int64_t rows, int64_t prefix); /* false: no pages now; nothing has changed */
/* Whether `count` sequences of `rows` tokens, all but the first with a shared prefix of `prefix` tokens, could ever
 * run together. Always true without a limit. */
bool kv_cache_can_hold(const kv_cache *c, int count, int64_t rows, int64_t prefix);

typedef struct kv_cache_usage {
    int64_t pages, used_pages; /* of all groups; used by running sequences, */
    int64_t shared_pages;      /* of these, by two or more; */
    int64_t snapshot_pages;    /* used by snapshots only */
    int64_t used_bytes;
    int64_t plain_bytes; /* with plain attention: all tokens of each sequence in every layer */
} kv_cache_usage;

kv_cache_usage kv_cache_used(const kv_cache *c);
int64_t kv_cache_used_by_slot(const kv_cache *c, int slot); /* part of used_bytes */
int64_t kv_cache_position(const kv_cache *c, int id);       /* tokens so far, which is also the next token's absolute
                                                             * position */
bool kv_cache_has_sinks(const kv_cache *c);                 /* whether it is a sink cache */
dtype kv_cache_type(const kv_cache *c);                     /* of its pages */
size_t kv_cache_bytes(const kv_cache *c);                   /* device memory held */
int64_t kv_cache_generation(const kv_cache *c);             /* changes whenever pages are moved */

/* Commits the rows of the last batch_fill(), after the forward pass. After an error, call kv_cache_rollback()
 * instead. */
void kv_cache_commit(kv_cache *c);
void kv_cache_rollback(kv_cache *c);

/* Removes the newest rows of a sequence until `position` remain; not with windows or sinks (LCKV_ERROR_UNSUPPORTED). */
int kv_cache_truncate(kv_cache *c, int id, int64_t position);

/* For a sink cache whose sequence holds exactly its sinks: advances the next token's position by `tokens`, as if
 * that many tokens had passed. Tests reach large positions with it. */
int kv_cache_skip(kv_cache *c, int id, int64_t tokens);

/* ---------------------------------------------------------------- for the ranks (ranks/rank_group.h) */

kv_cache_options kv_cache_options_of(const kv_cache *c);
int32_t kv_cache_group_pages(const kv_cache *c, int group);
int kv_cache_id(const kv_cache *c); /* number of the cache on the other ranks; 0: they do not have it */
/* Only in a cache of kv_cache_create_pages(). */
int kv_cache_grow_group(kv_cache *c, int group, int32_t pages);
int kv_cache_copy_page(kv_cache *c, int group, int32_t from, int32_t to);

/* ---------------------------------------------------------------- for batch.c and the decoder */

int kv_cache_groups(const kv_cache *c);
int kv_cache_group_of_slot(const kv_cache *c, int slot);

/* Takes pages for `rows` new tokens of a sequence, which are pending until commit or rollback. LCKV_ERROR_ARGUMENT
 * if the sequence has pending rows, or if the list of a sink cache would exceed its window by more than one row. */
int kv_cache_prepare(kv_cache *c, int id, int32_t rows);

/* Pages of the longest table that kv_cache_place() writes. */
int32_t kv_cache_table_pages(const kv_cache *c);

/* The past of a prepared sequence (past, sinks and skip of *s, and its page table), and the rows for its pending
 * tokens (destination[pending rows]). */
void kv_cache_place(const kv_cache *c, int group, int id, attention_sequence *s, int32_t *table, int64_t *destination);

/* The keys of one slot and the values of another of the same group, with no table. */
struct kv_pages kv_cache_pages(const kv_cache *c, int k_slot, int v_slot);

#endif
