/* Who goes in a step and what becomes of them, see batcher.h; the step itself is batcher_call.c's. */
#include "generate/batcher_call.h"

#include "base/clock.h"
#include "generate/encoding.h"

#include <stdlib.h>
#include <string.h>

/* Enough to keep matrix products busy, and activations bounded. */
enum { STEP_TOKENS = 2048, GPU_STEP_TOKENS = 8192, PIECE_TOKENS = 64 };

/* Every weight is read, but of the embedding only a row a token, unless it is the head too. */
static double count_weight_bytes(const params *p) {
    double bytes = p->head == p->embed ? 0 : -(double)view_bytes(p->embed->value);
    for (int i = 0; i < p->count; i++) bytes += (double)view_bytes(p->table[i].tensor.value);
    return bytes;
}

/* So many that pieces which lie in pages of their own fill the cache. */
static int count_prefixes(const batcher *b, const kv_cache_options *cache) {
    enum { MOST = 4096 };
    kv_cache_need piece;
    if (kv_cache_bytes_for(b->model, cache, 1, b->options.piece_tokens, &piece) < 0) return 0;
    double pieces = (double)b->options.cache_bytes / piece.reserved + 1;
    return pieces < MOST ? (int)pieces : MOST;
}

static int build(batcher *b) {
    const model *m = b->model;
    const batcher_options *o = &b->options;
    REQUIRE(!o->batch_invariant || m->device->has_invariant_rows, LCKV_ERROR_UNSUPPORTED,
            "%s has no products whose sums do not depend on the rows beside them (batch_invariant)", m->device->name);
    kv_cache_options cache = kv_cache_defaults();
    cache.sequences = o->sequences;
    cache.rows = o->rows;
    cache.max_bytes = o->cache_bytes;
    cache.type = o->compute;
    cache.window_length = o->window_length;
    cache.sinks = o->sinks;
    if (o->keeps_prefixes) cache.kept = count_prefixes(b, &cache);
    for (int i = 0; i < 2; i++) TRY(batcher_call_make(&b->calls[i], o->sequences));
    b->call = &b->calls[0];
    b->ahead = o->ahead ? o->ahead > 0 : m->device->recording.begin != NULL;
    b->row = malloc((size_t)m->config->vocab_size * sizeof *b->row);
    REQUIRE(b->row, LCKV_ERROR_MEMORY, "no memory for a row of logits");
    /* dead rows that fill a step up are at most one in nine */
    TRY(sampler_create(m->device, m->config->vocab_size, o->sequences + o->sequences / 8 + 1, &b->sampler));
    TRY(graph_create(m->device, o->compute, false, &b->graph));
    TRY(kv_cache_create(m, &cache, &b->cache));
    if (cache.kept) TRY(prefixes_create(b->cache, o->piece_tokens, cache.kept, &b->prefixes));
    TRY(batch_create(m->device, (batch_limits){.rows = 1, .sequences = o->sequences}, &b->batch));
    if (o->encoding_iterations) TRY(plan_make(&m->config->map, o->encoding_iterations - 1, 1, &b->plan));
    if (o->encoding_iterations) b->batch->plan = &b->plan;
    b->batch->tolerance = o->encoding_tolerance;
    b->batch->previous = sampler_ids(b->sampler);
    b->batch->fills = true;
    return LCKV_OK;
}

int batcher_create(const model *m, const batcher_options *options, batcher **out) {
    *out = NULL;
    batcher *b = calloc(1, sizeof *b);
    REQUIRE(b, LCKV_ERROR_MEMORY, "no memory to generate");
    b->model = m;
    b->options = *options;
    if (!b->options.step_tokens) b->options.step_tokens = m->device->recording.begin ? GPU_STEP_TOKENS : STEP_TOKENS;
    if (!b->options.piece_tokens) b->options.piece_tokens = PIECE_TOKENS;
    b->weight_bytes = count_weight_bytes(m->params);
    int status = build(b);
    if (status < 0)
        batcher_free(b);
    else
        *out = b;
    return status;
}

void batcher_free(batcher *b) {
    if (!b) return;
    if (b->ended < b->begun) b->model->device->memory.wait(b->model->device); /* results still come to the calls */
    replay_set_forget(&b->decoding, b->model->device);
    sampler_free(b->sampler);
    batch_free(b->batch);
    prefixes_free(b->prefixes);
    plan_free(&b->plan);
    kv_cache_free(b->cache);
    graph_free(b->graph);
    b->model->device->memory.release(b->model->device, b->index.data);
    for (int i = 0; i < 2; i++) batcher_call_free(&b->calls[i]);
    free(b->row);
    free(b->queue);
    free(b);
}

static int reserve_queue(batcher *b, int count) {
    if (count <= b->capacity) return LCKV_OK;
    int capacity = b->capacity ? b->capacity : 16;
    while (capacity < count) capacity *= 2;
    sequence **queue = realloc(b->queue, (size_t)capacity * sizeof(sequence *));
    REQUIRE(queue, LCKV_ERROR_MEMORY, "no memory to queue %d sequences", capacity);
    b->queue = queue;
    b->capacity = capacity;
    return LCKV_OK;
}

static int members_of(const sequence *leader) {
    int members = 1;
    for (const sequence *s = leader->follows; s; s = s->follows) members++;
    return members;
}

int batcher_add(batcher *b, sequence *leader) {
    int members = members_of(leader);
    REQUIRE(members <= b->options.sequences && kv_cache_can_hold(b->cache, members, leader->most, leader->prompt_count),
            LCKV_ERROR_TOO_LONG, "%d sequences of %lld tokens are more than the whole KV cache holds", members,
            (long long)leader->most);
    TRY(reserve_queue(b, b->queued + members));
    for (sequence *s = leader; s; s = s->follows) {
        s->leader = s == leader ? NULL : leader;
        s->serial = ++b->serials;
        s->cached = s->found = 0;
        s->due = 0;
        s->cache_id = -1;
        s->token = -1;
        s->finish = LCKV_FINISH_NONE;
        b->queue[b->queued++] = s;
    }
    return LCKV_OK;
}

static void leave_cache(batcher *b, sequence *s) {
    if (s->cache_id >= 0) kv_cache_remove(b->cache, s->cache_id);
    s->cache_id = -1;
}

/* Its pages may be given away at once: what a step under way writes there comes before what any later one does. */
static void remove_at(batcher *b, int at) {
    leave_cache(b, b->queue[at]);
    for (int64_t n = b->ended; n < b->begun; n++) batcher_call_forget(&b->calls[n % 2], b->queue[at]);
    if (at < b->running) b->running--;
    b->queued--;
    memmove(b->queue + at, b->queue + at + 1, (size_t)(b->queued - at) * sizeof *b->queue);
}

void batcher_remove(batcher *b, sequence *s) {
    for (int i = 0; i < b->queued; i++) {
        if (b->queue[i] != s) continue;
        remove_at(b, i);
        while (i < b->queued && b->queue[i]->leader == s && sequence_follows(b->queue[i])) remove_at(b, i);
        return;
    }
}

bool batcher_idle(const batcher *b) {
    return b->queued == 0;
}

/* A prompt shares what it begins with where neither the plan nor RoPE goes by its whole length. */
static bool shares_prefixes(const batcher *b, const sequence *s) {
    return b->prefixes && s->encoding != LCKV_ENCODING_PLAN &&
           config_length_class(b->model->config, s->prompt_count) == 0;
}

/* What others have read of a prompt. Whoever asks for its log-probabilities reads all of it. */
static int begin_with_prefix(batcher *b, sequence *s) {
    int kept;
    if (!shares_prefixes(b, s) || s->prompt_logprobs) return LCKV_OK;
    s->found = s->cached = prefixes_find(b->prefixes, s->ids, s->prompt_count, s->encoding, &kept, &s->kept);
    return kept < 0 ? LCKV_OK : kv_cache_copy(b->cache, kept, s->cache_id);
}

/* Whether all that belong to the first that waits begin; if so they run. */
static int admit_first(batcher *b, bool *begin) {
    sequence *leader = b->queue[b->running];
    *begin = b->running + members_of(leader) <= b->options.sequences;
    int begun = 0, status = LCKV_OK;
    for (sequence *s = leader; s && *begin && status >= 0; s = s->follows, begun++) {
        status = kv_cache_add(b->cache, &s->cache_id);
        if (status >= 0 && s == leader) status = begin_with_prefix(b, s);
        if (status >= 0) *begin = kv_cache_reserve(b->cache, s->cache_id, s->most, s == leader ? 0 : s->prompt_count);
    }
    if (*begin && status >= 0) {
        b->running += begun;
        return LCKV_OK;
    }
    for (sequence *s = leader; s; s = s->follows) leave_cache(b, s);
    leader->cached = leader->found = 0;
    return status;
}

/* In order: one that has room does not pass one that has not. */
static int admit(batcher *b) {
    bool begin = true;
    while (begin && b->running < b->queued) TRY(admit_first(b, &begin));
    return LCKV_OK;
}

/* Without loops it matters to nothing but rounding where a prompt is cut, and long pieces keep matrix products busy. A
 * cache that cannot go back has to be met at the end of each piece, where prefixes are kept. */
static bool pieces_join(const batcher *b) {
    return b->model->config->map.loops == 0 && !b->options.batch_invariant && kv_cache_goes_back(b->cache);
}

/* Rows of the next call for `s`, of which `room` more are wanted in this step: a piece, or as many as there is room
 * for. */
static int64_t next_rows(const batcher *b, const sequence *s, int64_t room) {
    const encoding_rules rules = {b->options.piece_tokens, b->options.window_length};
    int64_t rows = encoding_next(b->model, s->encoding, &rules, s->prompt_count, s->cached), more;
    while (rows > 1 && pieces_join(b) && s->cached + rows < s->prompt_count) {
        more = encoding_next(b->model, s->encoding, &rules, s->prompt_count, s->cached + rows);
        if (more == 1 || rows + more > room) break;
        rows += more;
    }
    return rows;
}

/* How many runs a piece gets is its own affair, so that it goes without other pieces. */
static bool decides_by_itself(const batcher *b) {
    return b->options.encoding_tolerance > 0 && b->model->config->map.loops > 0;
}

/* It waits for another that reads its prompt, or for the results of steps under way that it ends with. */
static bool rests(const sequence *s) {
    return sequence_follows(s) || s->cached == sequence_length(s) || (s->due && sequence_length(s) >= s->most);
}

/* Who goes in this step: single tokens always; pieces of prompts in their order, one at least, as long as there is
 * room. Tokens that decode take none of it: were they more than it, prompts would enter one by one. A piece that has to
 * wait is not passed by those behind it. */
static void choose_rows(batcher *b) {
    int64_t room = b->options.step_tokens;
    bool first = true, full = false;
    for (int i = 0; i < b->running; i++) {
        sequence *s = b->queue[i];
        s->fresh = s->planned = false;
        s->scored_count = 0;
        s->rows = !rests(s) && next_rows(b, s, 0) == 1;
    }
    for (int i = 0; i < b->running && !full; i++) {
        sequence *s = b->queue[i];
        if (s->rows || rests(s)) continue;
        int64_t rows = next_rows(b, s, room);
        full = !first && rows > room;
        if (full) continue;
        first = false;
        room = decides_by_itself(b) ? 0 : room - rows;
        s->rows = (int32_t)rows;
        s->planned = b->model->config->map.loops > 0;
    }
}

static bool is_eos(const model_config *c, int32_t id) {
    for (int i = 0; i < c->eos_count; i++)
        if (c->eos_token_ids[i] == id) return true;
    return false;
}

static int accept(batcher *b, sequence *s, int32_t id, float logprob) {
    s->due--;
    s->fresh = true;
    s->token = id;
    s->logprob = logprob;
    if (id < 0) {
        s->finish = LCKV_FINISH_ERROR;
        return LCKV_OK;
    }
    TRY(sequence_append(s, id));
    s->how.counter++;
    if (!s->ignore_eos && is_eos(b->model->config, id))
        s->finish = LCKV_FINISH_STOP;
    else if (s->count >= s->most)
        s->finish = LCKV_FINISH_LENGTH;
    return LCKV_OK;
}

/* It was only to be read. */
static void end_without_token(sequence *s) {
    s->fresh = true;
    s->token = -1;
    s->finish = LCKV_FINISH_LENGTH;
}

/* Its rows are in the cache now: for those that follow it, and for prompts to come. */
static int advance(batcher *b, sequence *s) {
    int64_t before = s->cached, piece = b->options.piece_tokens;
    s->cached += s->rows;
    if (before >= s->prompt_count) return LCKV_OK;
    if (shares_prefixes(b, s) && before / piece != s->cached / piece)
        TRY(prefixes_keep(b->prefixes, s->ids, s->cached, s->encoding, s->cache_id, &s->kept));
    if (b->prefixes && s->cached >= s->prompt_count) prefixes_touch(b->prefixes, &s->kept);
    for (sequence *f = s->follows; f && s->cached == s->prompt_count; f = f->follows) {
        TRY(kv_cache_copy(b->cache, s->cache_id, f->cache_id));
        f->cached = f->found = s->cached;
    }
    return LCKV_OK;
}

/* Sends a step to the device, unless there is nothing to do before the results of the one under way are known. */
static int begin_step(batcher *b) {
    batcher_call *call = b->call = &b->calls[b->begun % 2];
    bool first = b->begun == b->ended;
    TRY(admit(b));
    choose_rows(b);
    batcher_call_fill(b);
    if (!call->count || (!first && !batcher_call_goes_ahead(b))) return LCKV_OK;
    int status = batcher_call_send(b);
    int reset = graph_reset(b->graph);
    TRY(status);
    TRY(reset);
    b->begun++;
    for (int i = 0; i < call->wanted; i++) call->chooser[i]->due++, call->chooser[i]->place = i;
    for (int i = 0; i < call->count; i++) TRY(advance(b, call->owner[i]));
    return LCKV_OK;
}

static int accept_all(batcher *b, batcher_call *call) {
    for (int i = 0; i < call->stepped_count; i++) {
        sequence *s = call->stepped[i];
        if (!s->due && s->cached == s->count && s->count >= s->most) end_without_token(s);
    }
    for (int i = 0; i < call->wanted; i++)
        if (call->chooser[i]) TRY(accept(b, call->chooser[i], call->ids[i], call->logprobs[i]));
    for (int i = b->running - 1; i >= 0; i--)
        if (b->queue[i]->finish != LCKV_FINISH_NONE) remove_at(b, i);
    return LCKV_OK;
}

static void count_time(batcher *b, const batcher_call *call, double seconds) {
    batcher_timing *t = &b->timing;
    t->prompt_tokens += call->prompt_rows;
    if (call->prompt_rows) {
        t->prompt_seconds += seconds;
        return;
    }
    t->decode_seconds += seconds;
    t->decode_tokens += call->wanted;
    t->decode_bytes += b->weight_bytes;
}

static int end_step(batcher *b) {
    batcher_call *call = &b->calls[b->ended++ % 2];
    b->done = call;
    TRY(batcher_call_receive(b, call));
    return accept_all(b, call);
}

int batcher_step(batcher *b) {
    double start = clock_seconds();
    int status = LCKV_OK;
    b->done = NULL;
    if (b->begun == b->ended) TRY(begin_step(b));
    if (b->begun == b->ended) return LCKV_OK;
    bool alone = !b->ahead || decides_by_itself(b) || batcher_call_waits(&b->calls[b->ended % 2]);
    if (!alone && b->begun == b->ended + 1) status = begin_step(b);
    bool sent = b->begun == b->ended + 2; /* else it is tried again when its turn has come */
    TRY(end_step(b));
    count_time(b, b->done, clock_seconds() - start);
    return sent ? status : LCKV_OK;
}

batcher_timing batcher_times(const batcher *b) {
    return b->timing;
}

int64_t batcher_cache_bytes(const batcher *b) {
    return (int64_t)kv_cache_bytes(b->cache);
}

kv_cache_usage batcher_cache_usage(const batcher *b) {
    return kv_cache_used(b->cache);
}

int64_t batcher_cache_used_by_slot(const batcher *b, int slot) {
    return kv_cache_used_by_slot(b->cache, slot);
}

int batcher_running(const batcher *b) {
    return b->running;
}

int batcher_waiting(const batcher *b) {
    return b->queued - b->running;
}

sequence *const *batcher_stepped(const batcher *b, int *count) {
    *count = b->done ? b->done->stepped_count : 0;
    return b->done ? b->done->stepped : NULL;
}
