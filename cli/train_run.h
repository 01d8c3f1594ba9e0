/* Runs lckv train and lckv sft with parsed flags. */
#ifndef CLI_TRAIN_RUN_H
#define CLI_TRAIN_RUN_H

#include "cli/flags/train_flags.h"

/* `o` has been parsed from argv, and o->command is set. Returns the program's exit code. */
int train_run(struct train_flags *o, int argc, char **argv);

#endif
