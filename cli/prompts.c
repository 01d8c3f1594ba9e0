#include "prompts.h"
#include "cli/output/output.h"
#include "input.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static given_prompt *add(prompt_list *list) {
    given_prompt *items = need(realloc(list->items, (size_t)(list->count + 1) * sizeof *items));
    list->items = items;
    items[list->count] = (given_prompt){0};
    return &items[list->count++];
}

static int add_text(prompt_list *list, const char *text, size_t bytes) {
    given_prompt *p = add(list);
    p->text = need(malloc(bytes + 1));
    memcpy(p->text, text, bytes);
    p->text[bytes] = '\0';
    p->text_bytes = bytes;
    return EXIT_FINE;
}

int prompts_add_text(prompt_list *list, const char *name, const char *text, size_t bytes) {
    if (lckv_check_utf8(text, bytes) < 0)
        notice("warning: %s: %s: each ill-formed part is read as U+FFFD; convert text that is in another encoding",
               name, lckv_last_error());
    return add_text(list, text, bytes);
}

static int32_t *allocate_ids(given_prompt *p, size_t count) {
    p->ids = need(malloc(count * sizeof *p->ids + 1));
    return p->ids;
}

int prompts_add_ids(const char *command, prompt_list *list, const char *text) {
    given_prompt *p = add(list);
    allocate_ids(p, strlen(text));
    for (const char *at = text;;) {
        at += strspn(at, " ,\t\n");
        if (!*at) return EXIT_FINE;
        char *end;
        errno = 0;
        long long id = strtoll(at, &end, 10);
        bool ends = !*end || strchr(" ,\t\n", *end);
        if (end == at || !ends || errno || id < 0 || id > INT32_MAX)
            return usage_error(command, "expected token ids separated by commas, found \"%s\"", at);
        p->ids[p->count++] = (int32_t)id;
        at = end;
    }
}

/* ---------------------------------------------------------------- files */

static int add_json_ids(prompt_list *list, const json_t *ids) {
    given_prompt *p = add(list);
    allocate_ids(p, json_array_size(ids));
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value > INT32_MAX) return EXIT_FAILED;
        p->ids[p->count++] = (int32_t)value;
    }
    return EXIT_FINE;
}

static int add_json_prompt(prompt_list *list, const json_t *row) {
    const json_t *prompt = json_object_get(row, "prompt"), *ids = json_object_get(row, "input_ids");
    const json_t *words = prompt ? prompt : json_object_get(row, "text"), *messages = json_object_get(row, "messages");
    if (json_is_string(words)) return add_text(list, json_string_value(words), json_string_length(words));
    if (json_is_array(ids)) return add_json_ids(list, ids);
    if (!json_is_array(messages) || !list->takes_messages) return EXIT_FAILED;
    add(list)->messages = need(json_dumps(messages, JSON_COMPACT));
    return EXIT_FINE;
}

static int add_json_row(const char *command, prompt_list *list, const char *path, int line, const char *text,
                        size_t length) {
    json_error_t error;
    json_t *row = parse_json(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    int code = add_json_prompt(list, row);
    if (!row)
        failure(command, "%s, line %d: %s", path, line, error.text);
    else if (code)
        failure(command, "%s, line %d: expected an object with prompt, text or input_ids%s", path, line,
                list->takes_messages ? ", or messages" : "");
    json_decref(row);
    return code;
}

static int add_json_lines(const char *command, prompt_list *list, const char *path, const char *text, size_t bytes) {
    int line = 0, code = EXIT_FINE;
    for (const char *end = text + bytes; text < end && !code;) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((stop ? stop : end) - text);
        line++;
        bool empty = strspn(text, " \t\r") >= length;
        if (!empty) code = add_json_row(command, list, path, line, text, length);
        text += length + 1;
    }
    return code;
}

static bool is_json_lines(const char *path) {
    static const char *const ENDINGS[] = {".jsonl", ".ndjson", ".json"};
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        size_t length = strlen(path), tail = strlen(ENDINGS[i]);
        if (length >= tail && !strcmp(path + length - tail, ENDINGS[i])) return true;
    }
    return false;
}

int prompts_add_file(const char *command, prompt_list *list, const char *path, bool strip) {
    size_t bytes;
    char why[INPUT_REASON_BYTES], *text = read_input(path, SIZE_MAX, &bytes, why);
    if (!text) return failure(command, "cannot read '%s': %s", path, why);
    int code;
    if (is_json_lines(path)) {
        code = add_json_lines(command, list, path, text, bytes);
    } else {
        if (strip && bytes && text[bytes - 1] == '\n') bytes--;
        if (strip && bytes && text[bytes - 1] == '\r') bytes--;
        code = prompts_add_text(list, path, text, bytes);
    }
    free(text);
    return code;
}

/* ---------------------------------------------------------------- conversations */

bool prompts_have_messages(const prompt_list *list) {
    for (int i = 0; i < list->count; i++)
        if (list->items[i].messages) return true;
    return false;
}

int prompts_render(const char *command, prompt_list *list, const lckv_chat_template *chat_template) {
    lckv_chat chat = lckv_chat_defaults();
    lckv_chat_text rendered;
    chat.add_generation_prompt = true;
    for (int i = 0; i < list->count; i++) {
        given_prompt *p = &list->items[i];
        if (!p->messages) continue;
        chat.messages = p->messages;
        if (lckv_chat_template_render(chat_template, &chat, &rendered) < 0)
            return failure(command, "prompt %d: %s", i, lckv_last_error());
        p->text = need(malloc(rendered.bytes + 1));
        memcpy(p->text, rendered.text, rendered.bytes + 1);
        p->text_bytes = rendered.bytes;
        lckv_chat_text_free(&rendered);
    }
    return EXIT_FINE;
}

/* ---------------------------------------------------------------- ids */

bool prompts_have_text(const prompt_list *list) {
    for (int i = 0; i < list->count; i++)
        if (list->items[i].text || list->items[i].messages) return true;
    return false;
}

static int encode(lckv_tokenizer *tokenizer, given_prompt *p, const char *prefix, bool add_special_tokens) {
    if (p->messages) prefix = "", add_special_tokens = false;
    size_t prefix_bytes = strlen(prefix), count;
    char *text = need(malloc(prefix_bytes + p->text_bytes + 1));
    memcpy(text, prefix, prefix_bytes);
    memcpy(text + prefix_bytes, p->text, p->text_bytes);
    int status =
        lckv_tokenizer_encode(tokenizer, text, prefix_bytes + p->text_bytes, add_special_tokens, &p->ids, &count);
    free(text);
    p->count = status < 0 ? 0 : (int64_t)count;
    return status;
}

int prompts_encode(const char *command, prompt_list *list, lckv_tokenizer *tokenizer, const char *prefix,
                   bool add_special_tokens) {
    for (int i = 0; i < list->count; i++) {
        if (!list->items[i].text) continue;
        if (list->count == 1)
            progress(-1, "tokenizing");
        else if (progress_due())
            progress((double)i / list->count, "tokenizing text %d of %d", i + 1, list->count);
        int status = encode(tokenizer, &list->items[i], prefix, add_special_tokens);
        if (status < 0) return library_error(command, status);
    }
    progress_end();
    return EXIT_FINE;
}

void prompts_free(prompt_list *list) {
    for (int i = 0; i < list->count; i++) {
        free(list->items[i].text);
        free(list->items[i].messages);
        lckv_free(list->items[i].ids);
    }
    free(list->items);
    *list = (prompt_list){0};
}
