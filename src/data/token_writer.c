/* Writing token stores, see token_writer.h. */
#include "data/token_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COPY_BYTES = 1 << 16, IDS_AT_ONCE = 1 << 10 };

int token_writer_begin(const char *path, int id_bytes, token_writer *out) {
    char *ends;
    *out = (token_writer){.header = {.magic = TOKEN_MAGIC, .id_bytes = (uint32_t)id_bytes}};
    size_t bytes = strlen(path) + sizeof ".ends";
    TRY(file_begin(path, &out->file));
    ends = malloc(bytes);
    int status = ends ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for a path");
    if (ends) snprintf(ends, bytes, "%s.ends", path);
    if (status >= 0) status = file_begin(ends, &out->ends);
    if (status >= 0) status = file_write(&out->file, &out->header, sizeof out->header);
    free(ends);
    if (status < 0) token_writer_abandon(out);
    return status;
}

void token_writer_abandon(token_writer *w) {
    file_abandon(&w->file);
    file_abandon(&w->ends);
}

/* Writes the end of a document, when the next one starts. */
static int end_document(token_writer *w) {
    return w->header.documents ? file_write(&w->ends, &w->header.tokens, sizeof w->header.tokens) : LCKV_OK;
}

static int write_narrow(token_writer *w, const int32_t *ids, int64_t count) {
    uint16_t narrow[IDS_AT_ONCE];
    for (int64_t done = 0; done < count;) {
        int64_t now = count - done < IDS_AT_ONCE ? count - done : IDS_AT_ONCE;
        for (int64_t i = 0; i < now; i++) narrow[i] = (uint16_t)ids[done + i];
        TRY(file_write(&w->file, narrow, (size_t)now * sizeof *narrow));
        done += now;
    }
    return LCKV_OK;
}

int token_writer_add(token_writer *w, const int32_t *ids, int64_t count, bool goes_on) {
    token_header *h = &w->header;
    if (!goes_on) {
        TRY(end_document(w));
        h->documents++;
    }
    for (int64_t i = 0; i < count; i++) h->largest = ids[i] > h->largest ? ids[i] : h->largest;
    REQUIRE(h->id_bytes == 4 || h->largest <= UINT16_MAX, LCKV_ERROR_FORMAT, "id %lld does not fit into 16 bits",
            (long long)h->largest);
    TRY(h->id_bytes == 4 ? file_write(&w->file, ids, (size_t)count * sizeof *ids) : write_narrow(w, ids, count));
    h->tokens += count;
    return LCKV_OK;
}

/* Appends the temporary file `ends` to the ids. */
static int append_ends(token_writer *w) {
    char bytes[COPY_BYTES];
    size_t count;
    bool flushed = fflush(w->ends.stream) == 0;
    FILE *ends = flushed ? fopen(w->ends.partial, "rbe") : NULL;
    REQUIRE(ends, LCKV_ERROR_FILE, "cannot %s '%s': %s", flushed ? "read" : "write", w->ends.partial, strerror(errno));
    int status = LCKV_OK;
    while (status >= 0 && (count = fread(bytes, 1, sizeof bytes, ends)) > 0)
        status = file_write(&w->file, bytes, count);
    if (ferror(ends) && status >= 0) status = fail(LCKV_ERROR_FILE, "cannot read '%s'", w->ends.partial);
    fclose(ends);
    return status;
}

static int finish(token_writer *w, bool has_text) {
    const char zeros[8] = {0};
    size_t over = (size_t)w->header.tokens * w->header.id_bytes % 8;
    w->header.has_text = has_text;
    TRY(end_document(w));
    TRY(file_write(&w->file, zeros, over ? 8 - over : 0));
    TRY(append_ends(w));
    REQUIRE(fseek(w->file.stream, 0, SEEK_SET) == 0, LCKV_ERROR_FILE, "cannot write '%s'", w->file.partial);
    return file_write(&w->file, &w->header, sizeof w->header);
}

int token_writer_commit(token_writer *w, bool has_text) {
    int status = finish(w, has_text);
    if (status >= 0) status = file_commit(&w->file);
    token_writer_abandon(w);
    return status;
}
