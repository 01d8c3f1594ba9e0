/* Prompts that are read token by token, many together: the result is that of the exact form, whoever joins or leaves;
 * `auto` chooses by the cost table alone; pages of the plan never serve an exact prompt. */
#include "base/files/file.h"
#include "generate/batcher/batcher_call.h"
#include "generate/costs/encoding_choice.h"

#include "engine_fixture.h"
#include "temp_folder.h"

static const char *const loops[] = {"3_3_3_3", "1_2_0_1", "0_2_2_3", "3s_3s_3s_3s", "0_3_3_3:2"};
enum { LOOPS = sizeof loops / sizeof *loops, PROMPTS = 20, CHUNK = 16, NEW = 4 };

/* Costs in which one of the two forms is a thousand times as expensive. */
static cost_table table_of(lckv_encoding cheap) {
    cost_table t = {0};
    for (int form = LCKV_ENCODING_PLAN; form <= LCKV_ENCODING_SEQUENTIAL; form++)
        for (int64_t rows = 1; rows <= 1024; rows *= 32)
            cost_table_add(&t, (lckv_step_cost){.encoding = (lckv_encoding)form,
                                                .rows = rows,
                                                .seconds = form == (int)cheap ? 1e-3 : 1});
    return t;
}

static void write_table(const fixture *f, const char *path, int64_t chunk, lckv_encoding cheap) {
    cost_table t = table_of(cheap);
    cost_key key;
    OK(cost_key_make(f->model, DTYPE_F32, DTYPE_F32, 0, chunk, &key));
    OK(cost_table_store(path, &key, &t));
    cost_key_free(&key);
}

static char folder[PATH_BYTES], path[2 * PATH_BYTES];

static int make_folder(void **state) {
    (void)state;
    bool made = temp_folder_create(folder);
    snprintf(path, sizeof path, "%s/inside/costs.json", folder);
    return made ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    remove_tree(folder);
    return 0;
}

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
        write_table(&f, path, 64, LCKV_ENCODING_SEQUENTIAL);
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
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, 64, &without));
    OK(loop_start_create(f.device, f.model->config, 4, &f.model->loop_start));
    f.model->loop_start->kl = (loop_start_kl){.zeros = {4, 3, 2, 1}, .start = {2, 1, 0.5, 0.2}, .count = 4};
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, 64, &with));
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
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, 64, &key));
    OK(cost_key_make(f.model, DTYPE_BF16, DTYPE_F32, 0, 64, &other));
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
    OK(cost_key_make(f.model, DTYPE_F32, DTYPE_F32, 0, 64, &key));
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
    const choice_limits limits = {.step_tokens = 2048, .chunk_tokens = 64};
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
    choice_limits limits = {.step_tokens = 64, .chunk_tokens = 64};
    /* 20 rows beside it: 31 milliseconds for each of 50 tokens; the plan needs .25 seconds */
    limits.first_token = 1;
    assert_int_equal(count_exact(&limits, 20, 1, 50), 0);
    limits.first_token = 2;
    assert_int_equal(count_exact(&limits, 20, 1, 50), 1);
    /* 16 prompts: 1.3 seconds, less than the 4 of the plan */
    limits.first_token = 0.01;
    assert_int_equal(count_exact(&limits, 0, 16, 50), 16);
    /* steps of 20 + 30 + 10 milliseconds; those of a full planned step take 320 */
    limits = (choice_limits){.step_tokens = 64, .chunk_tokens = 64, .decoding = true};
    assert_int_equal(count_exact(&limits, 20, 30, 50), 30);
    limits.between_tokens = 0.059;
    assert_int_equal(count_exact(&limits, 20, 30, 50), 0);
    limits.between_tokens = 0.061;
    assert_int_equal(count_exact(&limits, 20, 30, 50), 30);
    limits.between_tokens = 0.059;
    limits.decoding = false; /* nothing waits for its next token */
    assert_int_equal(count_exact(&limits, 20, 30, 50), 30);
    limits = (choice_limits){.step_tokens = 8, .chunk_tokens = 8, .decoding = true}; /* 40 milliseconds */
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
        write_table(&f, path, 64, (lckv_encoding)cheap);
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
        cmocka_unit_test(lockstep_is_the_exact_form),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(known_tokens_need_no_logits),
        cmocka_unit_test(costs_lie_between_the_measured_ones),
        cmocka_unit_test(a_start_has_costs_of_its_own),
        cmocka_unit_test(tables_are_kept_in_a_file),
        cmocka_unit_test(wrong_files),
        cmocka_unit_test(the_cheaper_form_is_chosen),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(engines_choose_by_the_file),
        cmocka_unit_test(costs_are_measured_once),
        cmocka_unit_test(exact_pages_serve_all_planned_ones_the_plan),
        cmocka_unit_test(exact_prefixes_need_no_chunks),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
