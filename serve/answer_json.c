/* The JSON of answers, see answer.h. */
#include "answer.h"

#include <math.h>
#include <stdio.h>

/* ---------------------------------------------------------------- words for things */

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

/* The text of one token; without a tokenizer its id. Never NULL unless memory ended; release with free(). */
static char *token_text(const answer *a, int32_t id) {
    char *text = NULL;
    size_t length;
    if (a->server->tokenizer && lckv_tokenizer_decode(a->server->tokenizer, &id, 1, false, &text, &length) >= 0)
        return text;
    text = malloc(16);
    if (text) snprintf(text, 16, "%d", (int)id);
    return text;
}

static int64_t characters(const char *text) {
    int64_t count = 0;
    for (; *text; text++) count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

/* A logarithm as JSON can hold it. */
static json_t *logarithm(double value) {
    return json_real(isfinite(value) ? value : -9999.0);
}

/* ---------------------------------------------------------------- log-probabilities */

/* What is told of one token: its own, and the most probable ones in its place. */
typedef struct token_view {
    int32_t id;
    double logprob;
    const lckv_logprob *top;
    int top_count;
    bool known; /* false: nothing stands before it, so it has none */
} token_view;

static token_view view_of(const job_token *t) {
    return (token_view){.id = t->token, .logprob = t->logprob, .top = t->top, .top_count = t->top_count, .known = true};
}

/* {"token text": logprob, ..}: of equal texts the more probable stays. */
static json_t *top_object(const answer *a, const token_view *t) {
    json_t *object = json_object();
    for (int i = 0; i < t->top_count; i++) {
        char *text = token_text(a, t->top[i].id);
        if (text && !json_object_get(object, text))
            json_object_set_new(object, text, logarithm((double)t->top[i].logprob));
        free(text);
    }
    return object;
}

/* The lists of /v1/completions. */
typedef struct logprob_lists {
    json_t *tokens, *token_logprobs, *top_logprobs, *text_offset;
} logprob_lists;

static logprob_lists lists_begin(void) {
    return (logprob_lists){json_array(), json_array(), json_array(), json_array()};
}

static void lists_add(const answer *a, logprob_lists *l, const token_view *t, int64_t *offset) {
    char *text = token_text(a, t->id);
    json_array_append_new(l->tokens, json_string(text ? text : ""));
    json_array_append_new(l->text_offset, json_integer(*offset));
    json_array_append_new(l->token_logprobs, t->known ? logarithm(t->logprob) : json_null());
    json_array_append_new(l->top_logprobs, t->known ? top_object(a, t) : json_null());
    *offset += text ? characters(text) : 0;
    free(text);
}

static json_t *lists_end(logprob_lists *l) {
    return json_pack("{so so so so}", "tokens", l->tokens, "token_logprobs", l->token_logprobs, "top_logprobs",
                     l->top_logprobs, "text_offset", l->text_offset);
}

static void lists_add_prompt(const answer *a, logprob_lists *l, const job_prompt *p, int64_t *offset) {
    int top = a->job->request.top_logprobs;
    lists_add(a, l, &(token_view){.id = p->ids[0]}, offset);
    for (int64_t i = 0; i < p->scored_count; i++) {
        const lckv_logprob *row = p->scored + i * (1 + top);
        token_view t = {
            .id = row->id, .logprob = (double)row->logprob, .top = row + 1, .top_count = top, .known = true};
        lists_add(a, l, &t, offset);
    }
}

/* An entry of a chat's list. */
static json_t *chat_entry(const answer *a, int32_t id, double logprob) {
    char *text = token_text(a, id);
    json_t *numbers = json_array();
    for (const char *c = text ? text : ""; *c; c++) json_array_append_new(numbers, json_integer((unsigned char)*c));
    json_t *entry = json_pack("{ss so so}", "token", text ? text : "", "logprob", logarithm(logprob), "bytes", numbers);
    free(text);
    return entry;
}

static json_t *chat_token(const answer *a, const token_view *t) {
    json_t *entry = chat_entry(a, t->id, t->logprob), *top = json_array();
    for (int i = 0; i < t->top_count; i++)
        json_array_append_new(top, chat_entry(a, t->top[i].id, (double)t->top[i].logprob));
    json_object_set_new(entry, "top_logprobs", top);
    return entry;
}

/* ---------------------------------------------------------------- chunks */

static json_t *chunk(const answer *a, json_t *choices) {
    json_t *object =
        json_pack("{ss ss sI ss so}", "id", a->id, "object", a->chat ? "chat.completion.chunk" : "text_completion",
                  "created", (json_int_t)a->created, "model", a->server->options->model_name, "choices", choices);
    if (a->include_usage && object) json_object_set_new(object, "usage", json_null());
    return object;
}

static json_t *text_value(const char *text, size_t length) {
    return json_stringn(text, length);
}

json_t *answer_chunk(answer *a, const job_token *t) {
    told *so_far = &a->told[t->choice];
    json_t *logprobs = json_null(), *choice;
    if (a->logprobs && t->token >= 0) {
        token_view view = view_of(t);
        if (a->chat) {
            logprobs = json_pack("{s[o]}", "content", chat_token(a, &view));
        } else {
            logprob_lists lists = lists_begin();
            lists_add(a, &lists, &view, &so_far->characters);
            logprobs = lists_end(&lists);
        }
    }
    json_t *text = text_value(t->text, t->text_bytes);
    if (a->chat)
        choice = json_pack("{si so so so}", "index", t->choice, "delta",
                           t->text_bytes ? json_pack("{so}", "content", text) : (json_decref(text), json_object()),
                           "logprobs", logprobs, "finish_reason", finish_reason(t->finish));
    else
        choice = json_pack("{si so so so}", "index", t->choice, "text", text, "logprobs", logprobs, "finish_reason",
                           finish_reason(t->finish));
    return chunk(a, json_pack("[o]", choice));
}

json_t *answer_first_chunk(answer *a, int choice) {
    if (a->chat)
        return chunk(a, json_pack("[{si s{ss ss} sn sn}]", "index", choice, "delta", "role", "assistant", "content", "",
                                  "logprobs", "finish_reason"));
    if (!a->echo) return NULL;
    const char *text = a->prompt_texts[choice / a->job->request.n];
    a->told[choice].characters = characters(text);
    return chunk(a, json_pack("[{si ss sn sn}]", "index", choice, "text", text, "logprobs", "finish_reason"));
}

/* ---------------------------------------------------------------- usage */

static json_t *usage(const answer *a, int64_t new_tokens) {
    int64_t prompt_tokens = 0;
    for (int i = 0; i < a->job->prompt_count; i++) prompt_tokens += a->job->prompts[i].count;
    return json_pack("{sI sI sI s{sI}}", "prompt_tokens", (json_int_t)prompt_tokens, "completion_tokens",
                     (json_int_t)new_tokens, "total_tokens", (json_int_t)(prompt_tokens + new_tokens),
                     "prompt_tokens_details", "cached_tokens", (json_int_t)a->job->cached);
}

json_t *answer_usage_chunk(answer *a) {
    int64_t new_tokens = 0;
    for (int i = 0; i < a->job->prompt_count * a->job->request.n; i++) new_tokens += a->told[i].tokens;
    json_t *object = chunk(a, json_array());
    if (object) json_object_set_new(object, "usage", usage(a, new_tokens));
    return object;
}

/* ---------------------------------------------------------------- whole answers */

typedef struct whole_choice {
    bytes text;
    int64_t new_tokens;
    lckv_finish finish;
    json_t *logprobs;
} whole_choice;

static void add_new_token(const answer *a, const job_token *t, whole_choice *c, logprob_lists *lists, json_t *content,
                          int64_t *offset) {
    if (t->text_bytes) bytes_add(&c->text, t->text, t->text_bytes);
    if (t->finish != LCKV_FINISH_NONE) c->finish = t->finish;
    if (t->token < 0) return;
    c->new_tokens++;
    if (!a->logprobs) return;
    token_view view = view_of(t);
    if (a->chat)
        json_array_append_new(content, chat_token(a, &view));
    else
        lists_add(a, lists, &view, offset);
}

static void gather(const answer *a, int index, whole_choice *c) {
    const job *j = a->job;
    const job_prompt *p = &j->prompts[index / j->request.n];
    logprob_lists lists = lists_begin();
    json_t *content = json_array();
    int64_t offset = 0;
    *c = (whole_choice){.finish = LCKV_FINISH_LENGTH};
    if (a->echo) bytes_add_text(&c->text, a->prompt_texts[index / j->request.n]);
    if (a->echo && a->logprobs) lists_add_prompt(a, &lists, p, &offset);
    for (size_t i = 0; i < j->token_count; i++)
        if (j->tokens[i].choice == index) add_new_token(a, &j->tokens[i], c, &lists, content, &offset);
    json_t *all = lists_end(&lists);
    c->logprobs = !a->logprobs ? json_null() : a->chat ? json_pack("{sO}", "content", content) : json_incref(all);
    json_decref(all);
    json_decref(content);
}

static json_t *whole_json(const answer *a, int index, whole_choice *c) {
    json_t *text = text_value(c->text.data ? c->text.data : "", c->text.length);
    bytes_free(&c->text);
    if (a->chat)
        return json_pack("{si s{ss so sn} so so}", "index", index, "message", "role", "assistant", "content", text,
                         "refusal", "logprobs", c->logprobs, "finish_reason", finish_reason(c->finish));
    return json_pack("{si so so so}", "index", index, "text", text, "logprobs", c->logprobs, "finish_reason",
                     finish_reason(c->finish));
}

json_t *answer_whole(answer *a) {
    json_t *choices = json_array();
    int64_t new_tokens = 0;
    for (int i = 0; i < a->job->prompt_count * a->job->request.n; i++) {
        whole_choice c;
        gather(a, i, &c);
        new_tokens += c.new_tokens;
        json_array_append_new(choices, whole_json(a, i, &c));
    }
    return json_pack("{ss ss sI ss so so}", "id", a->id, "object", a->chat ? "chat.completion" : "text_completion",
                     "created", (json_int_t)a->created, "model", a->server->options->model_name, "choices", choices,
                     "usage", usage(a, new_tokens));
}
