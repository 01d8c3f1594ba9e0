/* Documents, blocks and their order. */
#include "base/rng.h"
#include "data/blocks.h"
#include "data/corpus.h"
#include "data/documents/document_reader.h"
#include "data/shuffle.h"
#include "data/token_writer.h"

#include "folder_fixture.h"

/* ---------------------------------------------------------------- documents */

static const document_options KEEP = {.keep_linebreaks = true};

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
    const char *paths[] = {put_text_in(*state, "a.txt", "one\n\ntwo\r\nthree\rfour\r\n\rno break"),
                           put_text_in(*state, "empty.txt", ""), put_text_in(*state, "b.raw", "last\r")};
    document_reader *r;
    OK(document_reader_create(paths, 3, &KEEP, &r));
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

static void breaks_are_left_out_where_asked_for(void **state) {
    const char *path = put_text_in(*state, "a.txt", "one\n\ntwo\r\n three \rno break");
    const document_options options = {.keep_linebreaks = false};
    document_reader *r;
    OK(document_reader_create(&path, 1, &options, &r));
    expect_text(r, "one", "a.txt", 1);
    expect_text(r, "", "a.txt", 2);
    expect_text(r, "two", "a.txt", 3);
    expect_text(r, " three ", "a.txt", 4);
    expect_text(r, "no break", "a.txt", 5);
    expect_end(r);
    document_reader_free(r);
}

static void json_lines_hold_text_or_ids(void **state) {
    const char *path = put_text_in(*state, "a.jsonl",
                                   "{\"text\": \"h\\u00e9\\n\", \"more\": [1]}\n"
                                   "\n  \r\n"
                                   "{\"input_ids\": [3, 0, 2147483647], \"text\": \"ids win\"}\r\n"
                                   "{\"input_ids\": []}");
    document_reader *r;
    document d;
    bool found;
    OK(document_reader_create(&path, 1, &KEEP, &r));
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
    const char *path = put_text_in(*state, "a.jsonl", "{\"text\": \"a\\u0000b\"}");
    document_reader *r;
    document d;
    bool found;
    OK(document_reader_create(&path, 1, &KEEP, &r));
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
        {"{\"text\": 5}", "bad.jsonl:2: 'text' should be a string, found 5"},
        {"{\"text\": null}", "bad.jsonl:2: 'text' should be a string, found null"},
        {"{\"input_ids\": \"1\"}", "bad.jsonl:2: 'input_ids' should be an array of integers, found \"1\""},
        {"{\"input_ids\": [1, -1]}",
         "bad.jsonl:2: 'input_ids[1]' should be a token id (an integer of at least 0), found -1"},
        {"{\"input_ids\": [1.5]}", "found 1.5"},
        {"{\"input_ids\": [4294967296]}", "found 4294967296"},
        {"{\"text\": \"\xff\"}", "bad.jsonl:2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        document_reader *r;
        document d;
        bool found;
        snprintf(text, sizeof text, "{\"text\": \"good\"}\n%s\n", cases[i].row);
        const char *path = put_text_in(*state, "bad.jsonl", text);
        OK(document_reader_create(&path, 1, &KEEP, &r));
        OK(document_reader_next(r, &d, &found));
        FAILS(document_reader_next(r, &d, &found), LCKV_ERROR_FORMAT, cases[i].message);
        document_reader_free(r);
    }
}

static void files_that_cannot_be_read_are_named(void **state) {
    folder *here = *state;
    const char *absent = in(here, "absent.txt"), *place = here->path;
    document_reader *r;
    FAILS(document_reader_create(&absent, 1, &KEEP, &r), LCKV_ERROR_FILE, "absent.txt");
    assert_null(r);
    FAILS(document_reader_create(&place, 1, &KEEP, &r), LCKV_ERROR_FILE, place);
}

/* ---------------------------------------------------------------- blocks */

enum { DOCUMENTS = 3456, MAX_LENGTH = 9 };

static int32_t document_length(int i) {
    return (int32_t)(rng_uniform(1, 0, (uint64_t)i) * (MAX_LENGTH + 1));
}

/* A plain form of group_texts() of run_clm.py for documents first .. DOCUMENTS - 1: concatenates groups of `group`,
 * cuts blocks and drops the remainder. Ids count up through all documents. */
static int64_t group_plainly(int first, int group, int32_t block_size, int32_t *out) {
    int64_t written = 0;
    int32_t next = 0, *joined = malloc((size_t)DOCUMENTS * MAX_LENGTH * sizeof *joined);
    for (int i = 0; i < first; i++) next += document_length(i);
    for (int begin = first; begin < DOCUMENTS; begin += group) {
        int last = begin + group < DOCUMENTS ? begin + group : DOCUMENTS;
        int64_t length = 0;
        for (int i = begin; i < last; i++)
            for (int32_t t = 0; t < document_length(i); t++) joined[length++] = next++;
        length = length / block_size * block_size;
        memcpy(out + written, joined, (size_t)length * sizeof *out);
        written += length;
    }
    free(joined);
    return written / block_size;
}

/* The same documents in a file. */
static token_store numbered_documents(folder *r, int id_bytes) {
    token_writer w;
    token_store s;
    int32_t next = 0, ids[MAX_LENGTH];
    OK(token_writer_begin(in(r, "numbered.ids"), id_bytes, &w));
    for (int i = 0; i < DOCUMENTS; i++) {
        int32_t length = document_length(i);
        for (int32_t t = 0; t < length; t++) ids[t] = next++;
        OK(token_writer_add(&w, ids, length / 2, false));
        OK(token_writer_add(&w, ids + length / 2, length - length / 2, true));
    }
    OK(token_writer_commit(&w, false));
    OK(token_store_open(in(r, "numbered.ids"), &s));
    assert_true(s.documents == DOCUMENTS && s.tokens == next && s.ids.bytes == id_bytes && !s.has_text);
    assert_int_equal(s.ids.largest, next - 1);
    return s;
}

static void blocks_are_cut_as_the_script_cuts_them(void **state) {
    const int32_t sizes[] = {2, 7, 100, 4000, 5000};
    int32_t *expected = malloc((size_t)DOCUMENTS * MAX_LENGTH * sizeof *expected), found[3 * 5000];
    example e = {.ids = found, .labels = found + 5000, .lengths = found + 10000};
    for (int i = 0; i < 5 * 2 * 2; i++) {
        int first = i & 1 ? 123 : 0;
        token_store s = numbered_documents(*state, i & 4 ? 4 : 2);
        block_rules rules = {.block_size = sizes[i / 4], .group_all = i & 2};
        int64_t count = group_plainly(first, rules.group_all ? DOCUMENTS : 1000, rules.block_size, expected);
        blocks b;
        OK(blocks_cut(&s, first, DOCUMENTS - first, &rules, &b));
        assert_int_equal(b.examples.count, count);
        assert_int_equal(b.documents, DOCUMENTS - first);
        assert_int_equal(b.tokens, s.tokens - token_store_begin(&s, first));
        for (int64_t k = 0; k < count; k++) {
            OK(b.examples.read(&b.examples, k, &e));
            assert_memory_equal(found, expected + k * rules.block_size, (size_t)rules.block_size * sizeof *found);
        }
        blocks_free(&b);
        token_store_close(&s);
    }
    free(expected);
}

/* Every id is the number of its document. */
static int document_of(int32_t id) {
    int found = 0;
    for (int32_t begin = 0; begin + document_length(found) <= id; found++) begin += document_length(found);
    return found;
}

/* Block k: one sequence per document, and no label for its last token. */
static void check_masked(const blocks *b, int64_t k) {
    int32_t ids[100], labels[100], lengths[100], sequences = 1, begin = 0, size = b->examples.block_size;
    int64_t count, labelled = 0;
    example e = {ids, labels, lengths, 0, 0};
    OK(b->examples.read(&b->examples, k, &e));
    OK(b->examples.count_labels(&b->examples, k, &count));
    for (int32_t i = 0; i < size; i++) {
        bool last = i + 1 == size || document_of(ids[i]) != document_of(ids[i + 1]);
        assert_int_equal(labels[i], last ? -1 : ids[i + 1]);
        labelled += !last;
        if (last && i + 1 < size) {
            assert_int_equal(lengths[sequences - 1], i + 1 - begin);
            begin = i + 1;
            sequences++;
        }
    }
    assert_int_equal(lengths[sequences - 1], size - begin);
    assert_true(e.tokens == size && e.sequences == sequences && count == labelled);
}

static void masked_blocks_know_their_documents(void **state) {
    for (int i = 0; i < 4; i++) {
        token_store s = numbered_documents(*state, 2);
        block_rules rules = {
            .block_size = i & 1 ? 100 : 7, .document_mask = true, .group_all = i & 2, .max_blocks = 40};
        blocks b;
        OK(blocks_cut(&s, 123, DOCUMENTS - 123, &rules, &b));
        assert_int_equal(b.examples.count, 40);
        for (int64_t k = 0; k < 40; k++) check_masked(&b, k);
        blocks_free(&b);
        token_store_close(&s);
    }
}

static void no_more_blocks_than_asked_for(void **state) {
    token_store s = numbered_documents(*state, 2);
    block_rules rules = {.block_size = 7, .max_blocks = 5};
    blocks b;
    OK(blocks_cut(&s, 0, DOCUMENTS, &rules, &b));
    assert_int_equal(b.examples.count, 5);
    blocks_free(&b);
    OK(blocks_cut(&s, 0, 3, &rules, &b));
    assert_int_equal(b.examples.count, token_store_begin(&s, 3) / 7);
    blocks_free(&b);
    OK(blocks_cut(&s, 5, 0, &rules, &b));
    assert_int_equal(b.examples.count, 0);
    blocks_free(&b);
    token_store_close(&s);
}

static void a_block_needs_two_tokens(void **state) {
    (void)state;
    blocks b;
    token_store s = {0};
    FAILS(blocks_cut(&s, 0, 0, &(block_rules){.block_size = 1}, &b), LCKV_ERROR_ARGUMENT, "block_size");
}

/* ---------------------------------------------------------------- corpora */

/* Uses a token cache in the test's folder. */
static int read_file(folder *r, const char *path, const char *tokenizer_folder, bool append_eos, token_store *out) {
    corpus_options o = {.paths = &path,
                        .cache_folder = in(r, "cache"),
                        .path_count = 1,
                        .documents = KEEP,
                        .append_eos = append_eos,
                        .vocab_size = 100,
                        .tokenizer_folder = tokenizer_folder};
    lckv_tokenizer *t = NULL;
    int status = corpus_open(&o, &t, out, NULL);
    lckv_tokenizer_free(t);
    return status;
}

static void a_corpus_of_ids_needs_no_tokenizer(void **state) {
    const char *path = put_text_in(*state, "a.jsonl", "{\"input_ids\": [9, 8, 7]}\n{\"input_ids\": [6, 99]}\n");
    const int32_t expected[] = {9, 8, 7, 6, 99};
    int32_t ids[5];
    token_store s;
    OK(read_file(*state, path, "there is none here", true, &s));
    assert_true(s.documents == 2 && s.tokens == 5 && s.ends[0] == 3 && s.ends[1] == 5);
    OK(id_view_read(&s.ids, 0, 5, ids));
    assert_memory_equal(ids, expected, sizeof expected);
    token_store_close(&s);
}

static void bad_corpora_are_named(void **state) {
    token_store s;
    FAILS(read_file(*state, put_text_in(*state, "v.jsonl", "{\"input_ids\": [1, 99]}\n{\"input_ids\": [100]}"), NULL,
                    false, &s),
          LCKV_ERROR_FORMAT, "v.jsonl:2: entry 0 of 'input_ids' is 100, but the vocabulary has 100 tokens");
    FAILS(read_file(*state, put_text_in(*state, "empty.txt", ""), NULL, false, &s), LCKV_ERROR_FORMAT,
          "empty.txt': expected text or token ids, found none");
    FAILS(read_file(*state, put_text_in(*state, "t.txt", "text\n"), NULL, false, &s), LCKV_ERROR_ARGUMENT,
          "t.txt:1: the document is text");
    assert_null(s.ids.data);
}

/* Each line of the bundled book is encoded by itself, followed by EOS with append_eos. */
static void text_is_encoded_line_by_line(void **state) {
    const char *book = SOURCE_DIR "/data/pride_and_prejudice.txt", *place = SOURCE_DIR "/data/tokenizer";
    char *text;
    size_t bytes;
    token_store s, ended;
    lckv_tokenizer *t;
    OK(read_file(*state, book, place, false, &s));
    OK(read_file(*state, book, place, true, &ended));
    OK(lckv_tokenizer_open(place, &t));
    OK(file_read(book, &text, &bytes));
    const char *line = text;
    for (int i = 0; i < 1000; i++) {
        const char *end = strchr(line, '\n') + 1;
        int64_t begin = token_store_begin(&s, i);
        int32_t *ids, found[1 << 12];
        size_t count;
        OK(lckv_tokenizer_encode(t, line, (size_t)(end - line), true, &ids, &count));
        assert_int_equal(s.ends[i] - begin, count);
        assert_true(count < sizeof found / sizeof *found);
        OK(id_view_read(&s.ids, begin, (int64_t)count, found));
        assert_memory_equal(found, ids, count * sizeof *ids);
        assert_int_equal(ended.ends[i], s.ends[i] + i + 1);
        OK(id_view_read(&ended.ids, begin + i, (int64_t)count + 1, found));
        assert_memory_equal(found, ids, count * sizeof *ids);
        assert_int_equal(found[count], lckv_tokenizer_eos_id(t));
        line = end;
        lckv_free(ids);
    }
    assert_true(s.documents > 1000 && ended.tokens == s.tokens + s.documents);
    free(text);
    lckv_tokenizer_free(t);
    token_store_close(&s);
    token_store_close(&ended);
}

static void eos_must_have_a_name(void **state) {
    folder *r = *state;
    token_store s;
    const char *text = put_text_in(r, "a.txt", "a\n");
    OK(file_copy(SOURCE_DIR "/data/tokenizer/tokenizer.json", in(r, "tokenizer.json")));
    FAILS(read_file(r, text, r->path, true, &s), LCKV_ERROR_ARGUMENT, "has no EOS token");
    OK(read_file(r, text, r->path, false, &s));
    token_store_close(&s);
}

static bool stop_at_once(void *user, double fraction) {
    ++*(int *)user;
    return fraction < 0;
}

static void reading_can_be_stopped(void **state) {
    folder *r = *state;
    const char *book = SOURCE_DIR "/data/pride_and_prejudice.txt";
    int calls = 0;
    lckv_tokenizer *t = NULL;
    token_store s;
    corpus_options o = {.paths = &book,
                        .path_count = 1,
                        .cache_folder = in(r, "cache"),
                        .tokenizer_folder = SOURCE_DIR "/data/tokenizer",
                        .go_on = stop_at_once,
                        .user = &calls};
    FAILS(corpus_open(&o, &t, &s, NULL), LCKV_ERROR_INTERRUPTED, "pride_and_prejudice.txt");
    assert_int_equal(calls, 1);
    lckv_tokenizer_free(t);
}

/* ---------------------------------------------------------------- order */

static void an_order_has_each_block_once(void **state) {
    (void)state;
    for (int64_t count = 1; count < 700; count = count * 2 + 1) {
        bool *seen = calloc((size_t)count, 1);
        for (int64_t i = 0; i < count; i++) {
            int64_t at = shuffle_index(3, 1, count, i);
            assert_true(at >= 0 && at < count && !seen[at]);
            seen[at] = true;
        }
        free(seen);
    }
    assert_true(shuffle_index(3, 1, INT64_C(1) << 40, 12345) < INT64_C(1) << 40);
}

/* Chi-squared with 15 degrees of freedom exceeds 37.7 with probability 0.001; the draws are fixed. */
static void an_order_favours_no_place(void **state) {
    (void)state;
    enum { COUNT = 16, DRAWS = 4096 };
    for (int64_t place = 0; place < COUNT; place += 5) {
        int hits[COUNT] = {0};
        double squares = 0;
        for (uint64_t k = 0; k < DRAWS; k++) hits[shuffle_index(k / 8, k % 8, COUNT, place)]++;
        for (int i = 0; i < COUNT; i++) squares += pow(hits[i] - DRAWS / COUNT, 2) / (DRAWS / COUNT);
        assert_true(squares < 37.7);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_line_is_a_document_with_its_break),
        IN_FOLDER(breaks_are_left_out_where_asked_for),
        IN_FOLDER(json_lines_hold_text_or_ids),
        IN_FOLDER(text_may_hold_a_zero_byte),
        IN_FOLDER(bad_rows_are_named),
        IN_FOLDER(files_that_cannot_be_read_are_named),
        IN_FOLDER(blocks_are_cut_as_the_script_cuts_them),
        IN_FOLDER(masked_blocks_know_their_documents),
        IN_FOLDER(no_more_blocks_than_asked_for),
        cmocka_unit_test(a_block_needs_two_tokens),
        IN_FOLDER(a_corpus_of_ids_needs_no_tokenizer),
        IN_FOLDER(bad_corpora_are_named),
        IN_FOLDER(text_is_encoded_line_by_line),
        IN_FOLDER(eos_must_have_a_name),
        IN_FOLDER(reading_can_be_stopped),
        cmocka_unit_test(an_order_has_each_block_once),
        cmocka_unit_test(an_order_favours_no_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
