/* Prefixes of prompts whose keys and values are kept for those that begin in the same way.
 *
 * A tree: a node is one piece of a prompt (encoding.h) behind the pieces of its parent, and holds a kept sequence of
 * the KV cache that ends with it. In models with loops the rows of a piece depend on how the prompt was cut and
 * encoded; so prompts share whole pieces alone, and only those that are encoded in the same way. What was decoded is
 * never shared. When pages are wanted, the least recently used node without children goes. */
#ifndef GENERATE_PREFIXES_H
#define GENERATE_PREFIXES_H

#include "model/kv_cache.h"

typedef struct prefixes prefixes;

/* The last piece of a prompt that is kept, so that the next ones are put behind it without a walk through all before
 * it. It stays valid, and means nothing any more, when the piece is dropped. All zeros: none. */
typedef struct prefix_mark {
    int node;
    uint64_t serial;
    int64_t end; /* tokens up to the piece's end */
} prefix_mark;

/* `most` nodes, which the cache must be able to keep. The cache outlives them. */
int prefixes_create(kv_cache *cache, int64_t piece_tokens, int most, prefixes **out);
void prefixes_free(prefixes *p); /* lets go of all of them; NULL is fine */

/* The longest kept prefix of ids, of less than `count` tokens: *kept is its sequence, -1 with 0 tokens;
 * *mark its last piece. */
int64_t prefixes_find(prefixes *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int *kept,
                      prefix_mark *mark);

/* Keeps the whole pieces among the first `count` ids, which are what sequence `id` of the cache holds at least. Those
 * that there is no room for are not kept, which is no error. Begins behind *mark and moves it. */
int prefixes_keep(prefixes *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int id, prefix_mark *mark);

/* All pieces up to the mark have been used now. */
void prefixes_touch(prefixes *p, const prefix_mark *mark);

#endif
