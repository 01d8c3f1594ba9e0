/* The engine: requests arrive, wait, run, end and are cancelled in any order. Each gets the same result as alone, in
 * order, and all memory is released. */
#include "engine_fixture.h"

/* Memory of a cache with room for two or three of the requests. */
static lckv_engine_options small_engine(const fixture *f) {
    lckv_engine_options o = lckv_engine_defaults();
    lckv_engine_stats s;
    lckv_engine *e;
    o.max_num_seqs = 1;
    o.max_model_len = LENGTH;
    OK(lckv_engine_create(f->model, NULL, &o, &e));
    s = lckv_engine_describe(e);
    lckv_engine_free(e);
    o.max_num_seqs = 6;
    o.kv_cache_memory = 2 * s.kv_bytes;
    o.max_num_batched_tokens = 40;
    return o;
}

/* Submitted some steps apart, with room for few or many: each gets the same result as alone. */
static void each_gets_what_it_gets_alone(void **state) {
    (void)state;
    static heard h;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        fixture f;
        open_layout(&f, layouts[layout]);
        for (int few = 0; few < 2; few++) {
            lckv_engine *e = open_engine(&f, few ? small_engine(&f) : lckv_engine_defaults(), &h);
            for (int i = 1; i <= REQUESTS; i++) {
                int32_t ids[LENGTH];
                uint64_t id;
                lckv_request r = make_request(i, ids);
                OK(lckv_engine_submit(e, &r, &id));
                assert_int_equal(id, i);
                memset(ids, 0, sizeof ids); /* the engine has copied it */
                if (i % 3 == 0) OK(lckv_engine_step(e));
            }
            finish(e);
            assert_empty(e);
            assert_int_equal(lckv_engine_describe(e).finished, REQUESTS);
            lckv_engine_free(e);
            for (int i = 1; i <= REQUESTS; i++)
                for (int j = 0; j < 1 + i % SAMPLES; j++) {
                    heard_sample alone = run_alone(&f, lckv_engine_defaults(), i, j);
                    assert_same(&alone, &h.samples[i][j]);
                }
        }
        fixture_close(&f);
    }
}

/* Cancelled while waiting, during prefill, or while decoding; the others are not affected. */
static void cancelled_requests_leave_no_trace(void **state) {
    (void)state;
    static heard h;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        fixture f;
        open_layout(&f, layouts[layout]);
        bool cancelled[REQUESTS + 1] = {0};
        lckv_engine *e = open_engine(&f, small_engine(&f), &h);
        uint64_t draws = 0;
        for (int i = 1; i <= REQUESTS || !lckv_engine_idle(e);) {
            double what = rng_uniform(3, (uint64_t)layout, draws++);
            int32_t ids[LENGTH];
            uint64_t id;
            if (what < 0.4 && i <= REQUESTS) {
                lckv_request r = make_request(i++, ids);
                OK(lckv_engine_submit(e, &r, &id));
            } else if (what < 0.5) {
                id = 1 + (uint64_t)(rng_uniform(4, (uint64_t)layout, draws++) * (i - 1));
                if ((int)id < i) cancelled[id] = true;
                lckv_engine_cancel(e, id);
            } else {
                OK(lckv_engine_step(e));
            }
            assert_true(draws < 10000);
        }
        lckv_engine_cancel(e, 0);
        lckv_engine_cancel(e, REQUESTS + 1);
        assert_empty(e);
        lckv_engine_stats s = lckv_engine_describe(e);
        assert_int_equal(s.finished + s.cancelled, REQUESTS);
        assert_true(s.cancelled > 2 && s.finished > 2);
        lckv_engine_free(e);
        for (int i = 1; i <= REQUESTS; i++) {
            heard_sample alone = run_alone(&f, lckv_engine_defaults(), i, 0);
            if (!cancelled[i]) assert_same(&alone, &h.samples[i][0]);
        }
        fixture_close(&f);
    }
}

static void limits_are_told(void **state) {
    (void)state;
    static heard h;
    fixture f;
    open_layout(&f, "0_2_2_3");
    lckv_engine_options o = small_engine(&f);
    o.max_queue = 2;
    lckv_engine *e = open_engine(&f, o, &h);
    assert_int_equal(lckv_engine_describe(e).max_model_len, LENGTH);
    int32_t ids[LENGTH] = {0};
    uint64_t id;
    lckv_request r = lckv_request_defaults();
    r.prompt = (lckv_prompt){ids, LENGTH};
    FAILS(lckv_engine_submit(e, &r, &id), LCKV_ERROR_TOO_LONG, "64 tokens plus 1 new token exceeds the limit of 64");
    r.prompt.count = 60;
    r.max_new_tokens = 5;
    FAILS(lckv_engine_submit(e, &r, &id), LCKV_ERROR_TOO_LONG, "max_model_len");
    r.n = 7;
    FAILS(lckv_engine_submit(e, &r, &id), LCKV_ERROR_ARGUMENT, "n is 7, but at most 6");
    r.n = 2;
    r.max_new_tokens = -1;
    r.ignore_eos = true;
    for (int i = 0; i < 2; i++) OK(lckv_engine_submit(e, &r, &id));
    FAILS(lckv_engine_submit(e, &r, &id), LCKV_ERROR_BUSY, "2 requests are waiting");
    assert_int_equal(id, 0);
    OK(lckv_engine_step(e)); /* the first one runs: there is room in the queue, but not in the cache */
    OK(lckv_engine_submit(e, &r, &id));
    assert_int_equal(id, 3);
    assert_int_equal(lckv_engine_describe(e).running, 2);
    assert_int_equal(lckv_engine_describe(e).waiting, 4);
    finish(e);
    assert_int_equal(h.samples[3][1].count, 4);
    assert_int_equal(h.samples[3][1].finish, LCKV_FINISH_LENGTH);
    lckv_request small = make_request(2, ids); /* a request that fits does not overtake one that does not */
    OK(lckv_engine_submit(e, &r, &id));
    OK(lckv_engine_step(e));
    OK(lckv_engine_submit(e, &r, &id));
    OK(lckv_engine_submit(e, &small, &id));
    OK(lckv_engine_step(e));
    assert_int_equal(lckv_engine_describe(e).waiting, 3);
    finish(e);
    lckv_engine_free(e);
    fixture_close(&f);
}

static void options_are_checked(void **state) {
    (void)state;
    fixture f;
    lckv_engine *e;
    open_layout(&f, "0_2_2_3");
    lckv_engine_options o[8];
    for (int i = 0; i < 8; i++) o[i] = lckv_engine_defaults();
    o[0].max_num_seqs = -1;
    o[1].max_model_len = -1;
    o[2].max_model_len = 4097;
    o[3].kv_cache_memory = -1;
    o[4].max_num_batched_tokens = -1;
    o[5].max_queue = 0;
    o[6].window_length = 4, o[6].num_sink_tokens = 4;
    o[7].prefill_chunk_size = -1;
    const char *const words[] = {"max_num_seqs",           "max_model_len", "4096 positions", "kv_cache_memory",
                                 "max_num_batched_tokens", "max_queue",     "sinks",          "prefill_chunk_size"};
    for (int i = 0; i < 8; i++) FAILS(lckv_engine_create(f.model, NULL, &o[i], &e), LCKV_ERROR_ARGUMENT, words[i]);
    o[0] = lckv_engine_defaults();
    o[0].kv_cache_memory = 1 << 16;
    OK(lckv_engine_create(f.model, NULL, &o[0], &e)); /* without a length: as many as fit */
    lckv_engine_stats s = lckv_engine_describe(e);
    assert_true(s.max_model_len > 16 && s.max_model_len < 4096 && s.kv_bytes <= 1 << 16);
    lckv_engine_free(e);
    o[0].max_model_len = 4096;
    FAILS(lckv_engine_create(f.model, NULL, &o[0], &e), LCKV_ERROR_MEMORY, "max_model_len is 4096");
    fixture_close(&f);
}

/* On a GPU, memory limits the default number of samples. */
static void a_gpu_runs_as_many_samples_as_fit(void **state) {
    (void)state;
    fixture f;
    lckv_engine *e;
    open_layout(&f, "0_2_2_3");
    lckv_engine_options o = lckv_engine_defaults();
    o.max_model_len = 32;
    f.device->host_memory = false;
    OK(lckv_engine_create(f.model, NULL, &o, &e));
    assert_in_range(lckv_engine_describe(e).max_num_seqs, 128, 1024);
    lckv_engine_free(e);
    f.device->host_memory = true;
    fixture_close(&f);
}

/* A sample with NaN logits ends with an event that says so. */
static void nan_ends_a_sample(void **state) {
    (void)state;
    static heard h;
    fixture f;
    open_layout(&f, "0_2_2_3");
    ((float *)f.model->params->norm->value.data)[3] = NAN;
    int32_t ids[LENGTH];
    uint64_t id;
    lckv_request r = make_request(3, ids);
    lckv_engine *e = open_engine(&f, lckv_engine_defaults(), &h);
    OK(lckv_engine_submit(e, &r, &id));
    finish(e);
    for (int i = 0; i < SAMPLES; i++) {
        assert_int_equal(h.samples[1][i].finish, LCKV_FINISH_ERROR);
        assert_int_equal(h.samples[1][i].count, 0);
    }
    assert_empty(e);
    lckv_engine_free(e);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gets_what_it_gets_alone),
        cmocka_unit_test(cancelled_requests_leave_no_trace),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(a_gpu_runs_as_many_samples_as_fit),
        cmocka_unit_test(nan_ends_a_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
