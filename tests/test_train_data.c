/* Documents, blocks and their order. */
#include "base/rng.h"
#include "train/blocks.h"
#include "train/corpus.h"
#include "train/documents.h"
#include "train/order.h"

#include "train_fixture.h"

/* ---------------------------------------------------------------- documents */

static void expect_text(document_reader *r, const char *text, const char *file, int64_t line) {
    document d;
    bool found;
    OK(document_reader_next(r, &d, &found));
    assert_true(found);
    assert_non_null(d.text);
    assert_int_equal(d.bytes, strlen(text));
    assert_memory_equal(d.text, text, d.bytes);
    assert_string_equal(path_base(d.file), file);
    assert_int_equal(d.line, line);
}

static void expect_end(document_reader *r) {
    document d;
    bool found;
    OK(document_reader_next(r, &d, &found));
    assert_false(found);
    assert_true(document_reader_fraction(r) == 1);
}

static void a_line_is_a_document_with_its_break(void **state) {
    const char *paths[] = {room_file(*state, "a.txt", "one\n\ntwo\r\nthree\rfour\r\n\rno break"),
                           room_file(*state, "empty.txt", ""), room_file(*state, "b.raw", "last\r")};
    document_reader *r;
    OK(document_reader_create(paths, 3, &r));
    expect_text(r, "one\n", "a.txt", 1);
    expect_text(r, "\n", "a.txt", 2);
    expect_text(r, "two\n", "a.txt", 3);
    expect_text(r, "three\n", "a.txt", 4);
    expect_text(r, "four\n", "a.txt", 5);
    expect_text(r, "\n", "a.txt", 6);
    expect_text(r, "no break", "a.txt", 7);
    expect_text(r, "last\n", "b.raw", 1);
    expect_end(r);
    document_reader_free(r);
}

static void json_lines_hold_text_or_ids(void **state) {
    const char *path = room_file(*state, "a.jsonl",
                                 "{\"text\": \"h\\u00e9\\n\", \"more\": [1]}\n"
                                 "\n  \r\n"
                                 "{\"input_ids\": [3, 0, 2147483647], \"text\": \"ids win\"}\r\n"
                                 "{\"input_ids\": []}");
    document_reader *r;
    document d;
    bool found;
    OK(document_reader_create(&path, 1, &r));
    expect_text(r, "h\xc3\xa9\n", "a.jsonl", 1);
    OK(document_reader_next(r, &d, &found));
    assert_true(found && !d.text && d.id_count == 3 && d.line == 4);
    assert_true(d.ids[0] == 3 && d.ids[1] == 0 && d.ids[2] == INT32_MAX);
    OK(document_reader_next(r, &d, &found));
    assert_true(found && !d.text && d.id_count == 0 && d.line == 5);
    expect_end(r);
    document_reader_free(r);
}

static void text_may_hold_a_zero_byte(void **state) {
    const char *path = room_file(*state, "a.jsonl", "{\"text\": \"a\\u0000b\"}");
    document_reader *r;
    document d;
    bool found;
    OK(document_reader_create(&path, 1, &r));
    OK(document_reader_next(r, &d, &found));
    assert_int_equal(d.bytes, 3);
    assert_memory_equal(d.text, "a\0b", 3);
    document_reader_free(r);
}

static void bad_rows_are_named(void **state) {
    const struct {
        const char *row, *message;
    } cases[] = {
        {"{\"text\": \"a\"", "bad.jsonl:2"},
        {"not json", "bad.jsonl:2"},
        {"\"text\"", "bad.jsonl:2: expected an object"},
        {"[1, 2]", "bad.jsonl:2: expected an object"},
        {"{\"content\": \"a\"}", "bad.jsonl:2: the row has neither 'text' nor 'input_ids'"},
        {"{\"text\": 5}", "bad.jsonl:2: 'text' should be a string"},
        {"{\"text\": null}", "bad.jsonl:2: 'text' should be a string"},
        {"{\"input_ids\": \"1\"}", "bad.jsonl:2: 'input_ids' should be an array"},
        {"{\"input_ids\": [1, -1]}", "bad.jsonl:2: entry 1 of 'input_ids'"},
        {"{\"input_ids\": [1.5]}", "bad.jsonl:2: entry 0 of 'input_ids'"},
        {"{\"input_ids\": [4294967296]}", "bad.jsonl:2: entry 0 of 'input_ids'"},
        {"{\"text\": \"\xff\"}", "bad.jsonl:2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        document_reader *r;
        document d;
        bool found;
        snprintf(text, sizeof text, "{\"text\": \"good\"}\n%s\n", cases[i].row);
        const char *path = room_file(*state, "bad.jsonl", text);
        OK(document_reader_create(&path, 1, &r));
        OK(document_reader_next(r, &d, &found));
        FAILS(document_reader_next(r, &d, &found), LCKV_ERROR_FORMAT, cases[i].message);
        document_reader_free(r);
    }
}

static void files_that_cannot_be_read_are_named(void **state) {
    room *here = *state;
    const char *absent = room_path(here, "absent.txt"), *folder = here->folder;
    document_reader *r;
    FAILS(document_reader_create(&absent, 1, &r), LCKV_ERROR_FILE, "absent.txt");
    assert_null(r);
    FAILS(document_reader_create(&folder, 1, &r), LCKV_ERROR_FILE, folder);
}

/* ---------------------------------------------------------------- blocks */

enum { DOCUMENTS = 3456, LONGEST = 9 };

static int32_t document_length(int i) {
    return (int32_t)(rng_uniform(1, 0, (uint64_t)i) * (LONGEST + 1));
}

/* group_texts() of run_clm.py, written down plainly: lists of a thousand, joined, cut, the remainder dropped. */
static int64_t group_plainly(int32_t block_size, int32_t *out) {
    int64_t written = 0;
    int32_t next = 0;
    for (int first = 0; first < DOCUMENTS; first += 1000) {
        int last = first + 1000 < DOCUMENTS ? first + 1000 : DOCUMENTS;
        int32_t joined[1000 * LONGEST];
        int64_t length = 0;
        for (int i = first; i < last; i++)
            for (int32_t t = 0; t < document_length(i); t++) joined[length++] = next++;
        length = length / block_size * block_size;
        memcpy(out + written, joined, (size_t)length * sizeof *out);
        written += length;
    }
    return written / block_size;
}

static void blocks_are_cut_as_the_script_cuts_them(void **state) {
    (void)state;
    const int32_t sizes[] = {2, 7, 100, 4000, 5000};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t *expected = malloc((size_t)DOCUMENTS * LONGEST * sizeof *expected), next = 0, ids[LONGEST];
        int64_t count = group_plainly(sizes[s], expected);
        blocks b;
        OK(blocks_begin(sizes[s], &b));
        for (int i = 0; i < DOCUMENTS; i++) {
            for (int32_t t = 0; t < document_length(i); t++) ids[t] = next++;
            OK(blocks_add(&b, ids, document_length(i)));
        }
        blocks_finish(&b);
        assert_int_equal(b.count, count);
        assert_int_equal(b.documents, DOCUMENTS);
        assert_int_equal(b.tokens, next);
        for (int64_t i = 0; i < count; i++)
            assert_memory_equal(blocks_at(&b, i), expected + i * sizes[s], (size_t)sizes[s] * sizeof(int32_t));
        blocks_free(&b);
        free(expected);
    }
}

static void a_block_needs_two_tokens(void **state) {
    (void)state;
    blocks b;
    FAILS(blocks_begin(1, &b), LCKV_ERROR_ARGUMENT, "block_size");
}

/* ---------------------------------------------------------------- corpora */

static int read_file(const char *path, int32_t block_size, const char *tokenizer_folder, blocks *out) {
    corpus_options o = {.paths = &path,
                        .path_count = 1,
                        .block_size = block_size,
                        .vocab_size = 100,
                        .tokenizer_folder = tokenizer_folder};
    lckv_tokenizer *t = NULL;
    int status = corpus_read(&o, &t, out);
    lckv_tokenizer_free(t);
    return status;
}

static void a_corpus_of_ids_needs_no_tokenizer(void **state) {
    const char *path = room_file(*state, "a.jsonl", "{\"input_ids\": [9, 8, 7]}\n{\"input_ids\": [6, 99]}\n");
    blocks b;
    OK(read_file(path, 2, "there is none here", &b));
    assert_int_equal(b.count, 2);
    assert_true(b.ids[0] == 9 && b.ids[1] == 8 && b.ids[2] == 7 && b.ids[3] == 6);
    blocks_free(&b);
}

static void bad_corpora_are_named(void **state) {
    blocks b;
    FAILS(read_file(room_file(*state, "v.jsonl", "{\"input_ids\": [1, 99]}\n{\"input_ids\": [100]}"), 2, NULL, &b),
          LCKV_ERROR_FORMAT, "v.jsonl:2: entry 0 of 'input_ids' is 100, and the vocabulary has 100 tokens");
    FAILS(read_file(room_file(*state, "empty.txt", ""), 2, NULL, &b), LCKV_ERROR_FORMAT, "empty.txt': nothing to read");
    FAILS(read_file(room_file(*state, "s.jsonl", "{\"input_ids\": [1, 2, 3]}"), 4, NULL, &b), LCKV_ERROR_FORMAT,
          "3 tokens in 1 documents give no block of 4 tokens");
    FAILS(read_file(room_file(*state, "t.txt", "text\n"), 2, NULL, &b), LCKV_ERROR_ARGUMENT, "t.txt:1 is text");
    assert_null(b.ids);
}

/* Each line of the bundled book, encoded alone and joined, makes up the blocks of its first thousand lines. */
static void text_is_encoded_line_by_line(void **state) {
    (void)state;
    const char *book = SOURCE_DIR "/data/pride_and_prejudice.txt", *folder = SOURCE_DIR "/data/tokenizer";
    char *text;
    size_t bytes;
    blocks b, joined;
    lckv_tokenizer *t;
    OK(read_file(book, 64, folder, &b));
    OK(blocks_begin(64, &joined));
    OK(lckv_tokenizer_open(folder, &t));
    OK(file_read(book, &text, &bytes));
    const char *line = text;
    for (int i = 0; i < 1000; i++) {
        const char *end = strchr(line, '\n') + 1;
        int32_t *ids;
        size_t count;
        OK(lckv_tokenizer_encode(t, line, (size_t)(end - line), true, &ids, &count));
        OK(blocks_add(&joined, ids, (int64_t)count));
        line = end;
        lckv_free(ids);
    }
    assert_true(joined.count > 100 && b.count > joined.count);
    assert_memory_equal(b.ids, joined.ids, (size_t)joined.filled * sizeof *b.ids);
    free(text);
    lckv_tokenizer_free(t);
    blocks_free(&b);
    blocks_free(&joined);
}

static bool stop_at_once(void *user, double fraction) {
    ++*(int *)user;
    return fraction < 0;
}

static void reading_can_be_stopped(void **state) {
    (void)state;
    const char *book = SOURCE_DIR "/data/pride_and_prejudice.txt";
    int calls = 0;
    lckv_tokenizer *t = NULL;
    blocks b;
    corpus_options o = {.paths = &book,
                        .path_count = 1,
                        .block_size = 64,
                        .tokenizer_folder = SOURCE_DIR "/data/tokenizer",
                        .go_on = stop_at_once,
                        .user = &calls};
    FAILS(corpus_read(&o, &t, &b), LCKV_ERROR_INTERRUPTED, "pride_and_prejudice.txt");
    assert_int_equal(calls, 1);
    lckv_tokenizer_free(t);
}

/* ---------------------------------------------------------------- order */

static void an_order_has_each_block_once(void **state) {
    (void)state;
    for (int64_t count = 1; count < 700; count = count * 2 + 1) {
        bool *seen = calloc((size_t)count, 1);
        for (int64_t i = 0; i < count; i++) {
            int64_t at = order_index(3, 1, count, i);
            assert_true(at >= 0 && at < count && !seen[at]);
            seen[at] = true;
        }
        free(seen);
    }
    assert_true(order_index(3, 1, INT64_C(1) << 40, 12345) < INT64_C(1) << 40);
}

/* Chi-squared with 15 degrees of freedom lies below 37.7 but once in a thousand; the draws are fixed. */
static void an_order_favours_no_place(void **state) {
    (void)state;
    enum { COUNT = 16, DRAWS = 4096 };
    for (int64_t place = 0; place < COUNT; place += 5) {
        int hits[COUNT] = {0};
        double squares = 0;
        for (uint64_t k = 0; k < DRAWS; k++) hits[order_index(k / 8, k % 8, COUNT, place)]++;
        for (int i = 0; i < COUNT; i++) squares += pow(hits[i] - DRAWS / COUNT, 2) / (DRAWS / COUNT);
        assert_true(squares < 37.7);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ROOM_TEST(a_line_is_a_document_with_its_break),
        ROOM_TEST(json_lines_hold_text_or_ids),
        ROOM_TEST(text_may_hold_a_zero_byte),
        ROOM_TEST(bad_rows_are_named),
        ROOM_TEST(files_that_cannot_be_read_are_named),
        cmocka_unit_test(blocks_are_cut_as_the_script_cuts_them),
        cmocka_unit_test(a_block_needs_two_tokens),
        ROOM_TEST(a_corpus_of_ids_needs_no_tokenizer),
        ROOM_TEST(bad_corpora_are_named),
        cmocka_unit_test(text_is_encoded_line_by_line),
        cmocka_unit_test(reading_can_be_stopped),
        cmocka_unit_test(an_order_has_each_block_once),
        cmocka_unit_test(an_order_favours_no_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
