/* The cost of a token besides the model does not grow with the text before it: stop strings, penalties, prefix cache.
 * Doubles sizes and counts steps. */
#include "generate/batcher/prefix_cache.h"
#include "generate/batcher/sequence.h"
#include "generate/text_stream.h"

#include "fixture.h"
#include "folder_fixture.h"
#include "linear.h"

/* ---- stop strings */

enum { STOP_BYTES = 2000, TOKENS = 4000 };

typedef struct stop_case {
    const char *name, *letters; /* repeated unit of the text */
    char stop[STOP_BYTES + 1];
    int stop_bytes;
} stop_case;

static lckv_tokenizer *tokenizer;

/* A token per letter, each of which is output immediately. */
static lckv_tokenizer *open_letters(const folder *f) {
    lckv_tokenizer *t;
    put_text(in(f, "tokenizer.json"), "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,"
                                      "\"b\":1,\"c\":2},\"merges\":[]}}");
    OK(lckv_tokenizer_open(f->path, &t));
    return t;
}

static void stream(const void *user, size_t size) {
    const stop_case *c = user;
    const char *const stops[] = {c->stop, "never"};
    int32_t prompt = 1;
    text_stream s;
    size_t bytes;
    OK(text_stream_open(&s, tokenizer, &prompt, 1, stops, 2));
    for (size_t i = 0; i < size; i++) {
        OK(text_stream_push(&s, c->letters[i % strlen(c->letters)] - 'a'));
        text_stream_take(&s, &bytes);
    }
    OK(text_stream_finish(&s));
    assert_false(s.stopped);
    text_stream_close(&s);
}

/* The stop string is as long as half of the text, and nearly occurs many times. */
static void stop_strings_are_searched_in_linear_time(void **state) {
    static stop_case cases[] = {{.name = "a row of one letter", .letters = "a"},
                                {.name = "two letters", .letters = "ab"}};
    tokenizer = open_letters(*state);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < STOP_BYTES; k++) cases[i].stop[k] = cases[i].letters[k % (i + 1)];
        cases[i].stop[STOP_BYTES - 1] = 'c';
        expect_linear(cases[i].name, stream, &cases[i], TOKENS);
    }
    lckv_tokenizer_free(tokenizer);
}

/* Against a plain search of the whole text, for any token boundaries. */
static void stop_strings_are_found_as_a_plain_search_finds_them(void **state) {
    tokenizer = open_letters(*state);
    for (uint64_t round = 0; round < 20000; round++) {
        char text[40] = {0}, stop[2][12] = {{0}};
        const char *const stops[] = {stop[0], stop[1]};
        uint32_t word[4];
        int32_t prompt = 1;
        text_stream s;
        size_t bytes;
        for (uint64_t k = 0; k < 39; k++) {
            rng_block(3, round, k, word);
            text[k] = "ab"[word[0] % 2];
            if (k < 2 + round % 4) stop[0][k] = "aabbc"[word[1] % 5];
            if (k < 1 + round % 11) stop[1][k] = "ab"[word[2] % 2];
        }
        size_t length = strlen(stop[1]), part = round / 2 % length;
        if (round % 2) { /* a part of the stop string before the whole one */
            memcpy(text + 8, stop[1], part);
            memcpy(text + 8 + part, stop[1], length);
        }
        /* Each token is one byte. The stop string that ends first applies, and of two the longer one. */
        const char *end = NULL, *first = NULL;
        for (int i = 0; i < 2; i++) {
            const char *at = strstr(text, stops[i]);
            const char *behind = at ? at + strlen(stops[i]) : NULL;
            if (!at || (end && (behind > end || (behind == end && at >= first)))) continue;
            end = behind;
            first = at;
        }
        OK(text_stream_open(&s, tokenizer, &prompt, 1, stops, 2));
        text_buffer said = {0};
        for (int k = 0; text[k]; k++) {
            OK(text_stream_push(&s, text[k] - 'a'));
            const char *piece = text_stream_take(&s, &bytes);
            OK(text_append(&said, piece, bytes));
        }
        OK(text_stream_finish(&s));
        const char *piece = text_stream_take(&s, &bytes);
        OK(text_append(&said, piece, bytes));
        if (s.stopped != (end != NULL))
            fail_msg("text %s stops %s %s said %.*s", text, stops[0], stops[1], (int)said.length, said.data);
        assert_int_equal(said.length, end ? (size_t)(first - text) : strlen(text));
        assert_memory_equal(said.data, text, said.length);
        text_free(&said);
        text_stream_close(&s);
    }
    lckv_tokenizer_free(tokenizer);
}

/* ---- penalties */

static void append_ids(const void *user, size_t size) {
    (void)user;
    sequence *s;
    const sample_row how = {.repetition_penalty = 1.5f};
    OK(sequence_create(&(int32_t){0}, 1, 50000, &how, &s));
    s->how.presence_penalty = 0.25f;
    s->how.frequency_penalty = 0.5f;
    OK(sequence_add_bias(s, 50000, NULL, NULL, 0));
    for (size_t i = 0; i < size; i++) OK(sequence_append(s, (int32_t)(i % 20000)));
    assert_true(s->bias[5] == -0.25f - 0.5f * (float)((size + 19994) / 20000));
    assert_true(s->bias[30000] == 0);
    sequence_free(s);
}

static void penalties_are_linear(void **state) {
    (void)state;
    expect_linear("penalties", append_ids, NULL, 10000);
}

/* ---- ---- prefix cache */

enum { PIECE = 16 /* as many as a page, so that no page is copied */, PROMPT = 64 * PIECE };

/* A prompt is cached chunk by chunk, found again, and evicted by others. */
static void keep_prompt_as(fixture *f, bool exact, size_t size) {
    prefix_reader reader = exact ? PREFIX_EXACT : PREFIX_ANY;
    kv_cache_options o = kv_cache_defaults();
    prefix_cache *p;
    prefix_position mark = {0}, other = {0};
    int id, kept;
    int32_t *ids = malloc(size * sizeof *ids);
    const prefix_prompt all = {ids, (int64_t)size, (int64_t)size};
    o.rows = 2 * (int64_t)size;
    o.snapshots = (int)(size / PIECE);
    OK(kv_cache_create(f->model, &o, &f->cache));
    OK(prefix_cache_create(f->cache, &(chunk_rules){PIECE, PIECE, 0}, o.snapshots, &p));
    OK(kv_cache_add(f->cache, &id));
    for (size_t i = 0; i < size; i++) ids[i] = (int32_t)(i * i % 31);
    for (size_t end = PIECE; end <= size; end += PIECE) {
        OK(kv_cache_prepare(f->cache, id, PIECE));
        kv_cache_commit(f->cache);
        OK(prefix_cache_insert(p, (prefix_prompt){ids, (int64_t)end, (int64_t)size}, exact, id, &mark));
    }
    prefix_cache_touch(p, &mark);
    assert_int_equal(mark.end, size);
    assert_int_equal(prefix_cache_find(p, all, reader, &kept, &other), size - PIECE);
    assert_true(kept >= 0);
    for (size_t i = 0; i < size / 2; i++) ids[i] = 32; /* evicts half of the leaves, from the end */
    mark = (prefix_position){0};
    OK(prefix_cache_insert(p, (prefix_prompt){ids, (int64_t)size / 2, (int64_t)size}, exact, id, &mark));
    for (size_t i = 0; i < size / 2; i++) ids[i] = (int32_t)(i * i % 31);
    assert_int_equal(prefix_cache_find(p, all, reader, &kept, &other), size / 2);
    prefix_cache_free(p);
    kv_cache_free(f->cache);
    free(ids);
}

static void keep_prompt(const void *user, size_t size) {
    keep_prompt_as((fixture *)(uintptr_t)user, false, size);
}

static void keep_exact_prompt(const void *user, size_t size) {
    keep_prompt_as((fixture *)(uintptr_t)user, true, size);
}

static void prefixes_are_kept_and_found_in_linear_time(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f, 1, "", DTYPE_F32, false);
    expect_linear("prefixes", keep_prompt, &f, PROMPT);
    expect_linear("exact prefixes", keep_exact_prompt, &f, PROMPT);
    f.cache = NULL;
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stop_strings_are_searched_in_linear_time, folder_open, folder_close),
        cmocka_unit_test_setup_teardown(stop_strings_are_found_as_a_plain_search_finds_them, folder_open, folder_close),
        cmocka_unit_test(penalties_are_linear),
        cmocka_unit_test(prefixes_are_kept_and_found_in_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
