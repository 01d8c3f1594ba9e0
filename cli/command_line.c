/* Words quoted for a shell, see command_line.h. */
#include "command_line.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>

static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=,:+-@%";

/* Within single quotes all stands for itself, but the quote: '\'' */
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
    *at++ = ' ';
    return *word && !word[strspn(word, PLAIN)] ? stpcpy(at, word) : append_quoted(at, word);
}

char *command_line(int argc, char **argv) {
    size_t bytes = sizeof "lckv";
    for (int i = 0; i < argc; i++) bytes += 4 * strlen(argv[i]) + 3; /* at most: each character a quote */
    char *line = need(malloc(bytes)), *at = stpcpy(line, "lckv");
    for (int i = 0; i < argc; i++) at = append(at, argv[i]);
    *at = '\0';
    return line;
}
