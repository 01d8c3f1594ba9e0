#include "generate/prefixes.h"

#include <stdlib.h>
#include <string.h>

typedef struct prefix {
    int32_t *ids; /* [piece_tokens] of this piece; NULL: the place is empty */
    lckv_encoding encoding;
    int parent, children; /* -1: none, the piece begins its prompt */
    int kept;             /* sequence of the cache */
    uint64_t used;
} prefix;

struct prefixes {
    kv_cache *cache;
    int64_t piece_tokens;
    prefix *nodes; /* [most] */
    int most;
    uint64_t clock;
};

static void drop(prefixes *p, int at) {
    prefix *n = &p->nodes[at];
    if (n->parent >= 0) p->nodes[n->parent].children--;
    kv_cache_remove(p->cache, n->kept);
    free(n->ids);
    *n = (prefix){0};
}

/* A parent is used whenever a child is, and is looked at first, so that a child is never the younger one. */
static bool drop_oldest(void *user) {
    prefixes *p = user;
    int oldest = -1;
    for (int i = 0; i < p->most; i++) {
        const prefix *n = &p->nodes[i];
        if (n->ids && !n->children && (oldest < 0 || n->used < p->nodes[oldest].used)) oldest = i;
    }
    if (oldest < 0) return false;
    drop(p, oldest);
    return true;
}

int prefixes_create(kv_cache *cache, int64_t piece_tokens, int most, prefixes **out) {
    prefixes *p = *out = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for prefixes");
    *p = (prefixes){.cache = cache, .piece_tokens = piece_tokens, .most = most};
    p->nodes = calloc((size_t)most, sizeof *p->nodes);
    if (!p->nodes) {
        prefixes_free(p);
        *out = NULL;
        return fail(LCKV_ERROR_MEMORY, "no memory for %d prefixes", most);
    }
    kv_cache_set_drop(cache, drop_oldest, p);
    return LCKV_OK;
}

void prefixes_free(prefixes *p) {
    if (!p) return;
    while (p->nodes && drop_oldest(p)) continue;
    kv_cache_set_drop(p->cache, NULL, NULL);
    free(p->nodes);
    free(p);
}

/* The child of `parent` with these ids, -1 where there is none. */
static int child(const prefixes *p, int parent, const int32_t *ids, lckv_encoding encoding) {
    for (int i = 0; i < p->most; i++) {
        const prefix *n = &p->nodes[i];
        if (n->ids && n->parent == parent && n->encoding == encoding &&
            !memcmp(n->ids, ids, (size_t)p->piece_tokens * sizeof *ids))
            return i;
    }
    return -1;
}

int64_t prefixes_find(prefixes *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int *kept) {
    int64_t found = 0;
    *kept = -1;
    p->clock++;
    for (int at = -1; found + p->piece_tokens < count; found += p->piece_tokens) {
        at = child(p, at, ids + found, encoding);
        if (at < 0) break;
        p->nodes[at].used = p->clock;
        *kept = p->nodes[at].kept;
    }
    return found;
}

static int empty_place(prefixes *p) {
    for (int i = 0; i < p->most; i++)
        if (!p->nodes[i].ids) return i;
    return -1;
}

/* *at: the new node, -1 where there is no room for it. */
static int add(prefixes *p, int parent, const int32_t *ids, int64_t end, lckv_encoding encoding, int id, int *at) {
    size_t bytes = (size_t)p->piece_tokens * sizeof *ids;
    if (parent >= 0) p->nodes[parent].children++; /* so that it stays */
    *at = empty_place(p);
    if (*at < 0 && drop_oldest(p)) *at = empty_place(p);
    if (parent >= 0) p->nodes[parent].children--;
    if (*at < 0) return LCKV_OK;
    prefix n = {.ids = malloc(bytes), .encoding = encoding, .parent = parent, .used = p->clock};
    REQUIRE(n.ids, LCKV_ERROR_MEMORY, "no memory for a prefix");
    memcpy(n.ids, ids + end - p->piece_tokens, bytes);
    int status = kv_cache_keep(p->cache, id, end, &n.kept);
    if (status < 0) {
        free(n.ids);
        return status;
    }
    p->nodes[*at] = n;
    if (parent >= 0) p->nodes[parent].children++;
    return LCKV_OK;
}

int prefixes_keep(prefixes *p, const int32_t *ids, int64_t count, lckv_encoding encoding, int id) {
    int at = -1, next;
    p->clock++;
    for (int64_t end = p->piece_tokens; end <= count; end += p->piece_tokens) {
        next = child(p, at, ids + end - p->piece_tokens, encoding);
        bool can_cut = end == kv_cache_position(p->cache, id) || kv_cache_goes_back(p->cache);
        if (next < 0 && !can_cut) return LCKV_OK;
        if (next < 0) TRY(add(p, at, ids, end, encoding, id, &next));
        if (next < 0) return LCKV_OK;
        p->nodes[next].used = p->clock;
        at = next;
    }
    return LCKV_OK;
}
