/* lckv_generate(): prompts in, sequences with their text out. What runs together is the batcher's, text is
 * text_stream's. */
#include "base/log.h"
#include "generate/batcher.h"
#include "generate/text_stream.h"

#include <math.h>
#include <stdlib.h>

enum { SEQUENCES_TOGETHER = 64 };

lckv_generate_options lckv_generate_defaults(void) {
    return (lckv_generate_options){.length = 20,
                                   .temperature = 1,
                                   .top_p = 0.9,
                                   .repetition_penalty = 1,
                                   .seed = 42,
                                   .num_return_sequences = 1,
                                   .encoding = LCKV_ENCODING_AUTO};
}

typedef struct member {
    sequence *sequence;
    text_stream text; /* unused without a tokenizer */
    int prompt, sample;
} member;

typedef struct generate_run {
    const model *model;
    lckv_tokenizer *tokenizer; /* may be NULL */
    const lckv_generate_options *options;
    batcher *batcher;
    member *members;
    int count;
} generate_run;

static int check_sampling(const lckv_generate_options *o) {
    REQUIRE(o->length >= 1, LCKV_ERROR_ARGUMENT, "length should be at least 1, found %lld", (long long)o->length);
    REQUIRE(o->temperature >= 0 && isfinite(o->temperature), LCKV_ERROR_ARGUMENT,
            "temperature should be 0 (greedy) or more, found %g", o->temperature);
    REQUIRE(o->top_k >= 0 && o->top_k <= INT32_MAX, LCKV_ERROR_ARGUMENT, "top_k should be 0 (off) or more, found %lld",
            (long long)o->top_k);
    REQUIRE(o->top_p > 0 && o->top_p <= 1, LCKV_ERROR_ARGUMENT, "top_p should be above 0 and at most 1 (off), found %g",
            o->top_p);
    REQUIRE(o->min_p >= 0 && o->min_p <= 1, LCKV_ERROR_ARGUMENT, "min_p should be from 0 (off) to 1, found %g",
            o->min_p);
    REQUIRE(o->repetition_penalty > 0 && isfinite(o->repetition_penalty), LCKV_ERROR_ARGUMENT,
            "repetition_penalty should be above 0, found %g", o->repetition_penalty);
    return LCKV_OK;
}

static int check_options(const lckv_generate_options *o, const lckv_tokenizer *tokenizer) {
    TRY(check_sampling(o));
    REQUIRE(o->num_return_sequences >= 1, LCKV_ERROR_ARGUMENT, "num_return_sequences should be at least 1, found %d",
            o->num_return_sequences);
    REQUIRE(!o->stop_count || tokenizer, LCKV_ERROR_ARGUMENT, "stop strings need a tokenizer, there is none");
    for (int i = 0; i < o->stop_count; i++) REQUIRE(o->stop[i][0], LCKV_ERROR_ARGUMENT, "stop string %d is empty", i);
    return LCKV_OK;
}

static int check_tokenizer(const model *m, const lckv_tokenizer *tokenizer) {
    int32_t tokens = tokenizer ? lckv_tokenizer_vocab_size(tokenizer) : 0;
    REQUIRE(tokens <= m->config->vocab_size, LCKV_ERROR_ARGUMENT,
            "the tokenizer has %d tokens, the model %lld: they do not belong together", (int)tokens,
            (long long)m->config->vocab_size);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- starting */

/* How many ids a sequence may come to. Positions that a model was not made for give nonsense that looks like text, so
 * nothing goes beyond them; with a sink cache no token stands further than the window. */
static int find_limit(const generate_run *run, int prompt, int64_t prompt_count, int64_t *most) {
    const lckv_generate_options *o = run->options;
    int64_t positions = run->model->config->max_position_embeddings;
    *most = prompt_count <= INT64_MAX - o->length ? prompt_count + o->length : INT64_MAX;
    if (o->window_length || *most <= positions) return LCKV_OK;
    REQUIRE(prompt_count < positions, LCKV_ERROR_ARGUMENT,
            "prompt %d has %lld tokens and the model %lld positions (max_position_embeddings): shorten it, stream with "
            "a sink cache, or override max_position_embeddings",
            prompt, (long long)prompt_count, (long long)positions);
    log_message(LCKV_LOG_WARNING,
                "prompt %d with %lld new tokens would pass the model's %lld positions (max_position_embeddings): "
                "it ends there; a sink cache goes on",
                prompt, (long long)o->length, (long long)positions);
    *most = positions;
    return LCKV_OK;
}

static int start_member(generate_run *run, member *m, const lckv_prompt *prompt, int64_t most) {
    const lckv_generate_options *o = run->options;
    sample_row how = {.seed = o->seed,
                      .stream = (uint64_t)m->prompt << 32 | (uint64_t)m->sample,
                      .temperature = (float)o->temperature,
                      .top_p = (float)o->top_p,
                      .min_p = (float)o->min_p,
                      .repetition_penalty = (float)o->repetition_penalty,
                      .top_k = (int32_t)o->top_k};
    TRY(sequence_create(prompt->ids, prompt->count, run->model->config->vocab_size, &how, &m->sequence));
    m->sequence->most = most;
    m->sequence->ignore_eos = o->ignore_eos;
    if (run->tokenizer)
        TRY(text_stream_open(&m->text, run->tokenizer, prompt->ids, prompt->count, o->stop, o->stop_count));
    return batcher_add(run->batcher, m->sequence);
}

/* Room in the cache to begin with: what the sequences that run together will come to, within reason. */
static int64_t expected_rows(const generate_run *run, const lckv_prompt *prompts, int count) {
    enum { REASON = 1 << 14 };
    const lckv_generate_options *o = run->options;
    int64_t most = o->window_length ? o->window_length + 1 : run->model->config->max_position_embeddings, rows = 0;
    for (int i = 0, room = SEQUENCES_TOGETHER; i < count && room > 0; i++) {
        int64_t each = prompts[i].count + (o->length < REASON ? o->length : REASON);
        int samples = o->num_return_sequences < room ? o->num_return_sequences : room;
        rows += (each < most ? each : most) * samples;
        room -= samples;
    }
    return rows;
}

static int start(generate_run *run, const lckv_prompt *prompts, int count) {
    const lckv_generate_options *o = run->options;
    int64_t members = (int64_t)count * o->num_return_sequences, most;
    REQUIRE(members <= 1 << 20, LCKV_ERROR_ARGUMENT, "%lld sequences are too many for one call", (long long)members);
    batcher_options b = {.compute = o->bf16 ? DTYPE_BF16 : DTYPE_F32,
                         .encoding = o->encoding,
                         .window_length = o->window_length,
                         .sinks = o->window_length ? o->num_sink_tokens : 0,
                         .rows = expected_rows(run, prompts, count),
                         .sequences = members < SEQUENCES_TOGETHER ? (int)members : SEQUENCES_TOGETHER};
    TRY(batcher_create(run->model, &b, &run->batcher));
    run->members = calloc((size_t)members, sizeof *run->members);
    REQUIRE(run->members, LCKV_ERROR_MEMORY, "no memory for %lld sequences", (long long)members);
    for (int i = 0; i < count; i++) {
        TRY(find_limit(run, i, prompts[i].count, &most));
        for (int j = 0; j < o->num_return_sequences; j++) {
            member *m = &run->members[run->count++];
            *m = (member){.prompt = i, .sample = j};
            TRY(start_member(run, m, &prompts[i], most));
        }
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- running */

static int add_text(generate_run *run, member *m) {
    sequence *s = m->sequence;
    if (!run->tokenizer) return LCKV_OK;
    TRY(text_stream_push(&m->text, s->ids[s->count - 1]));
    if (s->finish != LCKV_FINISH_NONE) TRY(text_stream_finish(&m->text));
    if (m->text.stopped) s->finish = LCKV_FINISH_STOP;
    return LCKV_OK;
}

static bool tell(const generate_run *run, member *m) {
    const lckv_generate_options *o = run->options;
    sequence *s = m->sequence;
    lckv_token token = {.prompt = m->prompt,
                        .sample = m->sample,
                        .id = s->ids[s->count - 1],
                        .logprob = s->logprob,
                        .text = "",
                        .finish = s->finish};
    if (run->tokenizer) token.text = text_stream_take(&m->text, &token.text_bytes);
    return !o->callback || o->callback(o->user, &token);
}

static int take_tokens(generate_run *run) {
    bool told = false;
    for (int i = 0; i < run->count; i++) {
        member *m = &run->members[i];
        if (!m->sequence->fresh) continue;
        m->sequence->fresh = false;
        told = true;
        TRY(add_text(run, m));
        if (m->sequence->finish != LCKV_FINISH_NONE) batcher_remove(run->batcher, m->sequence);
        REQUIRE(tell(run, m), LCKV_ERROR_INTERRUPTED, "generation was stopped");
    }
    const lckv_generate_options *o = run->options;
    bool go_on = told || !o->callback || o->callback(o->user, NULL);
    REQUIRE(go_on, LCKV_ERROR_INTERRUPTED, "generation was stopped");
    return LCKV_OK;
}

/* ---------------------------------------------------------------- results */

static int hand_out_member(const generate_run *run, member *m, lckv_sequence *out) {
    sequence *s = m->sequence;
    *out = (lckv_sequence){.prompt = m->prompt, .sample = m->sample, .finish = s->finish};
    out->count = s->count - s->prompt_count;
    out->ids = malloc((size_t)out->count * sizeof *out->ids);
    REQUIRE(out->ids, LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)out->count);
    for (int64_t i = 0; i < out->count; i++) out->ids[i] = s->ids[s->prompt_count + i];
    if (!run->tokenizer) return LCKV_OK;
    return text_stream_decode(&m->text, out->ids, out->count, &out->text, &out->text_bytes);
}

static int hand_out(const generate_run *run, lckv_generation **out) {
    lckv_generation *g = calloc(1, sizeof *g);
    REQUIRE(g, LCKV_ERROR_MEMORY, "no memory for the result");
    *out = g;
    g->sequences = calloc((size_t)run->count, sizeof *g->sequences);
    REQUIRE(g->sequences, LCKV_ERROR_MEMORY, "no memory for %d sequences", run->count);
    batcher_timing t = batcher_times(run->batcher);
    g->prompt_tokens = t.prompt_tokens;
    g->prompt_seconds = t.prompt_seconds;
    g->decode_tokens = t.decode_tokens;
    g->decode_seconds = t.decode_seconds;
    g->decode_bytes = t.decode_bytes;
    for (int i = 0; i < run->count; i++) {
        g->count++; /* what a failure leaves half made is released with the others */
        TRY(hand_out_member(run, &run->members[i], &g->sequences[i]));
    }
    return LCKV_OK;
}

static int run_all(generate_run *run, const lckv_prompt *prompts, int count, lckv_generation **out) {
    TRY(start(run, prompts, count));
    while (!batcher_idle(run->batcher)) {
        TRY(batcher_step(run->batcher));
        TRY(take_tokens(run));
    }
    return hand_out(run, out);
}

static void end(generate_run *run) {
    batcher_free(run->batcher);
    for (int i = 0; i < run->count; i++) {
        sequence_free(run->members[i].sequence);
        text_stream_close(&run->members[i].text);
    }
    free(run->members);
}

int lckv_generate(lckv_model *m, lckv_tokenizer *tokenizer, const lckv_prompt *prompts, int count,
                  const lckv_generate_options *options, lckv_generation **out) {
    *out = NULL;
    REQUIRE(count >= 1, LCKV_ERROR_ARGUMENT, "there is no prompt");
    TRY(check_options(options, tokenizer));
    TRY(check_tokenizer(m, tokenizer));
    generate_run run = {.model = m, .tokenizer = tokenizer, .options = options};
    int status = run_all(&run, prompts, count, out);
    end(&run);
    if (status >= 0) return LCKV_OK;
    lckv_generation_free(*out);
    *out = NULL;
    return status;
}

void lckv_generation_free(lckv_generation *g) {
    if (!g) return;
    for (int i = 0; g->sequences && i < g->count; i++) {
        free(g->sequences[i].ids);
        free(g->sequences[i].text);
    }
    free(g->sequences);
    free(g);
}
