/* The table that the harness prints of its results. */
#ifndef CLI_EVAL_TABLE_H
#define CLI_EVAL_TABLE_H

#include <jansson.h>

/* `results` in the layout of lckv_eval(). A table of its tasks, and one of its groups where there are any; to stdout.
 */
void print_eval_tables(const json_t *results);

#endif
