/* Memory that is taken piece by piece and given back all at once. It has a limit, so that a template cannot eat a
 * machine. */
#ifndef TEXT_JINJA_ARENA_H
#define TEXT_JINJA_ARENA_H

#include "base/status.h"

#include <stddef.h>

typedef struct arena_chunk arena_chunk;

typedef struct arena {
    arena_chunk *chunks; /* newest first */
    char *top, *end;     /* what is free in the newest */
    size_t taken, limit; /* bytes of all chunks */
} arena;                 /* all zeros but the limit is an empty one */

/* Zeroed, aligned for anything; NULL with the thread's message where the limit or the machine says no. */
void *arena_take(arena *a, size_t bytes);

/* Makes `bytes` of them `more` longer where they were taken last, and else copies them. The old address stays valid for
 * the old bytes, so that a string that grows shares its memory with what it was. */
void *arena_extend(arena *a, const void *block, size_t bytes, size_t more);

void arena_free(arena *a);

/* For functions that return a status. */
#define TAKE(pointer, a, bytes)                                                                                        \
    do {                                                                                                               \
        (pointer) = arena_take((a), (bytes));                                                                          \
        if (!(pointer)) return status_of_failure(LCKV_ERROR_MEMORY);                                                   \
    } while (0)

#endif
