/* Memory of a template or a rendering, see arena.h. */
#include "text/jinja/arena.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 16384, ALIGNMENT = 16 };

struct arena_chunk {
    arena_chunk *older;
    _Alignas(ALIGNMENT) char data[];
};

static int add_chunk(arena *a, size_t bytes) {
    size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
    REQUIRE(size <= a->limit - a->taken, LCKV_ERROR_MEMORY, "the template requires more than %zu bytes of memory",
            a->limit);
    arena_chunk *chunk = malloc(sizeof *chunk + size);
    REQUIRE(chunk, LCKV_ERROR_MEMORY, "no memory for a template");
    chunk->older = a->chunks;
    a->chunks = chunk;
    a->taken += size;
    a->top = chunk->data;
    a->end = chunk->data + size;
    return LCKV_OK;
}

void *arena_take(arena *a, size_t bytes) {
    if (bytes > a->limit) {
        fail_message("the template requires more than %zu bytes of memory", a->limit);
        return NULL;
    }
    char *at = a->top;
    if (at) at += (ALIGNMENT - (size_t)(at - a->chunks->data) % ALIGNMENT) % ALIGNMENT;
    if (!at || at > a->end || bytes > (size_t)(a->end - at)) {
        if (add_chunk(a, bytes) < 0) return NULL;
        at = a->top;
    }
    a->top = at + bytes;
    return memset(at, 0, bytes);
}

void *arena_extend(arena *a, const void *block, size_t bytes, size_t more) {
    if (bytes && a->top == (const char *)block + bytes && more <= (size_t)(a->end - a->top)) {
        char *at = a->top - bytes;
        a->top += more;
        return at;
    }
    if (more > a->limit || bytes > a->limit) return arena_take(a, a->limit + 1); /* sets the error message */
    size_t room = bytes > 256 ? bytes + bytes / 2 : bytes; /* memory that grows once will probably grow again */
    char *at = arena_take(a, room + more);
    if (!at) return NULL;
    if (bytes) memcpy(at, block, bytes);
    a->top = at + bytes + more;
    return at;
}

void arena_free(arena *a) {
    while (a->chunks) {
        arena_chunk *older = a->chunks->older;
        free(a->chunks);
        a->chunks = older;
    }
    *a = (arena){.limit = a->limit};
}
