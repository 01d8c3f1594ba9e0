/* Names of flags in other programs: transformers, trl, vLLM, llama.cpp, lm-evaluation-harness and others. They are not
 * accepted; the error message suggests the matching flag of lckv or explains. Only the letters of llama.cpp (-m, -p,
 * -n) are accepted. */
#ifndef CLI_FLAG_ALIASES_H
#define CLI_FLAG_ALIASES_H

#include "flags.h"

typedef struct flag_alias {
    const char *typed; /* names with underscores, without dashes, separated by spaces; letters with one dash */
    const char *meant; /* "[COMMAND:]FLAG[ VALUE]", several separated by '|': the first whose flag the command has (and
                          whose COMMAND it is) is suggested. In VALUE, * is the value typed, @ the name typed */
    const char *why;   /* explanation if no flag matches; NULL: none */
} flag_alias;

extern const flag_alias FLAG_ALIASES[]; /* ends with an entry without `typed` */

/* The row for `typed`, "max_tokens" or "-m" (`length` bytes, _ or -), or NULL. */
const flag_alias *flag_alias_find(const char *typed, size_t length);

/* The flag of this command that the row means, or NULL. *value is the text after it, up to the next '|' or the end, or
 * "". */
const flag *flag_alias_meant(const flag_alias *alias, const flag_table *table, const char **value);

/* The flag that a letter (-m) means for this command, or NULL. Accepted letters: */
#define FLAG_LETTERS "mpnftsc"
const flag *flag_of_letter(const flag_table *table, const char *typed, size_t length);

/* Prints the error for words[at] of `count`, which is neither a flag of the command nor a value. Bit i of `given`: flag
 * i of the table has been given. Returns EXIT_USAGE. */
int flag_unknown(const flag_table *table, char **words, int count, int at, const uint64_t *given);

#endif
