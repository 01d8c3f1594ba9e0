/* Reads flags into a command's struct. Help and spelling: flags_help.c. */
#include "flags.h"
#include "output.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* "--Block-Size" is not typed by anyone: only `-` and `_` are alike. */
static bool same_name(const char *name, const char *typed, size_t length) {
    for (size_t i = 0; i < length; i++) {
        char c = typed[i] == '-' ? '_' : typed[i];
        if (name[i] != c) return false;
    }
    return name[length] == '\0';
}

static const flag *find_flag(const flag_table *table, const char *typed, size_t length) {
    for (const flag *f = table->flags; f->name; f++)
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

/* A decimal number, the whole text. strtod alone would also take "inf", "0x10" and leading spaces. */
static bool parse_number(const char *text, double *value) {
    if (!*text || text[strspn(text, "0123456789+-.eE")]) return false;
    char *end;
    *value = strtod(text, &end);
    return !*end && isfinite(*value);
}

static bool parse_int(const char *text, int64_t *value) {
    double number;
    if (!parse_number(text, &number) || number != floor(number)) return false;
    char *end;
    long long exact = strtoll(text, &end, 10); /* a double would round seeds above 2^53 */
    if (!*end && number > -9.2e18 && number < 9.2e18) {
        *value = exact;
        return true;
    }
    if (fabs(number) > 9007199254740992.0) return false;
    *value = (int64_t)number;
    return true;
}

/* The index of `text` in "a|b|c", -1 when it is none of them. */
static int parse_choice(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (int i = 0;; i++) {
        size_t span = strcspn(choices, "|");
        if (span == length && !memcmp(choices, text, span)) return i;
        if (!choices[span]) return -1;
        choices += span + 1;
    }
}

static int wrong_range(const flag_table *table, const flag *f, const char *text) {
    char low[32], high[32];
    snprintf(low, sizeof low, "%g", f->min);
    snprintf(high, sizeof high, "%g", f->max);
    if (isinf(f->max)) return usage_error(table->command, "--%s must be at least %s, not %s", f->name, low, text);
    return usage_error(table->command, "--%s must be between %s and %s, not %s", f->name, low, high, text);
}

static int set_number(const flag_table *table, const flag *f, const char *text, void *target) {
    double number = 0;
    if (f->type == FLAG_INT) {
        if (!parse_int(text, target))
            return usage_error(table->command, "--%s takes a whole number, not \"%s\"", f->name, text);
        number = (double)*(int64_t *)target;
    } else {
        if (!parse_number(text, &number))
            return usage_error(table->command, "--%s takes a number, not \"%s\"", f->name, text);
        *(double *)target = number;
    }
    bool limited = f->min != 0 || f->max != 0;
    if (limited && (number < f->min || number > f->max)) return wrong_range(table, f, text);
    return 0;
}

/* Adds the parts of `text` that stand between spaces and commas. */
static void add_parts(flag_list *list, const char *text) {
    for (;;) {
        text += strspn(text, " ,\t\n");
        size_t length = strcspn(text, " ,\t\n");
        if (!length) return;
        list_add(list, text, length);
        text += length;
    }
}

static int set_value(const flag_table *table, const flag *f, const char *text, void *values) {
    void *target = (char *)values + f->offset;
    switch (f->type) {
    case FLAG_TEXT:
        *(const char **)target = text;
        return 0;
    case FLAG_TEXTS:
    case FLAG_IDS:
        list_add(target, text, strlen(text));
        return 0;
    case FLAG_LIST:
        add_parts(target, text);
        return 0;
    case FLAG_INT:
    case FLAG_NUMBER:
        return set_number(table, f, text, target);
    case FLAG_SWITCH:
        if (parse_switch(text, target)) return 0;
        return usage_error(table->command, "--%s is a switch: True, False or nothing, not \"%s\"", f->name, text);
    case FLAG_CHOICE:
        *(int *)target = parse_choice(f->choices, text);
        if (*(int *)target >= 0) return 0;
        return usage_error(table->command, "--%s must be one of %s, not \"%s\"", f->name, f->choices, text);
    }
    return 0;
}

/* A value that begins with a dash must be a negative number; any other is more likely a flag ("--prompt --length"). */
static bool looks_like_flag(const char *text) {
    return text[0] == '-' && (text[1] == '-' || isalpha((unsigned char)text[1]));
}

/* Reads the words after a flag that takes many: up to the next flag, joined by commas. */
static int set_many(const flag_table *table, const flag *f, int argc, char **argv, int *at, void *values) {
    size_t length = 0;
    int last = *at;
    while (last + 1 < argc && !looks_like_flag(argv[last + 1])) length += strlen(argv[++last]) + 1;
    if (last == *at) return usage_error(table->command, "--%s needs a value", f->name);
    char *joined = need(malloc(length + 1));
    joined[0] = '\0';
    for (int i = *at + 1; i <= last; i++) {
        if (i > *at + 1) strcat(joined, ",");
        strcat(joined, argv[i]);
    }
    *at = last;
    int code = set_value(table, f, joined, values);
    free(joined);
    return code;
}

/* The flag argv[*at] with the value it takes; *at moves to the last word used. */
static int set_flag(const flag_table *table, int argc, char **argv, int *at, const flag *f, void *values) {
    const char *equals = strchr(argv[*at], '=');
    if (equals) return set_value(table, f, equals + 1, values);
    const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
    if (f->type == FLAG_SWITCH) {
        bool *target = (bool *)((char *)values + f->offset);
        if (next && parse_switch(next, target))
            ++*at;
        else
            *target = true;
        return 0;
    }
    if (f->type == FLAG_LIST || f->type == FLAG_IDS) return set_many(table, f, argc, argv, at, values);
    if (!next) return usage_error(table->command, "--%s needs a value", f->name);
    if (looks_like_flag(next))
        return usage_error(table->command, "--%s needs a value (if \"%s\" is meant, write --%s=%s)", f->name, next,
                           f->name, next);
    ++*at;
    return set_value(table, f, next, values);
}

static int unknown_flag(const flag_table *table, const char *word) {
    size_t length = strcspn(word, "=");
    if (word[0] != '-')
        return usage_error(table->command, "unexpected \"%s\": a value follows the name of its flag", word);
    char *typed = copy_text(word, length);
    char *name = typed + strspn(typed, "-");
    for (char *c = name; *c; c++)
        if (*c == '-') *c = '_';
    const char *names[FLAGS_MOST + 1];
    int count = 0;
    for (const flag *f = table->flags; f->name; f++) names[count++] = f->name;
    names[count] = NULL;
    const char *nearest = nearest_name(name, names);
    if (nearest)
        usage_error(table->command, "there is no flag %s; the nearest is --%s", typed, nearest);
    else
        usage_error(table->command, "there is no flag %s; see lckv help %s", typed, table->command);
    free(typed);
    return EXIT_USAGE;
}

static int set_all(const flag_table *table, int argc, char **argv, void *values, uint64_t *seen) {
    for (int i = 1; i < argc; i++) {
        bool dashes = argv[i][0] == '-' && argv[i][1] == '-' && argv[i][2];
        const flag *f = dashes ? find_flag(table, argv[i] + 2, strcspn(argv[i] + 2, "=")) : NULL;
        if (!f) return unknown_flag(table, argv[i]);
        size_t index = (size_t)(f - table->flags);
        seen[index / 64] |= (uint64_t)1 << index % 64;
        int code = set_flag(table, argc, argv, &i, f, values);
        if (code) return code;
    }
    for (const flag *f = table->flags; f->name; f++) {
        size_t index = (size_t)(f - table->flags);
        if (f->required && !(seen[index / 64] >> index % 64 & 1))
            return usage_error(table->command, "--%s is needed; see lckv help %s", f->name, table->command);
    }
    return 0;
}

static int set_defaults(const flag_table *table, void *values) {
    for (const flag *f = table->flags; f->name; f++) {
        int code = f->fallback ? set_value(table, f, f->fallback, values) : 0;
        if (code) return code;
    }
    return 0;
}

static bool asks_for_help(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

bool flags_parse(const flag_table *table, int argc, char **argv, void *values, int *exit_code) {
    uint64_t seen[FLAGS_MOST / 64] = {0};
    *exit_code = EXIT_FINE;
    if (asks_for_help(argc, argv)) {
        flags_help(table);
        return false;
    }
    *exit_code = set_defaults(table, values);
    if (*exit_code == EXIT_FINE) *exit_code = set_all(table, argc, argv, values, seen);
    if (*exit_code == EXIT_FINE) return true;
    flags_free(table, values);
    return false;
}

void flags_free(const flag_table *table, void *values) {
    for (const flag *f = table->flags; f->name; f++) {
        if (f->type != FLAG_TEXTS && f->type != FLAG_LIST && f->type != FLAG_IDS) continue;
        flag_list *list = (flag_list *)((char *)values + f->offset);
        for (int i = 0; i < list->count; i++) free(list->items[i]);
        free(list->items);
        *list = (flag_list){0};
    }
}
