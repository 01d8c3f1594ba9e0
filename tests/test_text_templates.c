/* Published chat templates: the output of transformers 5.24 for 216 of them and 32 conversations, including errors. The
 * file is third-party data in SHARED_DIR; without it the test is skipped. */
#define _GNU_SOURCE /* strptime */
#include "text_fixture.h"

#include <time.h>

static const char PATH[] = SHARED_DIR "/data/chat/templates_216.json.gz";

/* Reads the file's JSON with gzip. */
static json_t *read_cases(void) {
    char command[1100], chunk[65536];
    text_buffer text = {0};
    json_t *file;
    snprintf(command, sizeof command, "gzip -dc '%s'", PATH);
    FILE *stream = popen(command, "r");
    assert_non_null(stream);
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, stream)) > 0;) OK(text_append(&text, chunk, got));
    assert_int_equal(pclose(stream), 0);
    OK(json_parse(text.data, text.length, PATH, &file));
    text_free(&text);
    return file;
}

/* Opens the template as in a checkpoint, with the special tokens. */
static lckv_chat_template *open_template(const json_t *source, const json_t *special_tokens) {
    char folder[] = "/tmp/lckv_templates_XXXXXX", path[64];
    json_t *config = json_deep_copy(special_tokens);
    lckv_chat_template *t;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    json_object_set(config, "chat_template", (json_t *)(uintptr_t)source);
    char *text = json_dumps(config, 0);
    OK(file_replace(path, text, strlen(text)));
    int status = lckv_chat_template_open(folder, NULL, &t);
    unlink(path);
    rmdir(folder);
    free(text);
    json_decref(config);
    return status < 0 ? NULL : t;
}

/* JSON text, NULL for null. */
static char *dump(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : json_dumps(value, JSON_COMPACT);
}

static int render(const lckv_chat_template *t, const json_t *input, int64_t now, lckv_chat_text *out) {
    char *messages = dump(input, "messages"), *tools = dump(input, "tools"), *documents = dump(input, "documents"),
         *variables = dump(input, "variables");
    lckv_chat chat = {.struct_size = sizeof chat,
                      .messages = messages,
                      .tools = tools,
                      .documents = documents,
                      .variables = variables,
                      .add_generation_prompt = json_is_true(json_object_get(input, "add_generation_prompt")),
                      .continue_final_message = json_is_true(json_object_get(input, "continue_final_message")),
                      .return_assistant_tokens = json_is_true(json_object_get(input, "return_assistant_tokens")),
                      .now = now};
    int status = lckv_chat_template_render(t, &chat, out);
    free(messages);
    free(tools);
    free(documents);
    free(variables);
    return status;
}

/* Spans are in characters in the file, in bytes here. */
static size_t byte_of(const char *text, json_int_t character) {
    size_t at = 0;
    for (; character > 0; character--) do
            at++;
        while (((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

static bool same_spans(const lckv_chat_text *text, const json_t *expected) {
    if (!json_is_array(expected)) return true; /* none were requested */
    if (json_array_size(expected) != (size_t)text->assistant_count) return false;
    for (size_t i = 0; i < json_array_size(expected); i++) {
        const json_t *span = json_array_get(expected, i);
        if (byte_of(text->text, json_integer_value(json_array_get(span, 0))) != text->assistant[i].first) return false;
        if (byte_of(text->text, json_integer_value(json_array_get(span, 1))) != text->assistant[i].end) return false;
    }
    return true;
}

/* Templates that do not mark answers are rejected; transformers prints a warning (lckv.h). */
static bool is_refusal(const json_t *item, const json_t *input, int status) {
    return status == LCKV_ERROR_UNSUPPORTED && json_is_true(json_object_get(input, "return_assistant_tokens")) &&
           json_array_size(json_object_get(item, "expected_assistant_spans")) == 0 &&
           strstr(lckv_last_error(), "does not mark assistant turns");
}

static int check_case(const lckv_chat_template *t, const json_t *item, const json_t *input, int64_t now) {
    const char *expected = json_string_value(json_object_get(item, "expected"));
    lckv_chat_text text;
    int status = render(t, input, now, &text);
    bool right = status < 0 ? !expected || is_refusal(item, input, status)
                            : expected && !strcmp(expected, text.text) &&
                                  same_spans(&text, json_object_get(item, "expected_assistant_spans"));
    if (!right)
        print_message("%s: %.200s\n  expected: %.200s\n", json_string_value(json_object_get(item, "name")),
                      status < 0 ? lckv_last_error() : text.text,
                      expected ? expected : json_string_value(json_object_get(item, "expected_error")));
    lckv_chat_text_free(&text);
    return right ? 0 : 1;
}

/* Noon of the day on which the texts were rendered; some of them contain the date. */
static int64_t day_of(const json_t *cases) {
    static const char BEFORE[] = "Today Date: ";
    struct tm day = {.tm_year = 100, .tm_mday = 1, .tm_hour = 12, .tm_isdst = -1};
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        const char *text = json_string_value(json_object_get(item, "expected"));
        const char *found = text && json_is_true(json_object_get(item, "uses_date")) ? strstr(text, BEFORE) : NULL;
        if (found && strptime(found + strlen(BEFORE), "%d %b %Y", &day)) break;
    }
    return (int64_t)mktime(&day);
}

static void render_as_transformers(void **state) {
    (void)state;
    if (!file_exists(PATH)) {
        print_message("skipped: no %s\n", PATH);
        skip();
    }
    json_t *file = read_cases();
    const json_t *cases = json_object_get(file, "cases");
    int64_t now = day_of(cases);
    const char *name = NULL;
    lckv_chat_template *t = NULL;
    int wrong = 0;
    assert_true(json_array_size(cases) > 6000);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        const char *template = json_string_value(json_object_get(item, "template"));
        if (!name || strcmp(name, template)) { /* cases of one template are adjacent */
            lckv_chat_template_free(t);
            t = open_template(json_object_get(json_object_get(file, "templates"), template),
                              json_object_get(file, "special_tokens"));
            if (!t) fail_msg("%s: %s", template, lckv_last_error());
            name = template;
        }
        const char *input = json_string_value(json_object_get(item, "input"));
        wrong += check_case(t, item, json_object_get(json_object_get(file, "inputs"), input), now);
    }
    lckv_chat_template_free(t);
    json_decref(file);
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(render_as_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
