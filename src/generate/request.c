#include "generate/request.h"

#include "generate/logprobs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int check_sampling(const lckv_request *r) {
    REQUIRE(r->temperature >= 0 && isfinite(r->temperature), LCKV_ERROR_ARGUMENT,
            "temperature should be 0 (greedy) or more, found %g", r->temperature);
    REQUIRE(r->top_k >= 0 && r->top_k <= INT32_MAX, LCKV_ERROR_ARGUMENT, "top_k should be 0 (off) or more, found %lld",
            (long long)r->top_k);
    REQUIRE(r->top_p > 0 && r->top_p <= 1, LCKV_ERROR_ARGUMENT, "top_p should be above 0 and at most 1 (off), found %g",
            r->top_p);
    REQUIRE(r->min_p >= 0 && r->min_p <= 1, LCKV_ERROR_ARGUMENT, "min_p should be from 0 (off) to 1, found %g",
            r->min_p);
    REQUIRE(r->repetition_penalty > 0 && isfinite(r->repetition_penalty), LCKV_ERROR_ARGUMENT,
            "repetition_penalty should be above 0, found %g", r->repetition_penalty);
    REQUIRE(isfinite(r->presence_penalty) && isfinite(r->frequency_penalty), LCKV_ERROR_ARGUMENT,
            "presence_penalty and frequency_penalty should be finite, found %g and %g", r->presence_penalty,
            r->frequency_penalty);
    return LCKV_OK;
}

static int check_logprobs(const lckv_request *r, int64_t vocab_size) {
    REQUIRE(r->top_logprobs >= 0 && r->top_logprobs <= LOGPROBS_MOST, LCKV_ERROR_ARGUMENT,
            "top_logprobs should be 0 to %d, found %d", LOGPROBS_MOST, r->top_logprobs);
    for (int i = 0; i < r->bias_count; i++)
        REQUIRE(r->bias_ids[i] >= 0 && r->bias_ids[i] < vocab_size && isfinite(r->bias_values[i]), LCKV_ERROR_ARGUMENT,
                "a bias of %g for token %d: the model has ids 0 to %lld, and a bias is finite",
                (double)r->bias_values[i], (int)r->bias_ids[i], (long long)vocab_size - 1);
    return LCKV_OK;
}

int request_check(const lckv_request *r, const lckv_tokenizer *tokenizer, int64_t vocab_size) {
    TRY(sequence_check_prompt(r->prompt.ids, r->prompt.count, vocab_size));
    TRY(check_sampling(r));
    TRY(check_logprobs(r, vocab_size));
    REQUIRE(r->n >= 1, LCKV_ERROR_ARGUMENT, "n should be at least 1, found %d", r->n);
    REQUIRE(r->max_new_tokens >= -1, LCKV_ERROR_ARGUMENT,
            "max_new_tokens should be 0 or more, or -1 (as many as fit), found %lld", (long long)r->max_new_tokens);
    REQUIRE(r->encoding >= LCKV_ENCODING_AUTO && r->encoding <= LCKV_ENCODING_SEQUENTIAL, LCKV_ERROR_ARGUMENT,
            "there is no encoding %d", (int)r->encoding);
    REQUIRE(!r->stop_count || tokenizer, LCKV_ERROR_ARGUMENT, "stop strings need a tokenizer, there is none");
    for (int i = 0; i < r->stop_count; i++) REQUIRE(r->stop[i][0], LCKV_ERROR_ARGUMENT, "stop string %d is empty", i);
    return LCKV_OK;
}

static int copy_stops(request *r, const lckv_request *asked) {
    r->stops = calloc((size_t)asked->stop_count + 1, sizeof *r->stops);
    REQUIRE(r->stops, LCKV_ERROR_MEMORY, "no memory for %d stop strings", asked->stop_count);
    for (; r->stop_count < asked->stop_count; r->stop_count++) {
        r->stops[r->stop_count] = strdup(asked->stop[r->stop_count]);
        REQUIRE(r->stops[r->stop_count], LCKV_ERROR_MEMORY, "no memory for stop strings");
    }
    return LCKV_OK;
}

static int add_sample(request *r, const lckv_request *asked, int64_t vocab_size, int64_t most) {
    request_sample *s = &r->samples[r->n];
    sample_row how = {.seed = asked->seed,
                      .stream = asked->stream << 32 | (uint64_t)r->n,
                      .temperature = (float)asked->temperature,
                      .top_p = (float)asked->top_p,
                      .min_p = (float)asked->min_p,
                      .repetition_penalty = (float)asked->repetition_penalty,
                      .top_k = (int32_t)asked->top_k};
    r->n++;
    r->left++;
    s->request = r;
    TRY(sequence_create(asked->prompt.ids, asked->prompt.count, vocab_size, &how, &s->sequence));
    s->sequence->most = most;
    s->sequence->ignore_eos = asked->ignore_eos;
    s->sequence->encoding = asked->encoding;
    s->sequence->owner = s;
    if (r->n > 1) s[-1].sequence->follows = s->sequence;
    s->sequence->prompt_logprobs = asked->prompt_logprobs && r->n == 1;
    s->sequence->presence_penalty = (float)asked->presence_penalty;
    s->sequence->frequency_penalty = (float)asked->frequency_penalty;
    TRY(sequence_tell_top(s->sequence, asked->top_logprobs));
    if (asked->bias_count || asked->presence_penalty != 0 || asked->frequency_penalty != 0)
        TRY(sequence_add_bias(s->sequence, vocab_size, asked->bias_ids, asked->bias_values, asked->bias_count));
    if (!r->tokenizer) return LCKV_OK;
    if (r->n > 1) return text_stream_copy(&s->text, &s[-1].text); /* the prompt is decoded once */
    return text_stream_open(&s->text, r->tokenizer, asked->prompt.ids, asked->prompt.count,
                            (const char *const *)r->stops, r->stop_count);
}

static int fill(request *r, const lckv_request *asked, int64_t vocab_size, int64_t most) {
    r->samples = calloc((size_t)asked->n, sizeof *r->samples);
    REQUIRE(r->samples, LCKV_ERROR_MEMORY, "no memory for %d samples", asked->n);
    TRY(copy_stops(r, asked));
    for (int i = 0; i < asked->n; i++) TRY(add_sample(r, asked, vocab_size, most));
    return LCKV_OK;
}

int request_create(const lckv_request *asked, lckv_tokenizer *tokenizer, int64_t vocab_size, int64_t most,
                   request **out) {
    *out = NULL;
    request *r = calloc(1, sizeof *r);
    REQUIRE(r, LCKV_ERROR_MEMORY, "no memory for a request");
    r->tokenizer = tokenizer;
    r->mark = asked->mark;
    int status = fill(r, asked, vocab_size, most);
    if (status < 0)
        request_free(r);
    else
        *out = r;
    return status;
}

void request_free(request *r) {
    if (!r) return;
    for (int i = 0; i < r->n; i++) {
        sequence_free(r->samples[i].sequence);
        text_stream_close(&r->samples[i].text);
    }
    for (int i = 0; i < r->stop_count; i++) free(r->stops[i]);
    free(r->stops);
    free(r->samples);
    free(r);
}
