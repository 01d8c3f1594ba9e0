/* SHA-1 and SHA-256, with the names of FIPS 180-4; see digest.h. */
#include "base/files/digest.h"

#include <stdio.h>
#include <string.h>

static const uint32_t SHA256_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotl(uint32_t x, int n) {
    return x << n | x >> (32 - n);
}

static uint32_t rotr(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static void read_words(const unsigned char block[64], uint32_t w[16]) {
    for (int i = 0; i < 16; i++, block += 4)
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
}

/* Section 6.1.2 */
static void sha1_block(uint32_t h[8], const unsigned char block[64]) {
    uint32_t w[80];
    read_words(block, w);
    for (int t = 16; t < 80; t++) w[t] = rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int t = 0; t < 80; t++) {
        static const uint32_t K[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
        uint32_t f = t < 20 ? (b & c) ^ (~b & d) : t >= 40 && t < 60 ? (b & c) ^ (b & d) ^ (c & d) : b ^ c ^ d;
        uint32_t next = rotl(a, 5) + f + e + K[t / 20] + w[t];
        e = d, d = c, c = rotl(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Section 6.2.2 */
static void sha256_block(uint32_t h[8], const unsigned char block[64]) {
    uint32_t w[64], v[8];
    read_words(block, w);
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = s1 + w[t - 7] + s0 + w[t - 16];
    }
    memcpy(v, h, sizeof v);
    for (int t = 0; t < 64; t++) {
        uint32_t a = v[0], e = v[4], choice = (e & v[5]) ^ (~e & v[6]);
        uint32_t majority = (a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]);
        uint32_t first = v[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + choice + SHA256_K[t] + w[t];
        uint32_t second = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + majority;
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += first;
        v[0] = first + second;
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
}

static void add_block(digest *d, const unsigned char block[64]) {
    (d->kind == DIGEST_SHA1 ? sha1_block : sha256_block)(d->state, block);
}

void digest_begin(digest *d, digest_kind kind) {
    static const uint32_t SHA1[8] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    static const uint32_t SHA256[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    *d = (digest){.kind = kind};
    memcpy(d->state, kind == DIGEST_SHA1 ? SHA1 : SHA256, sizeof d->state);
}

void digest_add(digest *d, const void *bytes, size_t count) {
    const unsigned char *from = bytes;
    size_t buffered = d->bytes % 64;
    if (!count) return; /* `bytes` may be NULL */
    d->bytes += count;
    if (buffered) {
        size_t missing = 64 - buffered, taken = count < missing ? count : missing;
        memcpy(d->block + buffered, from, taken);
        from += taken;
        count -= taken;
        if (taken < missing) return;
        add_block(d, d->block);
    }
    for (; count >= 64; count -= 64, from += 64) add_block(d, from);
    if (count) memcpy(d->block, from, count);
}

void digest_end(digest *d, char out[DIGEST_TEXT]) {
    static const unsigned char PADDING[64] = {0x80};
    uint64_t bits = d->bytes * 8;
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(bits >> (56 - 8 * i));
    digest_add(d, PADDING, 1 + (119 - d->bytes % 64) % 64);
    digest_add(d, length, sizeof length);
    for (int i = 0; i < (d->kind == DIGEST_SHA1 ? 5 : 8); i++) snprintf(out + 8 * i, 9, "%08x", (unsigned)d->state[i]);
}
