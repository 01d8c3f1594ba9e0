/* The text of one running sequence: grows token by token, ends at a stop string.
 *
 * What is handed out continues the prompt's text: prompt and continuation together read as if all ids were decoded at
 * once (a tokenizer may drop the space before its first word). Text that may still become a stop string is held back.
 * Leaves out: ids (sequence.h). */
#ifndef GENERATE_TEXT_STREAM_H
#define GENERATE_TEXT_STREAM_H

#include "base/text_buffer.h"

/* A search for one stop string. */
typedef struct stop_search {
    const char *stop;
    size_t length;
    size_t *overlap; /* [length] */
    size_t matched;  /* bytes at the end of the text so far that are its beginning */
} stop_search;

typedef struct text_stream {
    lckv_tokenizer *tokenizer;
    lckv_decode_stream *decoder;
    stop_search *searches; /* [stop_count] */
    int stop_count;
    text_buffer owed; /* the end of the prompt's own text, which the decoder has not said yet */
    size_t paid;      /* bytes of it that it has said since */
    text_buffer text; /* the continuation, cut where it stops */
    size_t taken;     /* bytes of it that were handed out */
    bool stopped;     /* a stop string came */
    bool finished;
} text_stream;

/* `tokenizer` and `stops`, none of which is empty, stay the caller's and outlive the stream. On failure
 * text_stream_close() releases what was begun. */
int text_stream_open(text_stream *s, lckv_tokenizer *tokenizer, const int32_t *prompt, int64_t count,
                     const char *const *stops, int stop_count);
/* A second stream behind the same prompt, which is not decoded again; nothing has been pushed to `from`. As
 * text_stream_open() otherwise. */
int text_stream_copy(text_stream *s, const text_stream *from);
void text_stream_close(text_stream *s); /* all zeros is fine */

int text_stream_push(text_stream *s, int32_t id);
int text_stream_finish(text_stream *s); /* no more ids will come */

/* The text that can be said by now and was not taken before; *bytes of it, often none. It belongs to the stream, until
 * its next call. */
const char *text_stream_take(text_stream *s, size_t *bytes);

/* The text of `ids` by themselves, special tokens left out, cut at the first stop string if the stream has `stopped`;
 * a NUL stands behind its *bytes. Release with free(). */
int text_stream_decode(const text_stream *s, const int32_t *ids, int64_t count, char **text, size_t *bytes);

#endif
