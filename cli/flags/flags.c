/* Parses flags into a command's struct. See also flags_help.c (help), flags_unknown.c (errors for unknown words),
 * args_file.c (files of flags) and foreign_flags.c (flags without effect). */
#include "flags.h"
#include "args_file.h"
#include "cli/output/output.h"
#include "flag_aliases.h"
#include "foreign_flags.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *word;
    bool value;
} SWITCH_WORDS[] = {{"true", true}, {"false", false}, {"yes", true}, {"no", false}, {"1", true}, {"0", false}};

static char *copy_text(const char *text, size_t length) {
    char *copy = need(malloc(length + 1));
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

static void list_add(flag_list *list, const char *text, size_t length) {
    char **items = need(realloc(list->items, (size_t)(list->count + 1) * sizeof *items));
    items[list->count++] = copy_text(text, length);
    list->items = items;
}

/* `-` and `_` are equal; case matters. */
static bool same_name(const char *name, const char *typed, size_t length) {
    for (size_t i = 0; i < length; i++) {
        char c = typed[i] == '-' ? '_' : typed[i];
        if (name[i] != c) return false;
    }
    return name[length] == '\0';
}

const flag *flag_find(const flag_table *table, const char *name, size_t length) {
    for (const flag *f = table->flags; f->name; f++)
        if (same_name(f->name, name, length) || (f->former && same_name(f->former, name, length))) return f;
    return NULL;
}

static const foreign_flag *find_foreign(const flag_table *table, const char *typed, size_t length) {
    for (const foreign_flag *f = table->foreign; f && f->name; f++)
        if (same_name(f->name, typed, length)) return f;
    return NULL;
}

static bool parse_switch(const char *text, bool *value) {
    for (size_t i = 0; i < sizeof SWITCH_WORDS / sizeof *SWITCH_WORDS; i++) {
        const char *a = text, *b = SWITCH_WORDS[i].word;
        while (*a && tolower((unsigned char)*a) == *b) a++, b++;
        if (*a || *b) continue;
        *value = SWITCH_WORDS[i].value;
        return true;
    }
    return false;
}

/* Parses a decimal number; the whole text must match. strtod() alone also accepts "inf", "0x10" and leading spaces. */
static bool parse_number(const char *text, double *value) {
    if (!*text || text[strspn(text, "0123456789+-.eE")]) return false;
    char *end;
    *value = strtod(text, &end);
    return !*end && isfinite(*value);
}

static bool is_integer(const char *text) {
    double number;
    return parse_number(text, &number) && number == floor(number);
}

/* false: `text` is an integer that does not fit, or one with an exponent that is not exact. */
static bool parse_int(const char *text, int64_t *value) {
    char *end;
    errno = 0;
    long long exact = strtoll(text, &end, 10); /* a double would round seeds above 2^53 */
    double number = strtod(text, NULL);
    bool fits = *end ? fabs(number) <= 0x1p53 : !errno;
    if (fits) *value = *end ? (int64_t)number : exact;
    return fits;
}

/* The index of `text` in "a|b|c"; -1: not found. */
static int parse_choice(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (int i = 0;; i++) {
        size_t span = strcspn(choices, "|");
        if (span == length && !memcmp(choices, text, span)) return i;
        if (!choices[span]) return -1;
        choices += span + 1;
    }
}

/* Returns the present name of a choice that was typed by its former name, else `text` itself. */
static const char *present_choice(const flag *f, const char *text) {
    size_t length = f->former_choice ? strcspn(f->former_choice, "=") : 0;
    bool former = length && strlen(text) == length && !memcmp(f->former_choice, text, length);
    return former ? f->former_choice + length + 1 : text;
}

/* A limit in full digits if it is an integer: 1048576, not 1.04858e+06. */
static void show_limit(char *out, size_t bytes, double limit) {
    snprintf(out, bytes, limit == floor(limit) && fabs(limit) <= 0x1p53 ? "%.0f" : "%g", limit);
}

static int range_error(const flag_table *table, const flag *f, const char *text) {
    char low[32], high[32];
    show_limit(low, sizeof low, f->min);
    show_limit(high, sizeof high, f->max);
    if (isinf(f->max)) return usage_error(table->command, "--%s: expected at least %s, found %s", f->name, low, text);
    return usage_error(table->command, "--%s: expected a number from %s to %s, found %s", f->name, low, high, text);
}

static int set_number(const flag_table *table, const flag *f, const char *text, void *target) {
    double number = 0;
    if (f->type == FLAG_INT) {
        if (!is_integer(text))
            return usage_error(table->command, "--%s: expected an integer, found \"%s\"", f->name, text);
        if (!parse_int(text, target))
            return usage_error(table->command, "--%s: expected an integer of at most 64 bits, found %s", f->name, text);
        number = (double)*(int64_t *)target;
    } else {
        if (!parse_number(text, &number))
            return usage_error(table->command, "--%s: expected a number, found \"%s\"", f->name, text);
        *(double *)target = number;
    }
    bool limited = f->min != 0 || f->max != 0;
    if (limited && (number < f->min || number > f->max)) return range_error(table, f, text);
    return 0;
}

/* Adds the parts of `text`, separated by spaces and commas. */
static void add_parts(flag_list *list, const char *text) {
    for (;;) {
        text += strspn(text, " ,\t\n");
        size_t length = strcspn(text, " ,\t\n");
        if (!length) return;
        list_add(list, text, length);
        text += length;
    }
}

/* Whether a file named by `word`, or by its part before ":WEIGHT", exists. */
static bool names_file(const char *word, size_t length) {
    char *path = copy_text(word, length), *colon;
    bool there = access(path, F_OK) == 0;
    if (!there && (colon = strrchr(path, ':'))) {
        *colon = '\0';
        there = access(path, F_OK) == 0;
    }
    free(path);
    return there;
}

static bool all_name_files(const char *text, size_t length) {
    for (size_t at = 0; at < length; at++) {
        size_t span = strcspn(text + at, " ");
        if (at + span > length) span = length - at;
        if (span && !names_file(text + at, span)) return false;
        at += span;
    }
    return true;
}

/* Adds the paths in a word: a single path if such a file exists, otherwise several separated by commas. Spaces belong
 * to a path, except around commas. */
static int add_files(const flag_table *table, const flag *f, const char *text, flag_list *list) {
    if (names_file(text, strlen(text))) {
        list_add(list, text, strlen(text));
        return 0;
    }
    for (const char *at = text; *at; at += *at == ',') {
        at += strspn(at, " \t\n");
        size_t span = strcspn(at, ","), length = span;
        while (length && strchr(" \t\n", at[length - 1])) length--;
        bool spaces = memchr(at, ' ', length) && !names_file(at, length);
        if (spaces && all_name_files(at, length))
            return usage_error(
                table->command,
                "--%s: no file \"%.*s\"; for several files, leave out the quotes or separate them by commas", f->name,
                (int)length, at);
        if (length) list_add(list, at, length);
        at += span;
    }
    return 0;
}

static int switch_error(const flag_table *table, const char *name, const char *text) {
    return usage_error(table->command, "--%s: expected True, False or no value, found \"%s\"", name, text);
}

static int set_value(const flag_table *table, const flag *f, const char *text, void *values) {
    void *target = (char *)values + f->offset;
    switch (f->type) {
    case FLAG_TEXT:
        *(const char **)target = text;
        return 0;
    case FLAG_TEXTS:
    case FLAG_IDS:
    case FLAG_PAIR:
        list_add(target, text, strlen(text));
        return 0;
    case FLAG_LIST:
        add_parts(target, text);
        return 0;
    case FLAG_FILES:
        return add_files(table, f, text, target);
    case FLAG_FILE: /* filled by args_file_read() */
        return 0;
    case FLAG_INT:
    case FLAG_NUMBER:
        return set_number(table, f, text, target);
    case FLAG_SWITCH:
        if (parse_switch(text, target)) return 0;
        return switch_error(table, f->name, text);
    case FLAG_CHOICE:
        *(int *)target = parse_choice(f->choices, present_choice(f, text));
        if (*(int *)target >= 0) return 0;
        return usage_error(table->command, "--%s: expected one of %s, found \"%s\"", f->name, f->choices, text);
    }
    return 0;
}

/* State of parsing: the table, the flags given so far, and the words being parsed. */
typedef struct parser {
    const flag_table *table;
    void *values;
    uint64_t given[MAX_FLAGS / 64];   /* bit i: flag i of the table has been given */
    uint64_t here[MAX_FLAGS / 64];    /* flags given by `words`, not by a file of flags before them */
    uint64_t foreign[MAX_FLAGS / 64]; /* bit i: foreign flag i has been given */
    char **words;
    int count, at;
} parser;

static bool add_bit(uint64_t *bits, size_t index) {
    bool had = bits[index / 64] >> index % 64 & 1;
    bits[index / 64] |= (uint64_t)1 << index % 64;
    return had;
}

static bool is_list(flag_type type) {
    return type == FLAG_TEXTS || type == FLAG_LIST || type == FLAG_FILES || type == FLAG_IDS || type == FLAG_FILE ||
           type == FLAG_PAIR;
}

static void clear_list(const flag *f, void *values) {
    flag_list *list = (flag_list *)((char *)values + f->offset);
    for (int i = 0; i < list->count; i++) free(list->items[i]);
    free(list->items);
    *list = (flag_list){0};
}

bool flag_looks_like_one(const char *word) {
    return word[0] == '-' && (word[1] == '-' || isalpha((unsigned char)word[1]));
}

/* Joins the words up to the next flag by commas. NULL if there are none. */
static char *join_words(parser *r) {
    size_t length = 0;
    int first = r->at + 1, end = first;
    while (end < r->count && !flag_looks_like_one(r->words[end])) length += strlen(r->words[end++]) + 1;
    if (end == first) return NULL;
    char *joined = need(malloc(length + 1));
    joined[0] = '\0';
    for (int i = first; i < end; i++) {
        if (i > first) strcat(joined, ",");
        strcat(joined, r->words[i]);
    }
    r->at = end - 1;
    return joined;
}

/* Returns the value of the flag at words[at] and advances `at` to the last word used; without a value, uses `implicit`.
 * Release *owned with free(). */
static int take_value(parser *r, const char *name, flag_type type, const char *implicit, const char **value,
                      char **owned) {
    const char *command = r->table->command, *equals = strchr(r->words[r->at], '=');
    const char *next = r->at + 1 < r->count ? r->words[r->at + 1] : NULL;
    bool ignored;
    *owned = NULL;
    *value = equals ? equals + 1 : next;
    if (equals) return 0;
    if (type == FLAG_SWITCH) {
        if (next && parse_switch(next, &ignored))
            r->at++;
        else
            *value = "True";
        return 0;
    }
    if (type == FLAG_LIST || type == FLAG_IDS) {
        *value = *owned = join_words(r);
        return *owned ? 0 : usage_error(command, "--%s: expected a value", name);
    }
    if (implicit && (!next || flag_looks_like_one(next))) {
        *value = implicit;
        return 0;
    }
    if (!next) return usage_error(command, "--%s: expected a value", name);
    if (flag_looks_like_one(next))
        return usage_error(command, "--%s: expected a value (if the value is \"%s\", write --%s=%s)", name, next, name,
                           next);
    r->at++;
    return 0;
}

/* Takes the second word of a pair. */
static int take_second(parser *r, const flag *f) {
    flag_list *list = (flag_list *)((char *)r->values + f->offset);
    if (r->at + 1 >= r->count || flag_looks_like_one(r->words[r->at + 1]))
        return usage_error(r->table->command, "--%s: expected two values: %s", f->name, f->value);
    r->at++;
    list_add(list, r->words[r->at], strlen(r->words[r->at]));
    return 0;
}

/* Takes the words up to the next flag, or the text after `=`. */
static int take_files(parser *r, const flag *f) {
    flag_list *list = (flag_list *)((char *)r->values + f->offset);
    const char *equals = strchr(r->words[r->at], '=');
    int first = r->at, code = equals ? add_files(r->table, f, equals + 1, list) : 0;
    while (!equals && !code && r->at + 1 < r->count && !flag_looks_like_one(r->words[r->at + 1]))
        code = add_files(r->table, f, r->words[++r->at], list);
    if (!equals && r->at == first) return usage_error(r->table->command, "--%s: expected a value", f->name);
    return code;
}

static int take_one(parser *r, const flag *f) {
    const char *value;
    char *owned;
    int code = take_value(r, f->name, f->type, f->implicit, &value, &owned);
    if (!code && f->type != FLAG_FILE) code = set_value(r->table, f, value, r->values);
    if (!code && f->type == FLAG_PAIR) code = take_second(r, f);
    free(owned);
    return code;
}

/* The first occurrence replaces a list from the default or a file of flags; repeating the flag appends. */
static int set_flag(parser *r, const flag *f) {
    size_t index = (size_t)(f - r->table->flags);
    add_bit(r->given, index);
    bool again = add_bit(r->here, index);
    bool replaces = is_list(f->type) && f->type != FLAG_FILE && (!again || f->type == FLAG_PAIR);
    if (replaces) clear_list(f, r->values);
    return f->type == FLAG_FILES ? take_files(r, f) : take_one(r, f);
}

static int set_foreign(parser *r, const foreign_flag *f) {
    const char *value;
    char *owned;
    int code = take_value(r, f->name, f->type, NULL, &value, &owned);
    bool on;
    if (!code && f->type == FLAG_SWITCH) {
        if (parse_switch(value, &on))
            value = on ? "True" : "False";
        else
            code = switch_error(r->table, f->name, value);
    }
    if (!code) code = foreign_check(r->table->command, f, value);
    free(owned);
    add_bit(r->foreign, (size_t)(f - r->table->foreign));
    return code;
}

static int report_unknown(const parser *r) {
    return flag_unknown(r->table, r->words, r->count, r->at, r->given);
}

/* The name in --no_NAME, or NULL. HfArgumentParser has such flags for switches that are True by default. */
static const char *negated(const char *typed) {
    return strncmp(typed, "no_", 3) && strncmp(typed, "no-", 3) ? NULL : typed + 3;
}

/* Handles a word that is not a flag, but may be --no_NAME. */
static int set_negation(parser *r, const char *typed) {
    const char *name = negated(typed);
    const flag *f = name ? flag_find(r->table, name, strlen(name)) : NULL;
    if (f && f->type == FLAG_SWITCH && f->default_value && !strcmp(f->default_value, "True")) {
        add_bit(r->given, (size_t)(f - r->table->flags));
        return set_value(r->table, f, "False", r->values);
    }
    const foreign_flag *foreign = name && !f ? find_foreign(r->table, name, strlen(name)) : NULL;
    if (!foreign || foreign->type != FLAG_SWITCH || foreign->alias_of) return report_unknown(r);
    add_bit(r->foreign, (size_t)(foreign - r->table->foreign));
    return foreign_check(r->table->command, foreign, "False");
}

/* Returns the flag that a positional argument is the value of, or NULL. */
static const flag *positional_flag(const parser *r, const char *word) {
    if (!r->table->takes_positional || flag_looks_like_one(word)) return NULL;
    const flag *f = flag_find(r->table, r->table->positional, strcspn(r->table->positional, " "));
    size_t index = (size_t)(f - r->table->flags);
    return r->given[index / 64] >> index % 64 & 1 ? NULL : f;
}

static int set_word(parser *r) {
    const char *word = r->words[r->at];
    const flag *positional = positional_flag(r, word);
    if (positional) {
        add_bit(r->given, (size_t)(positional - r->table->flags));
        return set_value(r->table, positional, word, r->values);
    }
    size_t length = strcspn(word, "=");
    const flag *letter = flag_of_letter(r->table, word, length);
    if (letter) return set_flag(r, letter);
    if (word[0] != '-' || word[1] != '-' || !word[2]) return report_unknown(r);
    length -= 2;
    const flag *f = flag_find(r->table, word + 2, length);
    const foreign_flag *foreign = f ? NULL : find_foreign(r->table, word + 2, length);
    if (foreign && foreign->alias_of) f = flag_find(r->table, foreign->alias_of, strlen(foreign->alias_of));
    if (f) return set_flag(r, f);
    return foreign && !foreign->alias_of ? set_foreign(r, foreign) : set_negation(r, word + 2);
}

static int set_words(parser *r, int count, char **words) {
    memset(r->here, 0, sizeof r->here);
    r->count = count;
    r->words = words;
    for (r->at = 0; r->at < count; r->at++) {
        int code = set_word(r);
        if (code) return code;
    }
    return 0;
}

/* Reads the file of flags at words[at] into the flag's list and parses its words. */
static int set_from_file(parser *r, const flag *f, int count, char **words, int at) {
    parser reader = {.table = r->table, .words = words, .count = count, .at = at};
    const char *path;
    char *owned;
    int code = take_value(&reader, f->name, f->type, NULL, &path, &owned);
    flag_list *list = (flag_list *)((char *)r->values + f->offset);
    int before = list->count;
    if (!code) code = args_file_read(r->table->command, path, list);
    for (int i = before; i < list->count && !code; i++)
        if (same_name(f->name, list->items[i] + strspn(list->items[i], "-"), strlen(f->name)))
            code = usage_error(r->table->command, "'%s' contains --args_file, which is not allowed in a file of flags",
                               path);
    if (!code && list->count > before) code = set_words(r, list->count - before, list->items + before);
    return code;
}

static int set_files(parser *r, int count, char **words) {
    const flag *f = r->table->flags;
    while (f->name && f->type != FLAG_FILE) f++;
    for (int i = 0; i < count && f->name; i++) {
        bool named = !strncmp(words[i], "--", 2) && same_name(f->name, words[i] + 2, strcspn(words[i] + 2, "="));
        int code = named ? set_from_file(r, f, count, words, i) : 0;
        if (code) return code;
    }
    return 0;
}

static int check_required(const parser *r) {
    for (const flag *f = r->table->flags; f->name; f++) {
        size_t index = (size_t)(f - r->table->flags);
        if (f->required && !(r->given[index / 64] >> index % 64 & 1))
            return usage_error(r->table->command, "--%s is required; see lckv help %s", f->name, r->table->command);
    }
    return 0;
}

static int set_defaults(const flag_table *table, void *values) {
    for (const flag *f = table->flags; f->name; f++) {
        int code = f->default_value ? set_value(table, f, f->default_value, values) : 0;
        if (code) return code;
    }
    return 0;
}

static bool asks_for_help(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

static void print_help(const flag_table *table, bool markdown) {
    if (markdown)
        flags_markdown(table);
    else
        flags_help(table);
}

static int set_all(parser *r, int argc, char **argv) {
    int code = set_defaults(r->table, r->values);
    if (!code) code = set_files(r, argc - 1, argv + 1);
    if (!code) code = set_words(r, argc - 1, argv + 1);
    return code ? code : check_required(r);
}

bool flags_parse(const flag_table *table, int argc, char **argv, void *values, int *exit_code) {
    parser r = {.table = table, .values = values};
    bool check = argc > 2 && !strcmp(argv[1], "--help") && !strcmp(argv[2], "--check");
    *exit_code = EXIT_FINE;
    if (check) argc -= 2, argv += 2;
    if (asks_for_help(argc, argv)) {
        print_help(table, argc == 3 && !strcmp(argv[2], "--markdown"));
        return false;
    }
    *exit_code = set_all(&r, argc, argv);
    if (*exit_code == EXIT_FINE && !check) {
        foreign_report(table, r.foreign);
        return true;
    }
    flags_free(table, values);
    return false;
}

void flags_free(const flag_table *table, void *values) {
    for (const flag *f = table->flags; f->name; f++)
        if (is_list(f->type)) clear_list(f, values);
}
