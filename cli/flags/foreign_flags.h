/* Flags of the Hugging Face scripts that have no effect in lckv (flags.h: foreign_flag), so that command lines written
 * for those scripts work. A flag is accepted if lckv does what it requests anyway, otherwise refused with the reason.
 */
#ifndef CLI_FOREIGN_FLAGS_H
#define CLI_FOREIGN_FLAGS_H

#include "flags.h"

/* Flags of run_clm.py and TrainingArguments 4.45 that are not flags of lckv train. */
extern const foreign_flag TRAINING_FOREIGN[];

/* Returns 0 if the value is accepted, else EXIT_USAGE after printing the error. */
int foreign_check(const char *command, const foreign_flag *f, const char *value);

/* Prints a notice for each accepted foreign flag (bit i of `given`: table->foreign[i]). */
void foreign_report(const flag_table *table, const uint64_t *given);

#endif
