/* Readers of documents take linear time for any form of lines, records and rows: doubles files and counts steps. */
#include "base/text/text_buffer.h"
#include "data/documents/byte_stream.h"
#include "data/documents/document_reader.h"

#include "folder_fixture.h"

#include "linear.h"

enum { SIZE = 1 << 19 };

/* `before`, then `unit` repeatedly, then `behind`. */
typedef struct file_case {
    const char *name, *before, *unit, *behind;
} file_case;

static const file_case FILES[] = {
    {"long.txt", "", "ab ", "\n"},
    {"feeds.txt", "", "a\n", ""},
    {"carriage-returns.txt", "", "a\r", ""},
    {"only-carriage-returns.txt", "", "\r", ""},
    {"both.txt", "", "\r\n\n", ""},
    {"carriage-returns-then-a-feed.txt", "", "abc\r", "\n"},
    {"long.jsonl", "{\"text\": \"", "abc ", "\"}"},
    {"escapes.jsonl", "{\"text\": \"", "\\\"[", "\"}"},
    {"lines.jsonl", "", "{\"text\": \"a\"}\n", ""},
    {"blanks.jsonl", "", " \n", ""},
    {"blank-line.jsonl", "", "  \r", "\n"},
    {"ids.jsonl", "{\"input_ids\": [1", ",2", "]}"},
    {"rows.json", "[{\"text\": \"\"}", ",{\"text\": \"a\"}", "]"},
    {"long-row.json", "[{\"text\": \"", "]}\\\\", "\"}]"},
    {"blanks.json", "[", " \n", "]"},
    {"lines.csv", "text,b\n", "a,b\n", ""},
    {"carriage-returns.csv", "text,b\r", "a,b\r", ""},
    {"quoted.csv", "text\n\"", "\"\"\n", "\"\n"},
    {"blanks.csv", "text\n", "\r", "a\n"},
    {"ids.bin", "", "\x01\x02", ""},
};

static folder *folder_of_test;

/* Without fsync, unlike file_replace(). */
static void write_plainly(const char *path, const char *text, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    fclose(file);
}

static const char *make_file(const file_case *c, size_t size) {
    text_buffer text = {0};
    const char *path = in(folder_of_test, c->name);
    OK(text_append(&text, c->before, strlen(c->before)));
    while (text.length < size) OK(text_append(&text, c->unit, strlen(c->unit)));
    OK(text_append(&text, c->behind, strlen(c->behind)));
    write_plainly(path, text.data, text.length);
    text_free(&text);
    return path;
}

static void read_documents(const void *user, size_t size) {
    uint64_t before = work_steps;
    const char *path = make_file(user, size);
    const document_options options = {.keep_linebreaks = true, .id_bytes = 2};
    document_reader *r;
    document d;
    bool found = true;
    work_steps = before;
    OK(document_reader_create(&path, 1, &options, &r));
    while (found) OK(document_reader_next(r, &d, &found));
    document_reader_free(r);
}

static void documents_are_read_in_linear_time(void **state) {
    folder_of_test = *state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        expect_linear(FILES[i].name, read_documents, &FILES[i], SIZE);
}

/* Every line break at every position of the window, also with "\r\n" across its end. */
static void breaks_are_found_wherever_a_window_ends(void **state) {
    static const char *const BREAKS[] = {"\n", "\r\n", "\r"};
    const char *path = in(*state, "window.txt");
    for (int i = 0; i < 3; i++)
        for (int lead = (1 << 18) - 40; lead < (1 << 18) + 40; lead++) {
            text_buffer text = {0};
            byte_stream *s;
            const char *line;
            size_t count, length;
            OK(text_printf(&text, "%0*d%sab%sc", lead, 0, BREAKS[i], BREAKS[(i + lead) % 3]));
            write_plainly(path, text.data, text.length);
            OK(byte_stream_open(path, &s));
            OK(byte_stream_any_line(s, &line, &count, &length));
            assert_int_equal(length, lead);
            assert_int_equal(count, lead + (int)strlen(BREAKS[i]));
            byte_stream_skip(s, count);
            OK(byte_stream_any_line(s, &line, &count, &length));
            assert_int_equal(length, 2);
            byte_stream_skip(s, count);
            OK(byte_stream_any_line(s, &line, &count, &length));
            assert_true(length == 1 && count == 1 && *line == 'c');
            byte_stream_close(s);
            text_free(&text);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(documents_are_read_in_linear_time),
        IN_FOLDER(breaks_are_found_wherever_a_window_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
