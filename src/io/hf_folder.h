/* Models as Hugging Face folders: config.json, safetensors, and the files that travel along.
 *
 * Leaves out: what a safetensors file is (safetensors.h), names that stand for folders (hub/model_path.h), optimizer
 * state. */
#ifndef IO_HF_FOLDER_H
#define IO_HF_FOLDER_H

#include "model/model.h"

typedef struct checkpoint_load_options {
    const char *config_overrides; /* "k=v,k=v"; NULL: none */
    dtype type;                   /* of the weights: f32, bf16 or f16; DTYPE_COUNT: each as it is stored */
    const char *adapter;          /* folder of an adapter (adapter_file.h) that is merged into them; NULL: none */
} checkpoint_load_options;

/* Reads `folder` onto a device. Where the device computes in host memory, weights that are wanted as they are stored
 * are used in the mapped file (params_enable_masters() gives ones that may be written). K and V tensors of layers that
 * own no KV slot, rotary_emb.inv_freq, and the lm_head.weight of tied embeddings (which transformers ignores too) are
 * counted and passed over; every other tensor must be one of the model's, and every one of those be there in its shape.
 * Errors name file and tensor. */
int checkpoint_load(device *d, const char *folder, const checkpoint_load_options *options, model **out);

typedef struct checkpoint_save_options {
    dtype type;                /* on disk: f32, bf16 or f16; DTYPE_COUNT: what loses nothing (params_type) */
    int64_t shard_bytes;       /* a file holds at most so much, or one tensor; 0: 5e9, as transformers */
    const char *source;        /* folder that generation_config.json is taken from; NULL: none */
    const char *code;          /* folder that the *.py files of auto_map are taken from; NULL: `source` */
    const char *tokenizer;     /* folder that tokenizer files are taken from; NULL: none */
    const char *chat_template; /* text to write as chat_template.jinja; NULL: that folder's */
    /* Puts the values of an entry into host memory; NULL: params_read(). */
    int (*values)(void *user, int entry, dtype type, void *host);
    void *user;
} checkpoint_save_options;

/* Writes config and weights into `folder`, which appears if it is not there. Everything is on disk beside its target
 * before the first file is renamed, and what makes the folder a checkpoint (model.safetensors, or the index of shards)
 * comes last: after a failure or a crash the folder holds the old checkpoint, the new one, or none that can be loaded,
 * never a mixture. */
int checkpoint_save(const model_config *config, params *p, const checkpoint_save_options *options, const char *folder);

#endif
