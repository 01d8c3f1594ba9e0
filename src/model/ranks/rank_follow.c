/* A rank that follows rank 0: receives what rank 0 does and does the same with its part of the model. See rank_group.h.
 */
#include "model/decoder.h"
#include "model/ranks/rank_message.h"

#include <stdlib.h>
#include <string.h>

enum { SETS = 2 /* of recordings, per cache */, TYPES = 2 /* of computation */ };

/* The pages of a cache of rank 0, and the passes with it that were recorded. */
typedef struct followed_cache {
    int id;
    kv_cache *cache;
    replay_set *sets[SETS]; /* NULL: none yet */
} followed_cache;

/* A batch of rank 0. */
typedef struct followed_batch {
    int id;
    batch *batch;
    view previous;
    plan plan; /* of the last pass */
} followed_batch;

typedef struct follower {
    model *m;
    rank_group *g;
    graph *graphs[TYPES]; /* f32, bf16; NULL: none yet */
    followed_cache *caches;
    followed_batch *batches;
    int cache_count, batch_count;
} follower;

/* The pass that is running. */
typedef struct following_pass {
    const model *m;
    graph *graph;
    const batch *batch;
    kv_cache *cache;
} following_pass;

/* ---------------------------------------------------------------- caches and batches */

static followed_cache *find_cache(const follower *f, int id) {
    for (int i = 0; i < f->cache_count; i++)
        if (f->caches[i].id == id) return &f->caches[i];
    return NULL;
}

static followed_batch *find_batch(const follower *f, int id) {
    for (int i = 0; i < f->batch_count; i++)
        if (f->batches[i].id == id) return &f->batches[i];
    return NULL;
}

static int unknown(const char *what, int id) {
    return fail(LCKV_ERROR_FORMAT, "rank 0 uses %s %d, which it has not created", what, id);
}

static int add_cache(follower *f, int id, const char *payload) {
    rank_cache_header h;
    memcpy(&h, payload, sizeof h);
    followed_cache *longer = realloc(f->caches, ((size_t)f->cache_count + 1) * sizeof *longer);
    REQUIRE(longer, LCKV_ERROR_MEMORY, "no memory for a KV cache");
    f->caches = longer;
    followed_cache *c = &f->caches[f->cache_count];
    *c = (followed_cache){.id = id};
    TRY(kv_cache_create_pages(f->m, &h.options, h.pages, &c->cache));
    f->cache_count++;
    return LCKV_OK;
}

static void free_cache(const follower *f, followed_cache *c) {
    for (int i = 0; i < SETS; i++) {
        if (c->sets[i]) replay_set_forget(c->sets[i], f->m->device);
        free(c->sets[i]);
    }
    kv_cache_free(c->cache);
}

static int remove_cache(follower *f, int id) {
    followed_cache *c = find_cache(f, id);
    if (!c) return unknown("cache", id);
    TRY(f->m->device->memory.wait(f->m->device));
    free_cache(f, c);
    *c = f->caches[--f->cache_count];
    return LCKV_OK;
}

static int change_cache(const follower *f, const rank_message *message) {
    const int32_t *n = message->numbers;
    followed_cache *c = find_cache(f, message->id);
    if (!c || n[0] < 0 || n[0] >= kv_cache_groups(c->cache)) return unknown("cache", message->id);
    if (message->kind == RANK_CACHE_GROW) return kv_cache_grow_group(c->cache, n[0], n[1]);
    return kv_cache_copy_page(c->cache, n[0], n[1], n[2]);
}

static int add_batch(follower *f, int id, followed_batch **out) {
    followed_batch *longer = realloc(f->batches, ((size_t)f->batch_count + 1) * sizeof *longer);
    REQUIRE(longer, LCKV_ERROR_MEMORY, "no memory for a batch");
    f->batches = longer;
    *out = &f->batches[f->batch_count];
    **out = (followed_batch){.id = id};
    TRY(batch_create(f->m->device, (batch_limits){.rows = 1, .sequences = 1}, &(*out)->batch));
    f->batch_count++;
    return LCKV_OK;
}

static void free_batch(const follower *f, followed_batch *b) {
    batch_free(b->batch);
    f->m->device->memory.release(f->m->device, b->previous.data);
    plan_free(&b->plan);
}

/* Rank 0 also frees batches that it has never sent. */
static int remove_batch(follower *f, int id) {
    followed_batch *b = find_batch(f, id);
    if (!b) return LCKV_OK;
    TRY(f->m->device->memory.wait(f->m->device));
    free_batch(f, b);
    *b = f->batches[--f->batch_count];
    return LCKV_OK;
}

/* ---------------------------------------------------------------- passes */

static int reserve_previous(const follower *f, followed_batch *b, int32_t rows) {
    device *d = f->m->device;
    if (rows <= b->previous.rows) return LCKV_OK;
    TRY(d->memory.wait(d));
    d->memory.release(d, b->previous.data);
    b->previous = (view){NULL, rows, 1, DTYPE_I32, NULL};
    return d->memory.alloc(d, view_bytes(b->previous), &b->previous.data);
}

static int set_plan(followed_batch *b, const char *at, int count) {
    size_t bytes = (size_t)count * sizeof *b->plan.steps;
    plan_step *steps = realloc(b->plan.steps, bytes + 1);
    REQUIRE(steps, LCKV_ERROR_MEMORY, "no memory for a plan of %d steps", count);
    memcpy(steps, at, bytes);
    b->plan = (plan){.steps = steps, .count = count};
    b->batch->plan = &b->plan;
    return LCKV_OK;
}

static int receive_batch(follower *f, const rank_pass_header *h, const char *at, size_t bytes, followed_batch **out) {
    size_t plan_bytes = (size_t)h->plan_steps * sizeof(plan_step);
    *out = find_batch(f, h->batch);
    if (!*out) TRY(add_batch(f, h->batch, out));
    followed_batch *b = *out;
    TRY(set_plan(b, at, h->plan_steps));
    TRY(batch_unpack(b->batch, at + plan_bytes, bytes - plan_bytes));
    TRY(reserve_previous(f, b, h->previous_rows));
    b->batch->previous = b->previous;
    b->batch->previous.rows = h->previous_rows;
    return LCKV_OK;
}

static int graph_for(follower *f, dtype compute, graph **out) {
    graph **own = &f->graphs[compute == DTYPE_BF16];
    int status = *own ? LCKV_OK : graph_create(f->m->device, compute, false, own);
    *out = *own;
    return status;
}

static int run(void *user) {
    const following_pass *p = user;
    tensor *hidden;
    return decoder_forward(p->m, p->graph, p->batch, p->cache, &hidden);
}

static int run_recorded(followed_cache *c, const rank_pass_header *h, following_pass *p) {
    replay_set **set = &c->sets[h->set];
    if (!*set) *set = calloc(1, sizeof **set);
    REQUIRE(*set, LCKV_ERROR_MEMORY, "no memory for recorded steps");
    return replay_do(&(*set)->replays[h->replay], p->graph, (replay_action)h->action, run, p);
}

static int run_pass(const follower *f, const rank_pass_header *h, followed_cache *c, following_pass *p) {
    device *d = f->m->device;
    d->invariant_rows = h->invariant_rows;
    int status = c && h->replay >= 0 ? run_recorded(c, h, p) : run(p);
    d->invariant_rows = false;
    int reset = graph_reset(p->graph);
    TRY(status);
    TRY(reset);
    if (h->moves) TRY(rank_sum_generations(f->g, pool_generation(p->graph->pool)));
    return h->action == REPLAY_RUN ? LCKV_OK : collectives_replayed(f->g->device);
}

static int follow_pass(follower *f, const char *payload, size_t bytes) {
    rank_pass_header h;
    followed_batch *b;
    following_pass p = {.m = f->m};
    memcpy(&h, payload, sizeof h);
    followed_cache *c = h.cache ? find_cache(f, h.cache) : NULL;
    if (h.cache && !c) return unknown("cache", h.cache);
    TRY(receive_batch(f, &h, payload + sizeof h, bytes - sizeof h, &b));
    TRY(graph_for(f, (dtype)h.compute, &p.graph));
    p.batch = b->batch;
    p.cache = c ? c->cache : NULL;
    return run_pass(f, &h, c, &p);
}

/* ---------------------------------------------------------------- messages */

static int receive(rank_group *g, const char **payload) {
    rank_message *message = &g->message;
    TRY(collectives_await(g->device));
    TRY(collectives_broadcast_host(g->device, message, sizeof *message));
    char *at = rank_payload(g, (size_t)message->bytes);
    REQUIRE(at, LCKV_ERROR_MEMORY, "no memory for a message of %lld bytes", (long long)message->bytes);
    *payload = at;
    if (message->bytes <= RANK_PAYLOAD_BYTES) return LCKV_OK;
    return collectives_broadcast_host(g->device, at, (size_t)message->bytes);
}

static int obey(follower *f, const rank_message *message, const char *payload) {
    size_t least;
    switch ((rank_message_kind)message->kind) {
    case RANK_PASS:
        return follow_pass(f, payload, (size_t)message->bytes);
    case RANK_CACHE_NEW:
        return add_cache(f, message->id, payload);
    case RANK_CACHE_GROW:
    case RANK_CACHE_COPY:
        return change_cache(f, message);
    case RANK_CACHE_FREE:
        return remove_cache(f, message->id);
    case RANK_BATCH_FREE:
        return remove_batch(f, message->id);
    case RANK_AVAILABLE:
        return rank_gather_available(f->g, &least);
    case RANK_END:
        break;
    }
    return LCKV_OK;
}

static void free_all(follower *f) {
    f->m->device->memory.wait(f->m->device);
    for (int i = 0; i < f->cache_count; i++) free_cache(f, &f->caches[i]);
    for (int i = 0; i < f->batch_count; i++) free_batch(f, &f->batches[i]);
    for (int i = 0; i < TYPES; i++) graph_free(f->graphs[i]);
    free(f->caches);
    free(f->batches);
}

int rank_group_follow(model *m) {
    follower f = {.m = m, .g = m->ranks};
    const char *payload = NULL;
    int status;
    do {
        status = receive(f.g, &payload);
        if (status >= 0) status = obey(&f, &f.g->message, payload);
    } while (status >= 0 && f.g->message.kind != RANK_END);
    if (status < 0) collectives_give_up(f.g->device);
    free_all(&f);
    return status;
}
