/* Steps of a detokenizer, see decoder_steps.h. */
#include "text/tokenizer/steps/decoder_steps.h"

#include "base/text/utf8.h"
#include "text/unicode/byte_alphabet.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Passes a whole token to the next stage. */
static int hand_on(decoder_stage *stage, const char *text, size_t bytes) {
    TRY(decoder_stage_text(stage + 1, text, bytes));
    return decoder_stage_end_token(stage + 1);
}

/* ---- ByteLevel */

/* Appends the token's bytes to the waiting ones and passes complete characters on. */
static int byte_level_end_token(decoder_stage *stage, bool more) {
    text_buffer whole = {0};
    size_t used = 0;
    TRY(byte_alphabet_read(&stage->bytes, stage->token.data, stage->token.length));
    stage->token.length = 0;
    int status = utf8_append_replacing(&whole, stage->bytes.data, stage->bytes.length, more, &used);
    if (status >= 0 && whole.length) status = decoder_stage_text(stage + 1, whole.data, whole.length);
    text_free(&whole);
    if (used) memmove(stage->bytes.data, stage->bytes.data + used, stage->bytes.length - used);
    stage->bytes.length -= used;
    return status;
}

/* ---- Replace */

static int replace_end_token(decoder_stage *stage) {
    const struct decoder_step *step = stage->step;
    size_t limit = text_growth_limit(*stage->pushed);
    text_buffer replaced = {.limit = 1 + (stage->made < limit ? limit - stage->made : 0)};
    pattern_begin(step->pattern);
    int status = pattern_replace(step->pattern, stage->token.data, stage->token.length, step->content.data,
                                 step->content.length, &replaced, NULL);
    stage->made += replaced.length;
    if (status >= 0) status = hand_on(stage, replaced.data, replaced.length);
    text_free(&replaced);
    stage->token.length = 0;
    return status;
}

/* ---- ByteFallback */

int decoder_byte(const char *text, size_t bytes) {
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    if (!isxdigit((unsigned char)text[3]) || !isxdigit((unsigned char)text[4])) return -1;
    return (int)strtol((const char[]){text[3], text[4], 0}, NULL, 16);
}

static int end_byte_row(decoder_stage *stage) {
    size_t count = stage->bytes.length;
    stage->bytes.length = 0;
    if (count == 0) return LCKV_OK;
    if (utf8_valid(stage->bytes.data, count)) return hand_on(stage, stage->bytes.data, count);
    for (size_t i = 0; i < count; i++) TRY(hand_on(stage, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT)));
    return LCKV_OK;
}

static int byte_fallback_end_token(decoder_stage *stage) {
    int byte = decoder_byte(stage->token.data, stage->token.length);
    int status = LCKV_OK;
    if (byte >= 0) {
        status = text_append(&stage->bytes, &(char){(char)byte}, 1);
    } else {
        status = end_byte_row(stage);
        if (status >= 0) status = hand_on(stage, stage->token.data, stage->token.length);
    }
    stage->token.length = 0;
    return status;
}

/* ---- Strip */

static int hand_on_waiting(decoder_stage *stage, size_t keep) {
    for (; stage->waiting > keep; stage->waiting--)
        TRY(decoder_stage_text(stage + 1, stage->step->character, stage->step->character_bytes));
    return LCKV_OK;
}

/* Characters at the start are removed by count. Later ones are held back, as many as may be stripped at the end. */
static int strip_character(decoder_stage *stage, const char *character, size_t bytes) {
    const struct decoder_step *step = stage->step;
    if (bytes != step->character_bytes || memcmp(character, step->character, bytes) != 0) {
        stage->past_start = true;
        TRY(hand_on_waiting(stage, 0));
        return decoder_stage_text(stage + 1, character, bytes);
    }
    if (!stage->past_start && stage->stripped < step->strip_start) {
        stage->stripped++;
        return LCKV_OK;
    }
    stage->past_start = true;
    stage->waiting++;
    return hand_on_waiting(stage, step->strip_stop);
}

static int strip_text(decoder_stage *stage, const char *text, size_t bytes) {
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code_point;
        length = utf8_next(text + at, &code_point);
        TRY(strip_character(stage, text + at, length));
    }
    return LCKV_OK;
}

static int strip_end_token(decoder_stage *stage) {
    stage->stripped = stage->waiting = 0;
    stage->past_start = false;
    return decoder_stage_end_token(stage + 1);
}

/* ---- Metaspace */

static int metaspace_text(decoder_stage *stage, const char *text, size_t bytes) {
    const struct decoder_step *step = stage->step;
    bool drops = stage->tokens == 0 && step->drops_first;
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code_point;
        length = utf8_next(text + at, &code_point);
        if (length != step->character_bytes || memcmp(text + at, step->character, length) != 0)
            TRY(decoder_stage_text(stage + 1, text + at, length));
        else if (!drops)
            TRY(decoder_stage_text(stage + 1, " ", 1));
    }
    return LCKV_OK;
}

/* ---- the three inputs of a stage */

int decoder_stage_text(decoder_stage *stage, const char *text, size_t bytes) {
    if (!stage->step) return text_append(stage->out, text, bytes);
    switch (stage->step->kind) {
    case DECODE_BYTE_LEVEL:
    case DECODE_REPLACE:
    case DECODE_BYTE_FALLBACK:
        return text_append(&stage->token, text, bytes);
    case DECODE_STRIP:
        return strip_text(stage, text, bytes);
    case DECODE_METASPACE:
        return metaspace_text(stage, text, bytes);
    case DECODE_JOIN: /* the only stage: it gets each token as one piece */
        if (stage->tokens > 0) TRY(decoder_stage_text(stage + 1, " ", 1));
        break;
    case DECODE_FUSE:
        break;
    }
    return decoder_stage_text(stage + 1, text, bytes);
}

static int end_token(decoder_stage *stage) {
    switch (stage->step->kind) {
    case DECODE_BYTE_LEVEL:
        return byte_level_end_token(stage, true);
    case DECODE_REPLACE:
        return replace_end_token(stage);
    case DECODE_BYTE_FALLBACK:
        return byte_fallback_end_token(stage);
    case DECODE_STRIP:
        return strip_end_token(stage);
    case DECODE_FUSE:
        return LCKV_OK;
    case DECODE_METASPACE:
    case DECODE_JOIN:
        break;
    }
    return decoder_stage_end_token(stage + 1);
}

int decoder_stage_end_token(decoder_stage *stage) {
    if (!stage->step) return LCKV_OK;
    TRY(end_token(stage));
    stage->tokens++;
    return LCKV_OK;
}

int decoder_stage_finish(decoder_stage *stage) {
    switch (stage->step->kind) {
    case DECODE_BYTE_LEVEL:
        TRY(byte_level_end_token(stage, false));
        return decoder_stage_end_token(stage + 1);
    case DECODE_BYTE_FALLBACK:
        return end_byte_row(stage);
    case DECODE_FUSE:
        return decoder_stage_end_token(stage + 1);
    default:
        return LCKV_OK;
    }
}

void decoder_stage_free(decoder_stage *stage) {
    text_free(&stage->token);
    text_free(&stage->bytes);
}
