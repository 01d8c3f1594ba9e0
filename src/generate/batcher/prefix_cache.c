/* Prefix cache, see prefix_cache.h: a tree of nodes in a table, with a hash table for children and an LRU list. */
#include "generate/batcher/prefix_cache.h"

#include "base/work.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

/* A shared part of an exact node has at least MIN_PART tokens. At most MAX_SIBLINGS nodes are compared to find one. */
enum { MIN_PART = 16, MAX_SIBLINGS = 64 };

/* Nodes are indices into `nodes`. Nodes in use form the LRU list, the most recently used first, in which a parent
 * precedes its children. Free nodes form a list by `older`. */
typedef struct prefix_node {
    int32_t *ids; /* [tokens] of this part of a prompt; NULL: the node is free */
    int64_t tokens;
    bool exact, whole;    /* whole: in the hash table; false: the short end of an exact prompt */
    int parent, children; /* parent NONE: the start of a prompt; children: number of them */
    int first_exact;      /* list of the exact children, the newest first */
    int next_exact, previous_exact;
    int cached;       /* sequence of the KV cache */
    int newer, older; /* neighbours in the LRU list */
    int same_slot;    /* next node in the same slot of the hash table */
    size_t slot;
    uint64_t serial; /* unique; detects positions of an evicted node */
} prefix_node;

struct prefix_cache {
    kv_cache *cache;
    chunk_rules rules;
    prefix_node *nodes; /* [max_nodes] */
    int *slots; /* [slot_count] first whole node by hash of parent, form and ids; slot_count is a power of two */
    size_t slot_count;
    int max_nodes, free;
    int first_exact; /* exact nodes without parent */
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
static size_t slot_of(const prefix_cache *p, int parent, const int32_t *ids, int64_t tokens, bool exact) {
    uint64_t hash = 0xCBF29CE484222325u ^ (uint32_t)(parent + 1);
    hash = (hash * 0x100000001B3u) ^ (uint32_t)exact;
    for (int64_t i = 0; i < tokens; i++) hash = (hash * 0x100000001B3u) ^ (uint32_t)ids[i];
    work_count((size_t)tokens);
    return (size_t)((hash ^ hash >> 32) * 0x9E3779B97F4A7C15u >> 20) & (p->slot_count - 1);
}

/* The child of `parent` that is a whole node with these ids; NONE if there is none. */
static int child(const prefix_cache *p, int parent, const int32_t *ids, int64_t tokens, bool exact) {
    int at = p->slots[slot_of(p, parent, ids, tokens, exact)];
    for (; at != NONE; at = p->nodes[at].same_slot) {
        const prefix_node *n = &p->nodes[at];
        work_count(1);
        if (n->parent == parent && n->exact == exact && n->tokens == tokens &&
            !memcmp(n->ids, ids, (size_t)tokens * sizeof *ids))
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

/* ---------------------------------------------------------------- lists of exact nodes */

static int *first_exact_of(prefix_cache *p, int parent) {
    return parent == NONE ? &p->first_exact : &p->nodes[parent].first_exact;
}

static void link_exact(prefix_cache *p, int at) {
    prefix_node *n = &p->nodes[at];
    int *first = first_exact_of(p, n->parent);
    n->previous_exact = NONE;
    n->next_exact = *first;
    if (*first != NONE) p->nodes[*first].previous_exact = at;
    *first = at;
}

static void unlink_exact(prefix_cache *p, int at) {
    const prefix_node *n = &p->nodes[at];
    *(n->previous_exact == NONE ? first_exact_of(p, n->parent) : &p->nodes[n->previous_exact].next_exact) =
        n->next_exact;
    if (n->next_exact != NONE) p->nodes[n->next_exact].previous_exact = n->previous_exact;
}

/* The exact child of `parent` that begins with the largest number of `count` ids, *common. NONE and 0 if that is less
 * than MIN_PART. */
static int most_common(prefix_cache *p, int parent, const int32_t *ids, int64_t count, int64_t *common) {
    int best = NONE, at = *first_exact_of(p, parent);
    *common = MIN_PART - 1;
    for (int i = 0; i < MAX_SIBLINGS && at != NONE && *common < count; i++, at = p->nodes[at].next_exact) {
        const prefix_node *n = &p->nodes[at];
        int64_t same = 0, most = n->tokens < count ? n->tokens : count;
        while (same < most && n->ids[same] == ids[same]) same++;
        work_count((size_t)same + 1);
        if (same <= *common) continue;
        *common = same;
        best = at;
    }
    if (best == NONE) *common = 0;
    return best;
}

/* ---------------------------------------------------------------- nodes */

static void evict(prefix_cache *p, int at) {
    prefix_node *n = &p->nodes[at];
    if (n->parent != NONE) p->nodes[n->parent].children--;
    if (n->whole) leave_slot(p, at);
    if (n->exact) unlink_exact(p, at);
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

int prefix_cache_create(kv_cache *cache, const chunk_rules *rules, int max_nodes, prefix_cache **out) {
    prefix_cache *p = *out = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for a prefix cache");
    *p = (prefix_cache){.cache = cache, .rules = *rules, .max_nodes = max_nodes, .free = NONE, .newest = NONE};
    p->oldest = p->first_exact = NONE;
    p->slot_count = 16;
    while (p->slot_count < 2 * (size_t)max_nodes) p->slot_count *= 2;
    p->nodes = calloc((size_t)max_nodes, sizeof *p->nodes);
    p->slots = malloc(p->slot_count * sizeof *p->slots);
    if (!p->nodes || !p->slots) {
        prefix_cache_free(p);
        *out = NULL;
        return fail(LCKV_ERROR_MEMORY, "no memory for a prefix cache of %d nodes", max_nodes);
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

/* The end of the node that starts at token `at` of a prompt. */
static int64_t node_end(const prefix_cache *p, const prefix_prompt *prompt, bool exact, int64_t at) {
    return exact ? at + p->rules.smallest : chunk_next_kept(&p->rules, prompt->total, at);
}

/* Walks down whole nodes of one form from *at, which ends at token `found`, and returns where the walk ends. */
static int64_t walk(prefix_cache *p, const prefix_prompt *prompt, bool exact, int64_t found, int *at) {
    while (found < prompt->count) {
        int64_t end = node_end(p, prompt, exact, found);
        int next = end < prompt->count ? child(p, *at, prompt->ids + found, end - found, exact) : NONE;
        if (next == NONE) break;
        move_after(p, next, *at);
        *at = next;
        found = end;
    }
    return found;
}

int64_t prefix_cache_find(prefix_cache *p, prefix_prompt prompt, prefix_reader reader, int *cached,
                          prefix_position *position) {
    int at = NONE, planned = NONE;
    int64_t found = 0, common, direct;
    if (reader != PREFIX_PLANNED) found = walk(p, &prompt, true, 0, &at);
    if (reader == PREFIX_ANY) found = walk(p, &prompt, false, found, &at);
    if (reader != PREFIX_EXACT) { /* exact nodes may be fewer than planned ones from the start */
        direct = walk(p, &prompt, false, 0, &planned);
        if (direct > found) found = direct, at = planned;
    }
    *position = position_of(p, at, found);
    if (reader == PREFIX_EXACT && kv_cache_can_truncate(p->cache)) {
        int longer = most_common(p, at, prompt.ids + found, prompt.count - 1 - found, &common);
        if (longer != NONE) move_after(p, longer, at);
        if (longer != NONE) at = longer;
        found += common;
    }
    *cached = at == NONE ? -1 : p->nodes[at].cached;
    return found;
}

/* Adds the ids from `begin` to `end`. *at: the new node; NONE if there is no room. */
static int add(prefix_cache *p, int parent, const int32_t *ids, int64_t begin, int64_t end, bool exact, int id,
               int *at) {
    int64_t tokens = end - begin;
    size_t bytes = (size_t)tokens * sizeof *ids;
    bool whole = !exact || tokens == p->rules.smallest;
    if (parent != NONE) p->nodes[parent].children++; /* protects the parent from eviction */
    if (p->free == NONE) evict_oldest(p);
    if (parent != NONE) p->nodes[parent].children--;
    *at = p->free;
    if (*at == NONE) return LCKV_OK;
    prefix_node n = {.ids = malloc(bytes), .tokens = tokens, .exact = exact, .whole = whole, .parent = parent};
    REQUIRE(n.ids, LCKV_ERROR_MEMORY, "no memory for a node of the prefix cache");
    memcpy(n.ids, ids + begin, bytes);
    int status = kv_cache_snapshot(p->cache, id, end, &n.cached);
    if (status < 0) {
        free(n.ids);
        return status;
    }
    n.serial = ++p->serial;
    n.first_exact = NONE;
    if (whole) {
        n.slot = slot_of(p, parent, n.ids, tokens, exact);
        n.same_slot = p->slots[n.slot];
        p->slots[n.slot] = *at;
    }
    p->free = p->nodes[*at].older;
    p->nodes[*at] = n;
    link_after(p, *at, parent);
    if (exact) link_exact(p, *at);
    if (parent != NONE) p->nodes[parent].children++;
    return LCKV_OK;
}

int prefix_cache_insert(prefix_cache *p, prefix_prompt prompt, bool exact, int id, prefix_position *position) {
    int64_t begin, end;
    int at = node_of(p, position, &begin), next;
    for (; begin < prompt.count; begin = end) {
        end = node_end(p, &prompt, exact, begin);
        if (end > prompt.count) break;
        next = child(p, at, prompt.ids + begin, end - begin, exact);
        bool can_cut = end == kv_cache_position(p->cache, id) || kv_cache_can_truncate(p->cache);
        if (next == NONE && can_cut) TRY(add(p, at, prompt.ids, begin, end, exact, id, &next));
        if (next == NONE) break;
        move_after(p, next, at);
        at = next;
        *position = position_of(p, at, end);
    }
    return LCKV_OK;
}

int prefix_cache_insert_exact(prefix_cache *p, prefix_prompt prompt, int id, prefix_position *position) {
    int64_t end, common;
    TRY(prefix_cache_insert(p, prompt, true, id, position));
    int at = node_of(p, position, &end), known, added;
    int64_t tokens = prompt.count - end;
    if (tokens < MIN_PART || tokens >= p->rules.smallest || !kv_cache_can_truncate(p->cache)) return LCKV_OK;
    known = most_common(p, at, prompt.ids + end, tokens, &common);
    if (known != NONE && common == tokens) return LCKV_OK;
    return add(p, at, prompt.ids, end, prompt.count, true, id, &added);
}

void prefix_cache_touch(prefix_cache *p, const prefix_position *position) {
    int64_t end;
    for (int at = node_of(p, position, &end); at != NONE; at = p->nodes[at].parent) {
        move_after(p, at, NONE);
        work_count(1);
    }
}
