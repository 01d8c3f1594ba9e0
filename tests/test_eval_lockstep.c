/* Log-likelihoods of many texts in lockstep: they are those of scoring each text alone, token by token. The cost table
 * chooses. A run can be interrupted between steps. */
#include "fresh_device.h" /* before cmocka's fail() */

#include "eval/lockstep_scorer.h"
#include "generate/batcher/prefill.h"
#include "generate/costs/cost_table.h"
#include "generate/score/score.h"

#include "fixture.h"
#include "temp_folder.h"

enum { GROUPS = 30, CHOICES = 3, PAIRS = GROUPS * CHOICES, MAX_TOKENS = 48 };

static int32_t ids[PAIRS][MAX_TOKENS];
static float nll[PAIRS][MAX_TOKENS];
static eval_answer answers[PAIRS];
static eval_pair pairs[PAIRS];

/* Choices of a group have the same context, and continuations of different lengths. */
static void make_pairs(int64_t vocab_size, int longest_context) {
    for (int i = 0; i < PAIRS; i++) {
        int group = i / CHOICES, context = 1 + group * 7 % longest_context, continuation = 1 + (i * 5) % 9;
        for (int j = 0; j < context + continuation; j++) {
            uint64_t stream = j < context ? (uint64_t)group : (uint64_t)(1000 + i);
            ids[i][j] = (int32_t)(rng_uniform(3, stream, (uint64_t)j) * (double)vocab_size);
        }
        pairs[i] = (eval_pair){.ids = ids[i],
                               .count = context + continuation,
                               .continuation = continuation,
                               .answer = &answers[i],
                               .nll = nll[i]};
    }
}

/* Against lckv_score() in the sequential form. */
static void compare_with_scoring(const model *m, double tolerance) {
    for (int i = 0; i < PAIRS; i++) {
        const eval_pair *p = &pairs[i];
        int32_t top[MAX_TOKENS];
        float logprobs[MAX_TOKENS], values[MAX_TOKENS];
        score_options o = {.encoding = LCKV_ENCODING_SEQUENTIAL, .top = 1, .top_ids = top, .top_values = values};
        OK(score_ids(m, p->ids, p->count, &o, logprobs, NULL));
        double sum = 0;
        bool greedy = true, close = false;
        for (int64_t j = 0; j < p->continuation; j++) {
            int64_t at = p->count - p->continuation + j;
            if (!(fabs((double)p->nll[j] + (double)logprobs[at - 1]) <= tolerance))
                fail_msg("pair %d, token %d: %g, expected %g", i, (int)j, -(double)p->nll[j], (double)logprobs[at - 1]);
            sum += (double)logprobs[at - 1];
            greedy = greedy && top[at - 1] == p->ids[at];
            close = close || (double)values[at - 1] - (double)logprobs[at - 1] < 2 * tolerance;
        }
        assert_true(fabs(p->answer->loglikelihood - sum) <= tolerance * (double)p->continuation);
        if (!close || greedy) assert_int_equal(p->answer->greedy, greedy);
    }
}

static void compare_forms(void) {
    const char *const layouts[] = {"3_3_3_3", "1_2_0_1", "3s_3s_3s_3s"};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        fixture f;
        char extra[256];
        eval_scorer *s;
        snprintf(extra, sizeof extra,
                 ",\"layer_types\":\"%s\",\"sliding_window\":5,\"forward_passes\":2,\"backward_passes\":2", layouts[i]);
        fixture_open(&f, 4, extra, DTYPE_F32, false);
        make_pairs(FIXTURE_VOCAB, 9);
        OK(eval_scorer_create(f.model, DTYPE_F32, DTYPE_F32, LCKV_ENCODING_SEQUENTIAL, &s));
        for (int run = 0; run < 2; run++) { /* the second run has other pairs and a cache of the first ones */
            memset(answers, 0, sizeof answers);
            OK(eval_scorer_run(s, pairs + run, PAIRS - run, NULL));
        }
        OK(eval_scorer_run(s, pairs, 1, NULL));
        eval_scorer_free(s);
        compare_with_scoring(f.model, 5e-3); /* random loops amplify rounding */
        fixture_close(&f);
    }
}

static void lockstep_is_scoring_alone(void **state) {
    (void)state;
    compare_forms();
}

/* Steps are launched before the results of the one before have arrived. */
static void lockstep_on_a_gpu_is_scoring_alone(void **state) {
    (void)state;
    fresh_want(true);
    compare_forms();
    fresh_want(false);
}

static void a_trained_model(void **state) {
    (void)state;
    device *d;
    model *m;
    eval_scorer *s;
    OK(device_open("cpu", 2, &d));
    if (lckv_model_open(d, SHARED_DIR "/data/models/lckv-3m", NULL, &m) < 0) {
        printf("skipped: %s\n", lckv_last_error());
        device_close(d);
        skip();
    }
    make_pairs(m->config->vocab_size, 38);
    OK(eval_scorer_create(m, DTYPE_F32, DTYPE_F32, LCKV_ENCODING_SEQUENTIAL, &s));
    OK(eval_scorer_run(s, pairs, PAIRS, NULL));
    eval_scorer_free(s);
    compare_with_scoring(m, 2e-4);
    model_free(m);
    device_close(d);
}

static int stop_midway(void *user, int answered) {
    int *calls = user;
    assert_in_range(answered, 0, PAIRS);
    return ++*calls == 6 ? LCKV_ERROR_INTERRUPTED : LCKV_OK;
}

static void an_interrupted_run_leaves_no_trace(void **state) {
    (void)state;
    fixture f;
    eval_scorer *s;
    int calls = 0;
    fixture_open(&f, 4, ",\"layer_types\":\"3_3_3_3\"", DTYPE_F32, false);
    make_pairs(FIXTURE_VOCAB, 9);
    OK(eval_scorer_create(f.model, DTYPE_F32, DTYPE_F32, LCKV_ENCODING_SEQUENTIAL, &s));
    const eval_progress stop = {stop_midway, &calls};
    assert_int_equal(eval_scorer_run(s, pairs, PAIRS, &stop), LCKV_ERROR_INTERRUPTED);
    assert_int_equal(calls, 6);
    OK(eval_scorer_run(s, pairs, PAIRS, NULL));
    compare_with_scoring(f.model, 5e-3);
    ((float *)f.model->params->norm->value.data)[3] = NAN;
    assert_int_equal(eval_scorer_run(s, pairs, PAIRS, NULL), LCKV_ERROR_NUMERIC);
    eval_scorer_free(s);
    fixture_close(&f);
}

static void the_cost_table_chooses(void **state) {
    (void)state;
    fixture f;
    char folder[PATH_BYTES], path[2 * PATH_BYTES];
    static eval_pair many[40 * PAIRS];
    assert_true(temp_folder_create(folder));
    snprintf(path, sizeof path, "%s/costs.json", folder);
    fixture_open(&f, 4, ",\"layer_types\":\"3_3_3_3\",\"forward_passes\":2,\"backward_passes\":2", DTYPE_F32, false);
    make_pairs(FIXTURE_VOCAB, 9);
    for (int i = 0; i < 40 * PAIRS; i++) many[i] = pairs[i % PAIRS];
    for (int exact = 0; exact < 2; exact++) {
        cost_table t = {0};
        cost_key key;
        lockstep_scorer *s;
        bool faster;
        cost_table_add(&t, (lckv_step_cost){LCKV_ENCODING_SEQUENTIAL, 256, 0, exact ? 0.1 : 10});
        cost_table_add(&t, (lckv_step_cost){LCKV_ENCODING_PLAN, 256, 0, 1});
        OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0,
                         &(chunk_rules){PREFILL_SMALLEST_CHUNK, PREFILL_CHUNK_TOKENS, 0}, &key));
        OK(cost_table_store(path, &key, &t));
        cost_key_free(&key);
        OK(lockstep_scorer_create(f.model, DTYPE_F32, DTYPE_F32, path, &s));
        OK(lockstep_scorer_is_faster(s, many, 40 * PAIRS, &faster));
        assert_int_equal(faster, exact);
        OK(lockstep_scorer_is_faster(s, many, 7, &faster)); /* too few */
        assert_false(faster);
        lockstep_scorer_free(s);
    }
    fixture_close(&f);
    remove_tree(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lockstep_is_scoring_alone), cmocka_unit_test(lockstep_on_a_gpu_is_scoring_alone),
        cmocka_unit_test(a_trained_model),           cmocka_unit_test(an_interrupted_run_leaves_no_trace),
        cmocka_unit_test(the_cost_table_chooses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
