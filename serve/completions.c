/* /v1/completions: prompts of text or ids, one or many. */
#include "sampling.h"

#include <stdio.h>

enum { PROMPTS_MOST = 4096 };

/* ---------------------------------------------------------------- prompts */

/* A text becomes ids; without a tokenizer there are none. */
static bool set_text(fields *f, const server *s, job_prompt *p, const json_t *text) {
    size_t count;
    if (!s->tokenizer) return fields_wrong(f, "prompt", "this model has no tokenizer: 'prompt' must be token ids");
    int status = prompt_encode(s, json_string_value(text), json_string_length(text), true, &p->ids, &count);
    if (status < 0) return fields_failed(f, "prompt", status);
    p->count = (int64_t)count;
    return count > 0 || fields_wrong(f, "prompt", "'prompt' is empty: there is nothing to go on from");
}

static bool set_ids(fields *f, job_prompt *p, const json_t *list) {
    size_t count;
    if (!ids_read(list, &p->ids, &count))
        return fields_wrong(f, "prompt", "'prompt' has something that is no token id at place %zu", count);
    p->count = (int64_t)count;
    return count > 0 || fields_wrong(f, "prompt", "'prompt' is empty: there is nothing to go on from");
}

static bool set_prompt(fields *f, const server *s, job_prompt *p, const json_t *prompt) {
    if (json_is_string(prompt)) return set_text(f, s, p, prompt);
    if (json_is_array(prompt)) return set_ids(f, p, prompt);
    return fields_wrong(f, "prompt", "'prompt' must be a string, token ids, or a list of either");
}

/* [1, 2] is one prompt, ["a"] and [[1, 2]] are lists of them. */
static job *read_prompts(fields *f, const server *s) {
    const json_t *prompt = field_any(f, "prompt");
    const json_t *first = json_array_get(prompt, 0);
    bool many = json_is_string(first) || json_is_array(first);
    int queue = s->options->engine.max_queue, most = queue < PROMPTS_MOST ? queue : PROMPTS_MOST;
    size_t count = many ? json_array_size(prompt) : 1;
    if (!prompt || count > (size_t)most) {
        fields_wrong(f, "prompt", "expected 'prompt': text, token ids, or at most %d of them", most);
        return NULL;
    }
    job *j = job_create((int)count);
    if (!j) {
        fields_no_memory(f, "prompt");
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        if (!set_prompt(f, s, &j->prompts[i], many ? json_array_get(prompt, i) : prompt)) break;
    return j;
}

static bool keep_texts(fields *f, answer *a) {
    const job *j = a->job;
    a->prompt_texts = calloc((size_t)j->prompt_count, sizeof *a->prompt_texts);
    if (!a->prompt_texts) return fields_no_memory(f, "prompt");
    for (int i = 0; a->server->tokenizer && i < j->prompt_count; i++) {
        int status = lckv_tokenizer_decode(a->server->tokenizer, j->prompts[i].ids, (size_t)j->prompts[i].count, true,
                                           &a->prompt_texts[i].text, &a->prompt_texts[i].bytes);
        if (status < 0) return fields_failed(f, "prompt", status);
    }
    return true;
}

/* ---------------------------------------------------------------- what is asked for */

typedef struct asked {
    bool stream, include_usage, echo, logprobs;
} asked;

static void read_fields(fields *f, const server *s, job *j, asked *o) {
    model_read(f, s);
    sampling_read(f, j, &o->stream, &o->include_usage);
    o->echo = field_bool(f, "echo", false);
    o->logprobs = field_given(f, "logprobs");
    j->request.top_logprobs = (int)field_int(f, "logprobs", 0, 0, JOB_TOP_MOST);
    j->request.prompt_logprobs = o->echo && o->logprobs;
    j->request.max_new_tokens = field_int(f, "max_tokens", 16, 0, INT32_MAX);
    int64_t best_of = field_int(f, "best_of", j->request.n, 1, INT32_MAX);
    if (best_of != j->request.n) fields_wrong(f, "best_of", "'best_of' is not supported beyond 'n'");
    field_unsupported(f, "suffix", "\"\"");
    if (j->request.max_new_tokens == 0 && !o->echo)
        fields_wrong(f, "max_tokens", "'max_tokens' may be 0 with 'echo' alone");
}

answer *completions_read(fields *f, server *s) {
    asked o = {0};
    job *j = read_prompts(f, s);
    if (!j) return NULL;
    if (!f->wrong) read_fields(f, s, j, &o);
    if (f->wrong || !fields_end(f)) {
        job_free(j);
        return NULL;
    }
    answer *a = answer_create(s, j, false);
    if (!a) {
        fields_no_memory(f, "");
        return NULL;
    }
    a->stream = o.stream, a->include_usage = o.include_usage, a->echo = o.echo, a->logprobs = o.logprobs;
    if (!o.echo || keep_texts(f, a)) return a;
    answer_free(a);
    return NULL;
}

bool completions_ask(server *s, const asker *who, visit *v) {
    return answer_ask(s, who, v, completions_read);
}
