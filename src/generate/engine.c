/* The engine of lckv.h: takes requests and delivers events. batcher.h schedules them. An engine has no threads of its
 * own and is used by one thread. */
#include "generate/engine.h"
#include "base/options.h"

#include "generate/batcher/batcher.h"
#include "generate/batcher/prefill.h"
#include "generate/sampling_parameters.h"
#include "model/ranks/rank_group.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lckv_engine {
    model *model;
    lckv_tokenizer *tokenizer; /* may be NULL */
    lckv_engine_options options;
    char *cost_table;      /* copy of the option; NULL: none */
    dtype kv_type;         /* of the KV cache */
    int64_t max_model_len; /* effective limit */
    batcher *batcher;
    request **requests; /* [count] that have not ended, in ascending order of ids */
    int count, capacity;
    uint64_t submitted, finished, cancelled;
    int64_t steps;
};

void lckv_engine_options_init(lckv_engine_options *options, size_t struct_size) {
    const lckv_engine_options defaults = {.max_queue = 1024};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

#define DEFAULT(name, KIND, in_request, ...) .name = in_request,

void lckv_request_init(lckv_request *options, size_t struct_size) {
    const lckv_request defaults = {
        .n = 1, .max_new_tokens = -1, SAMPLING_PARAMETERS(DEFAULT) PENALTY_PARAMETERS(DEFAULT)};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* ---------------------------------------------------------------- creating */

int engine_check_tokenizer(const model *m, const lckv_tokenizer *tokenizer) {
    int32_t tokens = tokenizer ? lckv_tokenizer_vocab_size(tokenizer) : 0;
    REQUIRE(tokens <= m->config->vocab_size, LCKV_ERROR_ARGUMENT,
            "the tokenizer has %d tokens, the model %lld: the tokenizer does not belong to this model", (int)tokens,
            (long long)m->config->vocab_size);
    return LCKV_OK;
}

static int check_options(const lckv_engine_options *o, const model *m) {
    int64_t positions = m->config->positions;
    REQUIRE(o->max_num_seqs >= 0 && o->max_num_seqs <= 1 << 20, LCKV_ERROR_ARGUMENT,
            "max_num_seqs: expected 0 (automatic) to %d, found %d", 1 << 20, o->max_num_seqs);
    REQUIRE(o->max_model_len >= 0, LCKV_ERROR_ARGUMENT, "max_model_len should be 0 (the model's) or more, found %lld",
            (long long)o->max_model_len);
    REQUIRE(o->window_length || o->max_model_len <= positions, LCKV_ERROR_ARGUMENT,
            "max_model_len is %lld, but the model has %lld positions (max_position_embeddings)",
            (long long)o->max_model_len, (long long)positions);
    REQUIRE(o->kv_cache_memory >= 0, LCKV_ERROR_ARGUMENT, "kv_cache_memory should be 0 (automatic) or more, found %lld",
            (long long)o->kv_cache_memory);
    REQUIRE(o->max_num_batched_tokens >= 0, LCKV_ERROR_ARGUMENT,
            "max_num_batched_tokens: expected 0 (automatic) or more, found %lld", (long long)o->max_num_batched_tokens);
    REQUIRE(o->prefill_chunk_size >= 0, LCKV_ERROR_ARGUMENT,
            "prefill_chunk_size: expected 0 (automatic) or more, found %lld", (long long)o->prefill_chunk_size);
    TRY(prefill_check(o->encoding_iterations, o->encoding_tolerance));
    REQUIRE(o->max_time_to_first_token >= 0 && o->max_time_between_tokens >= 0, LCKV_ERROR_ARGUMENT,
            "max_time_to_first_token and max_time_between_tokens should be 0 or more, found %g and %g",
            o->max_time_to_first_token, o->max_time_between_tokens);
    REQUIRE(o->max_queue >= 1, LCKV_ERROR_ARGUMENT, "max_queue should be at least 1, found %d", o->max_queue);
    return LCKV_OK;
}

static kv_cache_options cache_options(const lckv_engine *e) {
    kv_cache_options cache = kv_cache_defaults();
    cache.sequences = e->options.max_num_seqs;
    cache.type = e->kv_type;
    cache.window_length = e->options.window_length;
    cache.sinks = e->options.window_length ? e->options.num_sink_tokens : 0;
    return cache;
}

/* Default size of the KV cache, in bytes. */
static int default_memory(const lckv_engine *e, double *bytes) {
    kv_cache_options cache = cache_options(e);
    kv_cache_need need;
    size_t available;
    TRY(kv_cache_bytes_for(e->model, &cache, cache.sequences, e->max_model_len, &need));
    TRY(rank_group_available(e->model, &available));
    *bytes = need.reserved < (double)available / 2 ? need.reserved : (double)available / 2;
    return LCKV_OK;
}

/* Length of the longest sample that fits into `bytes`, at most `limit`. */
static int longest_sample(const lckv_engine *e, double bytes, int64_t limit, int64_t *length) {
    kv_cache_options cache = cache_options(e);
    int64_t fits = 0, fits_not = limit + 1;
    while (fits_not - fits > 1) {
        int64_t middle = fits + (fits_not - fits) / 2;
        kv_cache_need need;
        TRY(kv_cache_bytes_for(e->model, &cache, 1, middle, &need));
        if (need.reserved <= bytes)
            fits = middle;
        else
            fits_not = middle;
    }
    *length = fits;
    return LCKV_OK;
}

/* Default number of running samples: on a GPU as many as half of the free memory holds, up to the number above which
 * steps gain no throughput. A CPU gains little above MIN_SEQUENCES. */
static int choose_sequences(lckv_engine *e) {
    enum { MIN_SEQUENCES = 128, MAX_SEQUENCES = 1024 };
    kv_cache_options cache = cache_options(e);
    kv_cache_need each;
    size_t available;
    device *d = e->model->device;
    if (e->options.max_num_seqs) return LCKV_OK;
    e->options.max_num_seqs = MIN_SEQUENCES;
    if (d->host_memory || d->counts_only) return LCKV_OK;
    cache.sequences = 1;
    TRY(kv_cache_bytes_for(e->model, &cache, 1, e->max_model_len, &each));
    TRY(rank_group_available(e->model, &available));
    double fits = (double)available / 2 / each.reserved;
    e->options.max_num_seqs = fits < MIN_SEQUENCES ? MIN_SEQUENCES : fits < MAX_SEQUENCES ? (int)fits : MAX_SEQUENCES;
    return LCKV_OK;
}

static int choose_memory(lckv_engine *e, size_t *bytes) {
    const lckv_engine_options *o = &e->options;
    double memory = (double)o->kv_cache_memory;
    int64_t positions = o->window_length ? INT32_MAX / 2 : e->model->config->positions, fits;
    e->max_model_len = o->max_model_len && o->max_model_len < positions ? o->max_model_len : positions;
    TRY(choose_sequences(e));
    if (!o->kv_cache_memory) TRY(default_memory(e, &memory));
    TRY(longest_sample(e, memory, e->max_model_len, &fits));
    REQUIRE(fits >= (o->max_model_len ? e->max_model_len : 2), LCKV_ERROR_MEMORY,
            "a KV cache of %.0f bytes holds samples of at most %lld tokens, but max_model_len is %lld", memory,
            (long long)fits, (long long)e->max_model_len);
    e->max_model_len = o->window_length ? INT64_MAX : fits;
    *bytes = (size_t)memory;
    return LCKV_OK;
}

static int create(lckv_engine *e) {
    const lckv_engine_options *o = &e->options;
    dtype compute = o->bf16 ? DTYPE_BF16 : DTYPE_F32;
    batcher_options b = {.compute = compute,
                         .window_length = o->window_length,
                         .sinks = o->window_length ? o->num_sink_tokens : 0,

                         .step_tokens = o->max_num_batched_tokens,
                         .chunk_tokens = o->prefill_chunk_size,
                         .encoding_iterations = o->encoding_iterations,
                         .encoding_tolerance = o->encoding_tolerance,
                         .batch_invariant = o->batch_invariant,
                         .keep_prefixes = true,
                         .choose = true,
                         .first_token_seconds = o->max_time_to_first_token,
                         .between_tokens_seconds = o->max_time_between_tokens};
    TRY(check_options(o, e->model));
    TRY(engine_check_tokenizer(e->model, e->tokenizer));
    TRY(kv_cache_choose_type(e->model->device, compute, o->kv_dtype, &e->kv_type));
    TRY(choose_memory(e, &b.cache_bytes));
    b.kv_type = e->kv_type;
    b.sequences = o->max_num_seqs;
    if (o->cost_table) {
        b.cost_table = e->cost_table = strdup(o->cost_table);
        REQUIRE(e->cost_table, LCKV_ERROR_MEMORY, "no memory for a path");
    }
    return batcher_create(e->model, &b, &e->batcher);
}

int lckv_engine_create(lckv_model *m, lckv_tokenizer *tokenizer, const lckv_engine_options *options,
                       lckv_engine **out) {
    *out = NULL;
    lckv_engine *e = calloc(1, sizeof *e);
    REQUIRE(e, LCKV_ERROR_MEMORY, "no memory for an engine");
    e->model = m;
    e->tokenizer = tokenizer;
    int status = OPTIONS_TAKE(&e->options, options, lckv_engine_defaults);
    if (status >= 0) status = create(e);
    if (status < 0)
        lckv_engine_free(e);
    else
        *out = e;
    return status;
}

void lckv_engine_free(lckv_engine *e) {
    if (!e) return;
    batcher_free(e->batcher);
    for (int i = 0; i < e->count; i++) request_free(e->requests[i]);
    free(e->requests);
    free(e->cost_table);
    free(e);
}

/* ---------------------------------------------------------------- requests */

/* Index of the request with this id, or of the first with a larger id. */
static int find(const lckv_engine *e, uint64_t id) {
    int low = 0, high = e->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (e->requests[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const request *engine_request(const lckv_engine *e, uint64_t id) {
    int at = find(e, id);
    return at < e->count && e->requests[at]->id == id ? e->requests[at] : NULL;
}

static void remove_request(lckv_engine *e, int at) {
    request_free(e->requests[at]);
    e->count--;
    memmove(e->requests + at, e->requests + at + 1, (size_t)(e->count - at) * sizeof *e->requests);
}

static bool is_waiting(const request *r) {
    return r->left == r->n && r->samples[0].sequence->cache_id < 0;
}

/* Waiting requests are at the end. */
static int count_waiting(const lckv_engine *e) {
    int waiting = 0;
    while (waiting < e->count && is_waiting(e->requests[e->count - 1 - waiting])) waiting++;
    return waiting;
}

/* Maximum length of a sample, including the prompt. */
static int find_max_count(const lckv_engine *e, const lckv_request *r, int64_t *max_count) {
    int64_t prompt = r->prompt.count, limit = e->max_model_len, left = limit - prompt;
    int64_t new_tokens = r->max_new_tokens == -1 ? 1 : r->max_new_tokens;
    REQUIRE(new_tokens <= left, LCKV_ERROR_TOO_LONG,
            "a prompt of %lld token%s plus %lld new token%s exceeds the limit of %lld tokens (max_model_len)",
            (long long)prompt, plural(prompt), (long long)new_tokens, plural(new_tokens), (long long)limit);
    *max_count = r->max_new_tokens == -1 ? limit : prompt + new_tokens;
    return LCKV_OK;
}

/* In a model with loops, prompt log-probabilities depend on where the prompt is split. They are those of the unsplit
 * text, as in lckv_score(). Without loops, chunks change nothing and bound the memory. */
static lckv_encoding encoding_of(const lckv_engine *e, const lckv_request *r) {
    bool whole = r->prompt_logprobs && e->model->config->map.loops > 0;
    if (r->encoding != LCKV_ENCODING_AUTO || !whole) return r->encoding;
    return prefill_in_one_call(e->model, r->encoding, r->prompt.count) ? LCKV_ENCODING_PLAN : LCKV_ENCODING_SEQUENTIAL;
}

static int create_request(const lckv_engine *e, const lckv_request *options, int64_t max_count, request **out) {
    lckv_request with_encoding = *options;
    with_encoding.encoding = encoding_of(e, options);
    return request_create(&with_encoding, e->tokenizer, e->model->config->vocab_size, max_count, out);
}

static int reserve(lckv_engine *e) {
    if (e->count < e->capacity) return LCKV_OK;
    int capacity = e->capacity ? 2 * e->capacity : 16;
    request **requests = realloc(e->requests, (size_t)capacity * sizeof *requests);
    REQUIRE(requests, LCKV_ERROR_MEMORY, "no memory for %d requests", capacity);
    e->requests = requests;
    e->capacity = capacity;
    return LCKV_OK;
}

int lckv_engine_submit(lckv_engine *e, const lckv_request *given, uint64_t *id) {
    lckv_request taken;
    const lckv_request *options = &taken;
    request *r;
    int64_t max_count;
    *id = 0;
    TRY(OPTIONS_TAKE(&taken, given, lckv_request_defaults));
    TRY(request_check(options, e->tokenizer, e->model->config->vocab_size));
    REQUIRE(options->n <= e->options.max_num_seqs, LCKV_ERROR_ARGUMENT,
            "n is %d, but at most %d samples run at the same time (max_num_seqs)", options->n, e->options.max_num_seqs);
    TRY(find_max_count(e, options, &max_count));
    REQUIRE(count_waiting(e) < e->options.max_queue, LCKV_ERROR_BUSY,
            "the queue is full: %d requests are waiting (max_queue)", e->options.max_queue);
    TRY(reserve(e));
    TRY(create_request(e, options, max_count, &r));
    int status = batcher_add(e->batcher, r->samples[0].sequence);
    if (status < 0) {
        request_free(r);
        return status;
    }
    *id = r->id = ++e->submitted;
    e->requests[e->count++] = r;
    return LCKV_OK;
}

void lckv_engine_cancel(lckv_engine *e, uint64_t id) {
    int at = find(e, id);
    if (at == e->count || e->requests[at]->id != id) return;
    request *r = e->requests[at];
    for (int i = 0; i < r->n; i++) batcher_remove(e->batcher, r->samples[i].sequence);
    e->cancelled++;
    remove_request(e, at);
}

/* ---------------------------------------------------------------- steps */

static int add_text(request_sample *s) {
    sequence *q = s->sequence;
    if (!s->request->tokenizer) return LCKV_OK;
    if (q->token >= 0) TRY(text_stream_push(&s->text, q->token));
    if (q->finish != LCKV_FINISH_NONE) TRY(text_stream_finish(&s->text));
    if (s->text.stopped) q->finish = LCKV_FINISH_STOP;
    return LCKV_OK;
}

static void send_event(const lckv_engine *e, request_sample *s) {
    const sequence *q = s->sequence;
    lckv_event event = {.request = s->request->id,
                        .mark = s->request->mark,
                        .sample = (int)(s - s->request->samples),
                        .token = q->token,
                        .logprob = q->token < 0 ? (double)NAN : (double)q->logprob,
                        .text = "",
                        .finish = q->finish,
                        .top = q->top,
                        .top_count = q->token < 0 ? 0 : q->top_logprobs,
                        .new_tokens = q->count - q->prompt_count,
                        .prompt_tokens = q->prompt_count,
                        .cached_tokens = q->prefix_tokens,
                        .encoding = q->form};
    if (s->request->tokenizer) event.text = text_stream_take(&s->text, &event.text_bytes);
    if (e->options.callback) e->options.callback(e->options.user, &event);
}

static void send_prompt_logprobs(const lckv_engine *e, const request_sample *s) {
    const sequence *q = s->sequence;
    for (int32_t i = 0; i < q->scored_count && e->options.callback; i++) {
        const lckv_logprob *scored = q->scored + (int64_t)i * (1 + q->top_logprobs);
        lckv_event event = {.request = s->request->id,
                            .mark = s->request->mark,
                            .of_prompt = true,
                            .token = scored->id,
                            .logprob = (double)scored->logprob,
                            .top = scored + 1,
                            .top_count = q->top_logprobs,
                            .text = "",
                            .prompt_tokens = q->prompt_count,
                            .encoding = q->form};
        e->options.callback(e->options.user, &event);
    }
}

static int handle_token(lckv_engine *e, request_sample *s) {
    request *r = s->request;
    TRY(add_text(s));
    send_event(e, s);
    if (s->sequence->finish == LCKV_FINISH_NONE) return LCKV_OK;
    batcher_remove(e->batcher, s->sequence); /* a stop string ends a sequence that the batcher would continue */
    if (--r->left) return LCKV_OK;
    e->finished++;
    remove_request(e, find(e, r->id));
    return LCKV_OK;
}

int lckv_engine_step(lckv_engine *e) {
    if (batcher_idle(e->batcher)) return LCKV_OK;
    int count;
    TRY(batcher_step(e->batcher));
    e->steps++;
    sequence *const *stepped = batcher_stepped(e->batcher, &count);
    for (int i = 0; i < count; i++) {
        /* handle_token() frees a request with its last sample, which is the last one of it in this list */
        sequence *s = stepped[i];
        send_prompt_logprobs(e, s->owner);
        if (s->updated) TRY(handle_token(e, s->owner));
    }
    return LCKV_OK;
}

bool lckv_engine_idle(const lckv_engine *e) {
    return batcher_idle(e->batcher);
}

int lckv_engine_costs(lckv_engine *e, const lckv_step_cost **costs, int *count) {
    const cost_table *t;
    *costs = NULL;
    *count = 0;
    TRY(batcher_costs(e->batcher, &t));
    *costs = t->steps;
    *count = t->count;
    return LCKV_OK;
}

lckv_engine_stats lckv_engine_describe(const lckv_engine *e) {
    kv_cache_usage cache = batcher_cache_usage(e->batcher);
    batcher_timing t = batcher_times(e->batcher);
    return (lckv_engine_stats){.max_num_seqs = e->options.max_num_seqs,
                               .running = batcher_running(e->batcher),
                               .waiting = batcher_waiting(e->batcher),
                               .max_model_len = e->max_model_len,
                               .submitted = (int64_t)e->submitted,
                               .finished = (int64_t)e->finished,
                               .cancelled = (int64_t)e->cancelled,
                               .kv_pages = cache.pages,
                               .kv_pages_used = cache.used_pages,
                               .kv_pages_shared = cache.shared_pages,
                               .kv_pages_kept = cache.snapshot_pages,
                               .kv_bytes = batcher_cache_bytes(e->batcher),
                               .kv_bytes_used = cache.used_bytes,
                               .kv_bytes_plain = cache.plain_bytes,
                               .steps = e->steps,
                               .prompt_tokens = t.prompt_tokens,
                               .decode_tokens = t.decode_tokens,
                               .prompt_seconds = t.prompt_seconds,
                               .decode_seconds = t.decode_seconds,
                               .decode_bytes = t.decode_bytes,
                               .sequential_tokens = t.exact_tokens};
}

void lckv_engine_describe_slots(const lckv_engine *e, lckv_slot_usage *out) {
    const layer_map *map = &e->model->config->map;
    for (int i = 0; i < map->slots; i++)
        out[i] = (lckv_slot_usage){map->slot[i].layer, batcher_cache_used_by_slot(e->batcher, i)};
}
