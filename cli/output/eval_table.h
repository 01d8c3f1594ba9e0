/* The results table of lm-evaluation-harness. */
#ifndef CLI_EVAL_TABLE_H
#define CLI_EVAL_TABLE_H

#include <jansson.h>

/* Prints a table of tasks, and one of groups if there are any, to stdout. `results` has the layout of lckv_eval(). */
void print_eval_tables(const json_t *results);

#endif
