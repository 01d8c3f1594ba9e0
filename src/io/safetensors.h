/* safetensors files: tensors by name in one file, read where it is mapped and written tensor by tensor.
 *
 * The format: 8 bytes little-endian length N, N bytes of JSON that give each name its dtype, shape and offsets, then
 * the tensors without holes. Everything in the header is checked when a file is opened, so that an entry may be used as
 * it is. Leaves out: which tensors a model wants, and folders of several files (checkpoint_files.h). */
#ifndef IO_SAFETENSORS_H
#define IO_SAFETENSORS_H

#include "base/json.h"
#include "base/mapped_file.h"
#include "device/dtype.h"

enum { SAFETENSORS_MOST_DIMENSIONS = 8 };

typedef struct safetensors_entry {
    const char *name;
    const char *stored_type;   /* as the file spells it: "BF16" */
    dtype type;                /* DTYPE_COUNT for types that lckv does not compute with */
    const unsigned char *data; /* in the mapped file; aligned to nothing */
    size_t bytes;
    int64_t elements;
    int64_t shape[SAFETENSORS_MOST_DIMENSIONS];
    int dimensions;
} safetensors_entry;

typedef struct safetensors_file {
    char *path;
    mapped_file map;
    safetensors_entry *entries; /* by name, ascending */
    int count;
    json_t *header; /* names lie in it */
} safetensors_file;

/* Maps and checks a file. On success *out is the caller's until safetensors_close(); on failure it is all zeros. Errors
 * are LCKV_ERROR_FILE or LCKV_ERROR_FORMAT and name the file and, where there is one, the tensor. */
int safetensors_open(const char *path, safetensors_file *out);
void safetensors_close(safetensors_file *file); /* all zeros is fine */

const safetensors_entry *safetensors_find(const safetensors_file *file, const char *name); /* NULL if there is none */

/* A string of the file's __metadata__, NULL where it has none. */
const char *safetensors_metadata(const safetensors_file *file, const char *key);

/* A tensor to be written. */
typedef struct safetensors_item {
    const char *name;
    dtype type; /* f32, bf16, f16, f64, i32, i64 or u8 */
    int64_t shape[SAFETENSORS_MOST_DIMENSIONS];
    int dimensions;
} safetensors_item;

/* Puts the values of item `index` into `bytes`, which has room for exactly those. */
typedef int (*safetensors_values)(void *user, int index, void *bytes);

/* Writes items into a file that file_begin() began (the caller commits or abandons it), larger elements first and then
 * by name, so that each is aligned to its elements. Values are asked for one tensor at a time. */
int safetensors_write(new_file *file, const safetensors_item *items, int count, safetensors_values values, void *user);

#endif
