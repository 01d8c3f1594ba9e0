/* The pages of the KV slots that share one policy, and the page table of each sequence.
 *
 * A page may be in several tables; it is copied before one of them writes to it. Tables of snapshots
 * (kv_cache.h) come after those of running ones; pages that only they use count as available.
 *
 * The list of a sequence consists of its first `sinks` rows and its most recent rows, at most `keep`. These two
 * numbers are the policy: full (0, no limit), window (0, W - 1), sinks (s, window_length - s). Between
 * kv_group_prepare() and the commit a table has a successor; they may share pages. */
#ifndef MODEL_KV_GROUP_H
#define MODEL_KV_GROUP_H

#include "device/device.h"

/* The rows of one sequence: sink pages, then the pages of the recent rows, whose first `skip` rows were dropped. */
typedef struct kv_table {
    int32_t *pages;
    int32_t count, capacity;
    int32_t past; /* rows in the list */
    int32_t skip;
} kv_table;

typedef struct kv_group {
    device *device;
    dtype type;
    int32_t page_rows, sinks;
    int64_t keep;                     /* maximum number of recent rows, without the sinks */
    int slots;                        /* number of slots in this group */
    const int64_t *k_width, *v_width; /* [slots] columns of a row of keys and of values, owned by the caller; 0: not
                                       * stored */
    const int64_t *head_dim;          /* [slots] columns of a KV head, owned by the caller */
    view *k, *v;                      /* [slots]: [capacity * page_rows, k_width or v_width], all in `memory` */
    void *memory;
    int32_t capacity, max_capacity; /* pages */
    int64_t moves;                  /* changes whenever pages are moved */
    int32_t *free;                  /* stack of free pages */
    int32_t free_count;
    int32_t *uses;         /* [capacity] number of tables that contain a page, */
    int32_t *active;       /* and those that are not snapshots */
    int32_t snapshot_only; /* pages that only snapshots use */
    kv_table *tables;      /* [sequences + snapshots]; snapshots last */
    kv_table *next;        /* [sequences] */
    int64_t *reserved;     /* [sequences] pages that a sequence may need; 0: not reserved */
    int64_t *prefix;       /* [sequences] of these, pages of a shared prefix */
    int sequences, snapshots;
    struct rank_group *ranks;  /* ranks that have the same pages of the cache (ranks/rank_group.h); NULL: none */
    int cache_id, index;       /* of the cache on these ranks, and of the group in it */
    bool (*evict)(void *user); /* removes a snapshot; false: there is none. NULL: not possible */
    void *user;
} kv_group;

/* `pages`: initial number; `max_pages`: limit. The caller sets the fields of `shape` up to and including `slots` and
 * the widths. */
int kv_group_create(const kv_group *shape, int sequences, int snapshots, int32_t pages, int32_t max_pages,
                    kv_group *out);
void kv_group_free(kv_group *g);
/* Adds pages up to `pages`, and keeps the contents of the old ones. */
int kv_group_grow(kv_group *g, int32_t pages);
/* Copies the contents of a page. */
int kv_group_copy_page(kv_group *g, int32_t from, int32_t to);
size_t kv_group_bytes(const kv_group *g);
size_t kv_group_page_bytes(const kv_group *g);
size_t kv_group_slot_page_bytes(const kv_group *g, int slot); /* the part of one slot, an index in the group */

/* Pages of a sequence of `rows` tokens. Reads the shape only. */
int64_t kv_group_held_pages(const kv_group *g, int64_t rows);
/* Maximum number of pages of a sequence of `rows` tokens at any time, including its successor's. Reads the shape
 * only. */
int64_t kv_group_max_pages(const kv_group *g, int64_t rows);
/* Pages that are neither in use nor reserved, including those of growth and of snapshots. */
int64_t kv_group_available(const kv_group *g);
/* Pages in the tables of two or more running sequences. */
int64_t kv_group_shared(const kv_group *g);

/* Makes the successor of a table with `rows` more rows. If there are no pages, nothing has changed. */
int kv_group_prepare(kv_group *g, int id, int32_t rows);
/* The row of k and v for each of the successor's new rows; -1: none. */
void kv_group_destinations(const kv_group *g, int id, int32_t rows, int64_t *destination);
void kv_group_commit(kv_group *g, int id);
void kv_group_rollback(kv_group *g, int id);
/* Makes an empty table a copy of another one, with the same pages. */
int kv_group_copy(kv_group *g, int from, int to);
/* Removes rows after the first `rows`; for groups that keep all rows. */
void kv_group_truncate(kv_group *g, int id, int32_t rows);

#endif
