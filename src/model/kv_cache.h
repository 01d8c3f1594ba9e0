/* The KV cache: pages of committed rows for every slot, indexed by slot and never by layer.
 *
 * A page holds `page_rows` tokens of every slot of a group; a group is the slots with the same policy, which share page
 * tables: "full" keeps everything, "window" (a slot all of whose readers have sliding windows) lets go of pages that
 * lie behind, "sinks" (StreamingLLM, Xiao et al. 2024: all slots) keeps the first rows and the most recent ones. Keys
 * are stored rotated at their absolute position and never touched again.
 *
 * The plan reads pages and only its committing run appends. A sequence may begin as a copy of another, with its pages;
 * one that does not run ("kept") lends its pages to those that come. Leaves out: scheduling, sampling, and which
 * prefixes are worth keeping (generate/prefixes.h).
 */
#ifndef MODEL_KV_CACHE_H
#define MODEL_KV_CACHE_H

#include "model/model.h"

typedef struct kv_cache_options {
    int sequences;    /* most sequences at a time; default 1 */
    int kept;         /* most kept ones; default 0 */
    int64_t rows;     /* tokens of room to begin with, all sequences together; the cache grows when they are used up */
    int64_t max_rows; /* no growth beyond this; 0: until memory ends */
    size_t max_bytes; /* > 0: so much is taken at once, and there is no growth; rows and max_rows are not read then */
    dtype type;       /* of stored keys and values: the compute type */
    int page_rows;    /* default 16 */
    int64_t window_length; /* > 0: the sink cache of that window */
    int64_t sinks;         /* tokens it keeps from the start, < window_length */
} kv_cache_options;

typedef struct kv_cache kv_cache;

enum { KV_MAX_GROUPS = 2 };

kv_cache_options kv_cache_defaults(void);
int kv_cache_create(const model *m, const kv_cache_options *options, kv_cache **out);
/* Bytes of `sequences` sequences that share nothing, of `rows` tokens each. Every forecast comes from here, and the
 * usage of a cache that holds such sequences equals it. */
typedef struct kv_cache_need {
    double held;     /* by their pages: used_bytes of kv_cache_used() */
    double reserved; /* a cache of so many bytes has room for them, however they are read: max_bytes */
    double plain;    /* plain_bytes of kv_cache_used() */
} kv_cache_need;

/* Of the options it reads type, page_rows, window_length and sinks. */
int kv_cache_bytes_for(const model *m, const kv_cache_options *options, int64_t sequences, int64_t rows,
                       kv_cache_need *out);
void kv_cache_free(kv_cache *c);

int kv_cache_add(kv_cache *c, int *id);    /* an empty sequence; LCKV_ERROR_MEMORY when all are taken */
void kv_cache_remove(kv_cache *c, int id); /* its pages come back */

/* An empty sequence becomes what another is now; pages are copied when one of both writes to them. */
int kv_cache_copy(kv_cache *c, int from, int to);
/* The first `position` tokens of a sequence (all of them, where the cache cannot go back) as a kept one, which cannot
 * run; LCKV_ERROR_MEMORY when all kept ones are taken. */
int kv_cache_keep(kv_cache *c, int from, int64_t position, int *id);
/* Whoever keeps sequences lets go of one when pages are wanted; returns false where there is none. */
void kv_cache_set_drop(kv_cache *c, bool (*drop_kept)(void *user), void *user);
bool kv_cache_goes_back(const kv_cache *c); /* kv_cache_truncate() works */

/* Pages set aside: a sequence that has reserved so many tokens never fails for want of pages. The first `lent` tokens
 * (0: none) will be those of another that has reserved, and take no pages of their own. */
bool kv_cache_reserve(kv_cache *c, int id, int64_t rows, int64_t lent); /* false: not now, nothing has changed */
/* Whether `count` sequences of `rows` tokens, all but the first with `lent` of them, could ever run together. Without a
 * limit to growth always. */
bool kv_cache_can_hold(const kv_cache *c, int count, int64_t rows, int64_t lent);

typedef struct kv_cache_usage {
    int64_t pages, used_pages; /* of all groups together; used by sequences that run, */
    int64_t shared_pages;      /* of these, by two or more; */
    int64_t kept_pages;        /* by kept ones alone */
    int64_t used_bytes;
    int64_t plain_bytes; /* that plain attention would use: the same tokens, all of them, once a sequence and layer */
} kv_cache_usage;

kv_cache_usage kv_cache_used(const kv_cache *c);
int64_t kv_cache_used_by_slot(const kv_cache *c, int slot); /* bytes, of used_bytes */
int64_t kv_cache_position(const kv_cache *c, int id);       /* tokens seen so far: the next one's absolute position */
bool kv_cache_streams(const kv_cache *c);                   /* it is a sink cache */
size_t kv_cache_bytes(const kv_cache *c);                   /* device memory held */
int64_t kv_cache_moves(const kv_cache *c);                  /* changes whenever pages got another place */

/* The rows of the last batch_fill() are now cached. After the forward pass, or its error: then kv_cache_rollback(). */
void kv_cache_commit(kv_cache *c);
void kv_cache_rollback(kv_cache *c);

/* Frees the newest rows of a sequence until `position` are left; not with windows or sinks (LCKV_ERROR_UNSUPPORTED). */
int kv_cache_truncate(kv_cache *c, int id, int64_t position);

/* A sink cache whose sequence holds its sinks and no more: the next token stands `tokens` further on, as if so many had
 * come and gone, which is how a stream gets to any position at once. */
int kv_cache_skip(kv_cache *c, int id, int64_t tokens);

/* ---------------------------------------------------------------- for batch.c and the decoder */

int kv_cache_groups(const kv_cache *c);
int kv_cache_group_of_slot(const kv_cache *c, int slot);

/* Takes pages for `rows` new tokens of a sequence; they are its pending rows until commit or rollback. A sequence that
 * has pending rows, or a sink cache whose list would pass its window by more than one row, is LCKV_ERROR_ARGUMENT. */
int kv_cache_prepare(kv_cache *c, int id, int32_t rows);

/* Pages of the longest table that kv_cache_place() will write. */
int32_t kv_cache_table_pages(const kv_cache *c);

/* Where a prepared sequence's past lies, and where its pending rows go: past, sinks and skip of *s, its page table, and
 * destination[pending rows]. */
void kv_cache_place(const kv_cache *c, int group, int id, attention_sequence *s, int32_t *table, int64_t *destination);

/* The keys of one slot and the values of another of the same group, with no table. */
struct kv_pages kv_cache_pages(const kv_cache *c, int k_slot, int v_slot);

#endif
