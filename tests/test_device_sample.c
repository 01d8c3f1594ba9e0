/* Sampling: kept tokens and probabilities against a sort-based reference and against transformers 4.45; each draw
 * against the token that its random number selects; frequencies, greedy ties, penalties, rows without probabilities. */
#include "device_check.h"

static const sample_row plain = {
    .seed = 11, .stream = 5, .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};

/* ---------------------------------------------------------------- reference */

typedef struct entry {
    float score;
    int32_t id;
} entry;

static int by_score_then_id(const void *a, const void *b) {
    const entry *left = a, *right = b;
    if (left->score != right->score) return left->score < right->score ? -1 : 1;
    return left->id - right->id;
}

/* Weights in ascending order of score; dropped tokens get 0. Each filter implements the definition of its processor. */
static void filter(entry *sorted, double *weight, int64_t n, sample_row how) {
    float best = sorted[n - 1].score, kth = how.top_k > 0 && how.top_k < n ? sorted[n - how.top_k].score : -INFINITY;
    double total = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        weight[i] = sorted[i].score >= kth ? exp((double)(sorted[i].score - best)) : 0.0;
        total += weight[i];
    }
    for (int64_t i = 0; i < n - 1 && how.top_p < 1.0f; i++) {
        sum += weight[i];
        if (sum <= (1.0 - (double)how.top_p) * total) weight[i] = 0.0;
    }
    for (int64_t i = 0; i < n - 1 && how.min_p > 0.0f; i++) {
        if (weight[i] < (double)how.min_p) weight[i] = 0.0;
    }
}

/* probability[id] of every token */
static void reference(const float *logits, const float *bias, const uint8_t *seen, int64_t n, sample_row how,
                      double *probability) {
    entry *sorted = malloc((size_t)n * sizeof *sorted);
    double *weight = malloc((size_t)n * sizeof *weight), total = 0;
    for (int64_t i = 0; i < n; i++) {
        float score = how.biased ? logits[i] + bias[i] : logits[i];
        if (seen && seen[i]) score = score < 0 ? score * how.repetition_penalty : score / how.repetition_penalty;
        sorted[i] = (entry){score / how.temperature, (int32_t)i};
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_score_then_id);
    filter(sorted, weight, n, how);
    for (int64_t i = 0; i < n; i++) total += weight[i];
    for (int64_t i = 0; i < n; i++) probability[sorted[i].id] = weight[i] / total;
    free(sorted);
    free(weight);
}

/* The tokens divide [0, 1) into intervals in order of id; the drawn token is the one whose interval contains the random
 * number. Two units in the last place of the exponential move a border by at most 2^-22. A token that is wrongly
 * dropped or kept moves borders by its whole probability. */
static void check_draw(const double *probability, int64_t n, sample_row how, int32_t id) {
    double u = rng_uniform(how.seed, how.stream, how.counter), before = 0;
    assert_in_range(id, 0, n - 1);
    for (int32_t i = 0; i < id; i++) before += probability[i];
    if (probability[id] == 0) fail_msg("token %d was drawn and has no probability", id);
    if (u < before - 1e-6 || u > before + probability[id] + 1e-6) {
        fail_msg("token %d of %lld was drawn at %.9f, its share is %.9f to %.9f", id, (long long)n, u, before,
                 before + probability[id]);
    }
}

/* ---------------------------------------------------------------- calls */

typedef struct call {
    view logits, how, seen, ids, logprob, bias, penalized;
} call;

static sample_row *how_of(call c, int64_t r) {
    return (sample_row *)c.how.data + r;
}

static int32_t id_of(call c, int64_t r) {
    return ((int32_t *)c.ids.data)[r];
}

static call make_call(int64_t rows, int64_t vocab_size, sample_row how) {
    call c = {.logits = tensor(rows, vocab_size, DTYPE_F32),
              .how = tensor(rows, sizeof(sample_row), DTYPE_U8),
              .seen = tensor(rows, vocab_size, DTYPE_U8),
              .ids = tensor(rows, 1, DTYPE_I32),
              .logprob = tensor(rows, 1, DTYPE_F32),
              .bias = tensor(rows, vocab_size, DTYPE_F32),
              .penalized = tensor(rows, vocab_size, DTYPE_U8)};
    memset(c.penalized.data, 0, view_bytes(c.penalized));
    memset(c.bias.data, 0, view_bytes(c.bias));
    memset(c.seen.data, 0, view_bytes(c.seen));
    for (int64_t r = 0; r < rows; r++) {
        *how_of(c, r) = how;
        how_of(c, r)->counter = (uint64_t)r;
    }
    return c;
}

static void sample(device *d, call c) {
    RUN(d, sample, ((struct op_sample){c.logits, c.how, c.seen, c.ids, c.logprob, c.bias, c.penalized}));
}

static void same_logits(call c, const float *logits) {
    for (int64_t i = 0; i < elements(c.logits); i++) ((float *)c.logits.data)[i] = logits[i % c.logits.cols];
}

/* ---------------------------------------------------------------- transformers 4.45 */

/* Logits {1 3 -2 3 .5 2.5 -1 2.5 0 -4}, ids 1, 4, 6 seen; the softmax after RepetitionPenaltyLogitsProcessor,
 * TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper and MinPLogitsWarper on a CPU. */
static const struct {
    float penalty, temperature;
    int32_t top_k;
    float top_p, min_p;
    double probability[10];
} known[] = {
    {1,
     1,
     0,
     1,
     0,
     {.03859847, .2852063, .001921705, .2852063, .02341116, .1729864, .005223735, .1729864, .01419958, .0002600745}},
    {2,
     1,
     0,
     1,
     0,
     {.05013106, .08265214, .002495878, .3704212, .02368024, .2246718, .002495878, .2246718, .01844219, .0003377804}},
    {1,
     .5f,
     0,
     1,
     0,
     {.006627282, .3618373, 1.642739e-05, .3618373, .002438041, .1331125, .0001213829, .1331125, .000896905,
      3.008781e-07}},
    {1, 1, 1, 1, 0, {0, .5, 0, .5, 0, 0, 0, 0, 0, 0}},
    {1, 1, 3, 1, 0, {0, .3112297, 0, .3112297, 0, .1887703, 0, .1887703, 0, 0}},
    {1, 1, 5, 1, 0, {.04041794, .2986504, 0, .2986504, 0, .1811406, 0, .1811406, 0, 0}},
    {1, 1, 0, .3f, 0, {0, .5, 0, .5, 0, 0, 0, 0, 0, 0}},
    {1, 1, 0, .75f, 0, {0, .3112297, 0, .3112297, 0, .1887703, 0, .1887703, 0, 0}},
    {1, 1, 0, 0, 0, {0, 0, 0, 1, 0, 0, 0, 0, 0, 0}},
    {1, 1, 0, 1, .2f, {0, .3112297, 0, .3112297, 0, .1887703, 0, .1887703, 0, 0}},
    {1, 1, 0, 1, 1, {0, .5, 0, .5, 0, 0, 0, 0, 0, 0}},
    {1, 1, 6, .7f, 0, {0, .3836517, 0, .3836517, 0, 0, 0, .2326965, 0, 0}},
    {1.5f, .7f, 7, .95f, .05f, {0, .1080125, 0, .4507074, 0, .2206401, 0, .2206401, 0, 0}},
    {.5f, 2, 8, .8f, .1f, {0, .6366677, 0, .1420598, 0, .1106363, 0, .1106363, 0, 0}},
};

static void check_known(device *d) {
    enum { DRAWS = 400, VOCAB = 10 };
    static const float logits[VOCAB] = {1, 3, -2, 3, .5f, 2.5f, -1, 2.5f, 0, -4};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        sample_row how = plain;
        how.repetition_penalty = known[k].penalty, how.temperature = known[k].temperature;
        how.top_k = known[k].top_k, how.top_p = known[k].top_p, how.min_p = known[k].min_p;
        call c = make_call(DRAWS, VOCAB, how);
        same_logits(c, logits);
        for (int64_t r = 0; r < DRAWS; r++) {
            uint8_t *seen = cpu_row(c.seen, r);
            seen[1] = seen[4] = seen[6] = 1;
        }
        sample(d, c);
        for (int64_t r = 0; r < DRAWS; r++) check_draw(known[k].probability, VOCAB, *how_of(c, r), id_of(c, r));
        release_tensors();
    }
}

/* Four equal tokens: quarters are exact. Tokens whose sum is just 1 - top_p are dropped, lower ids first. */
static void check_exact_shares(device *d) {
    for (int kept = 1; kept <= 4; kept++) {
        sample_row how = plain;
        how.top_p = (float)kept / 4.0f;
        call c = make_call(200, 4, how);
        same_logits(c, (float[]){2, 2, 2, 2});
        sample(d, c);
        double probability[4];
        for (int i = 0; i < 4; i++) probability[i] = i < 4 - kept ? 0.0 : 1.0 / kept;
        for (int64_t r = 0; r < 200; r++) check_draw(probability, 4, *how_of(c, r), id_of(c, r));
        release_tensors();
    }
}

/* ---------------------------------------------------------------- random rows */

static sample_row random_how(int64_t vocab_size, int64_t r) {
    sample_row how = plain;
    how.seed = (uint64_t)random_below(1000), how.counter = (uint64_t)r;
    how.temperature = (float)(0.3 + 2.0 * random_uniform());
    if (random_below(2)) how.top_k = (int32_t)random_below(vocab_size + 2);
    if (random_below(2)) how.top_p = (float)random_uniform();
    if (random_below(2)) how.min_p = (float)(0.3 * random_uniform());
    how.biased = (int32_t)random_below(2);
    if (random_below(2)) how.presence_penalty = (float)random_normal();
    if (random_below(2)) how.frequency_penalty = (float)random_normal();
    if (random_below(2)) how.repetition_penalty = (float)(0.5 + random_uniform());
    return how;
}

/* Logits with various spreads; half of the rows have many equal values; some values are -inf. */
static void random_logits(call c, int64_t r) {
    float *logits = cpu_row(c.logits, r);
    uint8_t *seen = cpu_row(c.seen, r);
    float *bias = cpu_row(c.bias, r);
    uint8_t *penalized = cpu_row(c.penalized, r);
    double spread = random_below(2) ? 1.0 : 5.0, grid = random_below(2) ? 0.5 : 0x1p-20;
    for (int64_t i = 0; i < c.logits.cols; i++) {
        logits[i] = (float)(nearbyint(spread * random_normal() / grid) * grid);
        if (i > 0 && random_below(50) == 0) logits[i] = -INFINITY;
        seen[i] = random_below(4) == 0;
        penalized[i] = random_below(3) == 0;
        bias[i] = random_below(3) ? 0.0f : (float)(nearbyint(random_normal() / grid) * grid);
    }
}

/* What the op does to the tables of a biased row. */
static void penalize(view bias, view penalized, int64_t r, int32_t id, sample_row how) {
    float *own = (float *)cpu_row(bias, r) + id;
    uint8_t *had = (uint8_t *)cpu_row(penalized, r) + id;
    if (!how.biased) return;
    if (!*had) *own -= how.presence_penalty;
    *own -= how.frequency_penalty;
    *had = 1;
}

static void check_random_rows(device *d, int64_t rows, int64_t vocab_size) {
    call c = make_call(rows, vocab_size, plain);
    for (int64_t r = 0; r < rows; r++) {
        random_logits(c, r);
        *how_of(c, r) = random_how(vocab_size, r);
    }
    view logits = copy_tensor(c.logits), seen = copy_tensor(c.seen);
    view bias = copy_tensor(c.bias), penalized = copy_tensor(c.penalized);
    sample(d, c);
    check_same_bits("logits stay as they are", c.logits, logits);
    double *probability = malloc((size_t)vocab_size * sizeof *probability);
    for (int64_t r = 0; r < rows; r++) {
        reference(cpu_row(logits, r), cpu_row(bias, r), cpu_row(seen, r), vocab_size, *how_of(c, r), probability);
        check_draw(probability, vocab_size, *how_of(c, r), id_of(c, r));
        ((uint8_t *)cpu_row(seen, r))[id_of(c, r)] = 1;
        penalize(bias, penalized, r, id_of(c, r), *how_of(c, r));
    }
    check_same_bits("seen, with the new ids", c.seen, seen);
    check_same_bits("bias, with the penalties", c.bias, bias);
    check_same_bits("penalized, with the new ids", c.penalized, penalized);
    free(probability);
    release_tensors();
}

static void check_random(device *d) {
    static const int64_t vocabularies[] = {1, 2, 3, 17, 100, 511, 512, 513, 1000, 5003};
    for (size_t v = 0; v < sizeof vocabularies / sizeof *vocabularies; v++) check_random_rows(d, 40, vocabularies[v]);
    check_random_rows(d, 3, 200003);
}

/* A row gives the same token with any neighbours and any number of threads. */
static void check_alone(device *d) {
    enum { ROWS = 50, VOCAB = 1009 };
    call c = make_call(ROWS, VOCAB, plain);
    for (int64_t r = 0; r < ROWS; r++) {
        random_logits(c, r);
        *how_of(c, r) = random_how(VOCAB, r);
    }
    view seen = copy_tensor(c.seen), bias = copy_tensor(c.bias), penalized = copy_tensor(c.penalized);
    sample(d, c);
    call one = make_call(1, VOCAB, plain);
    for (int64_t r = 0; r < ROWS; r++) {
        *how_of(one, 0) = *how_of(c, r);
        memcpy(one.logits.data, cpu_row(c.logits, r), view_bytes(one.logits));
        memcpy(one.seen.data, cpu_row(seen, r), view_bytes(one.seen));
        memcpy(one.bias.data, cpu_row(bias, r), view_bytes(one.bias));
        memcpy(one.penalized.data, cpu_row(penalized, r), view_bytes(one.penalized));
        sample(d, one);
        assert_int_equal(id_of(one, 0), id_of(c, r));
        assert_true(element(one.logprob, 0) == element(c.logprob, r));
    }
}

/* Chi-squared test of 20000 draws of 20 tokens: 19 degrees of freedom, mean 19, deviation sqrt(38). Six deviations
 * above the mean have a probability below 1e-4, and the seed is fixed. */
static void check_frequencies(device *d) {
    enum { DRAWS = 20000, VOCAB = 20 };
    float logits[VOCAB];
    double probability[VOCAB], chi_square = 0, count[VOCAB] = {0};
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)random_normal();
    call c = make_call(DRAWS, VOCAB, plain);
    same_logits(c, logits);
    sample(d, c);
    reference(logits, NULL, NULL, VOCAB, plain, probability);
    for (int64_t r = 0; r < DRAWS; r++) count[id_of(c, r)]++;
    for (int i = 0; i < VOCAB; i++) {
        double expected = DRAWS * probability[i];
        chi_square += (count[i] - expected) * (count[i] - expected) / expected;
    }
    assert_true(chi_square < 19 + 6 * sqrt(38));
}

/* ---------------------------------------------------------------- greedy, penalties, edges */

static int32_t greedy(device *d, const float *logits, int64_t n, const uint8_t *seen, float penalty) {
    sample_row how = plain;
    how.temperature = 0.0f, how.repetition_penalty = penalty, how.top_k = 2, how.top_p = 0.5f;
    call c = make_call(1, n, how);
    same_logits(c, logits);
    if (seen) memcpy(c.seen.data, seen, (size_t)n);
    if (!seen) c.seen = ABSENT;
    sample(d, c);
    int32_t id = id_of(c, 0);
    release_tensors();
    return id;
}

static void check_greedy(device *d) {
    assert_int_equal(greedy(d, (float[]){-1}, 1, NULL, 1), 0);
    assert_int_equal(greedy(d, (float[]){1, 5, 5, 2, 5}, 5, NULL, 1), 1);
    assert_int_equal(greedy(d, (float[]){-INFINITY, -3, -3}, 3, NULL, 1), 1);
    assert_int_equal(greedy(d, (float[]){-0.0f, 0.0f, -1}, 3, NULL, 1), 0);
    /* positive logits are divided, negative ones multiplied; those of tokens that did not occur do not change */
    assert_int_equal(greedy(d, (float[]){4, 5, 3}, 3, (uint8_t[]){0, 1, 0}, 1.2f), 1);
    assert_int_equal(greedy(d, (float[]){4, 5, 3}, 3, (uint8_t[]){0, 1, 0}, 1.3f), 0);
    assert_int_equal(greedy(d, (float[]){-4, -3, -5}, 3, (uint8_t[]){0, 1, 0}, 1.3f), 1);
    assert_int_equal(greedy(d, (float[]){-4, -3, -5}, 3, (uint8_t[]){0, 1, 0}, 1.4f), 0);
    assert_int_equal(greedy(d, (float[]){4, 5, 3}, 3, (uint8_t[]){1, 0, 1}, 0.7f), 0);
    assert_int_equal(greedy(d, (float[]){4, 5, 3}, 3, NULL, 9.0f), 1);
}

/* If the temperature is so small that scores overflow or only one weight is above 0, sampling is greedy. */
static void check_small_temperature(device *d) {
    static const float temperatures[] = {1e-3f, 1e-10f, 1e-37f, 1e-44f};
    for (int t = 0; t < 4; t++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            sample_row how = plain;
            how.temperature = temperatures[t], how.top_k = 3, how.top_p = 0.9f, how.min_p = 0.1f;
            call c = make_call(20, 4, how);
            same_logits(c, (float[]){(float)sign * 7.0f, (float)sign * 7.0f + 1.0f, (float)sign * 7.0f - 2.0f, -50.0f});
            sample(d, c);
            for (int64_t r = 0; r < 20; r++) assert_int_equal(id_of(c, r), 1);
            release_tensors();
        }
    }
}

/* Each kind of bad row among good ones. */
static void check_no_probabilities(device *d) {
    enum { ROWS = 10, VOCAB = 600 };
    const float negative_nan = copysignf(NAN, -1.0f);
    for (int hot = 0; hot < 2; hot++) {
        sample_row how = plain;
        how.temperature = (float)hot;
        call c = make_call(ROWS, VOCAB, how);
        for (int64_t r = 0; r < ROWS; r++) random_logits(c, r);
        ((float *)cpu_row(c.logits, 1))[0] = NAN;
        ((float *)cpu_row(c.logits, 3))[VOCAB - 1] = negative_nan;
        ((float *)cpu_row(c.logits, 5))[300] = INFINITY;
        for (int64_t i = 0; i < VOCAB; i++) ((float *)cpu_row(c.logits, 7))[i] = -INFINITY;
        view seen = copy_tensor(c.seen);
        sample(d, c);
        for (int64_t r = 0; r < ROWS; r++) {
            if (r % 2 == 1 && r < 8) {
                assert_int_equal(id_of(c, r), -1);
                assert_true(isnan(element(c.logprob, r)));
                assert_memory_equal(cpu_row(c.seen, r), cpu_row(seen, r), VOCAB);
            } else {
                assert_in_range(id_of(c, r), 0, VOCAB - 1);
                assert_true(isfinite(element(c.logprob, r)));
            }
        }
        release_tensors();
    }
}

/* log-softmax of the original logits, independent of settings. Each term of the sum has an error of 4 half units, and
 * partial sums of 4096 terms in float one of less than 4096 half units. */
static void check_logprob(device *d) {
    static const int64_t vocabularies[] = {1, 17, 5003};
    for (int v = 0; v < 3; v++) {
        int64_t n = vocabularies[v];
        call c = make_call(8, n, plain);
        for (int64_t r = 0; r < 8; r++) {
            random_logits(c, r);
            *how_of(c, r) = random_how(n, r);
        }
        sample(d, c);
        for (int64_t r = 0; r < 8; r++) {
            const float *logits = cpu_row(c.logits, r);
            double sum = 0;
            for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i]);
            double want = (double)logits[id_of(c, r)] - log(sum), terms = n < 4096 ? (double)n : 4096.0;
            check_near("logprob", c.logprob, r, want, F32_EPSILON * (terms + 8 + fabs(want)));
        }
        c.logprob = c.seen = ABSENT;
        sample(d, c);
        release_tensors();
    }
}

static void test_known(void **state) {
    (void)state;
    check_everywhere(check_known);
    check_everywhere(check_exact_shares);
}

static void test_random(void **state) {
    (void)state;
    check_everywhere(check_random);
    check_everywhere(check_alone);
}

static void test_frequencies(void **state) {
    (void)state;
    check_everywhere(check_frequencies);
}

static void test_greedy(void **state) {
    (void)state;
    check_everywhere(check_greedy);
    check_everywhere(check_small_temperature);
}

static void test_no_probabilities(void **state) {
    (void)state;
    check_everywhere(check_no_probabilities);
}

static void test_logprob(void **state) {
    (void)state;
    check_everywhere(check_logprob);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),  cmocka_unit_test(test_random),           cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_greedy), cmocka_unit_test(test_no_probabilities), cmocka_unit_test(test_logprob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
