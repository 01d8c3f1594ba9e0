/* safetensors files: named tensors in one file. Reading maps the file; writing needs memory for a part of a tensor
 * at a time.
 *
 * Format: 8 bytes with the length N (little-endian), N bytes of JSON with the dtype, shape and offsets of each name,
 * then the tensors without gaps. Opening a file checks the whole header, so that entries can be used without checks.
 * Leaves out: which tensors a model needs, and folders of several files (checkpoint_files.h). */
#ifndef IO_SAFETENSORS_H
#define IO_SAFETENSORS_H

#include "base/files/mapped_file.h"
#include "base/text/json.h"
#include "device/dtype.h"
#include "gguf/gguf_formats.h"

enum { SAFETENSORS_MAX_DIMENSIONS = 8 };

typedef struct safetensors_entry {
    const char *name;
    const char *stored_type;   /* as in the file: "BF16" */
    dtype type;                /* DTYPE_COUNT for types that lckv does not compute with */
    const unsigned char *data; /* in the mapped file; not aligned */
    size_t bytes;
    int64_t elements;
    int64_t shape[SAFETENSORS_MAX_DIMENSIONS];
    int dimensions;
    /* Of tensors of a GGUF file (io/gguf) that are no array of `type`; zeros otherwise. */
    const gguf_format *format; /* of the blocks in `data`; `type` is then that of a weight with their values */
    int64_t head_rows;         /* rows of a head in which the two of each RoPE pair are neighbours; 0: none are */
} safetensors_entry;

typedef struct safetensors_file {
    char *path;
    mapped_file map;
    safetensors_entry *entries; /* [count], sorted by name */
    int count;
    json_t *header; /* owns the names of the entries */
} safetensors_file;

/* The row in `data` that row r of the tensor is. In a head of n rows, row 2 i + p of `data` is row p n / 2 + i. */
static inline int64_t safetensors_stored_row(const safetensors_entry *e, int64_t r) {
    int64_t half = e->head_rows / 2, in_head = half ? r % e->head_rows : 0;
    return half ? r - in_head + 2 * (in_head % half) + in_head / half : r;
}

/* Maps and checks a file. On failure *out is all zeros, and the error (LCKV_ERROR_FILE or LCKV_ERROR_FORMAT) names the
 * file and the tensor, if any. */
int safetensors_open(const char *path, safetensors_file *out);
void safetensors_close(safetensors_file *file); /* all zeros is fine */

const safetensors_entry *safetensors_find(const safetensors_file *file, const char *name); /* NULL if there is none */

/* After a tensor has been read: it no longer counts as memory of this process (file_drop_pages()). */
void safetensors_drop(const safetensors_entry *e);

/* A string in the file's __metadata__; NULL if absent. */
const char *safetensors_metadata(const safetensors_file *file, const char *key);

/* A tensor to write. */
typedef struct safetensors_item {
    const char *name;
    dtype type; /* f32, bf16, f16, f64, i32, i64 or u8 */
    int64_t shape[SAFETENSORS_MAX_DIMENSIONS];
    int dimensions;
    bool whole; /* the values are computed together: all are asked for at once, whatever memory they need */
} safetensors_item;

/* Copies the values of these elements of item `index` to `bytes`, which has exactly their size. */
typedef int (*safetensors_values)(void *user, int index, element_range range, void *bytes);

/* Writes items to a file from file_begin(); the caller commits or abandons it. Items are sorted by element size
 * (descending) and name, so that each is aligned to its elements. Calls `values` for the elements of each tensor in
 * ascending order, for a limited number at a time. */
int safetensors_write(new_file *file, const safetensors_item *items, int count, safetensors_values values, void *user);
/* The same with an object of strings as __metadata__, which should have `format`: `pt`; NULL: that alone. */
int safetensors_write_with(new_file *file, const json_t *metadata, const safetensors_item *items, int count,
                           safetensors_values values, void *user);

#endif
