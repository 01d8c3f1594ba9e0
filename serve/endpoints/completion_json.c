/* JSON of completions, see completion.h. */
#include "completion.h"

#include "json_text.h"

/* ---------------------------------------------------------------- names */

static json_t *finish_reason(lckv_finish finish) {
    switch (finish) {
    case LCKV_FINISH_STOP:
        return json_string("stop");
    case LCKV_FINISH_LENGTH:
        return json_string("length");
    default:
        return json_null();
    }
}

/* ---------------------------------------------------------------- log-probabilities */

static logprob_format format_for(const completion *a) {
    return (logprob_format){.tokenizer = a->server->tokenizer, .chat = a->chat};
}

static token_logprobs logprobs_of(const job_token *t) {
    return (token_logprobs){
        .id = t->token, .logprob = t->logprob, .top = t->top, .top_count = t->top_count, .known = true};
}

/* Position of the first new token of a choice. */
static text_position position_after_prompt(const completion *a, const job_prompt *p, int64_t characters) {
    logprob_format format = format_for(a);
    text_position position = text_position_after(&format, p->ids, p->count);
    position.characters = characters;
    return position;
}

static void add_entry(const completion *a, json_t *entries, text_position *position, const token_logprobs *t,
                      int64_t emitted) {
    logprob_format format = format_for(a);
    json_array_append_new(entries, logprob_entry_create(&format, position, t, emitted).json);
}

/* Number of characters that become final with one more token; 0 without a tokenizer. */
static int64_t decoded(lckv_decode_stream *stream, int32_t id) {
    const char *text;
    size_t length;
    if (!stream || lckv_decode_stream_push(stream, id, &text, &length) < 0) return 0;
    return count_characters(text, length);
}

/* The entries of an echoed prompt. The first token has no log-probability. */
static json_t *make_prompt_entries(const completion *a, const job_prompt *p) {
    int top = a->job->request.top_logprobs;
    json_t *entries = json_array();
    text_position position = {0};
    lckv_decode_stream *stream = NULL;
    if (a->server->tokenizer) lckv_decode_stream_open(a->server->tokenizer, true, &stream);
    int64_t emitted = decoded(stream, p->ids[0]);
    add_entry(a, entries, &position, &(token_logprobs){.id = p->ids[0]}, emitted);
    for (int64_t i = 0; i < p->prompt_logprob_count; i++) {
        const lckv_logprob *row = p->prompt_logprobs + i * (1 + top);
        token_logprobs t = {
            .id = row->id, .logprob = (double)row->logprob, .top = row + 1, .top_count = top, .known = true};
        emitted += decoded(stream, row->id);
        add_entry(a, entries, &position, &t, emitted);
    }
    lckv_decode_stream_free(stream);
    return entries;
}

/* Returns a list of the entries, which are made once for all samples of a prompt. */
static json_t *prompt_entries(completion *a, int prompt) {
    if (!a->prompt_entries) a->prompt_entries = calloc((size_t)a->job->prompt_count, sizeof *a->prompt_entries);
    if (!a->prompt_entries) return json_array();
    if (!a->prompt_entries[prompt]) a->prompt_entries[prompt] = make_prompt_entries(a, &a->job->prompts[prompt]);
    return json_copy(a->prompt_entries[prompt]);
}

/* Whether the entry belongs to the text. Tokens that start after the end of the text, which a stop string may have cut,
 * do not. */
static bool is_shown(const logprob_entry *e, int64_t characters) {
    return !e->adds || e->start < characters;
}

/* ---------------------------------------------------------------- chunks */

static json_t *model_name(const completion *a) {
    const char *name = a->server->options->model_name;
    return string_json(name, strlen(name));
}

static json_t *chunk(const completion *a, json_t *choices) {
    json_t *object =
        json_pack("{ss ss sI so so}", "id", a->id, "object", a->chat ? "chat.completion.chunk" : "text_completion",
                  "created", (json_int_t)a->created, "model", model_name(a), "choices", choices);
    if (a->include_usage && object) json_object_set_new(object, "usage", json_null());
    return object;
}

/* Holds the entry back until its text is final, and moves held entries with final text to `out`. At the end of the
 * choice the remaining entries start after its text and are dropped. */
static void hold_entry(choice_state *state, const logprob_entry *e, json_t *out, bool ends) {
    if (!state->held) state->held = json_array();
    if (e->json)
        json_array_append_new(
            state->held, json_pack("{sI sb so}", "start", (json_int_t)e->start, "adds", e->adds, "entry", e->json));
    while (json_array_size(state->held)) {
        json_t *first = json_array_get(state->held, 0);
        logprob_entry held = {.start = json_integer_value(json_object_get(first, "start")),
                              .adds = json_is_true(json_object_get(first, "adds"))};
        bool shown = is_shown(&held, state->characters);
        if (shown) json_array_append(out, json_object_get(first, "entry"));
        if (!shown && !ends) break;
        json_array_remove(state->held, 0);
    }
}

/* Value of `logprobs` in a chunk; null if there are none. */
static json_t *chunk_logprobs(completion *a, const job_token *t) {
    choice_state *state = &a->choices[t->choice];
    logprob_format format = format_for(a);
    token_logprobs logprobs_of_token = logprobs_of(t);
    logprob_entry e = {0};
    json_t *entries = json_array();
    if (!a->logprobs || (t->token < 0 && !state->held)) {
        json_decref(entries);
        return json_null();
    }
    if (t->token >= 0) e = logprob_entry_create(&format, &state->position, &logprobs_of_token, state->characters);
    if (a->job->request.stop_count)
        hold_entry(state, &e, entries, t->finish != LCKV_FINISH_NONE);
    else
        json_array_append_new(entries, e.json);
    if (json_array_size(entries)) return logprobs_to_json(&format, entries);
    json_decref(entries);
    return json_null();
}

json_t *completion_chunk(completion *a, const job_token *t) {
    a->choices[t->choice].characters += count_characters(t->text, t->text_bytes);
    json_t *logprobs = chunk_logprobs(a, t), *text = string_json(t->text, t->text_bytes), *choice;
    if (a->chat)
        choice = json_pack("{si so so so}", "index", t->choice, "delta",
                           t->text_bytes ? json_pack("{so}", "content", text) : (json_decref(text), json_object()),
                           "logprobs", logprobs, "finish_reason", finish_reason(t->finish));
    else
        choice = json_pack("{si so so so}", "index", t->choice, "text", text, "logprobs", logprobs, "finish_reason",
                           finish_reason(t->finish));
    return chunk(a, json_pack("[o]", choice));
}

static json_t *echo_value(const echo_text *echo) {
    return string_json(echo->text ? echo->text : "", echo->bytes);
}

json_t *completion_first_chunk(completion *a, int choice) {
    const job_prompt *p = &a->job->prompts[choice / a->job->request.n];
    logprob_format format = format_for(a);
    a->choices[choice].position = position_after_prompt(a, p, 0);
    if (a->chat)
        return chunk(a, json_pack("[{si s{ss ss} sn sn}]", "index", choice, "delta", "role", "assistant", "content", "",
                                  "logprobs", "finish_reason"));
    if (!a->echo) return NULL;
    const echo_text *echo = &a->prompt_texts[choice / a->job->request.n];
    a->choices[choice].characters = a->choices[choice].position.characters = count_characters(echo->text, echo->bytes);
    json_t *logprobs =
        a->logprobs ? logprobs_to_json(&format, prompt_entries(a, choice / a->job->request.n)) : json_null();
    return chunk(a, json_pack("[{si so so sn}]", "index", choice, "text", echo_value(echo), "logprobs", logprobs,
                              "finish_reason"));
}

/* ---------------------------------------------------------------- usage */

static json_t *usage(const completion *a, int64_t new_tokens) {
    int64_t prompt_tokens = 0;
    for (int i = 0; i < a->job->prompt_count; i++) prompt_tokens += a->job->prompts[i].count;
    return json_pack("{sI sI sI s{sI sI}}", "prompt_tokens", (json_int_t)prompt_tokens, "completion_tokens",
                     (json_int_t)new_tokens, "total_tokens", (json_int_t)(prompt_tokens + new_tokens),
                     "prompt_tokens_details", "cached_tokens", (json_int_t)a->job->cached_tokens, "sequential_tokens",
                     (json_int_t)a->job->sequential_tokens);
}

json_t *completion_usage_chunk(completion *a) {
    int64_t new_tokens = 0;
    for (int i = 0; i < a->job->prompt_count * a->job->request.n; i++) new_tokens += a->choices[i].tokens;
    json_t *object = chunk(a, json_array());
    if (object) json_object_set_new(object, "usage", usage(a, new_tokens));
    return object;
}

/* ---------------------------------------------------------------- full responses */

typedef struct whole_choice {
    bytes text;
    int64_t new_tokens;
    lckv_finish finish;
} whole_choice;

static void gather_text(const completion *a, int index, whole_choice *c) {
    const job *j = a->job;
    *c = (whole_choice){.finish = LCKV_FINISH_LENGTH};
    if (a->echo) {
        const echo_text *echo = &a->prompt_texts[index / j->request.n];
        bytes_add(&c->text, echo->text, echo->bytes);
    }
    for (size_t i = 0; i < j->token_count; i++) {
        const job_token *t = &j->tokens[i];
        if (t->choice != index) continue;
        bytes_add(&c->text, t->text, t->text_bytes);
        if (t->finish != LCKV_FINISH_NONE) c->finish = t->finish;
        c->new_tokens += t->token >= 0;
    }
}

static json_t *gather_logprobs(completion *a, int index, const whole_choice *c) {
    const job *j = a->job;
    const job_prompt *p = &j->prompts[index / j->request.n];
    const echo_text *echo = a->echo ? &a->prompt_texts[index / j->request.n] : NULL;
    logprob_format format = format_for(a);
    json_t *entries = echo ? prompt_entries(a, index / j->request.n) : json_array();
    int64_t emitted = echo ? count_characters(echo->text, echo->bytes) : 0;
    int64_t characters = count_characters(c->text.data, c->text.length);
    text_position position = position_after_prompt(a, p, emitted);
    for (size_t i = 0; i < j->token_count; i++) {
        const job_token *t = &j->tokens[i];
        if (t->choice != index || t->token < 0) continue;
        token_logprobs logprobs_of_token = logprobs_of(t);
        emitted += count_characters(t->text, t->text_bytes);
        logprob_entry e = logprob_entry_create(&format, &position, &logprobs_of_token, emitted);
        if (is_shown(&e, characters))
            json_array_append_new(entries, e.json);
        else
            json_decref(e.json);
    }
    return logprobs_to_json(&format, entries);
}

/* NULL if memory runs out. */
static json_t *whole_json(completion *a, int index, whole_choice *c) {
    gather_text(a, index, c);
    if (c->text.failed) {
        bytes_free(&c->text);
        return NULL;
    }
    json_t *logprobs = a->logprobs ? gather_logprobs(a, index, c) : json_null();
    json_t *text = string_json(c->text.data ? c->text.data : "", c->text.length);
    bytes_free(&c->text);
    if (a->chat)
        return json_pack("{si s{ss so sn} so so}", "index", index, "message", "role", "assistant", "content", text,
                         "refusal", "logprobs", logprobs, "finish_reason", finish_reason(c->finish));
    return json_pack("{si so so so}", "index", index, "text", text, "logprobs", logprobs, "finish_reason",
                     finish_reason(c->finish));
}

json_t *completion_full_json(completion *a) {
    json_t *choices = json_array();
    int64_t new_tokens = 0;
    for (int i = 0; i < a->job->prompt_count * a->job->request.n; i++) {
        whole_choice c;
        if (json_array_append_new(choices, whole_json(a, i, &c))) {
            json_decref(choices);
            return NULL;
        }
        new_tokens += c.new_tokens;
    }
    return json_pack("{ss ss sI so so so}", "id", a->id, "object", a->chat ? "chat.completion" : "text_completion",
                     "created", (json_int_t)a->created, "model", model_name(a), "choices", choices, "usage",
                     usage(a, new_tokens));
}
