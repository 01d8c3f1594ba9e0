/* Documents of token ids, see document_reader.h: .bin, an array of ids without header, and NumPy's .npy (format
 * versions 1 to 3). A file is one document, which is returned in several parts. */
#include "data/documents/document_file.h"

#include <string.h>

enum { PART_IDS = 1 << 16, NPY_PREFIX_BYTES = 10 };

/* ---------------------------------------------------------------- arrays of ids */

/* Little-endian; -1 if the value is negative or too large for an id. */
static int32_t id_at(const unsigned char *p, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | p[i];
    return value <= INT32_MAX ? (int32_t)value : -1;
}

static int convert(document_file *f, const char *bytes, int64_t count) {
    const unsigned char *p = (const unsigned char *)bytes;
    TRY(document_file_ids(f, count));
    for (int64_t i = 0; i < count; i++) {
        f->ids[i] = id_at(p + i * f->id_bytes, f->id_bytes);
        REQUIRE(f->ids[i] >= 0, LCKV_ERROR_FORMAT, "%s: id %lld is not from 0 to %d", f->path,
                (long long)(f->ids_before + i), INT32_MAX);
    }
    return LCKV_OK;
}

/* Reads the next part of the document. */
static int next_part(document_file *f, document *out, bool *found) {
    const char *bytes;
    size_t count, each = (size_t)f->id_bytes;
    int64_t limit = f->ids_left >= 0 && f->ids_left < PART_IDS ? f->ids_left : PART_IDS;
    TRY(byte_stream_look(f->stream, (size_t)limit * each, &bytes, &count));
    int64_t ids = (int64_t)(count / each) < limit ? (int64_t)(count / each) : limit;
    REQUIRE(ids == limit || f->ids_left < 0, LCKV_ERROR_FORMAT, "'%s' is too short: %lld ids of its header are missing",
            f->path, (long long)(f->ids_left - ids));
    REQUIRE(ids || !count || !f->ids_left, LCKV_ERROR_FORMAT, "'%s' ends within an id of %d bytes", f->path,
            f->id_bytes);
    REQUIRE(f->ids_left || !count, LCKV_ERROR_FORMAT, "'%s' has data after its last id", f->path);
    *found = ids > 0;
    TRY(convert(f, bytes, ids));
    byte_stream_skip(f->stream, (size_t)ids * each);
    out->ids = f->ids;
    out->id_count = ids;
    out->before = f->ids_before;
    out->goes_on = f->ids_before > 0;
    f->ids_before += ids;
    if (f->ids_left > 0) f->ids_left -= ids;
    return LCKV_OK;
}

int bin_file_next(document_file *f, document *out, bool *found) {
    f->id_bytes = f->options->id_bytes;
    f->ids_left = -1;
    return next_part(f, out, found);
}

/* ---------------------------------------------------------------- .npy */

static int unlike(const document_file *f, const char *expected) {
    return fail(LCKV_ERROR_FORMAT, "'%s': expected %s in the header of a .npy file", f->path, expected);
}

/* The text after `key` in the header, which is a Python dictionary on one line. */
static const char *value_of(const char *header, const char *key) {
    const char *at = strstr(header, key);
    return at ? at + strlen(key) + strspn(at + strlen(key), " ") : "";
}

/* The product of the sizes in "(3, 4)". */
static int read_shape(document_file *f, const char *at) {
    int64_t ids = 1;
    if (*at++ != '(') return unlike(f, "a shape");
    for (at += strspn(at, " "); *at != ')'; at += strspn(at, " ,")) {
        int64_t size = 0;
        if (*at < '0' || *at > '9') return unlike(f, "a shape of integers");
        for (; *at >= '0' && *at <= '9'; at++)
            if (__builtin_mul_overflow(size, 10, &size) || __builtin_add_overflow(size, *at - '0', &size))
                return unlike(f, "a shape below 2^63");
        if (__builtin_mul_overflow(ids, size, &ids)) return unlike(f, "a shape below 2^63");
    }
    f->ids_left = ids;
    return LCKV_OK;
}

static int read_dictionary(document_file *f, const char *header) {
    const char *type = value_of(header, "'descr':"), *types[] = {"'<u2'", "'<i2'", "'<u4'", "'<i4'", "'<u8'", "'<i8'"};
    for (int i = 0; i < 6; i++)
        if (!strncmp(type, types[i], 5)) f->id_bytes = 2 << i / 2;
    REQUIRE(f->id_bytes, LCKV_ERROR_FORMAT,
            "'%s': expected integers of 16, 32 or 64 bits, little-endian, found an array of %.12s", f->path, type);
    if (strncmp(value_of(header, "'fortran_order':"), "False", 5)) return unlike(f, "'fortran_order': False");
    return read_shape(f, value_of(header, "'shape':"));
}

static int read_npy_header(document_file *f) {
    const char *bytes;
    size_t count;
    f->begun = true;
    TRY(byte_stream_look(f->stream, NPY_PREFIX_BYTES + 2, &bytes, &count));
    if (count < NPY_PREFIX_BYTES + 2 || memcmp(bytes, "\x93NUMPY", 6)) return unlike(f, "\\x93NUMPY");
    const unsigned char *size = (const unsigned char *)bytes + 8;
    bool wide = bytes[6] > 1;
    size_t begin = wide ? 12 : 10, length = (size_t)size[0] | (size_t)size[1] << 8;
    if (wide && (size[2] || size[3])) return unlike(f, "less than 65536 bytes");
    TRY(byte_stream_look(f->stream, begin + length, &bytes, &count));
    if (count < begin + length) return unlike(f, "the number of bytes that it states");
    f->text.length = 0;
    TRY(text_append(&f->text, bytes + begin, length));
    byte_stream_skip(f->stream, begin + length);
    return read_dictionary(f, f->text.data);
}

int npy_file_next(document_file *f, document *out, bool *found) {
    if (!f->begun) TRY(read_npy_header(f));
    return next_part(f, out, found);
}
