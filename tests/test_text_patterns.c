/* Regular expressions of tokenizer files: matches, and unsupported syntax, which the error names.
 *
 * The expected texts were computed with the tokenizers library, version 0.20.3 (whose regular expressions are
 * Oniguruma's). */
#include "text_fixture.h"

#include "text/unicode/pattern.h"

typedef struct part_case {
    const char *config, *text, *expected;
} part_case;

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const part_case PATTERNS[] = {
    /* nested and intersected sets: version 0.23.3 */
    {"[a-z&&[^aeiou]]", "banana", "#a#a#a"},
    {"[^a-z&&[^aeiou]]", "banA", "b#n#"},
    {"[a[^b]]", "abc", "#b#"},
    {"[^a[^b]]", "abc", "a#c"},
    {"[a-f&&d-z&&[^e]]+", "abcdefg", "abc#e#g"},
    {"[\\p{L}&&[^\\p{Lu}]]+", "abC\xC3\xA9\xC3\x89", "#C#\xC3\x89"},
    {"[[:alpha:]&&[^c-x]_]+", "abc_xyz", "#c_x#"},
    {"(?<=[a-c&&[^b]])x", "axbxcx", "a#bxc#"},
    {"[.=[:digit:]]+", "a.=1b", "a#b"},
    {"[a[.-0]]+", "a./0b", "#b"},
    {"\\w+", "a\xC2\xB2\xC2\xBD_\xD9\xA3-x", "#-#"},
    {"\\w+", "\xE6\x97\xA5\xE6\x9C\xAC a1", "# #"},
    {"\\b\xC3\xA9", "\xC3\xA9x\xC3\xA9 \xC3\xA9", "#x\xC3\xA9 #"},
    {"[\\w]", "\xC2\xB2_-\xC3\xA9", "\xC2\xB2#-#"},
    {"[^\\w]", "\xC2\xB2_-\xC3\xA9", "#_#\xC3\xA9"},
    {"\\W+", "a, b!", "a#b#"},
    {"\\s",
     "a\xE1\xA0\x8E\xC2\xA0\xE2\x80\x83\xC2\x85"
     "b",
     "a\xE1\xA0\x8E###b"},
    {"\\h+", "xa0fz", "x#z"},
    {"[[:punct:]]+", "a!+?$", "a#+#$"},
    {"[[:alpha:][:digit:]]+", "a\xD9\xA1-\xC2\xBD", "#-\xC2\xBD"},
    {"^.", "ab\ncd", "#b\n#d"},
    {"a$", "a\nba", "#\nb#"},
    {"(?m)a.b", "a\nb a\rb", "# #"},
    {"(?m:.)b", "a\nb", "a#"},
    {"a{,2}b", "aaab b", "a# #"},
    {"[ab]{1,2}+", "ababa", "#"},
    {"a{2}?b", "aab b", "# #"},
    {"a{1,2}?", "aaa", "###"},
    {"a{b", "xa{b", "x#"},
    {"a++b?", "aaab", "#"},
    {"(?<=a)b|(?<!a)c", "abcbac", "a##bac"},
    {"(ab|c)\\1", "ababccc", "##c"},
    {"\\x41\\x{e9}\\u00df", "xA\xC3\xA9\xC3\x9F", "x#"},
    {"\\v", "a\x0B\n", "a#\n"},
    {"[a[bc]d]", "abcdX", "####X"},
    {" ?[^(\\s|[.,!?\xE2\x80\xA6])]+", "Hi, (a|b) ok\xE2\x80\xA6", "#, (#|#)#\xE2\x80\xA6"},
    {"\\p{Han}+", "a\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xE3\x80\x86", "a#\xE3\x80\x86"},
    {"\\p{^L}", "a1-\xE6\x97\xA5", "a##\xE6\x97\xA5"},
    {"\\p{Letter}+", "abc1\xC3\xA9", "#1#"},
    {"(?i)[j-l]|as", "jAS Kk\xE2\x84\xAA a\xC5\xBF l", "## ### # #"},
    {"\\Aa|b\\z", "ab ab", "#b a#"},
    {"a\\Z", "aab\na\n", "aab\n#\n"},
    {"\\R",
     "a\r\nb\xE2\x80\xA8"
     "c\n",
     "a#b#c#"},
    {"(?>a+)a|b", "aab", "aa#"},
    {"[\\]a\\-z]", "a]-bz", "###b#"},
    {"[\\h]+", "xA0fg", "x#g"},
    {"x*", "axxb", "#a#b#"},
    {"\\p{Greek}",
     "\xCE\xB1\xCD\x85\xCC\x88"
     "a\xCE\xA9",
     "#\xCD\x85\xCC\x88"
     "a#"},
    {"\xC3\xA9|\xE6\x97\xA5",
     "a\xC3\xA9\xE6\x97\xA5"
     "b",
     "a##b"},
    {"[^\\x00-\\x7F]+",
     "a\xC3\xA9\xE6\x97\xA5"
     "b",
     "a#b"},
    {"\\B", "ab -c", "a#b #-c"},
    {"(?i)a(?-i:B)c", "aBc ABC abc", "# # abc"},
};

/* ---- regular expressions: each match is replaced by # */

static void test_patterns(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(PATTERNS); i++) {
        const part_case *c = &PATTERNS[i];
        pattern *p;
        text_buffer text = {0};
        OK(pattern_compile(c->config, strlen(c->config), false, "file", &p));
        OK(pattern_replace(p, c->text, strlen(c->text), "#", 1, &text, NULL));
        assert_text(c->config, text.data, text.length, c->expected);
        text_free(&text);
        pattern_free(p);
    }
}

/* Syntax that has another meaning in Ruby than in PCRE2, or exists in only one of them. */
static const char *const REFUSED[][2] = {
    {"a\\Gb", "\\G"},
    {"\\K", "\\K"},
    {"\\X", "\\X"},
    {"\\Q", "\\Q"},
    {"\\0", "\\0"},
    {"a\\12", "\\1"},
    {"(?<name>a)", "a group other than"},
    {"(?#note)", "a group other than"},
    {"(?x)a", "option other than i and m"},
    {"(?s)a", "option other than i and m"},
    {"a(?i)b", "not at the start of its group"},
    {"(*FAIL)", "a verb"},
    {"[a&&]", "an empty set"},
    {"[&&a]", "an empty set"},
    {"[a&&[b]", "a set without an end"},
    {"(?i:[a\\p{Lu}])", "a class of upper or lower case"},
    {"(?i:[[:lower:]])", "a class of upper or lower case"},
    {"[a-[b]]", "a range that ends in a set"},
    {"[[a]-z]", "a range that begins with a set"},
    {"[]", "an empty set"},
    {"[a[]]", "an empty set"},
    {"[^]", "an empty set"},
    {"[^\\W]", "\\W"},
    {"[[:graph:]]", "a POSIX bracket"},
    {"[[:^alpha:]]", "a POSIX bracket"},
    {"\\p{Punct}", "the property 'Punct'"},
    {"\\p{Nonsense}", "the property 'Nonsense'"},
    {"\\pL", "without a name in braces"},
    {"\\p{L", "not of the form"},
    {"\\xE4", "a byte above 7F"},
    {"\\x{110000}", "does not compile"},
    {"\\u12", "a malformed"},
    {"(?i)stra\xC3\x9F"
     "e",
     "with (?i)"},
    {"(?i:\xC3\xA9)", "with (?i)"},
    {"(?i:[\xC3\x80-\xC3\xBF])", "with (?i)"},
    {"(?i)\\x{DF}", "with (?i)"},
    {"(?i)off", "with (?i)"},
    {"(a", "a group without an end"},
    {"a)", "unmatched closing parenthesis"},
    {"[a", "a set without an end"},
    {"a\\", "a backslash at the end"},
    {"*a", "repeats nothing"},
    {"(|+)", "repeats nothing"},
    {"{2}", "repeats nothing"},
    {"a{3,2}", "less than its start"},
    {"(?<=a+)b", "does not compile"},
    {"a{99999}", "does not compile"},
};

static void test_patterns_that_are_refused_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(REFUSED); i++) {
        pattern *p;
        int status = pattern_compile(REFUSED[i][0], strlen(REFUSED[i][0]), false, "file", &p);
        if (status != LCKV_ERROR_UNSUPPORTED || p) fail_msg("%s: status %d", REFUSED[i][0], status);
        if (!strstr(lckv_last_error(), REFUSED[i][1]))
            fail_msg("%s: '%s' is not in: %s", REFUSED[i][0], REFUSED[i][1], lckv_last_error());
    }
}

static void test_a_pattern_that_takes_too_long_gives_up(void **state) {
    (void)state;
    static const char expression[] = "(?:a|a)*(?:a|a)*(?:a|a)*[cd]";
    pattern *p;
    char text[200];
    memset(text, 'a', sizeof text);
    OK(pattern_compile(expression, strlen(expression), false, "file", &p));
    pattern_scan scan = pattern_scan_start(p, text, sizeof text);
    assert_int_equal(pattern_scan_next(p, &scan), LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "exceeded the limits"));
    pattern_free(p);
}

/* Repeated groups need backtracking memory per repetition. */
static void test_a_pattern_may_go_far_back(void **state) {
    (void)state;
    enum { BYTES = 300000 };
    pattern *p;
    char *text = malloc(BYTES);
    assert_non_null(text);
    memset(text, 'a', BYTES);
    OK(pattern_compile("(?:a|b)+", 8, false, "file", &p));
    pattern_scan scan = pattern_scan_start(p, text, BYTES);
    assert_int_equal(pattern_scan_next(p, &scan), 1);
    assert_int_equal(scan.end, BYTES);
    assert_int_equal(pattern_scan_next(p, &scan), 0);
    pattern_free(p);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_patterns_that_are_refused_by_name),
        cmocka_unit_test(test_a_pattern_that_takes_too_long_gives_up),
        cmocka_unit_test(test_a_pattern_may_go_far_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
