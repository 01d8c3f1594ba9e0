/* Questions for the chat command `example NAME`: built-in ones, and those of a JSON or YAML file.
 *
 * Only a small part of YAML is supported: NAME: TEXT, or NAME: followed by a line with an indented "text: TEXT". Texts
 * may be quoted, # starts a comment line, and all entries may be nested under "examples:". Anything else is an error.
 */
#include "cli/chat/chat.h"
#include "cli/flags/flags.h"
#include "cli/input.h"
#include "cli/output/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char BUILT_IN[] = "{\"story\": \"Tell me a short story about a cat who lives in a lighthouse.\","
                               " \"explain\": \"Explain in three sentences why the sky is blue.\","
                               " \"list\": \"Name five things that one should pack for a week in the mountains.\","
                               " \"code\": \"Write a C function that reverses a string in place.\","
                               " \"translate\": \"Translate into French: Where is the nearest train station?\"}";

static bool add_example(json_t *to, const char *name, const json_t *value) {
    if (json_is_object(value)) value = json_object_get(value, "text");
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) return false;
    json_object_set(to, name, (json_t *)(uintptr_t)value);
    return true;
}

static int add_json(const char *command, const char *path, json_t *root, json_t *to) {
    const json_t *all = json_object_get(root, "examples");
    const char *name;
    json_t *value;
    if (!json_is_object(all)) all = root;
    if (!json_is_object(all)) return failure(command, "%s: expected an object of examples", path);
    json_object_foreach((json_t *)(uintptr_t)all, name, value) {
        if (!add_example(to, name, value))
            return failure(command, "%s: '%s': expected a string without NUL, or an object with such a 'text'", path,
                           name);
    }
    return EXIT_FINE;
}

/* ---- YAML */

typedef struct yaml {
    const char *command, *path;
    json_t *to;
    char *name; /* name of the entry whose text: is still missing; NULL: none */
    int line;
} yaml;

static int unexpected(const yaml *y, const char *expected) {
    return failure(y->command, "%s: line %d: expected %s", y->path, y->line, expected);
}

/* Returns a scalar, unquoted in place; \n and '' in quotes are unescaped. */
static char *scalar(char *text) {
    char quote = *text, *from = text + 1, *to = text;
    size_t length = strlen(text);
    while (length && strchr(" \t\r\n", text[length - 1])) text[--length] = 0;
    if ((quote != '"' && quote != '\'') || length < 2 || text[length - 1] != quote) return text;
    text[length - 1] = 0;
    for (; *from; from++) {
        if (quote == '\'' && from[0] == '\'' && from[1] == '\'') from++;
        if (quote == '"' && from[0] == '\\' && from[1]) {
            from++;
            *to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
    return text;
}

static int add_pair(yaml *y, const char *name, const char *text) {
    if (*text == '|' || *text == '>' || *text == '{' || *text == '[' || *text == '&' || *text == '*')
        return unexpected(y, "a text on one line");
    json_t *value = json_string(text);
    if (!value) return unexpected(y, "UTF-8");
    json_object_set_new(y->to, name, value);
    return EXIT_FINE;
}

static int read_yaml_line(yaml *y, char *line) {
    size_t indent = strspn(line, " ");
    char *name = line + indent, *colon = strchr(name, ':');
    if (!*scalar(name) || *name == '#' || !strcmp(name, "---")) return EXIT_FINE;
    if (!colon || (colon[1] && colon[1] != ' ')) return unexpected(y, "NAME: TEXT");
    *colon = 0;
    char *text = scalar(colon + 1 + strspn(colon + 1, " "));
    name = scalar(name);
    if (*text) {
        bool of_entry = y->name && indent && !strcmp(name, "text");
        int code = add_pair(y, of_entry ? y->name : name, text);
        free(y->name);
        y->name = NULL;
        return code;
    }
    free(y->name);
    y->name = strcmp(name, "examples") || indent ? need(strdup(name)) : NULL;
    return EXIT_FINE;
}

static int add_yaml(const char *command, const char *path, char *text, json_t *to) {
    yaml y = {.command = command, .path = path, .to = to};
    int code = EXIT_FINE;
    for (char *line = text, *next; line && !code; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        y.line++;
        code = read_yaml_line(&y, line);
    }
    free(y.name);
    return code;
}

/* ---- files */

int chat_examples_read(const char *command, const char *path, json_t **out) {
    json_error_t error;
    *out = need(json_loads(BUILT_IN, 0, NULL));
    if (!path) return EXIT_FINE;
    size_t bytes;
    char why[INPUT_REASON_BYTES], *text = read_input(path, SIZE_MAX, &bytes, why);
    if (!text) return failure(command, "cannot read '%s': %s", path, why);
    bool json = text[strspn(text, " \t\r\n")] == '{';
    json_t *root = json ? parse_json(text, strlen(text), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error) : NULL;
    int code = json && !root ? failure(command, "%s: line %d: not JSON: %s", path, error.line, error.text)
               : json        ? add_json(command, path, root, *out)
                             : add_yaml(command, path, text, *out);
    json_decref(root);
    free(text);
    return code;
}
