/* Log-probabilities in the server's responses: joined tokens are the text, offsets are correct, each top token has a
 * key of its own; with and without echo, streamed and not, for several kinds of models. */
#define _GNU_SOURCE /* memmem */
#include "served.h"

#include "base/text/utf8.h"

enum { TOP = 20 };

/* ---------------------------------------------------------------- lists and texts */

/* The bytes of a token in /v1/completions. */
static void append_token(text_buffer *to, const json_t *token) {
    const char *text = json_string_value(token);
    if (strncmp(text, "bytes:\\x", 8)) {
        OK(text_append(to, text, json_string_length(token)));
        return;
    }
    for (text += 6; *text; text += 4) OK(text_append(to, &(char){(char)strtol(text + 2, NULL, 16)}, 1));
}

/* The byte at which a character of a text starts. */
static size_t byte_of(const char *text, size_t bytes, json_int_t character) {
    size_t at = 0;
    for (; character > 0; character--) {
        assert_true(at < bytes);
        do at++;
        while (at < bytes && ((unsigned char)text[at] & 0xC0) == 0x80);
    }
    return at;
}

static void check_offset(const json_t *token, json_int_t offset, const json_t *whole) {
    const char *text = json_string_value(whole);
    size_t bytes = json_string_length(whole), at = byte_of(text, bytes, offset), length = json_string_length(token);
    if (!strncmp(json_string_value(token), "bytes:\\x", 8)) return; /* a part of this character */
    if (length > bytes - at) length = bytes - at; /* a token that a stop string truncates is listed whole */
    bool lost = bytes - at >= 3 && !memcmp(text + at, UTF8_REPLACEMENT, 3);
    if (!lost && memcmp(text + at, json_string_value(token), length))
        fail_msg("'%s' is not at %lld of '%s'", json_string_value(token), (long long)offset, text);
}

/* The byte at which the last token starts. */
static size_t last_start(const json_t *lists, const json_t *text) {
    const json_t *offsets = json_object_get(lists, "text_offset");
    return byte_of(json_string_value(text), json_string_length(text),
                   json_integer_value(json_array_get(offsets, json_array_size(offsets) - 1)));
}

/* `broken`: ill-formed bytes became U+FFFD, so that joined tokens differ from the text. `stops`: a stop string may have
 * truncated the last token. */
static void check_lists(const json_t *lists, const json_t *text, bool broken, bool stops) {
    const json_t *tokens = json_object_get(lists, "tokens"), *top = json_object_get(lists, "top_logprobs");
    const json_t *offsets = json_object_get(lists, "text_offset"), *own = json_object_get(lists, "token_logprobs");
    text_buffer joined = {0};
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *token = json_array_get(tokens, i), *candidates = json_array_get(top, i);
        append_token(&joined, token);
        check_offset(token, json_integer_value(json_array_get(offsets, i)), text);
        if (json_is_null(candidates)) continue;
        assert_int_equal(json_object_size(candidates), TOP);
        const json_t *same = json_object_getn(candidates, json_string_value(token), json_string_length(token));
        if (same) assert_true(json_equal(same, json_array_get(own, i)));
    }
    size_t bytes = json_string_length(text);
    bool same_length = joined.length == bytes || (stops && joined.length > bytes && last_start(lists, text) < bytes);
    if (!broken && (!same_length || (bytes && memcmp(joined.data, json_string_value(text), bytes))))
        fail_msg("joined '%.*s', text '%s'", (int)joined.length, joined.data, json_string_value(text));
    text_free(&joined);
}

static const json_t *choice(const json_t *answer) {
    return json_array_get(json_object_get(answer, "choices"), 0);
}

/* NUL may be a key of `top_logprobs`; jansson can write it but not read it. It is replaced by U+2400 here. */
static void replace_nul(http_answer *a) {
    for (char *at = a->body; (at = strstr(at, "\\u0000")); at++) memcpy(at, "\\u2400", 6);
}

static json_t *ask_completion(const served *s, const char *body) {
    http_answer a = http_do(s->port, "POST", "/v1/completions", "", body);
    if (a.status != 200) fail_msg("%s: status %d: %s", body, a.status, a.body);
    replace_nul(&a);
    return json_of(&a);
}

/* ---------------------------------------------------------------- streams */

/* Appends the lists and the text of one object to those of another. */
static void join_chunk(json_t *lists, text_buffer *text, const json_t *chunk) {
    const json_t *said = json_object_get(chunk, "text");
    const char *name;
    json_t *list;
    OK(text_append(text, json_string_value(said), json_string_length(said)));
    json_object_foreach(json_object_get(chunk, "logprobs"), name, list) {
        if (!json_object_get(lists, name)) json_object_set_new(lists, name, json_array());
        json_array_extend(json_object_get(lists, name), list);
    }
}

/* The parts of a stream add up to the whole response. */
static void check_stream(const served *s, const char *body, const json_t *whole) {
    http_answer a = http_do(s->port, "POST", "/v1/completions", "", body);
    json_t *lists = json_object(), *event;
    text_buffer text = {0};
    assert_int_equal(a.status, 200);
    replace_nul(&a);
    for (const char *at = a.body; (at = strstr(at, "data: {")); at++) {
        const char *end = strstr(at, "\n\n");
        OK(json_parse(at + 6, (size_t)(end - at) - 6, "event", &event));
        join_chunk(lists, &text, choice(event));
        json_decref(event);
    }
    const json_t *expected = json_object_get(choice(whole), "text");
    assert_int_equal(text.length, json_string_length(expected));
    if (text.length) assert_memory_equal(text.data, json_string_value(expected), text.length);
    bool some = json_array_size(json_object_get(json_object_get(choice(whole), "logprobs"), "tokens"));
    if (some ? !json_equal(lists, json_object_get(choice(whole), "logprobs")) : json_object_size(lists) != 0)
        fail_msg("%s: %s\n%s", body, json_dumps(lists, 0), json_dumps(json_object_get(choice(whole), "logprobs"), 0));
    text_free(&text);
    json_decref(lists);
    http_free(&a);
}

/* ---------------------------------------------------------------- completions */

static void check_completion(const served *s, const char *fields) {
    char body[4000];
    for (int echo = 0; echo < 2; echo++) {
        snprintf(body, sizeof body, "{%s,\"logprobs\":20,\"echo\":%s}", fields, echo ? "true" : "false");
        json_t *a = ask_completion(s, body);
        const json_t *text = json_object_get(choice(a), "text");
        check_lists(json_object_get(choice(a), "logprobs"), text,
                    memmem(json_string_value(text), json_string_length(text), UTF8_REPLACEMENT, 3),
                    strstr(fields, "stop"));
        snprintf(body, sizeof body, "{%s,\"logprobs\":20,\"echo\":%s,\"stream\":true}", fields,
                 echo ? "true" : "false");
        check_stream(s, body, a);
        json_decref(a);
    }
}

static const char *const PROMPTS[] = {"Once upon a time", "Z\u00fcrich \U0001F600 \u65e5\u672c", "  two  spaces ",
                                      "a\\u0000b\\n"};

static void check_completions(const served *s) {
    char fields[1000];
    for (size_t i = 0; i < sizeof PROMPTS / sizeof *PROMPTS; i++) {
        snprintf(fields, sizeof fields, "\"prompt\":\"%s\",\"max_tokens\":16,\"temperature\":0", PROMPTS[i]);
        check_completion(s, fields);
        snprintf(fields, sizeof fields, "\"prompt\":\"%s\",\"max_tokens\":24,\"temperature\":1.5,\"seed\":%zu",
                 PROMPTS[i], i + 1);
        check_completion(s, fields);
        snprintf(fields, sizeof fields,
                 "\"prompt\":\"%s\",\"max_tokens\":24,\"temperature\":1,\"seed\":%zu,\"stop\":[\"e\",\" the\"]",
                 PROMPTS[i], i + 5);
        check_completion(s, fields);
    }
    check_completion(s, "\"prompt\":[1],\"max_tokens\":12,\"temperature\":0"); /* only BOS before it */
    check_completion(s, "\"prompt\":[1,2,1],\"max_tokens\":3,\"temperature\":0");
}

/* ---------------------------------------------------------------- chats */

static void append_bytes(text_buffer *to, const json_t *entry) {
    const json_t *bytes = json_object_get(entry, "bytes");
    for (size_t i = 0; i < json_array_size(bytes); i++)
        OK(text_append(to, &(char){(char)json_integer_value(json_array_get(bytes, i))}, 1));
}

static void check_chat(const served *s, const char *fields) {
    char body[1000];
    text_buffer joined = {0}, shown = {0};
    snprintf(body, sizeof body,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"Once upon a time\"}],\"logprobs\":true,"
             "\"top_logprobs\":20,%s}",
             fields);
    json_t *a = ask(s, "/v1/chat/completions", body);
    const json_t *text = json_object_get(json_object_get(choice(a), "message"), "content");
    const json_t *content = json_object_get(json_object_get(choice(a), "logprobs"), "content");
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *entry = json_array_get(content, i), *token = json_object_get(entry, "token");
        assert_int_equal(json_array_size(json_object_get(entry, "top_logprobs")), TOP);
        append_bytes(&joined, entry);
        OK(text_append(&shown, json_string_value(token), json_string_length(token)));
    }
    size_t bytes = json_string_length(text);
    bool broken = memmem(json_string_value(text), bytes, UTF8_REPLACEMENT, 3), stops = strstr(fields, "stop");
    if (!broken) assert_true(stops ? joined.length >= bytes : joined.length == bytes);
    if (!broken && bytes) assert_memory_equal(joined.data, json_string_value(text), bytes);
    if (!broken && bytes && !memmem(shown.data, shown.length, "\\x", 2))
        assert_memory_equal(shown.data, json_string_value(text), bytes);
    json_decref(a);
    text_free(&joined);
    text_free(&shown);
}

static void check_chats(const served *s) {
    check_chat(s, "\"max_tokens\":20,\"temperature\":0");
    check_chat(s, "\"max_tokens\":24,\"temperature\":1.5,\"seed\":3");
    check_chat(s, "\"max_tokens\":24,\"temperature\":1,\"seed\":4,\"stop\":\"e\"");
}

/* ---------------------------------------------------------------- models */

static const char TEMPLATE[] = "{% for m in messages %}{{ m.content }}{% endfor %}";

/* A checkpoint of SHARED_DIR. */
static void check_shared(void **state, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/data/models/%s", SHARED_DIR, name);
    if (!folder_exists(path)) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    put_text(in(*state, "template"), TEMPLATE);
    const char *const words[] = {
        "serve",           "--model_name_or_path", path, "--port", "0", "--device", "cpu", "--threads", "2",
        "--chat_template", in(*state, "template"), NULL};
    served s = {.f = *state};
    int output = open(in(*state, "stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    s.process = program_start(*state, words, output);
    close(output);
    s.port = port_of(*state);
    check_completions(&s);
    check_chats(&s);
    stop(&s);
}

static void stories260k(void **state) {
    check_shared(state, "stories260k");
}

static void lckv_3m(void **state) {
    check_shared(state, "lckv-3m");
}

/* Random weights: many byte tokens, few of which form characters. */
static void bytes_at_random(void **state) {
    put_text(in(*state, "model/chat_template.jinja"), TEMPLATE);
    served s = SERVE(state, "--max_num_seqs", "4");
    check_completions(&s);
    check_chats(&s);
    stop(&s);
}

/* If a byte token and a word have the same text, one has the text as its label and the other its id. A token that adds
 * no text has its name. */
static void keys_are_distinct(void **state) {
    served s = SERVE(state, "--max_num_seqs", "2");
    json_t *a = ask(&s, "/v1/completions",
                    "{\"prompt\":[1,260],\"max_tokens\":1,\"temperature\":0,\"logprobs\":20,\"logit_bias\":"
                    "{\"100\":60,\"271\":55,\"101\":50,\"272\":52,\"2\":51,\"231\":50}}");
    const json_t *lists = json_object_get(choice(a), "logprobs");
    const json_t *top = json_array_get(json_object_get(lists, "top_logprobs"), 0);
    assert_int_equal(json_object_size(top),
                     TOP); /* from the plain logits, so that biased tokens need not be among them */
    check_lists(lists, json_object_get(choice(a), "text"), false, false);
    json_decref(a);
    stop(&s);
}

#define IN_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(stories260k),
        IN_FOLDER(lckv_3m),
        IN_MODEL(bytes_at_random),
        IN_MODEL(keys_are_distinct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
