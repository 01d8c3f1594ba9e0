/* Limits on the memory and the work of a tokenizer, whatever its file asks for: growing texts, slow expressions, long
 * parts, and empty strings, which a loop could find again and again. */
#include "base/work.h"

#include "text_fixture.h"

#include "tokenizer_pieces.h"

/* The text is rejected with a message that contains `part`, after a limited number of steps. */
static void expect_limit(const tokenizer_parts *parts, const char *text, size_t bytes, const char *part) {
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count;
    uint64_t before = work_steps;
    OK(open_parts(parts, &t));
    int status = lckv_tokenizer_encode(t, text, bytes, true, &ids, &count);
    if (status != LCKV_ERROR_UNSUPPORTED || !strstr(lckv_last_error(), part))
        fail_msg("status %d, '%s', expected '%s'", status, lckv_last_error(), part);
    assert_true(work_steps - before < 300000000 + 1000 * bytes);
    lckv_tokenizer_free(t);
}

/* `step` ten times in a sequence with this list name; release with free(). */
static char *ten_times(const char *list, const char *step) {
    text_buffer text = {0};
    char *out;
    OK(text_printf(&text, "{\"type\": \"Sequence\", \"%s\": [", list));
    for (int i = 0; i < 10; i++) OK(text_printf(&text, "%s%s", i ? ", " : "", step));
    OK(text_printf(&text, "]}"));
    OK(text_take(&text, &out));
    return out;
}

static void growth_is_limited(void **state) {
    (void)state;
    static const char GROW[] =
        "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a\"}, \"content\": \"aaaaaaaaaaaaaaaa\"}";
    static const char EVERYWHERE[] =
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"aaaaaaaaaaaaaaaa\"}";
    char *grow = ten_times("normalizers", GROW), *everywhere = ten_times("normalizers", EVERYWHERE);
    char *decode = ten_times("decoders", GROW), *table = ten_times("normalizers", GROWING_TABLE), *text;
    lckv_tokenizer *t;
    size_t bytes;
    expect_limit(&(tokenizer_parts){.normalizer = grow, .model = BYTES_MODEL}, "a", 1,
                 "a text of 1 byte: a text grew beyond its limit of 104864");
    expect_limit(&(tokenizer_parts){.normalizer = table, .model = BYTES_MODEL}, "a", 1, "grew beyond its limit");
    expect_limit(&(tokenizer_parts){.normalizer = everywhere, .model = BYTES_MODEL}, "b", 1, "grew beyond its limit");
    /* in parts, each of which is below the limit */
    char many[4000];
    for (int i = 0; i < 4000; i++) many[i] = i % 2 ? 'z' : 'b';
    text_buffer prepend = {0};
    OK(text_printf(&prepend, "{\"type\": \"Prepend\", \"prepend\": \"%01000d\"}", 7));
    expect_limit(&(tokenizer_parts){.added_tokens = "[" ADDED("9", "z", ", \"special\": true") "]",
                                    .normalizer = prepend.data,
                                    .model = BYTES_MODEL},
                 many, sizeof many, "grew beyond its limit");
    OK(open_parts(&(tokenizer_parts){.decoder = decode, .model = BYTES_MODEL}, &t));
    assert_int_equal(lckv_tokenizer_decode(t, (const int32_t[]){0}, 1, false, &text, &bytes), LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "grew beyond its limit"));
    lckv_tokenizer_free(t);
    text_free(&prepend);
    free(grow);
    free(everywhere);
    free(table);
    free(decode);
}

/* Searches for the end of the spaces from each of them: an error if that is too much work, and soon. */
static void expressions_have_a_limit_on_work(void **state) {
    (void)state;
    enum { SPACES = 200000 };
    char *text = malloc(SPACES + 1);
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count;
    memset(text, ' ', SPACES);
    text[SPACES] = 'x';
    expect_limit(&(tokenizer_parts){.pre_tokenizer = SPLIT("\\\\s+$", "Isolated"), .model = BYTES_MODEL}, text,
                 SPACES + 1, "a regular expression exceeded the limits");
    OK(open_parts(&(tokenizer_parts){.pre_tokenizer = SPLIT("\\\\s+$", "Isolated"), .model = BYTES_MODEL}, &t));
    for (int i = 0; i < 2; i++) { /* each text has its own limit */
        OK(lckv_tokenizer_encode(t, text + SPACES - 9000, 9001, false, &ids, &count));
        assert_int_equal(count, 9001);
        lckv_free(ids);
        OK(lckv_tokenizer_encode(t, text, SPACES, false, &ids,
                                 &count)); /* at the end of the text they match immediately */
        lckv_free(ids);
    }
    lckv_tokenizer_free(t);
    free(text);
}

static void long_parts_of_files_are_refused(void **state) {
    (void)state;
    lckv_tokenizer *t;
    text_buffer text = {0};
    OK(text_printf(&text, "[{\"id\": 9, \"content\": \"%01001d\"}]", 1));
    assert_int_equal(open_parts(&(tokenizer_parts){.added_tokens = text.data, .model = BYTES_MODEL}, &t),
                     LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "limit of 1000 bytes"));
    text.length = 0;
    OK(text_printf(&text, "{\"type\": \"Sequence\", \"normalizers\": ["));
    for (int i = 0; i < 1001; i++) OK(text_printf(&text, "%s{\"type\": \"NFC\"}", i ? "," : ""));
    OK(text_printf(&text, "]}"));
    assert_int_equal(open_parts(&(tokenizer_parts){.normalizer = text.data, .model = BYTES_MODEL}, &t),
                     LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "at most 1000 normalizers"));
    text.length = 0;
    OK(text_printf(&text, "{\"type\": \"TemplateProcessing\", \"single\": ["));
    for (int i = 0; i < 600; i++) OK(text_printf(&text, "{\"SpecialToken\": {\"id\": \"s\"}}, "));
    OK(text_printf(&text, "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"s\": {\"ids\": [0, 1]}}}"));
    assert_int_equal(open_parts(&(tokenizer_parts){.post_processor = text.data, .model = BYTES_MODEL}, &t),
                     LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "more than 1000 ids"));
    text_free(&text);
}

/* ---- empty strings, wherever a file may have one */

static const char *const EMPTY_IN_FILES[] = {
    "{\"model\":{\"type\":\"BPE\",\"\":0,\"vocab\":{\"a\":0},\"merges\":[]}}",
    "{\"\":0,\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
    "{\"model\":{\"type\":\"\",\"vocab\":{\"a\":0},\"merges\":[]}}",
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[]}}",
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[[\"\",\"a\"],[\"a\",\"\"],[\"\",\"\"]]}}",
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[\" a\",\"a \",\" \"]}}",
    "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[[\"\",\"a\"],[\"\","
    "\"\"]]}}",
    "{\"added_tokens\":[{\"id\":1,\"content\":\"\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}"
    "}",
    "{\"added_tokens\":[{\"id\":1,\"content\":\"\",\"\":0}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},"
    "\"merges\":[]}}",
};

static const tokenizer_parts EMPTY_IN_PARTS[] = {
    {.normalizer = "{\"type\":\"\"}", .model = BYTES_MODEL},
    {.normalizer = "{\"type\":\"NFC\",\"\":1}", .model = BYTES_MODEL},
    {.normalizer = "{\"type\":\"Prepend\",\"prepend\":\"\"}", .model = BYTES_MODEL},
    {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}", .model = BYTES_MODEL},
    {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\"},\"content\":\"ab\"}", .model = BYTES_MODEL},
    {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"\":\"\"},\"content\":\"ab\"}", .model = BYTES_MODEL},
    {.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[]}", .model = BYTES_MODEL},
    {.pre_tokenizer = SPLIT("", "Removed"), .model = BYTES_MODEL},
    {.pre_tokenizer = SPLIT("", "Contiguous"), .model = BYTES_MODEL},
    {.pre_tokenizer = SPLIT("(?:)*", "MergedWithNext"), .model = BYTES_MODEL},
    {.pre_tokenizer = SPLIT("(?:a*)*", "MergedWithPrevious"), .model = BYTES_MODEL},
    {.pre_tokenizer = SPLIT("\\\\b|$|^", "Isolated"), .model = BYTES_MODEL},
    {.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\",\"invert\":true}",
     .model = BYTES_MODEL},
    {.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"\"}", .model = BYTES_MODEL},
    {.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"\"}", .model = BYTES_MODEL},
    {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{}}", .model = BYTES_MODEL},
    {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"\"}},{"
                       "\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"\":{\"ids\":[]}}}",
     .model = BYTES_MODEL},
    {.decoder = REPLACE("", ""), .model = BYTES_MODEL},
    {.decoder = REPLACE("", "ab"), .model = BYTES_MODEL},
    {.decoder = "{\"type\":\"Strip\",\"content\":\"\",\"start\":1,\"stop\":1}", .model = BYTES_MODEL},
    {.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"\"}", .model = BYTES_MODEL},
    {.decoder = "{\"type\":\"Sequence\",\"decoders\":[]}", .model = BYTES_MODEL},
    {.decoder = "{\"type\":\"\"}", .model = BYTES_MODEL},
};

/* A file may be rejected (`status`); if it is accepted, text is encoded and decoded. */
static void expect_use_or_error(int status, lckv_tokenizer *t) {
    assert_true(status >= 0 || *lckv_last_error());
    for (int k = 0; status >= 0 && k < 2; k++) {
        int32_t *ids;
        size_t count, bytes;
        char *text;
        OK(lckv_tokenizer_encode(t, "aab  ab", k ? 7 : 0, true, &ids, &count));
        OK(lckv_tokenizer_decode(t, ids, count, false, &text, &bytes));
        lckv_free(ids);
        lckv_free(text);
    }
    lckv_tokenizer_free(t);
}

static void empty_strings_do_not_hang(void **state) {
    (void)state;
    lckv_tokenizer *t;
    alarm(60);
    for (size_t i = 0; i < sizeof EMPTY_IN_FILES / sizeof *EMPTY_IN_FILES; i++) {
        int status = open_json(EMPTY_IN_FILES[i], strlen(EMPTY_IN_FILES[i]), &t);
        expect_use_or_error(status, t);
    }
    for (size_t i = 0; i < sizeof EMPTY_IN_PARTS / sizeof *EMPTY_IN_PARTS; i++) {
        int status = open_parts(&EMPTY_IN_PARTS[i], &t);
        expect_use_or_error(status, t);
    }
    alarm(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth_is_limited),
        cmocka_unit_test(expressions_have_a_limit_on_work),
        cmocka_unit_test(long_parts_of_files_are_refused),
        cmocka_unit_test(empty_strings_do_not_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
