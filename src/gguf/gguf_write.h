/* Writing GGUF files (version 3): keys are collected in memory, tensors are written one at a time. */
#ifndef GGUF_GGUF_WRITE_H
#define GGUF_GGUF_WRITE_H

#include "base/text/text_buffer.h"
#include "gguf/gguf.h"

typedef struct gguf_keys {
    text_buffer bytes; /* as in the file */
    uint64_t count;
} gguf_keys; /* all zeros: none; release with gguf_keys_free() */

int gguf_put_uint(gguf_keys *k, const char *name, uint32_t value);
int gguf_put_float(gguf_keys *k, const char *name, float value);
int gguf_put_bool(gguf_keys *k, const char *name, bool value);
int gguf_put_string(gguf_keys *k, const char *name, const char *value);
void gguf_keys_free(gguf_keys *k);

/* Begins an array of `count` items of `type` (GGUF_STRING, GGUF_INT32 or GGUF_FLOAT32), which the caller then adds. */
int gguf_begin_array(gguf_keys *k, const char *name, gguf_type type, uint64_t count);
int gguf_add_string(gguf_keys *k, const char *text, size_t bytes);
int gguf_add_int(gguf_keys *k, int32_t value);
int gguf_add_float(gguf_keys *k, float value);

/* A tensor to write. */
typedef struct gguf_item {
    char name[GGUF_NAME_BYTES];
    uint32_t format; /* one with an encoder; the columns are a multiple of its block */
    int dimensions;  /* 1 or 2 */
    int64_t rows, cols;
    bool encoded; /* the caller has blocks of the format, not values */
} gguf_item;

/* Computes item `index`: f32 values [rows, cols], or its blocks if it is encoded. */
typedef int (*gguf_values)(void *user, int index, void *out);

/* Writes keys and tensors to a file from file_begin(); the caller commits or abandons it. */
int gguf_write(new_file *file, const gguf_keys *keys, const gguf_item *items, int count, gguf_values values,
               void *user);

#endif
