/* What rank 0 sends to the other ranks; for rank_group.c and rank_follow.c. All ranks run the same program. */
#ifndef MODEL_RANKS_RANK_MESSAGE_H
#define MODEL_RANKS_RANK_MESSAGE_H

#include "model/batch.h"
#include "model/ranks/rank_group.h"

typedef enum rank_message_kind {
    RANK_END,        /* rank 0 frees the group */
    RANK_PASS,       /* payload: rank_pass_header, the steps of the plan, the packed batch */
    RANK_CACHE_NEW,  /* payload: rank_cache_header */
    RANK_CACHE_GROW, /* numbers: group, pages */
    RANK_CACHE_COPY, /* numbers: group, page to copy, page to write */
    RANK_CACHE_FREE, /* no numbers */
    RANK_BATCH_FREE, /* no numbers */
    RANK_AVAILABLE,  /* rank 0 gathers the free memory of each rank */
} rank_message_kind;

/* A small payload is sent with the message, the others after it. */
enum { RANK_MESSAGE_BYTES = 4096, RANK_PAYLOAD_BYTES = RANK_MESSAGE_BYTES - 32 };

typedef struct rank_message {
    int32_t kind, id; /* of the cache or the batch */
    int32_t numbers[4];
    int64_t bytes; /* of the payload */
    char payload[RANK_PAYLOAD_BYTES];
} rank_message;

_Static_assert(sizeof(rank_message) == RANK_MESSAGE_BYTES, "a message has no padding");

typedef struct rank_pass_header {
    int32_t batch, cache; /* ids; cache 0: none */
    int32_t compute, set, replay, action;
    int32_t previous_rows, plan_steps;
    bool invariant_rows;
    bool moves; /* memory may move: all ranks add up their pools' generations after the pass */
} rank_pass_header;

typedef struct rank_cache_header {
    kv_cache_options options;
    int32_t pages[KV_MAX_GROUPS];
} rank_cache_header;

struct rank_group {
    const collectives *host;   /* the caller's */
    collectives *own;          /* on the memory of a GPU; NULL: host serves */
    const collectives *device; /* own or host: for views */
    device *d;
    int last_id;          /* of a cache or batch, on rank 0 */
    int64_t generation;   /* on rank 0: sum of the pools' generations on the other ranks */
    rank_message message; /* the last one */
    char *payload;        /* of a message, if it is not in the message: [capacity] */
    size_t capacity;
};

/* Makes room for a payload, and returns where it is; NULL: no memory. */
char *rank_payload(rank_group *g, size_t bytes);
int rank_sum_generations(rank_group *g, int64_t mine);
int rank_gather_available(rank_group *g, size_t *least);

#endif
