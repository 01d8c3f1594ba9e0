/* Log-probabilities in answers, see logprobs.h. */
#include "logprobs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- places in the text */

static bool continues(unsigned char byte) {
    return (byte & 0xc0) == 0x80;
}

int64_t count_characters(const char *text, size_t length) {
    int64_t count = 0;
    for (size_t i = 0; i < length; i++) count += !continues((unsigned char)text[i]);
    return count;
}

/* Bytes that a character has behind this first one; -1: it begins none. */
static int bytes_behind(unsigned char lead) {
    if (lead < 0x80) return 0;
    if (lead < 0xc2 || lead > 0xf4) return -1;
    return lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
}

/* A character counts when it is whole; what is ill-formed becomes U+FFFD, and counts as that. */
static void add_byte(text_place *p, unsigned char byte) {
    if (continues(byte)) {
        if (p->missing == 0 || --p->missing == 0) p->characters++;
        return;
    }
    if (p->missing) p->characters++;
    p->missing = bytes_behind(byte);
    if (p->missing <= 0) p->characters++, p->missing = 0;
}

/* Moves behind the bytes; returns where they begin. */
static int64_t advance(text_place *p, const bytes *piece, int64_t emitted) {
    int64_t start = p->characters;
    for (size_t i = 0; i < piece->length; i++) add_byte(p, (unsigned char)piece->data[i]);
    if (emitted > p->characters && !p->missing) {
        start += emitted - p->characters;
        p->characters = emitted;
    }
    return start;
}

/* ---------------------------------------------------------------- tokens as text */

static bool has_text(const logprob_style *style, int32_t id) {
    return style->tokenizer && lckv_tokenizer_id_to_token(style->tokenizer, id) &&
           !lckv_tokenizer_is_special(style->tokenizer, id);
}

text_place text_place_behind(const logprob_style *style, const int32_t *ids, int64_t count) {
    text_place p = {0};
    for (int64_t i = 0; i < count && !p.begun; i++) p.begun = has_text(style, ids[i]);
    return p;
}

/* What the token adds to the text; nothing where it has none. */
static bytes piece_of(const logprob_style *style, int32_t id, bool at_start) {
    bytes piece = {0};
    if (has_text(style, id)) lckv_tokenizer_token_bytes(style->tokenizer, id, at_start, &piece.data, &piece.length);
    return piece;
}

/* "bytes:\xe4\xbd" for bytes that are no text. */
static json_t *escaped(const logprob_style *style, const bytes *piece) {
    bytes text = {0};
    char escape[8];
    if (!style->chat) bytes_add_text(&text, "bytes:");
    for (size_t i = 0; i < piece->length; i++) {
        snprintf(escape, sizeof escape, "\\x%02x", (unsigned char)piece->data[i]);
        bytes_add_text(&text, escape);
    }
    json_t *label = text.failed ? NULL : json_stringn(text.data, text.length);
    bytes_free(&text);
    return label;
}

/* How the token is shown: its piece, if that is text. */
static json_t *label_of(const logprob_style *style, const bytes *piece) {
    json_t *label = json_stringn(piece->data ? piece->data : "", piece->length); /* NULL: no UTF-8 */
    return label ? label : escaped(style, piece);
}

static json_t *id_label(int32_t id) {
    return json_sprintf("token_id:%d", (int)id);
}

/* The label of one of the most probable tokens that is not the one that came. */
static json_t *other_label(const logprob_style *style, int32_t id, const bytes *piece) {
    const char *name = style->tokenizer ? lckv_tokenizer_id_to_token(style->tokenizer, id) : NULL;
    if (!style->tokenizer) return json_sprintf("%d", (int)id);
    if (piece->length) return label_of(style, piece);
    return name && *name ? json_string(name) : id_label(id);
}

static json_t *own_label(const logprob_style *style, int32_t id, const bytes *piece) {
    return style->tokenizer ? label_of(style, piece) : json_sprintf("%d", (int)id);
}

/* A logarithm as JSON can hold it. */
static json_t *logarithm(double value) {
    return json_real(isfinite(value) ? value : -9999.0);
}

/* ---------------------------------------------------------------- completions */

static bool has_key(const json_t *object, const json_t *label) {
    return json_object_getn(object, json_string_value(label), json_string_length(label)) != NULL;
}

static void set_key(json_t *object, const json_t *label, double logprob) {
    json_object_setn_new(object, json_string_value(label), json_string_length(label), logarithm(logprob));
}

/* Many JSON parsers refuse a NUL in a key, so that a token with one has its escaped form there. */
static json_t *without_nul(const logprob_style *style, json_t *label, const bytes *piece) {
    if (!label || !memchr(json_string_value(label), 0, json_string_length(label))) return label;
    json_decref(label);
    return escaped(style, piece);
}

/* {"token": logprob, ..}, with one key for each token. `own`: the label of the token that came. */
static json_t *top_object(const logprob_style *style, const token_view *t, const json_t *own, bool at_start) {
    json_t *object = json_object();
    for (int i = 0; i < t->top_count; i++) {
        int32_t id = t->top[i].id;
        if (id < 0) continue; /* a vocabulary of less */
        bytes piece = piece_of(style, id, at_start);
        json_t *label = id == t->id ? json_incref((json_t *)(uintptr_t)own) : other_label(style, id, &piece);
        label = without_nul(style, label, &piece);
        bool taken = id != t->id && (has_key(object, label) || json_equal(label, own));
        if (taken) {
            json_decref(label);
            label = id_label(id);
        }
        if (label) set_key(object, label, (double)t->top[i].logprob);
        json_decref(label);
        bytes_free(&piece);
    }
    return object;
}

/* ---------------------------------------------------------------- chats */

static json_t *byte_numbers(const bytes *piece) {
    json_t *numbers = json_array();
    for (size_t i = 0; i < piece->length; i++)
        json_array_append_new(numbers, json_integer((unsigned char)piece->data[i]));
    return numbers;
}

/* Takes the label. */
static json_t *chat_object(json_t *label, double logprob, json_t *numbers) {
    return json_pack("{so so so}", "token", label, "logprob", logarithm(logprob), "bytes", numbers);
}

static json_t *top_list(const logprob_style *style, const token_view *t, const bytes *own, bool at_start) {
    json_t *list = json_array();
    for (int i = 0; i < t->top_count; i++) {
        int32_t id = t->top[i].id;
        bool same = id == t->id;
        if (id < 0) continue;
        bytes piece = piece_of(style, id, at_start);
        json_t *label = same ? own_label(style, id, own) : other_label(style, id, &piece);
        json_t *numbers = same || piece.length ? byte_numbers(&piece) : json_null();
        json_array_append_new(list, chat_object(label, (double)t->top[i].logprob, numbers));
        bytes_free(&piece);
    }
    return list;
}

/* ---------------------------------------------------------------- entries */

logprob_entry logprob_entry_make(const logprob_style *style, text_place *place, const token_view *t, int64_t emitted) {
    bool at_start = !place->begun;
    bytes piece = piece_of(style, t->id, at_start);
    json_t *label = own_label(style, t->id, &piece);
    logprob_entry entry = {.start = advance(place, &piece, emitted), .adds = piece.length > 0};
    place->begun |= has_text(style, t->id); /* also where the decoder took its space */
    if (style->chat) {
        entry.json = chat_object(label, t->logprob, byte_numbers(&piece));
        json_object_set_new(entry.json, "top_logprobs", top_list(style, t, &piece, at_start));
    } else {
        json_t *top = t->known ? top_object(style, t, label, at_start) : json_null();
        entry.json = json_pack("{so so so sI}", "tokens", label, "token_logprobs",
                               t->known ? logarithm(t->logprob) : json_null(), "top_logprobs", top, "text_offset",
                               (json_int_t)entry.start);
    }
    bytes_free(&piece);
    return entry;
}

json_t *logprobs_value(const logprob_style *style, json_t *entries) {
    static const char *const lists[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    if (style->chat) return json_pack("{so}", "content", entries);
    json_t *object = json_object();
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
        json_t *list = json_array();
        for (size_t i = 0; i < json_array_size(entries); i++)
            json_array_append(list, json_object_get(json_array_get(entries, i), lists[l]));
        json_object_set_new(object, lists[l], list);
    }
    json_decref(entries);
    return object;
}
