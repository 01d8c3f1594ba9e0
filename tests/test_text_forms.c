/* Unicode normal forms of random texts equal those of utf8proc, which takes quadratic time for them. */
#include "text/unicode/unicode_form.h"

#include "text_fixture.h"

#include <utf8proc.h>

static void normal_forms_are_the_references(void **state) {
    (void)state;
    static const uint32_t ALPHABET[] = {'a',     'e',    ' ',    0x301,  0x323,  0x31B,  0x345,    0x304,  0xE9,
                                        0x1E69,  0x1100, 0x1161, 0x11A8, 0xAC00, 0xFDFA, 0xFB01,   0x2126, 0x1D160,
                                        0x1D15F, 0x958,  0x344,  0x5D0,  0x5B0,  0x5BC,  0x0F71,   0x0F72, 0x0F73,
                                        0x9C7,   0x9BE,  0x9D7,  0x1F00, 0x3B1,  0x342,  0x10FFFF, 0xFEFF, 0x200D,
                                        0x1F600, 0x327,  0x338,  0x3099, 0x30AB};
    static const utf8proc_option_t OPTIONS[] = {
        UTF8PROC_STABLE | UTF8PROC_COMPOSE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    for (uint64_t i = 0; i < 20000; i++) {
        char text[200];
        uint32_t word[4];
        size_t bytes = 0;
        rng_block(1, i, 0, word);
        unicode_form form = word[0] % 4;
        int count = 1 + (int)(word[1] % 40), letters = 3 + (int)(word[2] % 38);
        for (int k = 0; k < count; k++) {
            rng_block(2, i, (uint64_t)k, word);
            uint32_t c = ALPHABET[word[0] % (uint32_t)letters];
            if (word[1] % 8 == 0) c = word[2] % 0x110000;
            if (c >= 0xD800 && c < 0xE000) c = 0x301;
            bytes += utf8_write(c, text + bytes);
        }
        utf8proc_uint8_t *expected;
        text_buffer found = {0};
        utf8proc_ssize_t length =
            utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &expected, OPTIONS[form]);
        assert_true(length >= 0);
        OK(unicode_form_append(form, text, bytes, &found));
        assert_int_equal(found.length, length);
        assert_memory_equal(found.data, expected, (size_t)length);
        free(expected);
        text_free(&found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_forms_are_the_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
