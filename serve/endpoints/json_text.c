/* Strings for JSON, see json_text.h. */
#include "json_text.h"

#include <string.h>

static bool continues(char byte) {
    return ((unsigned char)byte & 0xc0) == 0x80;
}

size_t string_cut(const char *text, size_t length, size_t limit) {
    if (length <= limit) return length;
    size_t cut = limit;
    while (cut > 0 && limit - cut < 3 && continues(text[cut])) cut--;
    return cut;
}

void string_copy(char *to, size_t size, const char *from) {
    size_t length = string_cut(from, strlen(from), size - 1);
    memcpy(to, from, length);
    to[length] = '\0';
}

const char *string_short(char out[STRING_SHORT_BYTES], const char *text) {
    size_t length = strlen(text);
    if (length < STRING_SHORT_BYTES) return strcpy(out, text);
    string_copy(out, STRING_SHORT_BYTES - 3, text);
    return strcat(out, "...");
}
