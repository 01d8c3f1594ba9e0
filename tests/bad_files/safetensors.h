/* Invalid safetensors files with their error messages. Each file consists of 8 bytes of length, the header, and zeros
 * as data. */
#ifndef TESTS_BAD_FILES_SAFETENSORS_H
#define TESTS_BAD_FILES_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

typedef struct bad_safetensors {
    const char *header;
    size_t data_bytes;
    const char *error; /* message after the name of the file */
    uint64_t length;   /* length in the file; 0: the actual length */
} bad_safetensors;

#define GOOD_A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}"

static const bad_safetensors BAD_SAFETENSORS[] = {
    /* the length */
    {"{" GOOD_A "}", 16, "the header of 1000 bytes is longer than the file", 1000},
    {"{" GOOD_A "}", 16, "expected a header of at most 100000000 bytes, found 18446744073709551615", UINT64_MAX},
    {"{" GOOD_A "}", 16, "expected a header of at most 100000000 bytes, found 9223372036854775807", INT64_MAX},
    {"{" GOOD_A "}", 16, "not JSON", 10},
    {"{" GOOD_A "}", 16, "expected a JSON object as header", 1},

    /* the JSON */
    {"", 16, "expected a JSON object as header", 0},
    {"[]", 0, "expected a JSON object as header", 0},
    {"  {}", 0, "expected a JSON object as header", 0},
    {"{\"a\":", 0, "not JSON", 0},
    {"{" GOOD_A "} x", 16, "not JSON", 0},
    {"{" GOOD_A "," GOOD_A "}", 16, "not JSON: duplicate object key", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "duplicate object key",
     0},
    {"{\"\\u0000\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not JSON", 0},
    {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not JSON", 0},
    {"{\"__metadata__\":3," GOOD_A "}", 16, "__metadata__: expected an object of strings", 0},

    /* a tensor's line */
    {"{\"a\":[]}", 0, "tensor a: expected dtype, shape and data_offsets", 0},
    {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "tensor a has no dtype", 0},
    {"{\"a\":{\"dtype\":4,\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "tensor a has no dtype", 0},
    {"{\"a\":{\"dtype\":\"F33\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "tensor a: unknown dtype 'F33'", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", 16, "tensor a: expected a shape", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", 16, "tensor a: expected a shape", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]}}", 16,
     "tensor a: expected a shape of at most 8 dimensions", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2,-2],\"data_offsets\":[0,16]}}", 16,
     "tensor a: dimension 0: expected an integer of at least 0", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2.0],\"data_offsets\":[0,16]}}", 16,
     "tensor a: dimension 1: expected an integer of at least 0", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[\"4\"],\"data_offsets\":[0,16]}}", 16,
     "tensor a: dimension 0: expected an integer of at least 0", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],\"data_offsets\":[0,16]}}", 16,
     "tensor a: the shape is too large", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2305843009213693952],\"data_offsets\":[0,16]}}", 16,
     "tensor a: the shape is too large", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387908],\"data_offsets\":[0,16]}}", 16, /* 16 modulo 2^64 */
     "tensor a: the shape is too large", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,16]}}", 16, "not JSON", 0},

    /* its offsets */
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", 16, "tensor a: expected two data_offsets", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}", 16, "tensor a: expected two data_offsets", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,32]}}", 16, "expected two data_offsets", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0.0,16.0]}}", 16, "expected two data_offsets", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}", 16,
     "tensor a: expected offsets within the file's 16 bytes of data, found -16 to 0", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", 16,
     "tensor a: expected offsets within the file's 16 bytes of data, found 16 to 0", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]}}", 16,
     "tensor a: expected offsets within the file's 16 bytes of data, found 0 to 20", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[9223372036854775792,9223372036854775807]}}", 16,
     "tensor a: expected offsets within the file's 16 bytes of data", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,15]}}", 16,
     "tensor a: the shape needs 16 bytes, the data_offsets have 15", 0},
    {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16,
     "tensor a: the shape needs 8 bytes, the data_offsets have 16", 0},

    /* what the tensors cover */
    {"{" GOOD_A ",\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, " overlaps tensor ", 0},
    {"{" GOOD_A ",\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}", 24, "tensor b overlaps tensor a",
     0},
    {"{" GOOD_A ",\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[24,40]}}", 40,
     "8 bytes before tensor b belong to no tensor", 0},
    {"{\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[4,20]}}", 20,
     "4 bytes before tensor b belong to no tensor", 0},
    {"{" GOOD_A "}", 20, "the last 4 bytes belong to no tensor", 0},
    {"{}", 3, "the last 3 bytes belong to no tensor", 0},
};

#endif
