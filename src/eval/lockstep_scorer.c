/* Pairs in lockstep, see lockstep_scorer.h. */
#include "eval/lockstep_scorer.h"

#include "generate/batcher/batcher.h"
#include "generate/batcher/sampler.h"
#include "generate/costs/encoding_choice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pairs that run together, and the fewest tokens for which costs are compared. */
enum { MAX_SEQUENCES = 1024, HOST_MAX_SEQUENCES = 256, MIN_TOKENS = 4096, PLAN_ROWS = 2048, CHUNK = 64 };

/* A pair that runs. */
typedef struct running_pair {
    sequence *sequence; /* NULL: it has ended */
    const eval_pair *pair;
    eval_answer answer;
    int64_t scored; /* tokens of the continuation so far */
    int rank;       /* number of pairs with the same context before it */
} running_pair;

struct lockstep_scorer {
    const model *model;
    dtype compute, kv_type;
    const char *cost_table;
    batcher *batcher; /* for at most `sequences` pairs of `tokens` ids; NULL: none yet */
    int sequences;
    int64_t tokens;
    running_pair *running; /* [count] of this run, in order of their start */
    int count, ended;
};

int lockstep_scorer_create(const model *m, dtype compute, dtype kv_type, const char *costs, lockstep_scorer **out) {
    lockstep_scorer *s = *out = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for a scorer");
    *s = (lockstep_scorer){.model = m, .compute = compute, .kv_type = kv_type, .cost_table = costs};
    return LCKV_OK;
}

static void free_running(lockstep_scorer *s) {
    for (int i = 0; i < s->count; i++) {
        if (s->running[i].sequence) batcher_remove(s->batcher, s->running[i].sequence);
        sequence_free(s->running[i].sequence);
    }
    free(s->running);
    s->running = NULL;
    s->count = s->ended = 0;
}

void lockstep_scorer_free(lockstep_scorer *s) {
    if (!s) return;
    free_running(s);
    batcher_free(s->batcher);
    free(s);
}

/* ---------------------------------------------------------------- the batcher */

static int max_sequences(const lockstep_scorer *s, int count) {
    int most = s->model->device->host_memory ? HOST_MAX_SEQUENCES : MAX_SEQUENCES;
    return count < most ? count : most;
}

static int64_t longest(const eval_pair *pairs, int count) {
    int64_t tokens = 0;
    for (int i = 0; i < count; i++)
        if (pairs[i].count > tokens) tokens = pairs[i].count;
    return tokens;
}

/* Memory for all sequences, if that is at most half of the free memory; but at least for one. */
static int cache_bytes(const lockstep_scorer *s, int sequences, int64_t tokens, size_t *bytes) {
    kv_cache_options cache = kv_cache_defaults();
    kv_cache_need all, one;
    size_t available, total;
    device *d = s->model->device;
    cache.type = kv_cache_type_for(s->compute, s->kv_type);
    TRY(kv_cache_bytes_for(s->model, &cache, sequences, tokens, &all));
    TRY(kv_cache_bytes_for(s->model, &cache, 1, tokens, &one));
    TRY(d->memory.available(d, &available, &total));
    double wanted = all.reserved < (double)available / 2 ? all.reserved : (double)available / 2;
    *bytes = (size_t)(wanted > one.reserved ? wanted : one.reserved);
    return LCKV_OK;
}

static int make_batcher(lockstep_scorer *s, const eval_pair *pairs, int count) {
    int sequences = max_sequences(s, count);
    int64_t tokens = longest(pairs, count);
    if (s->batcher && sequences <= s->sequences && tokens <= s->tokens) return LCKV_OK;
    if (sequences < s->sequences) sequences = s->sequences;
    if (tokens < s->tokens) tokens = s->tokens;
    batcher_options o = {.compute = s->compute,
                         .kv_type = s->kv_type,
                         .sequences = sequences,
                         .keep_prefixes = true,
                         .choose = true,
                         .cost_table = s->cost_table};
    batcher_free(s->batcher);
    s->batcher = NULL;
    TRY(cache_bytes(s, sequences, tokens, &o.cache_bytes));
    TRY(batcher_create(s->model, &o, &s->batcher));
    s->sequences = sequences;
    s->tokens = tokens;
    return LCKV_OK;
}

int lockstep_scorer_is_faster(lockstep_scorer *s, const eval_pair *pairs, int count, bool *faster) {
    const cost_table *t;
    choice_limits limits = {.step_tokens = PLAN_ROWS, .chunk_tokens = PLAN_ROWS};
    double tokens = 0, depths = 0, planned;
    *faster = false;
    for (int i = 0; i < count; i++) {
        double rows = (double)pairs[i].count - 1;
        tokens += rows;
        depths += rows * rows / 2;
    }
    if (count < CHOICE_MIN_ROWS || tokens < MIN_TOKENS) return LCKV_OK;
    TRY(make_batcher(s, pairs, count));
    TRY(batcher_costs(s->batcher, &t));
    if (!t->count) return LCKV_OK;
    choice_prompt *prompts = calloc((size_t)count, sizeof *prompts);
    REQUIRE(prompts, LCKV_ERROR_MEMORY, "no memory to choose the form of %d texts", count);
    for (int i = 0; i < count; i++) prompts[i].planned_tokens = pairs[i].count - 1;
    planned = choice_plan_seconds(t, &limits, prompts, count);
    free(prompts);
    double rows = max_sequences(s, count);
    *faster = tokens / rows * cost_of_step(t, LCKV_ENCODING_SEQUENTIAL, rows, depths / tokens) < planned;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- running */

static bool same_context(const eval_pair *a, const eval_pair *b) {
    int64_t context = a->count - a->continuation;
    return context == b->count - b->continuation && !memcmp(a->ids, b->ids, (size_t)context * sizeof *a->ids);
}

static int compare_ranks(const void *a, const void *b) {
    const running_pair *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->pair < y->pair ? -1 : x->pair > y->pair;
}

/* The last id is not run: it is the label of the last row. */
static int add_pair(lockstep_scorer *s, running_pair *r) {
    const sample_row none = sampler_greedy();
    const eval_pair *p = r->pair;
    sequence *q;
    TRY(sequence_create(p->ids, p->count - 1, s->model->config->vocab_size, &none, &q));
    r->sequence = q;
    q->encoding = LCKV_ENCODING_SEQUENTIAL;
    q->owner = r;
    q->max_count = p->count - 1;
    q->prompt_logprobs = true;
    q->first_scored = p->count - p->continuation;
    q->last_label = p->ids[p->count - 1];
    return batcher_add(s->batcher, q);
}

/* Contexts that several pairs have are read once: their other pairs start after all first ones. */
static int start(lockstep_scorer *s, const eval_pair *pairs, int count) {
    s->running = calloc((size_t)count, sizeof *s->running);
    REQUIRE(s->running, LCKV_ERROR_MEMORY, "no memory to score %d texts", count);
    s->count = count;
    for (int i = 0; i < count; i++) {
        bool again = i > 0 && same_context(&pairs[i - 1], &pairs[i]);
        s->running[i] =
            (running_pair){.pair = &pairs[i], .answer.greedy = true, .rank = again ? s->running[i - 1].rank + 1 : 0};
    }
    qsort(s->running, (size_t)count, sizeof *s->running, compare_ranks);
    for (int i = 0; i < count; i++) TRY(add_pair(s, &s->running[i]));
    return LCKV_OK;
}

static int end_pair(lockstep_scorer *s, running_pair *r) {
    REQUIRE(isfinite(r->answer.loglikelihood), LCKV_ERROR_NUMERIC, "a log-likelihood is not finite");
    *r->pair->answer = r->answer;
    sequence_free(r->sequence);
    r->sequence = NULL;
    s->ended++;
    return LCKV_OK;
}

static int take_scores(lockstep_scorer *s) {
    int count;
    sequence *const *stepped = batcher_stepped(s->batcher, &count);
    for (int i = 0; i < count; i++) {
        const sequence *q = stepped[i];
        running_pair *r = q->owner;
        for (int32_t j = 0; j < q->scored_count; j++) {
            r->answer.loglikelihood += (double)q->scored[j].logprob;
            r->answer.greedy = r->answer.greedy && q->scored_best[j];
            if (r->pair->nll) r->pair->nll[r->scored] = -q->scored[j].logprob;
            r->scored++;
        }
        if (q->finish != LCKV_FINISH_NONE) TRY(end_pair(s, r));
    }
    return LCKV_OK;
}

static int run(lockstep_scorer *s, const eval_pair *pairs, int count, const eval_progress *progress) {
    TRY(make_batcher(s, pairs, count));
    TRY(start(s, pairs, count));
    while (!batcher_idle(s->batcher)) {
        TRY(batcher_step(s->batcher));
        TRY(take_scores(s));
        if (progress && progress->report) TRY(progress->report(progress->user, s->ended));
    }
    return LCKV_OK;
}

int lockstep_scorer_run(lockstep_scorer *s, const eval_pair *pairs, int count, const eval_progress *progress) {
    int status = count ? run(s, pairs, count, progress) : LCKV_OK;
    free_running(s);
    return status;
}
