/* SHA-1 and SHA-256 (FIPS 180-4), fed in pieces: the names that git and the Hugging Face hub give to contents.
 *
 * Leaves out: any other use of them; SHA-1 here tells damage, and is no defence. */
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
    uint64_t bytes;
    unsigned char block[64];
} digest;

void digest_begin(digest *d, digest_kind kind);
void digest_add(digest *d, const void *bytes, size_t count);
/* In small letters. The digest has to begin anew after it. */
void digest_end(digest *d, char out[DIGEST_TEXT]);

#endif
