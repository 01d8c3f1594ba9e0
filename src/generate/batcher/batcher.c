/* Continuous batching, see batcher.h: the rows of each step, and results. batcher_forms.c starts sequences,
 * batcher_call.c runs the step. */
#include "generate/batcher/batcher_call.h"

#include "base/clock.h"
#include "generate/batcher/prefill.h"

#include <stdlib.h>
#include <string.h>

/* Large enough for efficient matrix products, and a bound for activations. */
enum { STEP_TOKENS = 2048, GPU_STEP_TOKENS = 8192 };

/* A step reads all weights except the embedding, of which it reads one row per token, unless it is tied to the head. */
static double count_weight_bytes(const params *p) {
    double bytes = p->head == p->embed ? 0 : -(double)view_all_bytes(p->embed->value);
    for (int i = 0; i < p->count; i++) bytes += (double)view_all_bytes(p->table[i].tensor.value);
    return bytes;
}

static int64_t smallest_of(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static bool is_gpu(const model *m) {
    return m->device->recording.begin != NULL;
}

/* Number of the smallest chunks that fill the KV cache if each has its own pages. */
static int max_prefixes(const batcher *b, const kv_cache_options *cache) {
    enum { MAX_CHUNKS = 8192 };
    kv_cache_need chunk;
    int64_t tokens = smallest_of(PREFILL_SMALLEST_CHUNK, b->options.chunk_tokens);
    if (kv_cache_bytes_for(b->model, cache, 1, tokens, &chunk) < 0) return 0;
    double chunks = (double)b->options.cache_bytes / chunk.reserved + 1;
    return chunks < MAX_CHUNKS ? (int)chunks : MAX_CHUNKS;
}

/* Without loops, splits change only the rounding, and long chunks make matrix products efficient. A KV cache that
 * cannot be truncated has to stop at the end of each chunk that the prefix cache stores. */
static bool can_merge_chunks(const batcher *b) {
    bool can_store = !b->options.keep_prefixes || kv_cache_can_truncate(b->cache);
    return b->model->config->map.loops == 0 && !b->options.batch_invariant && can_store;
}

/* Chunks that are merged are all small: prompts then share more of them. */
static chunk_rules choose_chunks(const batcher *b) {
    const batcher_options *o = &b->options;
    int64_t smallest = smallest_of(PREFILL_SMALLEST_CHUNK, o->chunk_tokens), largest = smallest;
    if (!can_merge_chunks(b) && o->step_tokens > smallest) largest = smallest_of(o->chunk_tokens, o->step_tokens);
    return (chunk_rules){smallest, largest, o->window_length, .keeps_rest = is_gpu(b->model)};
}

/* As many rows as fit into MAX_BYTES, at least one. */
static int make_top_logits(batcher *b) {
    enum { MAX_BYTES = 4 << 20 };
    size_t row = (size_t)b->model->config->vocab_size * sizeof *b->top_logits;
    size_t rows = MAX_BYTES / row, most = (size_t)b->options.sequences;
    b->top_rows = rows < 1 ? 1 : rows < most ? (int)rows : (int)most;
    b->top_logits = malloc((size_t)b->top_rows * row);
    REQUIRE(b->top_logits, LCKV_ERROR_MEMORY, "no memory for %d rows of logits", b->top_rows);
    return LCKV_OK;
}

static int make_batch(const batcher *b, batch **out) {
    const batcher_options *o = &b->options;
    TRY(batch_create(b->model->device, (batch_limits){.rows = 1, .sequences = o->sequences}, out));
    (*out)->plan = &b->plan;
    (*out)->tolerance = o->encoding_tolerance;
    (*out)->previous = sampler_ids(b->sampler);
    (*out)->fills = true;
    (*out)->prompt_room = (int32_t)(o->step_tokens < INT32_MAX ? o->step_tokens : INT32_MAX);
    return LCKV_OK;
}

static int build(batcher *b) {
    const model *m = b->model;
    const batcher_options *o = &b->options;
    REQUIRE(!o->batch_invariant || m->device->has_invariant_rows, LCKV_ERROR_UNSUPPORTED,
            "batch_invariant: %s has no matrix products that are independent of the other rows of a batch",
            m->device->name);
    kv_cache_options cache = kv_cache_defaults();
    cache.sequences = o->sequences;
    cache.rows = o->rows;
    cache.max_bytes = o->cache_bytes;
    cache.type = kv_cache_type_for(o->compute, o->kv_type);
    cache.window_length = o->window_length;
    cache.sinks = o->sinks;
    if (o->keep_prefixes) cache.snapshots = max_prefixes(b, &cache);
    for (int i = 0; i < 2; i++) TRY(batcher_call_make(&b->calls[i], o->sequences));
    b->call = &b->calls[0];
    b->overlap = o->overlap ? o->overlap > 0 : is_gpu(m);
    TRY(make_top_logits(b));
    /* padding rows of a step are at most one in nine */
    TRY(sampler_create(m->device, m->config->vocab_size, o->sequences + o->sequences / 8 + 1, &b->sampler));
    TRY(graph_create(m->device, o->compute, false, &b->graph));
    TRY(kv_cache_create(m, &cache, &b->cache));
    b->chunks = choose_chunks(b);
    if (cache.snapshots) TRY(prefix_cache_create(b->cache, &b->chunks, cache.snapshots, &b->prefix_cache));
    int iterations = o->encoding_iterations ? o->encoding_iterations : model_default_iterations(m);
    TRY(plan_make(&m->config->map, iterations - 1, 1, &b->plan));
    for (int i = 0; i < 2; i++) TRY(make_batch(b, &b->batches[i]));
    b->batch = b->batches[0];
    return LCKV_OK;
}

int batcher_create(const model *m, const batcher_options *options, batcher **out) {
    *out = NULL;
    batcher *b = calloc(1, sizeof *b);
    REQUIRE(b, LCKV_ERROR_MEMORY, "no memory for a batcher");
    b->model = m;
    b->options = *options;
    if (!b->options.step_tokens) b->options.step_tokens = is_gpu(m) ? GPU_STEP_TOKENS : STEP_TOKENS;
    if (!b->options.chunk_tokens) b->options.chunk_tokens = is_gpu(m) ? PREFILL_GPU_CHUNK_TOKENS : PREFILL_CHUNK_TOKENS;
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
    b->model->device->memory.wait(b->model->device); /* steps may be running, and their calls may receive results */
    replay_set_forget(&b->decoding, b->model->device);
    replay_set_forget(&b->prefill, b->model->device);
    sampler_free(b->sampler);
    for (int i = 0; i < 2; i++) batch_free(b->batches[i]);
    prefix_cache_free(b->prefix_cache);
    plan_free(&b->plan);
    kv_cache_free(b->cache);
    graph_free(b->graph);
    view *views[] = {&b->index, &b->labels, &b->nll, &b->best, &b->one};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        b->model->device->memory.release(b->model->device, views[i]->data);
    for (int i = 0; i < 2; i++) batcher_call_free(&b->calls[i]);
    free(b->top_logits);
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

int batcher_add(batcher *b, sequence *leader) {
    int members = batcher_group_size(leader);
    REQUIRE(members <= b->options.sequences &&
                kv_cache_can_hold(b->cache, members, leader->max_count, leader->prompt_count),
            LCKV_ERROR_TOO_LONG, "%d sequence%s of %lld tokens %s more than the whole KV cache holds", members,
            plural(members), (long long)leader->max_count, is_or_are(members));
    TRY(reserve_queue(b, b->queued + members));
    for (sequence *s = leader; s; s = s->next_sample) {
        s->leader = s == leader ? NULL : leader;
        s->serial = ++b->serials;
        s->cached = s->prefix_tokens = 0;
        s->pending = 0;
        s->cache_id = -1;
        s->token = -1;
        s->finish = LCKV_FINISH_NONE;
        s->form = batcher_fixed_form(b, s);
        b->queue[b->queued++] = s;
    }
    return LCKV_OK;
}

static void release_cache(batcher *b, sequence *s) {
    if (s->cache_id >= 0) kv_cache_remove(b->cache, s->cache_id);
    s->cache_id = -1;
}

/* Its pages can be reused at once: the device runs steps in order, so what a running step writes there is overwritten
 * by later ones. */
static void remove_at(batcher *b, int at) {
    release_cache(b, b->queue[at]);
    for (int64_t n = b->finished; n < b->launched; n++) batcher_call_drop_sequence(&b->calls[n % 2], b->queue[at]);
    if (at < b->running) b->running--;
    b->queued--;
    memmove(b->queue + at, b->queue + at + 1, (size_t)(b->queued - at) * sizeof *b->queue);
}

void batcher_remove(batcher *b, sequence *s) {
    for (int i = 0; i < b->queued; i++) {
        if (b->queue[i] != s) continue;
        remove_at(b, i);
        while (i < b->queued && b->queue[i]->leader == s && sequence_waits_for_leader(b->queue[i])) remove_at(b, i);
        return;
    }
}

bool batcher_idle(const batcher *b) {
    return b->queued == 0;
}

/* Starts the first waiting sequence and its samples if there is room for all of them. *begin: whether they started. */
static int admit_first(batcher *b, bool *begin) {
    sequence *leader = b->queue[b->running];
    int members = batcher_group_size(leader);
    *begin = b->running + members <= b->options.sequences;
    if (*begin && leader->form == LCKV_ENCODING_AUTO) TRY(batcher_choose_forms(b));
    if (*begin) TRY(batcher_start_group(b, leader, true, begin));
    if (*begin) b->running += members;
    return LCKV_OK;
}

/* First come, first served: a small sequence does not overtake a large one that waits for room. */
static int admit(batcher *b) {
    bool begin = true;
    while (begin && b->running < b->queued) TRY(admit_first(b, &begin));
    return LCKV_OK;
}

/* Number of tokens of `s` for the next call: a chunk, or several merged chunks of at most `room` tokens. */
static int64_t next_rows(const batcher *b, const sequence *s, int64_t room) {
    lckv_encoding encoding = sequence_encoding(s);
    int64_t rows = prefill_next_rows(b->model, encoding, &b->chunks, s->prompt_count, s->cached), more;
    while (rows > 1 && can_merge_chunks(b) && s->cached + rows < s->prompt_count) {
        more = prefill_next_rows(b->model, encoding, &b->chunks, s->prompt_count, s->cached + rows);
        if (more == 1 || rows + more > room) break;
        rows += more;
    }
    return rows;
}

/* With a tolerance, the number of iterations must not depend on other chunks, so a chunk runs without them. */
static bool has_tolerance(const batcher *b) {
    return b->options.encoding_tolerance > 0 && b->model->config->map.loops > 0;
}

/* Waits for its leader to read the prompt, or for the results of a running step. */
static bool is_blocked(const sequence *s) {
    return sequence_waits_for_leader(s) || s->cached == sequence_length(s) ||
           (s->pending && sequence_length(s) >= s->max_count);
}

/* Chooses the rows of this step: all single tokens, and prefill chunks in order of arrival, at least one, as long as
 * the budget of step_tokens lasts. Decode tokens do not count: if there were more of them than the budget, prompts
 * would be read one by one. A chunk that has to wait is not overtaken by later ones. */
static void choose_rows(batcher *b) {
    int64_t room = b->options.step_tokens;
    bool first = true, full = false;
    for (int i = 0; i < b->running; i++) {
        sequence *s = b->queue[i];
        s->updated = s->planned = false;
        s->rows = !is_blocked(s) && next_rows(b, s, 0) == 1;
    }
    for (int i = 0; i < b->running && !full; i++) {
        sequence *s = b->queue[i];
        if (s->rows || is_blocked(s)) continue;
        int64_t rows = next_rows(b, s, room);
        full = !first && rows > room;
        if (full) continue;
        first = false;
        room = has_tolerance(b) ? 0 : room - rows;
        s->rows = (int32_t)rows;
        s->planned = b->model->config->map.loops > 0;
    }
}

static bool is_eos(const model_config *c, int32_t id) {
    for (int i = 0; i < c->eos_count; i++)
        if (c->eos_token_ids[i] == id) return true;
    return false;
}

static int accept_token(batcher *b, sequence *s, int32_t id, float logprob) {
    s->pending--;
    s->updated = true;
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
    else if (s->count >= s->max_count)
        s->finish = LCKV_FINISH_LENGTH;
    return LCKV_OK;
}

/* Its prompt has been read and no token was requested. */
static void end_without_token(sequence *s) {
    s->updated = true;
    s->token = -1;
    s->finish = LCKV_FINISH_LENGTH;
}

/* Stores what a sequence has read since token `before` in the prefix cache. */
static int keep_prefix(batcher *b, sequence *s, int64_t before) {
    int64_t chunk = b->chunks.smallest;
    bool exact = s->form == LCKV_ENCODING_SEQUENTIAL, whole = s->cached >= s->prompt_count;
    prefix_prompt prompt = {s->ids, s->cached, s->prompt_count};
    if (!batcher_can_share_prefix(b, s)) return LCKV_OK;
    if (exact && whole) return prefix_cache_insert_exact(b->prefix_cache, prompt, s->cache_id, &s->prefix);
    if (before / chunk == s->cached / chunk) return LCKV_OK; /* no node ends there */
    return prefix_cache_insert(b->prefix_cache, prompt, exact, s->cache_id, &s->prefix);
}

/* Counts its rows as cached, and copies the KV of a complete prompt to the samples that wait for it. */
static int advance_sequence(batcher *b, sequence *s) {
    int64_t before = s->cached;
    s->cached += s->rows;
    if (before >= s->prompt_count) return LCKV_OK;
    TRY(keep_prefix(b, s, before));
    if (b->prefix_cache && s->cached >= s->prompt_count) prefix_cache_touch(b->prefix_cache, &s->prefix);
    for (sequence *f = s->next_sample; f && s->cached == s->prompt_count; f = f->next_sample) {
        TRY(kv_cache_copy(b->cache, s->cache_id, f->cache_id));
        f->cached = f->prefix_tokens = s->cached;
    }
    return LCKV_OK;
}

/* Launches a step, unless there is no work or the results of the running step are needed first. */
static int launch_step(batcher *b) {
    batcher_call *call = b->call = &b->calls[b->launched % 2];
    bool first = b->launched == b->finished;
    TRY(admit(b));
    choose_rows(b);
    batcher_call_fill(b);
    if (!call->count || (!first && !batcher_call_can_overlap(b))) return LCKV_OK;
    int status = batcher_call_send(b);
    int reset = graph_reset(b->graph);
    TRY(status);
    TRY(reset);
    b->launched++;
    for (int i = 0; i < call->wanted; i++) call->chooser[i]->pending++, call->chooser[i]->pending_row = i;
    for (int i = 0; i < call->count; i++) TRY(advance_sequence(b, call->owner[i]));
    return LCKV_OK;
}

/* Whether the call that runs while the results of the one before are accepted has rows of s. */
static bool is_running(const batcher *b, const sequence *s) {
    const batcher_call *next = &b->calls[b->finished % 2];
    if (b->launched == b->finished) return false;
    for (int i = 0; i < next->stepped_count; i++)
        if (next->stepped[i] == s) return true;
    return false;
}

/* A prompt that is only read ends with the results of its last rows. */
static int accept_results(batcher *b, batcher_call *call) {
    for (int i = 0; i < call->stepped_count; i++) {
        sequence *s = call->stepped[i];
        s->scored_count = 0;
        bool ends = !s->pending && s->cached == s->count && s->count >= s->max_count;
        if (ends && !is_running(b, s)) end_without_token(s);
    }
    TRY(batcher_call_take_scores(call));
    for (int i = 0; i < call->wanted; i++)
        if (call->chooser[i]) TRY(accept_token(b, call->chooser[i], call->ids[i], call->logprobs[i]));
    for (int i = b->running - 1; i >= 0; i--)
        if (b->queue[i]->finish != LCKV_FINISH_NONE) remove_at(b, i);
    return LCKV_OK;
}

static void count_time(batcher *b, const batcher_call *call, double seconds) {
    batcher_timing *t = &b->timing;
    t->prompt_tokens += call->prompt_rows;
    t->exact_tokens += call->exact_rows;
    if (call->prompt_rows) {
        t->prompt_seconds += seconds;
        return;
    }
    t->decode_seconds += seconds;
    t->decode_tokens += call->wanted;
    t->decode_bytes += b->weight_bytes;
}

static int finish_step(batcher *b) {
    batcher_call *call = &b->calls[b->finished++ % 2];
    b->last = call;
    if (batcher_call_has_results(call)) TRY(batcher_call_receive(b, call));
    return accept_results(b, call);
}

int batcher_step(batcher *b) {
    double start = clock_seconds();
    int status = LCKV_OK;
    b->last = NULL;
    if (b->launched == b->finished) TRY(launch_step(b));
    if (b->launched == b->finished) return LCKV_OK;
    bool alone = !b->overlap || has_tolerance(b) || batcher_call_is_blocking(&b->calls[b->finished % 2]);
    if (!alone && b->launched == b->finished + 1) status = launch_step(b);
    bool sent = b->launched == b->finished + 2; /* otherwise it is tried again in the next call */
    TRY(finish_step(b));
    count_time(b, b->last, clock_seconds() - start);
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
    *count = b->last ? b->last->stepped_count : 0;
    return b->last ? b->last->stepped : NULL;
}
