/* Perplexity of long texts: windows against plain scoring, streams against the oracle from any position, the curve. */
#include "eval/nll_curve.h"
#include "eval/sink_stream.h"
#include "io/hf_folder.h"
#include "io/tensors/safetensors.h"
#include "model/cache/kv_cache.h"

#include "fixture.h"

#include <unistd.h>

/* ---------------------------------------------------------------- streams */

enum { WINDOW = 12, SINKS = 3, LENGTH = 40 };

/* reference/README.md: ten times the oracle's own error in f32, or 1e-5. Ten times that again for streams, because the
 * angles of a stream that starts at 100 million round differently. */
static double streaming_tolerance(const safetensors_file *expected) {
    const char *error = safetensors_metadata(expected, "f32_error.streaming.logits");
    assert_non_null(error);
    return 10 * fmax(10 * strtod(error, NULL), 1e-5);
}

static void stream_from(const model *m, const int32_t *ids, int64_t start, const float *right, double tolerance) {
    int64_t vocab_size = m->config->vocab_size;
    sink_stream_options options = {.compute = DTYPE_F32, .window_length = WINDOW, .sinks = SINKS, .start = start};
    float *logits = malloc((size_t)vocab_size * sizeof *logits);
    sink_stream *s;
    double nll;
    assert_non_null(logits);
    OK(sink_stream_create(m, &options, &s));
    for (int i = 0; i < LENGTH; i++) {
        OK(sink_stream_step(s, ids[i], ids[(i + 1) % LENGTH], &nll, logits));
        assert_close(logits, right + i * vocab_size, (int)vocab_size, tolerance, "logits of a stream");
    }
    sink_stream_free(s);
    free(logits);
}

static void golden_streams(const char *name) {
    char folder[512], path[600];
    checkpoint_load_options load = {.type = DTYPE_COUNT};
    safetensors_file expected;
    device *d;
    model *m;
    snprintf(folder, sizeof folder, "%s/goldens/%s", SHARED_DIR, name);
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (access(path, R_OK)) {
        print_message("skipped: %s is absent\n", path);
        skip();
    }
    OK(device_open("cpu", 1, &d));
    OK(checkpoint_load(d, folder, &load, &m));
    OK(safetensors_open(path, &expected));
    const int32_t *ids = (const void *)safetensors_find(&expected, "ids")->data;
    const float *right = (const void *)safetensors_find(&expected, "streaming.logits")->data;
    static const int64_t STARTS[] = {0, 4000000, 100000000};
    for (int i = 0; i < 3; i++) stream_from(m, ids, STARTS[i], right, streaming_tolerance(&expected));
    safetensors_close(&expected);
    model_free(m);
    device_close(d);
}

static void streams_do_not_drift(void **state) {
    (void)state;
    static const char *const NAMES[] = {"llama", "lckv-w4", "llama3-tied-mqa", "mixattention", "tangled"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) golden_streams(NAMES[i]);
}

static void only_sinks_skip(void **state) {
    (void)state;
    fixture f;
    int id;
    int32_t ids[4];
    float logits[4 * FIXTURE_VOCAB];
    kv_cache_options o = kv_cache_defaults();
    fixture_open(&f, 2, "", DTYPE_F32, false);
    fixture_ids(ids, 4, 1);
    o.window_length = 8;
    o.sinks = 2;
    fixture_cache(&f, o);
    OK(kv_cache_add(f.cache, &id));
    FAILS(kv_cache_skip(f.cache, id, 5), LCKV_ERROR_ARGUMENT, "holds exactly its 2 sinks");
    fixture_tokens(&f, id, ids, 2, logits);
    FAILS(kv_cache_skip(f.cache, id, -1), LCKV_ERROR_ARGUMENT, "cannot be skipped");
    OK(kv_cache_skip(f.cache, id, 5));
    assert_int_equal(kv_cache_position(f.cache, id), 7);
    FAILS(kv_cache_skip(f.cache, id, 5), LCKV_ERROR_ARGUMENT, "holds exactly its 2 sinks");
    fixture_close(&f);
}

static void wrong_streams_are_refused(void **state) {
    (void)state;
    fixture f;
    sink_stream *s;
    double nll;
    fixture_open(&f, 1, "", DTYPE_F32, false);
    sink_stream_options o = {.compute = DTYPE_F32, .window_length = 4, .sinks = 4};
    FAILS(sink_stream_create(f.model, &o, &s), LCKV_ERROR_ARGUMENT, "fewer than window_length");
    assert_null(s);
    o.sinks = 0, o.start = -1;
    FAILS(sink_stream_create(f.model, &o, &s), LCKV_ERROR_ARGUMENT, "at least 0, found -1");
    o.start = 9;
    OK(sink_stream_create(f.model, &o, &s));
    FAILS(sink_stream_step(s, FIXTURE_VOCAB, 0, &nll, NULL), LCKV_ERROR_ARGUMENT, "0 to 36");
    OK(sink_stream_step(s, 1, 2, &nll, NULL));
    sink_stream_free(s);
    fixture_close(&f);
}

/* ---------------------------------------------------------------- perplexity */

typedef struct seen {
    double nll[MANY];
    int count, stop_after;
} seen;

static bool see(void *user, double nll) {
    seen *s = user;
    assert_true(s->count < MANY);
    s->nll[s->count++] = nll;
    return s->count != s->stop_after;
}

static lckv_perplexity *open_perplexity(const fixture *f, seen *s, lckv_perplexity_options o) {
    lckv_perplexity *p;
    *s = (seen){.stop_after = s->stop_after};
    o.callback = see;
    o.user = s;
    OK(lckv_perplexity_open(f->model, &o, &p));
    return p;
}

static void score(const fixture *f, const int32_t *ids, int count, float *logprobs) {
    lckv_score_options o = lckv_score_defaults();
    o.encoding = LCKV_ENCODING_PLAN;
    OK(lckv_score(f->model, ids, count, &o, logprobs));
}

/* Windows of 10 tokens that start 4 tokens apart: token t is scored by the first window that contains it. */
static void windows_score_each_token_once(void **state) {
    (void)state;
    enum { COUNT = 25, BLOCK = 10, STRIDE = 4 };
    fixture f;
    seen s = {0};
    int32_t ids[COUNT];
    float logprobs[BLOCK];
    fixture_open(&f, 4, ",\"layer_types\":\"0_2_2_3\"", DTYPE_F32, false);
    fixture_ids(ids, COUNT, 3);
    lckv_perplexity_options o = lckv_perplexity_defaults();
    o.block_size = BLOCK, o.stride = STRIDE;
    lckv_perplexity *p = open_perplexity(&f, &s, o);
    OK(lckv_perplexity_read(p, ids, COUNT));
    assert_int_equal(s.count, COUNT - 1);
    double sum = 0;
    for (int t = 1; t < COUNT; t++) {
        int window = t < BLOCK ? 0 : (t - BLOCK) / STRIDE + 1, first = window * STRIDE;
        int size = first + BLOCK < COUNT ? BLOCK : COUNT - first;
        score(&f, ids + first, size, logprobs);
        assert_true(fabs(s.nll[t - 1] + (double)logprobs[t - first - 1]) < CLOSE);
        sum += s.nll[t - 1];
    }
    lckv_perplexity_result r = lckv_perplexity_so_far(p);
    assert_int_equal(r.tokens, COUNT - 1);
    assert_true(fabs(r.mean_nll - sum / (COUNT - 1)) < 1e-12 && fabs(r.perplexity - exp(r.mean_nll)) < 1e-9);
    lckv_perplexity_free(p);
    fixture_close(&f);
}

/* Two texts are one stream, which only num_eval_tokens ends early. */
static void streams_go_on_over_texts(void **state) {
    (void)state;
    fixture f;
    seen s = {0};
    int32_t ids[30];
    float logprobs[29];
    fixture_open(&f, 3, ",\"layer_types\":\"1_1_2\"", DTYPE_F32, false);
    fixture_ids(ids, 30, 5);
    lckv_perplexity_options o = lckv_perplexity_defaults();
    o.streaming = true, o.window_length = 8, o.num_eval_tokens = 25;
    lckv_perplexity *p = open_perplexity(&f, &s, o);
    OK(lckv_perplexity_read(p, ids, 16)); /* reads 15 ids and scores 15 */
    OK(lckv_perplexity_read(p, ids + 15, 15));
    assert_int_equal(s.count, 25);
    lckv_score_options score_options = lckv_score_defaults();
    score_options.window_length = 8, score_options.num_sink_tokens = 2;
    OK(lckv_score(f.model, ids, 30, &score_options, logprobs));
    for (int i = 0; i < 25; i++) assert_true(fabs(s.nll[i] + (double)logprobs[i]) < CLOSE);
    assert_true(lckv_perplexity_so_far(p).cache_bytes > 0);
    lckv_perplexity_free(p);
    fixture_close(&f);
}

static void perplexity_refuses(void **state) {
    (void)state;
    fixture f;
    seen s = {.stop_after = 3};
    lckv_perplexity *p;
    int32_t ids[8];
    fixture_open(&f, 1, "", DTYPE_F32, false);
    fixture_ids(ids, 8, 2);
    lckv_perplexity_options o = lckv_perplexity_defaults();
    o.block_size = 1;
    FAILS(lckv_perplexity_open(f.model, &o, &p), LCKV_ERROR_ARGUMENT, "at least 2");
    o.block_size = 8, o.stride = 8;
    FAILS(lckv_perplexity_open(f.model, &o, &p), LCKV_ERROR_ARGUMENT, "less than block_size (8), found 8");
    assert_null(p);
    o.stride = 0;
    p = open_perplexity(&f, &s, o);
    assert_true(isnan(lckv_perplexity_so_far(p).mean_nll));
    FAILS(lckv_perplexity_read(p, ids, 8), LCKV_ERROR_INTERRUPTED, "after 3 tokens");
    ids[4] = -1;
    FAILS(lckv_perplexity_read(p, ids, 8), LCKV_ERROR_ARGUMENT, "token 4 is -1");
    assert_int_equal(lckv_perplexity_so_far(p).tokens, 3);
    lckv_perplexity_free(p);
    fixture_close(&f);
}

/* ---------------------------------------------------------------- the curve */

static void bins_double_and_lose_nothing(void **state) {
    (void)state;
    nll_curve c = {0};
    lckv_curve_point points[NLL_CURVE_BINS];
    assert_int_equal(nll_curve_points(&c, points), 0);
    for (int i = 0; i < 1000; i++) nll_curve_add(&c, i);
    int count = nll_curve_points(&c, points);
    assert_int_equal(count, 250); /* 4 numbers per bin */
    for (int i = 0; i < count; i++) {
        assert_int_equal(points[i].first, 4 * i);
        assert_int_equal(points[i].tokens, 4);
        assert_true(fabs(points[i].nll - (4 * i + 1.5)) < 1e-9);
    }
    nll_curve_add(&c, 7);
    assert_int_equal(nll_curve_points(&c, points), 251);
    assert_int_equal(points[250].tokens, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_do_not_drift),         cmocka_unit_test(only_sinks_skip),
        cmocka_unit_test(wrong_streams_are_refused),    cmocka_unit_test(windows_score_each_token_once),
        cmocka_unit_test(streams_go_on_over_texts),     cmocka_unit_test(perplexity_refuses),
        cmocka_unit_test(bins_double_and_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
