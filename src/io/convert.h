/* Converts a checkpoint to another layer map (layer_types). Each owner of a KV slot gets the mean of the K and V
 * weights of the layers that read the slot, as in the published convert_pretrained.py, or keeps its own. */
#ifndef IO_CONVERT_H
#define IO_CONVERT_H

#include "io/added_rows.h"
#include "model/model.h"

typedef enum kv_merge { KV_AVERAGE, KV_COPY } kv_merge;

typedef struct convert_options {
    const char *source;         /* folder of the checkpoint */
    const model_config *config; /* of the result */
    const char *adapter;        /* folder of an adapter to merge into the source first; NULL: none */
    const char *tokenizer;      /* folder of tokenizer files; NULL: the source's */
    const char *output;         /* folder to write */
    kv_merge kv;
    dtype type;                         /* in the files, of what is not quantized; DTYPE_COUNT: as in the source */
    weight_format format;               /* of the matrices of layers in the files; WEIGHT_AUTO: as in the source */
    int64_t shard_bytes;                /* as in checkpoint_save_options */
    const char *gguf_file, *gguf_dtype; /* GGUF file to write instead of the folder (gguf_save.h); NULL: none */
    bool (*go_on)(void *user, double fraction); /* as in lckv_convert_options */
    void *user;
} convert_options;

/* Converts one tensor at a time, so that no model is in memory as a whole. A source layer without a slot contributes
 * the K and V of the slot that it reads. `d` computes in host memory. Means are computed in f64 and rounded once to
 * f32. LCKV_ERROR_ARGUMENT if the sizes of the two configs differ. */
int checkpoint_convert(device *d, const convert_options *options);

/* Converts into a model on any device `d`, without writing files. `config` is copied; its weight_format is that of the
 * matrices in memory. `type`, `divide`, `added`: as in checkpoint_load_options. */
int checkpoint_load_converted(device *d, const char *folder, const model_config *config, kv_merge kv, dtype type,
                              const collectives *divide, const added_rows *added, model **out);

#endif
