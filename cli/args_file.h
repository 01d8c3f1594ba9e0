/* Flags from a file (--args_file), as the words that one would type.
 *
 * A name that ends in .json: an object, as HfArgumentParser takes it: name to value; null is not given, an array
 * repeats its flag. Any other file is text as a shell script has it: words apart by space, quotes, # comments, a
 * backslash at the end of a line; what stands before the first flag (accelerate launch run_clm.py) is left out. Leaves
 * out: all else that a shell does; a $ or a backquote outside single quotes is refused, since nothing would be put in
 * its place. */
#ifndef CLI_ARGS_FILE_H
#define CLI_ARGS_FILE_H

#include "flags.h"

/* Appends to `words`. 0, or EXIT_USAGE after the message; the words stay the list's (flags_free()). */
int args_file_read(const char *command, const char *path, flag_list *words);

#endif
