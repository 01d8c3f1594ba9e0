/* Requests as common clients send them to lckv serve: complete responses as history, nulls, NUL in texts, content
 * types. */
#include "served.h"

static const char TEMPLATE[] =
    "{% for m in messages %}[{{ m.role }}]{% for key in m %}{{ key if key not in ('role', 'content') }}{% endfor %}"
    "{{ m.content }}{% for c in m.tool_calls or [] %}<{{ c.function.name }} {{ c.function.arguments|tojson }}>"
    "{% endfor %}{% endfor %}";

/* The template's output for a list of messages. */
static void expect_prompt(const served *s, const char *messages, const char *expected) {
    text_buffer body = {0};
    OK(text_printf(&body, "{\"messages\":%s,\"add_generation_prompt\":null}", messages));
    json_t *a = ask(s, "/apply_template", body.data);
    const json_t *prompt = json_object_get(a, "prompt");
    if (strcmp(json_string_value(prompt), expected))
        fail_msg("%s: '%s', expected '%s'", messages, json_string_value(prompt), expected);
    json_decref(a);
    text_free(&body);
}

static void expect_refused(const served *s, const char *path, const char *body, const char *part) {
    http_answer a = http_do(s->port, "POST", path, "", body);
    if (a.status != 400 || !strstr(a.body, part)) fail_msg("%s: status %d: %s, no '%s'", body, a.status, a.body, part);
    http_free(&a);
}

static served serve_template(void **state) {
    put_text(in(*state, "model/chat_template.jinja"), TEMPLATE);
    return SERVE(state, "--max_num_seqs", "4");
}

/* message.model_dump() of openai, the forms of LiteLLM and LangChain, and tool calls. */
static void histories_are_taken(void **state) {
    served s = serve_template(state);
    expect_prompt(&s,
                  "[{\"role\":\"user\",\"content\":\"a\",\"name\":null},"
                  "{\"content\":\"b\",\"refusal\":null,\"role\":\"assistant\",\"annotations\":null,\"audio\":null,"
                  "\"function_call\":null,\"tool_calls\":null}]",
                  "[user]a[assistant]b");
    expect_prompt(&s,
                  "[{\"content\":\"b\",\"role\":\"assistant\",\"tool_calls\":[],\"function_call\":null,"
                  "\"provider_specific_fields\":null}]",
                  "[assistant]b");
    expect_prompt(&s,
                  "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
                  "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"}},{\"function\":{\"name\":\"g\","
                  "\"arguments\":{\"y\":2}}},{\"function\":{\"name\":\"h\",\"arguments\":\"\"}}]},"
                  "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":[{\"type\":\"text\",\"text\":\"ok\"}]}]",
                  "[assistant]tool_calls<f {\"x\": 1}><g {\"y\": 2}><h {}>[tool]tool_call_idok");
    expect_prompt(&s, "[{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\"}]", "[assistant]no");
    expect_prompt(&s, "[{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}]",
                  "[assistant]no");
    stop(&s);
}

static void histories_are_refused_by_name(void **state) {
    static const char *const cases[][2] = {
        {"{\"role\":\"user\",\"content\":null}", "messages[0] must have a 'content'"},
        {"{\"role\":null,\"content\":\"a\"}", "'role'"},
        {"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}", "'content'"},
        {"{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":{}}", "messages[0].tool_calls must be a list"},
        {"{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[3]}", "messages[0].tool_calls[0]"},
        {"{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[{\"type\":\"custom\"}]}", "'function'"},
        {"{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"x\"}}]}",
         "'arguments'"},
        {"{\"role\":\"assistant\",\"content\":\"a\",\"function_call\":{\"name\":\"f\"}}", "use 'tool_calls'"},
        {"{\"role\":\"assistant\",\"content\":\"a\",\"audio\":{\"id\":\"x\"}}", "'audio' is not supported"}};
    served s = serve_template(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text_buffer body = {0};
        OK(text_printf(&body, "{\"messages\":[%s]}", cases[i][0]));
        expect_refused(&s, "/v1/chat/completions", body.data, cases[i][1]);
        text_free(&body);
    }
    stop(&s);
}

/* In every field, null has the same meaning as an absent key. */
static void nulls_are_absent(void **state) {
    static const char REST[] =
        "\"max_tokens\":2,\"temperature\":null,\"top_p\":null,\"n\":null,\"stop\":null,\"stream\":null,"
        "\"stream_options\":null,\"seed\":null,\"user\":null,\"logit_bias\":null,\"logprobs\":null,"
        "\"presence_penalty\":null,\"frequency_penalty\":null,\"model\":null,\"unknown\":null";
    char body[2000];
    served s = serve_template(state);
    snprintf(body, sizeof body,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":null,\"tool_choice\":null,"
             "\"functions\":null,\"function_call\":null,\"response_format\":null,\"top_logprobs\":null,"
             "\"max_completion_tokens\":null,\"reasoning_effort\":null,\"parallel_tool_calls\":null,%s}",
             REST);
    json_decref(ask(&s, "/v1/chat/completions", body));
    snprintf(body, sizeof body, "{\"prompt\":\"a\",\"echo\":null,\"suffix\":null,\"best_of\":null,%s}", REST);
    json_decref(ask(&s, "/v1/completions", body));
    stop(&s);
}

/* ---------------------------------------------------------------- characters */

static void expect_type(const served *s, const char *method, const char *path, const char *body, const char *type) {
    http_answer a = http_do(s->port, method, path, "", body);
    if (!a.head || !strstr(a.head, type)) fail_msg("%s: no '%s' in %s", path, type, a.head);
    http_free(&a);
}

static void content_types_name_utf8(void **state) {
    served s = serve_template(state);
    expect_type(&s, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1,\"stream\":true}",
                "Content-Type: text/event-stream; charset=utf-8");
    expect_type(&s, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}",
                "Content-Type: application/json; charset=utf-8");
    expect_type(&s, "POST", "/v1/completions", "{", "Content-Type: application/json; charset=utf-8");
    static const char *const paths[] = {"/", "/health", "/layers.svg", "/metrics", "/state", "/v1/models"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) expect_type(&s, "GET", paths[i], "", "; charset=utf-8");
    stop(&s);
}

/* Texts may contain NUL; names and stop strings may not. */
static void nul_is_a_character(void **state) {
    served s = serve_template(state);
    json_t *a =
        ask(&s, "/v1/completions", "{\"prompt\":\"a\\u0000b\",\"max_tokens\":1,\"temperature\":0,\"echo\":true}");
    const json_t *text = json_object_get(json_array_get(json_object_get(a, "choices"), 0), "text");
    assert_true(json_string_length(text) >= 3);
    assert_memory_equal(json_string_value(text), "a\0b", 3);
    json_decref(a);
    a = ask(&s, "/apply_template", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}");
    const json_t *prompt = json_object_get(a, "prompt");
    assert_int_equal(json_string_length(prompt), 9);
    assert_memory_equal(json_string_value(prompt), "[user]a\0b", 9);
    json_decref(a);
    a = ask(&s, "/tokenize", "{\"prompt\":\"a\\u0000b\"}");
    assert_int_equal(json_integer_value(json_object_get(a, "count")), 4);
    json_decref(a);
    json_decref(ask(&s, "/v1/chat/completions",
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}],\"max_tokens\":1}"));
    expect_refused(&s, "/v1/completions", "{\"prompt\":\"a\",\"stop\":\"a\\u0000\"}", "'stop' must not contain NUL");
    expect_refused(&s, "/v1/completions", "{\"prompt\":\"a\",\"stop\":[\"b\",\"\\u0000\"]}", "must not contain NUL");
    expect_refused(&s, "/v1/completions", "{\"prompt\":\"a\",\"model\":\"a\\u0000\"}", "'model' must not contain NUL");
    stop(&s);
}

/* The same in files of prompts, whose results are read when the run is resumed. */
static void files_of_prompts_take_nul(void **state) {
    const folder *f = *state;
    put_text(in(f, "prompts.jsonl"), "{\"prompt\":\"a\\u0000b\"}\n{\"prompt\":\"a\"}\n");
    for (int again = 0; again < 2; again++) {
        outcome o = RUN(f, "generate", "--model_name_or_path", in(f, "model"), "--prompt_file", in(f, "prompts.jsonl"),
                        "--output_file", in(f, "out.jsonl"), "--length", "2");
        if (o.code) fail_msg("%s", o.messages);
        outcome_free(&o);
    }
    put_text(in(f, "turns.jsonl"), "{\"turns\":[\"a\\u0000b\"]}\n");
    outcome o = RUN(f, "chat", "--model_name_or_path", in(f, "model"), "--questions", in(f, "turns.jsonl"));
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "expected every turn to be a string without NUL"));
    outcome_free(&o);
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(histories_are_taken), WITH_MODEL(histories_are_refused_by_name),
        WITH_MODEL(nulls_are_absent),    WITH_MODEL(content_types_name_utf8),
        WITH_MODEL(nul_is_a_character),  WITH_MODEL(files_of_prompts_take_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
