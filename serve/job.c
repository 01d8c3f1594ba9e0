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
    j->request = lckv_request_defaults();
    j->top_logprobs = -1;
    j->generate = true;
    j->holders = 1;
    return j;
}

void job_free(job *j) {
    if (!j) return;
    for (int i = 0; i < j->prompt_count; i++) {
        free(j->prompts[i].ids);
        free(j->prompts[i].logprobs);
        free(j->prompts[i].top_ids);
        free(j->prompts[i].top_values);
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

static bool make_room(job *j) {
    if (j->token_count < j->token_capacity) return true;
    size_t capacity = 2 * j->token_capacity + 16;
    job_token *grown = realloc(j->tokens, capacity * sizeof *grown);
    if (!grown) return false;
    j->tokens = grown;
    j->token_capacity = capacity;
    return true;
}

bool job_add_token(job *j, const job_token *token, const char *text) {
    char *copy = malloc(token->text_bytes + 1);
    if (!copy || !make_room(j)) {
        free(copy);
        return false;
    }
    memcpy(copy, text, token->text_bytes);
    j->tokens[j->token_count] = *token;
    j->tokens[j->token_count++].text = copy;
    return true;
}
