/* Files of flags (--args_file), read as words of a command line.
 *
 * A .json file is an object of flags and values, as in HfArgumentParser; null means not given, and an array repeats the
 * flag. Any other file is text in shell syntax: words separated by spaces, quotes, # comments, a backslash at the end
 * of a line. Words before the first flag (accelerate launch run_clm.py) are skipped. Shell substitutions are not
 * supported: a $ or a backquote outside single quotes is an error. */
#ifndef CLI_ARGS_FILE_H
#define CLI_ARGS_FILE_H

#include "flags.h"

/* Appends to `words`, which owns the words (flags_free()). Returns 0, or EXIT_USAGE after printing the error. */
int args_file_read(const char *command, const char *path, flag_list *words);

#endif
