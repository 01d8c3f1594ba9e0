/* Cost table: measured seconds of a step by rows and depth, for one device and one model shape.
 *
 * `auto` chooses between the two forms of reading a prompt with it (encoding_choice.h). Tables are kept in a JSON file,
 * one entry for each device and model shape, so that every run with the same file makes the same choices.
 * cost_measure.h measures. */
#ifndef GENERATE_COST_TABLE_H
#define GENERATE_COST_TABLE_H

#include "model/model.h"

enum { COST_MAX_STEPS = 64 };

typedef struct cost_table {
    int count;
    lckv_step_cost steps[COST_MAX_STEPS]; /* sorted by form, rows and depth */
} cost_table;

/* Adds a measured step in its place. A full table ignores it. */
void cost_table_add(cost_table *t, lckv_step_cost step);

/* Estimated seconds of a step: linear between measured rows and depths, and beyond them. `form` is
 * LCKV_ENCODING_SEQUENTIAL or LCKV_ENCODING_PLAN. 0 rows cost nothing. */
double cost_of_step(const cost_table *t, lckv_encoding form, double rows, double depth);

/* Describes what the costs depend on. A table is used only where both texts are equal. */
typedef struct cost_key {
    char device[160], *model; /* cost_key_free() frees `model` */
} cost_key;

/* `kv_type`: as in batcher_options. `iterations`: of a loop by the plan; 0: the model's. */
int cost_key_make(const model *m, dtype compute, dtype kv_type, int iterations, int64_t chunk_tokens, cost_key *out);
void cost_key_free(cost_key *key);

/* Reads the table of `key` from a file. out->count is 0 if the file does not exist or has no such table.
 * LCKV_ERROR_FORMAT: the file is not a file of cost tables. */
int cost_table_load(const char *path, const cost_key *key, cost_table *out);
/* Adds a table to a file, or replaces it. The file and its folder are created if they do not exist. */
int cost_table_store(const char *path, const cost_key *key, const cost_table *t);

#endif
