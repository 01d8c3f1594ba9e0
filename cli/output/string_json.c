/* Strings for JSON, see string_json.h. */
#include "string_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Replaces each byte that is not part of a valid character by U+FFFD. jansson decides what is valid. */
static json_t *replaced(const char *text, size_t length) {
    static const char REPLACEMENT[] = "\xef\xbf\xbd";
    const size_t longest = sizeof REPLACEMENT - 1; /* that one byte becomes */
    char *valid = length < SIZE_MAX / longest ? malloc(longest * length + 1) : NULL;
    size_t to = 0;
    for (size_t at = 0, taken; valid && at < length; at += taken) {
        json_t *character = NULL;
        for (taken = 1; taken <= 4 && at + taken <= length; taken++)
            if ((character = json_stringn(text + at, taken))) break;
        if (!character) taken = 1;
        size_t added = character ? taken : longest;
        memcpy(valid + to, character ? text + at : REPLACEMENT, added);
        to += added;
        json_decref(character);
    }
    json_t *string = valid ? json_stringn(valid, to) : NULL;
    free(valid);
    return string;
}

json_t *string_json(const char *text, size_t length) {
    json_t *string = json_stringn(text, length);
    return string ? string : replaced(text, length);
}
