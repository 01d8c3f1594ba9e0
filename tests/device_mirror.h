/* Runs the tests of device ops on a GPU: a device in host memory whose ops copy the tensors of the check (with red
 * zones) to the GPU, run there on the copies, and copy everything back.
 *
 * Included by device_check.h, which has the list of tensors. */
#ifndef TESTS_DEVICE_MIRROR_H
#define TESTS_DEVICE_MIRROR_H

#include "device/device.h"

#include <stdlib.h>
#include <string.h>

/* The check's tensors as memory blocks, including red zones. */
typedef struct mirrored {
    char *memory;
    size_t bytes;
} mirrored;

typedef struct mirror {
    device *gpu;
    int (*list)(mirrored *out); /* fills up to MIRROR_MOST */
    char *twins;
    size_t room;
} mirror;

enum { MIRROR_MAX = 64 };

/* Translates each word of the op's struct that points into a tensor to the address in its copy. */
static inline void mirror_translate(void *arguments, size_t bytes, const mirrored *list, int count, char *twins) {
    for (size_t at = 0; at + sizeof(char *) <= bytes; at += sizeof(char *)) {
        char *word, *twin = twins;
        memcpy(&word, (char *)arguments + at, sizeof word);
        for (int i = 0; i < count; twin += list[i++].bytes) {
            if (word < list[i].memory || word >= list[i].memory + list[i].bytes) continue;
            word = twin + (word - list[i].memory);
            memcpy((char *)arguments + at, &word, sizeof word);
            break;
        }
    }
}

static inline int mirror_copy(mirror *m, const mirrored *list, int count, bool in) {
    char *twin = m->twins;
    for (int i = 0; i < count; twin += list[i++].bytes) {
        if (in) TRY(m->gpu->memory.copy_in(m->gpu, twin, list[i].memory, list[i].bytes));
        if (!in) TRY(m->gpu->memory.copy_out(m->gpu, list[i].memory, twin, list[i].bytes));
    }
    return m->gpu->memory.wait(m->gpu);
}

static inline int mirror_begin(mirror *m, void *arguments, size_t bytes, mirrored *list, int *count) {
    size_t needed = 0;
    *count = m->list(list);
    for (int i = 0; i < *count; i++) needed += list[i].bytes;
    if (needed > m->room) {
        m->gpu->memory.release(m->gpu, m->twins);
        m->twins = NULL;
        TRY(m->gpu->memory.alloc(m->gpu, needed, (void **)&m->twins));
        m->room = needed;
    }
    mirror_translate(arguments, bytes, list, *count, m->twins);
    return mirror_copy(m, list, *count, true);
}

#define ENTRY(name, arguments)                                                                                         \
    static inline int mirror_##name(device *d, const struct op_##arguments *a) {                                       \
        mirror *m = d->own;                                                                                            \
        mirrored list[MIRROR_MAX];                                                                                     \
        struct op_##arguments twin = *a;                                                                               \
        int count;                                                                                                     \
        TRY(mirror_begin(m, &twin, sizeof twin, list, &count));                                                        \
        TRY(m->gpu->ops.name(m->gpu, &twin));                                                                          \
        return mirror_copy(m, list, count, false);                                                                     \
    }
DEVICE_OPS(ENTRY)
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY

static inline void mirror_close(device *d) {
    mirror *m = d->own;
    m->gpu->memory.release(m->gpu, m->twins);
    device_close(m->gpu);
    free(m);
}

/* Fails as device_open("cuda") does without a GPU. */
static inline int mirror_open(device *d, int (*list)(mirrored *out)) {
    device *gpu;
    TRY(device_open("cuda", 0, &gpu));
    mirror *m = calloc(1, sizeof *m);
    if (m == NULL) abort();
    *m = (mirror){.gpu = gpu, .list = list};
    *d = (device){.name = "mirror", .formats = gpu->formats, .own = m};
#define ENTRY(name, arguments) d->ops.name = mirror_##name;
    DEVICE_OPS(ENTRY)
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
    d->memory.close = mirror_close;
    return LCKV_OK;
}

#endif
