/* Incremental SHA-1 and SHA-256 (FIPS 180-4), by which git and the Hugging Face hub identify contents. SHA-1 detects
 * damage, not tampering. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum digest_kind { DIGEST_SHA1, DIGEST_SHA256 } digest_kind;

enum { DIGEST_TEXT = 65 }; /* 40 or 64 hexadecimal digits and a NUL */

typedef struct digest {
    digest_kind kind;
    uint32_t state[8];
    uint64_t bytes;          /* bytes added so far */
    unsigned char block[64]; /* bytes % 64 bytes that do not fill a block yet */
} digest;

void digest_begin(digest *d, digest_kind kind);
void digest_add(digest *d, const void *bytes, size_t count);
/* Writes lower-case digits. Call digest_begin() before using the digest again. */
void digest_end(digest *d, char out[DIGEST_TEXT]);

#endif
