/* The bytes of a file from its beginning to its end, unpacked where its name says that it is compressed: .gz, .bz2,
 * .xz, .zst. Reads through a window, so that a file may be larger than memory.
 *
 * Leaves out: what the bytes mean (documents.h). Archives of several files (.tar, .zip) are not looked into. */
#ifndef DATA_BYTE_STREAM_H
#define DATA_BYTE_STREAM_H

#include "base/status.h"

typedef struct byte_stream byte_stream;

/* `path` must outlive it. LCKV_ERROR_FORMAT: the file is not what its ending says. */
int byte_stream_open(const char *path, byte_stream **out);
void byte_stream_close(byte_stream *s); /* NULL is fine */

/* The whole of a file, and a zero byte behind it; release with free(). */
int byte_stream_read_file(const char *path, char **out, size_t *bytes);

/* Finds `path` as it is or with an ending that says how it is compressed; *out is NULL where there is none of these. */
int byte_stream_find(const char *path, char **out);

/* The length of `path` without an ending that says how it is compressed. */
size_t byte_stream_plain_length(const char *path);

/* The next bytes, at least `wanted` of them unless the file ends before; they stay the next ones. Valid until the next
 * call. */
int byte_stream_look(byte_stream *s, size_t wanted, const char **bytes, size_t *count);
/* Goes past `count` of the bytes that were looked at. */
void byte_stream_skip(byte_stream *s, size_t count);

/* The next line with its "\n", or what is left without one; *count is 0 at the end. Goes past nothing. */
int byte_stream_line(byte_stream *s, const char **line, size_t *count);

/* The same of lines that "\n", "\r\n" or "\r" ends; *length is that of the line without its break. */
int byte_stream_any_line(byte_stream *s, const char **line, size_t *count, size_t *length);

/* Bytes of the file, as it lies on disk, that have been taken in. */
int64_t byte_stream_position(const byte_stream *s);

#endif
