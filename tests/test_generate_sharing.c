/* Prefixes that requests share are processed once: samples of a prompt, and prompts that start with the same tokens.
 * Each request gets the same result as alone (bit for bit with batch_invariant), and all pages are released. */
#include "generate/batcher/batcher.h"

#include "engine_fixture.h"

enum { PIECE = 8, FAMILIES = 3, GROUP = 3, PROMPT = 21, NEW = 9 };

/* ---------------------------------------------------------------- samples of one prompt */

static sequence *make_sample(const fixture *f, int sample) {
    int32_t ids[PROMPT];
    sequence *s;
    sample_row how = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 4, .stream = (uint64_t)sample};
    fixture_ids(ids, PROMPT, 9);
    OK(sequence_create(ids, PROMPT, f->model->config->vocab_size, &how, &s));
    s->max_count =
        PROMPT + NEW -
        sample; /* in one round the first is the longest, so that others end before it, in the next it is not */
    s->ignore_eos = true;
    return s;
}

static void samples_read_a_prompt_once(void **state) {
    (void)state;
    for (int layout = 0; layout < LAYOUTS; layout++)
        for (int sinks = 0; sinks < 2; sinks++) {
            fixture f;
            batcher *b;
            sequence *alone[GROUP], *together[GROUP];
            open_layout(&f, layouts[layout]);
            batcher_options o = {.sequences = 4, .chunk_tokens = PIECE};
            if (sinks) o.window_length = 12, o.sinks = 2;
            for (int i = 0; i < GROUP; i++) {
                alone[i] = make_sample(&f, i);
                together[i] = make_sample(&f, (i + sinks) % GROUP);
                OK(batcher_create(f.model, &o, &b));
                OK(batcher_add(b, alone[i]));
                while (!batcher_idle(b)) OK(batcher_step(b));
                batcher_free(b);
            }
            OK(batcher_create(f.model, &o, &b));
            for (int i = 1; i < GROUP; i++) together[i - 1]->next_sample = together[i];
            OK(batcher_add(b, together[0]));
            while (!batcher_idle(b)) OK(batcher_step(b));
            assert_int_equal(batcher_times(b).prompt_tokens, PROMPT);
            assert_int_equal(batcher_cache_usage(b).used_pages, 0);
            batcher_free(b);
            for (int i = 0; i < GROUP; i++) {
                const sequence *s = together[i], *t = alone[(i + sinks) % GROUP];
                assert_int_equal(s->count, t->count);
                assert_memory_equal(s->ids, t->ids, (size_t)s->count * sizeof *s->ids);
            }
            for (int i = 0; i < GROUP; i++) {
                sequence_free(alone[i]);
                sequence_free(together[i]);
            }
            fixture_close(&f);
        }
}

/* ---------------------------------------------------------------- prompts with a common prefix */

/* Request i: a prompt of its family with 1 to 40 ids, of which the last is its own. Exact pages serve planned prompts,
 * except with `invariant`, and change their result: without it, exact prompts have families of their own. */
static lckv_request make_relative(int i, int32_t *ids, bool invariant) {
    lckv_request r = make_request(i, ids);
    r.prompt.count = 1 + i * 13 % 40;
    fixture_ids(ids, (int)r.prompt.count, (uint64_t)(i % FAMILIES + (i % 7 || invariant ? 0 : FAMILIES)));
    ids[r.prompt.count - 1] = i % FIXTURE_VOCAB;
    if (i % 7 == 0) r.encoding = LCKV_ENCODING_SEQUENTIAL;
    if (i % 11 == 0) r.encoding = LCKV_ENCODING_PLAN;
    return r;
}

static heard_sample run_relative(const fixture *f, lckv_engine_options o, int i, int sample) {
    int32_t ids[LENGTH];
    lckv_request r = make_relative(i, ids, o.batch_invariant);
    return run_one(f, o, &r, sample);
}

/* Random submits, steps and cancellations, in a cache that holds a few requests. */
static void run_relatives(const fixture *f, lckv_engine_options o, heard *h, bool *cancelled) {
    lckv_engine *e = open_engine(f, o, h);
    int64_t shared = 0;
    uint64_t draws = 0, id;
    for (int i = 1; i <= REQUESTS || !lckv_engine_idle(e);) {
        double what = rng_uniform(5, 0, draws++);
        int32_t ids[LENGTH];
        if (what < 0.4 && i <= REQUESTS) {
            lckv_request r = make_relative(i++, ids, o.batch_invariant);
            OK(lckv_engine_submit(e, &r, &id));
        } else if (what < 0.45 && i > 1) {
            id = 1 + (uint64_t)(rng_uniform(6, 0, draws++) * (i - 1));
            cancelled[id] = true;
            lckv_engine_cancel(e, id);
        } else {
            OK(lckv_engine_step(e));
        }
        lckv_engine_stats s = lckv_engine_describe(e);
        shared += s.kv_pages_shared;
        assert_true(s.kv_pages_used + s.kv_pages_kept <= s.kv_pages && s.kv_pages_shared <= s.kv_pages_used);
        assert_true(draws < 10000);
    }
    assert_true(shared > 0);
    assert_empty(e);
    lckv_engine_free(e);
}

static void relatives_get_what_they_get_alone(void **state) {
    (void)state;
    static heard h;
    for (int layout = 0; layout < LAYOUTS; layout++)
        for (int way = 0; way < 4; way++) { /* plain, sinks, batch-invariant, the same with int8 */
            fixture f;
            bool cancelled[REQUESTS + 1] = {0};
            open_layout(&f, layouts[layout]);
            lckv_engine_options o = lckv_engine_defaults();
            o.prefill_chunk_size = PIECE;
            o.max_num_seqs = 64;
            o.max_model_len = LENGTH;
            o.batch_invariant = way >= 2;
            if (way == 3) o.kv_dtype = "int8";
            if (way == 1) o.window_length = 12, o.num_sink_tokens = 2, o.max_model_len = 0;
            lckv_engine *e = open_engine(&f, o, &h);
            int64_t bytes = lckv_engine_describe(e).kv_bytes;
            lckv_engine_free(e);
            lckv_engine_options few = o;
            few.max_num_seqs = 5;
            few.kv_cache_memory = bytes / o.max_num_seqs * 3;
            few.max_num_batched_tokens = 40;
            run_relatives(&f, few, &h, cancelled);
            for (int i = 1; i <= REQUESTS; i++)
                for (int j = 0; j < 1 + i % SAMPLES && !cancelled[i]; j++) {
                    heard_sample alone = run_relative(&f, o, i, j);
                    if (way >= 2)
                        assert_memory_equal(&alone, &h.samples[i][j], sizeof alone);
                    else
                        assert_same(&alone, &h.samples[i][j]);
                }
            fixture_close(&f);
        }
}

typedef struct noticed {
    int64_t cached[8];
} noticed;

static void notice(void *user, const lckv_event *event) {
    noticed *n = user;
    n->cached[event->request] = event->cached_tokens;
}

/* Whole chunks with the same encoding are shared, but not the whole prompt, and not decoded tokens. */
static void what_is_shared(void **state) {
    (void)state;
    for (int layout = 0; layout < LAYOUTS; layout++) {
        fixture f;
        noticed n = {0};
        int32_t ids[LENGTH];
        uint64_t id;
        lckv_engine *e;
        open_layout(&f, layouts[layout]);
        lckv_engine_options o = lckv_engine_defaults();
        lckv_request r = lckv_request_defaults();
        o.prefill_chunk_size = PIECE;
        o.callback = notice;
        o.user = &n;
        fixture_ids(ids, LENGTH, 1);
        r.ignore_eos = true;
        r.max_new_tokens = 20;
        OK(lckv_engine_create(f.model, NULL, &o, &e));
        const struct {
            int64_t count, cached;
            lckv_encoding encoding;
        } cases[] = {{20, 0, LCKV_ENCODING_AUTO},  {20, 16, LCKV_ENCODING_AUTO},      {16, 8, LCKV_ENCODING_AUTO},
                     {40, 16, LCKV_ENCODING_AUTO}, {40, 0, LCKV_ENCODING_SEQUENTIAL}, {40, 0, LCKV_ENCODING_PLAN},
                     {41, 40, LCKV_ENCODING_AUTO}};
        for (int i = 0; i < 7; i++) {
            r.prompt = (lckv_prompt){ids, cases[i].count};
            r.encoding = cases[i].encoding;
            OK(lckv_engine_submit(e, &r, &id));
            finish(e);
            assert_int_equal(n.cached[id], cases[i].cached);
        }
        assert_empty(e);
        assert_true(lckv_engine_describe(e).kv_pages_kept > 0);
        lckv_engine_free(e);
        fixture_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_read_a_prompt_once),
        cmocka_unit_test(relatives_get_what_they_get_alone),
        cmocka_unit_test(what_is_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
