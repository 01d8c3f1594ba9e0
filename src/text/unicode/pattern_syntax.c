/* Translates regular expressions from Oniguruma's Ruby syntax, in which tokenizer files are written, to PCRE2.
 *
 * Most of the two languages is identical and is copied. Constructs that look the same but differ in meaning are
 * rewritten: white space, words and hexadecimal digits (\s \w \h \b), \v, (?m), interval quantifiers followed by a
 * sign, scripts, nested and intersected sets, POSIX brackets. Constructs without a counterpart, or whose meaning was
 * not verified, are rejected by name. One difference remains: (?i) does not match ligatures with their letters (U+FB01
 * with "fi"). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/unicode/pattern.h"

#include "base/text/utf8.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sets as written inside brackets. Ruby's word characters: Alphabetic, marks, decimal digits, connectors. Outside of
 * brackets, Oniguruma's \w and \b also count the superscripts and fractions of Latin-1. */
#define WORD_SET "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define LONE_WORD_SET WORD_SET "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define HEX_SET "0-9A-Fa-f"

enum { MAX_DEPTH = 100, NONE = -1 };

typedef struct open_group {
    size_t begin;  /* index in `out` */
    bool caseless; /* the state before it */
} open_group;

typedef struct translation {
    const char *at, *end;
    const char *name; /* for errors, with `whole` */
    const char *whole;
    text_buffer *out;
    open_group groups[MAX_DEPTH];
    int depth;
    bool caseless;     /* (?i) is active */
    int64_t atom;      /* index in `out` of the element that a quantifier would repeat; NONE if there is none */
    bool branch_begun; /* the group already has an element: an option here would split the group in Ruby, but not in
                          PCRE2 */
} translation;

static int refuse(const translation *t, const char *what) {
    return fail(LCKV_ERROR_UNSUPPORTED, "%s: the regular expression '%.160s' has %s, which is not supported", t->name,
                t->whole, what);
}

static int refuse_escape(const translation *t, char escape) {
    char what[32];
    snprintf(what, sizeof what, "the escape \\%c", escape);
    return refuse(t, what);
}

static int put(translation *t, const char *text) {
    return text_append(t->out, text, strlen(text));
}

static bool next_is(const translation *t, const char *text) {
    size_t length = strlen(text);
    return (size_t)(t->end - t->at) >= length && memcmp(t->at, text, length) == 0;
}

/* If (?i) is active, rejects a character that could match several characters, or be part of such a sequence. `previous`
 * is the previous character, 0 if that is not a plain one. */
static int check_folding(const translation *t, uint32_t previous, uint32_t code_point) {
    static const char *const folded[] = {"ff", "fi", "fl", "ss", "st"};
    if (!t->caseless) return LCKV_OK;
    if (code_point >= 0x80) return refuse(t, "a non-ASCII character with (?i)");
    for (size_t i = 0; i < sizeof folded / sizeof *folded; i++)
        if (tolower((int)previous) == folded[i][0] && tolower((int)code_point) == folded[i][1])
            return refuse(t, "ff, fi, fl, ss or st with (?i)");
    return LCKV_OK;
}

/* ---- properties: \p{...}, and POSIX brackets that are equivalent to one */

static bool compiles(const char *expression) {
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &offset, NULL);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

/* In Ruby, (?i) makes case classes match the other case, too; in PCRE2 it does not. */
static int check_case_class(const translation *t, const char *name) {
    static const char *const of_case[] = {"Lu", "Ll", "Lt", "Uppercase", "Lowercase", "upper", "lower"};
    for (size_t i = 0; t->caseless && i < sizeof of_case / sizeof *of_case; i++)
        if (!strcmp(name, of_case[i])) return refuse(t, "a class of upper or lower case with (?i)");
    return LCKV_OK;
}

/* A bare script name means the property Script in Ruby and Script_Extensions in PCRE2. Long category names exist only
 * in Ruby. */
static int put_property(translation *t, const char *property, bool negated) {
    static const char *const categories[][2] = {{"Letter", "L"},      {"Mark", "M"},   {"Number", "N"},
                                                {"Punctuation", "P"}, {"Symbol", "S"}, {"Separator", "Z"},
                                                {"Other", "C"}};
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (!strcmp(property, categories[i][0])) property = categories[i][1];
    TRY(check_case_class(t, property));
    char plain[64], script[64], what[64];
    snprintf(plain, sizeof plain, "\\%c{%s}", negated ? 'P' : 'p', property);
    snprintf(script, sizeof script, "\\%c{sc:%s}", negated ? 'P' : 'p', property);
    if (strlen(property) > 2 && compiles(script)) return put(t, script);
    if (compiles(plain)) return put(t, plain);
    snprintf(what, sizeof what, "the property '%s'", property);
    return refuse(t, what);
}

/* After \p or \P. */
static int property(translation *t, bool negated) {
    if (!next_is(t, "{")) return refuse(t, "\\p without a name in braces");
    t->at++;
    if (next_is(t, "^")) {
        negated = !negated;
        t->at++;
    }
    char property_name[40];
    size_t length = 0;
    while (t->at < t->end && (isalnum((unsigned char)*t->at) || *t->at == '_') && length < sizeof property_name - 1)
        property_name[length++] = *t->at++;
    property_name[length] = 0;
    if (!length || !next_is(t, "}")) return refuse(t, "a property not of the form \\p{Name}");
    t->at++;
    return put_property(t, property_name, negated);
}

/* After "[:" inside a set: the sets that these names have in Ruby for Unicode. */
static int posix_bracket(translation *t) {
    static const char *const sets[][2] = {
        {"space", "\\p{White_Space}"}, {"digit", "\\p{Nd}"},        {"alpha", "\\p{Alphabetic}"},
        {"upper", "\\p{Uppercase}"},   {"lower", "\\p{Lowercase}"}, {"alnum", "\\p{Alphabetic}\\p{Nd}"},
        {"punct", "\\p{P}"},           {"xdigit", HEX_SET},         {"word", WORD_SET}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char closed[16];
        snprintf(closed, sizeof closed, "%s:]", sets[i][0]);
        if (!next_is(t, closed)) continue;
        t->at += strlen(closed);
        TRY(check_case_class(t, sets[i][0]));
        return put(t, sets[i][1]);
    }
    return refuse(t, "a POSIX bracket other than space, digit, alpha, upper, lower, alnum, punct, xdigit and word");
}

/* ---- escapes */

/* Exactly `count` hexadecimal digits, or one to eight of them in braces. */
static int code_point_escape(translation *t, int count) {
    char digits[16];
    int length = 0;
    bool braces = count == 2 && next_is(t, "{");
    if (braces) {
        t->at++;
        count = 8;
    }
    while (length < count && t->at < t->end && isxdigit((unsigned char)*t->at)) digits[length++] = *t->at++;
    digits[length] = 0;
    if (!length || (braces && !next_is(t, "}")) || (!braces && length != count))
        return refuse(t, "a malformed \\x or \\u");
    if (braces) t->at++;
    if (!braces && count == 2 && digits[0] >= '8') return refuse(t, "\\x with a byte above 7F");
    TRY(check_folding(t, 0, (uint32_t)strtoul(digits, NULL, 16)));
    return text_printf(t->out, "\\x{%s}", digits);
}

/* Escapes that mean the same inside and outside of a set. `t->at` is after the letter. */
static int shared_escape(translation *t, char letter) {
    switch (letter) {
    case 's':
        return put(t, "\\p{White_Space}");
    case 'S':
        return put(t, "\\P{White_Space}");
    case 'd':
    case 'D':
    case 't':
    case 'n':
    case 'r':
    case 'f':
    case 'a':
    case 'e':
        return text_printf(t->out, "\\%c", letter);
    case 'v':
        return put(t, "\\x{B}");
    case 'x':
        return code_point_escape(t, 2);
    case 'u':
        return code_point_escape(t, 4);
    case 'p':
    case 'P':
        return property(t, letter == 'P');
    default:
        return refuse_escape(t, letter);
    }
}

/* A backslash before a character that is not an ASCII letter or digit escapes that character. */
static int escaped_character(translation *t) {
    size_t bytes = 1;
    uint32_t code_point;
    if ((unsigned char)*t->at >= 0x80) {
        bytes = utf8_next(t->at, &code_point);
        TRY(check_folding(t, 0, code_point));
    } else {
        TRY(put(t, "\\"));
    }
    TRY(text_append(t->out, t->at, bytes));
    t->at += bytes;
    return LCKV_OK;
}

static int escape_in_set(translation *t) {
    if (++t->at == t->end) return refuse(t, "a backslash at the end");
    char letter = *t->at;
    if (!isalnum((unsigned char)letter)) return escaped_character(t);
    t->at++;
    if (letter == 'w') return put(t, WORD_SET);
    if (letter == 'h') return put(t, HEX_SET);
    if (letter == 'b') return put(t, "\\x{8}");
    return shared_escape(t, letter);
}

static int escape(translation *t) {
    if (++t->at == t->end) return refuse(t, "a backslash at the end");
    char letter = *t->at;
    if (!isalnum((unsigned char)letter)) return escaped_character(t);
    t->at++;
    switch (letter) {
    case 'w':
        return put(t, "[" LONE_WORD_SET "]");
    case 'W':
        return put(t, "[^" LONE_WORD_SET "]");
    case 'h':
        return put(t, "[" HEX_SET "]");
    case 'H':
        return put(t, "[^" HEX_SET "]");
    case 'b':
        return put(t, "(?:(?<=[" LONE_WORD_SET "])(?![" LONE_WORD_SET "])|(?<![" LONE_WORD_SET "])(?=[" LONE_WORD_SET
                      "]))");
    case 'B':
        return put(t, "(?:(?<=[" LONE_WORD_SET "])(?=[" LONE_WORD_SET "])|(?<![" LONE_WORD_SET "])(?![" LONE_WORD_SET
                      "]))");
    case 'A':
    case 'z':
    case 'Z':
        return text_printf(t->out, "\\%c", letter);
    case 'R': /* the expansion of \R: PCRE2's interpreter ignores the end of the window (pattern.c) in \R+ */
        return put(t, "(?>\\r\\n|[\\n\\x{B}\\f\\r\\x{85}\\x{2028}\\x{2029}])");
    default:
        if (letter >= '1' && letter <= '9' && (t->at == t->end || !isdigit((unsigned char)*t->at)))
            return text_printf(t->out, "\\g{%c}", letter); /* a back reference */
        return shared_escape(t, letter);
    }
}

/* ---- sets: [...]; in Ruby, sets can be nested and intersected
 *
 * PCRE2 supports neither. A set is an intersection (&&) of unions. A union has plain members, which stay a PCRE2 set,
 * and nested sets that are negated or intersections, which become alternatives. All but the last union of an
 * intersection become lookaheads: [a-z&&[^aeiou]] becomes (?:(?=[a-z])[^aeiou]). */

typedef struct set_work {
    text_buffer members,
        others;        /* the current union: plain members, and "|" with an expression for each other member */
    text_buffer ahead; /* the unions before it, as lookaheads */
} set_work;

static int any_set(translation *t, int depth, bool *is_plain, text_buffer *out);

/* The last union, as an expression that matches one character. */
static int put_union(const translation *t, const set_work *s, text_buffer *out) {
    if (!s->members.length && !s->others.length) return refuse(t, "an empty set");
    if (!s->others.length) return text_printf(out, "[%s]", s->members.data);
    if (!s->members.length) return text_printf(out, "(?:%s)", s->others.data + 1);
    return text_printf(out, "(?:[%s]%s)", s->members.data, s->others.data);
}

/* && ends a union. */
static int intersect(translation *t, set_work *s) {
    t->at += 2;
    TRY(text_append(&s->ahead, "(?=", 3));
    TRY(put_union(t, s, &s->ahead));
    s->members.length = s->others.length = 0;
    return text_append(&s->ahead, ")", 1);
}

/* A nested set. Plain members of a set that is not negated are merged into the outer set. */
static int nested_set(translation *t, int depth, set_work *s) {
    text_buffer inner = {0};
    bool is_plain;
    if (t->at[-1] == '-') return refuse(t, "a range that ends in a set");
    bool negated = t->at[1] == '^';
    int status = any_set(t, depth + 1, &is_plain, &inner);
    if (status >= 0 && is_plain && !negated)
        status = text_append(&s->members, inner.data + 1, inner.length - 2); /* without its brackets */
    else if (status >= 0)
        status = text_printf(&s->others, "|%s", inner.data);
    text_free(&inner);
    if (status >= 0 && next_is(t, "-") && !next_is(t, "-]")) return refuse(t, "a range that begins with a set");
    return status;
}

static int set_member(translation *t) {
    uint32_t code_point;
    if (next_is(t, "[:")) {
        t->at += 2;
        return posix_bracket(t);
    }
    if (*t->at == '\\') return escape_in_set(t);
    size_t bytes = utf8_next(t->at, &code_point);
    TRY(check_folding(t, 0, code_point));
    if (strchr(".:=", *t->at)) TRY(put(t, "\\")); /* after a bracket these would start a POSIX class */
    TRY(text_append(t->out, t->at, bytes));
    t->at += bytes;
    return LCKV_OK;
}

/* Translates a member; the output goes to `members`, not into the expression. */
static int plain_member(translation *t, text_buffer *members) {
    text_buffer *outer = t->out;
    t->out = members;
    int status = set_member(t);
    t->out = outer;
    return status;
}

static int read_set(translation *t, int depth, set_work *s) {
    if (next_is(t, "]")) return refuse(t, "an empty set");
    while (t->at < t->end && *t->at != ']') {
        if (next_is(t, "&&"))
            TRY(intersect(t, s));
        else if (*t->at == '[' && !next_is(t, "[:"))
            TRY(nested_set(t, depth, s));
        else
            TRY(plain_member(t, &s->members));
    }
    if (t->at >= t->end) return refuse(t, "a set without an end");
    t->at++;
    return LCKV_OK;
}

/* Appends the parsed set to `out`. A negated set with other than plain members matches any character that the set does
 * not match. */
static int write_set(const translation *t, const set_work *s, bool negated, bool *is_plain, text_buffer *out) {
    *is_plain = !s->ahead.length && !s->others.length;
    if (*is_plain && negated && s->members.length) return text_printf(out, "[^%s]", s->members.data);
    if (*is_plain) return put_union(t, s, out);
    TRY(text_printf(out, negated ? "(?:(?!" : "(?:"));
    if (s->ahead.length) TRY(text_append(out, s->ahead.data, s->ahead.length));
    TRY(put_union(t, s, out));
    return text_printf(out, negated ? ")(?s:.))" : ")");
}

/* `t->at` is at the opening bracket. */
static int any_set(translation *t, int depth, bool *is_plain, text_buffer *out) {
    set_work s = {0};
    bool negated = t->at[1] == '^'; /* the expression is NUL-terminated */
    if (depth == MAX_DEPTH) return refuse(t, "sets nested deeper than 100");
    t->at += negated ? 2 : 1;
    int status = read_set(t, depth, &s);
    if (status >= 0) status = write_set(t, &s, negated, is_plain, out);
    text_free(&s.members);
    text_free(&s.others);
    text_free(&s.ahead);
    return status;
}

static int set(translation *t) {
    bool is_plain;
    return any_set(t, 0, &is_plain, t->out);
}

/* ---- groups */

static int open_a_group(translation *t) {
    if (t->depth == MAX_DEPTH) return refuse(t, "groups nested deeper than 100");
    t->groups[t->depth++] = (open_group){t->out->length, t->caseless};
    t->atom = NONE;
    t->branch_begun = false;
    return LCKV_OK;
}

/* "(?i:" opens a group; "(?i)" applies up to the end of the enclosing group. Ruby's m is PCRE2's s. */
static int options(translation *t) {
    char put_options[16] = "(?";
    size_t length = 2;
    bool on = true, caseless = t->caseless;
    for (t->at += 2; t->at < t->end && *t->at != ':' && *t->at != ')'; t->at++) {
        char letter = *t->at;
        if ((letter != 'i' && letter != 'm' && letter != '-') || length == sizeof put_options - 2)
            return refuse(t, "a group option other than i and m");
        if (letter == '-') on = false;
        if (letter == 'i') caseless = on;
        put_options[length++] = letter == 'm' ? 's' : letter;
    }
    if (t->at == t->end) return refuse(t, "a group without an end");
    put_options[length] = *t->at++;
    if (put_options[length] == ':') TRY(open_a_group(t));
    if (put_options[length] == ')' && t->branch_begun)
        return refuse(t, "an option that is not at the start of its group");
    t->caseless = caseless;
    return put(t, put_options);
}

static int group_start(translation *t) {
    static const char *const kinds[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    const char *kind = next_is(t, "(?") ? NULL : "(";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (next_is(t, kinds[i])) kind = kinds[i];
    if (next_is(t, "(*")) return refuse(t, "a verb (*");
    if (kind) {
        TRY(open_a_group(t));
        t->at += strlen(kind);
        return put(t, kind);
    }
    if (t->end - t->at > 2 && (isalpha((unsigned char)t->at[2]) || t->at[2] == '-')) return options(t);
    return refuse(t, "a group other than (?:, (?=, (?!, (?<=, (?<!, (?> and options");
}

static int group_end(translation *t) {
    if (t->depth == 0) return refuse(t, "an unmatched closing parenthesis");
    t->at++;
    t->depth--;
    t->atom = (int64_t)t->groups[t->depth].begin;
    t->caseless = t->groups[t->depth].caseless;
    t->branch_begun = true;
    return put(t, ")");
}

/* ---- quantifiers */

typedef struct interval {
    unsigned low, high; /* high is undefined if `open` */
    bool open, comma;   /* {n,}; the braces contain a comma */
    const char *end;    /* position after the closing brace */
} interval;

static const char *read_number(const char *at, unsigned *out) {
    for (*out = 0; isdigit((unsigned char)*at); at++)
        if (*out < 100000) *out = *out * 10 + (unsigned)(*at - '0');
    return at;
}

/* Parses {n}, {n,}, {n,m} or {,m}. In any other form the brace is a literal. The expression is NUL-terminated. */
static bool read_interval(const char *text, interval *out) {
    const char *low_end = read_number(text + 1, &out->low), *high_end = low_end;
    out->comma = *low_end == ',';
    out->high = out->low;
    if (out->comma) high_end = read_number(low_end + 1, &out->high);
    out->open = out->comma && high_end == low_end + 1;
    out->end = high_end + 1;
    return *high_end == '}' && (low_end > text + 1 || (out->comma && !out->open));
}

/* Wraps the repeated element into a group, which the next sign repeats. */
static int wrap_atom(translation *t) {
    size_t begin = (size_t)t->atom;
    TRY(put(t, "(?:)"));
    memmove(t->out->data + begin + 3, t->out->data + begin, t->out->length - begin - 4);
    memcpy(t->out->data + begin, "(?:", 3);
    t->out->data[t->out->length - 1] = ')';
    return LCKV_OK;
}

/* In Ruby a sign after an interval repeats the result ({n,m}+ is not possessive), except for the lazy {n,m}?. */
static int interval_quantifier(translation *t) {
    interval i;
    if (!read_interval(t->at, &i)) {
        t->atom = (int64_t)t->out->length;
        t->branch_begun = true;
        t->at++;
        return put(t, "\\{");
    }
    if (t->atom == NONE) return refuse(t, "an interval that repeats nothing");
    if (!i.open && i.low > i.high) return refuse(t, "an interval whose end is less than its start");
    t->at = i.end;
    TRY(i.open ? text_printf(t->out, "{%u,}", i.low) : text_printf(t->out, "{%u,%u}", i.low, i.high));
    if (next_is(t, "+") || next_is(t, "*") || (next_is(t, "?") && !i.comma)) return wrap_atom(t);
    if (next_is(t, "?")) {
        t->at++;
        TRY(put(t, "?"));
    }
    t->atom = NONE;
    return LCKV_OK;
}

static int quantifier(translation *t) {
    if (*t->at == '{') return interval_quantifier(t);
    if (t->atom == NONE) return refuse(t, "a quantifier that repeats nothing");
    TRY(text_append(t->out, t->at++, 1));
    if (next_is(t, "+") || next_is(t, "?")) TRY(text_append(t->out, t->at++, 1)); /* possessive, lazy */
    t->atom = NONE;
    return LCKV_OK;
}

/* ---- the whole */

/* A run of plain characters. A quantifier would repeat the last one. */
static int characters(translation *t) {
    uint32_t previous = 0, code_point;
    do {
        size_t bytes = utf8_next(t->at, &code_point);
        TRY(check_folding(t, previous, code_point));
        t->atom = (int64_t)t->out->length;
        TRY(text_append(t->out, t->at, bytes));
        t->at += bytes;
        previous = code_point;
    } while (t->at < t->end && !strchr("\\[(){*+?|", *t->at));
    return LCKV_OK;
}

static int translate_next(translation *t) {
    char c = *t->at;
    if (c == '*' || c == '+' || c == '?' || c == '{') return quantifier(t);
    if (c == ')') return group_end(t);
    if (c == '(') return group_start(t);
    t->branch_begun = true;
    if (c == '|') {
        t->atom = NONE;
        t->at++;
        return put(t, "|");
    }
    t->atom = (int64_t)t->out->length;
    if (c == '\\') return escape(t);
    if (c == '[') return set(t);
    return characters(t);
}

int pattern_translate(const char *expression, size_t bytes, const char *name, text_buffer *out) {
    translation t = {
        .at = expression, .end = expression + bytes, .name = name, .whole = expression, .out = out, .atom = NONE};
    REQUIRE(!memchr(expression, 0, bytes), LCKV_ERROR_UNSUPPORTED, "%s: a regular expression contains NUL", name);
    while (t.at < t.end) TRY(translate_next(&t));
    if (t.depth > 0) return refuse(&t, "a group without an end");
    return LCKV_OK;
}
