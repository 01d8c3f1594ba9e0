#include "generate/prefixes.h"

#include "base/work.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

/* Nodes are numbers. All that are in use form one list, the most recently used first, in which a node stands before its
 * children; a free one's `older` is the next free one. */
typedef struct prefix {
    int32_t *ids; /* [piece_tokens] of this piece; NULL: the place is free */
    lckv_encoding encoding;
    int parent, children; /* parent NONE: the piece begins its prompt */
    int kept;             /* sequence of the cache */
    int newer, older;     /* in the list */
    int same_slot;        /* the next node in this slot of the hash table */
    size_t slot;
    uint64_t serial; /* tells it from nodes that had the place before */
} prefix;

struct prefixes {
    kv_cache *cache;
    int64_t piece_tokens;
    prefix *nodes; /* [most] */
    int *slots;    /* [slot_count] first node by hash of parent, encoding and ids; slot_count is a power of two */
    size_t slot_count;
    int most, free;
    int newest, oldest;
    uint64_t serial;
};

/* ---------------------------------------------------------------- the list */

static void unlink_node(prefixes *p, int at) {
    const prefix *n = &p->nodes[at];
    *(n->newer == NONE ? &p->newest : &p->nodes[n->newer].older) = n->older;
    *(n->older == NONE ? &p->oldest : &p->nodes[n->older].newer) = n->newer;
}

/* `newer` NONE: becomes the most recently used. */
static void link_behind(prefixes *p, int at, int newer) {
    prefix *n = &p->nodes[at];
    int *place = newer == NONE ? &p->newest : &p->nodes[newer].older;
    n->newer = newer;
    n->older = *place;
    *(n->older == NONE ? &p->oldest : &p->nodes[n->older].newer) = at;
    *place = at;
}

static void move_behind(prefixes *p, int at, int newer) {
    unlink_node(p, at);
    link_behind(p, at, newer);
}

/* ---------------------------------------------------------------- the hash table */

/* FNV-1a over 32-bit words. */
static size_t slot_of(const prefixes *p, int parent, const int32_t *ids, lckv_encoding encoding) {
    uint64_t hash = 0xCBF29CE484222325u ^ (uint32_t)(parent + 1);
    hash = (hash * 0x100000001B3u) ^ (uint32_t)encoding;
    for (int64_t i = 0; i < p->piece_tokens; i++) hash = (hash * 0x100000001B3u) ^ (uint32_t)ids[i];
    work_count((size_t)p->piece_tokens);
    return (size_t)((hash ^ hash >> 32) * 0x9E3779B97F4A7C15u >> 20) & (p->slot_count - 1);
}

/* The child of `parent` with these ids, NONE where there is none. */
static int child(const prefixes *p, int parent, const int32_t *ids, lckv_encoding encoding) {
    int at = p->slots[slot_of(p, parent, ids, encoding)];
    for (; at != NONE; at = p->nodes[at].same_slot) {
        const prefix *n = &p->nodes[at];
        work_count(1);
        if (n->parent == parent && n->encoding == encoding &&
            !memcmp(n->ids, ids, (size_t)p->piece_tokens * sizeof *ids))
            break;
    }
    return at;
}

static void leave_slot(prefixes *p, int at) {
    int *place = &p->slots[p->nodes[at].slot];
    while (*place != at) {
        place = &p->nodes[*place].same_slot;
        work_count(1);
    }
    *place = p->nodes[at].same_slot;
}

/* ---------------------------------------------------------------- nodes */

static void drop(prefixes *p, int at) {
    prefix *n = &p->nodes[at];
    if (n->parent != NONE) p->nodes[n->parent].children--;
    leave_slot(p, at);
    unlink_node(p, at);
    kv_cache_remove(p->cache, n->kept);
    free(n->ids);
    *n = (prefix){.older = p->free};
    p->free = at;
}

/* The last of the list has no children, which would stand behind it, but for one that add() holds. */
static bool drop_oldest(void *user) {
    prefixes *p = user;
    if (p->oldest == NONE || p->nodes[p->oldest].children) return false;
    drop(p, p->oldest);
    return true;
}

int prefixes_create(kv_cache *cache, int64_t piece_tokens, int most, prefixes **out) {
    prefixes *p = *out = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for prefixes");
    *p = (prefixes){.cache = cache, .piece_tokens = piece_tokens, .most = most, .free = NONE, .newest = NONE};
    p->oldest = NONE;
    p->slot_count = 16;
    while (p->slot_count < 2 * (size_t)most) p->slot_count *= 2;
    p->nodes = calloc((size_t)most, sizeof *p->nodes);
    p->slots = malloc(p->slot_count * sizeof *p->slots);
    if (!p->nodes || !p->slots) {
        prefixes_free(p);
        *out = NULL;
        return fail(LCKV_ERROR_MEMORY, "no memory for %d prefixes", most);
    }
    for (size_t i = 0; i < p->slot_count; i++) p->slots[i] = NONE;
    for (int i = most - 1; i >= 0; i--) {
        p->nodes[i].older = p->free;
        p->free = i;
    }
    kv_cache_set_drop(cache, drop_oldest, p);
    return LCKV_OK;
}

void prefixes_free(prefixes *p) {
    if (!p) return;
    while (p->nodes && p->slots && drop_oldest(p)) continue;
    kv_cache_set_drop(p->cache, NULL, NULL);
    free(p->nodes);
    free(p->slots);
    free(p);
}

static prefix_mark mark_of(const prefixes *p, int at, int64_t end) {
    return at == NONE ? (prefix_mark){0} : (prefix_mark){at, p->nodes[at].serial, end};
}

/* The node of a mark and its end; NONE and 0 where it has been dropped, or is none. */
static int node_of(const prefixes *p, const prefix_mark *mark, int64_t *end) {
    bool stands = mark->serial && p->nodes[mark->node].serial == mark->serial;
    *end = stands ? mark->end : 0;
    return stands ? mark->node : NONE;
}

int64_t prefixes_find(prefixes *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int *kept,
                      prefix_mark *mark) {
    int64_t found = 0;
    int at = NONE, next;
    *kept = -1;
    for (; found + p->piece_tokens < count; found += p->piece_tokens) {
        next = child(p, at, ids + found, encoding);
        if (next == NONE) break;
        move_behind(p, next, at);
        at = next;
        *kept = p->nodes[at].kept;
    }
    *mark = mark_of(p, at, found);
    return found;
}

/* *at: the new node, NONE where there is no room for it. */
static int add(prefixes *p, int parent, const int32_t *ids, int64_t end, lckv_encoding encoding, int id, int *at) {
    size_t bytes = (size_t)p->piece_tokens * sizeof *ids;
    const int32_t *piece = ids + end - p->piece_tokens;
    if (parent != NONE) p->nodes[parent].children++; /* so that it stays */
    if (p->free == NONE) drop_oldest(p);
    if (parent != NONE) p->nodes[parent].children--;
    *at = p->free;
    if (*at == NONE) return LCKV_OK;
    prefix n = {.ids = malloc(bytes), .encoding = encoding, .parent = parent, .serial = ++p->serial};
    REQUIRE(n.ids, LCKV_ERROR_MEMORY, "no memory for a prefix");
    memcpy(n.ids, piece, bytes);
    int status = kv_cache_keep(p->cache, id, end, &n.kept);
    if (status < 0) {
        free(n.ids);
        return status;
    }
    n.slot = slot_of(p, parent, piece, encoding);
    n.same_slot = p->slots[n.slot];
    p->slots[n.slot] = *at;
    p->free = p->nodes[*at].older;
    p->nodes[*at] = n;
    link_behind(p, *at, parent);
    if (parent != NONE) p->nodes[parent].children++;
    return LCKV_OK;
}

int prefixes_keep(prefixes *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int id, prefix_mark *mark) {
    int64_t end;
    int at = node_of(p, mark, &end), next;
    for (end += p->piece_tokens; end <= count; end += p->piece_tokens) {
        next = child(p, at, ids + end - p->piece_tokens, encoding);
        bool can_cut = end == kv_cache_position(p->cache, id) || kv_cache_goes_back(p->cache);
        if (next == NONE && can_cut) TRY(add(p, at, ids, end, encoding, id, &next));
        if (next == NONE) break;
        move_behind(p, next, at);
        at = next;
        *mark = mark_of(p, at, end);
    }
    return LCKV_OK;
}

void prefixes_touch(prefixes *p, const prefix_mark *mark) {
    int64_t end;
    for (int at = node_of(p, mark, &end); at != NONE; at = p->nodes[at].parent) {
        move_behind(p, at, NONE);
        work_count(1);
    }
}
