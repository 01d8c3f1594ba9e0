/* Memory-mapped files; see mapped_file.h. */
#include "base/files/mapped_file.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Table of mappings for lckv_mapped_file_at(). A signal handler reads it, so it has no lock: an entry is claimed by
 * setting `begin`, filled, and published by setting `path`. If the table is full, further mappings are not listed. */
enum { MAX_NAMED = 1024 };

typedef struct named_mapping {
    _Atomic uintptr_t begin; /* 0: free entry */
    _Atomic size_t bytes;
    char *_Atomic path; /* NULL: not published */
} named_mapping;

static named_mapping mappings[MAX_NAMED];

static void add_name(const void *data, size_t bytes, const char *path) {
    char *copy = strdup(path);
    for (int i = 0; copy && i < MAX_NAMED; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&mappings[i].begin, &none, (uintptr_t)data)) continue;
        atomic_store(&mappings[i].bytes, bytes);
        atomic_store(&mappings[i].path, copy);
        return;
    }
    free(copy);
}

static void remove_name(const void *data) {
    for (int i = 0; i < MAX_NAMED; i++) {
        if (atomic_load(&mappings[i].begin) != (uintptr_t)data) continue;
        free(atomic_exchange(&mappings[i].path, NULL));
        atomic_store(&mappings[i].begin, 0);
        return;
    }
}

const char *lckv_mapped_file_at(const void *address) {
    for (int i = 0; i < MAX_NAMED; i++) {
        const char *path = atomic_load(&mappings[i].path);
        uintptr_t begin = atomic_load(&mappings[i].begin);
        if (path && (uintptr_t)address - begin < atomic_load(&mappings[i].bytes)) return path;
    }
    return NULL;
}

int file_map_open(int fd, const char *path, size_t bytes, mapped_file *out) {
    *out = (mapped_file){0};
    void *data = bytes ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0) : NULL;
    REQUIRE(data != MAP_FAILED, LCKV_ERROR_FILE, "cannot map '%s': %s", path, strerror(errno));
    if (data) add_name(data, bytes, path);
    *out = (mapped_file){data, bytes};
    return LCKV_OK;
}

int file_map(const char *path, mapped_file *out) {
    int fd;
    size_t bytes;
    *out = (mapped_file){0};
    TRY(file_open(path, &fd, &bytes));
    int status = file_map_open(fd, path, bytes, out);
    close(fd);
    return status;
}

void file_drop_pages(const void *data, size_t bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data / page * page;
    if (bytes) madvise((void *)begin, (uintptr_t)data + bytes - begin, MADV_DONTNEED); /* failure does no harm */
}

void file_unmap(mapped_file *file) {
    if (file->data) {
        remove_name(file->data);
        munmap((void *)(uintptr_t)file->data, file->bytes);
    }
    *file = (mapped_file){0};
}
