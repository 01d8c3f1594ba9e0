/* The model that a training run starts from: a checkpoint's, that of a checkpoint made into one of another config
 * (io/convert.h), or fresh random weights. */
#ifndef TRAIN_INITIAL_MODEL_H
#define TRAIN_INITIAL_MODEL_H

#include "model/model.h"

/* Random weights of `config` (copied), f32, matrices drawn with its initializer range by `seed`. */
int start_fresh(device *d, const model_config *config, uint64_t seed, model **out);

/* The checkpoint in `folder` under config overrides (NULL: none). */
int start_from_checkpoint(device *d, const char *folder, const char *overrides, model **out);

/* Gives the embedding (and lm_head, where there is one) rows for `vocab_size` tokens: those behind the old ones are
 * drawn with the config's initializer range by `seed`, as transformers' resize_token_embeddings() draws them. *m is
 * replaced; it stays as it is on failure. */
int start_add_rows(model **m, int64_t vocab_size, uint64_t seed);

#endif
