/* GGUF files (ggml, llama.cpp): the metadata, a list of keys with values, and the tensors of a model in one file.
 *
 * Format: "GGUF", a version (2 or 3), the numbers of tensors and keys; the keys; for each tensor its name, shape,
 * format and offset; then the data of the tensors, aligned. Opening a file maps it and checks everything, so that keys
 * and tensors can be used without checks. Leaves out: what the keys mean (config/gguf_config.h, text/gguf, io/gguf),
 * and models in several files. */
#ifndef GGUF_GGUF_H
#define GGUF_GGUF_H

#include "base/files/mapped_file.h"
#include "gguf/gguf_formats.h"

enum { GGUF_MAX_DIMENSIONS = 4, GGUF_NAME_BYTES = 96 };

typedef enum gguf_type {
    GGUF_UINT8,
    GGUF_INT8,
    GGUF_UINT16,
    GGUF_INT16,
    GGUF_UINT32,
    GGUF_INT32,
    GGUF_FLOAT32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_UINT64,
    GGUF_INT64,
    GGUF_FLOAT64,
    GGUF_TYPES
} gguf_type;

/* A string in the mapped file. It has no NUL at its end, may contain some, and need not be UTF-8. */
typedef struct gguf_text {
    const char *data; /* NULL: none */
    size_t bytes;
} gguf_text;

/* A key and its value. */
typedef struct gguf_key {
    gguf_text name;
    gguf_type type; /* of the value, or of the items of an array */
    bool array;
    int64_t count;             /* items; 1 if it is no array */
    const unsigned char *data; /* the first item; not aligned */
} gguf_key;

typedef struct gguf_tensor {
    char name[GGUF_NAME_BYTES];
    const gguf_format *format;
    int dimensions;
    int64_t shape[GGUF_MAX_DIMENSIONS]; /* the columns first; 1 beyond `dimensions` */
    int64_t elements;
    const unsigned char *data; /* in the mapped file */
    size_t bytes;
} gguf_tensor;

typedef struct gguf_file {
    char *path;
    mapped_file map;
    gguf_key *keys; /* [key_count], sorted by name */
    int64_t key_count;
    gguf_tensor *tensors; /* [count], sorted by name */
    int64_t count;
    size_t header_bytes; /* everything before the data of the tensors */
} gguf_file;

/* Whether `path` is a regular file that begins as a GGUF file does. */
bool gguf_is_file(const char *path);

/* Maps and checks a file. On failure *out is all zeros, and the error names the file, and the key or the tensor. */
int gguf_open(const char *path, gguf_file *out);
void gguf_close(gguf_file *file); /* all zeros is fine */

const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name); /* NULL if there is none */
const gguf_key *gguf_find(const gguf_file *file, const char *name);           /* likewise */

/* Single values. An absent key gives `fallback` (a string without data); a value of another type is LCKV_ERROR_FORMAT.
 * An integer outside of `min` to `max` is an error; a number may be an integer. */
int gguf_get_int(const gguf_file *f, const char *name, int64_t fallback, int64_t min, int64_t max, int64_t *out);
int gguf_get_number(const gguf_file *f, const char *name, double fallback, double *out);
int gguf_get_bool(const gguf_file *f, const char *name, bool fallback, bool *out);
int gguf_get_string(const gguf_file *f, const char *name, gguf_text *out);

/* Arrays: of strings, of integers, or of numbers (of which integers are some). *out is NULL if the key is absent. */
int gguf_get_strings(const gguf_file *f, const char *name, const gguf_key **out);
int gguf_get_integers(const gguf_file *f, const char *name, const gguf_key **out);
int gguf_get_numbers(const gguf_file *f, const char *name, const gguf_key **out);

/* Items of an array that a function above returned. An integer above INT64_MAX is returned as INT64_MAX. Strings are
 * read in their order: *at starts as key->data and moves to the next one. */
int64_t gguf_integer(const gguf_key *key, int64_t i);
double gguf_number(const gguf_key *key, int64_t i);
gguf_text gguf_next_string(const unsigned char **at);

/* Whether a string has these characters. */
bool gguf_text_is(gguf_text text, const char *other);

#endif
