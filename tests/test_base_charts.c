/* Charts: texts do not overlap and do not leave the page, each deviation has an error bar, values are where the axis
 * says, and equal input gives equal bytes. Also the figures in docs/study. */
#include "cli/bench/chart.h"

#include "expect.h"

#include "base/files/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 760, MAX_TEXTS = 1024, LETTER = 7, UP = 10, DOWN = 3 };

typedef struct box {
    double left, right, top, bottom;
    char text[96];
} box;

static double attribute(const char *tag, const char *name) {
    char key[32];
    snprintf(key, sizeof key, " %s=\"", name);
    const char *at = strstr(tag, key);
    if (!at) fail_msg("no %s in %.80s", name, tag);
    return atof(at + strlen(key));
}

static int letters_of(const char *text) {
    int count = 0;
    for (; *text; text++) {
        if (*text == '&') text = strchr(text, ';');
        count += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return count;
}

/* Bounding boxes of all texts except titles, which have larger letters. */
static int read_texts(const char *svg, box boxes[MAX_TEXTS]) {
    int count = 0;
    for (const char *at = svg; (at = strstr(at, "<text ")); at++) {
        const char *end = strchr(at, '>');
        char tag[256];
        snprintf(tag, sizeof tag, "%.*s", (int)(end - at), at);
        assert_true(count < MAX_TEXTS);
        box *b = &boxes[count++];
        snprintf(b->text, sizeof b->text, "%.*s", (int)strcspn(end + 1, "<"), end + 1);
        double x = attribute(tag, "x"), y = attribute(tag, "y"), width = LETTER * letters_of(b->text);
        if (strstr(tag, " dy=\"4\"")) y += 4;
        bool ends = strstr(tag, "text-anchor=\"end\""), middle = strstr(tag, "text-anchor=\"middle\"");
        b->left = ends ? x - width : middle ? x - width / 2 : x;
        *b = (box){.left = b->left, .right = b->left + width, .top = y - UP, .bottom = y + DOWN};
        snprintf(b->text, sizeof b->text, "%.*s", (int)strcspn(end + 1, "<"), end + 1);
        if (strstr(tag, "class=\"title\"")) count--;
    }
    return count;
}

static void expect_legible(const char *svg) {
    static box boxes[MAX_TEXTS];
    int count = read_texts(svg, boxes);
    double height = attribute(svg, "height");
    assert_true(count > 0 && !strncmp(svg, "<svg ", 5) && strstr(svg, "prefers-color-scheme:dark"));
    static const char *const NUMBERS[] = {"=\"nan", "=\"-nan", "=\"inf", "=\"-inf", "Mnan", "Minf", ",nan", ",inf"};
    for (int i = 0; i < 8; i++) assert_null(strstr(svg, NUMBERS[i]));
    for (int i = 0; i < count; i++) {
        const box *a = &boxes[i];
        if (a->left < 0 || a->right > WIDTH || a->top < 0 || a->bottom > height)
            fail_msg("'%s' leaves the page", a->text);
        for (int j = i + 1; j < count; j++) {
            const box *b = &boxes[j];
            if (a->left < b->right && b->left < a->right && a->top < b->bottom && b->top < a->bottom)
                fail_msg("'%s' meets '%s'", a->text, b->text);
        }
    }
}

static int count_of(const char *svg, const char *part) {
    int count = 0;
    for (const char *at = svg; (at = strstr(at, part)); at++) count++;
    return count;
}

static void expect_same(char *svg, char *again) {
    assert_string_equal(svg, again);
    free(svg);
    free(again);
}

/* ---------------------------------------------------------------- rows */

static const char LONG_NAME[] =
    "a/very/long/path/to/a/folder/of/models/and/then/one/more/with/a-config-of-some-model-é";

static void rows_of_any_size(void **state) {
    (void)state;
    static const double SCALES[] = {1e-3, 1, 1234.5, 3e7};
    for (int i = 0; i < 4; i++)
        for (int bars = 0; bars < 2; bars++)
            for (int groups = 1; groups <= 40; groups += 13) {
                chart_row rows[12];
                chart_group group[40];
                for (int r = 0; r < 12; r++)
                    rows[r] = (chart_row){r % 5 ? "short" : LONG_NAME, SCALES[i] * (r + 1), r % 3 ? SCALES[i] : 0, r};
                rows[11].value = NAN;
                for (int g = 0; g < groups; g++) group[g] = (chart_group){g % 4 ? "pp512 @ d1024" : NULL, rows, 12};
                const chart_rows c = {"A <title> & more",    "tokens/s", group, groups, bars, i ? 1 : 6,
                                      bars ? NAN : SCALES[i]};
                char *svg = chart_rows_svg(&c);
                expect_legible(svg);
                assert_int_equal(count_of(svg, "class=\"error"), 7 * groups); /* 1, 2, 4, 5, 7, 8, 10 */
                assert_int_equal(count_of(svg, bars ? "rx=\"2\"" : "<circle"), 11 * groups);
                assert_non_null(strstr(svg, "A &lt;title> &amp; more"));
                expect_same(svg, chart_rows_svg(&c));
            }
}

/* Bars start at 0 and end at the value, also if a deviation reaches below 0. */
static void bars_are_as_long_as_their_values(void **state) {
    (void)state;
    const chart_row rows[] = {{"a", 50, 60, 0}, {"b", 100, 0, 1}};
    const chart_group group = {NULL, rows, 2};
    const chart_rows c = {"t", "v", &group, 1, true, 0, NAN};
    char *svg = chart_rows_svg(&c);
    const char *first = strstr(svg, "rx=\"8\""), *one = strstr(first, "<rect"), *two = strstr(one + 1, "<rect");
    assert_true(fabs(attribute(two, "width") - 2 * attribute(one, "width")) < 0.11);
    assert_true(attribute(one, "x") == attribute(two, "x"));
    assert_null(strstr(svg, ">-"));
    free(svg);
}

/* Values of very different size get separate scales, so that small ones are visible. */
static void groups_get_scales_of_their_own(void **state) {
    (void)state;
    const chart_row large[] = {{"a", 9000, 100, 0}, {"b", 4500, 100, 1}}, small[] = {{"a", 90, 1, 0}, {"b", 45, 1, 1}};
    const chart_group groups[] = {{"pp512", large, 2}, {"tg128", small, 2}};
    const chart_rows c = {"t", "v", groups, 2, true, 0, NAN};
    char *svg = chart_rows_svg(&c);
    double widths[4];
    const char *at = strstr(svg, "rx=\"8\"");
    for (int i = 0; i < 4; i++) {
        at = strstr(at + 1, "<rect");
        widths[i] = attribute(at, "width");
    }
    assert_true(widths[0] > 200 && widths[2] > 200);
    assert_non_null(strstr(svg, "each group has its own scale"));
    expect_legible(svg);
    free(svg);
}

/* ---------------------------------------------------------------- lines */

static void lines_of_any_size(void **state) {
    (void)state;
    for (int log_y = 0; log_y < 2; log_y++)
        for (int count = 1; count <= 20; count += 6) {
            chart_point points[30];
            chart_series series[20];
            for (int i = 0; i < 30; i++) points[i] = (chart_point){1e5 * i, i ? 1e-4 * i * i : NAN, i % 2 ? 1e-2 : 0};
            for (int i = 0; i < count; i++) series[i] = (chart_series){i % 7 == 3 ? LONG_NAME : "series", points, 30};
            const chart_lines c = {"title", "position", "ms a token", series, count, log_y, log_y ? NAN : 0};
            char *svg = chart_lines_svg(&c);
            expect_legible(svg);
            assert_int_equal(count_of(svg, "class=\"error\""), 15 * count);
            expect_same(svg, chart_lines_svg(&c));
        }
}

static void nothing_to_draw(void **state) {
    (void)state;
    const chart_series none = {"none", NULL, 0};
    const chart_lines lines = {"title", "x", "y", &none, 1, true, NAN};
    const chart_group empty = {"none", NULL, 0};
    const chart_rows rows = {"title", "v", &empty, 1, true, 0, NAN};
    char *svg = chart_lines_svg(&lines);
    expect_legible(svg);
    free(svg);
    svg = chart_rows_svg(&rows);
    expect_legible(svg);
    free(svg);
}

static void figures_of_the_documents(void **state) {
    (void)state;
    static const char *const FILES[] = {"loss", "loop_loss", "iterations", "training_iterations", "exact_iterations"};
    for (int i = 0; i < 5; i++) {
        char path[512], *svg;
        size_t bytes;
        snprintf(path, sizeof path, SOURCE_DIR "/docs/study/%s.svg", FILES[i]);
        OK(file_read(path, &svg, &bytes));
        expect_legible(svg);
        if (!i) assert_int_equal(count_of(svg, "class=\"error\""), 12); /* in 12 layouts, over seeds */
        free(svg);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_any_size),
        cmocka_unit_test(bars_are_as_long_as_their_values),
        cmocka_unit_test(groups_get_scales_of_their_own),
        cmocka_unit_test(lines_of_any_size),
        cmocka_unit_test(nothing_to_draw),
        cmocka_unit_test(figures_of_the_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
