/* Finding added tokens in a text, see added_tokens.h. added_tokens_read.c reads them. */
#include "text/tokenizer/steps/added_tokens.h"

#include "base/text/utf8.h"
#include "base/work.h"

#include <stdlib.h>

static void free_set(added_token_set *set) {
    for (size_t i = 0; i < set->count; i++) free(set->tokens[i].content);
    free(set->tokens);
}

void added_tokens_free(added_tokens *a) {
    free_set(&a->in_given);
    free_set(&a->in_normalized);
    *a = (added_tokens){0};
}

/* The byte of a token at index `depth`; -1 after its end, which sorts first, as in the order of the tokens. */
static int byte_at(const added_token *token, size_t depth) {
    return depth < token->bytes ? (unsigned char)token->content[depth] : -1;
}

/* The first token of [low, high), which share `depth` bytes, whose next byte is at least `byte`. */
static size_t lower_bound(const added_token_set *set, size_t low, size_t high, size_t depth, int byte) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (byte_at(&set->tokens[middle], depth) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token at the start of a text; NULL if there is none. */
static const added_token *longest_at(const added_token_set *set, const char *text, size_t bytes) {
    size_t low = set->first[(unsigned char)text[0]], high = set->first[(unsigned char)text[0] + 1];
    const added_token *longest = NULL;
    work_count(1);
    for (size_t depth = 1; low < high; depth++) {
        work_count(1);
        if (set->tokens[low].bytes == depth) longest = &set->tokens[low];
        if (depth == bytes) break;
        int byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return longest;
}

static bool word_before(const char *text, size_t at) {
    uint32_t code_point;
    if (at == 0) return false;
    utf8_next(text + utf8_last(text, at), &code_point);
    return utf8_is_word(code_point);
}

static bool word_behind(const char *text, size_t at, size_t bytes) {
    uint32_t code_point;
    if (at == bytes) return false;
    utf8_next(text + at, &code_point);
    return utf8_is_word(code_point);
}

/* Start of the white space that ends at `at`, not before `limit` (which may be after `at`). */
static size_t space_before(const char *text, size_t at, size_t limit) {
    if (at < limit) return limit;
    while (at > limit) {
        uint32_t code_point;
        size_t last = utf8_last(text, at);
        utf8_next(text + last, &code_point);
        if (!utf8_is_white_space(code_point)) break;
        at = last;
        work_count(1);
    }
    return at;
}

static size_t space_behind(const char *text, size_t at, size_t bytes) {
    while (at < bytes) {
        uint32_t code_point;
        size_t length = utf8_next(text + at, &code_point);
        if (!utf8_is_white_space(code_point)) break;
        at += length;
        work_count(1);
    }
    return at;
}

int added_tokens_cut(const added_token_set *set, const char *text, size_t bytes, bool starts_text, pieces *out) {
    size_t done = 0; /* text before this position is in `out` */
    size_t space_end =
        0; /* end of the white space that was scanned last, so that tokens of white space do not scan it again */
    for (size_t at = 0; set->count && at < bytes;) {
        const added_token *token = longest_at(set, text + at, bytes - at);
        if (!token) {
            at++;
            continue;
        }
        size_t begin = at, end = at + token->bytes;
        at = end; /* a match that is rejected hides what it covers */
        if (token->special && set->splits_special) continue;
        if (token->single_word && (word_before(text, begin) || word_behind(text, end, bytes))) continue;
        if (token->lstrip) begin = space_before(text, begin, done);
        if (token->rstrip) end = space_end = end < space_end ? space_end : space_behind(text, end, bytes);
        if (begin > end) continue;
        if (done < begin) TRY(pieces_add_text(out, text + done, begin - done, starts_text && done == 0));
        if (begin < end) TRY(pieces_add_token(out, token->id)); /* otherwise it is white space of the previous token */
        done = end;
    }
    return done < bytes ? pieces_add_text(out, text + done, bytes - done, starts_text && done == 0) : LCKV_OK;
}
