/* Formats of the tensors in GGUF files: their names, their sizes, and their values as f32.
 *
 * A row is a sequence of blocks of values. Quantized blocks begin with one or two f16 scales. The formulas are those of
 * ggml; products of a scale and an integer are exact in f32, so that each value is rounded at most once. */
#ifndef GGUF_GGUF_FORMATS_H
#define GGUF_GGUF_FORMATS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Numbers in the file. */
enum {
    GGUF_F32 = 0,
    GGUF_F16 = 1,
    GGUF_Q4_0 = 2,
    GGUF_Q4_1 = 3,
    GGUF_Q5_0 = 6,
    GGUF_Q5_1 = 7,
    GGUF_Q8_0 = 8,
    GGUF_Q4_K = 12,
    GGUF_Q5_K = 13,
    GGUF_Q6_K = 14,
    GGUF_BF16 = 30,
};

typedef struct gguf_format {
    const char *name;
    int block;                                        /* values per block */
    size_t bytes;                                     /* per block */
    void (*decode)(const void *block, float *out);    /* one block */
    void (*encode)(const float *values, void *block); /* the same; NULL if lckv does not write the format */
    float limit;                                      /* largest magnitude that it can write; 0: any value, also NaN */
} gguf_format;

/* The format of a number in a file; NULL if lckv does not read it. */
const gguf_format *gguf_format_of(uint32_t number);

/* The name of a format that lckv does not read, such as "iq4_xs"; NULL if the number is unknown. */
const char *gguf_format_name(uint32_t number);

/* `count` values, a multiple of the block. `blocks` need not be aligned. */
void gguf_decode(const gguf_format *f, const void *blocks, int64_t count, float *out);
/* LCKV_ERROR_ARGUMENT if a value is not finite or above the format's limit; then `blocks` is undefined. */
int gguf_encode(const gguf_format *f, const float *values, int64_t count, void *blocks);

#endif
