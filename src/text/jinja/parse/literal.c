/* Literals, see literal.h. */
#include "text/jinja/parse/literal.h"

#include "base/text/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- strings */

static int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    return 99;
}

/* Reads up to `max_digits` digits; *count: how many there are. */
static uint32_t read_digits(const char *text, size_t bytes, size_t max_digits, int base, size_t *count) {
    uint32_t number = 0;
    for (*count = 0; *count < max_digits && *count < bytes && digit_of(text[*count]) < base; ++*count)
        number = number * (uint32_t)base + (uint32_t)digit_of(text[*count]);
    return number;
}

static int write_code_point(uint32_t c, char **to) {
    REQUIRE(c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF), LCKV_ERROR_UNSUPPORTED,
            "invalid escape in a string: U+%04X is not a character", (unsigned)c);
    *to += utf8_write(c, *to);
    return LCKV_OK;
}

/* Reads the escape after a backslash. *used: its length. An unknown escape stays unchanged, with the backslash. */
static int read_escape(const char *text, size_t bytes, char **to, size_t *used) {
    static const char letters[] = "abfnrtv\\'\"", meanings[] = "\a\b\f\n\r\t\v\\'\"";
    const char *letter = memchr(letters, text[0], sizeof letters - 1);
    size_t digits;
    *used = 1;
    if (text[0] == '\n') return LCKV_OK;
    if (letter) {
        *(*to)++ = meanings[letter - letters];
        return LCKV_OK;
    }
    if (text[0] >= '0' && text[0] <= '7') {
        uint32_t c = read_digits(text, bytes, 3, 8, &digits);
        *used = digits;
        return write_code_point(c, to);
    }
    size_t wanted = text[0] == 'x' ? 2 : text[0] == 'u' ? 4 : text[0] == 'U' ? 8 : 0;
    if (wanted) {
        uint32_t c = read_digits(text + 1, bytes - 1, wanted, 16, &digits);
        REQUIRE(digits == wanted, LCKV_ERROR_FORMAT, "incomplete \\%c escape in a string", text[0]);
        *used = 1 + digits;
        return write_code_point(c, to);
    }
    REQUIRE(text[0] != 'N', LCKV_ERROR_UNSUPPORTED, "\\N escapes are not supported");
    *(*to)++ = '\\';
    *used = 0;
    return LCKV_OK;
}

int literal_string(arena *a, const char *text, size_t bytes, value *out, size_t *used) {
    size_t end = 1;
    while (end < bytes && text[end] != text[0]) end += text[end] == '\\' ? 2 : 1;
    REQUIRE(end < bytes, LCKV_ERROR_FORMAT, "unterminated string");
    char *data, *to;
    TAKE(data, a, end + 4);
    to = data;
    for (size_t i = 1; i < end;) {
        size_t step = 1;
        if (text[i] == '\\') {
            TRY(read_escape(text + i + 1, end - i - 1, &to, &step));
            step++;
        } else {
            *to++ = text[i];
        }
        i += step;
    }
    *out = value_text(data, (size_t)(to - data));
    *used = end + 1;
    return LCKV_OK;
}

/* ---- numbers */

/* Reads digits, optionally with single underscores between them; appends them without underscores to `to` as far as
 * there is room. */
static size_t copy_digits(const char *text, size_t bytes, int base, char *to, size_t room) {
    size_t at = 0, length = strlen(to);
    while (at < bytes) {
        size_t digit = at && text[at] == '_' ? at + 1 : at;
        if (digit >= bytes || digit_of(text[digit]) >= base) break;
        if (length + 1 < room) to[length++] = text[digit];
        at = digit + 1;
    }
    to[length] = 0;
    return at;
}

static int read_whole(const char *digits, int base, value *out) {
    int64_t number = 0;
    for (const char *d = digits; *d; d++)
        REQUIRE(!__builtin_mul_overflow(number, base, &number) &&
                    !__builtin_add_overflow(number, digit_of(*d), &number),
                LCKV_ERROR_UNSUPPORTED, "the number %.40s does not fit in 64 bits", digits);
    *out = value_int(number);
    return LCKV_OK;
}

static int base_of_prefix(const char *text, size_t bytes) {
    if (bytes < 3 || text[0] != '0') return 10;
    int base = text[1] == 'x' || text[1] == 'X'   ? 16
               : text[1] == 'o' || text[1] == 'O' ? 8
               : text[1] == 'b' || text[1] == 'B' ? 2
                                                  : 10;
    return base != 10 && digit_of(text[2]) < base ? base : 10;
}

static bool digit_at(const char *text, size_t bytes, size_t at) {
    return at < bytes && text[at] >= '0' && text[at] <= '9';
}

/* Length of the fraction and exponent of a float after its integer digits; 0 if there is none. */
static size_t copy_fraction(const char *text, size_t bytes, char *to, size_t room) {
    size_t at = 0, length = strlen(to);
    if (at < bytes && text[at] == '.' && digit_at(text, bytes, at + 1) && length + 1 < room) {
        strcat(to, ".");
        at += 1 + copy_digits(text + at + 1, bytes - at - 1, 10, to, room);
    }
    if (at >= bytes || (text[at] != 'e' && text[at] != 'E')) return at;
    size_t sign = at + 1 < bytes && (text[at + 1] == '+' || text[at + 1] == '-') ? 1 : 0;
    length = strlen(to);
    if (!digit_at(text, bytes, at + 1 + sign) || length + 3 >= room) return at;
    to[length] = 'e';
    if (sign) to[length + 1] = text[at + 1];
    to[length + 1 + sign] = 0;
    at += 1 + sign;
    return at + copy_digits(text + at, bytes - at, 10, to, room);
}

int literal_number(const char *text, size_t bytes, bool fractions, value *out, size_t *used) {
    char digits[400] = "";
    int base = base_of_prefix(text, bytes);
    size_t prefix = base == 10 ? 0 : 2;
    *used = prefix + copy_digits(text + prefix, bytes - prefix, base, digits, sizeof digits);
    size_t fraction = fractions && base == 10 ? copy_fraction(text + *used, bytes - *used, digits, sizeof digits) : 0;
    if (!fraction) return read_whole(digits, base, out);
    *used += fraction;
    *out = value_float(strtod(digits, NULL));
    return LCKV_OK;
}
