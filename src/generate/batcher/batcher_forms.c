/* Starting sequences, and how their prompts are read, see batcher_call.h. encoding_choice.h has the choice itself, and
 * cost_measure.c measures the cost table. */
#include "generate/batcher/batcher_call.h"

#include "base/clock.h"
#include "base/log.h"
#include "generate/batcher/cost_measure.h"
#include "generate/batcher/prefill.h"
#include "generate/costs/encoding_choice.h"

#include <stdlib.h>

/* Costs are measured when at least this number of prompt tokens wait: fewer are read before a measurement pays. */
enum { MEASURE_TOKENS = 4096 };

/* ---------------------------------------------------------------- starting */

int batcher_group_size(const sequence *leader) {
    int members = 1;
    for (const sequence *s = leader->next_sample; s; s = s->next_sample) members++;
    return members;
}

bool batcher_can_share_prefix(const batcher *b, const sequence *s) {
    return b->prefix_cache && s->encoding != LCKV_ENCODING_PLAN &&
           config_length_class(b->model->config, s->prompt_count) == 0;
}

/* Which cached chunks a prompt can use. Exact ones are as good for the plan or better. With batch_invariant the result
 * must not depend on which of them are there. */
static prefix_reader reader_of(const batcher *b, const sequence *s) {
    if (s->form == LCKV_ENCODING_SEQUENTIAL) return PREFIX_EXACT;
    return b->options.batch_invariant ? PREFIX_PLANNED : PREFIX_ANY;
}

/* Leading tokens of a prompt that may come from the prefix cache: fewer than this. Those before the first scored one
 * have to be read. */
static int64_t shareable_tokens(const batcher *b, const sequence *s) {
    if (!batcher_can_share_prefix(b, s)) return 0;
    return s->prompt_logprobs && s->first_scored < s->prompt_count ? s->first_scored : s->prompt_count;
}

/* Takes the cached prefix of a prompt. */
static int reuse_prefix(batcher *b, sequence *s) {
    int cached;
    int64_t count = shareable_tokens(b, s);
    if (!count) return LCKV_OK;
    s->prefix_tokens = s->cached =
        prefix_cache_find(b->prefix_cache, s->ids, count, reader_of(b, s), &cached, &s->prefix);
    if (cached < 0) return LCKV_OK;
    TRY(kv_cache_copy(b->cache, cached, s->cache_id));
    bool longer = kv_cache_position(b->cache, s->cache_id) > s->cached;
    return longer ? kv_cache_truncate(b->cache, s->cache_id, s->cached) : LCKV_OK;
}

static void release_group(batcher *b, sequence *leader) {
    for (sequence *s = leader; s; s = s->next_sample) {
        if (s->cache_id >= 0) kv_cache_remove(b->cache, s->cache_id);
        s->cache_id = -1;
    }
    leader->cached = leader->prefix_tokens = 0;
}

int batcher_start_group(batcher *b, sequence *leader, bool share, bool *fits) {
    int status = LCKV_OK;
    *fits = true;
    for (sequence *s = leader; s && *fits && status >= 0; s = s->next_sample) {
        status = kv_cache_add(b->cache, &s->cache_id);
        if (status >= 0 && s == leader && share) status = reuse_prefix(b, s);
        if (status >= 0)
            *fits = kv_cache_reserve(b->cache, s->cache_id, s->max_count, s == leader ? 0 : s->prompt_count);
    }
    if (!*fits || status < 0) release_group(b, leader);
    return status;
}

/* Number of waiting sequences that can start now, at least those of the first group. */
static int count_startable(batcher *b, int *out) {
    int end = b->running, status = LCKV_OK;
    bool fits = true;
    while (fits && status >= 0 && end < b->queued) {
        int members = batcher_group_size(b->queue[end]);
        if (end + members > b->options.sequences) break;
        status = batcher_start_group(b, b->queue[end], false, &fits);
        if (fits && status >= 0) end += members;
    }
    for (int i = b->running; i < end; i += batcher_group_size(b->queue[i])) release_group(b, b->queue[i]);
    if (end == b->running) end += batcher_group_size(b->queue[b->running]);
    *out = end - b->running;
    return status;
}

/* ---------------------------------------------------------------- the cost table */

/* Whether there are two ways to read a prompt, and the costs of both can be told in advance. */
static bool can_choose(const batcher *b) {
    const batcher_options *o = &b->options;
    const model_config *c = b->model->config;
    bool plans_chunks = o->chunk_tokens > (int64_t)c->forward_passes + c->backward_passes;
    return o->choose && c->map.loops > 0 && plans_chunks && !b->model->device->counts_only && !o->batch_invariant &&
           !o->window_length && o->encoding_tolerance <= 0;
}

static int measure_costs(batcher *b, const cost_key *key) {
    double begin = clock_seconds();
    const char *path = b->options.cost_table;
    TRY(cost_table_measure(b->model, &b->options, &b->costs));
    b->costs_known = true;
    log_message(LCKV_LOG_INFO, "measured the cost of %d steps in %.1f s%s%s", b->costs.count, clock_seconds() - begin,
                path ? ", kept in " : "", path ? path : "");
    if (path && b->costs.count && cost_table_store(path, key, &b->costs) < 0)
        log_message(LCKV_LOG_WARNING, "the cost table is not kept: %s", lckv_last_error());
    return LCKV_OK;
}

/* Loads the cost table, and measures it if it is not in the file and `measure` is set. */
static int find_costs(batcher *b, bool measure) {
    cost_key key;
    const batcher_options *o = &b->options;
    if (b->costs_known || !can_choose(b)) return LCKV_OK;
    TRY(cost_key_make(b->model, o->compute, o->kv_type, o->encoding_iterations, o->chunk_tokens, &key));
    int status = o->cost_table ? cost_table_load(o->cost_table, &key, &b->costs) : LCKV_OK;
    b->costs_known = b->costs.count > 0;
    if (status >= 0 && !b->costs_known && measure) status = measure_costs(b, &key);
    cost_key_free(&key);
    return status;
}

int batcher_costs(batcher *b, const cost_table **out) {
    *out = &b->costs;
    return find_costs(b, true);
}

/* ---------------------------------------------------------------- the choice */

lckv_encoding batcher_fixed_form(const batcher *b, const sequence *s) {
    int64_t window = b->options.window_length, tokens = s->prompt_count;
    if (s->encoding != LCKV_ENCODING_AUTO) return s->encoding;
    if (window && tokens > window) tokens = window;
    if (!prefill_in_one_call(b->model, s->encoding, tokens)) return LCKV_ENCODING_SEQUENTIAL;
    return can_choose(b) ? LCKV_ENCODING_AUTO : LCKV_ENCODING_PLAN;
}

/* What a prompt still has to read in each form. */
static choice_prompt describe_prompt(const batcher *b, const sequence *s) {
    choice_prompt p = {.exact_tokens = s->prompt_count, .planned_tokens = s->prompt_count};
    prefix_position ignored;
    int cached;
    int64_t most = shareable_tokens(b, s);
    if (!most) return p;
    p.depth = prefix_cache_find(b->prefix_cache, s->ids, most, PREFIX_EXACT, &cached, &ignored);
    p.exact_tokens -= p.depth;
    p.planned_tokens -= prefix_cache_find(b->prefix_cache, s->ids, most, PREFIX_ANY, &cached, &ignored);
    return p;
}

/* Running sequences that take one row of each step. */
static int describe_rows(const batcher *b, choice_row *rows, bool *decoding) {
    int count = 0;
    *decoding = false;
    for (int i = 0; i < b->running; i++) {
        const sequence *s = b->queue[i];
        bool decodes = s->cached >= s->prompt_count;
        if (!decodes && (s->form != LCKV_ENCODING_SEQUENTIAL || s->leader)) continue;
        rows[count++] = (choice_row){.left = s->max_count - s->cached, .depth = s->cached};
        *decoding |= decodes;
    }
    return count;
}

/* Prompts among the next `waiting` sequences whose form is open. */
static int describe_prompts(const batcher *b, int waiting, choice_prompt *prompts, int64_t *tokens) {
    int count = 0;
    *tokens = 0;
    for (int i = b->running; i < b->running + waiting; i++) {
        const sequence *s = b->queue[i];
        if (s->leader || s->form != LCKV_ENCODING_AUTO) continue;
        prompts[count] = describe_prompt(b, s);
        *tokens += prompts[count++].planned_tokens;
    }
    return count;
}

static void set_forms(batcher *b, int waiting, const choice_prompt *prompts) {
    for (int i = b->running; i < b->running + waiting; i++) {
        sequence *s = b->queue[i];
        if (s->leader)
            s->form = s->leader->form;
        else if (s->form == LCKV_ENCODING_AUTO)
            s->form = prompts++->exact ? LCKV_ENCODING_SEQUENTIAL : LCKV_ENCODING_PLAN;
    }
}

static int choose(batcher *b, int waiting, choice_prompt *prompts, choice_row *rows) {
    const batcher_options *o = &b->options;
    choice_limits limits = {.step_tokens = o->step_tokens,
                            .chunk_tokens = o->chunk_tokens,
                            .first_token = o->first_token_seconds,
                            .between_tokens = o->between_tokens_seconds};
    int64_t tokens;
    int count = describe_prompts(b, waiting, prompts, &tokens);
    int row_count = describe_rows(b, rows, &limits.decoding);
    TRY(find_costs(b, count >= CHOICE_MIN_ROWS && tokens >= MEASURE_TOKENS));
    TRY(encoding_choose(&b->costs, &limits, rows, row_count, prompts, count));
    set_forms(b, waiting, prompts);
    return LCKV_OK;
}

int batcher_choose_forms(batcher *b) {
    int waiting;
    TRY(count_startable(b, &waiting));
    choice_prompt *prompts = malloc((size_t)waiting * sizeof *prompts);
    choice_row *rows = malloc(((size_t)b->running + 1) * sizeof *rows);
    int status = prompts && rows ? choose(b, waiting, prompts, rows)
                                 : fail(LCKV_ERROR_MEMORY, "no memory to choose how %d prompts are read", waiting);
    free(prompts);
    free(rows);
    return status;
}
