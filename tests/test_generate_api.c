/* lckv_generate() and lckv_score(): order of results, text, limits, errors, interruption. */
#include "generate/sampling_parameters.h"
#include "io/tensors/safetensors.h"

#include "small_tokenizer.h"

#include "fixture.h"

/* ---------------------------------------------------------------- small random models */

static void open_small(fixture *f, const char *more) {
    char extra[256];
    snprintf(extra, sizeof extra, ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":2,\"backward_passes\":1%s", more);
    fixture_open(f, 4, extra, DTYPE_F32, false);
}

typedef struct heard {
    int tokens, waits, ends;
    int stop_after; /* tokens; 0: never */
    text_buffer text[8];
    int32_t last[8];
} heard;

static bool listen(void *user, const lckv_token *token) {
    heard *h = user;
    if (!token) return ++h->waits < 1000;
    int at = 2 * token->prompt + token->sample;
    h->tokens++;
    h->ends += token->finish != LCKV_FINISH_NONE;
    h->last[at] = token->id;
    assert_true(token->logprob <= 0);
    if (token->text_bytes) OK(text_append(&h->text[at], token->text, token->text_bytes));
    return h->tokens != h->stop_after;
}

static void results_come_by_prompt_and_sample(void **state) {
    (void)state;
    fixture f;
    open_small(&f, "");
    const int32_t ids[] = {4, 8, 15, 16, 23};
    const lckv_prompt prompts[] = {{ids, 5}, {ids, 1}, {ids + 1, 3}};
    heard h = {0};
    lckv_generate_options o = lckv_generate_defaults();
    o.num_return_sequences = 2;
    o.length = 6;
    o.callback = listen;
    o.user = &h;
    lckv_generation *g, *again;
    OK(lckv_generate(f.model, NULL, prompts, 3, &o, &g));
    assert_int_equal(g->count, 6);
    assert_int_equal(h.tokens, 36);
    assert_int_equal(h.ends, 6);
    assert_int_equal(g->prompt_tokens, 5 + 1 + 3); /* once for both samples */
    for (int i = 0; i < 6; i++) {
        const lckv_sequence *s = &g->sequences[i];
        assert_int_equal(s->prompt, i / 2);
        assert_int_equal(s->sample, i % 2);
        assert_int_equal(s->count, 6);
        assert_int_equal(s->ids[5], h.last[i]);
        assert_null(s->text);
        assert_int_equal(s->finish, LCKV_FINISH_LENGTH);
    }
    assert_memory_not_equal(g->sequences[0].ids, g->sequences[1].ids, 6 * sizeof(int32_t));
    o.callback = NULL;
    OK(lckv_generate(f.model, NULL, prompts, 1, &o, &again)); /* together with other prompts */
    assert_memory_equal(g->sequences[1].ids, again->sequences[1].ids, 6 * sizeof(int32_t));
    lckv_generation_free(g);
    lckv_generation_free(again);
    fixture_close(&f);
}

static void positions_are_a_limit(void **state) {
    (void)state;
    fixture f;
    open_small(&f, "");
    ((model_config *)f.model->config)->positions = 12;
    int32_t ids[12] = {1, 2, 3, 4, 5};
    const lckv_prompt fits = {ids, 5}, fills = {ids, 12};
    lckv_generate_options o = lckv_generate_defaults();
    lckv_generation *g;
    OK(lckv_generate(f.model, NULL, &fits, 1, &o, &g));
    assert_int_equal(g->sequences[0].count, 7);
    assert_int_equal(g->sequences[0].finish, LCKV_FINISH_LENGTH);
    lckv_generation_free(g);
    assert_int_equal(lckv_generate(f.model, NULL, &fills, 1, &o, &g), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), "max_position_embeddings"));
    assert_null(g);
    o.window_length = 4; /* a stream has no limit */
    o.num_sink_tokens = 1;
    OK(lckv_generate(f.model, NULL, &fills, 1, &o, &g));
    assert_int_equal(g->sequences[0].count, 20);
    lckv_generation_free(g);
    fixture_close(&f);
}

static void options_are_checked(void **state) {
    (void)state;
    fixture f;
    open_small(&f, "");
    const int32_t ids[] = {1, 2};
    const lckv_prompt prompt = {ids, 2};
    const char *const stop = "x";
    lckv_generate_options good = lckv_generate_defaults(), o[4];
    for (int i = 0; i < 4; i++) o[i] = good;
    o[0].length = 0;
    o[1].num_return_sequences = 0;
    o[2].stop = &stop;
    o[2].stop_count = 1;
    o[3].window_length = 4;
    o[3].num_sink_tokens = 4;
    const char *const words[] = {"length", "num_return_sequences", "tokenizer", "sinks"};
    for (int i = 0; i < 4; i++) {
        lckv_generation *g;
        assert_int_equal(lckv_generate(f.model, NULL, &prompt, 1, &o[i], &g), LCKV_ERROR_ARGUMENT);
        if (!strstr(lckv_last_error(), words[i])) fail_msg("'%s' does not say '%s'", lckv_last_error(), words[i]);
        assert_null(g);
    }
    fixture_close(&f);
}

/* A value of one parameter, in the options and in the request that lckv_generate() makes of them. */
static void check_rejected(const fixture *f, const char *name, const char *valid, const lckv_generate_options *o) {
    const lckv_prompt prompt = {(const int32_t[]){1, 2}, 2};
    char expected[128];
    lckv_generation *g;
    snprintf(expected, sizeof expected, "%s should be %s, found", name, valid);
    assert_int_equal(lckv_generate(f->model, NULL, &prompt, 1, o, &g), LCKV_ERROR_ARGUMENT);
    if (!strstr(lckv_last_error(), expected)) fail_msg("'%s' does not say '%s'", lckv_last_error(), expected);
}

#define CHECK_VALUE(name, value, valid) o.name = (value), check_rejected(&f, #name, valid, &o);
#define CHECK_INT(name, value, valid) CHECK_VALUE(name, (int64_t)(value), valid)
#define CHECK_NUMBER(name, value, valid)                                                                               \
    CHECK_VALUE(name, value, valid) CHECK_VALUE(name, NAN, valid) CHECK_VALUE(name, INFINITY, valid)
#define CHECK_ROW(name, KIND, in_request, in_generate, in_chat, valid_min, valid_max, valid, ...)                      \
    assert_true(request.name == in_request && good.name == in_generate);                                               \
    o = good;                                                                                                          \
    CHECK_##KIND(name, valid_min - 1.0, valid)

static void sampling_parameters_follow_from_their_rows(void **state) {
    (void)state;
    fixture f;
    open_small(&f, "");
    const lckv_request request = lckv_request_defaults();
    const lckv_generate_options good = lckv_generate_defaults();
    lckv_generate_options o;
    SAMPLING_PARAMETERS(CHECK_ROW)
    fixture_close(&f);
}

static void callbacks_interrupt(void **state) {
    (void)state;
    fixture f;
    open_small(&f, "");
    const int32_t ids[] = {1, 2};
    const lckv_prompt prompts[] = {{ids, 2}, {ids, 1}};
    heard h = {.stop_after = 5};
    lckv_generate_options o = lckv_generate_defaults();
    o.callback = listen;
    o.user = &h;
    lckv_generation *g;
    assert_int_equal(lckv_generate(f.model, NULL, prompts, 2, &o, &g), LCKV_ERROR_INTERRUPTED);
    assert_null(g);
    assert_int_equal(h.tokens, 5);
    h = (heard){0};
    const lckv_prompt three = {(const int32_t[]){1, 2, 3}, 3}; /* m + b tokens: processed one at a time */
    OK(lckv_generate(f.model, NULL, &three, 1, &o, &g));
    assert_int_equal(h.waits, 2);
    lckv_generation_free(g);
    fixture_close(&f);
}

/* The same model with this vocabulary size and other weights. */
static void change_vocabulary(fixture *f, int64_t vocab_size) {
    model_config *c;
    params *p;
    OK(config_copy(f->model->config, &c));
    model_free(f->model);
    c->vocab_size = vocab_size;
    OK(params_create(c, NULL, NULL, &p));
    OK(params_allocate(p, f->device, DTYPE_F32));
    OK(params_randomize(p, c, 3));
    OK(model_create(f->device, c, p, &f->model));
}

/* A model with the small tokenizer's vocabulary generates random words. The streamed text equals the returned one. */
static void text_comes_with_a_tokenizer(void **state) {
    lckv_tokenizer *t = small_tokenizer(*state);
    fixture f;
    lckv_generation *g;
    heard h = {0};
    const int32_t ids[] = {1, word_token("▁the")};
    const lckv_prompt prompt = {ids, 2};
    lckv_generate_options o = lckv_generate_defaults();
    o.callback = listen;
    o.user = &h;
    o.length = 300;
    o.temperature = 2;
    o.top_p = 1;
    open_small(&f, "");
    assert_int_equal(lckv_generate(f.model, t, &prompt, 1, &o, &g), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), "the tokenizer has 275 tokens, the model 37"));
    change_vocabulary(&f, SMALL_VOCAB + 2); /* includes ids without a token */
    OK(lckv_generate(f.model, t, &prompt, 1, &o, &g));
    size_t bytes = g->sequences[0].text_bytes;
    size_t seam = h.text[0].length - bytes; /* a space that decoding the continuation alone would remove */
    assert_true(seam <= 1 && bytes > 200);
    assert_memory_equal(h.text[0].data + seam, g->sequences[0].text, bytes);
    lckv_generation_free(g);
    text_free(&h.text[0]);
    o.stop = &(const char *){"ing"};
    o.stop_count = 1;
    OK(lckv_generate(f.model, t, &prompt, 1, &o, &g));
    const lckv_sequence *s = &g->sequences[0];
    assert_int_equal(s->finish, LCKV_FINISH_STOP);
    assert_null(strstr(s->text, "ing"));
    assert_int_equal(s->ids[s->count - 1], word_token("ing"));
    text_free(&h.text[0]);
    lckv_generation_free(g);
    lckv_tokenizer_free(t);
    fixture_close(&f);
}

/* ---------------------------------------------------------------- scores */

static double logprob_of(const float *logits, int64_t vocab_size, int32_t id) {
    double sum = 0, largest = -INFINITY;
    for (int64_t i = 0; i < vocab_size; i++) largest = fmax(largest, (double)logits[i]);
    for (int64_t i = 0; i < vocab_size; i++) sum += exp((double)logits[i] - largest);
    return (double)logits[id] - largest - log(sum);
}

/* The logits [rows, vocab_size] in a file that lckv_score() wrote; release with free(). */
static float *read_logits(const char *path, int64_t rows, int64_t vocab_size) {
    safetensors_file file;
    OK(safetensors_open(path, &file));
    const safetensors_entry *e = safetensors_find(&file, "logits");
    assert_non_null(e);
    assert_int_equal(e->type, DTYPE_F32);
    assert_int_equal(e->dimensions, 2);
    assert_int_equal(e->shape[0], rows);
    assert_int_equal(e->shape[1], vocab_size);
    float *logits = malloc(e->bytes);
    assert_non_null(logits);
    memcpy(logits, e->data, e->bytes);
    safetensors_close(&file);
    return logits;
}

/* In each encoding, log-probabilities follow from the logits, and the logits equal those of the decoder. With enough
 * sinks nothing is evicted, and with enough iterations the plan is exact, so that all encodings agree. */
/* The most probable ids of each position against a plain search of its logits. An id that is both given and among them
 * has one value. */
static void expect_top(lckv_model *m, const int32_t *ids, int count, const float *logits, lckv_score_options o) {
    enum { TOP = 3 };
    int32_t *top = calloc((size_t)count * TOP, sizeof *top);
    float *values = calloc((size_t)count * TOP, sizeof *values), *logprobs = calloc((size_t)count, sizeof *logprobs);
    o.logits_file = NULL;
    o.top_logprobs = TOP, o.top_ids = top, o.top_values = values;
    OK(lckv_score(m, ids, count, &o, logprobs));
    for (int i = 0; i < count * TOP; i++) {
        const float *row = logits + i / TOP * FIXTURE_VOCAB;
        int above = 0;
        for (int v = 0; v < FIXTURE_VOCAB; v++) above += row[v] > row[top[i]];
        assert_int_equal(above, i % TOP);
        assert_true(fabs(logprob_of(row, FIXTURE_VOCAB, top[i]) - (double)values[i]) < 1e-5);
        if (i / TOP + 1 < count && top[i] == ids[i / TOP + 1]) assert_true(values[i] == logprobs[i / TOP]);
    }
    free(top);
    free(values);
    free(logprobs);
}

static void ways_of_scoring_agree(void **state) {
    enum { T = 19 };
    const char *path = in(*state, "logits.safetensors");
    const char *const layouts[] = {",\"layer_types\":\"0_2_2_3\",\"forward_passes\":9,\"backward_passes\":10",
                                   ",\"force_nodiag\":true"};
    for (int layout = 0; layout < 2; layout++) {
        fixture f;
        fixture_open(&f, 4, layouts[layout], DTYPE_F32, false);
        int32_t ids[T];
        float exact[T * FIXTURE_VOCAB], logprobs[T - 1];
        int id;
        fixture_ids(ids, T, 1);
        fixture_cache(&f, kv_cache_defaults());
        OK(kv_cache_add(f.cache, &id));
        fixture_tokens(&f, id, ids, T, exact);
        for (int way = 0; way < 4; way++) {
            lckv_score_options o = lckv_score_defaults();
            o.encoding = (lckv_encoding)(way % 3);
            o.logits_file = path;
            if (way == 3) o.window_length = T + 1, o.num_sink_tokens = 3;
            OK(lckv_score(f.model, ids, T, &o, logprobs));
            float *logits = read_logits(path, T, FIXTURE_VOCAB);
            assert_close(logits, exact, T * FIXTURE_VOCAB, CLOSE, "logits");
            expect_top(f.model, ids, T, logits, o);
            for (int t = 0; t + 1 < T; t++)
                assert_true(fabs(logprob_of(logits + t * FIXTURE_VOCAB, FIXTURE_VOCAB, ids[t + 1]) - logprobs[t]) <
                            1e-5);
            free(logits);
            float plain[T - 1];
            o.logits_file = NULL;
            OK(lckv_score(f.model, ids, T, &o, plain));
            assert_memory_equal(plain, logprobs, sizeof plain);
        }
        fixture_close(&f);
    }
}

/* N iterations per loop give the result of a model with m = N - 1 and b = 1; as many as tokens are exact. */
static void scores_by_so_many_iterations(void **state) {
    (void)state;
    enum { T = 12 };
    int32_t ids[T];
    float scored[T - 1], wanted[T - 1], exact[T - 1];
    fixture_ids(ids, T, 1);
    for (int n = 1; n <= T; n += n == 1 ? 3 : 8) {
        char layout[128];
        fixture f, g;
        snprintf(layout, sizeof layout, ",\"layer_types\":\"2_2_2_3\",\"forward_passes\":%d,\"backward_passes\":1",
                 n - 1);
        fixture_open(&f, 4, ",\"layer_types\":\"2_2_2_3\"", DTYPE_F32, false);
        fixture_open(&g, 4, layout, DTYPE_F32, false);
        lckv_score_options o = lckv_score_defaults();
        o.encoding = LCKV_ENCODING_SEQUENTIAL;
        OK(lckv_score(f.model, ids, T, &o, exact));
        o.encoding = LCKV_ENCODING_PLAN;
        OK(lckv_score(g.model, ids, T, &o, wanted));
        o.encoding_iterations = n;
        OK(lckv_score(f.model, ids, T, &o, scored));
        assert_memory_equal(scored, wanted, sizeof scored);
        bool near = true;
        for (int t = 0; t + 1 < T; t++) near = near && fabsf(scored[t] - exact[t]) < 1e-5f;
        assert_true(near == (n == T));
        fixture_close(&f);
        fixture_close(&g);
    }
    fixture f;
    open_small(&f, "");
    lckv_score_options o = lckv_score_defaults();
    o.encoding_iterations = -1;
    FAILS(lckv_score(f.model, ids, 2, &o, scored), LCKV_ERROR_ARGUMENT, "encoding_iterations should be 0");
    fixture_close(&f);
}

/* Logits in several parts: too many tokens and rows for one. */
static void many_logits_come_in_parts(void **state) {
    enum { T = 130, V = 140000 };
    const char *path = in(*state, "logits.safetensors");
    fixture f;
    fixture_open(&f, 1, "", DTYPE_F32, false);
    change_vocabulary(&f, V);
    int32_t ids[T];
    float logprobs[T - 1];
    for (int i = 0; i < T; i++) ids[i] = i * 1000;
    lckv_score_options o = lckv_score_defaults();
    o.logits_file = path;
    OK(lckv_score(f.model, ids, T, &o, logprobs));
    float *logits = read_logits(path, T, V);
    for (int t = 0; t + 1 < T; t++)
        assert_true(fabs(logprob_of(logits + (int64_t)t * V, V, ids[t + 1]) - logprobs[t]) < 1e-4);
    free(logits);
    fixture_close(&f);
}

static bool stop_halfway(void *user, double fraction) {
    *(double *)user = fraction;
    return fraction < 0.5;
}

static void scoring_fails_in_words(void **state) {
    fixture f;
    open_small(&f, "");
    const int32_t ids[] = {1, 2, 37, 4};
    float logprobs[4];
    double fraction;
    lckv_score_options o = lckv_score_defaults();
    assert_int_equal(lckv_score(f.model, ids, 4, &o, logprobs), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), "token 2 is 37; the model has ids 0 to 36"));
    assert_int_equal(lckv_score(f.model, ids, 0, &o, logprobs), LCKV_ERROR_ARGUMENT);
    o.encoding = LCKV_ENCODING_SEQUENTIAL;
    o.go_on = stop_halfway;
    o.user = &fraction;
    o.logits_file = in(*state, "logits.safetensors");
    assert_int_equal(lckv_score(f.model, (int32_t[]){1, 2, 3, 4}, 4, &o, logprobs), LCKV_ERROR_INTERRUPTED);
    assert_true(fraction == 0.5);
    assert_int_equal(files_in(((folder *)*state)->path), 0); /* no partial file */
    o.logits_file = in(*state, "no/such/folder");
    assert_int_equal(lckv_score(f.model, ids, 2, &o, logprobs), LCKV_ERROR_FILE);
    o = lckv_score_defaults();
    o.top_logprobs = 38;
    assert_int_equal(lckv_score(f.model, ids, 2, &o, logprobs), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), "top_logprobs should be 0 to the 37 ids"));
    o = lckv_score_defaults();
    ((float *)f.model->params->norm->value.data)[0] = NAN;
    assert_int_equal(lckv_score(f.model, ids, 2, &o, logprobs), LCKV_ERROR_NUMERIC);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_by_so_many_iterations), cmocka_unit_test(results_come_by_prompt_and_sample),
        cmocka_unit_test(positions_are_a_limit),        cmocka_unit_test(sampling_parameters_follow_from_their_rows),
        cmocka_unit_test(options_are_checked),          cmocka_unit_test(callbacks_interrupt),
        IN_FOLDER(text_comes_with_a_tokenizer),         IN_FOLDER(ways_of_scoring_agree),
        IN_FOLDER(many_logits_come_in_parts),           IN_FOLDER(scoring_fails_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
