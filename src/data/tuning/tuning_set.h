/* Examples of instruction data (examples.h): one row each, or several packed rows, each a separate sequence.
 *
 * Packing follows trl 0.24: "best fit decreasing" (Ding et al. 2024, "Fewer Truncations Improve Language Modeling")
 * within each group of 1,000 rows. Rows are placed by length, longest first, each into the fullest example with enough
 * room. The divisor of the loss is trl's too. */
#ifndef DATA_TUNING_TUNING_SET_H
#define DATA_TUNING_TUNING_SET_H

#include "data/examples.h"
#include "data/tuning/tuning_rows.h"

enum { TUNING_ROWS_PER_PACK = 1000 };

typedef struct tuning_set {
    examples examples;
    const tuning_rows *rows;
    int64_t *order; /* rows, grouped by example */
    int64_t *begin; /* [count + 1] index in `order` of the first row of an example */
    int64_t tokens;
} tuning_set; /* all zeros is an empty one */

/* Creates examples of rows first .. first + count - 1, which must outlive the set. No row is longer than block_size. */
int tuning_set_make(const tuning_rows *rows, int64_t first, int64_t count, int32_t block_size, bool packing,
                    tuning_set *out);
void tuning_set_free(tuning_set *s);

/* Packs `count` rows with these lengths (1 to block_size). order[count] gets the rows of example 0, then of example 1
 * and so on; begin[count + 1] gets the index in `order` of the first row of each example. Returns the number of
 * examples, or an error. */
int64_t tuning_pack(const int32_t *lengths, int64_t count, int32_t block_size, int64_t *order, int64_t *begin);

#endif
