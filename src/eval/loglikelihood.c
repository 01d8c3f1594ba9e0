/* Log-likelihoods of continuations, see loglikelihood.h. */
#include "eval/loglikelihood.h"

#include "eval/lockstep_scorer.h"
#include "eval/tasks/task_template_filters.h"
#include "model/decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- encoding */

typedef struct id_span {
    int32_t *ids;
    size_t count;
} id_span;

static int encode(lckv_tokenizer *t, const char *text, size_t bytes, bool special, id_span *out) {
    return lckv_tokenizer_encode(t, text, bytes, special, &out->ids, &out->count);
}

/* ids = `first`, then `rest` without its first `skip` ids; of more than `limit` ids the last ones are kept. */
static int join(id_span first, id_span rest, size_t skip, int64_t limit, eval_pair *out) {
    skip = skip < rest.count ? skip : rest.count;
    out->continuation = (int64_t)(rest.count - skip);
    out->count = (int64_t)first.count + out->continuation;
    int64_t drop = out->count > limit ? out->count - limit : 0;
    REQUIRE(out->continuation >= 1 && out->continuation < limit, LCKV_ERROR_FORMAT,
            "a continuation of %lld tokens: expected 1 to %lld", (long long)out->continuation, (long long)limit - 1);
    out->ids = malloc((size_t)out->count * sizeof *out->ids);
    REQUIRE(out->ids, LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)out->count);
    memcpy(out->ids, first.ids, first.count * sizeof *out->ids);
    memcpy(out->ids + first.count, rest.ids + skip, (size_t)out->continuation * sizeof *out->ids);
    out->count -= drop;
    memmove(out->ids, out->ids + drop, (size_t)out->count * sizeof *out->ids);
    return LCKV_OK;
}

static int encode_without_context(lckv_tokenizer *t, const char *continuation, int64_t limit, eval_pair *out) {
    int32_t bos = lckv_tokenizer_bos_id(t), prefix = bos >= 0 ? bos : lckv_tokenizer_eos_id(t);
    id_span rest = {0}, first = {&prefix, 1};
    REQUIRE(prefix >= 0, LCKV_ERROR_UNSUPPORTED, "an empty context requires a tokenizer with a BOS or EOS token");
    TRY(encode(t, continuation, strlen(continuation), false, &rest));
    bool has_prefix = rest.count && rest.ids[0] == prefix;
    int status = join(first, rest, has_prefix, limit, out);
    lckv_free(rest.ids);
    return status;
}

/* The tokens of the continuation are those of the whole text after the number of tokens that the context has. */
static int encode_both(lckv_tokenizer *t, const char *whole, size_t context_bytes, int64_t limit, eval_pair *out) {
    id_span context = {0}, both = {0};
    int status = encode(t, whole, context_bytes, true, &context);
    if (status >= 0) status = encode(t, whole, strlen(whole), true, &both);
    if (status >= 0) status = join(context, both, context.count, limit, out);
    lckv_free(context.ids);
    lckv_free(both.ids);
    return status;
}

int eval_pair_encode(lckv_tokenizer *t, const char *context, const char *continuation, int64_t max_length,
                     eval_pair *out) {
    size_t length = strlen(context), more = strlen(continuation) + 1;
    *out = (eval_pair){0};
    char *whole = malloc(length + more);
    REQUIRE(whole, LCKV_ERROR_MEMORY, "no memory for a text of %zu bytes", length + more);
    memcpy(whole, context, length);
    memcpy(whole + length, continuation, more);
    size_t kept = length - white_space_after(context, length);
    int status =
        kept ? encode_both(t, whole, kept, max_length + 1, out) : encode_without_context(t, whole, max_length + 1, out);
    free(whole);
    if (status < 0) eval_pair_free(out);
    return status;
}

void eval_pair_free(eval_pair *pair) {
    free(pair->ids);
    *pair = (eval_pair){0};
}

/* ---------------------------------------------------------------- running */

struct eval_scorer {
    const model *model;
    graph *graph;
    batch *batch;
    view scale;                /* f32 [1, 1]: 1 */
    lockstep_scorer *lockstep; /* of the exact form, which needs nothing below; NULL: the plan */
    batch_entry *entries;      /* [capacity] */
    int capacity;
    int32_t *labels, *correct; /* [row_capacity] host: labels of all rows; whether the label of a wanted row is the most
                                  probable id */
    float *nll;
    int64_t row_capacity;
};

static int build(eval_scorer *s, dtype compute, dtype kv_type) {
    device *d = s->model->device;
    float one = 1;
    s->scale = (view){NULL, 1, 1, DTYPE_F32};
    TRY(graph_create(d, compute, false, &s->graph));
    TRY(batch_create(d, (batch_limits){.rows = 1, .sequences = 1}, &s->batch));
    s->batch->kv_type = kv_type;
    TRY(d->memory.alloc(d, sizeof one, &s->scale.data));
    TRY(d->memory.copy_in(d, s->scale.data, &one, sizeof one));
    return d->memory.wait(d);
}

int eval_scorer_create(const model *m, dtype compute, dtype kv_type, lckv_encoding encoding, eval_scorer **out) {
    *out = NULL;
    eval_scorer *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for a scorer");
    s->model = m;
    bool exact = encoding == LCKV_ENCODING_SEQUENTIAL && m->config->map.loops > 0;
    int status = exact ? lockstep_scorer_create(m, compute, kv_type, NULL, &s->lockstep) : build(s, compute, kv_type);
    if (status < 0)
        eval_scorer_free(s);
    else
        *out = s;
    return status;
}

void eval_scorer_free(eval_scorer *s) {
    if (!s) return;
    lockstep_scorer_free(s->lockstep);
    s->model->device->memory.release(s->model->device, s->scale.data);
    batch_free(s->batch);
    graph_free(s->graph);
    free(s->entries);
    free(s->labels);
    free(s->correct);
    free(s->nll);
    free(s);
}

/* Allocates *array for `count` items of `size` bytes; its content is lost. */
static int reserve(void *array, int64_t count, size_t size) {
    void **slot = array;
    free(*slot);
    *slot = malloc((size_t)count * size);
    REQUIRE(*slot, LCKV_ERROR_MEMORY, "no memory to score %lld tokens", (long long)count);
    return LCKV_OK;
}

static int reserve_all(eval_scorer *s, const eval_pair *pairs, int count) {
    int64_t rows = 0;
    for (int i = 0; i < count; i++) rows += pairs[i].count;
    if (count > s->capacity) {
        s->capacity = 0;
        TRY(reserve(&s->entries, count, sizeof *s->entries));
        s->capacity = count;
    }
    if (rows <= s->row_capacity) return LCKV_OK;
    s->row_capacity = 0;
    TRY(reserve(&s->labels, rows, sizeof *s->labels));
    TRY(reserve(&s->correct, rows, sizeof *s->correct));
    TRY(reserve(&s->nll, rows, sizeof *s->nll));
    s->row_capacity = rows;
    return LCKV_OK;
}

/* All ids except the last one are read. The label of a row is the next id if that belongs to the continuation. */
static void fill_entries(eval_scorer *s, const eval_pair *pairs, int count) {
    int32_t *labels = s->labels;
    bool planned = s->model->config->map.loops > 0;
    for (int i = 0; i < count; i++) {
        const eval_pair *p = &pairs[i];
        int32_t rows = (int32_t)p->count - 1, continuation = (int32_t)p->continuation;
        for (int32_t j = 0; j < rows; j++) labels[j] = j < rows - continuation ? -1 : p->ids[j + 1];
        s->entries[i] = (batch_entry){
            .ids = p->ids, .labels = labels, .rows = rows, .wanted = continuation, .cache_id = -1, .planned = planned};
        labels += rows;
    }
}

static int forward(eval_scorer *s) {
    const model *m = s->model;
    device *d = m->device;
    tensor *hidden, *nll, *correct;
    TRY(decoder_forward(m, s->graph, s->batch, NULL, &hidden));
    TRY(graph_tensor(s->graph, s->batch->wanted, 1, DTYPE_F32, &nll));
    TRY(graph_tensor(s->graph, s->batch->wanted, 1, DTYPE_I32, &correct));
    TRY(decoder_loss(m, s->graph, s->batch, hidden, s->scale, (view){0}, nll->value, correct->value));
    TRY(d->memory.copy_out(d, s->nll, nll->value.data, view_bytes(nll->value)));
    TRY(d->memory.copy_out(d, s->correct, correct->value.data, view_bytes(correct->value)));
    return d->memory.wait(d);
}

static int read_answers(const eval_scorer *s, const eval_pair *pairs, int count) {
    int64_t row = 0;
    for (int i = 0; i < count; i++) {
        eval_answer answer = {.greedy = true};
        for (int64_t j = 0; j < pairs[i].continuation; j++, row++) {
            answer.loglikelihood -= (double)s->nll[row];
            answer.greedy = answer.greedy && s->correct[row];
            if (pairs[i].nll) pairs[i].nll[j] = s->nll[row];
        }
        REQUIRE(isfinite(answer.loglikelihood), LCKV_ERROR_NUMERIC, "a log-likelihood is not finite");
        *pairs[i].answer = answer;
    }
    return LCKV_OK;
}

int eval_scorer_run(eval_scorer *s, const eval_pair *pairs, int count, const eval_progress *progress) {
    if (s->lockstep) return lockstep_scorer_run(s->lockstep, pairs, count, progress);
    TRY(reserve_all(s, pairs, count));
    fill_entries(s, pairs, count);
    TRY(batch_fill(s->batch, NULL, s->entries, count));
    int status = forward(s), reset = graph_reset(s->graph);
    TRY(status);
    TRY(reset);
    return read_answers(s, pairs, count);
}
