/* Names of flags in other programs: transformers, trl, vLLM, llama.cpp, lm-evaluation-harness and others. lckv does not
 * accept them; its error message suggests the matching flag or explains why there is none. Only the one-letter flags of
 * llama.cpp (-m, -p, -n) are accepted. */
#ifndef CLI_FLAG_ALIASES_H
#define CLI_FLAG_ALIASES_H

#include "flags.h"

typedef struct flag_alias {
    const char *typed; /* names separated by spaces, with underscores and without dashes; one letter with one dash */
    const char *meant; /* suggestions "[COMMAND:]FLAG[ VALUE]", separated by '|'; the first one that applies to the
                          command is used. In VALUE, * is the value typed and @ the name typed. NULL: none */
    const char *why;   /* explanation if no flag matches; NULL: none */
} flag_alias;

extern const flag_alias FLAG_ALIASES[]; /* ends with an entry without `typed` */

/* The alias with the name `typed` (`length` bytes, with _ or -), such as "max_tokens" or "-m", or NULL. */
const flag_alias *flag_alias_find(const char *typed, size_t length);

/* The flag of this command that the alias suggests, or NULL. *value is the text after it, up to the next '|' or the
 * end, or "". */
const flag *flag_alias_meant(const flag_alias *alias, const flag_table *table, const char **value);

/* The flag of this command that a one-letter flag (-m) stands for, or NULL. Accepted letters: */
#define FLAG_LETTERS "mpnftsc"
const flag *flag_of_letter(const flag_table *table, const char *typed, size_t length);

/* Prints the error for words[at] of `count`, which is neither a flag of the command nor a value. Bit i of `given`: flag
 * i of the table has been given. Returns EXIT_USAGE. */
int flag_unknown(const flag_table *table, char **words, int count, int at, const uint64_t *given);

#endif
