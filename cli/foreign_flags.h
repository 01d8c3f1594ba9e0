/* Flags of the Hugging Face scripts that set nothing here (flags.h: foreign_flag), so that a script written for those
 * runs: what was asked for is so already, or is refused with its reason. */
#ifndef CLI_FOREIGN_FLAGS_H
#define CLI_FOREIGN_FLAGS_H

#include "flags.h"

/* Of run_clm.py and TrainingArguments 4.45; of both, those that no flag of lckv train has the name of. */
extern const foreign_flag TRAINING_FOREIGN[];

/* 0 where the value is taken, else EXIT_USAGE after the message. */
int foreign_check(const char *command, const foreign_flag *f, const char *value);

/* A line for each flag given (bit i: table->foreign[i]) for which there is nothing to do. */
void foreign_tell(const flag_table *table, const uint64_t *given);

#endif
