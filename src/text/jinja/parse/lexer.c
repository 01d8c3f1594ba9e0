/* Lexer, see lexer.h. */
#include "text/jinja/parse/lexer.h"

#include "base/text/utf8.h"
#include "text/jinja/parse/literal.h"

#include <string.h>

typedef struct lexer {
    arena *arena;
    const char *name;
    const char *at, *end;
    int line;
    bool line_starts; /* the previous text ended in a newline, or there was none */
    token_list *out;
} lexer;

#define LEXER_FAIL(l, ...)                                                                                             \
    (fail_message(__VA_ARGS__), fail_within(LCKV_ERROR_FORMAT, "%s: line %d", (l)->name, (l)->line))

static int add_token(lexer *l, token t) {
    token_list *list = l->out;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        token *items;
        TAKE(items, l->arena, capacity * sizeof *items);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = t;
    return LCKV_OK;
}

/* Skips bytes and counts lines. */
static void move_to(lexer *l, const char *to) {
    if (to == l->at) return;
    l->line_starts = to[-1] == '\n';
    for (; l->at < to; l->at++) l->line += *l->at == '\n';
}

static bool starts(const lexer *l, const char *at, const char *word) {
    size_t bytes = strlen(word);
    return (size_t)(l->end - at) >= bytes && !memcmp(at, word, bytes);
}

/* Position after the white space that starts at `at`. */
static const char *skip_space(const lexer *l, const char *at) {
    uint32_t c;
    while (at < l->end) {
        size_t bytes = utf8_next(at, &c);
        if (!utf8_is_white_space(c) && !(c >= 0x1C && c <= 0x1F)) break;
        at += bytes;
    }
    return at;
}

/* ---- text between tags */

/* Start of the next tag; the end of the template if there is none. */
static const char *find_tag(const lexer *l) {
    for (const char *at = l->at; at + 1 < l->end; at++)
        if (at[0] == '{' && (at[1] == '{' || at[1] == '%' || at[1] == '#')) return at;
    return l->end;
}

/* End of the text [from, to) before a tag. `sign` is that of the tag; '-' removes all white space, lstrip_blocks the
 * white space before the tag on its line. */
static const char *strip_before_tag(const lexer *l, const char *from, const char *to, char sign, bool variable) {
    if (sign == '-') {
        const char *end = to;
        while (end > from) {
            const char *last = from + utf8_last(from, (size_t)(end - from));
            if (skip_space(l, last) == last) break;
            end = last;
        }
        return end;
    }
    if (sign == '+' || variable) return to;
    const char *line = to;
    while (line > from && line[-1] != '\n') line--;
    if (line == from && !l->line_starts) return to;
    for (const char *at = line; at < to; at++)
        if (skip_space(l, at) < to) return to;
    return line;
}

static int add_data(lexer *l, const char *from, const char *to) {
    if (from == to) return LCKV_OK;
    return add_token(l, (token){.kind = TOKEN_DATA, .line = l->line, .text = from, .bytes = (size_t)(to - from)});
}

/* Position after a closing tag of two characters, optionally with a sign; NULL if there is none at `at`. */
static const char *closing_tag(const lexer *l, const char *at, const char *tag, bool block) {
    bool minus = *at == '-';
    if (minus || (block && *at == '+')) {
        if (!starts(l, at + 1, tag)) return NULL;
        return minus ? skip_space(l, at + 3) : at + 3;
    }
    if (!starts(l, at, tag)) return NULL;
    return block && at + 2 < l->end && at[2] == '\n' ? at + 3 : at + 2;
}

static int read_comment(lexer *l) {
    for (const char *at = l->at + 2; at < l->end; at++) {
        const char *after = closing_tag(l, at, "#}", true);
        if (!after) continue;
        move_to(l, after);
        return LCKV_OK;
    }
    return LEXER_FAIL(l, "unterminated comment {#");
}

/* Position after "{%- NAME", with any white space between; NULL if something else is there. *sign: that of the tag. */
static const char *tag_named(const lexer *l, const char *at, const char *name, char *sign) {
    if (!starts(l, at, "{%")) return NULL;
    at += 2;
    *sign = at < l->end && (*at == '-' || *at == '+') ? *at++ : 0;
    at = skip_space(l, at);
    if (!starts(l, at, name)) return NULL;
    return skip_space(l, at + strlen(name));
}

/* Reads {% raw %} TEXT {% endraw %}. *found: whether it was there. */
static int read_raw(lexer *l, bool *found) {
    char sign;
    const char *open = tag_named(l, l->at, "raw", &sign), *body;
    *found = open && (starts(l, open, "%}") || starts(l, open, "-%}"));
    if (!*found) return LCKV_OK;
    body = *open == '-' ? skip_space(l, open + 3) : open + 2;
    for (const char *at = body; at < l->end; at++) {
        const char *close = tag_named(l, at, "endraw", &sign), *after;
        if (!close || close == l->end || !(after = closing_tag(l, close, "%}", true))) continue;
        move_to(l, body);
        TRY(add_data(l, body, strip_before_tag(l, body, at, sign, false)));
        move_to(l, after);
        return LCKV_OK;
    }
    return LEXER_FAIL(l, "{%% raw %%} without {%% endraw %%}");
}

/* ---- inside tags */

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80 ||
           (c >= '0' && c <= '9');
}

static int read_operator(lexer *l, int *depth) {
    static const char pairs[] = "** // == != >= <= ";
    token t = {.kind = TOKEN_OPERATOR, .line = l->line, .text = l->at, .bytes = 1, .operator= * l->at };
    for (const char *p = pairs; *p; p += 3)
        if (l->at[0] == p[0] && l->at + 1 < l->end && l->at[1] == p[1]) t.bytes = 2;
    if (t.bytes == 2) t.operator= OPERATOR2(l->at[0], l->at[1]);
    if (t.bytes == 1 && !strchr("+-/*%~[](){}><=.:|,;", *l->at))
        return LEXER_FAIL(l, "unexpected character '%c'", *l->at);
    if (strchr("[({", *l->at)) ++*depth;
    if (strchr("])}", *l->at) && --*depth < 0) return LEXER_FAIL(l, "unexpected '%c'", *l->at);
    TRY(add_token(l, t));
    move_to(l, l->at + t.bytes);
    return LCKV_OK;
}

static int read_constant(lexer *l) {
    token t = {.kind = TOKEN_CONSTANT, .line = l->line, .text = l->at};
    bool behind_dot = l->out->count && l->out->items[l->out->count - 1].kind == TOKEN_OPERATOR &&
                      l->out->items[l->out->count - 1].operator== '.';
    size_t used;
    int status = *l->at == '\'' || *l->at == '"'
                     ? literal_string(l->arena, l->at, (size_t)(l->end - l->at), &t.constant, &used)
                     : literal_number(l->at, (size_t)(l->end - l->at), !behind_dot, &t.constant, &used);
    if (status < 0) return fail_within(status, "%s: line %d", l->name, l->line);
    t.bytes = used;
    TRY(add_token(l, t));
    move_to(l, l->at + used);
    return LCKV_OK;
}

static int read_name(lexer *l) {
    const char *to = l->at;
    while (to < l->end && is_name_byte(*to)) to++;
    TRY(add_token(l, (token){.kind = TOKEN_NAME, .line = l->line, .text = l->at, .bytes = (size_t)(to - l->at)}));
    move_to(l, to);
    return LCKV_OK;
}

/* Tokens after {{ or {% up to the end of the tag. */
static int read_tag(lexer *l, bool block) {
    int depth = 0, line = l->line;
    while (true) {
        move_to(l, skip_space(l, l->at));
        if (l->at == l->end) {
            l->line = line;
            return LEXER_FAIL(l, "unterminated tag %s", block ? "{%" : "{{");
        }
        const char *after = depth ? NULL : closing_tag(l, l->at, block ? "%}" : "}}", block);
        if (after) {
            TRY(add_token(l, (token){.kind = block ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END,
                                     .line = l->line,
                                     .text = l->at,
                                     .bytes = 2}));
            move_to(l, after);
            return LCKV_OK;
        }
        if ((*l->at >= '0' && *l->at <= '9') || *l->at == '\'' || *l->at == '"')
            TRY(read_constant(l));
        else if (is_name_byte(*l->at))
            TRY(read_name(l));
        else
            TRY(read_operator(l, &depth));
    }
}

/* A tag and the text before it. */
static int read_part(lexer *l) {
    const char *tag = find_tag(l), *from = l->at;
    bool raw = false;
    if (tag == l->end) {
        TRY(add_data(l, from, tag));
        l->at = tag;
        return LCKV_OK;
    }
    char kind = tag[1], sign = tag + 2 < l->end && (tag[2] == '-' || tag[2] == '+') ? tag[2] : 0;
    if (kind == '{' && sign == '+') sign = 0; /* only blocks have this sign: {{+x}} is x with a sign */
    TRY(add_data(l, from, strip_before_tag(l, from, tag, sign, kind == '{')));
    move_to(l, tag);
    if (kind == '#') return read_comment(l);
    if (kind == '%') TRY(read_raw(l, &raw));
    if (raw) return LCKV_OK;
    TRY(add_token(l, (token){.kind = kind == '%' ? TOKEN_BLOCK_BEGIN : TOKEN_VARIABLE_BEGIN,
                             .line = l->line,
                             .text = tag,
                             .bytes = 2}));
    move_to(l, tag + (sign ? 3 : 2));
    return read_tag(l, kind == '%');
}

/* Normalizes newlines to \n and removes one at the end. */
static int normalize(lexer *l, const char *source, size_t bytes) {
    char *copy, *to;
    TAKE(copy, l->arena, bytes + 1);
    to = copy;
    for (size_t i = 0; i < bytes; i++) {
        if (source[i] == '\r' && i + 1 < bytes && source[i + 1] == '\n') continue;
        *to++ = source[i] == '\r' ? '\n' : source[i];
    }
    if (to > copy && to[-1] == '\n') to--;
    l->at = copy;
    l->end = to;
    return LCKV_OK;
}

int tokens_read(arena *a, const char *source, size_t bytes, const char *name, token_list *out) {
    lexer l = {.arena = a, .name = name, .line = 1, .line_starts = true, .out = out};
    *out = (token_list){0};
    TRY(normalize(&l, source, bytes));
    while (l.at < l.end) TRY(read_part(&l));
    return add_token(&l, (token){.kind = TOKEN_END, .line = l.line, .text = "end of template", .bytes = 15});
}
