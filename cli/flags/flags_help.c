/* Prints `lckv help COMMAND`, and the rows of docs/flags.md. */
#include "cli/output/output.h"
#include "flag_aliases.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { HELP_MIN_WIDTH = 40, MAX_NAME = 96 };

/* ---------------------------------------------------------------- lines */

static int help_width(void) {
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || !size.ws_col) return HELP_DEFAULT_WIDTH;
    return size.ws_col < HELP_MIN_WIDTH ? HELP_MIN_WIDTH : size.ws_col > HELP_MAX_WIDTH ? HELP_MAX_WIDTH : size.ws_col;
}

/* Wraps text on standard output. */
typedef struct wrapper {
    int width;    /* of the output, in columns */
    int indent;   /* of continued lines, in columns */
    int column;   /* current column */
    bool started; /* the line has a word after the indent */
} wrapper;

static void break_line(wrapper *w) {
    printf("\n%*s", w->indent, "");
    w->column = w->indent;
    w->started = false;
}

/* Prints `text`, broken only at spaces, so that flags stay whole. */
static void print_words(wrapper *w, const char *text) {
    while (*(text += strspn(text, " \n"))) {
        size_t length = strcspn(text, " \n");
        int needed = display_width(text, length) + w->started;
        if (w->started && w->column + needed > w->width) {
            break_line(w);
            needed--;
        }
        printf("%s%.*s", w->started ? " " : "", (int)length, text);
        w->column += needed;
        w->started = true;
        text += length;
    }
}

static void print_paragraph(const char *text) {
    wrapper w = {.width = help_width()};
    print_words(&w, text);
    printf("\n");
}

/* Prints "  NAME" and moves to the column of its text, on the next line if the name is too long. */
static wrapper begin_entry(const char *name) {
    wrapper w = {.width = help_width()};
    w.indent = w.width * 3 / 10;
    w.column = printf("  %s", name);
    if (w.column + 2 > w.indent)
        break_line(&w);
    else
        w.column += printf("%*s", w.indent - w.column, "");
    return w;
}

void help_entry(const char *name, const char *text) {
    wrapper w = begin_entry(name);
    print_words(&w, text);
    printf("\n");
}

/* ---------------------------------------------------------------- flags */

static const char *value_name(const flag *f) {
    if (f->value) return f->value;
    switch (f->type) {
    case FLAG_TEXT:
    case FLAG_TEXTS:
        return "TEXT";
    case FLAG_LIST:
        return "A,B,..";
    case FLAG_FILES:
        return "FILES";
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
        return "WORD";
    case FLAG_SWITCH:
        break;
    }
    return "";
}

/* Prints "(one of: a, b, c)" for "a|b|c". */
static void print_choices(wrapper *w, const char *choices) {
    char word[MAX_NAME];
    print_words(w, "(one of:");
    while (*choices) {
        int length = (int)strcspn(choices, "|");
        bool last = !choices[length];
        snprintf(word, sizeof word, "%.*s%s", length, choices, last ? ")" : ",");
        print_words(w, word);
        choices += length + !last;
    }
}

static void print_flag(const flag *f) {
    const char *value = value_name(f);
    char text[256];
    snprintf(text, sizeof text, "--%s%s%s", f->name, *value ? " " : "", value);
    wrapper w = begin_entry(text);
    print_words(&w, f->help);
    if (f->choices) print_choices(&w, f->choices);
    if (f->required) print_words(&w, "(required)");
    if (f->type == FLAG_TEXTS || f->type == FLAG_IDS) print_words(&w, "(may be repeated)");
    if (f->default_value && *f->default_value) {
        snprintf(text, sizeof text, "(default %s)", f->default_value);
        print_words(&w, text);
    }
    if (f->note) {
        snprintf(text, sizeof text, "[%s]", f->note);
        print_words(&w, text);
    }
    printf("\n");
}

/* Prints the short flags of the command, such as -m --model_name_or_path. */
static void print_letters(const flag_table *table) {
    char text[MAX_NAME];
    wrapper w = {.width = help_width()};
    for (const char *letter = FLAG_LETTERS; *letter; letter++) {
        const char typed[] = {'-', *letter, 0};
        const flag *f = flag_of_letter(table, typed, 2);
        if (!f) continue;
        if (!w.started) printf("\n");
        print_words(&w, w.started ? "" : "Short forms, as in llama.cpp:");
        snprintf(text, sizeof text, "%s --%s", typed, f->name);
        print_words(&w, text);
    }
    if (w.started) printf("\n");
}

/* ---------------------------------------------------------------- examples */

/* The end of the part of a command line that starts at `at`: before the next flag outside quotes. */
static const char *part_end(const char *at) {
    char quote = 0;
    for (at++; *at; at++) {
        if (quote ? *at == quote : (*at == '\'' || *at == '"')) quote = quote ? 0 : *at;
        if (!quote && !strncmp(at, " --", 3)) return at;
    }
    return at;
}

/* Long lines are continued with a backslash, as in a shell. */
static void print_command(const char *line) {
    enum { INDENT = 2, MORE = 6 };
    int width = help_width(), column = INDENT;
    printf("%*s", INDENT, "");
    while (*line) {
        const char *end = part_end(line);
        int needed = display_width(line, (size_t)(end - line));
        if (column > MORE && column + needed + (*end ? 2 : 0) > width) {
            printf(" \\\n%*s", MORE - 1, "");
            column = MORE - 1;
        }
        printf("%.*s", (int)(end - line), line);
        column += needed;
        line = end;
    }
    printf("\n");
}

static void print_examples(const flag_table *table) {
    if (table->examples) printf("\nExamples\n");
    for (const char *const *e = table->examples; e && *e; e += 2) {
        wrapper w = {.width = help_width(), .indent = 4, .column = printf("  #"), .started = true};
        print_words(&w, e[0]);
        printf("\n");
        print_command(e[1]);
    }
}

void flags_help(const flag_table *table) {
    wrapper usage = {.width = help_width(), .indent = 4};
    print_words(&usage, "usage: lckv");
    print_words(&usage, table->command);
    print_words(&usage, table->usage);
    printf("\n\n");
    print_paragraph(table->about);
    const char *group = NULL;
    for (const flag *f = table->flags; f->name; f++) {
        if (!group || strcmp(group, f->group)) printf("\n%s\n", f->group);
        group = f->group;
        print_flag(f);
    }
    print_letters(table);
    if (table->foreign) {
        printf("\n");
        print_paragraph("Other flags of the published script are accepted without effect, or refused with the reason "
                        "(docs/flags.md).");
    }
    print_examples(table);
}

/* ---------------------------------------------------------------- rows of docs/flags.md */

/* Escapes `|`, which would end the cell. */
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
    if (f->default_value && *f->default_value) printf(" (default %s)", f->default_value);
    if (f->note) printf(" [%s]", f->note);
    printf(" |\n");
}

static void print_foreign_row(const foreign_flag *f) {
    if (f->alias_of)
        print_row(f->name, "acts", "as --", f->alias_of);
    else
        print_row(f->name, f->no_effect ? "no effect" : "refused", "", f->no_effect ? f->no_effect : f->refused);
    if (f->no_effect && f->refused) {
        printf("; refused unless ");
        print_cell(f->accepted);
        printf(": ");
        print_cell(f->refused);
    }
    printf(" |\n");
}

static bool has_flag(const flag_table *table, const char *name) {
    return flag_find(table, name, strlen(name)) != NULL;
}

/* A foreign flag with the name of one of the command's own flags is never used. */
void flags_markdown(const flag_table *table) {
    for (const flag *f = table->flags; f->name; f++) print_acting_row(f);
    for (const foreign_flag *f = table->foreign; f && f->name; f++)
        if (!has_flag(table, f->name) && (!f->alias_of || has_flag(table, f->alias_of))) print_foreign_row(f);
}
