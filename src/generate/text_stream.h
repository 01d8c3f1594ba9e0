/* Text of one sequence: grows token by token and ends at a stop string.
 *
 * The text continues the prompt: prompt and continuation together read as if all ids were decoded at once (a tokenizer
 * may drop the space before the first word of a text). Text that may become part of a stop string is held back. */
#ifndef GENERATE_TEXT_STREAM_H
#define GENERATE_TEXT_STREAM_H

#include "base/text/text_buffer.h"

/* Incremental search for one stop string. */
typedef struct stop_search {
    const char *stop;
    size_t length;
    size_t *overlap; /* [length] failure function, see text_stream.c */
    size_t matched;  /* length of the stop string's prefix that the text so far ends with */
} stop_search;

typedef struct text_stream {
    lckv_tokenizer *tokenizer;
    lckv_decode_stream *decoder;
    stop_search *searches; /* [stop_count] */
    int stop_count;
    text_buffer prompt_tail; /* end of the prompt's text, which the decoder has not emitted yet */
    size_t prompt_tail_seen; /* bytes of it that the decoder has emitted since */
    text_buffer text;        /* the continuation, cut at the stop string */
    size_t handed_out;       /* bytes of it that text_stream_take() has returned */
    bool stopped;            /* a stop string was found */
    bool finished;
} text_stream;

/* The caller keeps `tokenizer` and `stops` (non-empty strings), which must outlive the stream. On failure
 * text_stream_close() releases what was allocated. */
int text_stream_open(text_stream *s, lckv_tokenizer *tokenizer, const int32_t *prompt, int64_t count,
                     const char *const *stops, int stop_count);
/* Opens a second stream for the same prompt without decoding it again. `from` must be new: nothing was pushed to it.
 * Otherwise like text_stream_open(). */
int text_stream_copy(text_stream *s, const text_stream *from);
void text_stream_close(text_stream *s); /* accepts all zeros */

int text_stream_push(text_stream *s, int32_t id);
int text_stream_finish(text_stream *s); /* no more ids follow */

/* Returns the text that is final and was not returned before; *bytes of it, often none. Valid until the next call. */
const char *text_stream_take(text_stream *s, size_t *bytes);

/* Decodes `ids` by themselves, without special tokens. If the stream has `stopped`, the text is cut at the first stop
 * string. *text has a NUL after its *bytes; release it with free(). */
int text_stream_decode(const text_stream *s, const int32_t *ids, int64_t count, char **text, size_t *bytes);

#endif
