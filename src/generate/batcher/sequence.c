/* Sequences, see sequence.h. */
#include "generate/batcher/sequence.h"

#include "base/work.h"

#include <stdlib.h>
#include <string.h>

int sequence_check_prompt(const int32_t *prompt, int64_t count, int64_t vocab_size) {
    REQUIRE(count >= 1, LCKV_ERROR_ARGUMENT, "expected a prompt of at least one token, found none");
    REQUIRE(count <= INT32_MAX, LCKV_ERROR_ARGUMENT, "expected a prompt of at most 2^31 - 1 tokens, found %lld",
            (long long)count);
    for (int64_t i = 0; i < count; i++)
        REQUIRE(prompt[i] >= 0 && prompt[i] < vocab_size, LCKV_ERROR_ARGUMENT,
                "token %lld of the prompt is %d; the model has ids 0 to %lld", (long long)i, (int)prompt[i],
                (long long)vocab_size - 1);
    return LCKV_OK;
}

int sequence_create(const int32_t *prompt, int64_t count, int64_t vocab_size, const sample_row *how, sequence **out) {
    *out = NULL;
    TRY(sequence_check_prompt(prompt, count, vocab_size));
    sequence *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for a sequence");
    *s = (sequence){.how = *how, .cache_id = -1, .max_count = INT64_MAX, .count = count, .prompt_count = count};
    s->first_scored = 1;
    s->last_label = -1;
    s->capacity = count + 64;
    s->ids = malloc((size_t)s->capacity * sizeof *s->ids);
    if (how->repetition_penalty != 1) s->seen = calloc((size_t)vocab_size, 1);
    if (!s->ids || (how->repetition_penalty != 1 && !s->seen)) {
        sequence_free(s);
        return fail(LCKV_ERROR_MEMORY, "no memory for a sequence of %lld tokens", (long long)count);
    }
    memcpy(s->ids, prompt, (size_t)count * sizeof *prompt);
    for (int64_t i = 0; s->seen && i < count; i++) s->seen[prompt[i]] = 1;
    *out = s;
    return LCKV_OK;
}

void sequence_free(sequence *s) {
    if (!s) return;
    free(s->ids);
    free(s->seen);
    free(s->bias);
    free(s->penalized);
    free(s->top);
    free(s->scored);
    free(s->scored_best);
    free(s);
}

int sequence_enable_top(sequence *s, int top_logprobs) {
    s->top = calloc((size_t)top_logprobs + 1, sizeof *s->top);
    REQUIRE(s->top, LCKV_ERROR_MEMORY, "no memory for %d log-probabilities", top_logprobs);
    s->top_logprobs = top_logprobs;
    return LCKV_OK;
}

int sequence_add_bias(sequence *s, int64_t vocab_size, const int32_t *ids, const float *values, int count) {
    s->bias = calloc((size_t)vocab_size, sizeof *s->bias);
    s->penalized = calloc((size_t)vocab_size, 1);
    REQUIRE(s->bias && s->penalized, LCKV_ERROR_MEMORY, "no memory for a bias of %lld tokens", (long long)vocab_size);
    for (int i = 0; i < count; i++) s->bias[ids[i]] += values[i];
    s->how.biased = 1;
    return LCKV_OK;
}

static int reserve_scored(sequence *s, int32_t count) {
    if (count <= s->scored_capacity) return LCKV_OK;
    int32_t capacity = s->scored_capacity ? 2 * s->scored_capacity : 1;
    lckv_logprob *scored = realloc(s->scored, (size_t)capacity * (1 + (size_t)s->top_logprobs) * sizeof *scored);
    if (scored) s->scored = scored;
    bool *best = realloc(s->scored_best, (size_t)capacity * sizeof *best);
    if (best) s->scored_best = best;
    REQUIRE(scored && best, LCKV_ERROR_MEMORY, "no memory for log-probabilities of %d tokens", (int)capacity);
    s->scored_capacity = capacity;
    return LCKV_OK;
}

int sequence_add_scored(sequence *s, const lckv_logprob *values, bool best) {
    size_t each = 1 + (size_t)s->top_logprobs;
    TRY(reserve_scored(s, s->scored_count + 1));
    memcpy(s->scored + (size_t)s->scored_count * each, values, each * sizeof *values);
    s->scored_best[s->scored_count++] = best;
    return LCKV_OK;
}

static void penalize(sequence *s, int32_t id) {
    work_count(1);
    if (!s->penalized[id]) s->bias[id] -= s->how.presence_penalty;
    s->bias[id] -= s->how.frequency_penalty;
    s->penalized[id] = 1;
}

int sequence_append(sequence *s, int32_t id) {
    if (s->count == s->capacity) {
        int32_t *ids = realloc(s->ids, (size_t)s->capacity * 2 * sizeof *ids);
        REQUIRE(ids, LCKV_ERROR_MEMORY, "no memory for a sequence of %lld tokens", (long long)s->capacity * 2);
        s->ids = ids;
        s->capacity *= 2;
    }
    if (s->bias) penalize(s, id);
    s->ids[s->count++] = id;
    if (s->seen) s->seen[id] = 1;
    return LCKV_OK;
}
