/* lckv generate --output_file: writes one JSON line per prompt, in order, as soon as the prompt and all prompts before
 * it are complete. Lines that the file already has are kept. */
#ifndef CLI_GENERATE_LINES_H
#define CLI_GENERATE_LINES_H

#include "open_model.h"
#include "prompts.h"

/* Returns 0, or an exit code after printing the error. After an interruption, the same call resumes after the last
 * complete line. */
int generate_lines(const char *command, const opened_model *m, const prompt_list *prompts,
                   const lckv_generate_options *options, const char *path);

#endif
