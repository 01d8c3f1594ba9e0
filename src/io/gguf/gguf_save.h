/* Writes a model as a GGUF file that llama.cpp runs. */
#ifndef IO_GGUF_GGUF_SAVE_H
#define IO_GGUF_GGUF_SAVE_H

#include "model/params.h"

typedef struct gguf_save_options {
    const char *format;    /* of the matrices: f32, f16, bf16, q8_0 or q4_0; NULL or "auto": as stored, without loss */
    const char *tokenizer; /* folder or GGUF file with the tokenizer */
    /* Computes the values of an entry of the table, [rows, cols] f32. */
    int (*values)(void *user, int entry, float *host);
    /* Computes the integers and scales of an entry that the table has in `type`, int8 or int4. */
    int (*quantized)(void *user, int entry, dtype type, void *data, void *scales);
    void *user;
} gguf_save_options;

/* Writes the file under a temporary name and renames it. `p` needs no memory; its types are those of the values. A
 * layer map, a bias or a kind of RoPE that llama.cpp does not run is LCKV_ERROR_UNSUPPORTED and named. Vectors are f32.
 * "auto" writes each matrix as it is stored, int8 as q8_0 and int4 as q4_0. With q4_0, the embeddings and lm_head are
 * q8_0. Rows that are no multiple of 32 numbers are f16 instead of q8_0 or q4_0, and f32 with "auto". Integers and
 * scales are copied where the format has the values of the entry's type. */
int gguf_save(const model_config *config, const params *p, const gguf_save_options *options, const char *path);

#endif
