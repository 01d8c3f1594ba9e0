/* Examples of instruction data (examples.h): a row each, or several rows packed into one, each a sequence of its own.
 *
 * Packing is trl's (0.24): "best fit decreasing" (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"),
 * within each thousand of rows: the longest first, each into the fullest example that has room. The loss of a step is
 * divided as there too. */
#ifndef DATA_ROW_SET_H
#define DATA_ROW_SET_H

#include "data/examples.h"
#include "data/rows.h"

enum { TUNING_ROWS_A_PACK = 1000 };

typedef struct tuning_set {
    examples examples;
    const tuning_rows *rows;
    int64_t *order; /* rows, those of one example side by side */
    int64_t *begin; /* [count + 1] where in `order` an example's begin */
    int64_t tokens;
} tuning_set; /* all zeros is an empty one */

/* Of `count` rows from row `first` on; the rows outlive it. No row is longer than block_size. */
int tuning_set_make(const tuning_rows *rows, int64_t first, int64_t count, int32_t block_size, bool packing,
                    tuning_set *out);
void tuning_set_free(tuning_set *s);

/* Which example each of `count` rows goes to, by their lengths (1 to block_size), in order of the examples' making, and
 * in which order rows of one example stand: order[] has the rows of example 0, then of 1 and so on, begin[i] where
 * those of example i begin. order has room for `count`, begin for count + 1; returns the number of examples, or an
 * error. */
int64_t tuning_pack(const int32_t *lengths, int64_t count, int32_t block_size, int64_t *order, int64_t *begin);

#endif
