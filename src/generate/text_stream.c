/* Text of a sequence, see text_stream.h. _GNU_SOURCE is for memmem(). */
#define _GNU_SOURCE
#include "generate/text_stream.h"

#include "base/work.h"
#include "text/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* A model may have more ids than its tokenizer has tokens; an id without a token has no text. */
static bool has_text(const lckv_tokenizer *tokenizer, int32_t id) {
    return lckv_tokenizer_id_to_token(tokenizer, id) != NULL;
}

/* Decodes ids, special tokens left out; release with free(). */
static int decode(lckv_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text, size_t *bytes) {
    int32_t *known = malloc((size_t)count * sizeof *known + 1);
    *text = NULL;
    REQUIRE(known, LCKV_ERROR_MEMORY, "no memory to decode %lld tokens", (long long)count);
    size_t n = 0;
    for (int64_t i = 0; i < count; i++)
        if (has_text(tokenizer, ids[i])) known[n++] = ids[i];
    int status = lckv_tokenizer_decode(tokenizer, known, n, true, text, bytes);
    free(known);
    return status;
}

/* ---- stop strings: Knuth-Morris-Pratt search, linear in the length of the text */

/* overlap[i]: length of the longest proper prefix of the stop string that is also a suffix of its first i + 1 bytes. */
static int make_search(stop_search *search, const char *stop) {
    *search = (stop_search){.stop = stop, .length = strlen(stop)};
    search->overlap = malloc(search->length * sizeof *search->overlap);
    REQUIRE(search->overlap, LCKV_ERROR_MEMORY, "no memory for a stop string of %zu bytes", search->length);
    search->overlap[0] = 0;
    for (size_t i = 1, matched = 0; i < search->length; i++) {
        while (matched && stop[i] != stop[matched]) matched = search->overlap[matched - 1];
        matched += stop[i] == stop[matched];
        search->overlap[i] = matched;
    }
    return LCKV_OK;
}

/* Advances by one byte. Returns whether the stop string ends with it. */
static bool search_step(stop_search *search, char c) {
    if (search->matched == search->length) search->matched = search->overlap[search->matched - 1];
    while (search->matched && c != search->stop[search->matched]) {
        search->matched = search->overlap[search->matched - 1];
        work_count(1);
    }
    search->matched += c == search->stop[search->matched];
    return search->matched == search->length;
}

/* Start of the earliest stop string in s->text that ends at `from` or later; SIZE_MAX if there is none. */
static size_t find_stop(text_stream *s, size_t from) {
    size_t first = SIZE_MAX;
    for (int i = 0; i < s->stop_count; i++) {
        stop_search *search = &s->searches[i];
        work_count(s->text.length - from);
        for (size_t at = from; at < s->text.length; at++) {
            if (!search_step(search, s->text.data[at])) continue;
            if (at + 1 - search->length < first) first = at + 1 - search->length;
            break; /* the stream ends here */
        }
    }
    return first;
}

/* Number of bytes at the end of the text that may be the start of a stop string. */
static size_t held_back_bytes(const text_stream *s) {
    size_t longest = 0;
    for (int i = 0; i < s->stop_count; i++)
        if (s->searches[i].matched > longest) longest = s->searches[i].matched;
    return longest;
}

/* ---- text */

/* Decodes the prompt. What the decoder emits belongs to the prompt's text; it emits the rest of that text together with
 * later tokens. */
static int read_prompt(text_stream *s, const int32_t *prompt, int64_t count) {
    size_t emitted = 0, all, bytes;
    const char *text;
    char *whole;
    for (int64_t i = 0; i < count; i++) {
        if (!has_text(s->tokenizer, prompt[i])) continue;
        TRY(lckv_decode_stream_push(s->decoder, prompt[i], &text, &bytes));
        emitted += bytes;
    }
    TRY(decode(s->tokenizer, prompt, count, &whole, &all));
    int status = emitted < all ? text_append(&s->prompt_tail, whole + emitted, all - emitted) : LCKV_OK;
    free(whole);
    return status;
}

int text_stream_open(text_stream *s, lckv_tokenizer *tokenizer, const int32_t *prompt, int64_t count,
                     const char *const *stops, int stop_count) {
    *s = (text_stream){.tokenizer = tokenizer, .searches = calloc((size_t)stop_count + 1, sizeof *s->searches)};
    REQUIRE(s->searches, LCKV_ERROR_MEMORY, "no memory for %d stop strings", stop_count);
    for (; s->stop_count < stop_count; s->stop_count++)
        TRY(make_search(&s->searches[s->stop_count], stops[s->stop_count]));
    TRY(lckv_decode_stream_open(tokenizer, true, &s->decoder));
    return read_prompt(s, prompt, count);
}

/* Copies the searches with their state. */
static int copy_searches(text_stream *s, const text_stream *from) {
    s->searches = calloc((size_t)from->stop_count + 1, sizeof *s->searches);
    REQUIRE(s->searches, LCKV_ERROR_MEMORY, "no memory for %d stop strings", from->stop_count);
    for (; s->stop_count < from->stop_count; s->stop_count++) {
        TRY(make_search(&s->searches[s->stop_count], from->searches[s->stop_count].stop));
        s->searches[s->stop_count].matched = from->searches[s->stop_count].matched;
    }
    return LCKV_OK;
}

int text_stream_copy(text_stream *s, const text_stream *from) {
    *s = (text_stream){.tokenizer = from->tokenizer};
    TRY(copy_searches(s, from));
    TRY(decode_stream_copy(from->decoder, &s->decoder));
    return from->prompt_tail.length ? text_append(&s->prompt_tail, from->prompt_tail.data, from->prompt_tail.length)
                                    : LCKV_OK;
}

void text_stream_close(text_stream *s) {
    for (int i = 0; i < s->stop_count; i++) free(s->searches[i].overlap);
    free(s->searches);
    lckv_decode_stream_free(s->decoder);
    text_free(&s->prompt_tail);
    text_free(&s->text);
    *s = (text_stream){0};
}

/* The rest of the prompt's text is not part of the continuation, unless it has changed because bytes at the end of the
 * prompt formed a character together with new bytes. */
static void skip_prompt_tail(text_stream *s, const char **text, size_t *bytes) {
    size_t left = s->prompt_tail.length - s->prompt_tail_seen, skip = left < *bytes ? left : *bytes;
    if (!skip) return;
    bool changed = memcmp(s->prompt_tail.data + s->prompt_tail_seen, *text, skip) != 0;
    s->prompt_tail_seen = changed ? s->prompt_tail.length : s->prompt_tail_seen + skip;
    if (changed) return;
    *text += skip;
    *bytes -= skip;
}

static int add_text(text_stream *s, const char *text, size_t bytes) {
    size_t from = s->text.length;
    skip_prompt_tail(s, &text, &bytes);
    if (s->stopped || !bytes) return LCKV_OK;
    TRY(text_append(&s->text, text, bytes));
    size_t stop = find_stop(s, from);
    if (stop == SIZE_MAX) return LCKV_OK;
    s->stopped = true;
    s->text.length = stop;
    return LCKV_OK;
}

int text_stream_push(text_stream *s, int32_t id) {
    const char *text;
    size_t bytes;
    if (!has_text(s->tokenizer, id)) return LCKV_OK;
    TRY(lckv_decode_stream_push(s->decoder, id, &text, &bytes));
    return add_text(s, text, bytes);
}

int text_stream_finish(text_stream *s) {
    const char *text;
    size_t bytes;
    s->finished = true;
    TRY(lckv_decode_stream_finish(s->decoder, &text, &bytes));
    return add_text(s, text, bytes);
}

const char *text_stream_take(text_stream *s, size_t *bytes) {
    bool whole = s->finished || s->stopped;
    size_t end = whole ? s->text.length : s->text.length - held_back_bytes(s);
    const char *text = s->text.data ? s->text.data + s->handed_out : "";
    *bytes = end - s->handed_out;
    s->handed_out = end;
    return text;
}

/* End of `text`, which was decoded by itself. It equals the streamed text, except that the decoder may have removed a
 * leading space. If its first bytes belong to a character of the prompt, the end is found by the stop strings. */
static size_t find_end(const text_stream *s, const char *text, size_t bytes) {
    for (size_t taken = 0; taken <= 1 && taken <= s->text.length; taken++) {
        size_t end = s->text.length - taken;
        if (!end || (end <= bytes && memcmp(text, s->text.data + taken, end) == 0)) return end;
    }
    size_t first = bytes;
    for (int i = 0; i < s->stop_count; i++) {
        const char *at = memmem(text, bytes, s->searches[i].stop, s->searches[i].length);
        if (at && (size_t)(at - text) < first) first = (size_t)(at - text);
    }
    return first;
}

int text_stream_decode(const text_stream *s, const int32_t *ids, int64_t count, char **text, size_t *bytes) {
    TRY(decode(s->tokenizer, ids, count, text, bytes));
    if (s->stopped) *bytes = find_end(s, *text, *bytes);
    (*text)[*bytes] = '\0';
    return LCKV_OK;
}
