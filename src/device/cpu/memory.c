/* The CPU's memory: the heap. Every op is complete when its entry returns, so there is nothing to wait for. */
#include "device/cpu/cpu.h"

#include "base/clock.h"
#include "base/memory_limit.h"
#include "device/limit.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 256, HUGE_PAGE = 2 << 20 };

/* Large blocks ask for huge pages: a product that walks down the rows of a weight would otherwise be slowed by the
 * page table (a fifth of the time of a product with one row). */
static int allocate(size_t bytes, void **out) {
    size_t alignment = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    *out = rounded < bytes ? NULL : aligned_alloc(alignment, rounded ? rounded : alignment);
#ifdef MADV_HUGEPAGE
    if (*out && alignment == HUGE_PAGE) madvise(*out, rounded, MADV_HUGEPAGE); /* a hint; failure does no harm */
#endif
    REQUIRE(*out != NULL, LCKV_ERROR_MEMORY, "no memory for %zu bytes on the cpu", bytes);
    return LCKV_OK;
}

static int alloc(device *d, size_t bytes, void **out) {
    struct cpu_state *state = d->own;
    *out = NULL;
    TRY(device_check_limit(d, bytes, state->held, state->limit));
    TRY(allocate(bytes, out));
    state->held += malloc_usable_size(*out);
    return LCKV_OK;
}

static void release(device *d, void *memory) {
    struct cpu_state *state = d->own;
    state->held -= malloc_usable_size(memory);
    free(memory);
}

static int limit(device *d, size_t bytes) {
    struct cpu_state *state = d->own;
    state->limit = bytes;
    return LCKV_OK;
}

static int copy(device *d, void *to, const void *from, size_t bytes) {
    (void)d;
    if (bytes > 0) memcpy(to, from, bytes);
    return LCKV_OK;
}

static int zero(device *d, void *memory, size_t bytes) {
    (void)d;
    if (bytes > 0) memset(memory, 0, bytes);
    return LCKV_OK;
}

static int clock_out(device *d, double *host) {
    (void)d;
    *host = clock_seconds();
    return LCKV_OK;
}

static int wait(device *d) {
    (void)d;
    return LCKV_OK;
}

static int mark(device *d, int64_t *mark) {
    (void)d;
    *mark = 0;
    return LCKV_OK;
}

static int reach(device *d, int64_t mark) {
    (void)d, (void)mark;
    return LCKV_OK;
}

/* Linux reports how much is available without swapping; elsewhere unused memory is the estimate. */
static size_t available_bytes(void) {
    size_t kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1) break;
    if (file) fclose(file);
#ifdef _SC_AVPHYS_PAGES
    if (kib == 0) return (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
#endif
    return kib * 1024;
}

static int available(device *d, size_t *free_bytes, size_t *total_bytes) {
    (void)d;
    size_t here = available_bytes(), allowed = memory_limit_left("");
    *free_bytes = here < allowed ? here : allowed;
    *total_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    return LCKV_OK;
}

int cpu_scratch(device *d, enum cpu_scratch which, size_t bytes, void **out) {
    struct cpu_state *state = d->own;
    if (state->scratch[which].bytes < bytes) {
        free(state->scratch[which].memory);
        state->scratch[which].memory = NULL;
        state->scratch[which].bytes = 0;
        TRY(allocate(bytes, &state->scratch[which].memory));
        state->scratch[which].bytes = bytes;
    }
    *out = state->scratch[which].memory;
    return LCKV_OK;
}

void cpu_memory_free(device *d) {
    struct cpu_state *state = d->own;
    for (int i = 0; i < CPU_SCRATCHES; i++) free(state->scratch[i].memory);
}

void cpu_memory_fill(struct device_memory *memory) {
    memory->alloc = alloc;
    memory->release = release;
    memory->copy_in = copy;
    memory->copy_out = copy;
    memory->clock_out = clock_out;
    memory->zero = zero;
    memory->wait = wait;
    memory->mark = mark;
    memory->reach = reach;
    memory->available = available;
    memory->limit = limit;
}
