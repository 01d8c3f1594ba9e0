/* Prefix cache: reuses the KV pages of prompts that start with the same tokens.
 *
 * The cache is a tree. A node is one prefill chunk (prefill.h) and owns a sequence of the KV cache that ends with the
 * chunk. Exact nodes were read token by token, and so were all before them. In models with loops the KV of the other
 * nodes, the planned ones, depends on where the prompt was split, so only whole chunks of them are shared.
 *
 * A prompt that is read token by token shares exact nodes only, up to any token; the end of such a prompt is a leaf
 * that may be shorter than a chunk. A prompt that is read by the plan shares whole chunks of both kinds. Decoded tokens
 * are never shared. If pages run out, the least recently used leaf is evicted. */
#ifndef GENERATE_PREFIX_CACHE_H
#define GENERATE_PREFIX_CACHE_H

#include "model/kv_cache.h"

typedef struct prefix_cache prefix_cache;

/* The last cached chunk of a prompt. It lets the next chunk be inserted without a walk from the root. If the chunk is
 * evicted, the position is detected as stale. All zeros: no chunk. */
typedef struct prefix_position {
    int node;
    uint64_t serial;
    int64_t end; /* tokens up to the end of the chunk */
} prefix_position;

/* `max_nodes`: number of chunks; the KV cache must be able to keep that many sequences. `cache` must outlive it. */
int prefix_cache_create(kv_cache *cache, int64_t chunk_tokens, int max_nodes, prefix_cache **out);
void prefix_cache_free(prefix_cache *p); /* releases all cached sequences; accepts NULL */

/* Nodes that a prompt can use. */
typedef enum prefix_reader {
    PREFIX_EXACT,   /* exact ones */
    PREFIX_PLANNED, /* planned ones */
    PREFIX_ANY      /* exact ones, then planned ones */
} prefix_reader;

/* Finds the longest cached prefix of ids that has fewer than `count` tokens, and returns its length. *cached: a
 * sequence that begins with it, and may be longer than it for PREFIX_EXACT; -1 if the length is 0. *position: its last
 * whole chunk. */
int64_t prefix_cache_find(prefix_cache *p, const int32_t *ids, int64_t count, prefix_reader reader, int *cached,
                          prefix_position *position);

/* Inserts the whole chunks among the first `count` ids, whose KV sequence `id` of the KV cache holds. Starts after
 * *position and advances it. `exact`: they were read token by token. If there is no room for a chunk, stops; that is
 * not an error. */
int prefix_cache_insert(prefix_cache *p, const int32_t *ids, int64_t count, bool exact, int id,
                        prefix_position *position);

/* The same for a whole prompt that was read token by token: also inserts what follows its last whole chunk. */
int prefix_cache_insert_exact(prefix_cache *p, const int32_t *ids, int64_t count, int id, prefix_position *position);

/* Marks all chunks up to the position as most recently used. */
void prefix_cache_touch(prefix_cache *p, const prefix_position *position);

#endif
