/* What `lckv help COMMAND` prints, and the name that a misspelt one was meant to be. */
#include "flags.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 36, HELP_WIDTH = 110, NAME_MOST = 63 };

/* Prints words from `column` on, wrapped at HELP_WIDTH and continued at HELP_COLUMN. Returns the column reached. */
static int print_wrapped(const char *text, int column) {
    while (*text) {
        text += strspn(text, " \n");
        int length = (int)strcspn(text, " \n");
        if (!length) break;
        bool first = column == HELP_COLUMN;
        if (!first && column + 1 + length > HELP_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
            first = true;
        }
        printf("%s%.*s", first ? "" : " ", length, text);
        column += length + !first;
        text += length;
    }
    return column;
}

static const char *value_name(const flag *f) {
    if (f->value) return f->value;
    switch (f->type) {
    case FLAG_TEXT:
    case FLAG_TEXTS:
        return "TEXT";
    case FLAG_LIST:
        return "A,B,..";
    case FLAG_PAIR:
    case FLAG_IDS:
        return "1,15,7";
    case FLAG_INT:
        return "N";
    case FLAG_NUMBER:
        return "X";
    case FLAG_FILE:
        return "FILE";
    case FLAG_CHOICE:
        return f->choices;
    case FLAG_SWITCH:
        break;
    }
    return "";
}

static void print_flag(const flag *f) {
    const char *value = value_name(f);
    int column = printf("  --%s%s%s", f->name, *value ? " " : "", value);
    if (column + 2 > HELP_COLUMN) {
        printf("\n");
        column = 0;
    }
    printf("%*s", HELP_COLUMN - column, "");
    column = print_wrapped(f->help, HELP_COLUMN);
    char extra[256];
    if (f->required) column = print_wrapped("(needed)", column);
    if (f->type == FLAG_TEXTS || f->type == FLAG_IDS) column = print_wrapped("(may be repeated)", column);
    if (f->fallback && *f->fallback) {
        snprintf(extra, sizeof extra, "(default %s)", f->fallback);
        column = print_wrapped(extra, column);
    }
    if (f->note) {
        snprintf(extra, sizeof extra, "[unlike the Hugging Face script: %s]", f->note);
        print_wrapped(extra, column);
    }
    printf("\n");
}

void flags_help(const flag_table *table) {
    printf("usage: lckv %s %s\n\n%s\n", table->command, table->usage, table->about);
    const char *group = NULL;
    for (const flag *f = table->flags; f->name; f++) {
        if (!group || strcmp(group, f->group)) printf("\n%s\n", f->group);
        group = f->group;
        print_flag(f);
    }
    if (table->foreign)
        printf("\nAll other flags of the Hugging Face script are known, too: for each, docs/flags.md says why there is "
               "nothing to do, or why it is refused.\n");
}

/* Bars would end the cell. */
static void print_cell(const char *text) {
    for (; *text; text++) printf(*text == '|' ? "\\|" : "%c", *text);
}

static void print_row(const char *name, const char *kind, const char *before, const char *text) {
    printf("| `--%s` | %s | ", name, kind);
    print_cell(before);
    print_cell(text);
}

static void print_acting_row(const flag *f) {
    print_row(f->name, "acts", "", f->help);
    if (f->type == FLAG_CHOICE) {
        printf(": ");
        print_cell(f->choices);
    }
    if (f->fallback && *f->fallback) printf(" (default %s)", f->fallback);
    if (f->note) printf(" [unlike the Hugging Face script: %s]", f->note);
    printf(" |\n");
}

static void print_foreign_row(const foreign_flag *f) {
    if (f->stands_for)
        print_row(f->name, "acts", "as --", f->stands_for);
    else
        print_row(f->name, f->nothing ? "nothing to do" : "refused", "", f->nothing ? f->nothing : f->refused);
    if (f->nothing && f->refused) {
        printf("; refused unless ");
        print_cell(f->accepted);
        printf(": ");
        print_cell(f->refused);
    }
    printf(" |\n");
}

static bool has_flag(const flag_table *table, const char *name) {
    const flag *f = table->flags;
    while (f->name && strcmp(f->name, name)) f++;
    return f->name;
}

/* A foreign flag of a name that the command has, too, is never asked for. */
void flags_markdown(const flag_table *table) {
    for (const flag *f = table->flags; f->name; f++) print_acting_row(f);
    for (const foreign_flag *f = table->foreign; f && f->name; f++)
        if (!has_flag(table, f->name) && (!f->stands_for || has_flag(table, f->stands_for))) print_foreign_row(f);
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* Damerau-Levenshtein distance without repeated edits of one place (optimal string alignment). */
static int edit_distance(const char *a, const char *b) {
    int rows[3][NAME_MOST + 1];
    int length_a = (int)strlen(a), length_b = (int)strlen(b);
    if (length_a > NAME_MOST || length_b > NAME_MOST) return NAME_MOST;
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

const char *nearest_name(const char *typed, const char *const *names) {
    const char *best = NULL;
    int length = (int)strlen(typed), best_distance = length / 2 + 1;
    for (; *names; names++) {
        bool begins = length >= 2 && !strncmp(*names, typed, (size_t)length);
        int distance = begins ? 1 : edit_distance(typed, *names);
        if (distance < best_distance) best = *names, best_distance = distance;
    }
    return best;
}
