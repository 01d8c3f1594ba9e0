/* The ranks that run one model together, and what rank 0 sends to the others; see rank_group.h. */
#include "model/ranks/rank_group.h"

#include "model/decoder.h"
#include "model/ranks/rank_message.h"

#include <stdlib.h>
#include <string.h>

int rank_group_create(const collectives *host, device *d, rank_group **out) {
    *out = NULL;
    rank_group *g = calloc(1, sizeof *g);
    int status = g ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for a group of %d ranks", host->ranks);
    status = collectives_agree(host, status);
    if (status < 0) {
        free(g);
        return status;
    }
    g->host = g->device = host;
    g->d = d;
    status = collectives_on_device(host, d, &g->own);
    if (status < 0) {
        free(g);
        return status;
    }
    if (g->own) g->device = g->own;
    *out = g;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- messages */

char *rank_payload(rank_group *g, size_t bytes) {
    if (bytes <= RANK_PAYLOAD_BYTES) return g->message.payload;
    if (bytes <= g->capacity) return g->payload;
    char *payload = realloc(g->payload, 2 * bytes);
    if (!payload) return NULL;
    g->payload = payload;
    g->capacity = 2 * bytes;
    return payload;
}

/* The payload is where rank_payload() has put it. */
static int send(rank_group *g, rank_message_kind kind, int id, size_t bytes) {
    g->message.kind = kind;
    g->message.id = id;
    g->message.bytes = (int64_t)bytes;
    TRY(collectives_broadcast_host(g->device, &g->message, sizeof g->message));
    return bytes > RANK_PAYLOAD_BYTES ? collectives_broadcast_host(g->device, g->payload, bytes) : LCKV_OK;
}

/* Ranks other than 0 are freed by themselves after they have received the end. */
void rank_group_free(rank_group *g) {
    if (!g) return;
    if (g->host->rank == 0) send(g, RANK_END, 0, 0);
    collectives_close(g->own);
    free(g->payload);
    free(g);
}

/* ---------------------------------------------------------------- passes */

/* A device that is profiled does not record. */
static bool may_move(const rank_group *g, const rank_pass *p) {
    return g->d->recording.begin && p->action == REPLAY_RUN;
}

int rank_sum_generations(rank_group *g, int64_t mine) {
    double sum = (double)mine;
    TRY(collectives_all_reduce(g->host, (view){&sum, 1, 1, DTYPE_F64, NULL}));
    g->generation = (int64_t)sum;
    return LCKV_OK;
}

static void pack_pass(const rank_group *g, const model *m, const rank_pass *p, char *at) {
    const plan *steps = p->batch->plan ? p->batch->plan : &m->plan;
    rank_pass_header h = {.batch = p->batch->id,
                          .cache = p->cache ? kv_cache_id(p->cache) : 0,
                          .compute = (int32_t)p->compute,
                          .set = p->set,
                          .replay = p->replay,
                          .action = (int32_t)p->action,
                          .previous_rows = (int32_t)p->batch->previous.rows,
                          .plan_steps = steps->count,
                          .invariant_rows = g->d->invariant_rows,
                          .moves = may_move(g, p)};
    memcpy(at, &h, sizeof h);
    at += sizeof h;
    if (steps->count) memcpy(at, steps->steps, (size_t)steps->count * sizeof *steps->steps);
    at += (size_t)steps->count * sizeof *steps->steps;
    batch_pack(p->batch, at);
}

int rank_group_begin(const model *m, const rank_pass *p) {
    rank_group *g = m->ranks;
    if (!g) return LCKV_OK;
    const plan *steps = p->batch->plan ? p->batch->plan : &m->plan;
    if (!p->batch->id) {
        p->batch->id = ++g->last_id;
        p->batch->ranks = g;
    }
    size_t bytes =
        sizeof(rank_pass_header) + (size_t)steps->count * sizeof *steps->steps + batch_packed_bytes(p->batch);
    char *payload = rank_payload(g, bytes);
    REQUIRE(payload, LCKV_ERROR_MEMORY, "no memory to send a batch of %zu bytes", bytes);
    pack_pass(g, m, p, payload);
    return send(g, RANK_PASS, p->batch->id, bytes);
}

static int end_pass(rank_group *g, const rank_pass *p) {
    if (may_move(g, p)) TRY(rank_sum_generations(g, 0));
    return p->action == REPLAY_RUN ? LCKV_OK : collectives_replayed(g->device);
}

int rank_group_end(const model *m, const rank_pass *p, int status) {
    rank_group *g = m->ranks;
    if (!g) return status;
    if (status >= 0) status = end_pass(g, p);
    if (status < 0) collectives_give_up(g->device);
    return status;
}

int rank_group_check(const model *m) {
    return m->ranks ? collectives_replayed(m->ranks->device) : LCKV_OK;
}

int rank_group_forward(const model *m, graph *g, batch *b, kv_cache *cache, tensor **hidden) {
    const rank_pass p = {.batch = b, .cache = cache, .compute = g->compute, .replay = -1, .action = REPLAY_RUN};
    TRY(rank_group_begin(m, &p));
    return rank_group_end(m, &p, decoder_forward(m, g, b, cache, hidden));
}

int64_t rank_group_generation(const model *m) {
    return m->ranks ? m->ranks->generation : 0;
}

/* ---------------------------------------------------------------- memory */

/* Ranks with host memory are taken to share one host. */
int rank_gather_available(rank_group *g, size_t *least) {
    size_t mine = 0, total;
    int ranks = g->host->ranks;
    int64_t *counts = malloc((size_t)ranks * sizeof *counts);
    size_t *all = malloc((size_t)ranks * sizeof *all);
    int status = counts && all ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for the free memory of %d ranks", ranks);
    if (status >= 0) status = g->d->memory.available(g->d, &mine, &total);
    status = collectives_agree(g->host, status);
    if (g->d->host_memory) mine /= (size_t)ranks;
    for (int r = 0; counts && r < ranks; r++) counts[r] = sizeof *all;
    if (status >= 0) status = collectives_gather_host(g->host, &mine, counts, all);
    *least = mine;
    for (int r = 0; status >= 0 && g->host->rank == 0 && r < ranks; r++)
        if (all[r] < *least) *least = all[r];
    free(counts);
    free(all);
    return status;
}

int rank_group_available(const model *m, size_t *bytes) {
    size_t total;
    if (!m->ranks) return m->device->memory.available(m->device, bytes, &total);
    TRY(send(m->ranks, RANK_AVAILABLE, 0, 0));
    return rank_gather_available(m->ranks, bytes);
}

int rank_group_cache_created(rank_group *g, const kv_cache *cache, int *id) {
    rank_cache_header h = {.options = kv_cache_options_of(cache)};
    for (int i = 0; i < kv_cache_groups(cache); i++) h.pages[i] = kv_cache_group_pages(cache, i);
    memcpy(rank_payload(g, sizeof h), &h, sizeof h);
    *id = ++g->last_id;
    return send(g, RANK_CACHE_NEW, *id, sizeof h);
}

int rank_group_cache_grown(rank_group *g, int id, int group, int32_t pages) {
    g->message.numbers[0] = group;
    g->message.numbers[1] = pages;
    return send(g, RANK_CACHE_GROW, id, 0);
}

int rank_group_page_copied(rank_group *g, int id, int group, int32_t from, int32_t to) {
    g->message.numbers[0] = group;
    g->message.numbers[1] = from;
    g->message.numbers[2] = to;
    return send(g, RANK_CACHE_COPY, id, 0);
}

/* After a failure the other ranks are ending anyway. */
void rank_group_cache_freed(rank_group *g, int id) {
    send(g, RANK_CACHE_FREE, id, 0);
}

void rank_group_batch_freed(rank_group *g, int id) {
    send(g, RANK_BATCH_FREE, id, 0);
}

int rank_group_refuse(const model *m, const char *what) {
    REQUIRE(!m->ranks, LCKV_ERROR_UNSUPPORTED,
            "%s is not possible with tensor_parallel: the model is divided between %d processes", what,
            m->ranks->host->ranks);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- in a forward pass */

bool rank_group_adds_rest(const rank_group *g) {
    return !g || g->host->rank == 0;
}

int rank_group_sum(const rank_group *g, view v) {
    return g ? collectives_all_reduce(g->device, v) : LCKV_OK;
}

int rank_group_share(const rank_group *g, view v) {
    return g ? collectives_broadcast(g->device, v, 0) : LCKV_OK;
}
