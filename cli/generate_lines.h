/* lckv generate --output_file: one JSON line per prompt, in order, written as soon as it and all prompts before it are
 * done. Lines already in the file are kept. */
#ifndef CLI_GENERATE_LINES_H
#define CLI_GENERATE_LINES_H

#include "model.h"
#include "prompts.h"

/* Returns 0, or an exit code after printing the error. After an interruption, the same call resumes after the complete
 * lines. */
int generate_lines(const char *command, const opened_model *m, const prompt_list *prompts,
                   const lckv_generate_options *options, const char *path);

#endif
