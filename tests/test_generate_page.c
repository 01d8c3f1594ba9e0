/* The web page of lckv serve in a real browser: sending, stopping, settings, keyboard, assistive technology, light and
 * dark, wide and narrow. Skipped if there is no Chromium. */
#include "served.h"

#include "browser.h"

static const char TEMPLATE[] = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";

typedef struct opened {
    served s;
    browser b;
} opened;

static void load(browser *b, int port) {
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
    browser_do(b, "Page.navigate", json_pack("{ss}", "url", url));
    browser_wait(b, "document.readyState === 'complete' && !!document.getElementById('health')");
}

static void wait_until_ready(browser *b) {
    browser_wait(b, "document.getElementById('health').textContent === 'ready'");
}

#define OPEN(state, ...)                                                                                               \
    opened o = {.s = SERVE(state, __VA_ARGS__)};                                                                       \
    browser_open(*state, &o.b);                                                                                        \
    load(&o.b, o.s.port)

static void shut(opened *o) {
    browser_close(&o->b);
    stop(&o->s);
}

static void set(browser *b, const char *field, const char *value) {
    char expression[256];
    snprintf(expression, sizeof expression, "document.getElementById('%s').value = '%s'", field, value);
    json_decref(browser_value(b, expression));
}

static char *text_of(browser *b, const char *selector) {
    char expression[256];
    snprintf(expression, sizeof expression, "[...document.querySelectorAll(\"%s\")].map(e => e.textContent).join('|')",
             selector);
    json_t *value = browser_value(b, expression);
    char *text = strdup(json_string_value(value));
    json_decref(value);
    return text;
}

static void expect_text(browser *b, const char *selector, const char *part) {
    char *text = text_of(b, selector);
    if (!strstr(text, part)) fail_msg("%s is '%s', expected '%s' in it", selector, text, part);
    free(text);
}

#define NOT_WRITING "document.getElementById('stop').hidden && !document.getElementById('send').disabled"
#define WRITTEN "document.querySelector('.turn.assistant:last-of-type p').textContent.length"

static void say(browser *b, const char *text) {
    browser_type(b, text); /* the field has the focus without a click */
    browser_press(b, "Enter");
}

/* The text equals that of the API for the same request; it is streamed; the page shows tokens and speed. */
static void text_is_gone_on_with(void **state) {
    OPEN(state, "--max_num_seqs", "4");
    wait_until_ready(&o.b);
    set(&o.b, "temperature", "0");
    set(&o.b, "max_tokens", "9");
    say(&o.b, "the cat");
    browser_wait(&o.b, NOT_WRITING " && " WRITTEN " > 0");
    json_t *a =
        ask(&o.s, "/v1/completions", "{\"prompt\":\"the cat\",\"max_tokens\":9,\"temperature\":0,\"top_p\":0.95}");
    const json_t *choice = json_array_get(json_object_get(a, "choices"), 0);
    char *shown = text_of(&o.b, ".turn p");
    assert_memory_equal(shown, "the cat", 7);
    assert_string_equal(shown + 7, json_string_value(json_object_get(choice, "text")));
    expect_text(&o.b, ".note", "9 tokens");
    expect_text(&o.b, ".note", "stopped at the token limit");
    expect_text(&o.b, "#announcement", json_string_value(json_object_get(choice, "text")));
    free(shown);
    json_decref(a);
    shut(&o);
}

/* Escape and the button stop the response: the text remains, and the engine stops too. Meanwhile the page shows that
 * slots use less memory than plain attention would. */
static void writing_can_be_stopped(void **state) {
    OPEN(state, "--max_num_seqs", "4", WRITES_ON);
    wait_until_ready(&o.b);
    set(&o.b, "temperature", "0"); /* so that no EOS occurs by chance */
    set(&o.b, "max_tokens", MANY_TOKENS);
    for (int button = 0; button < 2; button++) {
        say(&o.b, "the cat");
        browser_wait(&o.b, WRITTEN " > 20");
        browser_wait(&o.b, "document.getElementById('running').textContent === '1'");
        browser_wait(&o.b, "state.kv_bytes_used > 0 && 3 * state.kv_bytes_plain === 4 * state.kv_bytes_used");
        assert_true(browser_true(&o.b, "!document.getElementById('stop').hidden"));
        if (button)
            json_decref(browser_value(&o.b, "document.getElementById('stop').click()"));
        else
            browser_press(&o.b, "Escape");
        browser_wait(&o.b, NOT_WRITING);
        expect_text(&o.b, ".turn:last-of-type .note", "stopped");
        assert_true(browser_true(&o.b, WRITTEN " > 20"));
        expect_metric_soon(&o.s, "samples_running", 0);
    }
    expect_metric_soon(&o.s, "kv_pages_used", 0);
    shut(&o);
}

/* Earlier messages and the system prompt are part of each request; Clear discards them, also during a response. */
static void conversations_go_on(void **state) {
    put_text(in(*state, "model/chat_template.jinja"), TEMPLATE);
    OPEN(state, "--max_num_seqs", "4", WRITES_ON);
    wait_until_ready(&o.b);
    set(&o.b, "temperature", "0");
    set(&o.b, "max_tokens", "6");
    set(&o.b, "system", "sat");
    say(&o.b, "a");
    browser_wait(&o.b, NOT_WRITING " && turns.length === 2");
    say(&o.b, "b");
    browser_wait(&o.b, NOT_WRITING " && turns.length === 4");
    json_t *turns = browser_value(&o.b, "JSON.stringify({temperature: 0, top_p: 0.95, max_tokens: 6, messages: "
                                        "[{role: 'system', content: 'sat'}, ...turns.slice(0, 3)]})");
    json_t *a = ask(&o.s, "/v1/chat/completions", json_string_value(turns));
    const json_t *message = json_object_get(json_array_get(json_object_get(a, "choices"), 0), "message");
    expect_text(&o.b, ".turn:last-of-type p", json_string_value(json_object_get(message, "content")));
    set(&o.b, "max_tokens", MANY_TOKENS);
    say(&o.b, "on");
    browser_wait(&o.b, WRITTEN " > 20");
    json_decref(browser_value(&o.b, "document.getElementById('clear').click()"));
    browser_wait(&o.b, NOT_WRITING);
    assert_true(browser_true(&o.b, "turns.length === 0 && !document.querySelector('.turn')"));
    json_decref(a);
    json_decref(turns);
    shut(&o);
}

/* The page shows the server's error and restores the typed text. */
static void refusals_are_told(void **state) {
    OPEN(state, "--api_key", "secret");
    browser_wait(&o.b, "document.getElementById('health').textContent === 'API key required'");
    set(&o.b, "key", "secret");
    wait_until_ready(&o.b);
    set(&o.b, "max_tokens", "30000");
    say(&o.b, "the cat");
    browser_wait(&o.b, "!!document.querySelector('.note.error')");
    expect_text(&o.b, ".note.error", "max_model_len");
    browser_wait(&o.b, "document.getElementById('input').value === 'the cat'");
    shut(&o);
}

/* After the response the page keeps showing its memory, bars and speed. */
static void last_values_stay(void **state) {
    OPEN(state, "--max_num_seqs", "4", WRITES_ON);
    wait_until_ready(&o.b);
    set(&o.b, "temperature", "0");
    set(&o.b, "max_tokens", MANY_TOKENS);
    say(&o.b, "the cat");
    browser_wait(&o.b, "state.kv_bytes_used > 0 && parseFloat(document.getElementById('speed').textContent) > 0");
    browser_press(&o.b, "Escape");
    browser_wait(&o.b, NOT_WRITING " && " WRITTEN " > 0");
    browser_wait(&o.b, "state.running === 0 && state.kv_bytes_used === 0 && last.running === 0");
    assert_true(browser_true(&o.b, "lastUsed.kv_bytes_used > 0 && document.getElementById('kv-now').textContent === "
                                   "bytes(lastUsed.kv_bytes_used)"));
    assert_true(browser_true(&o.b, "document.getElementById('kv-plain').textContent !== '0 B'"));
    assert_true(browser_true(&o.b, "parseFloat(document.getElementById('speed').textContent) > 0"));
    assert_true(browser_true(&o.b, "[...document.querySelectorAll('.row .shared:not(.peak)')].some(e => "
                                   "parseFloat(e.style.width) > 0)"));
    expect_text(&o.b, "#kv-when", "last response");
    shut(&o);
}

/* ---------------------------------------------------------------- accessibility */

/* Every control and picture has an accessible name, and Tab reaches all controls in the order of the page. */
static void names_and_keyboard(void **state) {
    OPEN(state, "--max_num_seqs", "4");
    wait_until_ready(&o.b);
    browser_do(&o.b, "Accessibility.enable", json_object());
    json_t *tree = browser_call(&o.b, "Accessibility.getFullAXTree", json_object()), *node;
    size_t i;
    int named = 0;
    json_array_foreach(json_object_get(tree, "nodes"), i, node) {
        const char *role = json_string_value(json_object_get(json_object_get(node, "role"), "value"));
        const char *name = json_string_value(json_object_get(json_object_get(node, "name"), "value"));
        static const char *const ROLES[] = {"button", "textbox", "spinbutton", "image", "region", "DisclosureTriangle"};
        for (size_t r = 0; role && r < sizeof ROLES / sizeof *ROLES; r++) {
            if (strcmp(role, ROLES[r]) || json_is_true(json_object_get(node, "ignored"))) continue;
            if (!name || !*name) fail_msg("a %s has no name", role);
            named++;
        }
    }
    assert_true(named >= 10);
    json_decref(tree);
    json_decref(browser_value(&o.b, "window.reached = []; document.addEventListener('focusin', e => "
                                    "reached.push(e.target.id || e.target.tagName))"));
    for (int t = 0; t < 9; t++) browser_press(&o.b, "Tab");
    json_t *reached = browser_value(&o.b, "reached.join(' ')");
    assert_string_equal(json_string_value(reached), "send clear SUMMARY temperature top_p max_tokens seed key SUMMARY");
    json_decref(reached);
    shut(&o);
}

/* WCAG 2.1, 1.4.3: the contrast ratio of text is at least 4.5. */
#define CONTRAST                                                                                                       \
    "(selector => { const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? "     \
    "v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0); "      \
    "let e = document.querySelector(selector), ink = light(getComputedStyle(e).color); "                               \
    "while (getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)') e = e.parentElement; "                         \
    "const ground = light(getComputedStyle(e).backgroundColor); "                                                      \
    "return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05); })"

static void light_dark_wide_narrow(void **state) {
    static const char *const TEXTS[] = {"#model",    ".empty",      ".keys",   "#send",       "#clear", ".numbers dt",
                                        ".key span", "#capacity",   "summary", "label input", "h2",     "#kv-when",
                                        ".row span", ".note.error", ".given",  ".turn p"};
    OPEN(state, "--max_num_seqs", "4");
    wait_until_ready(&o.b);
    set(&o.b, "max_tokens", "0");
    say(&o.b, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    browser_wait(&o.b, "!!document.querySelector('.note.error')");
    for (int dark = 0; dark < 2; dark++) {
        browser_do(
            &o.b, "Emulation.setEmulatedMedia",
            json_pack("{s[{ss ss}]}", "features", "name", "prefers-color-scheme", "value", dark ? "dark" : "light"));
        assert_int_equal(browser_true(&o.b, "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128"),
                         !dark);
        for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
            char expression[2048];
            snprintf(expression, sizeof expression, CONTRAST "('%s') >= 4.5", TEXTS[i]);
            if (!browser_true(&o.b, expression)) fail_msg("%s is hard to read (dark %d)", TEXTS[i], dark);
        }
    }
    static const int WIDTHS[] = {320, 390, 800, 1280, 1920};
    for (size_t i = 0; i < sizeof WIDTHS / sizeof *WIDTHS; i++) {
        browser_do(&o.b, "Emulation.setDeviceMetricsOverride",
                   json_pack("{si si si sb}", "width", WIDTHS[i], "height", 800, "deviceScaleFactor", 1, "mobile", 0));
        assert_true(browser_true(&o.b, "document.documentElement.scrollWidth <= innerWidth"));
        assert_true(browser_true(&o.b, "document.getElementById('input').getBoundingClientRect().width > 200"));
    }
    assert_true(browser_true(&o.b, "performance.getEntriesByType('resource').every(r => "
                                   "r.name.startsWith(location.origin) || r.name.startsWith('data:'))"));
    shut(&o);
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(text_is_gone_on_with),   WITH_MODEL(writing_can_be_stopped), WITH_MODEL(conversations_go_on),
        WITH_MODEL(last_values_stay),       WITH_MODEL(refusals_are_told),      WITH_MODEL(names_and_keyboard),
        WITH_MODEL(light_dark_wide_narrow),
    };
    if (!browser_path()) {
        print_message("skipped: there is no Chromium\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
