/* The part of a tensor that a rank has (model/ranks/rank_part.h): some of its rows, or some of its columns. Without
 * ranks it is the whole tensor. */
#ifndef IO_TENSOR_PART_H
#define IO_TENSOR_PART_H

#include "model/params.h"

/* Where the part begins in the values of the whole tensor, if its values follow each other there; else NULL. */
const void *tensor_part_in(const weight *w, dtype type, const void *whole);
/* Sets entry i to its part of the values of the whole tensor. */
int tensor_part_set(params *p, int i, const void *whole, dtype type);

#endif
