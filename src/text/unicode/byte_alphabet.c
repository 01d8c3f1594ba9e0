/* Alphabet of byte-level BPE, see byte_alphabet.h. */
#include "text/unicode/byte_alphabet.h"

#include "base/text/utf8.h"

static bool stands_for_itself(uint32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/* Bytes that do not represent themselves: 00-20, 7F-A0 and AD. */
static uint32_t character_of(uint32_t byte) {
    if (stands_for_itself(byte)) return byte;
    return 0x100 + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7F + 0x21 : 0x43);
}

static int byte_of(uint32_t character) {
    if (character < 0x100) return stands_for_itself(character) ? (int)character : -1;
    uint32_t index = character - 0x100;
    if (index > 0x43) return -1;
    return (int)(index <= 0x20 ? index : index < 0x43 ? index - 0x21 + 0x7F : 0xAD);
}

int byte_alphabet_write(text_buffer *out, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char character[4];
        TRY(text_append(out, character, utf8_write(character_of((unsigned char)bytes[i]), character)));
    }
    return LCKV_OK;
}

int byte_alphabet_read(text_buffer *out, const char *text, size_t bytes) {
    size_t before = out->length;
    for (size_t at = 0; at < bytes;) {
        uint32_t code_point;
        at += utf8_next(text + at, &code_point);
        int byte = byte_of(code_point);
        if (byte < 0) {
            out->length = before;
            return text_append(out, text, bytes);
        }
        TRY(text_append(out, &(char){(char)byte}, 1));
    }
    return LCKV_OK;
}
