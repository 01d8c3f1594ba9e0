/* The choice between the plan and lockstep: costs between the measured ones, the file of cost tables, the choice for
 * prompts that start together, and engines that choose by the file. What lockstep computes is in
 * test_generate_lockstep.c. */
#include "cost_fixture.h"

/* ---------------------------------------------------------------- costs */

static void add_cost(cost_table *t, lckv_encoding form, int64_t rows, int64_t depth, double seconds) {
    cost_table_add(t, (lckv_step_cost){.encoding = form, .rows = rows, .depth = depth, .seconds = seconds});
}

static void assert_cost(const cost_table *t, lckv_encoding form, double rows, double depth, double seconds) {
    double found = cost_of_step(t, form, rows, depth);
    if (fabs(found - seconds) > 1e-9) fail_msg("%g rows at depth %g: %g, expected %g", rows, depth, found, seconds);
}

static void costs_lie_between_the_measured_ones(void **state) {
    (void)state;
    const lckv_encoding exact = LCKV_ENCODING_SEQUENTIAL;
    cost_table t = {0};
    assert_cost(&t, exact, 4, 0, 0);
    add_cost(&t, exact, 32, 0, 3);
    add_cost(&t, exact, 16, 100, 3);
    add_cost(&t, exact, 16, 0, 2);
    add_cost(&t, exact, 64, 0, 2.5); /* noise: no cheaper than 32 rows */
    add_cost(&t, LCKV_ENCODING_PLAN, 64, 0, 9);
    assert_cost(&t, exact, 0, 50, 0);
    assert_cost(&t, exact, 1, 0, 2); /* as the smallest */
    assert_cost(&t, exact, 16, 50, 2.5);
    assert_cost(&t, exact, 16, 300, 5);
    assert_cost(&t, exact, 24, 0, 2.5);
    assert_cost(&t, exact, 32, 100, 5); /* depth costs twice as much as for 16 rows */
    assert_cost(&t, exact, 48, 0, 3);
    assert_cost(&t, exact, 128, 0, 6); /* in proportion to the largest */
    assert_cost(&t, LCKV_ENCODING_PLAN, 128, 5000, 18);
}

/* A learned start changes the default number of iterations, and with it the cost of the plan. */
static void a_start_has_costs_of_its_own(void **state) {
    (void)state;
    fixture f;
    cost_key without, with;
    open_layout(&f, "3_3_3_3"); /* m + b is 4 */
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, &chunks, &without));
    OK(loop_start_create(f.device, f.model->config, 4, &f.model->loop_start));
    f.model->loop_start->kl = (loop_start_kl){.zeros = {4, 3, 2, 1}, .start = {2, 1, 0.5, 0.2}, .count = 4};
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, &chunks, &with));
    assert_non_null(strstr(without.model, "iterations 4"));
    assert_non_null(strstr(with.model, "iterations 2"));
    cost_key_free(&without);
    cost_key_free(&with);
    fixture_close(&f);
}

static void tables_are_kept_in_a_file(void **state) {
    (void)state;
    fixture f;
    cost_key key, other;
    cost_table t = table_of(LCKV_ENCODING_PLAN), u = table_of(LCKV_ENCODING_SEQUENTIAL), read;
    open_layout(&f, "3_3_3_3");
    remove(path);
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, &chunks, &key));
    OK(cost_key_make(f.model, DTYPE_BF16, DTYPE_F32, 0, &chunks, &other));
    OK(cost_table_load(path, &key, &read));
    assert_int_equal(read.count, 0);
    OK(cost_table_store(path, &key, &u));
    OK(cost_table_store(path, &key, &t)); /* replaces it */
    OK(cost_table_load(path, &other, &read));
    assert_int_equal(read.count, 0);
    OK(cost_table_store(path, &other, &u));
    OK(cost_table_load(path, &key, &read));
    assert_int_equal(read.count, t.count);
    for (int i = 0; i < t.count; i++) {
        assert_int_equal(read.steps[i].encoding, t.steps[i].encoding);
        assert_int_equal(read.steps[i].rows, t.steps[i].rows);
        assert_int_equal(read.steps[i].depth, t.steps[i].depth);
        assert_true(read.steps[i].seconds == t.steps[i].seconds);
    }
    OK(cost_table_load(path, &other, &read));
    assert_true(cost_of_step(&read, LCKV_ENCODING_PLAN, 1, 0) > 0.5);
    cost_key_free(&key);
    cost_key_free(&other);
    fixture_close(&f);
}

static void wrong_files(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{\"tables\": 1}",
        "{\"tables\": [{\"device\": 1}]}",
        "{\"tables\": [{\"device\": \"%s\", \"model\": \"%s\"}]}",
        "{\"tables\": [{\"device\": \"%s\", \"model\": \"%s\", \"steps\": []}]}",
        "{\"tables\": [{\"device\": \"%s\", \"model\": \"%s\", \"steps\": [{\"encoding\": "
        "\"plan\", \"rows\": 1, \"depth\": 0, \"seconds\": -1}]}]}",
        "{\"tables\": [{\"device\": \"%s\", \"model\": \"%s\", \"steps\": [{\"encoding\": "
        "\"auto\", \"rows\": 1, \"depth\": 0, \"seconds\": 1}]}]}",
        "{\"tables\": [{\"device\": \"%s\", \"model\": \"%s\", \"steps\": [{\"encoding\": "
        "\"plan\", \"rows\": 0, \"depth\": 0, \"seconds\": 1}]}]}"};
    fixture f;
    cost_key key;
    cost_table t;
    static heard h;
    open_layout(&f, "3_3_3_3");
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, &chunks, &key));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[2048], file[2 * PATH_BYTES];
        snprintf(file, sizeof file, "%s/wrong.json", folder);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, texts[i], key.device, key.model);
#pragma GCC diagnostic pop
        OK(file_replace(file, text, strlen(text)));
        int status = cost_table_load(file, &key, &t);
        if (status != LCKV_ERROR_FORMAT) fail_msg("%s: status %d", text, status);
        assert_non_null(strstr(lckv_last_error(), "wrong.json"));
        assert_int_equal(t.count, 0);
        lckv_engine_options o = lckv_engine_defaults();
        const lckv_step_cost *costs;
        int count;
        o.cost_table = file;
        o.max_model_len = LENGTH;
        lckv_engine *e = open_engine(&f, o, &h);
        assert_int_equal(lckv_engine_costs(e, &costs, &count), LCKV_ERROR_FORMAT);
        lckv_engine_free(e);
    }
    cost_key_free(&key);
    fixture_close(&f);
}

/* ---------------------------------------------------------------- the choice */

/* A step of r rows takes 10 + r milliseconds token by token; the plan needs 5 for each token. */
static cost_table simple_table(void) {
    cost_table t = {0};
    for (int64_t rows = 1; rows <= 1024; rows *= 2) {
        add_cost(&t, LCKV_ENCODING_SEQUENTIAL, rows, 0, 1e-3 * (double)(10 + rows));
        add_cost(&t, LCKV_ENCODING_PLAN, rows, 0, 5e-3 * (double)rows);
    }
    return t;
}

static choice_prompt prompt_of(int64_t tokens) {
    return (choice_prompt){.exact_tokens = tokens, .planned_tokens = tokens};
}

/* Number of lockstep prompts among `count` of `tokens` ids each. */
static int count_exact(const choice_limits *limits, int rows, int count, int64_t tokens) {
    cost_table t = simple_table();
    choice_prompt p[64];
    choice_row r[64];
    int exact = 0;
    for (int i = 0; i < count; i++) p[i] = prompt_of(tokens);
    for (int i = 0; i < rows; i++) r[i] = (choice_row){.left = 1000};
    OK(encoding_choose(&t, limits, r, rows, p, count));
    for (int i = 0; i < count; i++) exact += p[i].exact;
    return exact;
}

static void the_cheaper_form_is_chosen(void **state) {
    (void)state;
    const choice_limits limits = {.step_tokens = 2048, .chunks = {64, 64, 0}};
    assert_int_equal(count_exact(&limits, 0, 7, 50), 0); /* too few to consider it */
    assert_int_equal(count_exact(&limits, 0, 8, 50), 8); /* 18 milliseconds for 8 tokens, 40 by the plan */
    assert_int_equal(count_exact(&limits, 0, 64, 50), 64);
    /* beside rows that run anyway, a prompt adds 1 millisecond per token */
    assert_int_equal(count_exact(&limits, 20, 1, 50), 1);
    /* a long prompt among short ones is read by the plan */
    cost_table t = simple_table();
    choice_prompt p[20];
    for (int i = 0; i < 20; i++) p[i] = prompt_of(i == 5 ? 4000 : 20 + i);
    OK(encoding_choose(&t, &limits, NULL, 0, p, 20));
    for (int i = 0; i < 20; i++) assert_int_equal(p[i].exact, i != 5);
    /* the order of arrival does not matter, and neither does a second call */
    choice_prompt q[20];
    for (int i = 0; i < 20; i++) q[i] = p[19 - i];
    OK(encoding_choose(&t, &limits, NULL, 0, q, 20));
    for (int i = 0; i < 20; i++) assert_int_equal(q[i].exact, p[19 - i].exact);
    /* a longer planned prefix counts */
    for (int i = 0; i < 20; i++) p[i] = (choice_prompt){.exact_tokens = 500, .planned_tokens = 20};
    OK(encoding_choose(&t, &limits, NULL, 0, p, 20));
    for (int i = 0; i < 20; i++) assert_false(p[i].exact);
    /* without costs, the plan */
    t.count = 0;
    for (int i = 0; i < 20; i++) p[i] = prompt_of(50);
    OK(encoding_choose(&t, &limits, NULL, 0, p, 20));
    for (int i = 0; i < 20; i++) assert_false(p[i].exact);
}

static void limits_hold(void **state) {
    (void)state;
    choice_limits limits = {.step_tokens = 64, .chunks = {64, 64, 0}};
    /* 20 rows beside it: 31 milliseconds for each of 50 tokens; the plan needs .25 seconds */
    limits.first_token = 1;
    assert_int_equal(count_exact(&limits, 20, 1, 50), 0);
    limits.first_token = 2;
    assert_int_equal(count_exact(&limits, 20, 1, 50), 1);
    /* 16 prompts: 1.3 seconds, less than the 4 of the plan */
    limits.first_token = 0.01;
    assert_int_equal(count_exact(&limits, 0, 16, 50), 16);
    /* steps of 20 + 30 + 10 milliseconds; those of a full planned step take 320 */
    limits = (choice_limits){.step_tokens = 64, .chunks = {64, 64, 0}, .decoding = true};
    assert_int_equal(count_exact(&limits, 20, 30, 50), 30);
    limits.between_tokens = 0.059;
    assert_int_equal(count_exact(&limits, 20, 30, 50), 0);
    limits.between_tokens = 0.061;
    assert_int_equal(count_exact(&limits, 20, 30, 50), 30);
    limits.between_tokens = 0.059;
    limits.decoding = false; /* nothing waits for its next token */
    assert_int_equal(count_exact(&limits, 20, 30, 50), 30);
    limits = (choice_limits){.step_tokens = 8, .chunks = {8, 8, 0}, .decoding = true}; /* 40 milliseconds */
    assert_int_equal(count_exact(&limits, 20, 30, 50), 0);
}

/* ---------------------------------------------------------------- engines */

static lckv_encoding chosen[REQUESTS + 1];

static void note_encoding(void *user, const lckv_event *event) {
    (void)user;
    chosen[event->request] = event->encoding;
}

/* Runs `count` prompts of 20 ids together. */
static void run_prompts(const fixture *f, lckv_engine_options o, int count) {
    lckv_engine *e;
    o.callback = note_encoding;
    o.max_model_len = LENGTH;
    OK(lckv_engine_create(f->model, NULL, &o, &e));
    for (int i = 0; i < count; i++) {
        int32_t ids[20];
        uint64_t id;
        lckv_request r = lckv_request_defaults();
        fixture_ids(ids, 20, (uint64_t)i);
        r.prompt = (lckv_prompt){ids, 20};
        r.max_new_tokens = 2;
        OK(lckv_engine_submit(e, &r, &id));
    }
    finish(e);
    lckv_engine_stats s = lckv_engine_describe(e);
    assert_int_equal(s.sequential_tokens, chosen[1] == LCKV_ENCODING_SEQUENTIAL ? s.prompt_tokens : 0);
    lckv_engine_free(e);
    for (int i = 2; i <= count; i++) assert_int_equal(chosen[i], chosen[1]);
}

static void engines_choose_by_the_file(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "3_3_3_3");
    lckv_engine_options o = lckv_engine_defaults();
    o.cost_table = path;
    for (int cheap = LCKV_ENCODING_PLAN; cheap <= LCKV_ENCODING_SEQUENTIAL; cheap++) {
        write_table(&f, path, (lckv_encoding)cheap);
        run_prompts(&f, o, 12);
        assert_int_equal(chosen[1], cheap);
    }
    run_prompts(&f, o, CHOICE_MIN_ROWS - 1);
    assert_int_equal(chosen[1], LCKV_ENCODING_PLAN);
    lckv_engine_options alone = o;
    alone.batch_invariant = true; /* depends on the request alone */
    run_prompts(&f, alone, 12);
    assert_int_equal(chosen[1], LCKV_ENCODING_PLAN);
    fixture_close(&f);
    open_layout(&f, "0_1_2_3"); /* without loops */
    run_prompts(&f, o, 12);
    assert_int_equal(chosen[1], LCKV_ENCODING_PLAN);
    fixture_close(&f);
}

/* A table is measured when it pays, kept, and used by the next engine. */
static void costs_are_measured_once(void **state) {
    (void)state;
    fixture f;
    static heard h;
    char *first, *second;
    size_t bytes;
    open_layout(&f, "3_3_3_3");
    remove(path);
    lckv_engine_options o = lckv_engine_defaults();
    o.cost_table = path;
    run_prompts(&f, o, 20);
    assert_false(path_exists(path)); /* few tokens */
    for (int run = 0; run < 2; run++) {
        const lckv_step_cost *costs;
        int count;
        lckv_engine_options p = o;
        p.max_model_len = LENGTH;
        lckv_engine *e = open_engine(&f, p, &h);
        OK(lckv_engine_costs(e, &costs, &count));
        assert_true(count >= 8 && count <= COST_MAX_STEPS);
        for (int i = 0; i < count; i++) assert_true(costs[i].seconds > 0 && costs[i].rows >= 1);
        lckv_engine_free(e);
        OK(file_read(path, run ? &second : &first, &bytes));
    }
    assert_string_equal(first, second);
    free(first);
    free(second);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_lie_between_the_measured_ones), cmocka_unit_test(a_start_has_costs_of_its_own),
        cmocka_unit_test(tables_are_kept_in_a_file),           cmocka_unit_test(wrong_files),
        cmocka_unit_test(the_cheaper_form_is_chosen),          cmocka_unit_test(limits_hold),
        cmocka_unit_test(engines_choose_by_the_file),          cmocka_unit_test(costs_are_measured_once),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
