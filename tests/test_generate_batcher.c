/* Batches of sequences: each gives the same result as alone, with any lengths, encodings, cache policies and
 * neighbours. Seeds reproduce. Penalties, ends and failures affect only their own sequence. */
#include "generate/batcher/batcher_call.h"
#include "generate/batcher/prefill.h"

#include "fixture.h"

static const char *const layouts[] = {"0_1_2_3",   "0_2_2_3",   "3_3_3_3",    "1_2_0_1",
                                      "0s_1s_1_1", "1_2s_0_3s", "3s_3s_3s_3s"};
enum { LAYOUTS = sizeof layouts / sizeof *layouts, SEQUENCES = 7, NEW = 9, PROMPT = 23 };

static void open_layout(fixture *f, const char *layout) {
    char extra[256];
    snprintf(extra, sizeof extra,
             ",\"layer_types\":\"%s\",\"sliding_window\":5,\"forward_passes\":2,\"backward_passes\":2,"
             "\"eos_token_id\":[3,5]",
             layout);
    fixture_open(f, 4, extra, DTYPE_F32, false);
}

/* Sequence i has a prompt of 1 to PROMPT ids of its own. */
static sequence *make_sequence(const fixture *f, int i, sample_row how) {
    static const int lengths[SEQUENCES] = {1, 4, 5, 11, PROMPT, 2, 17};
    int32_t ids[PROMPT];
    sequence *s;
    fixture_ids(ids, lengths[i], (uint64_t)i);
    how.stream = (uint64_t)i;
    OK(sequence_create(ids, lengths[i], f->model->config->vocab_size, &how, &s));
    s->max_count = s->count + NEW - (i == 3 ? 6 : 0); /* one is removed early */
    s->ignore_eos = true;
    return s;
}

static void run_until_idle(batcher *b) {
    while (!batcher_idle(b)) OK(batcher_step(b));
}

static void run_one(const fixture *f, const batcher_options *options, sequence *s) {
    batcher *b;
    OK(batcher_create(f->model, options, &b));
    OK(batcher_add(b, s));
    run_until_idle(b);
    batcher_free(b);
}

static void assert_same(const sequence *a, const sequence *b, const char *what) {
    assert_int_equal(a->count, b->count);
    for (int64_t i = 0; i < a->count; i++)
        if (a->ids[i] != b->ids[i]) fail_msg("%s: id %d is %d and %d", what, (int)i, (int)a->ids[i], (int)b->ids[i]);
    assert_true(fabs((double)a->logprob - (double)b->logprob) < CLOSE);
    assert_int_equal(a->finish, b->finish);
}

static void compare_company(const fixture *f, const batcher_options *options, lckv_encoding encoding, sample_row how,
                            const char *what) {
    sequence *alone[SEQUENCES], *together[SEQUENCES];
    batcher *b;
    OK(batcher_create(f->model, options, &b));
    for (int i = 0; i < SEQUENCES; i++) {
        alone[i] = make_sequence(f, i, how);
        together[i] = make_sequence(f, i, how);
        alone[i]->encoding = together[i]->encoding = encoding;
        run_one(f, options, alone[i]);
        assert_int_equal(alone[i]->finish, LCKV_FINISH_LENGTH);
        OK(batcher_add(b, together[i]));
        if (i % 2) OK(batcher_step(b)); /* others join during these steps */
    }
    run_until_idle(b);
    batcher_free(b);
    for (int i = 0; i < SEQUENCES; i++) {
        assert_same(alone[i], together[i], what);
        sequence_free(alone[i]);
        sequence_free(together[i]);
    }
}

static void company_changes_nothing(void **state) {
    (void)state;
    const sample_row ways[] = {{.repetition_penalty = 1, .top_p = 1},
                               {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1.3f, .seed = 5}};
    for (int i = 0; i < LAYOUTS; i++) {
        fixture f;
        open_layout(&f, layouts[i]);
        for (int encoding = LCKV_ENCODING_AUTO; encoding <= LCKV_ENCODING_SEQUENTIAL; encoding++) {
            for (int sinks = 0; sinks < 2; sinks++) {
                batcher_options o = {.compute = DTYPE_F32, .sequences = 4};
                if (sinks) o.window_length = 7, o.sinks = 2;
                compare_company(&f, &o, (lckv_encoding)encoding, ways[(i + encoding) % 2], layouts[i]);
            }
        }
        fixture_close(&f);
    }
}

/* Launching steps before the results of earlier ones are read gives the same tokens and log-probabilities, bit for bit,
 * while sequences end early by EOS, have different lengths and penalties, join and are removed. */
static void compare_ahead(const fixture *f, bool sinks, sample_row how, uint64_t seed) {
    enum { COUNT = 6, MAX_STEPS = 400 };
    static float logprobs[2][COUNT][256];
    int32_t ids[2][COUNT][256];
    int64_t counts[2][COUNT];
    how.seed = seed;
    for (int ahead = 0; ahead < 2; ahead++) {
        batcher_options o = {.compute = DTYPE_F32, .sequences = 3, .batch_invariant = true, .overlap = ahead ? 1 : -1};
        if (sinks) o.window_length = 7, o.sinks = 2;
        sequence *s[COUNT];
        batcher *b;
        OK(batcher_create(f->model, &o, &b));
        for (int i = 0; i < COUNT; i++) {
            s[i] = make_sequence(f, i % SEQUENCES, how);
            s[i]->how.stream = (uint64_t)i;
            s[i]->max_count += i;
            s[i]->ignore_eos = i % 3 == 0;
            if (i == 4) OK(sequence_add_bias(s[i], FIXTURE_VOCAB, (int32_t[]){7}, (float[]){2}, 1));
            if (i == 5) OK(sequence_add_bias(s[i], FIXTURE_VOCAB, (int32_t[]){7}, (float[]){2}, 1));
            if (i == 5) s[i]->how.frequency_penalty = 0.5f, s[i]->how.presence_penalty = 0.25f;
            OK(batcher_add(b, s[i]));
        }
        for (int step = 0; step < MAX_STEPS && !batcher_idle(b); step++) {
            int stepped;
            OK(batcher_step(b));
            batcher_stepped(b, &stepped);
            for (int i = 0; i < COUNT; i++) {
                if (s[i]->updated && s[i]->token >= 0) logprobs[ahead][i][s[i]->count - 1] = s[i]->logprob;
                bool stops = i == 1 && s[i]->count == s[i]->prompt_count + 3; /* as a stop string would */
                if (stops && s[i]->finish == LCKV_FINISH_NONE) batcher_remove(b, s[i]);
            }
        }
        assert_true(batcher_idle(b));
        batcher_free(b);
        for (int i = 0; i < COUNT; i++) {
            counts[ahead][i] = s[i]->count;
            memcpy(ids[ahead][i], s[i]->ids, (size_t)s[i]->count * sizeof(int32_t));
            sequence_free(s[i]);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(counts[0][i], counts[1][i]);
        for (int64_t t = 0; t < counts[0][i]; t++) {
            assert_int_equal(ids[0][i][t], ids[1][i][t]);
            assert_memory_equal(&logprobs[0][i][t], &logprobs[1][i][t], sizeof(float));
        }
    }
}

static void going_ahead_changes_nothing(void **state) {
    (void)state;
    const sample_row ways[] = {{.repetition_penalty = 1, .top_p = 1},
                               {.temperature = 2, .top_p = 0.95f, .repetition_penalty = 1.3f}};
    for (int i = 0; i < LAYOUTS; i++) {
        fixture f;
        open_layout(&f, layouts[i]);
        for (int w = 0; w < 2; w++)
            for (uint64_t seed = 0; seed < 4; seed++) compare_ahead(&f, seed % 2, ways[w], seed);
        fixture_close(&f);
    }
}

/* The sampler's tables grow while steps are launched ahead: sequences with every penalty join one after another. */
static void tables_grow_ahead(void **state) {
    (void)state;
    enum { COUNT = 12 };
    const sample_row how = {.temperature = 2, .top_p = 0.95f, .repetition_penalty = 1.3f};
    fixture f;
    sequence *s[2][COUNT];
    open_layout(&f, layouts[0]);
    for (int ahead = 0; ahead < 2; ahead++) {
        batcher_options o = {
            .compute = DTYPE_F32, .sequences = COUNT, .batch_invariant = true, .overlap = ahead ? 1 : -1};
        batcher *b;
        OK(batcher_create(f.model, &o, &b));
        for (int i = 0; i < COUNT; i++) {
            s[ahead][i] = make_sequence(&f, i % SEQUENCES, how);
            s[ahead][i]->how.stream = (uint64_t)i;
            s[ahead][i]->max_count += 2 * COUNT - i;
            s[ahead][i]->ignore_eos = true;
            if (i % 2) OK(sequence_add_bias(s[ahead][i], FIXTURE_VOCAB, (int32_t[]){7}, (float[]){1}, 1));
            if (i % 2) s[ahead][i]->how.frequency_penalty = 0.5f;
            if (i % 4 == 1) s[ahead][i]->how.presence_penalty = 0.75f;
            OK(batcher_add(b, s[ahead][i]));
            OK(batcher_step(b));
            OK(batcher_step(b));
        }
        run_until_idle(b);
        batcher_free(b);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_same(s[0][i], s[1][i], "ahead");
        for (int ahead = 0; ahead < 2; ahead++) sequence_free(s[ahead][i]);
    }
    fixture_close(&f);
}

/* Padding the rows of a step to one of a few sizes, as for captured steps, changes nothing. */
static void dead_rows_change_nothing(void **state) {
    (void)state;
    enum { COUNT = 19 };
    const sample_row how = {.temperature = 2, .top_p = 0.95f, .repetition_penalty = 1.3f};
    for (int i = 0; i < LAYOUTS; i++) {
        fixture f;
        sequence *s[2][COUNT];
        open_layout(&f, layouts[i]);
        for (int fills = 0; fills < 2; fills++) {
            batcher_options o = {.compute = DTYPE_F32, .sequences = COUNT, .batch_invariant = true, .overlap = fills};
            batcher *b;
            OK(batcher_create(f.model, &o, &b));
            b->batches[0]->rounds = b->batches[1]->rounds = fills;
            for (int j = 0; j < COUNT; j++) {
                s[fills][j] = make_sequence(&f, j % SEQUENCES, how);
                s[fills][j]->how.stream = (uint64_t)j;
                s[fills][j]->max_count += j; /* they end one after another */
                OK(batcher_add(b, s[fills][j]));
            }
            bool filled = false;
            while (!batcher_idle(b)) {
                OK(batcher_step(b));
                filled |= b->batch->rows > b->call->count && b->batch->max_rows == 1;
            }
            assert_int_equal(filled, fills);
            batcher_free(b);
        }
        for (int j = 0; j < COUNT; j++) {
            assert_same(s[0][j], s[1][j], layouts[i]);
            sequence_free(s[0][j]);
            sequence_free(s[1][j]);
        }
        fixture_close(&f);
    }
}

/* The same for prompts by themselves. */
static void dead_rows_of_a_prompt_change_nothing(void **state) {
    (void)state;
    static const int lengths[] = {2, 17, 18, 23, 35};
    const sample_row how = {.temperature = 2, .top_p = 0.95f, .repetition_penalty = 1};
    fixture f;
    fixture_open(&f, 4, "", DTYPE_F32, false);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int32_t ids[64];
        sequence *s[2];
        fixture_ids(ids, lengths[i], i);
        for (int fills = 0; fills < 2; fills++) {
            batcher_options o = {.compute = DTYPE_F32, .sequences = 1, .batch_invariant = true, .overlap = -1};
            batcher *b;
            OK(batcher_create(f.model, &o, &b));
            b->batches[0]->rounds = b->batches[1]->rounds = fills;
            OK(sequence_create(ids, lengths[i], FIXTURE_VOCAB, &how, &s[fills]));
            s[fills]->max_count = lengths[i] + 6;
            OK(batcher_add(b, s[fills]));
            OK(batcher_step(b));
            assert_int_equal(b->batch->rows, lengths[i] + (fills && lengths[i] > 16 && lengths[i] % 2));
            run_until_idle(b);
            batcher_free(b);
        }
        assert_same(s[0], s[1], "a padded prompt");
        for (int fills = 0; fills < 2; fills++) sequence_free(s[fills]);
    }
    fixture_close(&f);
}

/* Greedy decoding with the decoder alone: one token at a time, the largest logit. */
static void greedy_is_the_best_token(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUTS; i++) {
        fixture f;
        open_layout(&f, layouts[i]);
        fixture_cache(&f, kv_cache_defaults());
        batcher_options o = {.compute = DTYPE_F32, .sequences = 1};
        sequence *s = make_sequence(&f, 3, (sample_row){.repetition_penalty = 1, .top_p = 1});
        s->encoding = LCKV_ENCODING_SEQUENTIAL;
        s->max_count = s->count + NEW;
        run_one(&f, &o, s);
        float logits[(PROMPT + NEW) * FIXTURE_VOCAB];
        int id;
        OK(kv_cache_add(f.cache, &id));
        fixture_tokens(&f, id, s->ids, (int)s->count, logits);
        for (int64_t t = s->prompt_count; t < s->count; t++)
            assert_int_equal(s->ids[t], argmax(logits + (t - 1) * FIXTURE_VOCAB));
        sequence_free(s);
        fixture_close(&f);
    }
}

/* Without loops, processing the first window at once equals processing it token by token. Chosen tokens have the
 * largest of the logits that a sink cache gives for all these tokens. */
static void the_first_window_enters_at_once(void **state) {
    (void)state;
    const char *const plain[] = {"0_1_2_3", "0s_1s_1_1"};
    for (int i = 0; i < 2; i++) {
        fixture f;
        open_layout(&f, plain[i]);
        kv_cache_options sinks = kv_cache_defaults();
        sinks.window_length = 7;
        sinks.sinks = 2;
        fixture_cache(&f, sinks);
        batcher_options o = {.compute = DTYPE_F32, .sequences = 1, .window_length = 7, .sinks = 2};
        sequence *s = make_sequence(&f, 4, (sample_row){.repetition_penalty = 1, .top_p = 1});
        run_one(&f, &o, s);
        float logits[(PROMPT + NEW) * FIXTURE_VOCAB];
        int id;
        OK(kv_cache_add(f.cache, &id));
        fixture_tokens(&f, id, s->ids, (int)s->count, logits);
        for (int64_t t = s->prompt_count; t < s->count; t++)
            assert_int_equal(s->ids[t], argmax(logits + (t - 1) * FIXTURE_VOCAB));
        sequence_free(s);
        fixture_close(&f);
    }
}

/* With m + b iterations for at most as many tokens the plan is exact, so that all encodings agree. With few iterations
 * and a long prompt they must differ, or the test would test nothing. */
static void encodings(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "3_3_3_3");
    const model *m = f.model;
    assert_false(prefill_in_one_call(m, LCKV_ENCODING_AUTO, 4));
    assert_true(prefill_in_one_call(m, LCKV_ENCODING_AUTO, 5));
    assert_true(prefill_in_one_call(m, LCKV_ENCODING_PLAN, 1));
    assert_false(prefill_in_one_call(m, LCKV_ENCODING_SEQUENTIAL, 100));
    sequence *got[2][3];
    for (int length = 0; length < 2; length++) {
        for (int e = 0; e < 3; e++) {
            batcher_options o = {.compute = DTYPE_F32, .sequences = 1};
            got[length][e] = make_sequence(&f, length ? 4 : 1, (sample_row){.repetition_penalty = 1, .top_p = 1});
            got[length][e]->encoding = (lckv_encoding)e;
            run_one(&f, &o, got[length][e]);
        }
    }
    assert_same(got[0][LCKV_ENCODING_AUTO], got[0][LCKV_ENCODING_SEQUENTIAL], "a prompt of m + b tokens");
    assert_same(got[0][LCKV_ENCODING_AUTO], got[0][LCKV_ENCODING_PLAN], "a prompt of m + b tokens");
    assert_same(got[1][LCKV_ENCODING_AUTO], got[1][LCKV_ENCODING_PLAN], "a long prompt");
    assert_true(got[1][LCKV_ENCODING_PLAN]->logprob != got[1][LCKV_ENCODING_SEQUENTIAL]->logprob);
    for (int i = 0; i < 6; i++) sequence_free(got[i / 3][i % 3]);
    fixture_close(&f);
}

static void seeds_reproduce(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_2_2_3");
    batcher_options o = {.compute = DTYPE_F32, .sequences = 1};
    sequence *s[4];
    for (int i = 0; i < 4; i++) {
        uint64_t seed = i < 2 ? 1 : (uint64_t)i;
        s[i] = make_sequence(&f, 0, (sample_row){.repetition_penalty = 1, .top_p = 1, .temperature = 1, .seed = seed});
        run_one(&f, &o, s[i]);
    }
    assert_same(s[0], s[1], "the same seed");
    assert_true(memcmp(s[0]->ids, s[2]->ids, (size_t)s[0]->count * 4) != 0);
    assert_true(memcmp(s[2]->ids, s[3]->ids, (size_t)s[0]->count * 4) != 0);
    for (int i = 0; i < 4; i++) sequence_free(s[i]);
    fixture_close(&f);
}

/* With a huge penalty no id repeats, including ids of the prompt. */
static void penalty_falls_on_all_that_occurred(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_1_2_3");
    batcher_options o = {.compute = DTYPE_F32, .sequences = 2};
    sequence *s[2];
    batcher *b;
    OK(batcher_create(f.model, &o, &b));
    for (int i = 0; i < 2; i++) {
        s[i] = make_sequence(&f, i ? 3 : 0, (sample_row){.repetition_penalty = i ? 1e6f : 1, .top_p = 1});
        s[i]->max_count = s[i]->count + NEW;
        OK(batcher_add(b, s[i]));
    }
    run_until_idle(b);
    bool fresh[FIXTURE_VOCAB], repeats = false;
    for (int i = 0; i < FIXTURE_VOCAB; i++) fresh[i] = true;
    for (int64_t t = 0; t < s[1]->count; t++) {
        if (t >= s[1]->prompt_count) assert_true(fresh[s[1]->ids[t]]);
        fresh[s[1]->ids[t]] = false;
    }
    for (int64_t t = 1; t < s[0]->count; t++)
        for (int64_t u = 0; u < t; u++) repeats |= s[0]->ids[t] == s[0]->ids[u];
    assert_true(repeats); /* without a penalty, greedy text of a random model repeats */
    batcher_free(b);
    sequence_free(s[0]);
    sequence_free(s[1]);
    fixture_close(&f);
}

static void eos_ends_a_sequence(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_2_2_3");
    batcher_options o = {.compute = DTYPE_F32, .sequences = 8};
    int ended = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        sequence *s =
            make_sequence(&f, 0, (sample_row){.repetition_penalty = 1, .top_p = 1, .temperature = 5, .seed = seed});
        s->ignore_eos = false;
        run_one(&f, &o, s);
        for (int64_t t = s->prompt_count; t < s->count; t++) {
            bool eos = s->ids[t] == 3 || s->ids[t] == 5, last = t == s->count - 1;
            assert_true(!eos || (last && s->finish == LCKV_FINISH_STOP));
            ended += eos;
        }
        if (s->finish == LCKV_FINISH_LENGTH) assert_int_equal(s->count, s->max_count);
        sequence_free(s);
    }
    assert_true(ended > 0);
    fixture_close(&f);
}

static void removed_sequences_leave_room(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_2_2_3");
    batcher_options o = {.compute = DTYPE_F32, .sequences = 1};
    sequence *s[3], *alone = make_sequence(&f, 2, (sample_row){.repetition_penalty = 1, .top_p = 1});
    run_one(&f, &o, alone);
    batcher *b;
    OK(batcher_create(f.model, &o, &b));
    for (int i = 0; i < 3; i++) {
        s[i] = make_sequence(&f, i, (sample_row){.repetition_penalty = 1, .top_p = 1});
        OK(batcher_add(b, s[i]));
    }
    OK(batcher_step(b));
    batcher_remove(b, s[0]); /* running */
    batcher_remove(b, s[1]); /* waiting */
    batcher_remove(b, s[1]); /* finished */
    run_until_idle(b);
    assert_same(alone, s[2], "behind removed ones");
    assert_int_equal(s[1]->count, s[1]->prompt_count);
    batcher_free(b);
    for (int i = 0; i < 3; i++) sequence_free(s[i]);
    sequence_free(alone);
    fixture_close(&f);
}

static void wrong_prompts(void **state) {
    (void)state;
    sample_row greedy = {.repetition_penalty = 1};
    sequence *s;
    assert_int_equal(sequence_create((int32_t[]){1, 37}, 2, 37, &greedy, &s), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), "token 1 of the prompt is 37; the model has ids 0 to 36"));
    assert_null(s);
    assert_int_equal(sequence_create((int32_t[]){-1}, 1, 37, &greedy, &s), LCKV_ERROR_ARGUMENT);
    assert_int_equal(sequence_create(NULL, 0, 37, &greedy, &s), LCKV_ERROR_ARGUMENT);
}

/* NaN weights give NaN logits: the sequence ends without a token. */
static void nan_is_an_end(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_2_2_3");
    ((float *)f.model->params->norm->value.data)[3] = NAN;
    batcher_options o = {.compute = DTYPE_F32, .sequences = 1};
    batcher *b;
    sequence *s = make_sequence(&f, 3, (sample_row){.repetition_penalty = 1, .top_p = 1});
    OK(batcher_create(f.model, &o, &b));
    OK(batcher_add(b, s));
    OK(batcher_step(b));
    assert_int_equal(s->count, s->prompt_count);
    assert_int_equal(s->finish, LCKV_FINISH_ERROR);
    assert_true(s->updated && s->token == -1 && batcher_idle(b));
    batcher_free(b);
    sequence_free(s);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(going_ahead_changes_nothing),
        cmocka_unit_test(tables_grow_ahead),
        cmocka_unit_test(dead_rows_change_nothing),
        cmocka_unit_test(dead_rows_of_a_prompt_change_nothing),
        cmocka_unit_test(greedy_is_the_best_token),
        cmocka_unit_test(the_first_window_enters_at_once),
        cmocka_unit_test(encodings),
        cmocka_unit_test(seeds_reproduce),
        cmocka_unit_test(penalty_falls_on_all_that_occurred),
        cmocka_unit_test(eos_ends_a_sequence),
        cmocka_unit_test(removed_sequences_leave_room),
        cmocka_unit_test(wrong_prompts),
        cmocka_unit_test(nan_is_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
