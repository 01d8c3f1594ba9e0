/* Sequential reading of a file, which is decompressed if its name ends in .gz, .bz2, .xz or .zst. Uses a window, so
 * that files may be larger than memory.
 *
 * Leaves out: the meaning of the bytes (document_reader.h), and archives of several files (.tar, .zip). */
#ifndef DATA_DOCUMENTS_BYTE_STREAM_H
#define DATA_DOCUMENTS_BYTE_STREAM_H

#include "base/status.h"

typedef struct byte_stream byte_stream;

/* `path` must outlive the stream. LCKV_ERROR_FORMAT if the content does not match the extension. */
int byte_stream_open(const char *path, byte_stream **out);
void byte_stream_close(byte_stream *s); /* NULL is fine */

/* Reads a whole file and appends a NUL; release with free(). */
int byte_stream_read_file(const char *path, char **out, size_t *bytes);

/* Finds the file `path`, or `path` with the extension of a compression; *out is NULL if there is none. */
int byte_stream_find(const char *path, char **out);

/* Length of `path` without the extension of a compression. */
size_t byte_stream_plain_length(const char *path);

/* The next unread bytes, at least `wanted` unless the file ends. Does not consume them. Valid until the next call. */
int byte_stream_look(byte_stream *s, size_t wanted, const char **bytes, size_t *count);
/* Consumes `count` of the bytes that byte_stream_look() returned. */
void byte_stream_skip(byte_stream *s, size_t count);

/* The next line with its "\n", which the last line may lack; *count is 0 at the end. Does not consume it. */
int byte_stream_line(byte_stream *s, const char **line, size_t *count);

/* Like byte_stream_line(), for lines that end in "\n", "\r\n" or "\r"; *length excludes the line break. */
int byte_stream_any_line(byte_stream *s, const char **line, size_t *count, size_t *length);

/* Bytes of the file (compressed) that were read so far. */
int64_t byte_stream_position(const byte_stream *s);

#endif
