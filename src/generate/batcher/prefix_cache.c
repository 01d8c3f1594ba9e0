/* Prefix cache, see prefix_cache.h: a tree of chunks in a table, with a hash table for children and an LRU list. */
#include "generate/batcher/prefix_cache.h"

#include "base/work.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

/* Nodes are indices into `nodes`. Nodes in use form the LRU list, the most recently used first, in which a parent
 * precedes its children. Free nodes form a list by `older`. */
typedef struct prefix_node {
    int32_t *ids; /* [chunk_tokens] of this chunk; NULL: the node is free */
    lckv_encoding encoding;
    int parent, children; /* parent NONE: first chunk of a prompt; children: number of them */
    int cached;           /* sequence of the KV cache */
    int newer, older;     /* neighbours in the LRU list */
    int same_slot;        /* next node in the same slot of the hash table */
    size_t slot;
    uint64_t serial; /* unique; detects positions of an evicted node */
} prefix_node;

struct prefix_cache {
    kv_cache *cache;
    int64_t chunk_tokens;
    prefix_node *nodes; /* [max_nodes] */
    int *slots;         /* [slot_count] first node by hash of parent, encoding and ids; slot_count is a power of two */
    size_t slot_count;
    int max_nodes, free;
    int newest, oldest;
    uint64_t serial;
};

/* ---------------------------------------------------------------- LRU list */

static void unlink_node(prefix_cache *p, int at) {
    const prefix_node *n = &p->nodes[at];
    *(n->newer == NONE ? &p->newest : &p->nodes[n->newer].older) = n->older;
    *(n->older == NONE ? &p->oldest : &p->nodes[n->older].newer) = n->newer;
}

/* Inserts a node after `newer`; NONE: at the front, as the most recently used. */
static void link_after(prefix_cache *p, int at, int newer) {
    prefix_node *n = &p->nodes[at];
    int *place = newer == NONE ? &p->newest : &p->nodes[newer].older;
    n->newer = newer;
    n->older = *place;
    *(n->older == NONE ? &p->oldest : &p->nodes[n->older].newer) = at;
    *place = at;
}

static void move_after(prefix_cache *p, int at, int newer) {
    unlink_node(p, at);
    link_after(p, at, newer);
}

/* ---------------------------------------------------------------- hash table */

/* FNV-1a over 32-bit words. */
static size_t slot_of(const prefix_cache *p, int parent, const int32_t *ids, lckv_encoding encoding) {
    uint64_t hash = 0xCBF29CE484222325u ^ (uint32_t)(parent + 1);
    hash = (hash * 0x100000001B3u) ^ (uint32_t)encoding;
    for (int64_t i = 0; i < p->chunk_tokens; i++) hash = (hash * 0x100000001B3u) ^ (uint32_t)ids[i];
    work_count((size_t)p->chunk_tokens);
    return (size_t)((hash ^ hash >> 32) * 0x9E3779B97F4A7C15u >> 20) & (p->slot_count - 1);
}

/* The child of `parent` with these ids; NONE if there is none. */
static int child(const prefix_cache *p, int parent, const int32_t *ids, lckv_encoding encoding) {
    int at = p->slots[slot_of(p, parent, ids, encoding)];
    for (; at != NONE; at = p->nodes[at].same_slot) {
        const prefix_node *n = &p->nodes[at];
        work_count(1);
        if (n->parent == parent && n->encoding == encoding &&
            !memcmp(n->ids, ids, (size_t)p->chunk_tokens * sizeof *ids))
            break;
    }
    return at;
}

static void leave_slot(prefix_cache *p, int at) {
    int *place = &p->slots[p->nodes[at].slot];
    while (*place != at) {
        place = &p->nodes[*place].same_slot;
        work_count(1);
    }
    *place = p->nodes[at].same_slot;
}

/* ---------------------------------------------------------------- nodes */

static void evict(prefix_cache *p, int at) {
    prefix_node *n = &p->nodes[at];
    if (n->parent != NONE) p->nodes[n->parent].children--;
    leave_slot(p, at);
    unlink_node(p, at);
    kv_cache_remove(p->cache, n->cached);
    free(n->ids);
    *n = (prefix_node){.older = p->free};
    p->free = at;
}

/* Callback of the KV cache: frees pages. The oldest node has no children, because they would come after it in the list,
 * except while add() protects it. */
static bool evict_oldest(void *user) {
    prefix_cache *p = user;
    if (p->oldest == NONE || p->nodes[p->oldest].children) return false;
    evict(p, p->oldest);
    return true;
}

int prefix_cache_create(kv_cache *cache, int64_t chunk_tokens, int max_nodes, prefix_cache **out) {
    prefix_cache *p = *out = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for a prefix cache");
    *p = (prefix_cache){
        .cache = cache, .chunk_tokens = chunk_tokens, .max_nodes = max_nodes, .free = NONE, .newest = NONE};
    p->oldest = NONE;
    p->slot_count = 16;
    while (p->slot_count < 2 * (size_t)max_nodes) p->slot_count *= 2;
    p->nodes = calloc((size_t)max_nodes, sizeof *p->nodes);
    p->slots = malloc(p->slot_count * sizeof *p->slots);
    if (!p->nodes || !p->slots) {
        prefix_cache_free(p);
        *out = NULL;
        return fail(LCKV_ERROR_MEMORY, "no memory for a prefix cache of %d chunks", max_nodes);
    }
    for (size_t i = 0; i < p->slot_count; i++) p->slots[i] = NONE;
    for (int i = max_nodes - 1; i >= 0; i--) {
        p->nodes[i].older = p->free;
        p->free = i;
    }
    kv_cache_set_evict(cache, evict_oldest, p);
    return LCKV_OK;
}

void prefix_cache_free(prefix_cache *p) {
    if (!p) return;
    while (p->nodes && p->slots && evict_oldest(p)) continue;
    kv_cache_set_evict(p->cache, NULL, NULL);
    free(p->nodes);
    free(p->slots);
    free(p);
}

static prefix_position position_of(const prefix_cache *p, int at, int64_t end) {
    return at == NONE ? (prefix_position){0} : (prefix_position){at, p->nodes[at].serial, end};
}

/* The node of a position, and its end; NONE and 0 if it was evicted or the position is empty. */
static int node_of(const prefix_cache *p, const prefix_position *position, int64_t *end) {
    bool valid = position->serial && p->nodes[position->node].serial == position->serial;
    *end = valid ? position->end : 0;
    return valid ? position->node : NONE;
}

int64_t prefix_cache_find(prefix_cache *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int *cached,
                          prefix_position *position) {
    int64_t found = 0;
    int at = NONE, next;
    *cached = -1;
    for (; found + p->chunk_tokens < count; found += p->chunk_tokens) {
        next = child(p, at, ids + found, encoding);
        if (next == NONE) break;
        move_after(p, next, at);
        at = next;
        *cached = p->nodes[at].cached;
    }
    *position = position_of(p, at, found);
    return found;
}

/* *at: the new node; NONE if there is no room. */
static int add(prefix_cache *p, int parent, const int32_t *ids, int64_t end, lckv_encoding encoding, int id, int *at) {
    size_t bytes = (size_t)p->chunk_tokens * sizeof *ids;
    const int32_t *chunk = ids + end - p->chunk_tokens;
    if (parent != NONE) p->nodes[parent].children++; /* protects the parent from eviction */
    if (p->free == NONE) evict_oldest(p);
    if (parent != NONE) p->nodes[parent].children--;
    *at = p->free;
    if (*at == NONE) return LCKV_OK;
    prefix_node n = {.ids = malloc(bytes), .encoding = encoding, .parent = parent, .serial = ++p->serial};
    REQUIRE(n.ids, LCKV_ERROR_MEMORY, "no memory for a chunk of the prefix cache");
    memcpy(n.ids, chunk, bytes);
    int status = kv_cache_snapshot(p->cache, id, end, &n.cached);
    if (status < 0) {
        free(n.ids);
        return status;
    }
    n.slot = slot_of(p, parent, chunk, encoding);
    n.same_slot = p->slots[n.slot];
    p->slots[n.slot] = *at;
    p->free = p->nodes[*at].older;
    p->nodes[*at] = n;
    link_after(p, *at, parent);
    if (parent != NONE) p->nodes[parent].children++;
    return LCKV_OK;
}

int prefix_cache_insert(prefix_cache *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int id,
                        prefix_position *position) {
    int64_t end;
    int at = node_of(p, position, &end), next;
    for (end += p->chunk_tokens; end <= count; end += p->chunk_tokens) {
        next = child(p, at, ids + end - p->chunk_tokens, encoding);
        bool can_cut = end == kv_cache_position(p->cache, id) || kv_cache_can_truncate(p->cache);
        if (next == NONE && can_cut) TRY(add(p, at, ids, end, encoding, id, &next));
        if (next == NONE) break;
        move_after(p, next, at);
        at = next;
        *position = position_of(p, at, end);
    }
    return LCKV_OK;
}

void prefix_cache_touch(prefix_cache *p, const prefix_position *position) {
    int64_t end;
    for (int at = node_of(p, position, &end); at != NONE; at = p->nodes[at].parent) {
        move_after(p, at, NONE);
        work_count(1);
    }
}
