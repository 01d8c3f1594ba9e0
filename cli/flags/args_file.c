/* Files of flags; see args_file.h. */
#include "args_file.h"
#include "cli/input.h"
#include "cli/output/output.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 20 };

static void add_word(flag_list *words, char *word) {
    words->items = need(realloc(words->items, (size_t)(words->count + 1) * sizeof *words->items));
    words->items[words->count++] = word;
}

/* ---------------------------------------------------------------- JSON */

static void add_json_word(flag_list *words, const char *name, const char *value) {
    size_t bytes = strlen(name) + strlen(value) + sizeof "--=";
    char *word = need(malloc(bytes));
    snprintf(word, bytes, "--%s=%s", name, value);
    add_word(words, word);
}

static void add_json(flag_list *words, const char *name, const json_t *value) {
    size_t index;
    json_t *item;
    if (json_is_null(value)) return;
    if (json_is_array(value)) {
        json_array_foreach(value, index, item) add_json(words, name, item);
    } else if (json_is_string(value)) {
        add_json_word(words, name, json_string_value(value));
    } else if (json_is_boolean(value)) {
        add_json_word(words, name, json_is_true(value) ? "True" : "False");
    } else {
        char *text = need(json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY));
        add_json_word(words, name, text);
        free(text);
    }
}

static int read_json(const char *command, const char *path, const char *text, flag_list *words) {
    json_error_t error;
    json_t *object = parse_json(text, strlen(text), JSON_REJECT_DUPLICATES, &error), *value;
    const char *name;
    int code = EXIT_FINE;
    if (!object)
        code = usage_error(command, "'%s', line %d: %s", path, error.line, error.text);
    else if (!json_is_object(object))
        code = usage_error(command, "'%s': expected a JSON object of flags and values", path);
    else
        json_object_foreach(object, name, value) add_json(words, name, value);
    json_decref(object);
    return code;
}

/* ---------------------------------------------------------------- text */

/* State of the lexer. The current word is at `word` and has `length` bytes so far. */
typedef struct lexer {
    const char *at;
    int line;
    char *word; /* as long as the whole text */
    size_t length;
    bool started;  /* a word has started; "" is a word too */
    bool in_flags; /* the first flag has been reached; earlier words are skipped */
} lexer;

static const char NO_SUBSTITUTION[] = "substitutions with $ or ` are not supported; write the value";

static void put(lexer *l, char c) {
    l->word[l->length++] = c;
    l->started = true;
    l->in_flags |= l->length == 3 && l->word[0] == '-' && l->word[1] == '-';
}

static void end_word(lexer *l, flag_list *words) {
    if (l->started && l->in_flags) {
        char *word = need(malloc(l->length + 1));
        memcpy(word, l->word, l->length);
        word[l->length] = '\0';
        add_word(words, word);
    }
    l->length = 0;
    l->started = false;
}

/* A backslash escape. Inside double quotes it escapes only characters that are special there. */
static void read_escape(lexer *l, bool quoted) {
    char next = l->at[1];
    if (next == '\n') {
        l->line++;
    } else if (quoted && (!next || !strchr("\"\\$`", next))) {
        put(l, '\\');
        l->at++;
        return;
    } else if (next) {
        put(l, next);
    }
    l->at += next ? 2 : 1;
}

/* Returns an error for shell substitutions, else NULL. */
static const char *read_quoted(lexer *l) {
    char quote = *l->at++;
    l->started = true;
    while (*l->at && *l->at != quote) {
        if (l->in_flags && quote == '"' && (*l->at == '$' || *l->at == '`')) return NO_SUBSTITUTION;
        if (quote == '"' && *l->at == '\\') {
            read_escape(l, true);
            continue;
        }
        l->line += *l->at == '\n';
        put(l, *l->at++);
    }
    if (!*l->at) return "unterminated quote";
    l->at++;
    return NULL;
}

static const char *read_character(lexer *l, flag_list *words) {
    char c = *l->at;
    if (c == '"' || c == '\'') return read_quoted(l);
    if (c == '\\') {
        read_escape(l, false);
        return NULL;
    }
    if (l->in_flags && (c == '$' || c == '`')) return NO_SUBSTITUTION;
    if (strchr(" \t\r\n", c)) {
        end_word(l, words);
        l->line += c == '\n';
    } else if (c == '#' && !l->started) {
        l->at += strcspn(l->at, "\n");
        return NULL;
    } else {
        put(l, c);
    }
    l->at++;
    return NULL;
}

static int read_text(const char *command, const char *path, const char *text, flag_list *words) {
    flag_list found = {0}; /* words of this file only */
    lexer l = {.at = text, .line = 1, .word = need(malloc(strlen(text) + 1))};
    const char *error = NULL;
    while (*l.at && !error) error = read_character(&l, &found);
    if (!error) end_word(&l, &found);
    for (int i = 0; i < found.count; i++) add_word(words, found.items[i]);
    free(found.items);
    free(l.word);
    if (error) return usage_error(command, "'%s', line %d: %s", path, l.line, error);
    if (!found.count)
        return usage_error(
            command, "'%s': expected flags (--NAME VALUE), found none; a JSON object is read from a .json file", path);
    return EXIT_FINE;
}

/* ---------------------------------------------------------------- files */

int args_file_read(const char *command, const char *path, flag_list *words) {
    size_t bytes, length = strlen(path);
    bool json = length > 5 && !strcmp(path + length - 5, ".json");
    char why[INPUT_REASON_BYTES], *text = read_input(path, MAX_FILE_BYTES, &bytes, why);
    if (!text) return usage_error(command, "cannot read '%s': %s", path, why);
    int code = strlen(text) == bytes ? (json ? read_json : read_text)(command, path, text, words)
                                     : usage_error(command, "'%s' is not a text file", path);
    free(text);
    return code;
}
