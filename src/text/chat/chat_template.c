/* Chat templates (lckv.h): which files have them, which of several templates is used, what variables a template gets,
 * and the cut for continue_final_message.
 *
 * The template language is in jinja/. The tokenizer converts the text to ids. */
#define _GNU_SOURCE /* memmem */
#include "base/files/file.h"
#include "base/options.h"
#include "base/text/utf8.h"
#include "text/jinja/jinja.h"
#include "text/tokenizer/folder_rules.h"

#include <stdlib.h>
#include <string.h>

struct lckv_chat_template {
    jinja_template *standard, *tool_use; /* tool_use: NULL if there is none */
    char *source;                        /* of the default template */
    json_t *special_tokens;              /* an object: bos_token etc. */
};

void lckv_chat_init(lckv_chat *options, size_t struct_size) {
    const lckv_chat defaults = {.struct_size = sizeof(lckv_chat)};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

void lckv_chat_template_free(lckv_chat_template *t) {
    if (!t) return;
    jinja_free(t->standard);
    jinja_free(t->tool_use);
    free(t->source);
    json_decref(t->special_tokens);
    free(t);
}

const char *lckv_chat_template_source(const lckv_chat_template *t) {
    return t->source;
}

/* ---- reading */

static int compile_standard(lckv_chat_template *t, const char *source, size_t bytes, const char *name) {
    t->source = malloc(bytes + 1);
    REQUIRE(t->source, LCKV_ERROR_MEMORY, "no memory for a chat template");
    memcpy(t->source, source, bytes);
    t->source[bytes] = 0;
    return jinja_compile(source, bytes, name, &t->standard);
}

static int read_template_file(lckv_chat_template *t, const char *path) {
    char *source;
    size_t bytes;
    TRY(file_read(path, &source, &bytes));
    int status = compile_standard(t, source, bytes, path);
    free(source);
    return status;
}

/* An entry {"name": ..., "template": ...}. */
static int read_named(lckv_chat_template *t, const json_t *item, const char *path) {
    const json_t *name = json_object_get(item, "name"), *source = json_object_get(item, "template");
    REQUIRE(json_is_string(name) && json_is_string(source), LCKV_ERROR_FORMAT,
            "%s: an element of 'chat_template' should have the strings 'name' and 'template'", path);
    const char *text = json_string_value(source);
    size_t bytes = json_string_length(source);
    if (!strcmp(json_string_value(name), "default") && !t->standard) return compile_standard(t, text, bytes, path);
    if (!strcmp(json_string_value(name), "tool_use") && !t->tool_use)
        return jinja_compile(text, bytes, path, &t->tool_use);
    return LCKV_OK; /* other templates are only used by name, which lckv does not support */
}

static int read_from_config(lckv_chat_template *t, const json_t *value, const char *path) {
    if (!value || json_is_null(value)) return LCKV_OK;
    if (json_is_string(value)) return compile_standard(t, json_string_value(value), json_string_length(value), path);
    REQUIRE(json_is_array(value), LCKV_ERROR_FORMAT, "%s: 'chat_template' should be a string or a list", path);
    for (size_t i = 0; i < json_array_size(value); i++) TRY(read_named(t, json_array_get(value, i), path));
    REQUIRE(t->standard || !json_array_size(value), LCKV_ERROR_UNSUPPORTED,
            "%s: 'chat_template' has no template named 'default'", path);
    return LCKV_OK;
}

/* Reads the template of tokenizer_config.json, if the file exists. */
static int read_tokenizer_config(lckv_chat_template *t, const char *folder) {
    char *path;
    json_t *config = NULL;
    TRY(path_join(folder, "tokenizer_config.json", &path));
    int status = folder_tokenizer_config(folder, &config);
    if (config && status >= 0) status = read_from_config(t, json_object_get(config, "chat_template"), path);
    json_decref(config);
    free(path);
    return status;
}

static int read_folder(lckv_chat_template *t, const char *folder, bool with_template) {
    char *path;
    int status = LCKV_OK;
    TRY(path_join(folder, "chat_template.jinja", &path));
    bool own_file = with_template && path_exists(path);
    if (own_file) status = read_template_file(t, path);
    free(path);
    TRY(status);
    if (with_template && !own_file) TRY(read_tokenizer_config(t, folder));
    return folder_special_tokens(folder, &t->special_tokens);
}

static int read_all(lckv_chat_template *t, const char *folder, const char *file) {
    REQUIRE(!folder || folder_exists(folder) || file_exists(folder), LCKV_ERROR_FILE, "'%s' is not a folder", folder);
    if (file) TRY(read_template_file(t, file));
    if (folder) return read_folder(t, folder, !file);
    t->special_tokens = json_object();
    REQUIRE(t->special_tokens, LCKV_ERROR_MEMORY, "no memory for a chat template");
    return LCKV_OK;
}

int lckv_chat_template_open(const char *folder, const char *chat_template, lckv_chat_template **out) {
    *out = NULL;
    lckv_chat_template *t = calloc(1, sizeof *t);
    REQUIRE(t, LCKV_ERROR_MEMORY, "no memory for a chat template");
    int status = read_all(t, folder, chat_template);
    if (status < 0 || !t->standard)
        lckv_chat_template_free(t);
    else
        *out = t;
    return status;
}

/* ---- rendering */

/* Parses the caller's JSON as a variable. NULL: none, which templates see as None. */
static int add_json(json_t *variables, const char *name, const char *text, bool list_of_objects) {
    json_t *value;
    if (!text) return json_object_set_new(variables, name, json_null());
    if (json_parse(text, strlen(text), name, &value) < 0) return fail_within(LCKV_ERROR_ARGUMENT, "chat");
    bool list = json_is_array(value);
    for (size_t i = 0; list && list_of_objects && i < json_array_size(value); i++)
        list = json_is_object(json_array_get(value, i));
    json_object_set_new(variables, name, value);
    REQUIRE(list, LCKV_ERROR_ARGUMENT, "chat: '%s' should be a list of objects", name);
    return LCKV_OK;
}

static int add_more(json_t *variables, const char *text) {
    json_t *more;
    if (!text) return LCKV_OK;
    if (json_parse(text, strlen(text), "variables", &more) < 0) return fail_within(LCKV_ERROR_ARGUMENT, "chat");
    bool object = json_is_object(more);
    if (object) json_object_update(variables, more);
    json_decref(more);
    REQUIRE(object, LCKV_ERROR_ARGUMENT, "chat: the variables should be an object");
    return LCKV_OK;
}

/* The keys of a message's reasoning. Most templates read the first, some the second; if one is given, both are set, as
 * in transformers. */
static const char *const REASONING[] = {"reasoning_content", "thinking", "reasoning"};

static json_t *reasoning_of(const json_t *message) {
    for (size_t i = 0; i < sizeof REASONING / sizeof *REASONING; i++) {
        json_t *reasoning = json_object_get(message, REASONING[i]);
        if (reasoning && !json_is_null(reasoning)) return reasoning;
    }
    return NULL;
}

/* If a template prints a message, the order of keys is visible: `thinking` comes first. */
static json_t *with_reasoning(json_t *message, json_t *reasoning) {
    json_t *aliased = json_object();
    json_object_set(aliased, REASONING[1], reasoning);
    json_object_update(aliased, message);
    json_object_set(aliased, REASONING[0], reasoning);
    return aliased;
}

static int alias_reasoning(json_t *messages) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i), *reasoning = reasoning_of(message);
        if (!reasoning) continue;
        json_t *aliased = with_reasoning(message, reasoning);
        REQUIRE(aliased && json_array_set_new(messages, i, aliased) == 0, LCKV_ERROR_MEMORY,
                "no memory for a conversation");
    }
    return LCKV_OK;
}

static int make_variables(const lckv_chat_template *t, const lckv_chat *chat, json_t *variables) {
    REQUIRE(chat->messages, LCKV_ERROR_ARGUMENT, "chat: expected at least one message");
    REQUIRE(!chat->continue_final_message || !chat->add_generation_prompt, LCKV_ERROR_ARGUMENT,
            "chat: add_generation_prompt and continue_final_message exclude each other");
    json_object_update(variables, t->special_tokens);
    TRY(add_json(variables, "messages", chat->messages, true));
    TRY(alias_reasoning(json_object_get(variables, "messages")));
    TRY(add_json(variables, "tools", chat->tools, true));
    TRY(add_json(variables, "documents", chat->documents, true));
    json_object_set_new(variables, "add_generation_prompt", json_boolean(chat->add_generation_prompt));
    return add_more(variables, chat->variables);
}

/* Appended to the last message's content while it is rendered: everything that the template writes after it is cut. The
 * space before the cut shows whether the template keeps white space at the end. The tag is that of transformers,
 * because templates may inspect the content. */
static const char TAG[] = "CONTINUE_FINAL_MESSAGE_TAG ";

/* The object and the key that hold the last message's content. *where is NULL if it has none. */
static void find_final_words(const json_t *messages, json_t **where, const char **key) {
    size_t count = json_array_size(messages);
    json_t *message = count ? json_array_get(messages, count - 1) : NULL,
           *content = json_object_get(message, "content");
    *key = "content";
    *where = json_is_string(content) ? message : NULL;
    for (size_t i = json_array_size(content); i-- > 0 && !*where;) {
        json_t *part = json_array_get(content, i);
        *key = "text";
        if (json_is_string(json_object_get(part, *key))) *where = part;
    }
}

/* Appends the tag to the last message's content. *words is the original content, a new reference. */
static int add_tag(json_t *variables, json_t **words) {
    json_t *where;
    const char *key;
    find_final_words(json_object_get(variables, "messages"), &where, &key);
    REQUIRE(where, LCKV_ERROR_ARGUMENT, "chat: continue_final_message requires a last message with text");
    json_t *bare = json_incref(json_object_get(where, key));
    size_t bytes = json_string_length(bare);
    char *tagged = malloc(bytes + sizeof TAG);
    if (tagged) {
        memcpy(tagged, json_string_value(bare), bytes);
        memcpy(tagged + bytes, TAG, sizeof TAG);
    }
    bool set = tagged && json_object_set_new(where, key, json_stringn(tagged, bytes + sizeof TAG - 1)) == 0;
    free(tagged);
    *words = bare;
    REQUIRE(set, LCKV_ERROR_MEMORY, "no memory for a conversation");
    return LCKV_OK;
}

/* Last occurrence of the tag, without its space, in the text; -1 if there is none. */
static ptrdiff_t find_tag(const char *text, size_t bytes) {
    size_t count = sizeof TAG - 2;
    for (size_t at = bytes >= count ? bytes - count + 1 : 0; at-- > 0;)
        if (!memcmp(text + at, TAG, count)) return (ptrdiff_t)at;
    return -1;
}

/* The characters that Python's strip() removes. */
static bool is_blank(uint32_t c) {
    return utf8_is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}

/* Position after the white space at the start of a string. */
static size_t leading_space(const char *text, size_t bytes) {
    size_t at = 0;
    uint32_t c;
    while (at < bytes) {
        size_t length = utf8_next(text + at, &c);
        if (!is_blank(c)) break;
        at += length;
    }
    return at;
}

/* End of a string without trailing white space. */
static size_t without_trailing_space(const char *text, size_t bytes) {
    uint32_t c;
    while (bytes > 0) {
        size_t last = utf8_last(text, bytes);
        utf8_next(text + last, &c);
        if (!is_blank(c)) break;
        bytes = last;
    }
    return bytes;
}

/* Cuts the text at the tag. If the template stripped the tag's space, it also stripped white space of the content. */
static int cut_at_tag(jinja_text *text, const json_t *words) {
    const char *said = json_string_value(words);
    size_t tag = sizeof TAG - 1, start = leading_space(said, json_string_length(words));
    size_t bare = without_trailing_space(said + start, json_string_length(words) - start);
    ptrdiff_t at = find_tag(text->text, text->bytes);
    /* memmem() takes linear time, also for long messages of one letter */
    REQUIRE(at >= 0 && (!bare || memmem(text->text, text->bytes, said + start, bare)), LCKV_ERROR_ARGUMENT,
            "chat: continue_final_message: the template does not write the last message unchanged");
    bool kept = text->bytes - (size_t)at >= tag && text->text[(size_t)at + tag - 1] == ' ';
    text->bytes = kept ? (size_t)at : without_trailing_space(text->text, (size_t)at);
    text->text[text->bytes] = 0;
    return LCKV_OK;
}

static int render(const lckv_chat_template *t, const lckv_chat *chat, json_t *variables, jinja_text *out) {
    json_t *words = NULL;
    time_t now = (time_t)chat->now;
    struct tm when;
    REQUIRE(!chat->now || localtime_r(&now, &when), LCKV_ERROR_ARGUMENT, "chat: 'now' is out of range");
    const jinja_template *used = chat->tools && t->tool_use ? t->tool_use : t->standard;
    REQUIRE(!chat->return_assistant_tokens || jinja_marks_answers(used), LCKV_ERROR_UNSUPPORTED,
            "the chat template does not mark assistant turns: it has no {%% generation %%}");
    int status = chat->continue_final_message ? add_tag(variables, &words) : LCKV_OK;
    if (status >= 0)
        status = jinja_render(used, variables, chat->now ? &when : NULL, chat->return_assistant_tokens, out);
    if (status >= 0 && words) status = cut_at_tag(out, words);
    json_decref(words);
    return status;
}

/* Transfers text and spans to the caller. A span that the cut removed ends at the end of the text. */
static int hand_out(jinja_text *text, lckv_chat_text *out) {
    lckv_text_span *spans = text->span_count ? malloc(text->span_count * sizeof *spans) : NULL;
    REQUIRE(spans || !text->span_count, LCKV_ERROR_MEMORY, "no memory for a conversation");
    for (size_t i = 0; i < text->span_count; i++) {
        jinja_span s = text->spans[i];
        spans[i].first = s.first < text->bytes ? s.first : text->bytes;
        spans[i].end = s.end < text->bytes ? s.end : text->bytes;
    }
    *out = (lckv_chat_text){text->text, text->bytes, spans, (int)text->span_count};
    text->text = NULL;
    return LCKV_OK;
}

int lckv_chat_template_render(const lckv_chat_template *t, const lckv_chat *given, lckv_chat_text *out) {
    jinja_text text = {0};
    lckv_chat chat;
    *out = (lckv_chat_text){0};
    TRY(OPTIONS_TAKE(&chat, given, lckv_chat_defaults));
    json_t *variables = json_object();
    REQUIRE(variables, LCKV_ERROR_MEMORY, "no memory for a conversation");
    int status = make_variables(t, &chat, variables);
    if (status >= 0) status = render(t, &chat, variables, &text);
    if (status >= 0) status = hand_out(&text, out);
    jinja_text_free(&text);
    json_decref(variables);
    return status;
}

void lckv_chat_text_free(lckv_chat_text *text) {
    if (!text) return;
    free(text->text);
    free(text->assistant);
    *text = (lckv_chat_text){0};
}
