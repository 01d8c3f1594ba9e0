/* Prompts that are read token by token, many together: the result is that of the exact form, whoever joins or leaves;
 * pages of the plan never serve an exact prompt. How `auto` chooses is in test_generate_encoding_choice.c. */
#include "generate/batcher/batcher_call.h"

#include "cost_fixture.h"

static const char *const loops[] = {"3_3_3_3", "1_2_0_1", "0_2_2_3", "3s_3s_3s_3s", "0_3_3_3:2"};
enum { LOOPS = sizeof loops / sizeof *loops, PROMPTS = 20, CHUNK = 16, NEW = 4 };

/* ---------------------------------------------------------------- the exact form */

/* Prompt i has 6 to 22 ids. */
static sequence *make_prompt(const fixture *f, int i, lckv_encoding encoding) {
    sequence *s;
    int32_t ids[LENGTH];
    int count = 6 + i * 11 % 17;
    const sample_row greedy = {.top_p = 1, .repetition_penalty = 1};
    fixture_ids(ids, count, (uint64_t)i);
    OK(sequence_create(ids, count, f->model->config->vocab_size, &greedy, &s));
    s->encoding = encoding;
    s->ignore_eos = true;
    s->max_count = count + NEW;
    return s;
}

/* Every new token has the largest logit of the decoder alone, one token per call, and the last one its probability. */
static void assert_exact(fixture *f, const sequence *s, double tolerance, const char *what) {
    static float logits[LENGTH * FIXTURE_VOCAB];
    int id;
    fixture_cache(f, kv_cache_defaults());
    OK(kv_cache_add(f->cache, &id));
    fixture_tokens(f, id, s->ids, (int)s->count, logits);
    for (int64_t t = s->prompt_count; t < s->count; t++) {
        const float *row = logits + (t - 1) * FIXTURE_VOCAB;
        assert_true((double)row[argmax(row)] - (double)row[s->ids[t]] <= tolerance);
    }
    const float *last = logits + (s->count - 2) * FIXTURE_VOCAB;
    double sum = 0;
    for (int i = 0; i < FIXTURE_VOCAB; i++) sum += exp((double)last[i]);
    double expected = (double)last[s->ids[s->count - 1]] - log(sum);
    if (!(fabs((double)s->logprob - expected) <= tolerance))
        fail_msg("%s, %d tokens: %g, expected %g", what, (int)s->count, (double)s->logprob, expected);
}

/* All prompts together; some join midway, and two are removed. */
static void run_together(const fixture *f, const batcher_options *o, bool pads, lckv_encoding encoding, sequence **s) {
    batcher *b;
    OK(batcher_create(f->model, o, &b));
    b->batch->rounds = pads;
    for (int i = 0; i < PROMPTS; i++) {
        s[i] = make_prompt(f, i, encoding);
        OK(batcher_add(b, s[i]));
        if (i >= 12) OK(batcher_step(b));
    }
    batcher_remove(b, s[3]);
    batcher_remove(b, s[PROMPTS - 1]);
    while (!batcher_idle(b)) OK(batcher_step(b));
    assert_int_equal(batcher_cache_usage(b).used_pages, 0);
    assert_int_equal(batcher_times(b).exact_tokens, batcher_times(b).prompt_tokens);
    batcher_free(b);
}

/* The random loops amplify rounding more than a thousand times; a wrong mask or position changes logits by tenths.
 * company_changes_no_bit() compares without rounding. */
static void lockstep_is_the_exact_form(void **state) {
    (void)state;
    for (int layout = 0; layout < LOOPS; layout++) {
        fixture f;
        open_layout(&f, loops[layout]);
        write_table(&f, path, LCKV_ENCODING_SEQUENTIAL);
        for (int pads = 0; pads < 2; pads++) {
            const batcher_options o = {
                .sequences = PROMPTS, .choose = true, .cost_table = path, .overlap = pads ? 1 : -1};
            sequence *s[PROMPTS];
            run_together(&f, &o, pads, LCKV_ENCODING_AUTO, s);
            for (int i = 0; i < PROMPTS; i++) {
                assert_int_equal(s[i]->form, LCKV_ENCODING_SEQUENTIAL);
                if (i != 3 && i != PROMPTS - 1) assert_exact(&f, s[i], 2e-2, loops[layout]);
                sequence_free(s[i]);
            }
        }
        fixture_close(&f);
    }
}

/* With batch_invariant neither company, nor padding rows, nor launching ahead change a bit, and the result is that of
 * the decoder alone. */
static void company_changes_no_bit(void **state) {
    (void)state;
    for (int layout = 0; layout < LOOPS; layout++) {
        fixture f;
        open_layout(&f, loops[layout]);
        for (int pads = 0; pads < 2; pads++) {
            const batcher_options o = {.sequences = PROMPTS, .batch_invariant = true, .overlap = pads ? 1 : -1};
            sequence *s[PROMPTS];
            run_together(&f, &o, pads, LCKV_ENCODING_SEQUENTIAL, s);
            for (int i = 0; i < PROMPTS; i++) {
                sequence *alone = make_prompt(&f, i, LCKV_ENCODING_SEQUENTIAL);
                batcher *b;
                OK(batcher_create(f.model, &o, &b));
                OK(batcher_add(b, alone));
                while (!batcher_idle(b)) OK(batcher_step(b));
                batcher_free(b);
                bool ended = i != 3 && i != PROMPTS - 1;
                if (ended) assert_int_equal(alone->count, s[i]->count);
                if (ended) assert_memory_equal(alone->ids, s[i]->ids, (size_t)alone->count * sizeof *alone->ids);
                if (ended) assert_memory_equal(&alone->logprob, &s[i]->logprob, sizeof alone->logprob);
                f.device->invariant_rows = true;
                assert_exact(&f, alone, 1e-5, loops[layout]);
                f.device->invariant_rows = false;
                sequence_free(alone);
                sequence_free(s[i]);
            }
        }
        fixture_close(&f);
    }
}

/* Before its last token, a prompt wants no row. Nothing is sampled, and the host waits for nothing. */
static void known_tokens_need_no_logits(void **state) {
    (void)state;
    fixture f;
    batcher *b;
    sequence *s[9];
    open_layout(&f, "3_3_3_3");
    const batcher_options o = {.sequences = 9};
    OK(batcher_create(f.model, &o, &b));
    for (int i = 0; i < 9; i++) {
        s[i] = make_prompt(&f, 1, LCKV_ENCODING_SEQUENTIAL);
        OK(batcher_add(b, s[i]));
    }
    for (int64_t t = 1; !batcher_idle(b); t++) {
        OK(batcher_step(b));
        assert_int_equal(b->batch->wanted, t < s[0]->prompt_count ? 0 : 9);
        assert_int_equal(batcher_call_has_results(b->call), t >= s[0]->prompt_count);
    }
    batcher_free(b);
    for (int i = 0; i < 9; i++) sequence_free(s[i]);
    fixture_close(&f);
}

/* ---------------------------------------------------------------- prefixes */

typedef struct answer {
    int32_t token;
    double logprob;
    int64_t cached;
} answer;

static void note_answer(void *user, const lckv_event *event) {
    *(answer *)user = (answer){event->token, event->logprob, event->cached_tokens};
}

static void ask(lckv_engine *e, const int32_t *ids, int count, lckv_encoding encoding) {
    uint64_t id;
    lckv_request r = lckv_request_defaults();
    r.prompt = (lckv_prompt){ids, count};
    r.max_new_tokens = 1;
    r.temperature = 0;
    r.encoding = encoding;
    OK(lckv_engine_submit(e, &r, &id));
    finish(e);
}

static void exact_pages_serve_all_planned_ones_the_plan(void **state) {
    (void)state;
    enum { T = 61, COMMON = 55 };
    const lckv_encoding planned = LCKV_ENCODING_AUTO, exact = LCKV_ENCODING_SEQUENTIAL;
    for (int invariant = 0; invariant < 2; invariant++) {
        fixture f;
        answer a, alone;
        int32_t ids[T], other[T];
        lckv_engine *e;
        lckv_engine_options o = lckv_engine_defaults();
        open_layout(&f, "3_3_3_3");
        o.prefill_chunk_size = CHUNK;
        o.max_model_len = 2 * LENGTH;
        o.batch_invariant = invariant;
        o.callback = note_answer;
        fixture_ids(ids, T, 1);
        memcpy(other, ids, sizeof ids);
        for (int i = COMMON; i < T; i++) other[i] = (ids[i] + 1) % FIXTURE_VOCAB;
        o.user = &alone;
        OK(lckv_engine_create(f.model, NULL, &o, &e));
        ask(e, other, T, exact);
        lckv_engine_free(e);
        assert_int_equal(alone.cached, 0);
        o.user = &a;
        OK(lckv_engine_create(f.model, NULL, &o, &e));
        ask(e, ids, T, planned);
        ask(e, ids, T, planned);
        assert_int_equal(a.cached, 48);
        ask(e, ids, T, exact); /* there are only planned pages */
        assert_int_equal(a.cached, 0);
        ask(e, other, T, exact); /* up to the first token that differs: no chunk ends there */
        assert_int_equal(a.cached, 48);
        assert_int_equal(a.token, alone.token);
        assert_true(fabs(a.logprob - alone.logprob) < CLOSE);
        lckv_engine_free(e);
        OK(lckv_engine_create(f.model, NULL, &o, &e));
        ask(e, other, T, exact);
        ask(e, ids, T, planned); /* exact pages, unless the result must not depend on them */
        assert_int_equal(a.cached, invariant ? 0 : 48);
        lckv_engine_free(e);
        fixture_close(&f);
    }
}

/* Exact prefixes are shared up to any token, also of the end of a prompt that is no whole chunk. */
static void exact_prefixes_need_no_chunks(void **state) {
    (void)state;
    enum { T = 61 };
    static const struct {
        int first, common, cached; /* ids of the first prompt; equal ids; of these, cached ones */
    } cases[] = {{61, 55, 55}, {61, 32, 32}, {50, 50, 50}, {61, 40, 32},
                 {48, 48, 48}, {20, 20, 20}, {61, 20, 20}, {12, 12, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        answer a, alone;
        int32_t ids[T], other[T];
        lckv_engine *e;
        lckv_engine_options o = lckv_engine_defaults();
        open_layout(&f, "3_3_3_3");
        o.prefill_chunk_size = 32;
        o.max_model_len = 2 * LENGTH;
        o.callback = note_answer;
        fixture_ids(ids, T, 1);
        memcpy(other, ids, sizeof ids);
        for (int j = cases[i].common; j < T; j++) other[j] = (ids[j] + 1) % FIXTURE_VOCAB;
        o.user = &alone;
        OK(lckv_engine_create(f.model, NULL, &o, &e));
        ask(e, other, T, LCKV_ENCODING_SEQUENTIAL);
        lckv_engine_free(e);
        o.user = &a;
        OK(lckv_engine_create(f.model, NULL, &o, &e));
        ask(e, ids, cases[i].first, LCKV_ENCODING_SEQUENTIAL);
        ask(e, other, T, LCKV_ENCODING_SEQUENTIAL);
        assert_int_equal(a.cached, cases[i].cached);
        assert_int_equal(a.token, alone.token);
        assert_true(fabs(a.logprob - alone.logprob) < CLOSE);
        ask(e, other, T, LCKV_ENCODING_SEQUENTIAL); /* all but the last token */
        assert_int_equal(a.cached, T - 1);
        assert_int_equal(a.token, alone.token);
        assert_empty(e);
        lckv_engine_free(e);
        fixture_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lockstep_is_the_exact_form),    cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(known_tokens_need_no_logits),   cmocka_unit_test(exact_pages_serve_all_planned_ones_the_plan),
        cmocka_unit_test(exact_prefixes_need_no_chunks),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
