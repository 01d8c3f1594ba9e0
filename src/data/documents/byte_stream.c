/* Reading plain and compressed files with libarchive, see byte_stream.h. */
#include "data/documents/byte_stream.h"

#include "base/files/file.h"
#include "base/text/text_buffer.h"
#include "base/work.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 18, LINE_BEGINS_WITH = 1 << 9 };

struct byte_stream {
    const char *path;
    struct archive *archive;
    int fd;
    char *window;
    size_t begin, end, capacity; /* the unread bytes in the window, and its size */
    bool at_end;
};

/* ---------------------------------------------------------------- compression by file name */

typedef struct compression {
    const char *ending;
    int code;
    int (*support)(struct archive *);
} compression;

static const compression COMPRESSIONS[] = {
    {".gz", ARCHIVE_FILTER_GZIP, archive_read_support_filter_gzip},
    {".bz2", ARCHIVE_FILTER_BZIP2, archive_read_support_filter_bzip2},
    {".xz", ARCHIVE_FILTER_XZ, archive_read_support_filter_xz},
    {".zst", ARCHIVE_FILTER_ZSTD, archive_read_support_filter_zstd},
};

static const compression *compression_of(const char *path) {
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof COMPRESSIONS / sizeof *COMPRESSIONS; i++) {
        size_t tail = strlen(COMPRESSIONS[i].ending);
        if (length > tail && !strcmp(path + length - tail, COMPRESSIONS[i].ending)) return &COMPRESSIONS[i];
    }
    return NULL;
}

size_t byte_stream_plain_length(const char *path) {
    const compression *c = compression_of(path);
    return strlen(path) - (c ? strlen(c->ending) : 0);
}

int byte_stream_find(const char *path, char **out) {
    *out = NULL;
    for (size_t i = 0; i <= sizeof COMPRESSIONS / sizeof *COMPRESSIONS; i++) {
        text_buffer candidate = {0};
        TRY(text_printf(&candidate, "%s%s", path, i ? COMPRESSIONS[i - 1].ending : ""));
        if (file_exists(candidate.data)) return text_take(&candidate, out);
        text_free(&candidate);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- opening */

static int archive_failed(const byte_stream *s, int code) {
    const char *why = archive_error_string(s->archive);
    return fail(code, "cannot read '%s': %s", s->path, why ? why : "unknown error");
}

static int open_archive(byte_stream *s, const compression *c) {
    struct archive *a = s->archive;
    struct archive_entry *entry;
    REQUIRE(a, LCKV_ERROR_MEMORY, "no memory to read '%s'", s->path);
    if (c && c->support(a) != ARCHIVE_OK) return archive_failed(s, LCKV_ERROR_UNSUPPORTED);
    archive_read_support_format_raw(a);
    archive_read_support_format_empty(a);
    size_t bytes;
    TRY(file_open(s->path, &s->fd, &bytes));
    if (archive_read_open_fd(a, s->fd, READ_BYTES) != ARCHIVE_OK) return archive_failed(s, LCKV_ERROR_FORMAT);
    int status = archive_read_next_header(a, &entry);
    REQUIRE(!c || archive_filter_code(a, 0) == c->code, LCKV_ERROR_FORMAT,
            "'%s': the content does not match the file name extension", s->path);
    s->at_end = status == ARCHIVE_EOF;
    return status == ARCHIVE_OK || s->at_end ? LCKV_OK : archive_failed(s, LCKV_ERROR_FORMAT);
}

int byte_stream_open(const char *path, byte_stream **out) {
    *out = NULL;
    byte_stream *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory to read '%s'", path);
    *s = (byte_stream){.path = path, .archive = archive_read_new(), .fd = -1};
    int status = open_archive(s, compression_of(path));
    if (status < 0)
        byte_stream_close(s);
    else
        *out = s;
    return status;
}

void byte_stream_close(byte_stream *s) {
    if (!s) return;
    if (s->archive) archive_read_free(s->archive);
    if (s->fd >= 0) close(s->fd);
    free(s->window);
    free(s);
}

/* ---------------------------------------------------------------- reading */

/* Moves the unread bytes to the start of the window and makes room after them. */
static int make_room(byte_stream *s, size_t wanted) {
    size_t left = s->end - s->begin, capacity = s->capacity ? s->capacity : READ_BYTES;
    if (left && s->begin) memmove(s->window, s->window + s->begin, left);
    work_count(left);
    s->begin = 0;
    s->end = left;
    while (capacity < wanted || capacity - left < READ_BYTES / 2) capacity *= 2;
    if (capacity == s->capacity) return LCKV_OK;
    char *window = realloc(s->window, capacity);
    REQUIRE(window, LCKV_ERROR_MEMORY, "'%s': no memory to read %zu bytes at once", s->path, capacity);
    s->window = window;
    s->capacity = capacity;
    return LCKV_OK;
}

static int read_more(byte_stream *s) {
    la_ssize_t found = archive_read_data(s->archive, s->window + s->end, s->capacity - s->end);
    if (found < 0) return archive_failed(s, LCKV_ERROR_FORMAT);
    work_count((size_t)found);
    s->end += (size_t)found;
    s->at_end = found == 0;
    return LCKV_OK;
}

int byte_stream_look(byte_stream *s, size_t wanted, const char **bytes, size_t *count) {
    if (s->end - s->begin < wanted && !s->at_end) TRY(make_room(s, wanted));
    while (s->end - s->begin < wanted && !s->at_end) TRY(read_more(s));
    *bytes = s->window ? s->window + s->begin : "";
    *count = s->end - s->begin;
    return LCKV_OK;
}

void byte_stream_skip(byte_stream *s, size_t count) {
    s->begin += count;
}

/* Index of the first line break from `at` on; `count` if there is none. Searches in small steps, so that the search for
 * one of the two characters does not run far past the other. */
static size_t find_break(const char *bytes, size_t at, size_t count, bool carriage_returns) {
    enum { STEP = 1 << 10 };
    size_t begin = at;
    const char *found = NULL;
    for (; !found && at < count; at += STEP) {
        size_t now = count - at < STEP ? count - at : STEP;
        const char *carriage = carriage_returns ? memchr(bytes + at, '\r', now) : NULL;
        found = memchr(bytes + at, '\n', carriage ? (size_t)(carriage - bytes) - at : now);
        if (!found) found = carriage;
    }
    size_t end = found ? (size_t)(found - bytes) : count;
    work_count(end - begin);
    return end;
}

/* Finds the end of the next line. *length excludes the line break, *end includes it. */
static int line_end(byte_stream *s, bool carriage_returns, const char **bytes, size_t *end, size_t *length) {
    size_t count, searched = 0;
    for (size_t wanted = LINE_BEGINS_WITH;; wanted = count * 2) {
        TRY(byte_stream_look(s, wanted, bytes, &count));
        searched = find_break(*bytes, searched, count, carriage_returns);
        *length = *end = searched;
        if (searched < count) break;
        if (count < wanted) return LCKV_OK;
    }
    bool carriage = (*bytes)[*length] == '\r';
    *end = *length + 1;
    if (carriage) TRY(byte_stream_look(s, *end + 1, bytes, &count));
    if (carriage && *end < count && (*bytes)[*end] == '\n') ++*end;
    return LCKV_OK;
}

int byte_stream_line(byte_stream *s, const char **line, size_t *count) {
    size_t length;
    return line_end(s, false, line, count, &length);
}

int byte_stream_any_line(byte_stream *s, const char **line, size_t *count, size_t *length) {
    return line_end(s, true, line, count, length);
}

int64_t byte_stream_position(const byte_stream *s) {
    return archive_filter_bytes(s->archive, -1);
}

static int take_all(byte_stream *s, text_buffer *all) {
    for (size_t count = 1; count;) {
        const char *bytes;
        TRY(byte_stream_look(s, 1, &bytes, &count));
        TRY(text_append(all, bytes, count));
        byte_stream_skip(s, count);
    }
    return LCKV_OK;
}

int byte_stream_read_file(const char *path, char **out, size_t *bytes) {
    byte_stream *s;
    text_buffer all = {0};
    *out = NULL;
    TRY(byte_stream_open(path, &s));
    int status = take_all(s, &all);
    *bytes = all.length;
    if (status >= 0) status = text_take(&all, out);
    byte_stream_close(s);
    text_free(&all);
    return status;
}
