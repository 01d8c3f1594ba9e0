/* lckv_perplexity, see lckv.h. Long texts are read in overlapping windows or as a stream (sink_stream.h). */
#include "base/options.h"
#include "eval/loglikelihood.h"
#include "eval/nll_curve.h"
#include "eval/sink_stream.h"
#include "model/cache/kv_cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lckv_perplexity {
    const model *model;
    lckv_perplexity_options options;
    sink_stream *stream; /* either this or `scorer` */
    eval_scorer *scorer;
    float *nll; /* [block_size] of a window's tokens */
    int64_t tokens;
    double sum;
    nll_curve curve;
};

void lckv_perplexity_options_init(lckv_perplexity_options *options, size_t struct_size) {
    const lckv_perplexity_options defaults = {
        .window_length = 256, .num_sink_tokens = 2, .encoding = LCKV_ENCODING_AUTO};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

static int check(const model *m, lckv_perplexity_options *o) {
    if (!o->block_size) o->block_size = m->config->positions;
    if (!o->stride) o->stride = (o->block_size + 1) / 2;
    REQUIRE(o->block_size >= 2 && o->block_size <= INT32_MAX / 2, LCKV_ERROR_ARGUMENT,
            "block_size should be at least 2 and at most %d, found %lld", INT32_MAX / 2, (long long)o->block_size);
    REQUIRE(o->stride >= 1 && o->stride < o->block_size, LCKV_ERROR_ARGUMENT,
            "stride should be at least 1 and less than block_size (%lld), found %lld", (long long)o->block_size,
            (long long)o->stride);
    REQUIRE(o->num_eval_tokens >= 0, LCKV_ERROR_ARGUMENT, "num_eval_tokens should be at least 0, found %lld",
            (long long)o->num_eval_tokens);
    return LCKV_OK;
}

static int build(lckv_perplexity *p) {
    const lckv_perplexity_options *o = &p->options;
    dtype compute = o->bf16 ? DTYPE_BF16 : DTYPE_F32, kv_type;
    TRY(check(p->model, &p->options));
    TRY(kv_cache_choose_type(p->model->device, compute, o->kv_dtype, &kv_type));
    sink_stream_options stream = {.compute = compute,
                                  .kv_type = kv_type,
                                  .window_length = o->window_length,
                                  .sinks = o->num_sink_tokens,
                                  .start = o->start_position};
    if (o->streaming) return sink_stream_create(p->model, &stream, &p->stream);
    p->nll = malloc((size_t)o->block_size * sizeof *p->nll);
    REQUIRE(p->nll, LCKV_ERROR_MEMORY, "no memory for a window of %lld tokens", (long long)o->block_size);
    return eval_scorer_create(p->model, compute, kv_type, o->encoding, &p->scorer);
}

int lckv_perplexity_open(lckv_model *m, const lckv_perplexity_options *options, lckv_perplexity **out) {
    *out = NULL;
    lckv_perplexity *p = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for a perplexity measurement");
    p->model = m;
    int status = OPTIONS_TAKE(&p->options, options, lckv_perplexity_defaults);
    if (status >= 0) status = build(p);
    if (status < 0)
        lckv_perplexity_free(p);
    else
        *out = p;
    return status;
}

void lckv_perplexity_free(lckv_perplexity *p) {
    if (!p) return;
    sink_stream_free(p->stream);
    eval_scorer_free(p->scorer);
    free(p->nll);
    free(p);
}

/* ---------------------------------------------------------------- reading */

static int count_token(lckv_perplexity *p, double nll) {
    const lckv_perplexity_options *o = &p->options;
    p->tokens++;
    p->sum += nll;
    nll_curve_add(&p->curve, nll);
    bool go_on = !o->callback || o->callback(o->user, nll);
    REQUIRE(go_on, LCKV_ERROR_INTERRUPTED, "interrupted after %lld token%s", (long long)p->tokens, plural(p->tokens));
    return LCKV_OK;
}

static int read_stream(lckv_perplexity *p, const int32_t *ids, int64_t count) {
    double nll;
    for (int64_t i = 0; i + 1 < count; i++) {
        TRY(sink_stream_step(p->stream, ids[i], ids[i + 1], &nll, NULL));
        TRY(count_token(p, nll));
    }
    return LCKV_OK;
}

/* Scores ids[scored] to ids[end - 1], with those from `first` on as context. */
static int read_window(lckv_perplexity *p, const int32_t *ids, int64_t first, int64_t scored, int64_t end) {
    eval_answer answer;
    int64_t continuation = end - (scored > first ? scored : first + 1);
    eval_pair window = {.ids = (int32_t *)(uintptr_t)(ids + first),
                        .count = end - first,
                        .continuation = continuation,
                        .answer = &answer,
                        .nll = p->nll};
    TRY(eval_scorer_run(p->scorer, &window, 1, NULL));
    for (int64_t i = 0; i < continuation; i++) TRY(count_token(p, (double)p->nll[i]));
    return LCKV_OK;
}

/* Windows start every `stride` tokens. Each scores the tokens that no earlier window has scored. */
static int read_windows(lckv_perplexity *p, const int32_t *ids, int64_t count) {
    int64_t block = p->options.block_size, scored = 0;
    for (int64_t first = 0; scored < count && count > 1; first += p->options.stride) {
        int64_t end = first + block < count ? first + block : count;
        TRY(read_window(p, ids, first, scored, end));
        scored = end;
    }
    return LCKV_OK;
}

static int check_ids(const lckv_perplexity *p, const int32_t *ids, int64_t count) {
    int64_t vocab_size = p->model->config->vocab_size;
    for (int64_t i = 0; i < count; i++)
        REQUIRE(ids[i] >= 0 && ids[i] < vocab_size, LCKV_ERROR_ARGUMENT,
                "token %lld is %d; the model has ids 0 to %lld", (long long)i, (int)ids[i], (long long)vocab_size - 1);
    return LCKV_OK;
}

int lckv_perplexity_read(lckv_perplexity *p, const int32_t *ids, int64_t count) {
    int64_t wanted = p->options.num_eval_tokens, left = wanted - p->tokens;
    TRY(check_ids(p, ids, count));
    if (wanted && left < count) count = left > 0 ? left + 1 : 0;
    return p->stream ? read_stream(p, ids, count) : read_windows(p, ids, count);
}

/* ---------------------------------------------------------------- results */

lckv_perplexity_result lckv_perplexity_so_far(const lckv_perplexity *p) {
    double mean = p->tokens ? p->sum / (double)p->tokens : NAN;
    return (lckv_perplexity_result){.tokens = p->tokens,
                                    .mean_nll = mean,
                                    .perplexity = exp(mean),
                                    .cache_bytes = p->stream ? sink_stream_cache_bytes(p->stream) : 0};
}

int lckv_perplexity_curve(const lckv_perplexity *p, lckv_curve_point **points, int *count) {
    *count = 0;
    *points = malloc(NLL_CURVE_BINS * sizeof **points);
    REQUIRE(*points, LCKV_ERROR_MEMORY, "no memory for a curve");
    *count = nll_curve_points(&p->curve, *points);
    return LCKV_OK;
}
