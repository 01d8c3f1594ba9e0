/* lckv generate --output_file: one JSON line for each prompt, in their order, written as soon as it and those before it
 * are done; what a file has already is kept. */
#ifndef CLI_GENERATE_LINES_H
#define CLI_GENERATE_LINES_H

#include "model.h"
#include "prompts.h"

/* Returns 0, or an exit code after the message. After an interruption the same call goes on behind the lines that are
 * whole. */
int generate_lines(const char *command, const opened_model *m, const prompt_list *prompts,
                   const lckv_generate_options *options, const char *path);

#endif
