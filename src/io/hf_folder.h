/* Models as Hugging Face folders: config.json, safetensors files, and tokenizer, code and generation config.
 *
 * Leaves out: the safetensors format (safetensors.h), model names (hub/model_path.h), optimizer state. */
#ifndef IO_HF_FOLDER_H
#define IO_HF_FOLDER_H

#include "io/added_rows.h"
#include "model/model.h"

typedef struct checkpoint_load_options {
    const char *config_overrides; /* "k=v,k=v"; NULL: none */
    dtype type;                   /* of weights that are not quantized: f32, bf16 or f16; DTYPE_COUNT: as stored */
    weight_format format;         /* of the matrices; WEIGHT_AUTO: as the config says */
    const char *adapter;          /* folder of an adapter (adapter_file.h) to apply; NULL: none */
    const collectives *divide;    /* divide the weights between these ranks (params.h); NULL: whole */
    int rank, ranks;  /* load the part of rank `rank` of `ranks` (model/ranks/rank_part.h); ranks 0 or 1: all */
    added_rows added; /* rows of the embedding and the head behind those of the files; zeros: none */
    bool loop_start;  /* load the learned start of the loops if the folder has one (loop_start_file.h) */
} checkpoint_load_options;

/* Loads `folder`, or a GGUF file of this name, onto a device. An adapter is merged into the weights, or, if these are
 * quantized, added beside them (model.adapter). LCKV_ERROR_UNSUPPORTED for quantized weights with `divide`. If the
 * device computes in host memory, weights with the wanted data type stay in the mapped file and are read-only
 * (params_enable_masters() makes writable ones). K and V of layers without a KV slot, rotary_emb.inv_freq, and the
 * lm_head.weight of tied embeddings are ignored, the latter as in transformers. All other tensors have to be exactly
 * those of the model. Errors name the file and the tensor. */
int checkpoint_load(device *d, const char *folder, const checkpoint_load_options *options, model **out);

typedef struct checkpoint_save_options {
    dtype type;                /* in the files, of weights that are not quantized: f32, bf16 or f16; DTYPE_COUNT: as in
                                * memory, without loss */
    weight_format format;      /* of the matrices of layers in the files; WEIGHT_AUTO: as in memory. Embeddings and head
                                * are not quantized in files, as other tools expect; f32 keeps their quantized values */
    int64_t shard_bytes;       /* maximum size of a file, which holds at least one tensor; 0: 5e9, as in transformers */
    const char *source;        /* folder to copy generation_config.json from; NULL: none */
    const char *code;          /* folder to copy the *.py files of auto_map from; NULL: `source` */
    const char *tokenizer;     /* folder to copy tokenizer files from; NULL: none */
    const char *chat_template; /* text to write as chat_template.jinja; NULL: copy that folder's */
    /* Copies the values of some elements of an entry into host memory, as f32, bf16 or f16; NULL:
     * params_read_range(). */
    int (*values)(void *user, int entry, element_range range, dtype type, void *host);
    bool whole_entries; /* values() computes all elements of an entry together: it is asked for all of them */
    /* The same for an entry that is stored as int8 or int4: integers and scales; NULL: quantizes the values. */
    int (*quantized)(void *user, int entry, dtype type, void *data, void *scales);
    void *user;
    /* Learned start of the loops to write; NULL: none, and that of the folder is removed. If both are in one table,
     * `values` serves it too. */
    const loop_start *loop_start;
} checkpoint_save_options;

/* Writes config and weights into `folder`, which is created if absent. All files are synced under temporary names
 * before the first one is renamed, and the file that makes the folder a checkpoint (model.safetensors, or the index of
 * the shards) is renamed last. After a failure or a crash the folder contains the old checkpoint, the new one, or none
 * that can be loaded, never a mixture. */
int checkpoint_save(const model_config *config, params *p, const checkpoint_save_options *options, const char *folder);

#endif
