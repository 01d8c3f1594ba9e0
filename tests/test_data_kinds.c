/* File formats of documents: compressed files, JSON arrays, CSV, ids; and errors in invalid files. */
#include "data/documents/byte_stream.h"
#include "data/documents/document_reader.h"

#include "folder_fixture.h"

static const document_options USUAL = {.keep_linebreaks = true, .id_bytes = 2};

/* All documents of a file as "[text]" or "(1,2,3)", one after the other; `status` is that of the last call. */
static char *all_documents(const char *path, const document_options *options, int *status) {
    static char story[1 << 16];
    document_reader *r;
    document d;
    bool found = true;
    size_t at = 0;
    story[0] = '\0';
    *status = document_reader_create(&path, 1, options, &r);
    if (*status < 0) return story;
    while (*status >= 0 && found) {
        *status = document_reader_next(r, &d, &found);
        if (*status < 0 || !found) break;
        if (d.text) at += (size_t)sprintf(story + at, "[%.*s]", (int)d.bytes, d.text);
        for (int64_t i = 0; !d.text && i < d.id_count; i++)
            at += (size_t)sprintf(story + at, i ? ",%d" : d.goes_on ? "+%d" : "(%d", d.ids[i]);
        if (!d.text) at += (size_t)sprintf(story + at, ")");
    }
    if (*status >= 0) assert_true(document_reader_fraction(r) == 1);
    document_reader_free(r);
    return story;
}

static void expect_documents(const char *path, const document_options *options, const char *expected) {
    int status;
    char *story = all_documents(path, options, &status);
    if (status < 0) fail_msg("%s: %s", path, lckv_last_error());
    assert_string_equal(story, expected);
}

static void expect_failure(const char *path, const document_options *options, int code, const char *part) {
    int status;
    all_documents(path, options, &status);
    if (status != code || !strstr(lckv_last_error(), part))
        fail_msg("%s: %d '%s', expected %d '%s'", path, status, lckv_last_error(), code, part);
}

/* ---------------------------------------------------------------- what a clone without Git LFS leaves */

static void pointers_are_no_data(void **state) {
    folder *r = *state;
    static const char *const NAMES[] = {"a.txt",     "a.jsonl",    "a.json",    "a.csv",     "a.bin",   "a.npy",
                                        "a.parquet", "a.jsonl.gz", "a.txt.zst", "a.csv.bz2", "a.arrow", "text"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        expect_failure(
            put_text_in(r, NAMES[i],
                        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22"
                        "eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"),
            &USUAL, LCKV_ERROR_FORMAT, "is a Git LFS pointer, not the file itself: fetch the files with");
    expect_documents(put_text_in(r, "b.txt", "version https://git"), &USUAL, "[version https://git]");
}

/* ---------------------------------------------------------------- compressed */

/* "one\ntwo\n" by gzip -n, bzip2, xz --check=crc32 and zstd. */
static const char *const PACKED[][2] = {
    {"a.txt.gz", "1f8b0800000000000203cbcf4be52a29cfe70200e60bba1208000000"},
    {"a.txt.bz2", "425a6839314159265359a7142b77000002c180001002018480200021800c0238f51b8bb9229c2848538a15bb80"},
    {"a.txt.xz", "fd377a585a0000016922de360200210116000000742fe5a30100076f6e650a74776f0a00e60bba1200011c0844602ac890429"
                 "90d010000000001595a"},
    {"a.txt.zst", "28b52ffd24084100006f6e650a74776f0ae6a60e40"},
};

static size_t from_hex(const char *hex, char *out) {
    size_t count = strlen(hex) / 2;
    for (size_t i = 0; i < count; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (char)byte;
    }
    return count;
}

static void compressed_files_are_unpacked(void **state) {
    for (size_t i = 0; i < sizeof PACKED / sizeof *PACKED; i++) {
        char bytes[512];
        size_t count = from_hex(PACKED[i][1], bytes);
        expect_documents(put_in(*state, PACKED[i][0], bytes, count), &USUAL, "[one\n][two\n]");
        memcpy(bytes + count, bytes, count); /* two concatenated compressed files are valid */
        expect_documents(put_in(*state, PACKED[i][0], bytes, 2 * count), &USUAL, "[one\n][two\n][one\n][two\n]");
        for (size_t cut = 1; cut < count; cut += count / 4)
            expect_failure(put_in(*state, PACKED[i][0], bytes, cut), &USUAL, LCKV_ERROR_FORMAT, PACKED[i][0]);
    }
}

static void files_that_are_not_what_their_ending_says_are_named(void **state) {
    for (size_t i = 0; i < sizeof PACKED / sizeof *PACKED; i++)
        expect_failure(put_text_in(*state, PACKED[i][0], "one\ntwo\n"), &USUAL, LCKV_ERROR_FORMAT,
                       "does not match the file name extension");
    expect_failure(put_text_in(*state, "a.arrow", "ARROW1"), &USUAL, LCKV_ERROR_UNSUPPORTED,
                   "does not read .arrow files");
    expect_failure(put_text_in(*state, "a.parquet.gz", ""), &USUAL, LCKV_ERROR_UNSUPPORTED,
                   "expected an uncompressed Parquet file");
    expect_failure(put_text_in(*state, "a.tar.gz", ""), &USUAL, LCKV_ERROR_UNSUPPORTED, "does not read .tar files");
}

/* Lines longer than the window, and a file that is larger. */
static void long_lines_are_whole(void **state) {
    enum { LONG = 1 << 20 };
    char *text = malloc(3 * LONG);
    memset(text, 'a', 3 * LONG);
    text[LONG] = text[LONG + 5] = text[3 * LONG - 1] = '\n';
    const char *path = put_in(*state, "long.txt", text, 3 * LONG);
    const size_t lengths[] = {LONG + 1, 5, 2 * LONG - 6};
    document_reader *r;
    document d;
    bool found;
    OK(document_reader_create(&path, 1, &USUAL, &r));
    for (int i = 0; i < 3; i++) {
        OK(document_reader_next(r, &d, &found));
        assert_true(found && d.bytes == lengths[i] && d.line == i + 1);
        assert_memory_equal(d.text + d.bytes - 2, "a\n", 2);
    }
    OK(document_reader_next(r, &d, &found));
    assert_false(found);
    document_reader_free(r);
    free(text);
}

/* ---------------------------------------------------------------- JSON */

static void an_array_has_rows_too(void **state) {
    folder *r = *state;
    const document_options named = {.text_column = "body"};
    expect_documents(put_text_in(r, "a.json",
                                 " [ {\"text\": \"a]\\\"}\\\\\"},\n{\"input_ids\" : [1,\n2]},{\"text\":\"{[\", "
                                 "\"more\":[{}]}\n]\n"),
                     &USUAL, "[a]\"}\\](1,2)[{[]");
    expect_documents(put_text_in(r, "none.json", "[]"), &USUAL, "");
    expect_documents(put_text_in(r, "nothing.json", " \n"), &USUAL, "");
    expect_documents(put_text_in(r, "lines.json", "\n{\"text\":\"a\"}\n\n{\"text\":\"b\"}"), &USUAL, "[a][b]");
    expect_documents(put_text_in(r, "n.jsonl", "{\"body\":\"a\",\"text\":\"b\"}\n{\"body\":[7,8],\"input_ids\":[1]}"),
                     &named, "[a](7,8)");
}

/* Editors on Windows write a byte order mark. */
static void json_may_start_with_a_byte_order_mark(void **state) {
    expect_documents(put_text_in(*state, "mark.json", "\xef\xbb\xbf[{\"text\":\"a\"},{\"text\":\"b\"}]"), &USUAL,
                     "[a][b]");
    expect_documents(put_text_in(*state, "mark.jsonl", "\xef\xbb\xbf{\"text\":\"a\"}\n{\"text\":\"b\"}\n"), &USUAL,
                     "[a][b]");
}

static void bad_arrays_are_named(void **state) {
    const struct {
        const char *text, *message;
    } cases[] = {
        {"[{\"text\":\"a\"}", "bad.json:1: expected ',' or ']'"},
        {"[{\"text\":\"a\"}\n{\"text\":\"b\"}]", "bad.json:2: expected ',' or ']'"},
        {"[\n{\"text\":\"a\"},]", "bad.json:2: expected an object"},
        {"[1]", "bad.json:1: expected an object"},
        {"[{\"text\":\n\"a", "bad.json:1: the file ends within this row"},
        {"[{\"text\":\"a\"}]\n[", "bad.json:2: expected nothing after the array"},
        {"[\n\n{\"text\":}]", "bad.json:3"},
        {"[{\"text\":5}]", "bad.json:1: 'text' should be a string, found 5"},
    };
    const document_options named = {.text_column = "body"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(put_text_in(*state, "bad.json", cases[i].text), &USUAL, LCKV_ERROR_FORMAT, cases[i].message);
    expect_failure(put_text_in(*state, "bad.json", "{\"text\":\"a\"}"), &named, LCKV_ERROR_FORMAT, "has no 'body'");
}

/* ---------------------------------------------------------------- CSV */

static void csv_follows_rfc_4180(void **state) {
    folder *r = *state;
    const document_options named = {.text_column = "note"};
    expect_documents(put_text_in(r, "a.csv", "id,text\r\n1,plain\r\n2,\"a, \"\"b\"\"\r\nc\"\r\n3,\r\n4,\"\"\r\n"),
                     &USUAL, "[plain][a, \"b\"\r\nc][][]");
    expect_documents(put_text_in(r, "first.csv", "\xef\xbb\xbf\"story\",x\none,1\n\ntwo,2"), &USUAL, "[one][two]");
    expect_documents(put_text_in(r, "named.csv", "text,note\na,b\nc,\"d\""), &named, "[b][d]");
    expect_documents(put_text_in(r, "header.csv", "text\n"), &USUAL, "");
    expect_documents(put_text_in(r, "empty.csv", ""), &USUAL, "");
}

static void bad_csv_is_named(void **state) {
    const struct {
        const char *text, *message;
    } cases[] = {
        {"text\n\"a\nb", "bad.csv:3: field 1: the file ends within quotes"},
        {"text,x\na\"b,1\n", "bad.csv:2: field 1: unexpected quote in a field"},
        {"text,x\n1,\"a\"b\n", "bad.csv:2: field 2: expected a comma or a line break"},
        {"text,x\n1,2\n\n1,2,3\n", "bad.csv:4: expected 2 fields, as in the header, found 3"},
        {"text,x\n\"a\nb\",1\nc\n", "bad.csv:4: expected 2 fields, as in the header, found 1"},
    };
    const document_options named = {.text_column = "note"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(put_text_in(*state, "bad.csv", cases[i].text), &USUAL, LCKV_ERROR_FORMAT, cases[i].message);
    expect_failure(put_text_in(*state, "bad.csv", "text\na\n"), &named, LCKV_ERROR_FORMAT, "column 'note' not found");
}

/* ---------------------------------------------------------------- ids */

static void ids_are_read_as_they_lie(void **state) {
    folder *r = *state;
    const document_options wide = {.id_bytes = 4};
    expect_documents(put_in(r, "a.bin", "\1\0\2\1\xff\xff", 6), &USUAL, "(1,258,65535)");
    expect_documents(put_in(r, "w.bin", "\1\0\0\0\0\0\1\0", 8), &wide, "(1,65536)");
    expect_documents(put_in(r, "none.bin", "", 0), &USUAL, "");
    expect_failure(put_in(r, "odd.bin", "\1\0\2", 3), &USUAL, LCKV_ERROR_FORMAT, "ends within an id of 2 bytes");
    expect_failure(put_in(r, "large.bin", "\1\0\0\0\0\0\0\x80", 8), &wide, LCKV_ERROR_FORMAT, "id 1 is not from 0 to");
}

static const char *write_npy(folder *r, const char *dictionary, const void *data, size_t bytes) {
    char file[512] = "\x93NUMPY\1";
    size_t length = strlen(dictionary);
    file[8] = (char)length;
    memcpy(file + 10, dictionary, length);
    memcpy(file + 10 + length, data, bytes);
    return put_in(r, "a.npy", file, 10 + length + bytes);
}

static void numpy_arrays_hold_ids(void **state) {
    const int64_t wide[] = {3, 70000, 5, 6}, one = 1, negative = -1;
    const uint16_t narrow[] = {1, 2, 65535};
#define NPY(type, order, shape) "{'descr': '" type "', 'fortran_order': " order ", 'shape': " shape ", }    \n"
    expect_documents(write_npy(*state, NPY("<i8", "False", "(2, 2)"), wide, 32), &USUAL, "(3,70000,5,6)");
    expect_documents(write_npy(*state, NPY("<u2", "False", "(3,)"), narrow, 6), &USUAL, "(1,2,65535)");
    expect_documents(write_npy(*state, NPY("<u2", "False", "(0,)"), narrow, 0), &USUAL, "");
    const struct {
        const char *dictionary, *message;
    } cases[] = {
        {NPY("<f4", "False", "(2,)"), "expected integers of 16, 32 or 64 bits"},
        {NPY(">i8", "False", "(1,)"), "little-endian"},
        {NPY("<i8", "True", "(1,)"), "'fortran_order': False"},
        {NPY("<i8", "False", "(2,)"), "is too short: 1 ids of its header are missing"},
        {NPY("<u4", "False", "(1,)"), "has data after its last id"},
        {NPY("<u4", "False", "(99999999999, 99999999999)"), "a shape below 2^63"},
        {NPY("<u4", "False", "x"), "a shape"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(write_npy(*state, cases[i].dictionary, &one, 8), &USUAL, LCKV_ERROR_FORMAT, cases[i].message);
    expect_failure(write_npy(*state, NPY("<i8", "False", "(1,)"), &negative, 8), &USUAL, LCKV_ERROR_FORMAT,
                   "id 0 is not from 0 to");
    expect_failure(put_text_in(*state, "b.npy", "\x93NUMPX\1"), &USUAL, LCKV_ERROR_FORMAT, "NUMPY");
}

/* A file of many ids is one document, returned in parts. */
static void a_large_file_of_ids_is_one_document(void **state) {
    enum { IDS = 200000 };
    uint16_t *ids = malloc(IDS * sizeof *ids);
    for (int i = 0; i < IDS; i++) ids[i] = (uint16_t)(i * 7);
    const char *path = put_in(*state, "large.bin", (char *)ids, IDS * sizeof *ids);
    document_reader *r;
    document d;
    bool found;
    int64_t seen = 0;
    OK(document_reader_create(&path, 1, &USUAL, &r));
    for (;;) {
        OK(document_reader_next(r, &d, &found));
        if (!found) break;
        assert_true(d.before == seen && d.goes_on == (seen > 0));
        for (int64_t i = 0; i < d.id_count; i++) assert_int_equal(d.ids[i], ids[seen + i]);
        seen += d.id_count;
    }
    assert_int_equal(seen, IDS);
    document_reader_free(r);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(pointers_are_no_data),
        IN_FOLDER(compressed_files_are_unpacked),
        IN_FOLDER(files_that_are_not_what_their_ending_says_are_named),
        IN_FOLDER(long_lines_are_whole),
        IN_FOLDER(an_array_has_rows_too),
        IN_FOLDER(json_may_start_with_a_byte_order_mark),
        IN_FOLDER(bad_arrays_are_named),
        IN_FOLDER(csv_follows_rfc_4180),
        IN_FOLDER(bad_csv_is_named),
        IN_FOLDER(ids_are_read_as_they_lie),
        IN_FOLDER(numpy_arrays_hold_ids),
        IN_FOLDER(a_large_file_of_ids_is_one_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
