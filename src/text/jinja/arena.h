/* Arena: memory that is allocated piece by piece and freed all at once. It has a limit, so that a template cannot
 * exhaust the memory of the machine. */
#ifndef TEXT_JINJA_ARENA_H
#define TEXT_JINJA_ARENA_H

#include "base/status.h"

#include <stddef.h>

typedef struct arena_chunk arena_chunk;

typedef struct arena {
    arena_chunk *chunks; /* newest first */
    char *top, *end;     /* free memory of the newest chunk */
    size_t taken, limit; /* bytes of all chunks */
} arena;                 /* all zeros except the limit: empty */

/* Returns zeroed memory with maximum alignment; NULL, with the thread's error message, if the limit is reached or
 * memory runs out. */
void *arena_take(arena *a, size_t bytes);

/* Extends an allocation of `bytes` bytes by `more`: in place if it is the latest one, otherwise by a copy. The old
 * address stays valid for the old bytes, so that a growing string shares memory with its earlier versions. */
void *arena_extend(arena *a, const void *block, size_t bytes, size_t more);

void arena_free(arena *a);

/* For functions that return a status. */
#define TAKE(pointer, a, bytes)                                                                                        \
    do {                                                                                                               \
        (pointer) = arena_take((a), (bytes));                                                                          \
        if (!(pointer)) return status_of_failure(LCKV_ERROR_MEMORY);                                                   \
    } while (0)

#endif
