/* Log-probabilities as JSON, see logprobs_json.h. */
#include "logprobs_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- text positions */

static bool continues(unsigned char byte) {
    return (byte & 0xc0) == 0x80;
}

int64_t count_characters(const char *text, size_t length) {
    int64_t count = 0;
    for (size_t i = 0; i < length; i++) count += !continues((unsigned char)text[i]);
    return count;
}

/* Number of continuation bytes after this first byte of a character; -1 if no character starts with it. */
static int continuation_bytes(unsigned char lead) {
    if (lead < 0x80) return 0;
    if (lead < 0xc2 || lead > 0xf4) return -1;
    return lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
}

/* Counts a character when it is complete. Malformed bytes become U+FFFD and count as one character. */
static void add_byte(text_position *p, unsigned char byte) {
    if (continues(byte)) {
        if (p->missing == 0 || --p->missing == 0) p->characters++;
        return;
    }
    if (p->missing) p->characters++;
    p->missing = continuation_bytes(byte);
    if (p->missing <= 0) p->characters++, p->missing = 0;
}

/* Advances the position by the bytes of a token. Returns where the token starts. */
static int64_t advance(text_position *p, const bytes *raw, int64_t emitted) {
    int64_t start = p->characters;
    for (size_t i = 0; i < raw->length; i++) add_byte(p, (unsigned char)raw->data[i]);
    if (emitted > p->characters && !p->missing) {
        start += emitted - p->characters;
        p->characters = emitted;
    }
    return start;
}

/* ---------------------------------------------------------------- tokens as text */

static bool has_text(const logprob_format *format, int32_t id) {
    return format->tokenizer && lckv_tokenizer_id_to_token(format->tokenizer, id) &&
           !lckv_tokenizer_is_special(format->tokenizer, id);
}

text_position text_position_after(const logprob_format *format, const int32_t *ids, int64_t count) {
    text_position p = {0};
    for (int64_t i = 0; i < count && !p.begun; i++) p.begun = has_text(format, ids[i]);
    return p;
}

/* The bytes that the token adds to the text; empty for a special token. */
static bytes bytes_of_token(const logprob_format *format, int32_t id, bool at_start) {
    bytes raw = {0};
    if (has_text(format, id)) lckv_tokenizer_token_bytes(format->tokenizer, id, at_start, &raw.data, &raw.length);
    return raw;
}

/* "bytes:\xe4\xbd" for bytes that are not valid UTF-8. */
static json_t *escaped(const logprob_format *format, const bytes *raw) {
    bytes text = {0};
    char escape[8];
    if (!format->chat) bytes_add_text(&text, "bytes:");
    for (size_t i = 0; i < raw->length; i++) {
        snprintf(escape, sizeof escape, "\\x%02x", (unsigned char)raw->data[i]);
        bytes_add_text(&text, escape);
    }
    json_t *label = text.failed ? NULL : json_stringn(text.data, text.length);
    bytes_free(&text);
    return label;
}

/* The label that shows a token: its bytes, escaped if they are not valid UTF-8. */
static json_t *label_of(const logprob_format *format, const bytes *raw) {
    json_t *label = json_stringn(raw->data ? raw->data : "", raw->length); /* NULL: not UTF-8 */
    return label ? label : escaped(format, raw);
}

static json_t *id_label(int32_t id) {
    return json_sprintf("token_id:%d", (int)id);
}

/* Label of an alternative, a token other than the sampled one. */
static json_t *other_label(const logprob_format *format, int32_t id, const bytes *raw) {
    const char *name = format->tokenizer ? lckv_tokenizer_id_to_token(format->tokenizer, id) : NULL;
    if (!format->tokenizer) return json_sprintf("%d", (int)id);
    if (raw->length) return label_of(format, raw);
    return name && *name ? json_string(name) : id_label(id);
}

static json_t *own_label(const logprob_format *format, int32_t id, const bytes *raw) {
    return format->tokenizer ? label_of(format, raw) : json_sprintf("%d", (int)id);
}

/* JSON has no infinity; -9999 stands for it, as in OpenAI's API. */
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

/* Many JSON parsers reject NUL in a key, so that a token with NUL has its escaped form there. */
static json_t *without_nul(const logprob_format *format, json_t *label, const bytes *raw) {
    if (!label || !memchr(json_string_value(label), 0, json_string_length(label))) return label;
    json_decref(label);
    return escaped(format, raw);
}

/* {"token": logprob, ..}, with one key for each token. `own`: label of the sampled token. */
static json_t *top_object(const logprob_format *format, const token_logprobs *t, const json_t *own, bool at_start) {
    json_t *object = json_object();
    for (int i = 0; i < t->top_count; i++) {
        int32_t id = t->top[i].id;
        if (id < 0) continue; /* the vocabulary has fewer tokens than were requested */
        bytes raw = bytes_of_token(format, id, at_start);
        json_t *label = id == t->id ? json_incref((json_t *)(uintptr_t)own) : other_label(format, id, &raw);
        label = without_nul(format, label, &raw);
        bool taken = id != t->id && (has_key(object, label) || json_equal(label, own));
        if (taken) {
            json_decref(label);
            label = id_label(id);
        }
        if (label) set_key(object, label, (double)t->top[i].logprob);
        json_decref(label);
        bytes_free(&raw);
    }
    return object;
}

/* ---------------------------------------------------------------- chats */

static json_t *byte_numbers(const bytes *raw) {
    json_t *numbers = json_array();
    for (size_t i = 0; i < raw->length; i++) json_array_append_new(numbers, json_integer((unsigned char)raw->data[i]));
    return numbers;
}

/* Takes the label. */
static json_t *chat_object(json_t *label, double logprob, json_t *numbers) {
    return json_pack("{so so so}", "token", label, "logprob", logarithm(logprob), "bytes", numbers);
}

static json_t *top_list(const logprob_format *format, const token_logprobs *t, const bytes *own, bool at_start) {
    json_t *list = json_array();
    for (int i = 0; i < t->top_count; i++) {
        int32_t id = t->top[i].id;
        bool same = id == t->id;
        if (id < 0) continue;
        bytes raw = bytes_of_token(format, id, at_start);
        json_t *label = same ? own_label(format, id, own) : other_label(format, id, &raw);
        json_t *numbers = same || raw.length ? byte_numbers(&raw) : json_null();
        json_array_append_new(list, chat_object(label, (double)t->top[i].logprob, numbers));
        bytes_free(&raw);
    }
    return list;
}

/* ---------------------------------------------------------------- entries */

logprob_entry logprob_entry_create(const logprob_format *format, text_position *position, const token_logprobs *t,
                                   int64_t emitted) {
    bool at_start = !position->begun;
    bytes raw = bytes_of_token(format, t->id, at_start);
    json_t *label = own_label(format, t->id, &raw);
    logprob_entry entry = {.start = advance(position, &raw, emitted), .adds = raw.length > 0};
    position->begun |= has_text(format, t->id); /* also if the decoder removed the token's leading space */
    if (format->chat) {
        entry.json = chat_object(label, t->logprob, byte_numbers(&raw));
        json_object_set_new(entry.json, "top_logprobs", top_list(format, t, &raw, at_start));
    } else {
        json_t *top = t->known ? top_object(format, t, label, at_start) : json_null();
        entry.json = json_pack("{so so so sI}", "tokens", label, "token_logprobs",
                               t->known ? logarithm(t->logprob) : json_null(), "top_logprobs", top, "text_offset",
                               (json_int_t)entry.start);
    }
    bytes_free(&raw);
    return entry;
}

json_t *logprobs_to_json(const logprob_format *format, json_t *entries) {
    static const char *const lists[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    if (format->chat) return json_pack("{so}", "content", entries);
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
