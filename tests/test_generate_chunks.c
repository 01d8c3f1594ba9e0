/* Where prompts are split (generate/chunks.h), and what follows from it: prompts share prefixes up to a common start
 * and get the same result as alone, caches with windows and sinks do not need small chunks, and a step has at most its
 * budget of prompt tokens. */
#include "generate/batcher/batcher_call.h"
#include "generate/batcher/prefill.h"

#include "engine_fixture.h"

enum { MAX_PROMPT = 700, NEW = 6 };

static const chunk_rules RULES = {PREFILL_SMALLEST_CHUNK, PREFILL_CHUNK_TOKENS, 0};

/* ---------------------------------------------------------------- starts */

static void expect_starts(const chunk_rules *r, int64_t count, const int64_t *starts, int n) {
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        prompt_chunk c = chunk_at(r, count, at);
        if (c.begin != starts[i]) fail_msg("%lld tokens: start %lld", (long long)count, (long long)c.begin);
        at = c.end;
    }
    if (at != count) fail_msg("%lld tokens: the last chunk ends at %lld", (long long)count, (long long)at);
}

static void starts_of_some_lengths(void **state) {
    (void)state;
    const int64_t starts[] = {0, 256, 512, 768, 992};
    expect_starts(&RULES, 1010, starts, 5);
    expect_starts(&RULES, 1024, starts, 5);
    expect_starts(&RULES, 832, starts, 4); /* a rest of 64 tokens is not split */
    expect_starts(&RULES, 64, starts, 1);
    expect_starts(&RULES, 1, starts, 1);
    const int64_t split[] = {0, 64}, odd[] = {0, 100, 200, 264};
    expect_starts(&RULES, 65, split, 2);
    expect_starts(&RULES, 96, split, 2);
    expect_starts(&(chunk_rules){32, 100, 0}, 270, odd, 4);
    const int64_t whole[] = {0, 512, 1024, 1536};
    expect_starts(&(chunk_rules){32, 512, 0, .keeps_rest = true}, 2000, whole, 4);
    expect_starts(&(chunk_rules){32, 512, 0, .keeps_rest = true}, 512, whole, 1);
}

static void chunks_tile_each_prompt(void **state) {
    (void)state;
    const chunk_rules rules[] = {RULES,     {32, 100, 0}, {8, 8, 0},
                                 {1, 5, 0}, {32, 512, 0}, {32, 512, 0, .keeps_rest = true}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        for (int64_t count = 1; count < 1100; count++) {
            prompt_chunk c;
            int small = 0;
            for (int64_t at = 0; at < count; at = c.end) {
                c = chunk_at(&rules[i], count, at);
                assert_int_equal(c.begin, at);
                assert_in_range(c.end - c.begin, 1, rules[i].largest);
                prompt_chunk last = chunk_at(&rules[i], count, c.end - 1);
                assert_memory_equal(&c, &last, sizeof c);
                small += c.end - c.begin < rules[i].largest;
                int64_t kept = chunk_next_kept(&rules[i], count, at);
                assert_true(kept == c.end || kept > count);
                if (c.end < count) assert_int_equal(kept, c.end);
            }
            assert_in_range(small, 0, 2);
        }
}

/* In a sink cache, the first window has the chunks of a prompt of its length. */
static void tokens_after_the_window_are_alone(void **state) {
    (void)state;
    const chunk_rules rules = {32, 256, 300};
    for (int64_t count = 301; count < 700; count += 57) {
        for (int64_t at = 0; at < 300; at++) {
            prompt_chunk c = chunk_at(&rules, count, at), first = chunk_at(&RULES, 300, at);
            assert_memory_equal(&c, &first, sizeof c);
        }
        for (int64_t at = 300; at < count; at++) {
            assert_int_equal(chunk_at(&rules, count, at).end, at + 1);
            assert_int_equal(chunk_next_kept(&rules, count, at), (at + 32) / 32 * 32);
        }
    }
    assert_int_equal(chunk_next_kept(&rules, 400, 256), 320);
}

/* ---------------------------------------------------------------- sharing */

typedef struct answer {
    int32_t ids[NEW];
    double logprobs[NEW];
    int count;
    int64_t cached;
} answer;

static void note(void *user, const lckv_event *event) {
    answer *a = user;
    a->cached = event->cached_tokens;
    if (event->token < 0) return;
    a->ids[a->count] = event->token;
    a->logprobs[a->count++] = event->logprob;
}

static answer ask(lckv_engine *e, answer *got, const int32_t *ids, int count, lckv_encoding encoding) {
    lckv_request r = lckv_request_defaults();
    uint64_t id;
    *got = (answer){0};
    r.prompt = (lckv_prompt){ids, count};
    r.max_new_tokens = NEW;
    r.temperature = 0;
    r.ignore_eos = true;
    r.encoding = encoding;
    OK(lckv_engine_submit(e, &r, &id));
    finish(e);
    return *got;
}

static lckv_engine *open_noting(const fixture *f, lckv_engine_options o, answer *got) {
    lckv_engine *e;
    o.callback = note;
    o.user = got;
    o.max_model_len = o.window_length ? 0 : MAX_PROMPT + NEW;
    o.max_num_seqs = 4;
    OK(lckv_engine_create(f->model, NULL, &o, &e));
    return e;
}

static answer ask_alone(const fixture *f, lckv_engine_options o, const int32_t *ids, int count,
                        lckv_encoding encoding) {
    answer got;
    lckv_engine *e = open_noting(f, o, &got);
    answer a = ask(e, &got, ids, count, encoding);
    lckv_engine_free(e);
    assert_int_equal(a.cached, 0);
    return a;
}

static void assert_answers(const answer *a, const answer *b, bool bits, const char *what) {
    if (a->count != NEW || memcmp(a->ids, b->ids, sizeof a->ids)) fail_msg("%s: other tokens", what);
    for (int i = 0; i < NEW; i++) {
        double distance = fabs(a->logprobs[i] - b->logprobs[i]);
        if (!(distance <= (bits ? 0 : CLOSE))) fail_msg("%s: log-probabilities differ by %g", what, distance);
    }
}

/* Prompts with `common` equal ids: the second gets what it gets alone. */
static const struct {
    int first, second, common;
    int cached; /* tokens that the second shares with chunks of up to 256 tokens */
} PAIRS[] = {
    {600, 600, 590, 576}, /* the split of the rest */
    {600, 600, 512, 512}, /* a start */
    {600, 600, 511, 256}, /* one token before it */
    {600, 601, 300, 256}, /* between starts */
    {600, 690, 600, 512}, /* the rests are split elsewhere */
    {600, 320, 320, 256}, /* a shorter one */
    {320, 600, 320, 256}, /* a longer one */
    {512, 600, 512, 256}, /* the last chunk of the first is split */
    {100, 100, 99, 96},   {64, 64, 63, 0}, {600, 600, 31, 0},
};
enum { PAIR_COUNT = sizeof PAIRS / sizeof *PAIRS };

static void make_pair(int i, int32_t *first, int32_t *second) {
    fixture_ids(first, MAX_PROMPT, (uint64_t)i);
    memcpy(second, first, MAX_PROMPT * sizeof *first);
    for (int j = PAIRS[i].common; j < MAX_PROMPT; j++) second[j] = (first[j] + 1) % FIXTURE_VOCAB;
}

static void prefixes_are_shared_up_to_a_start(void **state) {
    (void)state;
    static const char *const names[] = {"3_3_3_3", "0_2_2_3", "0s_1s_1_1", "1_2s_0_3s"};
    for (size_t layout = 0; layout < sizeof names / sizeof *names; layout++) {
        fixture f;
        open_layout(&f, names[layout]);
        for (int invariant = 0; invariant < 2; invariant++)
            for (int i = 0; i < PAIR_COUNT; i++) {
                int32_t first[MAX_PROMPT], second[MAX_PROMPT];
                char what[80];
                answer got;
                lckv_engine_options o = lckv_engine_defaults();
                o.batch_invariant = invariant;
                make_pair(i, first, second);
                snprintf(what, sizeof what, "%s, pair %d, invariant %d", names[layout], i, invariant);
                answer alone = ask_alone(&f, o, second, PAIRS[i].second, LCKV_ENCODING_AUTO);
                lckv_engine *e = open_noting(&f, o, &got);
                ask(e, &got, first, PAIRS[i].first, LCKV_ENCODING_AUTO);
                answer a = ask(e, &got, second, PAIRS[i].second, LCKV_ENCODING_AUTO);
                if (a.cached != PAIRS[i].cached) fail_msg("%s: %lld cached", what, (long long)a.cached);
                assert_answers(&a, &alone, invariant, what);
                assert_empty(e);
                lckv_engine_free(e);
            }
        fixture_close(&f);
    }
}

/* Without loops and windows chunks are merged, and prefixes are shared at every 32nd token. */
static void merged_chunks_share_small_parts(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_1_2_3");
    for (int i = 0; i < PAIR_COUNT; i++) {
        int32_t first[MAX_PROMPT], second[MAX_PROMPT];
        answer got;
        lckv_engine_options o = lckv_engine_defaults();
        make_pair(i, first, second);
        answer alone = ask_alone(&f, o, second, PAIRS[i].second, LCKV_ENCODING_AUTO);
        lckv_engine *e = open_noting(&f, o, &got);
        ask(e, &got, first, PAIRS[i].first, LCKV_ENCODING_AUTO);
        assert_int_equal(lckv_engine_describe(e).steps, NEW); /* the prompt takes one */
        answer a = ask(e, &got, second, PAIRS[i].second, LCKV_ENCODING_AUTO);
        int common = PAIRS[i].common < PAIRS[i].second ? PAIRS[i].common : PAIRS[i].second - 1;
        assert_int_equal(a.cached, common / 32 * 32);
        assert_answers(&a, &alone, false, "merged");
        lckv_engine_free(e);
    }
    fixture_close(&f);
}

/* ---------------------------------------------------------------- windows and sinks */

/* A cache that drops rows stops at few places: 600 tokens take 4 steps. The result is that of the whole prompt in one
 * call, and a prefix is shared. */
static void windows_need_few_chunks(void **state) {
    (void)state;
    fixture f;
    int32_t ids[MAX_PROMPT];
    answer got;
    open_layout(&f, "0s_1s_1_1");
    lckv_engine_options o = lckv_engine_defaults();
    fixture_ids(ids, MAX_PROMPT, 3);
    answer whole = ask_alone(&f, o, ids, 600, LCKV_ENCODING_PLAN);
    lckv_engine *e = open_noting(&f, o, &got);
    answer a = ask(e, &got, ids, 600, LCKV_ENCODING_AUTO);
    assert_int_equal(lckv_engine_describe(e).steps, 4 + NEW - 1);
    assert_answers(&a, &whole, false, "windows");
    a = ask(e, &got, ids, 600, LCKV_ENCODING_AUTO);
    assert_int_equal(a.cached, 576);
    assert_answers(&a, &whole, false, "windows again");
    lckv_engine_free(e);
    fixture_close(&f);
}

/* In a model without loops, chunks of a sink cache are as good as single tokens. */
static void sinks_need_few_chunks(void **state) {
    (void)state;
    fixture f;
    int32_t ids[MAX_PROMPT];
    answer got;
    open_layout(&f, "0_1_2_3");
    lckv_engine_options o = lckv_engine_defaults();
    o.window_length = 300;
    o.num_sink_tokens = 4;
    fixture_ids(ids, MAX_PROMPT, 4);
    for (int count = 280; count <= 340; count += 60) {
        answer exact = ask_alone(&f, o, ids, count, LCKV_ENCODING_SEQUENTIAL);
        lckv_engine *e = open_noting(&f, o, &got);
        answer a = ask(e, &got, ids, count, LCKV_ENCODING_AUTO);
        assert_int_equal(lckv_engine_describe(e).steps, 2 + (count > 300 ? count - 300 : 0) + NEW - 1);
        assert_answers(&a, &exact, false, "sinks");
        a = ask(e, &got, ids, count, LCKV_ENCODING_AUTO);
        assert_int_equal(a.cached, count > 300 ? 320 : 256);
        assert_answers(&a, &exact, false, "sinks again");
        lckv_engine_free(e);
    }
    fixture_close(&f);
}

/* ---------------------------------------------------------------- the budget of a step */

/* A budget below the size of a chunk makes chunks smaller. */
static void no_chunk_exceeds_the_budget(void **state) {
    (void)state;
    fixture f;
    int32_t ids[MAX_PROMPT];
    answer got;
    open_layout(&f, "3_3_3_3");
    fixture_ids(ids, MAX_PROMPT, 5);
    for (int64_t budget = 16; budget <= 512; budget *= 2) {
        lckv_engine_options o = lckv_engine_defaults();
        o.max_num_batched_tokens = budget;
        int64_t limit = budget < 32 ? 32 : budget < 256 ? budget : 256, before = 0, most = 0;
        lckv_engine *e = open_noting(&f, o, &got);
        lckv_request r = lckv_request_defaults();
        uint64_t id;
        got = (answer){0};
        r.prompt = (lckv_prompt){ids, 600};
        r.max_new_tokens = 1;
        OK(lckv_engine_submit(e, &r, &id));
        while (!lckv_engine_idle(e)) {
            OK(lckv_engine_step(e));
            int64_t now = lckv_engine_describe(e).prompt_tokens;
            if (now - before > most) most = now - before;
            before = now;
        }
        assert_int_equal(before, 600);
        assert_int_equal(most, limit);
        lckv_engine_free(e);
    }
    fixture_close(&f);
}

/* ---------------------------------------------------------------- company */

/* Prompts of 60 to 360 tokens, some with a common prefix, together and alone. */
static lckv_request make_long(int i, int32_t *ids) {
    lckv_request r = make_request(i, ids);
    r.prompt.count = 60 + i * 97 % 301;
    fixture_ids(ids, (int)r.prompt.count, (uint64_t)(i % 4));
    ids[r.prompt.count - 1] = i;
    return r;
}

static void long_prompts_change_no_bit(void **state) {
    (void)state;
    static heard h;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        fixture f;
        open_layout(&f, layouts[layout]);
        lckv_engine_options o = lckv_engine_defaults();
        o.batch_invariant = true;
        o.max_model_len = 400;
        lckv_engine_options few = o;
        few.max_num_seqs = 5;
        few.max_num_batched_tokens = 300;
        lckv_engine *e = open_engine(&f, few, &h);
        for (int i = 1; i <= REQUESTS; i++) {
            int32_t ids[MAX_PROMPT];
            uint64_t id;
            lckv_request r = make_long(i, ids);
            OK(lckv_engine_submit(e, &r, &id));
            if (i % 3 == 0) OK(lckv_engine_step(e));
        }
        finish(e);
        assert_empty(e);
        lckv_engine_free(e);
        for (int i = 1; i <= REQUESTS; i += 2) {
            int32_t ids[MAX_PROMPT];
            lckv_request r = make_long(i, ids);
            heard_sample alone = run_one(&f, o, &r, 0);
            assert_memory_equal(&alone, &h.samples[i][0], sizeof alone);
        }
        fixture_close(&f);
    }
}

/* ---------------------------------------------------------------- padding */

/* The token and its log-probability after a prompt that runs by itself. `pads`: as on a device that records steps. */
static int32_t run_alone_padded(const fixture *f, const int32_t *ids, int count, bool pads, float *logprob) {
    const sample_row greedy = {.top_p = 1, .repetition_penalty = 1};
    const batcher_options o = {.sequences = 1, .batch_invariant = true};
    batcher *b;
    sequence *s;
    OK(batcher_create(f->model, &o, &b));
    for (int i = 0; i < 2; i++) b->batches[i]->rounds = pads;
    OK(sequence_create(ids, count, FIXTURE_VOCAB, &greedy, &s));
    s->max_count = count + 1;
    OK(batcher_add(b, s));
    int padded = 0;
    while (!batcher_idle(b)) {
        OK(batcher_step(b));
        padded += b->batch->plan_rows > 0 && b->batch->plan_rows % 16 == 0 && count % 16;
    }
    assert_true(!pads || padded);
    int32_t token = s->ids[count];
    *logprob = s->logprob;
    sequence_free(s);
    batcher_free(b);
    return token;
}

/* Padding rows of a planned chunk change no bit, with a learned start neither. */
static void padded_chunks_are_the_same(void **state) {
    (void)state;
    static const char *const names[] = {"3_3_3_3", "0_2_2_3", "3s_3s_3s_3s"};
    for (size_t layout = 0; layout < sizeof names / sizeof *names; layout++)
        for (int start = 0; start < 2; start++) {
            fixture f;
            open_layout(&f, names[layout]);
            if (start) {
                OK(loop_start_create(f.device, f.model->config, 6, &f.model->loop_start));
                params *p = f.model->loop_start->weights;
                OK(params_allocate(p, f.device, DTYPE_F32));
                for (int i = 0; i < p->count; i++) OK(params_fill_normal(p, i, 0.3, 3));
            }
            for (int count = 37; count < 600; count += 110) {
                int32_t ids[MAX_PROMPT];
                float logprobs[2];
                fixture_ids(ids, count, (uint64_t)count);
                assert_int_equal(run_alone_padded(&f, ids, count, false, &logprobs[0]),
                                 run_alone_padded(&f, ids, count, true, &logprobs[1]));
                assert_memory_equal(&logprobs[0], &logprobs[1], sizeof logprobs[0]);
            }
            fixture_close(&f);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_of_some_lengths),
        cmocka_unit_test(chunks_tile_each_prompt),
        cmocka_unit_test(tokens_after_the_window_are_alone),
        cmocka_unit_test(prefixes_are_shared_up_to_a_start),
        cmocka_unit_test(merged_chunks_share_small_parts),
        cmocka_unit_test(windows_need_few_chunks),
        cmocka_unit_test(sinks_need_few_chunks),
        cmocka_unit_test(no_chunk_exceeds_the_budget),
        cmocka_unit_test(long_prompts_change_no_bit),
        cmocka_unit_test(padded_chunks_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
