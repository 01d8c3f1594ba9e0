/* The initial model of a training run: a checkpoint, or random weights. (io/convert.h converts a checkpoint to another
 * config.) */
#ifndef TRAIN_INITIAL_MODEL_H
#define TRAIN_INITIAL_MODEL_H

#include "io/added_rows.h"
#include "model/model.h"

/* `divide`: the ranks that the weights are divided between (params.h); NULL: every rank has all of them. */

/* A model of `config` (copied) with random f32 weights; matrices have its initializer_range as standard deviation. */
int initial_model_random(device *d, const model_config *config, uint64_t seed, const collectives *divide, model **out);

/* Loads the checkpoint in `folder`, with config overrides (NULL: none), weights of a type (DTYPE_COUNT: as stored) and
 * matrices in a format. `added`: rows of the embedding and the head (io/added_rows.h); NULL: none. */
int initial_model_load(device *d, const char *folder, const char *overrides, dtype type, weight_format format,
                       const collectives *divide, const added_rows *added, model **out);

#endif
