/* Chat templates of checkpoints: where they are found, which one is selected, their variables, and where a message to
 * continue is cut. The expected texts follow from the templates, which were written for these tests. */
#include "text_fixture.h"

#include <time.h>

/* A folder with these files; NULL: absent. */
static void write_folder(char folder[64], const char *config, const char *map, const char *jinja) {
    const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
    const char *const contents[] = {config, map, jinja};
    strcpy(folder, "/tmp/lckv_chat_XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 3; i++) {
        char *path;
        if (!contents[i]) continue;
        OK(path_join(folder, names[i], &path));
        OK(file_replace(path, contents[i], strlen(contents[i])));
        free(path);
    }
}

static void remove_folder(const char *folder) {
    char command[100];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

static int open_files(const char *config, const char *map, const char *jinja, const char *file,
                      lckv_chat_template **out) {
    char folder[64];
    write_folder(folder, config, map, jinja);
    int status = lckv_chat_template_open(folder, file, out);
    remove_folder(folder);
    return status;
}

static lckv_chat_template *open_config(const char *config) {
    lckv_chat_template *t;
    OK(open_files(config, NULL, NULL, NULL, &t));
    assert_non_null(t);
    return t;
}

static const char MESSAGES[] = "[{\"role\": \"user\", \"content\": \"hi\"}]";

static void assert_renders(lckv_chat_template *t, const lckv_chat *chat, const char *expected) {
    lckv_chat_text text;
    OK(lckv_chat_template_render(t, chat, &text));
    assert_text("rendered", text.text, text.bytes, expected);
    lckv_chat_text_free(&text);
}

static void assert_refused(lckv_chat_template *t, const lckv_chat *chat, int code, const char *expected) {
    lckv_chat_text text;
    assert_int_equal(lckv_chat_template_render(t, chat, &text), code);
    assert_null(text.text);
    if (!strstr(lckv_last_error(), expected)) fail_msg("'%s' is not in '%s'", expected, lckv_last_error());
}

static lckv_chat with_messages(const char *messages) {
    lckv_chat chat = lckv_chat_defaults();
    chat.messages = messages;
    return chat;
}

/* ---- selection of a template */

static void reads_a_string_and_special_tokens(void **state) {
    (void)state;
    lckv_chat_template *t;
    OK(open_files("{\"chat_template\": \"{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"
                  "{{ additional_special_tokens }}{{ unk_token is defined }}\", \"bos_token\": \"<s>\", "
                  "\"eos_token\": {\"content\": \"</s>\", \"lstrip\": false}, \"unk_token\": null, "
                  "\"model_max_length\": 1000000000000000019884624838656}",
                  "{\"eos_token\": \"other\", \"pad_token\": \"<pad>\", \"additional_special_tokens\": [\"<a>\", "
                  "{\"content\": \"<b>\"}]}",
                  NULL, NULL, &t));
    lckv_chat chat = with_messages(MESSAGES);
    assert_renders(t, &chat, "<s>hiother<pad>['<a>', '<b>']False");
    chat.variables = "{\"bos_token\": \"B\", \"unk_token\": 1}"; /* the caller's variables take precedence */
    assert_renders(t, &chat, "Bhiother<pad>['<a>', '<b>']True");
    assert_true(strstr(lckv_chat_template_source(t), "{{ bos_token }}") == lckv_chat_template_source(t));
    lckv_chat_template_free(t);
}

#define SPECIAL                                                                                                        \
    "{{ bos_token|default('-') }}|{{ eos_token|default('-') }}|{{ unk_token|default('-') }}|{{ "                       \
    "pad_token|default('-') }}|"                                                                                       \
    "{{ additional_special_tokens|default('-') }}|{{ image_token|default('-') }}"
#define CLASS(name) "\"tokenizer_class\": \"" name "\", "
#define CONFIG_NAMES "\"bos_token\": \"<cb>\", \"eos_token\": \"<ce>\""
#define MAP_NAMES "{\"bos_token\": {\"content\": \"<mb>\"}, \"eos_token\": \"<me>\", \"pad_token\": \"<mp>\"}"

/* As in transformers 4.57.6 and 5.24.0, except for additional_special_tokens, which 5.24 does not have. */
static void special_tokens_are_those_of_transformers(void **state) {
    (void)state;
    static const struct {
        const char *config, *map, *expected;
    } cases[] = {
        {CLASS("PreTrainedTokenizerFast") CONFIG_NAMES, NULL, "<cb>|<ce>|-|-|-|-"},
        {CLASS("PreTrainedTokenizerFast") CONFIG_NAMES, MAP_NAMES, "<mb>|<me>|-|<mp>|-|-"},
        {CLASS("PreTrainedTokenizerFast") CONFIG_NAMES ", \"added_tokens_decoder\": {}", MAP_NAMES,
         "<cb>|<ce>|-|-|-|-"},
        {CLASS("PreTrainedTokenizerFast") "\"bos_token\": null, \"added_tokens_decoder\": {\"1\": {\"content\": "
                                          "\"<s>\"}}",
         MAP_NAMES, "-|-|-|-|-|-"},
        {CLASS("PreTrainedTokenizerFast") "\"bos_token\": null", MAP_NAMES, "<mb>|<me>|-|<mp>|-|-"},
        {CLASS("PreTrainedTokenizerFast") "\"additional_special_tokens\": [\"<x>\"]",
         "{\"additional_special_tokens\": [{\"content\": \"<z>\"}]}", "-|-|-|-|['<x>', '<z>']|-"},
        {CLASS("PreTrainedTokenizerFast") "\"additional_special_tokens\": [\"<x>\"], \"added_tokens_decoder\": {}",
         "{\"additional_special_tokens\": [{\"content\": \"<z>\"}]}", "-|-|-|-|['<x>']|-"},
        {CLASS("PreTrainedTokenizerFast") "\"extra_special_tokens\": {\"image_token\": \"<i>\"}", NULL,
         "-|-|-|-|-|<i>"},
        {CLASS("PreTrainedTokenizerFast") "\"extra_special_tokens\": [\"<i>\"]", NULL, "-|-|-|-|-|-"},
        {CLASS("LlamaTokenizer") "\"legacy\": true", NULL, "<s>|</s>|<unk>|-|-|-"},
        {CLASS("LlamaTokenizerFast") "\"eos_token\": \"<ce>\"", NULL, "<s>|<ce>|<unk>|-|-|-"},
        {CLASS("LlamaTokenizer") CONFIG_NAMES, MAP_NAMES, "<mb>|<me>|<unk>|<mp>|-|-"},
        {CLASS("GPT2TokenizerFast") "\"bos_token\": null", NULL, "-|<|endoftext|>|<|endoftext|>|-|-|-"},
        {CLASS("Qwen2Tokenizer") "\"legacy\": true", NULL, "-|<|endoftext|>|<|endoftext|>|<|endoftext|>|-|-"},
        {CLASS("BertTokenizer") CONFIG_NAMES, NULL, "<cb>|<ce>|-|-|-|-"}, /* rejected as a tokenizer */
    };
    lckv_chat chat = with_messages(MESSAGES);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text_buffer config = {0};
        lckv_chat_template *t;
        OK(text_printf(&config, "{\"chat_template\": \"" SPECIAL "\", %s}", cases[i].config));
        OK(open_files(config.data, cases[i].map, NULL, NULL, &t));
        assert_renders(t, &chat, cases[i].expected);
        lckv_chat_template_free(t);
        text_free(&config);
    }
}

/* A long message of which the template shows a part: the search for the whole message takes linear time. With quadratic
 * time this test would take minutes. */
static void long_messages_are_looked_for(void **state) {
    (void)state;
    enum { LETTERS = 3 << 20 };
    static const char BEGIN[] = "[{\"role\": \"assistant\", \"content\": \"", BREAK[] = "</t>", END[] = "\"}]";
    lckv_chat_template *t = open_config("{\"chat_template\": \"{{ messages[0].content.split('</t>')[-1] }}\"}");
    char *messages = malloc(2 * LETTERS + 100), *at = messages;
    assert_non_null(messages);
    at = stpcpy(at, BEGIN);
    memset(at, 'a', LETTERS);
    at = stpcpy(at + LETTERS, BREAK);
    memset(at, 'a', LETTERS);
    strcpy(at + LETTERS, END);
    lckv_chat chat = with_messages(messages);
    chat.continue_final_message = true;
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "does not write the last message unchanged");
    free(messages);
    lckv_chat_template_free(t);
}

static void takes_the_named_template(void **state) {
    (void)state;
    lckv_chat_template *t = open_config(
        "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"R\"}, {\"name\": \"default\", \"template\": \"D\"}, "
        "{\"name\": \"tool_use\", \"template\": \"T{{ tools|length }}\"}]}");
    lckv_chat chat = with_messages(MESSAGES);
    assert_renders(t, &chat, "D");
    chat.tools = "[{\"type\": \"function\"}]";
    assert_renders(t, &chat, "T1");
    lckv_chat_template_free(t);
}

static void a_file_goes_before_the_config(void **state) {
    (void)state;
    static const char config[] = "{\"chat_template\": \"config\", \"bos_token\": \"<s>\"}";
    char path[] = "/tmp/lckv_template_XXXXXX";
    lckv_chat_template *t;
    lckv_chat chat = with_messages(MESSAGES);
    OK(open_files(config, NULL, "{{ bos_token }}file\n", NULL, &t));
    assert_renders(t, &chat, "<s>file");
    lckv_chat_template_free(t);

    int handle = mkstemp(path);
    assert_true(handle >= 0);
    close(handle);
    OK(file_replace(path, "given {{ bos_token }}", strlen("given {{ bos_token }}")));
    OK(open_files(config, NULL, "file", path, &t));
    assert_renders(t, &chat, "given <s>");
    lckv_chat_template_free(t);
    OK(lckv_chat_template_open(NULL, path, &t));
    assert_renders(t, &chat, "given ");
    lckv_chat_template_free(t);
    unlink(path);
}

static void none_is_no_error(void **state) {
    (void)state;
    lckv_chat_template *t;
    OK(open_files(NULL, NULL, NULL, NULL, &t));
    assert_null(t);
    OK(open_files("{\"chat_template\": null}", NULL, NULL, NULL, &t));
    assert_null(t);
}

static void assert_not_opened(const char *config, const char *jinja, int code, const char *expected) {
    lckv_chat_template *t;
    assert_int_equal(open_files(config, NULL, jinja, NULL, &t), code);
    assert_null(t);
    if (!strstr(lckv_last_error(), expected)) fail_msg("'%s' is not in '%s'", expected, lckv_last_error());
}

static void bad_files_are_named(void **state) {
    (void)state;
    lckv_chat_template *t;
    assert_not_opened("{\"chat_template\": 3}", NULL, LCKV_ERROR_FORMAT, "tokenizer_config.json: 'chat_template'");
    assert_not_opened("{\"chat_template\": [{\"name\": \"default\"}]}", NULL, LCKV_ERROR_FORMAT, "'template'");
    assert_not_opened("{\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}]}", NULL, LCKV_ERROR_UNSUPPORTED,
                      "no template named 'default'");
    assert_not_opened("{", NULL, LCKV_ERROR_FORMAT, "tokenizer_config.json");
    assert_not_opened("[]", NULL, LCKV_ERROR_FORMAT, "JSON object");
    assert_not_opened(NULL, "a\n{% if %}", LCKV_ERROR_FORMAT, "chat_template.jinja: line 2: ");
    assert_not_opened(NULL, "\n\n{% import 'x' as y %}", LCKV_ERROR_UNSUPPORTED, "line 3: the statement {% import %}");
    assert_int_equal(lckv_chat_template_open("/tmp/lckv_no_such_folder", NULL, &t), LCKV_ERROR_FILE);
    assert_int_equal(lckv_chat_template_open(NULL, "/tmp/lckv_no_such_file", &t), LCKV_ERROR_FILE);
}

/* ---- variables of a template */

static void sees_tools_documents_and_the_date(void **state) {
    (void)state;
    lckv_chat_template *t =
        open_config("{\"chat_template\": \"{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ extra }} "
                    "{{ strftime_now('%Y-%m-%d') }}\"}");
    lckv_chat chat = with_messages("[]");
    chat.now = 1721995509; /* 2024-07-26 12:05:09 UTC: the 26th in every zone from -12 to +11 */
    assert_renders(t, &chat, "NoneNoneFalse 2024-07-26");
    chat.tools = "[{\"a\": 1}]";
    chat.documents = "[{\"title\": \"t\"}]";
    chat.variables = "{\"extra\": [1.0, true]}";
    chat.add_generation_prompt = true;
    assert_renders(t, &chat, "[{'a': 1}][{'title': 't'}]True[1.0, True] 2024-07-26");
    chat.now = 0;
    time_t clock = time(NULL);
    char today[16];
    lckv_chat_text text;
    strftime(today, sizeof today, "%Y-%m-%d", localtime(&clock));
    OK(lckv_chat_template_render(t, &chat, &text));
    assert_string_equal(text.text + text.bytes - strlen(today), today);
    lckv_chat_text_free(&text);
    lckv_chat_template_free(t);
}

static void bad_conversations_are_refused(void **state) {
    (void)state;
    lckv_chat_template *t =
        open_config("{\"chat_template\": \"\\n{{ raise_exception('No.') if messages|length == 2 }}\"}");
    lckv_chat chat = lckv_chat_defaults();
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "at least one message");
    chat.messages = "[";
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "chat: messages: line 1");
    chat.messages = "{}";
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "'messages' should be a list of objects");
    chat.messages = "[1]";
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "'messages' should be a list of objects");
    chat.messages = "[{}, {}]";
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "line 2: No.");
    chat.messages = MESSAGES;
    chat.variables = "[]";
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "should be an object");
    chat.variables = NULL;
    chat.return_assistant_tokens = true;
    assert_refused(t, &chat, LCKV_ERROR_UNSUPPORTED, "{% generation %}");
    chat.return_assistant_tokens = false;
    chat.add_generation_prompt = chat.continue_final_message = true;
    assert_refused(t, &chat, LCKV_ERROR_ARGUMENT, "add_generation_prompt");
    lckv_chat_template_free(t);
}

/* ---- spans and cuts */

static void marks_answers(void **state) {
    (void)state;
    lckv_chat_template *t = open_config(
        "{\"chat_template\": \"{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}\"}");
    lckv_chat chat = with_messages("[{\"role\": \"user\", \"content\": \"\u00fc\"}, {\"role\": \"assistant\", "
                                   "\"content\": \"A\"}, {\"role\": \"user\", \"content\": \"v\"}, "
                                   "{\"role\": \"assistant\", \"content\": \"B \"}]");
    lckv_chat_text text;
    chat.return_assistant_tokens = true;
    OK(lckv_chat_template_render(t, &chat, &text));
    assert_int_equal(text.assistant_count, 2);
    assert_text("first", text.text + text.assistant[0].first, text.assistant[0].end - text.assistant[0].first, "A</s>");
    assert_text("second", text.text + text.assistant[1].first, text.assistant[1].end - text.assistant[1].first,
                "B </s>");
    lckv_chat_text_free(&text);
    chat.continue_final_message = true;
    OK(lckv_chat_template_render(t, &chat, &text));
    assert_int_equal(text.assistant[1].end, text.bytes);
    lckv_chat_text_free(&text);
    lckv_chat_template_free(t);
}

static void goes_on_with_the_last_message(void **state) {
    (void)state;
    lckv_chat_template *keeps =
        open_config("{\"chat_template\": \"{% for m in messages %}<{{ m.content }}>{% endfor %}!\"}");
    lckv_chat_template *trims =
        open_config("{\"chat_template\": \"{% for m in messages %}<{{ m.content|trim }}>{% endfor %}!\"}");
    lckv_chat chat = with_messages("[{\"role\": \"user\", \"content\": \"It is\"}, {\"role\": \"assistant\", "
                                   "\"content\": \" It is \"}]");
    chat.continue_final_message = true;
    assert_renders(keeps, &chat, "<It is>< It is ");
    assert_renders(trims, &chat, "<It is><It is");
    chat.messages = "[{\"role\": \"user\"}]";
    assert_refused(keeps, &chat, LCKV_ERROR_ARGUMENT, "requires a last message with text");
    lckv_chat_template_free(keeps);
    lckv_chat_template_free(trims);
    lckv_chat_template *hides = open_config("{\"chat_template\": \"-\"}");
    chat.messages = MESSAGES;
    assert_refused(hides, &chat, LCKV_ERROR_ARGUMENT, "does not write the last message");
    lckv_chat_template_free(hides);
}

/* As in transformers: trailing white space remains if the template keeps it, including white space that the template
 * adds */
static void trailing_blanks(void **state) {
    (void)state;
    lckv_chat_template *pads =
        open_config("{\"chat_template\": \"{% for m in messages %}[ {{ m.content.strip() }} ]{% endfor %}\"}");
    lckv_chat_template *adds = open_config(
        "{\"chat_template\": \"{% for m in messages %}[{{ ' ' + m.content.strip() + ' ' }}]{% endfor %}\"}");
    lckv_chat chat = with_messages("[{\"role\": \"assistant\", \"content\": \" It is \\n\"}]");
    chat.continue_final_message = true;
    assert_renders(pads, &chat, "[ It is \n");
    assert_renders(adds, &chat, "[ It is \n");
    chat.messages =
        "[{\"role\": \"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"image\"}]}]";
    lckv_chat_template *parts = open_config("{\"chat_template\": \"{{ messages[0].content[0].text }}!\"}");
    assert_renders(parts, &chat, "a");
    lckv_chat_template_free(pads);
    lckv_chat_template_free(adds);
    lckv_chat_template_free(parts);
}

static void reasoning_has_both_names(void **state) {
    (void)state;
    static const char *const given[] = {"reasoning_content", "thinking", "reasoning"};
    lckv_chat_template *t = open_config(
        "{\"chat_template\": \"{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }};{% endfor %}\"}");
    char messages[200];
    for (size_t i = 0; i < 3; i++) {
        snprintf(messages, sizeof messages, "[{\"role\": \"assistant\", \"%s\": \"R\"}, {\"role\": \"user\"}]",
                 given[i]);
        lckv_chat chat = with_messages(messages);
        assert_renders(t, &chat, "R|R;|;");
    }
    lckv_chat_template_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_string_and_special_tokens),
        cmocka_unit_test(special_tokens_are_those_of_transformers),
        cmocka_unit_test(long_messages_are_looked_for),
        cmocka_unit_test(takes_the_named_template),
        cmocka_unit_test(a_file_goes_before_the_config),
        cmocka_unit_test(none_is_no_error),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(sees_tools_documents_and_the_date),
        cmocka_unit_test(bad_conversations_are_refused),
        cmocka_unit_test(marks_answers),
        cmocka_unit_test(goes_on_with_the_last_message),
        cmocka_unit_test(trailing_blanks),
        cmocka_unit_test(reasoning_has_both_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
