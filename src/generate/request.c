/* Requests, see request.h. */
#include "generate/request.h"

#include "generate/batcher/logprobs.h"
#include "generate/sampling_parameters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int check_parameter(const char *name, double value, double min, double max, const char *valid) {
    REQUIRE(value >= min && value <= max, LCKV_ERROR_ARGUMENT, "%s should be %s, found %.10g", name, valid, value);
    return LCKV_OK;
}

#define CHECK(name, min, max, valid) TRY(check_parameter(#name, (double)r->name, min, max, valid));
#define CHECK_SAMPLING(name, KIND, in_request, in_generate, in_chat, min, max, valid, ...) CHECK(name, min, max, valid)
#define CHECK_PENALTY(name, KIND, in_request, min, max, valid, ...) CHECK(name, min, max, valid)

static int check_sampling(const lckv_request *r) {
    SAMPLING_PARAMETERS(CHECK_SAMPLING)
    PENALTY_PARAMETERS(CHECK_PENALTY)
    return LCKV_OK;
}

static int check_logprobs(const lckv_request *r, int64_t vocab_size) {
    REQUIRE(r->top_logprobs >= 0 && r->top_logprobs <= LOGPROBS_MAX, LCKV_ERROR_ARGUMENT,
            "top_logprobs should be 0 to %d, found %d", LOGPROBS_MAX, r->top_logprobs);
    for (int i = 0; i < r->bias_count; i++)
        REQUIRE(r->bias_ids[i] >= 0 && r->bias_ids[i] < vocab_size && isfinite(r->bias_values[i]), LCKV_ERROR_ARGUMENT,
                "a bias of %g for token %d: expected a finite bias and an id from 0 to %lld", (double)r->bias_values[i],
                (int)r->bias_ids[i], (long long)vocab_size - 1);
    return LCKV_OK;
}

int request_check(const lckv_request *r, const lckv_tokenizer *tokenizer, int64_t vocab_size) {
    TRY(sequence_check_prompt(r->prompt.ids, r->prompt.count, vocab_size));
    TRY(check_sampling(r));
    TRY(check_logprobs(r, vocab_size));
    REQUIRE(r->n >= 1, LCKV_ERROR_ARGUMENT, "n should be at least 1, found %d", r->n);
    REQUIRE(r->max_new_tokens >= -1, LCKV_ERROR_ARGUMENT,
            "max_new_tokens should be 0 or more, or -1 (up to the length limit), found %lld",
            (long long)r->max_new_tokens);
    REQUIRE(r->encoding >= LCKV_ENCODING_AUTO && r->encoding <= LCKV_ENCODING_SEQUENTIAL, LCKV_ERROR_ARGUMENT,
            "unknown encoding %d", (int)r->encoding);
    REQUIRE(!r->stop_count || tokenizer, LCKV_ERROR_ARGUMENT, "stop strings require a tokenizer");
    for (int i = 0; i < r->stop_count; i++) REQUIRE(r->stop[i][0], LCKV_ERROR_ARGUMENT, "stop string %d is empty", i);
    return LCKV_OK;
}

static int copy_stops(request *r, const lckv_request *options) {
    r->stops = calloc((size_t)options->stop_count + 1, sizeof *r->stops);
    REQUIRE(r->stops, LCKV_ERROR_MEMORY, "no memory for %d stop strings", options->stop_count);
    for (; r->stop_count < options->stop_count; r->stop_count++) {
        r->stops[r->stop_count] = strdup(options->stop[r->stop_count]);
        REQUIRE(r->stops[r->stop_count], LCKV_ERROR_MEMORY, "no memory for stop strings");
    }
    return LCKV_OK;
}

#define COPY(name, ...) .name = options->name,

static int add_sample(request *r, const lckv_request *options, int64_t vocab_size, int64_t max_count) {
    request_sample *s = &r->samples[r->n];
    sample_row how = {.seed = options->seed,
                      .stream = options->stream << 32 | (uint64_t)r->n,
                      SAMPLING_PARAMETERS(COPY) PENALTY_PARAMETERS(COPY)};
    r->n++;
    r->left++;
    s->request = r;
    TRY(sequence_create(options->prompt.ids, options->prompt.count, vocab_size, &how, &s->sequence));
    s->sequence->max_count = max_count;
    s->sequence->ignore_eos = options->ignore_eos;
    s->sequence->encoding = options->encoding;
    s->sequence->owner = s;
    if (r->n > 1) s[-1].sequence->next_sample = s->sequence;
    s->sequence->prompt_logprobs = options->prompt_logprobs && r->n == 1;
    TRY(sequence_enable_top(s->sequence, options->top_logprobs));
    if (options->bias_count || options->presence_penalty != 0 || options->frequency_penalty != 0)
        TRY(sequence_add_bias(s->sequence, vocab_size, options->bias_ids, options->bias_values, options->bias_count));
    if (!r->tokenizer) return LCKV_OK;
    if (r->n > 1) return text_stream_copy(&s->text, &s[-1].text); /* the prompt is decoded once */
    return text_stream_open(&s->text, r->tokenizer, options->prompt.ids, options->prompt.count,
                            (const char *const *)r->stops, r->stop_count);
}

static int fill(request *r, const lckv_request *options, int64_t vocab_size, int64_t max_count) {
    r->samples = calloc((size_t)options->n, sizeof *r->samples);
    REQUIRE(r->samples, LCKV_ERROR_MEMORY, "no memory for %d samples", options->n);
    TRY(copy_stops(r, options));
    for (int i = 0; i < options->n; i++) TRY(add_sample(r, options, vocab_size, max_count));
    return LCKV_OK;
}

int request_create(const lckv_request *options, lckv_tokenizer *tokenizer, int64_t vocab_size, int64_t max_count,
                   request **out) {
    *out = NULL;
    request *r = calloc(1, sizeof *r);
    REQUIRE(r, LCKV_ERROR_MEMORY, "no memory for a request");
    r->tokenizer = tokenizer;
    r->mark = options->mark;
    int status = fill(r, options, vocab_size, max_count);
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
