/* Prefill in chunks: the prompt alone determines where chunks end, and other requests do not change the result; with
 * batch_invariant not a bit. */
#include "generate/batcher/prefill.h"

#include "engine_fixture.h"

enum { PIECE = 8 };

static void cuts_follow_from_the_prompt(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "3_3_3_3"); /* m + b is 4 */
    const chunk_rules rules = {PIECE, PIECE, 0}, stream = {PIECE, PIECE, 12};
    const struct {
        const chunk_rules *rules;
        lckv_encoding encoding;
        int64_t count, cached, next;
    } cases[] = {
        {&rules, LCKV_ENCODING_AUTO, 29, 0, 8},
        {&rules, LCKV_ENCODING_AUTO, 29, 16, 8},
        {&rules, LCKV_ENCODING_AUTO, 29, 24, 5},
        {&rules, LCKV_ENCODING_AUTO, 28, 24, 1}, /* 4 tokens: the exact form */
        {&rules, LCKV_ENCODING_AUTO, 28, 26, 1},
        {&rules, LCKV_ENCODING_AUTO, 4, 0, 1},
        {&rules, LCKV_ENCODING_AUTO, 5, 0, 5},
        {&rules, LCKV_ENCODING_AUTO, 29, 29, 1}, /* decoding */
        {&rules, LCKV_ENCODING_PLAN, 29, 0, 29},
        {&rules, LCKV_ENCODING_SEQUENTIAL, 29, 8, 1},
        {&stream, LCKV_ENCODING_AUTO, 29, 0, 8},
        {&stream, LCKV_ENCODING_AUTO, 29, 8, 1}, /* 4 tokens after the window */
        {&stream, LCKV_ENCODING_AUTO, 29, 12, 1},
        {&stream, LCKV_ENCODING_PLAN, 29, 0, 12},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(prefill_next_rows(f.model, cases[i].encoding, cases[i].rules, cases[i].count, cases[i].cached),
                         cases[i].next);
    fixture_close(&f);
}

/* The token after a prompt of 21 ids that is split at 8 and 16 here, and its log-probability; and the split matters. */
static void pieces_are_what_the_decoder_makes_of_them(void **state) {
    (void)state;
    static heard h;
    enum { T = 21 };
    fixture f;
    open_layout(&f, "3_3_3_3");
    int32_t ids[T];
    double logprob[2];
    fixture_ids(ids, T, 5);
    for (int whole = 0; whole < 2; whole++) {
        float logits[FIXTURE_VOCAB], largest, sum = 0;
        int id;
        fixture_cache(&f, kv_cache_defaults());
        OK(kv_cache_add(f.cache, &id));
        for (int at = 0, rows; at < T; at += rows) {
            rows = whole ? T : T - at < PIECE ? T - at : PIECE;
            batch_entry e = {.ids = ids + at, .rows = rows, .wanted = 1, .cache_id = id, .planned = true};
            fixture_run(&f, &e, 1, logits);
        }
        lckv_engine_options o = lckv_engine_defaults();
        lckv_request r = lckv_request_defaults();
        uint64_t number;
        o.prefill_chunk_size = PIECE;
        r.prompt = (lckv_prompt){ids, T};
        r.max_new_tokens = 1;
        r.temperature = 0;
        if (whole) r.encoding = LCKV_ENCODING_PLAN;
        lckv_engine *e = open_engine(&f, o, &h);
        OK(lckv_engine_submit(e, &r, &number));
        finish(e);
        assert_int_equal(lckv_engine_describe(e).steps, whole ? 1 : 3);
        lckv_engine_free(e);
        assert_int_equal(h.samples[1][0].ids[0], argmax(logits));
        largest = logits[argmax(logits)];
        for (int i = 0; i < FIXTURE_VOCAB; i++) sum += expf(logits[i] - largest);
        logprob[whole] = -(double)logf(sum);
        assert_true(fabs(h.samples[1][0].logprob - logprob[whole]) < CLOSE);
    }
    assert_true(fabs(logprob[0] - logprob[1]) > 10 * CLOSE);
    fixture_close(&f);
}

/* Decoding tokens always run and do not count against the limit; whole chunks run in order while there is room. */
static void a_step_has_a_budget(void **state) {
    (void)state;
    static heard h;
    fixture f;
    open_layout(&f, "3_3_3_3");
    lckv_engine_options o = lckv_engine_defaults();
    o.prefill_chunk_size = PIECE;
    o.max_num_batched_tokens = 2 * PIECE + 1;
    lckv_engine *e = open_engine(&f, o, &h);
    int32_t ids[2 * PIECE];
    uint64_t id;
    lckv_request r = lckv_request_defaults();
    fixture_ids(ids, 2 * PIECE, 1);
    r.prompt = (lckv_prompt){ids, 2 * PIECE};
    r.ignore_eos = true;
    r.max_new_tokens = LENGTH;
    for (int i = 0; i < 4; i++) OK(lckv_engine_submit(e, &r, &id));
    const int64_t read[] = {16, 32, 48, 64, 64}; /* two chunks per step, also while two samples decode */
    for (int i = 0; i < 5; i++) {
        OK(lckv_engine_step(e));
        assert_int_equal(lckv_engine_describe(e).prompt_tokens, read[i]);
    }
    assert_int_equal(h.samples[1][0].count, 4);
    assert_int_equal(h.samples[4][0].count, 2);
    lckv_engine_free(e);
    fixture_close(&f);
}

/* Each of 32 requests, greedy and sampled, alone and among the others, with different token limits. */
static void run_in_company(const fixture *f, lckv_engine_options o, heard *h) {
    o.max_num_batched_tokens = 50;
    lckv_engine *e = open_engine(f, o, h);
    for (int i = 1; i <= REQUESTS; i++) {
        int32_t ids[LENGTH];
        uint64_t id;
        lckv_request r = make_request(i, ids);
        OK(lckv_engine_submit(e, &r, &id));
        if (i % 3 == 0) OK(lckv_engine_step(e));
    }
    finish(e);
    assert_empty(e);
    lckv_engine_free(e);
}

static void company_changes_nothing(void **state) {
    (void)state;
    static heard h;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        fixture f;
        open_layout(&f, layouts[layout]);
        for (int sinks = 0; sinks < 2; sinks++) {
            lckv_engine_options o = lckv_engine_defaults();
            o.prefill_chunk_size = PIECE;
            if (sinks) o.window_length = 12, o.num_sink_tokens = 2;
            run_in_company(&f, o, &h);
            for (int i = 1; i <= REQUESTS; i++) {
                heard_sample alone = run_alone(&f, o, i, 0);
                assert_same(&alone, &h.samples[i][0]);
            }
        }
        fixture_close(&f);
    }
}

static void company_changes_no_bit(void **state) {
    (void)state;
    static heard h;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        fixture f;
        open_layout(&f, layouts[layout]);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            lckv_engine_options o = lckv_engine_defaults();
            o.prefill_chunk_size = PIECE;
            o.batch_invariant = true;
            o.bf16 = bf16;
            run_in_company(&f, o, &h);
            for (int i = 1; i <= REQUESTS; i++) {
                heard_sample alone = run_alone(&f, o, i, 0);
                assert_memory_equal(&alone, &h.samples[i][0], sizeof alone);
            }
        }
        fixture_close(&f);
    }
}

/* A trained model of realistic size, whose products are divided between threads. */
static void company_changes_no_bit_of_a_trained_model(void **state) {
    (void)state;
    static heard h;
    fixture f = {0};
    OK(device_open("cpu", 2, &f.device));
    if (lckv_model_open(f.device, SHARED_DIR "/data/models/lckv-3m", NULL, &f.model) < 0) {
        printf("skipped: %s\n", lckv_last_error());
        device_close(f.device);
        skip();
    }
    lckv_engine_options o = lckv_engine_defaults();
    o.prefill_chunk_size = 16;
    o.batch_invariant = true;
    run_in_company(&f, o, &h);
    for (int i = 1; i <= REQUESTS; i += 5) {
        heard_sample alone = run_alone(&f, o, i, 0);
        assert_memory_equal(&alone, &h.samples[i][0], sizeof alone);
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_follow_from_the_prompt), cmocka_unit_test(pieces_are_what_the_decoder_makes_of_them),
        cmocka_unit_test(a_step_has_a_budget),         cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(company_changes_no_bit),      cmocka_unit_test(company_changes_no_bit_of_a_trained_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
