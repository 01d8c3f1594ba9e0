/* The normalizer of a tokenizer file, see normalizer.h. */
#include "text/tokenizer/steps/normalizer.h"

#include "base/text/utf8.h"
#include "text/subword/component.h"
#include "text/unicode/charsmap.h"
#include "text/unicode/cleaning.h"
#include "text/unicode/unicode_form.h"

#include <stdlib.h>
#include <string.h>

typedef enum {
    STEP_PREPEND,
    STEP_REPLACE,
    STEP_UNICODE_FORM,
    STEP_LOWERCASE,
    STEP_STRIP,
    STEP_CLEAN,
    STEP_CHARSMAP
} step_kind;

struct normalizer_step {
    step_kind kind;
    pattern *pattern;    /* Replace */
    text_buffer content; /* Replace, Prepend */
    unicode_form form;   /* NFC etc. */
    bool left, right;    /* Strip */
    cleaning cleaning;   /* StripAccents etc. */
    charsmap *charsmap;  /* Precompiled */
};

/* ---- reading */

static int read_content(normalizer_step *step, const component *c, const char *key) {
    const char *text;
    size_t bytes;
    TRY(component_string(c, key, &text, &bytes));
    return text_append(&step->content, text, bytes);
}

static int read_charsmap(normalizer_step *step, const component *c) {
    const char *table;
    size_t bytes;
    step->kind = STEP_CHARSMAP;
    TRY(component_keys(c, "precompiled_charsmap"));
    TRY(component_string(c, "precompiled_charsmap", &table, &bytes));
    return charsmap_read(table, bytes, c->where, &step->charsmap);
}

static int read_step(normalizer_step *step, const component *c) {
    if (!strcmp(c->type, "Precompiled")) return read_charsmap(step, c);
    if (cleaning_named(c->type, &step->cleaning)) {
        step->kind = STEP_CLEAN;
        return component_keys(c, "");
    }
    if (unicode_form_named(c->type, &step->form)) {
        step->kind = STEP_UNICODE_FORM;
        return component_keys(c, "");
    }
    if (!strcmp(c->type, "Prepend")) {
        step->kind = STEP_PREPEND;
        TRY(component_keys(c, "prepend"));
        return read_content(step, c, "prepend");
    }
    if (!strcmp(c->type, "Replace")) {
        step->kind = STEP_REPLACE;
        TRY(component_keys(c, "pattern content"));
        TRY(read_content(step, c, "content"));
        return pattern_read(json_object_get(c->object, "pattern"), c->where, &step->pattern);
    }
    if (!strcmp(c->type, "Lowercase")) {
        step->kind = STEP_LOWERCASE;
        return component_keys(c, "");
    }
    if (!strcmp(c->type, "Strip")) {
        step->kind = STEP_STRIP;
        TRY(component_keys(c, "strip_left strip_right"));
        TRY(json_get_bool(c->object, c->where, "strip_left", false, &step->left));
        return json_get_bool(c->object, c->where, "strip_right", false, &step->right);
    }
    return component_unsupported(c);
}

static int read_sequence(normalizer *n, const component *c, const char *file) {
    const json_t *list, *item;
    size_t index;
    TRY(component_keys(c, "normalizers"));
    TRY(component_list(c, "normalizers", &list));
    json_array_foreach((json_t *)(uintptr_t)list, index, item) {
        REQUIRE(json_is_object(item), LCKV_ERROR_FORMAT, "%s: entry %zu should be an object", c->where, index);
        TRY(normalizer_read(n, item, file));
    }
    return LCKV_OK;
}

static int add_step(normalizer *n, normalizer_step step, const char *file) {
    REQUIRE(n->count < COMPONENT_MAX_STEPS, LCKV_ERROR_UNSUPPORTED, "%s: expected at most %d normalizers", file,
            COMPONENT_MAX_STEPS);
    normalizer_step *steps = realloc(n->steps, (n->count + 1) * sizeof *steps);
    REQUIRE(steps, LCKV_ERROR_MEMORY, "%s: no memory for a normalizer", file);
    n->steps = steps;
    n->steps[n->count++] = step;
    return LCKV_OK;
}

/* Removes accents if `strip_accents` is true, or if it is absent and `lowercase` is true. */
static int read_bert(normalizer *n, const component *c, const char *file) {
    bool cleans, spaces_han, lowers, strips;
    normalizer_step decompose = {.kind = STEP_UNICODE_FORM};
    TRY(component_keys(c, "clean_text handle_chinese_chars strip_accents lowercase"));
    TRY(json_get_bool(c->object, c->where, "clean_text", true, &cleans));
    TRY(json_get_bool(c->object, c->where, "handle_chinese_chars", true, &spaces_han));
    TRY(json_get_bool(c->object, c->where, "lowercase", true, &lowers));
    TRY(json_get_bool(c->object, c->where, "strip_accents", lowers, &strips));
    unicode_form_named("NFD", &decompose.form);
    if (cleans) TRY(add_step(n, (normalizer_step){.kind = STEP_CLEAN, .cleaning = CLEAN_CONTROLS}, file));
    if (spaces_han) TRY(add_step(n, (normalizer_step){.kind = STEP_CLEAN, .cleaning = CLEAN_HAN}, file));
    if (strips) TRY(add_step(n, decompose, file));
    if (strips) TRY(add_step(n, (normalizer_step){.kind = STEP_CLEAN, .cleaning = CLEAN_NONSPACING}, file));
    return lowers ? add_step(n, (normalizer_step){.kind = STEP_LOWERCASE}, file) : LCKV_OK;
}

int normalizer_read(normalizer *n, const json_t *config, const char *file) {
    component c;
    if (!config || json_is_null(config)) return LCKV_OK;
    TRY(component_open(config, file, "normalizer", NULL, &c));
    if (!strcmp(c.type, "Sequence")) return read_sequence(n, &c, file);
    if (!strcmp(c.type, "BertNormalizer")) return read_bert(n, &c, file);
    TRY(add_step(n, (normalizer_step){0}, file));
    return read_step(&n->steps[n->count - 1], &c);
}

void normalizer_free(normalizer *n) {
    for (size_t i = 0; i < n->count; i++) {
        pattern_free(n->steps[i].pattern);
        text_free(&n->steps[i].content);
        charsmap_free(n->steps[i].charsmap);
    }
    free(n->steps);
    *n = (normalizer){0};
}

/* ---- applying: each step writes a new text to `out` */

static int prepend(const normalizer_step *step, const text_buffer *text, text_buffer *out) {
    if (text->length) TRY(text_append(out, step->content.data, step->content.length));
    return text_append(out, text->data, text->length);
}

/* A new character takes the position of the last replaced one (positions as in the tokenizers library). */
static int replace(const normalizer_step *step, const text_buffer *text, text_buffer *out, bool *keeps_start) {
    size_t first_end;
    TRY(pattern_replace(step->pattern, text->data, text->length, step->content.data, step->content.length, out,
                        &first_end));
    if (first_end && (!step->content.length || utf8_last(text->data, first_end) > 0)) *keeps_start = false;
    return LCKV_OK;
}

/* Character by character, without context. Only U+0130 becomes two characters. */
static int lowercase(const text_buffer *text, text_buffer *out) {
    for (size_t at = 0; at < text->length;) {
        uint32_t code_point;
        char lower[4];
        at += utf8_next(text->data + at, &code_point);
        size_t bytes = utf8_write(utf8_to_lower(code_point), lower);
        TRY(text_append(out, lower, bytes));
        if (code_point == 0x130) TRY(text_append(out, "\xCC\x87", 2)); /* a combining dot above */
    }
    return LCKV_OK;
}

static int strip(const normalizer_step *step, const text_buffer *text, text_buffer *out, bool *keeps_start) {
    size_t begin = 0, end = text->length, bytes;
    uint32_t code_point;
    while (step->left && begin < end) {
        bytes = utf8_next(text->data + begin, &code_point);
        if (!utf8_is_white_space(code_point)) break;
        begin += bytes;
        *keeps_start = false;
    }
    while (step->right && begin < end) {
        size_t last = utf8_last(text->data, end);
        utf8_next(text->data + last, &code_point);
        if (!utf8_is_white_space(code_point)) break;
        end = last;
    }
    return text_append(out, text->data + begin, end - begin);
}

static int apply_step(const normalizer_step *step, const text_buffer *text, text_buffer *out, bool *keeps_start) {
    switch (step->kind) {
    case STEP_PREPEND:
        return prepend(step, text, out);
    case STEP_REPLACE:
        return replace(step, text, out, keeps_start);
    case STEP_UNICODE_FORM:
        return unicode_form_append(step->form, text->data, text->length, out);
    case STEP_LOWERCASE:
        return lowercase(text, out);
    case STEP_STRIP:
        return strip(step, text, out, keeps_start);
    case STEP_CLEAN:
        return clean_text(step->cleaning, text->data, text->length, out, keeps_start);
    case STEP_CHARSMAP:
        return charsmap_apply(step->charsmap, text->data, text->length, out);
    }
    return LCKV_OK;
}

void normalizer_begin(const normalizer *n) {
    for (size_t i = 0; i < n->count; i++)
        if (n->steps[i].pattern) pattern_begin(n->steps[i].pattern);
}

int normalizer_apply(const normalizer *n, text_buffer *text, bool *keeps_start) {
    for (size_t i = 0; i < n->count && text->length; i++) {
        text_buffer out = {.limit = text->limit};
        int status = apply_step(&n->steps[i], text, &out, keeps_start);
        text_free(text);
        *text = out;
        TRY(status);
    }
    return LCKV_OK;
}
