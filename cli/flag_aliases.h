/* What other programs call a flag: transformers, trl, vLLM, llama.cpp, lm-evaluation-harness and the like. A name of
 * this table is never a flag of ours under two names: a message suggests the flag that is meant, or explains. The
 * letters of llama.cpp (-m, -p, -n) are understood. */
#ifndef CLI_FLAG_ALIASES_H
#define CLI_FLAG_ALIASES_H

#include "flags.h"

typedef struct flag_alias {
    const char *typed; /* names with underscores, without dashes, separated by spaces; letters with one dash */
    const char *meant; /* "[COMMAND:]FLAG[ VALUE]", several separated by '|': the first whose flag the command has (and
                          whose COMMAND it is) is suggested. In VALUE, * is the value typed, @ the name typed */
    const char *why;   /* said where nothing is suggested; NULL: nothing is known there */
} flag_alias;

extern const flag_alias FLAG_ALIASES[]; /* ends with an entry without `typed` */

/* The row for `typed`, "max_tokens" or "-m" (`length` bytes, _ or -); NULL where there is none. */
const flag_alias *flag_alias_find(const char *typed, size_t length);

/* The flag that the row means for this command; *value is what follows it, up to the next '|' or the end ("" where
 * nothing does). NULL where it means none. */
const flag *flag_alias_meant(const flag_alias *alias, const flag_table *table, const char **value);

/* The flag that a letter (-m) is for this command; NULL where it is none. These letters are understood: */
#define FLAG_LETTERS "mpnftsc"
const flag *flag_of_letter(const flag_table *table, const char *typed, size_t length);

/* What to say of words[at] of `count`, which is no flag of the command and no value; bit i of `given`: flag i of the
 * table has been given. Returns EXIT_USAGE after the message. */
int flag_unknown(const flag_table *table, char **words, int count, int at, const uint64_t *given);

#endif
