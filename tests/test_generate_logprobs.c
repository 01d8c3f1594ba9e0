/* Log-probabilities of chosen tokens, top tokens and prompt tokens, and the effects of biases and penalties, each
 * against a plain reference. */
#include "generate/batcher/logprobs.h"

#include "engine_fixture.h"

enum { PROMPT = 21, NEW = 12, PIECE = 8, ALL = FIXTURE_VOCAB };

typedef struct told {
    int32_t ids[PROMPT + NEW];
    double logprobs[PROMPT + NEW];
    lckv_logprob top[PROMPT + NEW][ALL];
    int prompt, count; /* events of the prompt, and all events with a token */
    lckv_finish finish;
    bool ended_without;
} told;

static void note(void *user, const lckv_event *event) {
    told *t = user;
    if (event->sample != 0 || event->request != 1) return;
    assert_int_equal(event->prompt_tokens, PROMPT);
    t->finish = event->finish;
    t->ended_without = event->token < 0;
    if (event->token < 0) return;
    assert_true(!event->of_prompt || t->prompt == t->count); /* prompt events come first */
    t->prompt += event->of_prompt;
    t->ids[t->count] = event->token;
    t->logprobs[t->count] = event->logprob;
    if (event->top_count) memcpy(t->top[t->count], event->top, (size_t)event->top_count * sizeof *event->top);
    t->count++;
}

static void run_request(const fixture *f, const lckv_request *r, bool company, told *t) {
    lckv_engine_options o = lckv_engine_defaults();
    lckv_engine *e;
    uint64_t id;
    memset(t, 0, sizeof *t);
    o.prefill_chunk_size = PIECE;
    o.callback = note;
    o.user = t;
    OK(lckv_engine_create(f->model, NULL, &o, &e));
    OK(lckv_engine_submit(e, r, &id));
    for (int i = 2; i < 8 && company; i++) {
        int32_t ids[LENGTH];
        lckv_request other = make_request(i, ids);
        other.presence_penalty = i % 3;
        other.top_logprobs = i % 4;
        OK(lckv_engine_submit(e, &other, &id));
    }
    finish(e);
    assert_empty(e);
    lckv_engine_free(e);
}

static lckv_request ask(int32_t *ids) {
    lckv_request r = lckv_request_defaults();
    fixture_ids(ids, PROMPT, 3);
    r.prompt = (lckv_prompt){ids, PROMPT};
    r.max_new_tokens = NEW;
    r.temperature = 0;
    r.ignore_eos = true;
    return r;
}

static void rows_against_a_sort(void **state) {
    (void)state;
    enum { V = 50 };
    float logits[V];
    lckv_logprob out[1 + V + 2];
    double sum = 0;
    for (int i = 0; i < V; i++) logits[i] = (float)((i * 17 % 10) - 4); /* each value five times */
    for (int i = 0; i < V; i++) sum += exp((double)logits[i]);
    logprobs_of(logits, V, &(logprobs_row){.id = 7, .top = V + 2, .out = out});
    assert_int_equal(out[0].id, 7);
    assert_true(fabs((double)out[0].logprob - ((double)logits[7] - log(sum))) < 1e-6);
    for (int i = 1; i < V; i++) {
        double here = logits[out[i].id], next = logits[out[i + 1].id];
        assert_true(here > next || (here == next && out[i].id < out[i + 1].id));
        assert_true(fabs((double)out[i].logprob - (here - log(sum))) < 1e-6);
        if (out[i].id == 7) assert_true(out[i].logprob == out[0].logprob);
    }
    assert_int_equal(out[V + 1].id, -1); /* these are all */
    assert_true(out[V + 1].logprob == -INFINITY);
    logits[3] = NAN;
    logprobs_of(logits, V, &(logprobs_row){.id = 7, .top = 2, .out = out});
    assert_true(isnan(out[0].logprob) && isnan(out[1].logprob));
}

/* Log-probabilities of the prompt equal those of lckv_score(): in chunks, or at once in models with loops, where chunks
 * would matter. A greedy token is the first of the top tokens, compared as floats. */
static void prompts_are_scored(void **state) {
    (void)state;
    static told t;
    const char *const plain_and_loops[] = {"0_1_2_3", "3_3_3_3", "0s_1s_1_1"};
    for (int layout = 0; layout < 3; layout++)
        for (int company = 0; company < 2; company++) {
            fixture f;
            int32_t ids[PROMPT];
            float expected[PROMPT - 1];
            open_layout(&f, plain_and_loops[layout]);
            lckv_request r = ask(ids);
            lckv_score_options score = lckv_score_defaults();
            score.encoding = LCKV_ENCODING_PLAN;
            r.prompt_logprobs = true;
            r.top_logprobs = 4;
            r.n = 2;
            OK(lckv_score(f.model, ids, PROMPT, &score, expected));
            run_request(&f, &r, company, &t);
            assert_int_equal(t.prompt, PROMPT - 1);
            assert_int_equal(t.count, PROMPT - 1 + NEW);
            for (int i = 0; i < PROMPT - 1; i++) {
                assert_int_equal(t.ids[i], ids[i + 1]);
                assert_true(fabs(t.logprobs[i] - (double)expected[i]) < CLOSE);
            }
            for (int i = 0; i < t.count; i++) {
                for (int j = 1; j < 4; j++) assert_true(t.top[i][j - 1].logprob >= t.top[i][j].logprob);
                for (int j = 0; j < 4; j++)
                    if (t.top[i][j].id == t.ids[i]) assert_true((double)t.top[i][j].logprob == t.logprobs[i]);
                if (i >= t.prompt) assert_int_equal(t.top[i][0].id, t.ids[i]);
            }
            fixture_close(&f);
        }
}

static void a_prompt_may_only_be_read(void **state) {
    (void)state;
    static told t;
    fixture f;
    int32_t ids[PROMPT];
    open_layout(&f, "0_2_2_3");
    lckv_request r = ask(ids);
    r.max_new_tokens = 0;
    r.prompt_logprobs = true;
    run_request(&f, &r, true, &t);
    assert_int_equal(t.count, PROMPT - 1);
    assert_int_equal(t.finish, LCKV_FINISH_LENGTH);
    assert_true(t.ended_without);
    r.prompt_logprobs = false;
    run_request(&f, &r, false, &t);
    assert_int_equal(t.count, 0);
    assert_int_equal(t.finish, LCKV_FINISH_LENGTH);
    fixture_close(&f);
}

/* Each token has the largest sum of reported log-probability, bias and penalties for the sample's earlier tokens. */
static void biases_and_penalties(void **state) {
    (void)state;
    static told t;
    fixture f;
    int32_t ids[PROMPT];
    open_layout(&f, "0_2_2_3");
    const struct {
        double presence, frequency;
        float bias;
    } ways[] = {{0, 0, 0}, {1.5, 0, 0}, {0, 0.7, 0}, {0.5, 0.25, -3}, {-1, 0, 2}, {0, 0, 100}, {0, 0, -100}};
    int moved = 0;
    int32_t plain[NEW];
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++)
        for (int company = 0; company < 2; company++) {
            lckv_request r = ask(ids);
            r.presence_penalty = ways[way].presence;
            r.frequency_penalty = ways[way].frequency;
            r.top_logprobs = ALL;
            const int32_t biased[] = {way ? plain[0] : 0, 9};
            const float values[] = {ways[way].bias, -ways[way].bias / 2};
            r.bias_ids = biased;
            r.bias_values = values;
            r.bias_count = ways[way].bias != 0 ? 2 : 0;
            run_request(&f, &r, company, &t);
            assert_int_equal(t.count, NEW);
            for (int i = 0; i < NEW; i++) {
                int32_t best = -1;
                double largest = -INFINITY;
                for (int j = 0; j < ALL; j++) {
                    const lckv_logprob *top = &t.top[i][j];
                    double score = top->logprob;
                    int times = 0;
                    for (int k = 0; k < r.bias_count; k++) score += biased[k] == top->id ? (double)values[k] : 0;
                    for (int k = 0; k < i; k++) times += t.ids[k] == top->id;
                    score -= times * r.frequency_penalty + (times > 0) * r.presence_penalty;
                    if (score > largest) largest = score, best = top->id;
                }
                assert_int_equal(t.ids[i], best);
                if (ways[way].bias == 100) assert_int_equal(t.ids[i], biased[0]);
                if (ways[way].bias == -100) assert_int_not_equal(t.ids[i], biased[0]);
                if (!way) plain[i] = t.ids[i];
                moved += t.ids[i] != plain[i];
            }
        }
    assert_true(moved > 2 * NEW);
    fixture_close(&f);
}

static void requests_are_checked(void **state) {
    (void)state;
    fixture f;
    int32_t ids[PROMPT];
    lckv_engine *e;
    uint64_t id;
    open_layout(&f, "0_2_2_3");
    lckv_engine_options o = lckv_engine_defaults();
    OK(lckv_engine_create(f.model, NULL, &o, &e));
    lckv_request r[6];
    for (int i = 0; i < 6; i++) r[i] = ask(ids);
    r[0].presence_penalty = NAN;
    r[1].frequency_penalty = INFINITY;
    r[2].top_logprobs = 101;
    r[3].bias_ids = (int32_t[]){37}, r[3].bias_values = (float[]){1}, r[3].bias_count = 1;
    r[4].bias_ids = (int32_t[]){3}, r[4].bias_values = (float[]){-INFINITY}, r[4].bias_count = 1;
    r[5].max_new_tokens = -2;
    const char *const words[] = {"presence_penalty", "frequency_penalty", "top_logprobs",
                                 "token 37",         "finite bias",       "max_new_tokens"};
    for (int i = 0; i < 6; i++) FAILS(lckv_engine_submit(e, &r[i], &id), LCKV_ERROR_ARGUMENT, words[i]);
    assert_true(lckv_engine_idle(e));
    lckv_engine_free(e);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_against_a_sort),       cmocka_unit_test(prompts_are_scored),
        cmocka_unit_test(a_prompt_may_only_be_read), cmocka_unit_test(biases_and_penalties),
        cmocka_unit_test(requests_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
