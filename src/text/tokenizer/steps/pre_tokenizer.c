/* The pre-tokenizer of a tokenizer file, see pre_tokenizer.h. */
#include "text/tokenizer/steps/pre_tokenizer.h"

#include "base/text/utf8.h"
#include "text/subword/component.h"
#include "text/tokenizer/steps/split.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/scripts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The expression of GPT-2: contractions, words, numbers and punctuation with the space before them, and runs of white
 * space. */
static const char GPT2_EXPRESSION[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef enum {
    STEP_SPLIT,
    STEP_PREPEND, /* `content`, where a piece does not begin with it */
    STEP_BYTES,   /* bytes as characters */
    STEP_REPLACE, /* matches by `content` */
    STEP_SCRIPTS, /* splits where the script changes */
} step_kind;

struct pre_tokenizer_step {
    step_kind kind;
    pattern *pattern;
    split_behavior behavior;
    bool invert;
    text_buffer content;
    bool at_start_only; /* STEP_PREPEND: only to the piece that starts the text */
};

/* ---- reading: a type of the file becomes one to three steps */

static int add_step(pre_tokenizer *p, step_kind kind, const char *where, pre_tokenizer_step **out) {
    *out = NULL;
    REQUIRE(p->count < COMPONENT_MAX_STEPS, LCKV_ERROR_UNSUPPORTED, "%s: expected at most %d steps", where,
            COMPONENT_MAX_STEPS);
    pre_tokenizer_step *steps = realloc(p->steps, (p->count + 1) * sizeof *steps);
    REQUIRE(steps, LCKV_ERROR_MEMORY, "%s: no memory for a pre-tokenizer", where);
    p->steps = steps;
    *out = &p->steps[p->count++];
    **out = (pre_tokenizer_step){.kind = kind};
    return LCKV_OK;
}

/* Splits at an expression of our own or at a plain string. */
static int add_split(pre_tokenizer *p, const component *c, const char *expression, size_t bytes, bool literal,
                     split_behavior behavior) {
    pre_tokenizer_step *step;
    TRY(add_step(p, STEP_SPLIT, c->where, &step));
    step->behavior = behavior;
    return pattern_compile(expression, bytes, literal, c->where, &step->pattern);
}

static int read_split(pre_tokenizer *p, const component *c) {
    pre_tokenizer_step *step;
    const char *behavior;
    size_t bytes;
    TRY(component_keys(c, "pattern behavior invert"));
    TRY(add_step(p, STEP_SPLIT, c->where, &step));
    TRY(component_string(c, "behavior", &behavior, &bytes));
    REQUIRE(split_behavior_named(behavior, &step->behavior), LCKV_ERROR_UNSUPPORTED,
            "%s: behavior '%.40s' is not supported", c->where, behavior);
    TRY(json_get_bool(c->object, c->where, "invert", false, &step->invert));
    return pattern_read(json_object_get(c->object, "pattern"), c->where, &step->pattern);
}

static int read_byte_level(pre_tokenizer *p, const component *c) {
    pre_tokenizer_step *step;
    bool prefix_space, use_regex;
    TRY(component_keys(c, "add_prefix_space trim_offsets use_regex"));
    TRY(json_get_bool(c->object, c->where, "add_prefix_space", true, &prefix_space));
    TRY(json_get_bool(c->object, c->where, "use_regex", true, &use_regex));
    if (prefix_space) {
        TRY(add_step(p, STEP_PREPEND, c->where, &step));
        TRY(text_append(&step->content, " ", 1));
    }
    if (use_regex) TRY(add_split(p, c, GPT2_EXPRESSION, sizeof GPT2_EXPRESSION - 1, false, SPLIT_ISOLATED));
    return add_step(p, STEP_BYTES, c->where, &step);
}

static int read_digits(pre_tokenizer *p, const component *c) {
    bool individual;
    TRY(component_keys(c, "individual_digits"));
    TRY(json_get_bool(c->object, c->where, "individual_digits", false, &individual));
    return add_split(p, c, "\\p{N}", 5, false, individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS);
}

/* Punctuation: that of ASCII, some of which Unicode classifies as symbols, and that of Unicode 8, which the tokenizers
 * library uses. The second set removes what was added later. */
#define PUNCTUATION                                                                                                    \
    "[!-/:-@\\[-`{-~\\p{P}\\x{166D}\\x{111C9}&&"                                                                       \
    "[^\\x{61D}\\x{9FD}\\x{A76}\\x{C77}\\x{C84}\\x{1B4E}-\\x{1B4F}\\x{1B7D}-\\x{1B7F}\\x{2E43}-\\x{2E4F}"              \
    "\\x{2E52}-\\x{2E5D}\\x{2E60}-\\x{2E63}\\x{10D6E}\\x{10EAD}\\x{10ED0}\\x{10F55}-\\x{10F59}\\x{10F86}-\\x{10F89}"   \
    "\\x{113D4}-\\x{113D5}\\x{113D7}-\\x{113D8}\\x{1144B}-\\x{1144F}\\x{1145A}-\\x{1145B}\\x{1145D}\\x{11660}-\\x{"    \
    "1166C}"                                                                                                           \
    "\\x{116B9}\\x{1183B}\\x{11944}-\\x{11946}\\x{119E2}\\x{11A3F}-\\x{11A46}\\x{11A9A}-\\x{11A9C}\\x{11A9E}-\\x{"     \
    "11AA2}"                                                                                                           \
    "\\x{11B00}-\\x{11B09}\\x{11BE1}\\x{11C41}-\\x{11C45}\\x{11C70}-\\x{11C71}\\x{11EF7}-\\x{11EF8}\\x{11F43}-\\x{"    \
    "11F4F}"                                                                                                           \
    "\\x{11FFF}\\x{12FF1}-\\x{12FF2}\\x{16D6D}-\\x{16D6F}\\x{16E97}-\\x{16E9A}\\x{16FE2}\\x{1E5FF}\\x{1E95E}-\\x{"     \
    "1E95F}]]"

static int read_punctuation(pre_tokenizer *p, const component *c) {
    const char *name;
    split_behavior behavior;
    TRY(component_keys(c, "behavior"));
    TRY(json_get_string(c->object, c->where, "behavior", "Isolated", &name));
    REQUIRE(split_behavior_named(name, &behavior), LCKV_ERROR_UNSUPPORTED, "%s: behavior '%.40s' is not supported",
            c->where, name);
    return add_split(p, c, PUNCTUATION, sizeof PUNCTUATION - 1, false, behavior);
}

static int read_bert(pre_tokenizer *p, const component *c) {
    TRY(component_keys(c, ""));
    TRY(add_split(p, c, "\\s", 2, false, SPLIT_REMOVED));
    return add_split(p, c, PUNCTUATION, sizeof PUNCTUATION - 1, false, SPLIT_ISOLATED);
}

/* Words, and runs of characters that are neither word characters nor spaces. */
static int read_whitespace(pre_tokenizer *p, const component *c) {
    static const char expression[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]+|"
                                     "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}\\s]+";
    TRY(component_keys(c, ""));
    TRY(add_split(p, c, expression, sizeof expression - 1, false, SPLIT_REMOVED));
    p->steps[p->count - 1].invert = true;
    return LCKV_OK;
}

static int read_whitespace_split(pre_tokenizer *p, const component *c) {
    TRY(component_keys(c, ""));
    return add_split(p, c, "\\s", 2, false, SPLIT_REMOVED);
}

static int read_delimiter(pre_tokenizer *p, const component *c) {
    const char *delimiter;
    size_t bytes;
    TRY(component_keys(c, "delimiter"));
    TRY(component_string(c, "delimiter", &delimiter, &bytes));
    REQUIRE(bytes && utf8_last(delimiter, bytes) == 0, LCKV_ERROR_FORMAT, "%s: 'delimiter' should be one character",
            c->where);
    return add_split(p, c, delimiter, bytes, true, SPLIT_REMOVED);
}

static int read_fixed_length(pre_tokenizer *p, const component *c) {
    int64_t length;
    char expression[32];
    TRY(component_keys(c, "length"));
    TRY(json_get_int(c->object, c->where, "length", 5, &length));
    REQUIRE(length >= 1 && length <= UINT16_MAX, LCKV_ERROR_UNSUPPORTED, "%s: 'length' should be 1 to %d", c->where,
            UINT16_MAX);
    int bytes = snprintf(expression, sizeof expression, "(?m:.{1,%d})", (int)length);
    return add_split(p, c, expression, (size_t)bytes, false, SPLIT_ISOLATED);
}

/* Where Metaspace adds its mark: before every piece, before the first of the text, or never. Older files have
 * `add_prefix_space`, true or false, instead of `prepend_scheme`. */
static int metaspace_scheme(const component *c, bool *prepends, bool *at_start_only) {
    const char *scheme;
    bool prefix_space;
    TRY(json_get_string(c->object, c->where, "prepend_scheme", NULL, &scheme));
    TRY(json_get_bool(c->object, c->where, "add_prefix_space", true, &prefix_space));
    if (!scheme) scheme = prefix_space ? "always" : "never";
    *prepends = strcmp(scheme, "never") != 0;
    *at_start_only = !strcmp(scheme, "first");
    REQUIRE(!*prepends || *at_start_only || !strcmp(scheme, "always"), LCKV_ERROR_UNSUPPORTED,
            "%s: prepend_scheme '%.40s' is not supported", c->where, scheme);
    REQUIRE(prefix_space || !*prepends, LCKV_ERROR_FORMAT, "%s: add_prefix_space false contradicts prepend_scheme '%s'",
            c->where, scheme);
    return LCKV_OK;
}

static int read_metaspace(pre_tokenizer *p, const component *c) {
    pre_tokenizer_step *step;
    const char *mark;
    size_t bytes;
    bool prepends, at_start_only, split;
    TRY(component_keys(c, "replacement str_rep add_prefix_space prepend_scheme split"));
    TRY(component_string(c, "replacement", &mark, &bytes));
    REQUIRE(bytes && utf8_last(mark, bytes) == 0, LCKV_ERROR_FORMAT, "%s: 'replacement' should be one character",
            c->where);
    TRY(metaspace_scheme(c, &prepends, &at_start_only));
    TRY(json_get_bool(c->object, c->where, "split", true, &split));
    TRY(add_step(p, STEP_REPLACE, c->where, &step));
    TRY(text_append(&step->content, mark, bytes));
    TRY(pattern_compile(" ", 1, true, c->where, &step->pattern));
    if (prepends) {
        TRY(add_step(p, STEP_PREPEND, c->where, &step));
        step->at_start_only = at_start_only;
        TRY(text_append(&step->content, mark, bytes));
    }
    return split ? add_split(p, c, mark, bytes, true, SPLIT_MERGED_WITH_NEXT) : LCKV_OK;
}

static int read_scripts(pre_tokenizer *p, const component *c) {
    pre_tokenizer_step *step;
    TRY(component_keys(c, ""));
    return add_step(p, STEP_SCRIPTS, c->where, &step);
}

static int read_sequence(pre_tokenizer *p, const component *c, const char *file) {
    const json_t *list, *item;
    size_t index;
    TRY(component_keys(c, "pretokenizers"));
    TRY(component_list(c, "pretokenizers", &list));
    json_array_foreach((json_t *)(uintptr_t)list, index, item) {
        REQUIRE(json_is_object(item), LCKV_ERROR_FORMAT, "%s: entry %zu should be an object", c->where, index);
        TRY(pre_tokenizer_read(p, item, file));
    }
    return LCKV_OK;
}

int pre_tokenizer_read(pre_tokenizer *p, const json_t *config, const char *file) {
    static const struct {
        const char *type;
        int (*read)(pre_tokenizer *, const component *);
    } types[] = {{"Split", read_split},
                 {"ByteLevel", read_byte_level},
                 {"Digits", read_digits},
                 {"Metaspace", read_metaspace},
                 {"Punctuation", read_punctuation},
                 {"Whitespace", read_whitespace},
                 {"WhitespaceSplit", read_whitespace_split},
                 {"BertPreTokenizer", read_bert},
                 {"CharDelimiterSplit", read_delimiter},
                 {"FixedLength", read_fixed_length},
                 {"UnicodeScripts", read_scripts}};
    component c;
    if (!config || json_is_null(config)) return LCKV_OK;
    TRY(component_open(config, file, "pre_tokenizer", NULL, &c));
    if (!strcmp(c.type, "Sequence")) return read_sequence(p, &c, file);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(c.type, types[i].type)) return types[i].read(p, &c);
    return component_unsupported(&c);
}

int pre_tokenizer_check_first(const pre_tokenizer *p, bool normalized, const char *file) {
    bool added = normalized, cut = false;
    for (size_t i = 0; i < p->count; i++) {
        REQUIRE(!p->steps[i].at_start_only || !cut, LCKV_ERROR_UNSUPPORTED,
                "%s: pre_tokenizer 'Metaspace' with prepend_scheme 'first' is not supported after other steps", file);
        if (p->steps[i].kind == STEP_SPLIT || p->steps[i].kind == STEP_SCRIPTS) cut = cut || added;
        if (p->steps[i].kind == STEP_PREPEND || p->steps[i].kind == STEP_BYTES) added = true;
    }
    return LCKV_OK;
}

void pre_tokenizer_free(pre_tokenizer *p) {
    for (size_t i = 0; i < p->count; i++) {
        pattern_free(p->steps[i].pattern);
        text_free(&p->steps[i].content);
    }
    free(p->steps);
    *p = (pre_tokenizer){0};
}

/* ---- applying */

static int prepend(const pre_tokenizer_step *step, const pieces *from, const piece *item, text_buffer *out) {
    const text_buffer *mark = &step->content;
    const char *text = piece_text(from, item);
    bool begins_so = item->bytes >= mark->length && !memcmp(text, mark->data, mark->length);
    if (!begins_so && (item->starts_text || !step->at_start_only)) TRY(text_append(out, mark->data, mark->length));
    return text_append(out, text, item->bytes);
}

static int rewrite(const pre_tokenizer_step *step, const pieces *from, const piece *item, text_buffer *out) {
    const char *text = piece_text(from, item);
    if (step->kind == STEP_BYTES) return byte_alphabet_write(out, text, item->bytes);
    if (step->kind == STEP_PREPEND) return prepend(step, from, item, out);
    return pattern_replace(step->pattern, text, item->bytes, step->content.data, step->content.length, out, NULL);
}

/* Splits before each character whose script differs from the previous one. SCRIPT_ANY characters belong to the text
 * before them; at the start they are dropped, as in the tokenizers library. */
static int split_scripts(const pieces *from, const piece *item, pieces *to) {
    const char *text = piece_text(from, item);
    size_t begin = 0;
    int current = SCRIPT_ANY;
    for (size_t at = 0, length; at < item->bytes; at += length) {
        uint32_t code_point;
        length = utf8_next(text + at, &code_point);
        int script = unicode_script(code_point);
        if (script == SCRIPT_ANY || script == current) continue;
        if (current != SCRIPT_ANY) TRY(pieces_add_text(to, text + begin, at - begin, item->starts_text && begin == 0));
        begin = at;
        current = script;
    }
    if (current == SCRIPT_ANY) return LCKV_OK;
    return pieces_add_text(to, text + begin, item->bytes - begin, item->starts_text && begin == 0);
}

static int apply_to_piece(const pre_tokenizer_step *step, const pieces *from, const piece *item, pieces *to) {
    if (item->id != NO_TOKEN) return pieces_add_token(to, item->id);
    if (step->kind == STEP_SPLIT) return split_piece(step->pattern, step->behavior, step->invert, from, item, to);
    if (step->kind == STEP_SCRIPTS) return split_scripts(from, item, to);
    size_t begin = to->text.length;
    TRY(rewrite(step, from, item, &to->text));
    return pieces_close_text(to, begin, item->starts_text);
}

int pre_tokenizer_apply(const pre_tokenizer *p, pieces *text, pieces *spare) {
    for (size_t i = 0; i < p->count; i++) {
        pieces_clear(spare);
        if (p->steps[i].pattern) pattern_begin(p->steps[i].pattern);
        for (size_t k = 0; k < text->count; k++) TRY(apply_to_piece(&p->steps[i], text, &text->items[k], spare));
        pieces swapped = *text;
        *text = *spare;
        *spare = swapped;
    }
    return LCKV_OK;
}
