/* Measures a cost table: runs steps of different rows and depths on batchers of their own. */
#ifndef GENERATE_COST_MEASURE_H
#define GENERATE_COST_MEASURE_H

#include "generate/batcher/batcher.h"

/* For a batcher with options `like` and `chunks`. Sizes for which there is no memory are left out; if none fits, the
 * table is empty. Takes a few seconds. */
int cost_table_measure(const model *m, const batcher_options *like, const chunk_rules *chunks, cost_table *out);

#endif
