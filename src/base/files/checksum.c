/* CRC-64/XZ, see checksum.h: eight bytes at a time ("slicing by 8", Kounavis and Berry 2008). */
#include "base/files/checksum.h"

#include "base/files/file.h"

#include <unistd.h>

enum { SLICES = 8 };
static const uint64_t POLYNOMIAL = 0xC96C5795D7870F42; /* of ECMA-182, reflected */

typedef struct tables {
    uint64_t of[SLICES][256]; /* of[k][b]: contribution of byte b, k bytes before the end */
} tables;

static void fill(tables *t) {
    for (unsigned b = 0; b < 256; b++) {
        uint64_t sum = b;
        for (int bit = 0; bit < 8; bit++) sum = sum & 1 ? sum >> 1 ^ POLYNOMIAL : sum >> 1;
        t->of[0][b] = sum;
    }
    for (int k = 1; k < SLICES; k++)
        for (unsigned b = 0; b < 256; b++) t->of[k][b] = t->of[k - 1][b] >> 8 ^ t->of[0][t->of[k - 1][b] & 255];
}

static uint64_t add(const tables *t, uint64_t sum, const unsigned char *p, size_t count) {
    sum = ~sum;
    for (; count >= SLICES; count -= SLICES, p += SLICES) {
        uint64_t next = 0;
        for (int k = 0; k < SLICES; k++) next ^= t->of[SLICES - 1 - k][(sum >> 8 * k ^ p[k]) & 255];
        sum = next;
    }
    while (count--) sum = sum >> 8 ^ t->of[0][(sum ^ *p++) & 255];
    return ~sum;
}

uint64_t checksum_add(uint64_t sum, const void *bytes, size_t count) {
    tables t;
    fill(&t);
    return add(&t, sum, bytes, count);
}

static int add_open_file(const tables *t, int fd, const char *path, size_t bytes, uint64_t *sum) {
    enum { CHUNK = 1 << 16 };
    char chunk[CHUNK];
    for (size_t count; bytes; bytes -= count) {
        count = bytes < CHUNK ? bytes : CHUNK;
        TRY(file_read_open(fd, path, chunk, count));
        *sum = add(t, *sum, (const unsigned char *)chunk, count);
    }
    return LCKV_OK;
}

int checksum_file(const char *path, uint64_t *sum, size_t *bytes) {
    tables t;
    int fd;
    *sum = 0;
    TRY(file_open(path, &fd, bytes));
    fill(&t);
    int status = add_open_file(&t, fd, path, *bytes, sum);
    close(fd);
    return status;
}
