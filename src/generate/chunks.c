/* Chunks of a prompt, see chunks.h. */
#include "generate/chunks.h"

/* The rest of a prompt is split if it has more than this number of the smallest chunks. */
enum { UNSPLIT = 2 };

prompt_chunk chunk_at(const chunk_rules *r, int64_t count, int64_t at) {
    if (r->window_length && at >= r->window_length) return (prompt_chunk){at, at + 1};
    if (r->window_length && count > r->window_length) count = r->window_length;
    int64_t begin = at / r->largest * r->largest, rest = count - begin;
    if (rest > r->largest) return (prompt_chunk){begin, begin + r->largest};
    int64_t split = begin + (rest - 1) / r->smallest * r->smallest;
    if (r->keeps_rest || rest <= UNSPLIT * r->smallest) return (prompt_chunk){begin, count};
    return at < split ? (prompt_chunk){begin, split} : (prompt_chunk){split, count};
}

int64_t chunk_next_kept(const chunk_rules *r, int64_t count, int64_t at) {
    int64_t end = chunk_at(r, count, at).end, over = end % r->largest % r->smallest;
    return over ? end + r->smallest - over : end;
}
