/* Blocks of GGUF files as grouped weights, see gguf_groups.h. */
#include "io/gguf/gguf_groups.h"

#include "device/half.h"

#include <math.h>
#include <string.h>

enum { SCALE_BYTES = 2, HALF = DTYPE_GROUP / 2 };

static bool is_q8_0(const gguf_format *f) {
    return f == gguf_format_of(GGUF_Q8_0);
}

static bool is_q4_0(const gguf_format *f) {
    return f == gguf_format_of(GGUF_Q4_0);
}

dtype gguf_groups_type(const gguf_format *format) {
    return is_q8_0(format) ? DTYPE_INT8 : is_q4_0(format) ? DTYPE_INT4 : DTYPE_COUNT;
}

bool gguf_groups_fit(const gguf_format *format, dtype type) {
    return (is_q8_0(format) && type == DTYPE_INT8) || (is_q4_0(format) && (type == DTYPE_INT8 || type == DTYPE_INT4));
}

bool gguf_groups_hold(const gguf_format *format, dtype type, int64_t cols) {
    bool holds = is_q8_0(format) ? type == DTYPE_INT8 || type == DTYPE_INT4 : is_q4_0(format) && type == DTYPE_INT4;
    return holds && cols % DTYPE_GROUP == 0;
}

/* ---------------------------------------------------------------- the integers of a group */

/* Two integers of 4 bits in each byte, in the order of the columns. */
static void interleave(const unsigned char *block, unsigned char *out) {
    for (int i = 0; i < HALF; i += 2) {
        out[i / 2] = (unsigned char)(((block[i] & 15) | block[i + 1] << 4) ^ 0x88);
        out[HALF / 2 + i / 2] = (unsigned char)((block[i] >> 4 | (block[i + 1] & 0xf0)) ^ 0x88);
    }
}

static void separate(const unsigned char *group, unsigned char *block) {
    for (int i = 0; i < HALF; i += 2) {
        int low = group[i / 2], high = group[HALF / 2 + i / 2];
        block[i] = (unsigned char)(((low & 15) | high << 4) ^ 0x88);
        block[i + 1] = (unsigned char)((low >> 4 | (high & 0xf0)) ^ 0x88);
    }
}

/* From the bytes of int4 in the order of the columns. */
static void widen(const unsigned char *group, unsigned char *out) {
    for (int i = 0; i < HALF; i++) {
        out[2 * i] = (unsigned char)(((group[i] & 15) ^ 8) - 8);
        out[2 * i + 1] = (unsigned char)((group[i] >> 4 ^ 8) - 8);
    }
}

static void read_group(const gguf_format *f, dtype type, const unsigned char *block, unsigned char *out) {
    unsigned char narrow[HALF];
    if (is_q8_0(f)) {
        memcpy(out, block, DTYPE_GROUP);
        return;
    }
    interleave(block, narrow);
    if (type == DTYPE_INT4)
        memcpy(out, narrow, sizeof narrow);
    else
        widen(narrow, out);
}

static void write_group(const gguf_format *f, dtype type, const unsigned char *group, unsigned char *block) {
    if (is_q4_0(f))
        separate(group, block);
    else if (type == DTYPE_INT4)
        widen(group, block);
    else
        memcpy(block, group, DTYPE_GROUP);
}

/* ---------------------------------------------------------------- matrices */

static size_t group_bytes(dtype type) {
    return dtype_row_bytes(type, DTYPE_GROUP);
}

int gguf_groups_read(const char *path, const safetensors_entry *e, const weight *w, dtype type, void *data,
                     void *scales) {
    const gguf_format *f = e->format;
    int64_t stored = e->shape[1] / DTYPE_GROUP, first = w->first_col / DTYPE_GROUP, groups = w->cols / DTYPE_GROUP;
    unsigned char *to = data;
    uint16_t *scale = scales;
    for (int64_t r = w->first_row; r < w->first_row + w->rows; r++) {
        const unsigned char *block = e->data + (size_t)(safetensors_stored_row(e, r) * stored + first) * f->bytes;
        for (int64_t g = 0; g < groups; g++, block += f->bytes, to += group_bytes(type), scale++) {
            memcpy(scale, block, SCALE_BYTES);
            REQUIRE(isfinite(float_of_f16(*scale)), LCKV_ERROR_FORMAT,
                    "%s: tensor %s: scale %lld: expected a finite f16, found %g", path, e->name,
                    (long long)(r * stored + first + g), (double)float_of_f16(*scale));
            read_group(f, type, block + SCALE_BYTES, to);
        }
    }
    return LCKV_OK;
}

void gguf_groups_write(const gguf_format *format, dtype type, int64_t rows, int64_t cols, const void *data,
                       const void *scales, void *blocks) {
    const unsigned char *from = data;
    const uint16_t *scale = scales;
    unsigned char *block = blocks;
    for (int64_t g = 0; g < rows * (cols / DTYPE_GROUP); g++, block += format->bytes, from += group_bytes(type)) {
        memcpy(block, &scale[g], SCALE_BYTES);
        write_group(format, type, from, block + SCALE_BYTES);
    }
}
