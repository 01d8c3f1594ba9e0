/* Jobs, see job.h. */
#include "job.h"

job *job_create(int prompt_count) {
    job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->prompts = calloc((size_t)prompt_count, sizeof *j->prompts);
    if (!j->prompts) {
        free(j);
        return NULL;
    }
    j->prompt_count = prompt_count;
    for (int i = 0; i < prompt_count; i++) j->prompts[i].job = j;
    j->request = lckv_request_defaults();
    j->references = 1;
    return j;
}

void job_free(job *j) {
    if (!j) return;
    for (int i = 0; i < j->prompt_count; i++) {
        free(j->prompts[i].ids);
        free(j->prompts[i].prompt_logprobs);
    }
    for (size_t i = 0; i < j->token_count; i++) free(j->tokens[i].text);
    for (int i = 0; i < j->request.stop_count; i++) free(j->stops[i]);
    free(j->stops);
    free(j->bias_ids);
    free(j->bias_values);
    free(j->prompts);
    free(j->tokens);
    free(j);
}

static bool reserve_token(job *j) {
    if (j->token_count < j->token_capacity) return true;
    size_t capacity = 2 * j->token_capacity + 16;
    job_token *grown = realloc(j->tokens, capacity * sizeof *grown);
    if (!grown) return false;
    j->tokens = grown;
    j->token_capacity = capacity;
    return true;
}

bool job_add_token(job_prompt *p, const lckv_event *e) {
    job *j = p->job;
    char *text = malloc(e->text_bytes + 1);
    if (!text || !reserve_token(j)) {
        free(text);
        return false;
    }
    memcpy(text, e->text, e->text_bytes);
    job_token token = {.choice = (int)(p - j->prompts) * j->request.n + e->sample,
                       .token = e->token,
                       .logprob = e->logprob,
                       .text = text,
                       .text_bytes = e->text_bytes,
                       .finish = e->finish,
                       .top_count = e->top_count};
    for (int i = 0; i < e->top_count; i++) token.top[i] = e->top[i];
    j->tokens[j->token_count++] = token;
    j->new_tokens += e->token >= 0;
    return true;
}

bool job_add_prompt_logprob(job_prompt *p, const lckv_event *e) {
    size_t row = 1 + (size_t)p->job->request.top_logprobs;
    if (!p->prompt_logprobs) p->prompt_logprobs = calloc((size_t)p->count * row, sizeof *p->prompt_logprobs);
    if (!p->prompt_logprobs) return false;
    lckv_logprob *to = p->prompt_logprobs + (size_t)p->prompt_logprob_count++ * row;
    to[0] = (lckv_logprob){e->token, (float)e->logprob};
    for (int i = 0; i < e->top_count; i++) to[1 + i] = e->top[i];
    return true;
}
