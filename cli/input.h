/* Input that users name: files of prompts, questions and flags, and JSON in them. */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

/* Opens a file for reading; NULL, with what is wrong in `why`, where that fails. A regular file, or the program's own
 * input: /dev/stdin, and /dev/fd/N as shells name a process substitution. Other pipes and devices are refused, since
 * opening a named pipe waits for its writer. */
FILE *open_input(const char *path, char why[160]);

/* getline(): bytes of the next line of `stream`, -1 at the end. Where the line cannot be read or memory runs out, -1
 * too, with a message that names `path` (NULL: standard input) and *code set to EXIT_FAILED. A signal is the end. */
ssize_t read_line(const char *command, const char *path, FILE *stream, char **line, size_t *capacity, int *code);

/* jansson's json_loadb(), but nesting of more than LCKV_JSON_LEVELS levels is an error. */
json_t *parse_json(const char *text, size_t length, size_t flags, json_error_t *error);

#endif
