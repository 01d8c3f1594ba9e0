/* Error messages for words that are neither a flag of the command nor a value. */
#include "cli/output/output.h"
#include "command_line.h"
#include "flag_aliases.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_NAME = 63, MAX_ALIASES = 1024 };

/* ---------------------------------------------------------------- similar names */

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* Damerau-Levenshtein distance in which no substring is edited twice (optimal string alignment). */
static int edit_distance(const char *a, const char *b) {
    int rows[3][MAX_NAME + 1];
    int length_a = (int)strlen(a), length_b = (int)strlen(b);
    if (length_a > MAX_NAME || length_b > MAX_NAME) return MAX_NAME;
    for (int j = 0; j <= length_b; j++) rows[0][j] = j;
    for (int i = 1; i <= length_a; i++) {
        int *now = rows[i % 3], *before = rows[(i + 2) % 3], *twice_before = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= length_b; j++) {
            now[j] = smaller(before[j - 1] + (a[i - 1] != b[j - 1]), 1 + smaller(before[j], now[j - 1]));
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) now[j] = smaller(now[j], twice_before[j - 2] + 1);
        }
    }
    return rows[length_a % 3][length_b];
}

/* Whether `typed` consists of whole words of `name`: "train_batch_size" in "per_device_train_batch_size", but not
 * "device" in "devices". */
static bool is_part(const char *typed, const char *name) {
    size_t length = strlen(typed);
    for (const char *at = name; (at = strstr(at, typed)); at++) {
        bool starts_word = at == name || at[-1] == '_';
        if (starts_word && (!at[length] || at[length] == '_')) return true;
    }
    return false;
}

static const char *containing_name(const char *typed, const char *const *names) {
    size_t length = strlen(typed);
    if (length < 3) return NULL;
    for (const char *const *n = names; *n; n++)
        if (!strncmp(*n, typed, length)) return *n;
    for (const char *const *n = names; *n; n++)
        if (is_part(typed, *n)) return *n;
    return NULL;
}

static const char *misspelled_name(const char *typed, const char *const *names) {
    const char *best = NULL;
    int best_distance = smaller(((int)strlen(typed) + 1) / 3, 4) + 1;
    for (; *names; names++) {
        int distance = edit_distance(typed, *names);
        if (distance < best_distance) best = *names, best_distance = distance;
    }
    return best;
}

const char *nearest_name(const char *typed, const char *const *names) {
    const char *misspelled = misspelled_name(typed, names), *containing = containing_name(typed, names);
    bool one_edit = misspelled && edit_distance(typed, misspelled) < 2;
    return one_edit || !containing ? misspelled : containing;
}

/* The flag most similar to `name`, except those that the command refuses. */
static const char *nearest_flag(const flag_table *table, const char *name) {
    const char *names[MAX_FLAGS + 1];
    int count = 0;
    for (const flag *f = table->flags; f->name; f++) names[count++] = f->name;
    for (const foreign_flag *f = table->foreign; f && f->name; f++) {
        bool is_alias = f->alias_of && flag_find(table, f->alias_of, strlen(f->alias_of));
        if (is_alias || (!f->alias_of && !f->refused)) names[count++] = f->name;
    }
    names[count] = NULL;
    return nearest_name(name, names);
}

/* The alias that `name` is a misspelling of, or NULL. */
static const flag_alias *nearest_alias(const flag_table *table, const char *name) {
    char words[MAX_NAME + 1];
    const char *value, *const one[] = {words, NULL};
    for (const flag_alias *a = FLAG_ALIASES; a->typed; a++) {
        if (!flag_alias_meant(a, table, &value)) continue;
        for (const char *at = a->typed; *at; at += strspn(at, " ")) {
            size_t length = strcspn(at, " ");
            if (length <= MAX_NAME) snprintf(words, sizeof words, "%.*s", (int)length, at);
            if (length > 4 && misspelled_name(name, one)) return a;
            at += length;
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- unknown flags */

/* A flag as typed. Names have underscores and no leading dashes; letters keep their dash. */
typedef struct typed_flag {
    char *word;        /* as typed, up to the = */
    char *name;        /* [length of word + 1] */
    const char *value; /* its value; "..." if none was given */
} typed_flag;

static typed_flag take_flag(char **words, int count, int at) {
    const char *word = words[at], *equals = strchr(word, '='), *next = at + 1 < count ? words[at + 1] : NULL;
    size_t length = strcspn(word, "=");
    typed_flag t = {.word = need(strndup(word, length)), .name = need(strndup(word, length)), .value = "..."};
    bool letter = length == 2;
    if (!letter) memmove(t.name, t.name + strspn(t.name, "-"), length + 1 - strspn(t.name, "-"));
    for (char *c = t.name + letter; *c; c++)
        if (*c == '-') *c = '_';
    if (equals)
        t.value = equals + 1;
    else if (next && !flag_looks_like_one(next))
        t.value = next;
    return t;
}

/* Formats " VALUE" of an alias, up to '|', with the typed value filled in. */
static char *meant_value(const char *value, const typed_flag *typed) {
    size_t length = strcspn(value, "|"), max_bytes = 2 + length * (2 + strlen(typed->value) + strlen(typed->name));
    char *text = need(malloc(max_bytes)), *to = text;
    if (length) *to++ = ' ';
    for (size_t i = 0; i < length; i++) {
        if (value[i] == '*')
            to = stpcpy(to, typed->value);
        else if (value[i] == '@')
            to = stpcpy(to, typed->name);
        else
            *to++ = value[i];
    }
    *to = '\0';
    return text;
}

static int report_alias(const flag_table *table, const flag_alias *alias, const typed_flag *typed) {
    const char *value;
    const flag *meant = flag_alias_meant(alias, table, &value);
    if (!meant && !alias->why) return 0;
    if (!meant) return usage_error(table->command, "unknown flag \"%s\": %s", typed->word, alias->why);
    char *text = meant_value(value, typed);
    usage_error(table->command, "unknown flag \"%s\"; did you mean --%s%s?", typed->word, meant->name, text);
    free(text);
    return EXIT_USAGE;
}

/* Accepts one dash before a long name in the typed flag, as llama.cpp and argparse do. */
static int report_unknown_flag(const flag_table *table, const typed_flag *typed) {
    size_t length = strlen(typed->name);
    const flag_alias *alias = flag_alias_find(typed->name, length);
    if (!alias && typed->name[0] == '-') alias = flag_alias_find(typed->name + 1, length - 1);
    if (flag_find(table, typed->name, length)) alias = NULL;
    if (alias && report_alias(table, alias, typed)) return EXIT_USAGE;
    const char *nearest = alias ? NULL : nearest_flag(table, typed->name); /* an alias is not a misspelling */
    if (nearest) return usage_error(table->command, "unknown flag \"%s\"; did you mean --%s?", typed->word, nearest);
    if (!alias) alias = nearest_alias(table, typed->name);
    if (alias && report_alias(table, alias, typed)) return EXIT_USAGE;
    return usage_error(table->command, "unknown flag \"%s\"; see lckv help %s", typed->word, table->command);
}

/* ---------------------------------------------------------------- positional arguments */

/* The first flag in the table's `positional` that has not been given, or NULL. Text with spaces is meant for a flag
 * that takes a name only if such a file exists. */
static const flag *first_not_given(const flag_table *table, const char *word, const uint64_t *given) {
    bool not_a_name = strchr(word, ' ') && access(word, F_OK) != 0;
    for (const char *at = table->positional; at && *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        const flag *f = flag_find(table, at, length);
        size_t index = (size_t)(f - table->flags); /* each of them is a flag of the table */
        bool fits = !not_a_name || !strstr(f->name, "name");
        if (fits && !(given[index / 64] >> index % 64 & 1)) return f;
        at += length;
    }
    return NULL;
}

/* Joins the words from words[from] up to the next flag by spaces. */
static char *join_with_spaces(char **words, int count, int from) {
    size_t bytes = 1;
    int end = from;
    while (end < count && !flag_looks_like_one(words[end])) bytes += strlen(words[end++]) + 1;
    char *text = need(malloc(bytes)), *to = text;
    for (int i = from; i < end; i++) {
        if (i > from) *to++ = ' ';
        to = stpcpy(to, words[i]);
    }
    *to = '\0';
    return text;
}

/* Whether words[at] continues the value before it: a text or a path that should have been quoted. */
static bool continues_value(const flag_table *table, char **words, int count, int at) {
    if (at < 2 || strncmp(words[at - 2], "--", 2)) return false;
    const flag *f = flag_find(table, words[at - 2] + 2, strlen(words[at - 2] + 2));
    if (!f || (f->type != FLAG_TEXT && f->type != FLAG_TEXTS)) return false;
    if (f->type == FLAG_TEXTS || strstr(f->name, "text") || strstr(f->name, "prompt")) return true;
    char *path = join_with_spaces(words, count, at - 1);
    bool exists = access(path, F_OK) == 0;
    free(path);
    return exists;
}

static int report_unexpected_word(const flag_table *table, char **words, int count, int at, const uint64_t *given) {
    const char *word = words[at];
    const flag *meant = first_not_given(table, word, given);
    bool continues = continues_value(table, words, count, at);
    if (at == 0 && !strcmp(word, "help"))
        return usage_error(table->command, "unexpected argument \"help\"; did you mean lckv help %s?", table->command);
    if (!continues && !meant)
        return usage_error(table->command, "unexpected argument \"%s\"; each value follows its flag, see lckv help %s",
                           word, table->command);
    char *value = join_with_spaces(words, count, continues ? at - 1 : at);
    char *quoted = quoted_word(continues ? value : word);
    if (continues)
        usage_error(table->command, "unexpected argument \"%s\"; did you mean %s %s?", word, words[at - 2], quoted);
    else
        usage_error(table->command, "unexpected argument \"%s\"; did you mean --%s %s?", word, meant->name, quoted);
    free(value);
    free(quoted);
    return EXIT_USAGE;
}

/* Dashes that word processors and web pages use instead of hyphens: en dash, em dash, minus sign. */
static size_t printed_dash(const char *word) {
    bool dash = !strncmp(word, "\xE2\x80\x93", 3) || !strncmp(word, "\xE2\x80\x94", 3) ||
                !strncmp(word, "\xE2\x88\x92", 3) || !strncmp(word, "\xE2\x80\x90", 3);
    return dash ? 3 : 0;
}

int flag_unknown(const flag_table *table, char **words, int count, int at, const uint64_t *given) {
    const char *word = words[at];
    size_t dash = printed_dash(word);
    if (dash && word[dash] && !isspace((unsigned char)word[dash])) {
        const char *name = word + dash + strspn(word + dash, "-");
        return usage_error(table->command, "unexpected argument \"%s\": a flag begins with two hyphens, --%s", word,
                           name + (printed_dash(name) ? 3 : 0));
    }
    if (!flag_looks_like_one(word) || !strcmp(word, "--"))
        return report_unexpected_word(table, words, count, at, given);
    typed_flag typed = take_flag(words, count, at);
    int code = report_unknown_flag(table, &typed);
    free(typed.word);
    free(typed.name);
    return code;
}
