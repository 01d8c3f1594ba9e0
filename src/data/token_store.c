/* Reading token stores, see token_store.h. */
#include "data/token_store.h"

#include <string.h>

static int bad(const char *path, const char *what) {
    return fail(LCKV_ERROR_FORMAT, "'%s' is damaged: %s; delete it, and lckv creates it again", path, what);
}

/* Checks that the sizes agree with each other and with the file's. */
static int check_header(const token_header *h, size_t bytes, const char *path) {
    if (memcmp(h->magic, TOKEN_MAGIC, sizeof h->magic)) return bad(path, "expected " TOKEN_MAGIC " at the beginning");
    if (h->id_bytes != 2 && h->id_bytes != 4) return bad(path, "expected ids of 2 or 4 bytes");
    if (h->tokens < 0 || h->documents < 0 || h->largest < 0 || h->largest > INT32_MAX)
        return bad(path, "a size in the header is out of range");
    uint64_t limit = bytes, ids = ((uint64_t)h->tokens * h->id_bytes + 7) / 8 * 8, ends = (uint64_t)h->documents * 8;
    bool fits = (uint64_t)h->tokens <= limit && (uint64_t)h->documents <= limit && sizeof *h + ids + ends == limit;
    return fits ? LCKV_OK : bad(path, "the size of the file does not match its header");
}

/* Checks that the ends are ascending and that the last document ends with the last id. */
static int check_ends(const token_store *s, const char *path) {
    int64_t last = 0;
    bool ordered = true;
    for (int64_t i = 0; i < s->documents; i++) {
        ordered &= s->ends[i] >= last;
        last = s->ends[i];
    }
    return ordered && last == s->tokens ? LCKV_OK : bad(path, "the ends of its documents are not ascending");
}

static int read_store(token_store *s, const char *path) {
    token_header h;
    if (s->file.bytes < sizeof h) return bad(path, "the file is too short");
    memcpy(&h, s->file.data, sizeof h);
    TRY(check_header(&h, s->file.bytes, path));
    size_t ids = ((size_t)h.tokens * h.id_bytes + 7) / 8 * 8;
    s->ids = (id_view){s->file.data + sizeof h, (int)h.id_bytes, h.largest};
    s->ends = (const int64_t *)(const void *)(s->file.data + sizeof h + ids);
    s->tokens = h.tokens;
    s->documents = h.documents;
    s->has_text = h.has_text;
    return check_ends(s, path);
}

int token_store_open(const char *path, token_store *out) {
    *out = (token_store){0};
    TRY(file_map(path, &out->file));
    int status = read_store(out, path);
    if (status < 0) token_store_close(out);
    return status;
}

void token_store_close(token_store *s) {
    file_unmap(&s->file);
    *s = (token_store){0};
}

int id_view_read(const id_view *v, int64_t first, int64_t count, int32_t *out) {
    const uint16_t *narrow = v->data;
    const uint32_t *wide = v->data;
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t id = v->bytes == 2 ? narrow[first + i] : wide[first + i];
        largest = id > largest ? id : largest;
        out[i] = (int32_t)id;
    }
    REQUIRE(largest <= v->largest, LCKV_ERROR_FORMAT,
            "the tokenized data is damaged: found id %u, expected at most %lld; set overwrite_cache to create it again",
            largest, (long long)v->largest);
    return LCKV_OK;
}
