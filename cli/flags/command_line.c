/* Shell quoting; see command_line.h. */
#include "command_line.h"
#include "cli/output/output.h"

#include <stdlib.h>
#include <string.h>

static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=,:+-@%";

/* Inside single quotes only the quote itself needs escaping: '\'' */
static char *append_quoted(char *at, const char *word) {
    *at++ = '\'';
    for (; *word; word++) {
        if (*word == '\'') at = stpcpy(at, "'\\'");
        *at++ = *word;
    }
    *at++ = '\'';
    return at;
}

static char *append(char *at, const char *word) {
    return *word && !word[strspn(word, PLAIN)] ? stpcpy(at, word) : append_quoted(at, word);
}

/* Upper bound, NUL included: every character could be a quote. */
static size_t quoted_bytes(const char *word) {
    return 4 * strlen(word) + 3;
}

char *quoted_word(const char *word) {
    char *quoted = need(malloc(quoted_bytes(word)));
    *append(quoted, word) = '\0';
    return quoted;
}

char *command_line(int argc, char **argv) {
    size_t bytes = sizeof "lckv";
    for (int i = 0; i < argc; i++) bytes += 1 + quoted_bytes(argv[i]);
    char *line = need(malloc(bytes)), *at = stpcpy(line, "lckv");
    for (int i = 0; i < argc; i++) {
        *at++ = ' ';
        at = append(at, argv[i]);
    }
    *at = '\0';
    return line;
}
