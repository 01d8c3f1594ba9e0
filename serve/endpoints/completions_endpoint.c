/* /v1/completions: one or several prompts, as text or as token ids. */
#include "generation_fields.h"

#include <stdio.h>

enum { MAX_PROMPTS = 4096 };

/* ---------------------------------------------------------------- prompts */

/* Encodes a text prompt. Fails if the model has no tokenizer. */
static bool set_text(fields *f, const server *s, job_prompt *p, const json_t *text) {
    size_t count;
    if (!s->tokenizer) return fields_error(f, "prompt", "the model has no tokenizer: 'prompt' must be token ids");
    int status = prompt_encode(s, json_string_value(text), json_string_length(text), true, &p->ids, &count);
    if (status < 0) return fields_library_error(f, "prompt", status);
    p->count = (int64_t)count;
    return count > 0 || fields_error(f, "prompt", "'prompt' is empty: expected at least one token");
}

static bool set_ids(fields *f, job_prompt *p, const json_t *list) {
    size_t count;
    if (!ids_read(list, &p->ids, &count))
        return fields_error(f, "prompt", "'prompt': entry %zu is not a token id", count);
    p->count = (int64_t)count;
    return count > 0 || fields_error(f, "prompt", "'prompt' is empty: expected at least one token");
}

static bool set_prompt(fields *f, const server *s, job_prompt *p, const json_t *prompt) {
    if (json_is_string(prompt)) return set_text(f, s, p, prompt);
    if (json_is_array(prompt)) return set_ids(f, p, prompt);
    return fields_error(f, "prompt", "'prompt' must be a string, token ids, or a list of either");
}

/* [1, 2] is one prompt; ["a"] and [[1, 2]] are lists of prompts. */
static job *read_prompts(fields *f, const server *s) {
    const json_t *prompt = field_value(f, "prompt");
    const json_t *first = json_array_get(prompt, 0);
    bool many = json_is_string(first) || json_is_array(first);
    int queue = s->options->engine.max_queue, max = queue < MAX_PROMPTS ? queue : MAX_PROMPTS;
    size_t count = many ? json_array_size(prompt) : 1;
    if (!prompt || count > (size_t)max) {
        fields_error(f, "prompt", "expected 'prompt': text, token ids, or a list of at most %d of either", max);
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

static bool keep_texts(fields *f, completion *a) {
    const job *j = a->job;
    a->prompt_texts = calloc((size_t)j->prompt_count, sizeof *a->prompt_texts);
    if (!a->prompt_texts) return fields_no_memory(f, "prompt");
    for (int i = 0; a->server->tokenizer && i < j->prompt_count; i++) {
        int status = lckv_tokenizer_decode(a->server->tokenizer, j->prompts[i].ids, (size_t)j->prompts[i].count, true,
                                           &a->prompt_texts[i].text, &a->prompt_texts[i].bytes);
        if (status < 0) return fields_library_error(f, "prompt", status);
    }
    return true;
}

/* ---------------------------------------------------------------- other fields */

typedef struct completion_options {
    bool stream, include_usage, echo, logprobs;
} completion_options;

static void read_fields(fields *f, const server *s, job *j, completion_options *o) {
    model_field_read(f, s);
    generation_fields_read(f, j, &o->stream, &o->include_usage);
    o->echo = field_bool(f, "echo", false);
    o->logprobs = field_present(f, "logprobs");
    j->request.top_logprobs = (int)field_int(f, "logprobs", 0, 0, JOB_MAX_TOP_LOGPROBS);
    j->request.prompt_logprobs = o->echo && o->logprobs;
    j->request.max_new_tokens = field_int(f, "max_tokens", 16, 0, INT32_MAX);
    int64_t best_of = field_int(f, "best_of", j->request.n, 1, INT32_MAX);
    if (best_of != j->request.n) fields_error(f, "best_of", "'best_of' is not supported: it must equal 'n'");
    field_reject(f, "suffix", "\"\"");
    if (j->request.max_new_tokens == 0 && !o->echo)
        fields_error(f, "max_tokens", "'max_tokens' may be 0 only with 'echo'");
}

completion *completions_read(fields *f, server *s) {
    completion_options o = {0};
    job *j = read_prompts(f, s);
    if (!j) return NULL;
    if (!f->failed) read_fields(f, s, j, &o);
    if (f->failed || !fields_finish(f)) {
        job_free(j);
        return NULL;
    }
    completion *a = completion_create(s, j, false);
    if (!a) {
        fields_no_memory(f, "");
        return NULL;
    }
    a->stream = o.stream, a->include_usage = o.include_usage, a->echo = o.echo, a->logprobs = o.logprobs;
    if (!o.echo || keep_texts(f, a)) return a;
    completion_free(a);
    return NULL;
}

bool completions_endpoint(server *s, const client *to, http_request *r) {
    return completion_submit(s, to, r, completions_read);
}
