/* Parquet files as documents. The files were written by pyarrow 26 without compression, dictionaries and statistics:
 *
 *   TEXT  {'text': ['one\\n', '', 'zwei \u00e9'], 'n': [1, 2, 3]}, row groups of two rows
 *   IDS   {'input_ids': [[1, 2], [], [3]]}, 32 bits each
 *   ROWS  {'messages': [[{role: user, content: ' the'}, {role: assistant, content: ' sat'}],
 *                       [{role: user, content: ' a', name: q}]]}
 *   GAP   {'text': ['a', None]} */
#include "data/documents/document_reader.h"

#include "folder_fixture.h"

static const char TEXT[] =
    "504152311500152415242c15041500150615061c000000020000000401040000006f6e650a000000001500152c152c2c150415001506"
    "15061c000000020000000401010000000000000002000000000000001500152215222c15021500150615061c00000002000000020107"
    "0000007a77656920c3a91500151c151c2c15021500150615061c00000002000000020103000000000000001504193c35001806736368"
    "656d61150400150c250218047465787425004c1c0000001504250218016e001606192c192c26001c150c192506001918047465787415"
    "001604164a164a2608491c150015001502003c160819061926000400000026001c1504192506001918016e1500160416521652265249"
    "1c150015001502003c290619260004000000169c0116042608169c0100192c26001c150c192506001918047465787415001602164816"
    "4826a401491c150015001502003c160e19061926000200000026001c1504192506001918016e150016021642164226ec01491c150015"
    "001502003c290619260002000000168a01160226a401168a01002820706172717565742d6370702d6172726f772076657273696f6e20"
    "32362e302e31192c1c00001c0000002801000050415231";
static const char IDS[] =
    "504152311500153215322c15081500150615061c0000000200000003020300000003df000100000002000000030000001504194c3500"
    "1806736368656d6115020035021809696e7075745f696473150215064c3c000000350418046c697374150200150225021807656c656d"
    "656e74001606191c191c26001c150219250600193809696e7075745f696473046c69737407656c656d656e7415001608165816582608"
    "491c150015001502003c292606021946000200060000001658160626081658002820706172717565742d6370702d6172726f77207665"
    "7273696f6e2032362e302e31191c1c000000ba00000050415231";
static const char ROWS[] =
    "504152311500155215522c15061500150615061c00000002000000030202000000060404000000757365720900000061737369737461"
    "6e7404000000757365721500154415442c15061500150615061c00000002000000030202000000060404000000207468650400000020"
    "7361740200000020611500152615262c15061500150615061c00000002000000030204000000031b010001000000711504197c350018"
    "06736368656d61150200350218086d65737361676573150215064c3c000000350418046c69737415020035021807656c656d656e7415"
    "0600150c25021804726f6c6525004c1c000000150c25021807636f6e74656e7425004c1c000000150c250218046e616d6525004c1c00"
    "00001604191c193c26001c150c192506001948086d65737361676573046c69737407656c656d656e7404726f6c651500160616781678"
    "2608491c150015001502003c1622192604021956000000000600000026001c150c192506001948086d65737361676573046c69737407"
    "656c656d656e7407636f6e74656e7415001606166a166a268001491c150015001502003c161419260402195600000000060000002600"
    "1c150c192506001948086d65737361676573046c69737407656c656d656e74046e616d6515001606164c164c26ea01491c1500150015"
    "02003c1602192604021956000000040200000016ae021604260816ae02002820706172717565742d6370702d6172726f772076657273"
    "696f6e2032362e302e31193c1c00001c00001c0000009701000050415231";
static const char GAP[] =
    "504152311500151615162c15041500150615061c00000002000000030101000000611504192c35001806736368656d61150200150c25"
    "0218047465787425004c1c0000001604191c191c26001c150c192506001918047465787415001604163c163c2608491c150015001502"
    "003c1602190619260202000000163c16042608163c002820706172717565742d6370702d6172726f772076657273696f6e2032362e30"
    "2e31191c1c0000008800000050415231";

static const document_options USUAL = {.keep_linebreaks = true, .id_bytes = 2};

static size_t from_hex(const char *hex, char *out) {
    size_t count = strlen(hex) / 2;
    for (size_t i = 0; i < count; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (char)byte;
    }
    return count;
}

static const char *put_hex(folder *r, const char *name, const char *hex) {
    char bytes[1024];
    return put_in(r, name, bytes, from_hex(hex, bytes));
}

/* All documents of a file as "[text]", "(1,2,3)" or JSON; `status` is that of the last call. */
static const char *all_documents(const char *path, const document_options *options, int *status) {
    static char story[4096];
    document_reader *r;
    document d;
    bool found = true;
    size_t at = 0;
    story[0] = '\0';
    *status = document_reader_create(&path, 1, options, &r);
    for (int64_t row = 1; *status >= 0; row++) {
        *status = document_reader_next(r, &d, &found);
        if (*status < 0 || !found) break;
        assert_int_equal(d.line, row);
        if (d.text) at += (size_t)sprintf(story + at, "[%.*s]", (int)d.bytes, d.text);
        if (d.ids) at += (size_t)sprintf(story + at, "(");
        for (int64_t i = 0; i < d.id_count; i++) at += (size_t)sprintf(story + at, i ? ",%d" : "%d", d.ids[i]);
        if (d.ids) at += (size_t)sprintf(story + at, ")");
        char *json = d.row ? json_dumps(d.row, JSON_COMPACT) : NULL;
        if (json) at += (size_t)sprintf(story + at, "%s", json);
        free(json);
    }
    if (*status >= 0) assert_true(document_reader_fraction(r) == 1);
    document_reader_free(r);
    return story;
}

static void expect(const char *path, const document_options *options, const char *expected) {
    int status;
    const char *story = all_documents(path, options, &status);
    if (status < 0) fail_msg("%s: %s", path, lckv_last_error());
    assert_string_equal(story, expected);
}

static void expect_failure(const char *path, const document_options *options, const char *part) {
    int status;
    all_documents(path, options, &status);
    if (status != LCKV_ERROR_FORMAT || !strstr(lckv_last_error(), part))
        fail_msg("%s: %d '%s', expected '%s'", path, status, lckv_last_error(), part);
}

static void skip_without_parquet(void) {
#ifndef LCKV_PARQUET
    print_message("skipped: this build has no Parquet\n");
    skip();
#endif
}

static void columns_are_documents(void **state) {
    const document_options named = {.keep_linebreaks = true, .text_column = "n"};
    const document_options other = {.keep_linebreaks = true, .text_column = "absent"};
    skip_without_parquet();
    expect(put_hex(*state, "text.parquet", TEXT), &USUAL, "[one\n][][zwei \u00e9]");
    expect(put_hex(*state, "ids.parquet", IDS), &USUAL, "(1,2)()(3)");
    expect_failure(in(*state, "text.parquet"), &other, "has no column 'absent', found: text, n");
    expect_failure(in(*state, "text.parquet"), &named, "'n': expected text or a list of integers, found");
    expect_failure(put_hex(*state, "rows.parquet", ROWS), &USUAL, "set text_column to one of its columns: messages");
    expect_failure(put_hex(*state, "gap.parquet", GAP), &USUAL, "gap.parquet:2: 'text' is null");
}

static void rows_are_objects(void **state) {
    const document_options whole = {.whole_rows = true};
    skip_without_parquet();
    expect(put_hex(*state, "rows.parquet", ROWS), &whole,
           "{\"messages\":[{\"role\":\"user\",\"content\":\" "
           "the\",\"name\":null},{\"role\":\"assistant\",\"content\":\" sat\","
           "\"name\":null}]}{\"messages\":[{\"role\":\"user\",\"content\":\" a\",\"name\":\"q\"}]}");
    expect(put_hex(*state, "text.parquet", TEXT), &whole,
           "{\"text\":\"one\\n\",\"n\":1}{\"text\":\"\",\"n\":2}{\"text\":\"zwei \u00e9\",\"n\":3}");
}

static void overwrite(const char *path, const char *bytes, size_t count) {
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(bytes, 1, count, f) == count && !fclose(f));
}

/* Truncated files and files with one changed byte give an error with the name of the file, or other documents. */
static void damaged_files_are_errors(void **state) {
    static const char *const files[] = {TEXT, IDS, ROWS, GAP};
    const document_options how[] = {USUAL, {.whole_rows = true}};
    int status;
    skip_without_parquet();
    const char *cut_file = in(*state, "cut.parquet"), *damaged = in(*state, "damaged.parquet");
    for (size_t i = 0; i < 4; i++) {
        char bytes[1024];
        size_t count = from_hex(files[i], bytes);
        for (size_t cut = 0; cut < count; cut++) {
            overwrite(cut_file, bytes, cut);
            expect_failure(cut_file, &USUAL, "cut.parquet");
        }
        for (size_t at = 0; at < count; at++) {
            bytes[at] = (char)(bytes[at] ^ 0x55);
            overwrite(damaged, bytes, count);
            all_documents(damaged, &how[at % 2], &status);
            if (status < 0 && !strstr(lckv_last_error(), "damaged.parquet")) fail_msg("%s", lckv_last_error());
            bytes[at] = (char)(bytes[at] ^ 0x55);
        }
    }
}

/* A build without Parquet says how to convert the file. */
static void without_parquet_the_conversion_is_told(void **state) {
#ifdef LCKV_PARQUET
    (void)state;
    print_message("skipped: this build has Parquet\n");
    skip();
#else
    int status;
    all_documents(put_hex(*state, "text.parquet", TEXT), &USUAL, &status);
    assert_int_equal(status, LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "built without Parquet"));
    assert_non_null(strstr(lckv_last_error(), "text.parquet' > data.jsonl"));
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(columns_are_documents),
        IN_FOLDER(rows_are_objects),
        IN_FOLDER(damaged_files_are_errors),
        IN_FOLDER(without_parquet_the_conversion_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
