/* Accuracy of a prompt after a number of iterations of a trained model's loop, and early stopping by tolerance. */
#include "engine_fixture.h"

#define MODEL SHARED_DIR "/data/models/lckv-3m"
#define BOOK SHARED_DIR "/data/text/northanger_abbey.txt"

enum { T = 512, V = 512 };

static float exact[T * V], logits[T * V];

static bool open_trained(fixture *f) {
    *f = (fixture){0};
    OK(device_open("cpu", 2, &f->device));
    if (lckv_model_open(f->device, MODEL, NULL, &f->model) < 0) {
        printf("skipped: %s\n", lckv_last_error());
        device_close(f->device);
        return false;
    }
    OK(graph_create(f->device, DTYPE_F32, false, &f->graph));
    OK(batch_create(f->device, (batch_limits){1, 1, 0}, &f->batch));
    return true;
}

/* Tokens of the book from byte 60000 on. */
static void read_book(int32_t *ids) {
    char text[3001] = {0};
    lckv_tokenizer *t;
    int32_t *all;
    size_t count;
    FILE *file = fopen(BOOK, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 60000, SEEK_SET), 0);
    assert_int_equal(fread(text, 1, 3000, file), 3000);
    fclose(file);
    OK(lckv_tokenizer_open(MODEL, &t));
    OK(lckv_tokenizer_encode(t, text, 3000, false, &all, &count));
    assert_true(count >= T);
    memcpy(ids, all, T * sizeof *ids);
    lckv_free(all);
    lckv_tokenizer_free(t);
}

static double log_sum(const float *row) {
    double sum = 0, largest = row[0];
    for (int i = 1; i < V; i++) largest = fmax(largest, (double)row[i]);
    for (int i = 0; i < V; i++) sum += exp((double)row[i] - largest);
    return largest + log(sum);
}

/* Mean KL(exact, logits) over all tokens. */
static double divergence(void) {
    double kl = 0;
    for (int t = 0; t < T; t++) {
        const float *p = exact + t * V, *q = logits + t * V;
        double p_sum = log_sum(p), q_sum = log_sum(q);
        for (int i = 0; i < V; i++) kl += exp((double)p[i] - p_sum) * ((double)p[i] - p_sum - (double)q[i] + q_sum);
    }
    return kl / T;
}

static void run_whole(fixture *f, const int32_t *ids, int runs, double tolerance) {
    plan runs_plan;
    batch_entry e = {.ids = ids, .rows = T, .wanted = T, .cache_id = -1, .planned = true};
    OK(plan_make(&f->model->config->map, runs - 1, 1, &runs_plan));
    f->batch->plan = &runs_plan;
    f->batch->tolerance = tolerance;
    fixture_run(f, &e, 1, logits);
    f->batch->plan = NULL;
    f->batch->tolerance = 0;
    plan_free(&runs_plan);
}

/* The table of docs/serving.md: 0.06, 0.03, 0.012 and 0.002 after 5, 6, 7 and 9 iterations, a factor of 2.3 per
 * iteration. The bounds are half an iteration wide on both sides. A tolerance stops between the errors after five and
 * nine iterations; one above every change stops after the second change, in the third iteration. */
static void divergence_falls_with_runs(void **state) {
    (void)state;
    fixture f;
    int32_t ids[T];
    if (!open_trained(&f)) skip();
    read_book(ids);
    int id;
    fixture_cache(&f, kv_cache_defaults());
    OK(kv_cache_add(f.cache, &id));
    for (int t = 0; t < T; t++)
        fixture_run(&f, &(batch_entry){.ids = ids + t, .rows = 1, .wanted = 1, .cache_id = id}, 1, exact + t * V);
    kv_cache_free(f.cache);
    f.cache = NULL;
    double kl[13];
    for (int runs = 3; runs <= 12; runs++) {
        run_whole(&f, ids, runs, 0);
        kl[runs] = divergence();
        print_message("%d runs: KL %.4f\n", runs, kl[runs]);
    }
    const struct {
        int runs;
        double kl;
    } table[] = {{5, 0.06}, {6, 0.03}, {7, 0.012}, {9, 0.002}};
    for (int i = 0; i < 4; i++) assert_true(fabs(log(kl[table[i].runs] / table[i].kl)) < log(2.3) / 2);
    run_whole(&f, ids, 12, 0.9);
    assert_true(fabs(divergence() - kl[3]) < 1e-9);
    const double tolerances[] = {0.3, 0.1, 0.03, 0.01, 0.003};
    double before = kl[3];
    for (int i = 0; i < 5; i++) {
        run_whole(&f, ids, 30, tolerances[i]);
        double now = divergence();
        print_message("tolerance %g: KL %.5f\n", tolerances[i], now);
        assert_true(now <= before);
        before = now;
    }
    assert_true(before < kl[9]);
    fixture_close(&f);
}

/* The engine uses the given number of iterations: fewer change the result, the model's own number does not. With a
 * tolerance, the number of iterations of a chunk does not depend on other chunks. */
static void the_engine_does_so_many(void **state) {
    (void)state;
    static heard h;
    fixture f;
    open_layout(&f, "3_3_3_3"); /* m + b is 4 */
    heard_sample got[4];
    for (int i = 0; i < 4; i++) {
        lckv_engine_options o = lckv_engine_defaults();
        o.encoding_iterations = (int[]){0, 4, 2, 12}[i];
        o.encoding_tolerance = i == 3 ? 0.05 : 0;
        got[i] = run_alone(&f, o, 4, 0); /* 29 tokens */
    }
    assert_true(got[0].logprob == got[1].logprob);
    assert_true(got[0].logprob != got[2].logprob && got[0].logprob != got[3].logprob);
    lckv_engine_options o = lckv_engine_defaults();
    o.encoding_iterations = 12;
    o.encoding_tolerance = 0.05;
    o.prefill_chunk_size = 8;
    lckv_engine *e = open_engine(&f, o, &h);
    for (int i = 1; i <= REQUESTS; i++) {
        int32_t ids[LENGTH];
        uint64_t id;
        lckv_request r = make_request(i, ids);
        OK(lckv_engine_submit(e, &r, &id));
    }
    finish(e);
    lckv_engine_free(e);
    for (int i = 1; i <= REQUESTS; i++) {
        heard_sample alone = run_alone(&f, o, i, 0);
        assert_same(&alone, &h.samples[i][0]);
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergence_falls_with_runs),
        cmocka_unit_test(the_engine_does_so_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
