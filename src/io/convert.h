/* A checkpoint becomes one, or a model, of another layer_types: each owner of a KV slot is given the mean of the K and
 * V weights of the layers that attend to it, as the published convert_pretrained.py does, or its own. */
#ifndef IO_CONVERT_H
#define IO_CONVERT_H

#include "model/model.h"

typedef enum kv_merge { KV_AVERAGE, KV_COPY } kv_merge;

typedef struct convert_options {
    const char *source;         /* folder of the checkpoint */
    const model_config *config; /* of the new one */
    const char *adapter;        /* folder of an adapter that is merged into the source first; NULL: none */
    const char *tokenizer;      /* folder of tokenizer files; NULL: the source's */
    const char *output;         /* folder to write */
    kv_merge kv;
    dtype type;                                 /* on disk; DTYPE_COUNT: as the source has it */
    int64_t shard_bytes;                        /* as in checkpoint_save_options */
    bool (*go_on)(void *user, double fraction); /* as in lckv_convert_options */
    void *user;
} convert_options;

/* Tensor by tensor: neither model is ever in memory whole. A layer of the source that owns no slot counts with the K
 * and V of the slot that it reads. `d` computes in host memory. Means are sums in f64, rounded once to f32. Sizes of
 * the two configs that differ are LCKV_ERROR_ARGUMENT. */
int checkpoint_convert(device *d, const convert_options *options);

/* The same as a model on `d`, which may be any device: no file is written. `config` is copied. */
int checkpoint_load_converted(device *d, const char *folder, const model_config *config, kv_merge kv, model **out);

#endif
