/* The values of the keys of a GGUF file, see gguf.h. */
#include "gguf/gguf.h"

#include <string.h>

#define TYPE(type) (1u << (type))

static const unsigned integers = TYPE(GGUF_UINT8) | TYPE(GGUF_INT8) | TYPE(GGUF_UINT16) | TYPE(GGUF_INT16) |
                                 TYPE(GGUF_UINT32) | TYPE(GGUF_INT32) | TYPE(GGUF_UINT64) | TYPE(GGUF_INT64);
static const unsigned reals = TYPE(GGUF_FLOAT32) | TYPE(GGUF_FLOAT64);

static const char *const type_names[GGUF_TYPES] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                                   "bool",  "string", "array",  "uint64", "int64",  "float64"};

/* Finds a key with a value of one of `types`. *out is NULL if it is absent. */
static int find(const gguf_file *f, const char *name, unsigned types, bool array, const char *expected,
                const gguf_key **out) {
    const gguf_key *key = gguf_find(f, name);
    *out = key;
    REQUIRE(!key || (key->array == array && (types & TYPE(key->type))), LCKV_ERROR_FORMAT,
            "%s: key '%s': expected %s, found %s%s", f->path, name, expected, key->array ? "an array of " : "",
            type_names[key->type]);
    return LCKV_OK;
}

#define ITEM(type_name, i)                                                                                             \
    do {                                                                                                               \
        type_name value;                                                                                               \
        memcpy(&value, key->data + (size_t)(i) * sizeof value, sizeof value);                                          \
        return value;                                                                                                  \
    } while (0)

static uint64_t unsigned_item(const gguf_key *key, int64_t i) {
    ITEM(uint64_t, i);
}

int64_t gguf_integer(const gguf_key *key, int64_t i) {
    switch (key->type) {
    case GGUF_UINT8:
        ITEM(uint8_t, i);
    case GGUF_INT8:
        ITEM(int8_t, i);
    case GGUF_UINT16:
        ITEM(uint16_t, i);
    case GGUF_INT16:
        ITEM(int16_t, i);
    case GGUF_UINT32:
        ITEM(uint32_t, i);
    case GGUF_INT32:
        ITEM(int32_t, i);
    case GGUF_INT64:
        ITEM(int64_t, i);
    default:
        return unsigned_item(key, i) > INT64_MAX ? INT64_MAX : (int64_t)unsigned_item(key, i);
    }
}

static double float_item(const gguf_key *key, int64_t i) {
    ITEM(float, i);
}

double gguf_number(const gguf_key *key, int64_t i) {
    if (key->type == GGUF_FLOAT32) return float_item(key, i);
    if (key->type != GGUF_FLOAT64) return (double)gguf_integer(key, i);
    ITEM(double, i);
}

gguf_text gguf_next_string(const unsigned char **at) {
    uint64_t bytes;
    memcpy(&bytes, *at, sizeof bytes);
    gguf_text text = {(const char *)*at + sizeof bytes, (size_t)bytes};
    *at += sizeof bytes + (size_t)bytes;
    return text;
}

bool gguf_text_is(gguf_text text, const char *other) {
    return text.data && text.bytes == strlen(other) && memcmp(text.data, other, text.bytes) == 0;
}

int gguf_get_int(const gguf_file *f, const char *name, int64_t fallback, int64_t min, int64_t max, int64_t *out) {
    const gguf_key *key;
    *out = fallback;
    TRY(find(f, name, integers, false, "an integer", &key));
    if (!key) return LCKV_OK;
    *out = gguf_integer(key, 0);
    REQUIRE(*out >= min && *out <= max, LCKV_ERROR_FORMAT, "%s: key '%s': expected %lld to %lld, found %lld", f->path,
            name, (long long)min, (long long)max, (long long)*out);
    return LCKV_OK;
}

int gguf_get_number(const gguf_file *f, const char *name, double fallback, double *out) {
    const gguf_key *key;
    *out = fallback;
    TRY(find(f, name, integers | reals, false, "a number", &key));
    if (key) *out = gguf_number(key, 0);
    return LCKV_OK;
}

int gguf_get_bool(const gguf_file *f, const char *name, bool fallback, bool *out) {
    const gguf_key *key;
    *out = fallback;
    TRY(find(f, name, TYPE(GGUF_BOOL), false, "a bool", &key));
    if (key) *out = *key->data != 0;
    return LCKV_OK;
}

int gguf_get_string(const gguf_file *f, const char *name, gguf_text *out) {
    const gguf_key *key;
    *out = (gguf_text){0};
    TRY(find(f, name, TYPE(GGUF_STRING), false, "a string", &key));
    const unsigned char *at = key ? key->data : NULL;
    if (at) *out = gguf_next_string(&at);
    return LCKV_OK;
}

int gguf_get_strings(const gguf_file *f, const char *name, const gguf_key **out) {
    return find(f, name, TYPE(GGUF_STRING), true, "an array of strings", out);
}

int gguf_get_integers(const gguf_file *f, const char *name, const gguf_key **out) {
    return find(f, name, integers, true, "an array of integers", out);
}

int gguf_get_numbers(const gguf_file *f, const char *name, const gguf_key **out) {
    return find(f, name, integers | reals, true, "an array of numbers", out);
}
