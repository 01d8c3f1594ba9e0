/* The pages of the KV slots that share one policy, and each sequence's page table in them.
 *
 * A page may be in several tables; one that is, and would be written to, is copied first. Tables beyond those of
 * sequences that run are "kept": their pages count as free where somebody asks what could be had.
 *
 * A sequence's list of kept rows is `sinks` rows from its start and then the most recent ones, at most `keep`. The
 * policy is these two numbers: full (0, no limit), window (0, W - 1), sinks (s, window_length - s). Between
 * kv_group_prepare() and the commit a table has a successor; both may share pages.
 */
#ifndef MODEL_KV_GROUP_H
#define MODEL_KV_GROUP_H

#include "device/device.h"

/* The kept rows of one sequence: sink pages, then the pages of the recent rows, the first `skip` rows of which are
 * gone. */
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
    int64_t keep;                     /* most recent rows kept, besides the sinks */
    int slots;                        /* of the model that are in this group */
    const int64_t *k_width, *v_width; /* [slots] columns of a row of keys and of values, the caller's; 0: not stored */
    view *k, *v;                      /* [slots]: [capacity * page_rows, k_width or v_width], all in `memory` */
    void *memory;
    int32_t capacity, max_capacity; /* pages */
    int64_t moves;                  /* times that the pages got another place */
    int32_t *free;                  /* stack of free pages */
    int32_t free_count;
    int32_t *uses;     /* [capacity] tables that a page is in, */
    int32_t *runs;     /* those of them that are not kept */
    int32_t idle;      /* pages that are in kept tables alone */
    kv_table *tables;  /* [sequences + kept]: the kept ones last */
    kv_table *next;    /* [sequences] */
    int64_t *reserved; /* [sequences] pages that a sequence may come to hold; 0: nothing was set aside */
    int64_t *lent;     /* [sequences] of which so many will be another's */
    int sequences, kept;
    bool (*drop_kept)(void *user); /* lets go of a kept table; false: there is none. NULL: nobody can */
    void *user;
} kv_group;

/* pages: to begin with; max_pages: no growth beyond. All fields of `shape` above `slots` are the caller's choice. */
int kv_group_create(const kv_group *shape, int sequences, int kept, int32_t pages, int32_t max_pages, kv_group *out);
void kv_group_free(kv_group *g);
size_t kv_group_bytes(const kv_group *g);
size_t kv_group_page_bytes(const kv_group *g);
size_t kv_group_slot_page_bytes(const kv_group *g, int slot); /* the share of the group's slot number `slot` */

/* Pages that a sequence of `rows` tokens holds. Reads the shape alone. */
int64_t kv_group_held_pages(const kv_group *g, int64_t rows);
/* Pages that a sequence of `rows` tokens holds at most at any time, its successor's included. Reads the shape alone. */
int64_t kv_group_most_pages(const kv_group *g, int64_t rows);
/* Pages that are neither held by a sequence nor promised to one, growth and kept ones included. */
int64_t kv_group_unpromised(const kv_group *g);
/* Pages that are in the tables of two or more sequences. */
int64_t kv_group_shared(const kv_group *g);

/* Makes the successor of a table with `rows` more rows; on failure (no pages) nothing has changed. */
int kv_group_prepare(kv_group *g, int id, int32_t rows);
/* Where each of the successor's new rows goes: a row of k and v, -1 for none. */
void kv_group_destinations(const kv_group *g, int id, int32_t rows, int64_t *destination);
void kv_group_commit(kv_group *g, int id);
void kv_group_rollback(kv_group *g, int id);
/* An empty table becomes a copy of another, with the same pages. */
int kv_group_copy(kv_group *g, int from, int to);
/* Leaves the first `rows` of the list; for groups that keep everything. */
void kv_group_truncate(kv_group *g, int id, int32_t rows);

#endif
