/* Strings for JSON, see json_text.h. */
#include "json_text.h"

#include "bytes.h"

#include <stdio.h>
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

/* Replaces each byte that is not part of a valid character by U+FFFD. jansson decides what is valid. */
static json_t *replaced(const char *text, size_t length) {
    bytes valid = {0};
    for (size_t at = 0, taken; at < length; at += taken) {
        json_t *character = NULL;
        for (taken = 1; taken <= 4 && at + taken <= length; taken++)
            if ((character = json_stringn(text + at, taken))) break;
        if (character)
            bytes_add(&valid, text + at, taken);
        else
            bytes_add_text(&valid, "\xef\xbf\xbd");
        if (!character) taken = 1;
        json_decref(character);
    }
    json_t *string = valid.failed ? NULL : json_stringn(valid.data ? valid.data : "", valid.length);
    bytes_free(&valid);
    return string;
}

json_t *string_json(const char *text, size_t length) {
    json_t *string = json_stringn(text, length);
    return string ? string : replaced(text, length);
}
