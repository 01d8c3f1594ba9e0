/* The commands of lckv chat, as in trl chat. A line is a command if it starts with a slash or if the whole line has the
 * form of a command. A line that starts with a space is always a message. */
#include "cli/chat/chat.h"
#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "cli/output/string_json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The arguments that a line without a slash needs to be a command. */
typedef enum form {
    ALONE,      /* none */
    SLASHED,    /* none, and the slash is required */
    MAYBE_WORD, /* none or one word */
    WORD,       /* one word */
    SETTINGS,   /* a first word with '=' */
    TEXT        /* any text */
} form;

typedef struct command {
    const char *name;
    form form;
    const char *usage, *help; /* what `help` prints; NULL: another name of a listed command */
    chat_line_kind (*run)(chat *c, const char *rest, const char **message);
} command;

static const command COMMANDS[];

/* ---- settings */

typedef struct setting {
    const char *name;
    size_t offset;   /* offset in chat_settings */
    flag_type type;  /* FLAG_INT or FLAG_NUMBER */
    double min, max; /* range, both ends included */
} setting;

#define SETTING(name, member, type, min, max) {name, offsetof(chat_settings, member), type, min, max},
/* The parameter, and its flag as another name. */
#define SETTINGS_OF(name, KIND, in_request, in_generate, in_chat, valid_min, valid_max, valid, json_min, json_max,     \
                    flag, flag_min, flag_max, help)                                                                    \
    SETTING(#name, name, FLAG_##KIND, flag_min, flag_max) SETTING(#flag, name, FLAG_##KIND, flag_min, flag_max)

/* clang-format off */
static const setting SETTINGS_KNOWN[] = {
    SAMPLING_PARAMETERS(SETTINGS_OF)
    SETTING("max_new_tokens", max_new_tokens, FLAG_INT, 1, 1e9)
    SETTING("seed", seed, FLAG_INT, 0, 9e15)
};
/* clang-format on */

static const setting *find_setting(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof SETTINGS_KNOWN / sizeof *SETTINGS_KNOWN; i++)
        if (strlen(SETTINGS_KNOWN[i].name) == length && !memcmp(SETTINGS_KNOWN[i].name, name, length))
            return &SETTINGS_KNOWN[i];
    return NULL;
}

/* Applies one K=V of `length` bytes. Returns false after printing the error. */
static bool apply_setting(const char *text, size_t length, chat_settings *to) {
    const char *equals = memchr(text, '=', length);
    const setting *s = equals ? find_setting(text, (size_t)(equals - text)) : NULL;
    char value[64], *end;
    if (!s) {
#define NAME(name, ...) #name ", "
        notice("set: unknown setting '%.*s'; settings are " SAMPLING_PARAMETERS(NAME) "max_new_tokens, seed",
               (int)length, text);
        return false;
    }
    size_t bytes = length - (size_t)(equals - text) - 1;
    bytes = bytes < sizeof value ? bytes : sizeof value - 1;
    memcpy(value, equals + 1, bytes);
    value[bytes] = 0;
    errno = 0;
    double number = strtod(value, &end);
    bool whole = s->type == FLAG_INT;
    double max = fmin(s->max, 9e15); /* without a limit, the largest that is exact as an integer */
    if (!bytes || *end || errno || !(number >= s->min && number <= max) || (whole && number != floor(number))) {
        notice("set %s: expected %s from %g to %g, found '%s'", s->name, whole ? "an integer" : "a number", s->min, max,
               value);
        return false;
    }
    if (whole)
        *(int64_t *)((char *)to + s->offset) = (int64_t)number;
    else
        *(double *)((char *)to + s->offset) = number;
    return true;
}

/* Applies K=V;K=V. If one is wrong, none is applied. */
static chat_line_kind run_set(chat *c, const char *rest, const char **message) {
    (void)message;
    chat_settings changed = c->settings;
    if (!*rest) notice("set: expected settings such as temperature=0.5;top_p=0.9");
    for (const char *at = rest; *at; at += *at == ';') {
        at += strspn(at, " ");
        size_t length = strcspn(at, ";"), bare = length;
        while (bare && at[bare - 1] == ' ') bare--;
        if (bare && !apply_setting(at, bare, &changed)) return CHAT_EXECUTED;
        at += length;
    }
    c->settings = changed;
    return CHAT_EXECUTED;
}

/* ---- the conversation */

static void start_conversation(chat *c) {
    chat_clear(c);
    notice("New conversation.");
}

static chat_line_kind run_clear(chat *c, const char *rest, const char **message) {
    (void)rest, (void)message;
    start_conversation(c);
    return CHAT_EXECUTED;
}

static void set_system_prompt(chat *c, const char *text) {
    free(c->system_prompt);
    c->system_prompt = text && *text ? need(strdup(text)) : NULL;
}

static chat_line_kind run_reset(chat *c, const char *rest, const char **message) {
    (void)rest, (void)message;
    c->settings = c->initial_settings;
    set_system_prompt(c, c->initial_system_prompt);
    start_conversation(c);
    return CHAT_EXECUTED;
}

static chat_line_kind run_system(chat *c, const char *rest, const char **message) {
    (void)message;
    set_system_prompt(c, rest);
    start_conversation(c);
    return CHAT_EXECUTED;
}

#define JSON_OF_INT json_integer
#define JSON_OF_NUMBER json_real
#define ADD(name, KIND, ...) json_object_set_new(all, #name, JSON_OF_##KIND(s->name));

static json_t *settings_json(const chat_settings *s) {
    json_t *all = need(json_object());
    ADD(max_new_tokens, INT)
    SAMPLING_PARAMETERS(ADD)
    ADD(seed, INT)
    return all;
}

static chat_line_kind run_save(chat *c, const char *rest, const char **message) {
    (void)message;
    char name[64];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(name, sizeof name, "chat_%Y-%m-%d_%H-%M-%S.json", &local);
    const char *path = *rest ? rest : name;
    json_t *messages = need(json_array());
    if (c->system_prompt) {
        json_t *content = need(string_json(c->system_prompt, strlen(c->system_prompt)));
        json_array_append_new(messages, need(json_pack("{s:s, s:o}", "role", "system", "content", content)));
    }
    json_array_extend(messages, c->messages);
    json_t *all = need(json_pack("{s:o, s:o, s:o}", "model", string_json(c->model_name, strlen(c->model_name)),
                                 "settings", settings_json(&c->settings), "messages", messages));
    char *text = need(json_dumps(all, JSON_INDENT(2)));
    if (write_file("chat", path, text) == EXIT_FINE) notice("Saved to %s", path);
    free(text);
    json_decref(all);
    return CHAT_EXECUTED;
}

static chat_line_kind run_example(chat *c, const char *rest, const char **message) {
    const char *name;
    json_t *text;
    *message = json_string_value(json_object_get(c->examples, rest));
    if (*message) return CHAT_MESSAGE;
    notice("example: no example '%s'; examples are:", rest);
    json_object_foreach(c->examples, name, text) notice("  %-12s %.60s", name, json_string_value(text));
    return CHAT_EXECUTED;
}

static chat_line_kind run_help(chat *c, const char *rest, const char **message) {
    (void)c, (void)rest, (void)message;
    for (const command *known = COMMANDS; known->name; known++)
        if (known->usage) notice("  %-30s %s", known->usage, known->help);
    notice("All commands also work with a leading /. A line that starts with a space is sent as a message.");
    return CHAT_EXECUTED;
}

static chat_line_kind run_exit(chat *c, const char *rest, const char **message) {
    (void)c, (void)rest, (void)message;
    return CHAT_EXIT;
}

static const command COMMANDS[] = {
    {"clear", ALONE, "clear", "start a new conversation", run_clear},
    {"help", ALONE, "help", "show this list", run_help},
    {"set", SETTINGS, "set temperature=0.5;top_p=0.9", "change sampling settings", run_set},
    {"reset", ALONE, "reset", "start a new conversation with the original settings", run_reset},
    {"save", MAYBE_WORD, "save [FILE]", "save conversation and settings as JSON", run_save},
    {"example", WORD, "example NAME", "send an example question; an unknown name lists them", run_example},
    {"system", TEXT, "system TEXT", "start a new conversation with this system prompt; /system alone removes it",
     run_system},
    {"exit", ALONE, "exit, quit", "exit, like /bye and Ctrl-D", run_exit},
    {"quit", ALONE, NULL, NULL, run_exit},
    {"bye", SLASHED, NULL, NULL, run_exit},
    {0},
};

/* ---- reading lines */

static bool has_form(form expected, bool slash, const char *rest) {
    bool one_word = *rest && !strchr(rest, ' ');
    switch (expected) {
    case ALONE:
        return !*rest;
    case SLASHED:
        return slash && !*rest;
    case MAYBE_WORD:
        return !*rest || one_word;
    case WORD:
        return one_word;
    case SETTINGS:
        return strchr(rest, '=') && strcspn(rest, "=") < strcspn(rest, " ");
    default:
        return *rest;
    }
}

chat_line_kind chat_read_line(chat *c, const char *line, const char **message) {
    bool slash = *line == '/';
    const char *word = line + slash;
    size_t length = strcspn(word, " ");
    const char *rest = word + length + strspn(word + length, " ");
    *message = *line == ' ' ? line + 1 : line;
    for (const command *known = COMMANDS; known->name; known++) {
        if (strlen(known->name) != length || memcmp(known->name, word, length) != 0) continue;
        if (has_form(known->form, slash, rest)) return known->run(c, rest, message);
        bool bare_system = known->form == TEXT, bare_set = known->form == SETTINGS;
        if (slash && (bare_system || bare_set)) return known->run(c, rest, message);
        if (slash) {
            notice("/%s: expected: %s", known->name, known->usage ? known->usage : known->name);
            return CHAT_EXECUTED;
        }
    }
    if (!slash) return (*message)[strspn(*message, " \t")] ? CHAT_MESSAGE : CHAT_EXECUTED;
    notice("Unknown command '%.*s'; type help for a list. A line that starts with a space is sent as a message.",
           (int)length + 1, line);
    return CHAT_EXECUTED;
}
