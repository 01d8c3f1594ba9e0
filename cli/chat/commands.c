/* The commands of lckv chat, as trl's chat has them. A line is a command where all of it has a command's form, and
 * whatever begins with a slash; one that begins with a space is always said. */
#include "cli/chat/chat.h"
#include "cli/flags.h"
#include "cli/output.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What may stand behind a command's name for a line without a slash to be one. SLASHED: only the slash makes it one. */
typedef enum form { ALONE, SLASHED, MAYBE_WORD, WORD, SETTINGS, TEXT } form;

typedef struct command {
    const char *name;
    form form;
    const char *shown, *help; /* NULL: another name of a command that is shown */
    chat_verdict (*run)(chat *c, const char *rest, const char **message);
} command;

static const command COMMANDS[];

/* ---- settings */

typedef struct setting {
    const char *name;
    size_t offset; /* in chat_settings */
    bool whole;
    double min, max;
} setting;

#define SETTING(name, member, whole, min, max)                                                                         \
    { name, offsetof(chat_settings, member), whole, min, max }

static const setting SETTINGS_KNOWN[] = {SETTING("temperature", temperature, false, 0, 1e6),
                                         SETTING("top_k", top_k, true, 0, INT32_MAX),
                                         SETTING("k", top_k, true, 0, INT32_MAX),
                                         SETTING("top_p", top_p, false, 0, 1),
                                         SETTING("p", top_p, false, 0, 1),
                                         SETTING("min_p", min_p, false, 0, 1),
                                         SETTING("repetition_penalty", repetition_penalty, false, 1e-3, 1e3),
                                         SETTING("max_new_tokens", max_new_tokens, true, 1, 1e9),
                                         SETTING("seed", seed, true, 0, 9e15)};

static const setting *find_setting(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof SETTINGS_KNOWN / sizeof *SETTINGS_KNOWN; i++)
        if (strlen(SETTINGS_KNOWN[i].name) == length && !memcmp(SETTINGS_KNOWN[i].name, name, length))
            return &SETTINGS_KNOWN[i];
    return NULL;
}

/* One K=V of `length` bytes. */
static bool apply_setting(const char *text, size_t length, chat_settings *to) {
    const char *equals = memchr(text, '=', length);
    const setting *s = equals ? find_setting(text, (size_t)(equals - text)) : NULL;
    char value[64], *end;
    if (!s) {
        notice("set: there is no '%.*s'; what there is: temperature, top_k, top_p, min_p, repetition_penalty, "
               "max_new_tokens, seed",
               (int)length, text);
        return false;
    }
    size_t bytes = length - (size_t)(equals - text) - 1;
    bytes = bytes < sizeof value ? bytes : sizeof value - 1;
    memcpy(value, equals + 1, bytes);
    value[bytes] = 0;
    errno = 0;
    double number = strtod(value, &end);
    if (!bytes || *end || errno || !(number >= s->min && number <= s->max) || (s->whole && number != floor(number))) {
        notice("set: %s should be %s from %g to %g, found '%s'", s->name, s->whole ? "a whole number" : "a number",
               s->min, s->max, value);
        return false;
    }
    if (s->whole)
        *(int64_t *)((char *)to + s->offset) = (int64_t)number;
    else
        *(double *)((char *)to + s->offset) = number;
    return true;
}

/* All of K=V;K=V, or nothing. */
static chat_verdict run_set(chat *c, const char *rest, const char **message) {
    (void)message;
    chat_settings changed = c->settings;
    if (!*rest) notice("set: what? set temperature=0.5;top_p=0.9");
    for (const char *at = rest; *at; at += *at == ';') {
        at += strspn(at, " ");
        size_t length = strcspn(at, ";"), bare = length;
        while (bare && at[bare - 1] == ' ') bare--;
        if (bare && !apply_setting(at, bare, &changed)) return CHAT_DONE;
        at += length;
    }
    c->settings = changed;
    return CHAT_DONE;
}

/* ---- the conversation */

static void begin_anew(chat *c) {
    chat_clear(c);
    notice("A new conversation.");
}

static chat_verdict run_clear(chat *c, const char *rest, const char **message) {
    (void)rest, (void)message;
    begin_anew(c);
    return CHAT_DONE;
}

static void set_system_prompt(chat *c, const char *text) {
    free(c->system_prompt);
    c->system_prompt = text && *text ? need(strdup(text)) : NULL;
}

static chat_verdict run_reset(chat *c, const char *rest, const char **message) {
    (void)rest, (void)message;
    c->settings = c->initial;
    set_system_prompt(c, c->initial_system_prompt);
    begin_anew(c);
    return CHAT_DONE;
}

static chat_verdict run_system(chat *c, const char *rest, const char **message) {
    (void)message;
    set_system_prompt(c, rest);
    begin_anew(c);
    return CHAT_DONE;
}

static json_t *settings_json(const chat_settings *s) {
    return json_pack("{s:I, s:f, s:I, s:f, s:f, s:f, s:I}", "max_new_tokens", (json_int_t)s->max_new_tokens,
                     "temperature", s->temperature, "top_k", (json_int_t)s->top_k, "top_p", s->top_p, "min_p", s->min_p,
                     "repetition_penalty", s->repetition_penalty, "seed", (json_int_t)s->seed);
}

static chat_verdict run_save(chat *c, const char *rest, const char **message) {
    (void)message;
    char name[64];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(name, sizeof name, "chat_%Y-%m-%d_%H-%M-%S.json", &local);
    const char *path = *rest ? rest : name;
    json_t *messages = need(json_array());
    if (c->system_prompt)
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content", c->system_prompt));
    json_array_extend(messages, c->messages);
    json_t *all = need(json_pack("{s:s, s:o, s:o}", "model", c->model_name, "settings", settings_json(&c->settings),
                                 "messages", messages));
    char *text = need(json_dumps(all, JSON_INDENT(2)));
    if (write_file("chat", path, text) == EXIT_FINE) notice("Saved in %s", path);
    free(text);
    json_decref(all);
    return CHAT_DONE;
}

static chat_verdict run_example(chat *c, const char *rest, const char **message) {
    const char *name;
    json_t *text;
    *message = json_string_value(json_object_get(c->examples, rest));
    if (*message) return CHAT_SAY;
    notice("example: there is no '%s'; what there is:", rest);
    json_object_foreach(c->examples, name, text) notice("  %-12s %.60s", name, json_string_value(text));
    return CHAT_DONE;
}

static chat_verdict run_help(chat *c, const char *rest, const char **message) {
    (void)c, (void)rest, (void)message;
    for (const command *known = COMMANDS; known->name; known++)
        if (known->shown) notice("  %-30s %s", known->shown, known->help);
    notice("Each also with a / before it. A line that begins with a space is said as it is.");
    return CHAT_DONE;
}

static chat_verdict run_exit(chat *c, const char *rest, const char **message) {
    (void)c, (void)rest, (void)message;
    return CHAT_EXIT;
}

static const command COMMANDS[] = {
    {"clear", ALONE, "clear", "forgets what was said", run_clear},
    {"help", ALONE, "help", "this", run_help},
    {"set", SETTINGS, "set temperature=0.5;top_p=0.9", "how answers are sampled", run_set},
    {"reset", ALONE, "reset", "forgets what was said and set", run_reset},
    {"save", MAYBE_WORD, "save [FILE]", "writes conversation and settings as JSON", run_save},
    {"example", WORD, "example NAME", "asks a question from the list; one that is not there shows the list",
     run_example},
    {"system", TEXT, "system TEXT", "begins anew with this system prompt; /system alone: with none", run_system},
    {"exit", ALONE, "exit, quit", "ends, as /bye and Ctrl-D do", run_exit},
    {"quit", ALONE, NULL, NULL, run_exit},
    {"bye", SLASHED, NULL, NULL, run_exit},
    {0},
};

/* ---- lines */

static bool has_form(form wanted, bool slash, const char *rest) {
    bool one_word = *rest && !strchr(rest, ' ');
    switch (wanted) {
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

chat_verdict chat_read_line(chat *c, const char *line, const char **message) {
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
            notice("/%s: expected: %s", known->name, known->shown ? known->shown : known->name);
            return CHAT_DONE;
        }
    }
    if (!slash) return (*message)[strspn(*message, " \t")] ? CHAT_SAY : CHAT_DONE;
    notice("There is no command '%.*s'; help names those that there are. A line that begins with a space is said as it "
           "is.",
           (int)length + 1, line);
    return CHAT_DONE;
}
