/* Files that the user names: prompts, questions and flags, and the JSON in them. */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

enum { INPUT_REASON_BYTES = 160 };

/* Opens a file for reading. On failure returns NULL and writes the reason to `why`. Accepts regular files and the
 * program's own input: /dev/stdin, and /dev/fd/N of a process substitution. Other pipes and devices are refused,
 * because opening a named pipe blocks until there is a writer. */
FILE *open_input(const char *path, char why[INPUT_REASON_BYTES]);

/* Reads a whole file as open_input() opens it, and appends a NUL that *bytes does not count. On failure, or if the file
 * has more than `limit` bytes, returns NULL and writes the reason to `why`. Release with free(). */
char *read_input(const char *path, size_t limit, size_t *bytes, char why[INPUT_REASON_BYTES]);

/* getline(): returns the bytes of the next line of `stream`, or -1 at the end and after a signal. If the line cannot be
 * read or memory runs out, also returns -1, prints a message that names `path` (NULL: standard input), and sets *code
 * to EXIT_FAILED. */
ssize_t read_line(const char *command, const char *path, FILE *stream, char **line, size_t *capacity, int *code);

/* jansson's json_loadb(), but nesting deeper than LCKV_JSON_LEVELS is an error, and a byte order mark is skipped. */
json_t *parse_json(const char *text, size_t length, size_t flags, json_error_t *error);

#endif
