/* Prefix cache: reuses the KV pages of prompts that start with the same tokens.
 *
 * The cache is a tree. A node is a part of a prompt and owns a sequence of the KV cache that ends with it. Exact nodes
 * were read token by token, and so were all before them; each has as many tokens as the smallest chunk. In models with
 * loops the KV of the other nodes, the planned ones, depends on where the prompt was split (chunks.h). They are whole
 * chunks, and are shared with prompts that are split at the same places.
 *
 * A prompt that is read token by token shares exact nodes only, up to any token; the end of such a prompt is a leaf
 * that may be shorter. A prompt that is read by the plan shares whole nodes of both kinds. Decoded tokens are never
 * shared. If pages run out, the least recently used leaf is evicted. */
#ifndef GENERATE_PREFIX_CACHE_H
#define GENERATE_PREFIX_CACHE_H

#include "generate/chunks.h"
#include "model/cache/kv_cache.h"

typedef struct prefix_cache prefix_cache;

/* The last cached node of a prompt. It lets the next one be inserted without a walk from the root. If the node is
 * evicted, the position is detected as stale. All zeros: no node. */
typedef struct prefix_position {
    int node;
    uint64_t serial;
    int64_t end; /* tokens up to the end of the node */
} prefix_position;

/* The KV cache must be able to keep `max_nodes` snapshots. `cache` must outlive the prefix cache. */
int prefix_cache_create(kv_cache *cache, const chunk_rules *rules, int max_nodes, prefix_cache **out);
void prefix_cache_free(prefix_cache *p); /* releases all cached sequences; accepts NULL */

/* Nodes that a prompt can use. */
typedef enum prefix_reader {
    PREFIX_EXACT,   /* exact ones */
    PREFIX_PLANNED, /* planned ones */
    PREFIX_ANY      /* exact ones, then planned ones */
} prefix_reader;

/* The ids of a prompt, of which the first `count` are cached, or can be. */
typedef struct prefix_prompt {
    const int32_t *ids;
    int64_t count;
    int64_t total; /* tokens of the prompt, which determine its chunks */
} prefix_prompt;

/* Finds the longest cached prefix that has fewer than prompt.count tokens, and returns its length. *cached: a sequence
 * that begins with it, and may be longer than it for PREFIX_EXACT; -1 if the length is 0. *position: its last whole
 * node. */
int64_t prefix_cache_find(prefix_cache *p, prefix_prompt prompt, prefix_reader reader, int *cached,
                          prefix_position *position);

/* Inserts the nodes among the first prompt.count ids, whose KV sequence `id` of the KV cache holds. Starts after
 * *position and advances it. `exact`: they were read token by token. If there is no room for a node, stops; that is not
 * an error. */
int prefix_cache_insert(prefix_cache *p, prefix_prompt prompt, bool exact, int id, prefix_position *position);

/* The same for a whole prompt that was read token by token: also inserts what follows its last whole node. */
int prefix_cache_insert_exact(prefix_cache *p, prefix_prompt prompt, int id, prefix_position *position);

/* Marks all nodes up to the position as most recently used. */
void prefix_cache_touch(prefix_cache *p, const prefix_position *position);

#endif
