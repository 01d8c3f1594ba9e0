/* SHA-1 and SHA-256 against the examples of FIPS 180 (csrc.nist.gov, "Examples with intermediate values"), and the
 * output of sha1sum, sha256sum and `git hash-object`. */
#include "base/files/digest.h"

#include "expect.h"

#include <string.h>

static const char *digest_of(digest_kind kind, const char *text, size_t length, size_t piece) {
    static char out[DIGEST_TEXT];
    digest d;
    digest_begin(&d, kind);
    for (size_t at = 0; at < length; at += piece) digest_add(&d, text + at, length - at < piece ? length - at : piece);
    digest_end(&d, out);
    return out;
}

static void the_examples_of_the_standard(void **state) {
    (void)state;
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"; /* the padding needs a second block */
    assert_string_equal(digest_of(DIGEST_SHA1, "abc", 3, 3), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_string_equal(digest_of(DIGEST_SHA1, two, 56, 56), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    assert_string_equal(digest_of(DIGEST_SHA1, "", 0, 1), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_string_equal(digest_of(DIGEST_SHA256, "abc", 3, 3),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(digest_of(DIGEST_SHA256, two, 56, 56),
                        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_string_equal(digest_of(DIGEST_SHA256, "", 0, 1),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* A million times "a", in parts of many sizes. */
static void pieces_add_up(void **state) {
    (void)state;
    static char text[1000000];
    static const size_t PIECES[] = {1, 63, 64, 65, 1000, sizeof text};
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < sizeof PIECES / sizeof *PIECES; i++) {
        assert_string_equal(digest_of(DIGEST_SHA1, text, sizeof text, PIECES[i]),
                            "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
        assert_string_equal(digest_of(DIGEST_SHA256, text, sizeof text, PIECES[i]),
                            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

/* The last block has 55 bytes (the length fits), 56 (it does not) and 63: `head -c N /dev/zero | sha256sum`. */
static void every_way_to_pad(void **state) {
    (void)state;
    static const char ZEROS[64];
    assert_string_equal(digest_of(DIGEST_SHA256, ZEROS, 55, 55),
                        "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
    assert_string_equal(digest_of(DIGEST_SHA256, ZEROS, 56, 56),
                        "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
    assert_string_equal(digest_of(DIGEST_SHA256, ZEROS, 63, 63),
                        "c7723fa1e0127975e49e62e753db53924c1bd84b8ac1ac08df78d09270f3d971");
    assert_string_equal(digest_of(DIGEST_SHA256, ZEROS, 64, 64),
                        "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_standard),
        cmocka_unit_test(pieces_add_up),
        cmocka_unit_test(every_way_to_pad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
