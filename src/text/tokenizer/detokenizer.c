/* The decoder of a tokenizer file, see detokenizer.h. decoder_steps.c has the steps. */
#include "text/tokenizer/detokenizer.h"

#include "base/text/utf8.h"
#include "base/work.h"
#include "text/subword/component.h"
#include "text/tokenizer/steps/decoder_steps.h"

#include <stdlib.h>
#include <string.h>

/* ---- reading */

static int read_character(const component *c, const char *key, char out[4], size_t *bytes) {
    const char *text;
    TRY(component_string(c, key, &text, bytes));
    REQUIRE(*bytes && utf8_last(text, *bytes) == 0, LCKV_ERROR_FORMAT, "%s: '%s' should be one character", c->where,
            key);
    memcpy(out, text, *bytes);
    return LCKV_OK;
}

static int read_count(const component *c, const char *key, size_t *out) {
    int64_t count;
    TRY(json_get_int(c->object, c->where, key, 0, &count));
    REQUIRE(count >= 0, LCKV_ERROR_FORMAT, "%s: '%s' should not be negative", c->where, key);
    *out = (size_t)count;
    return LCKV_OK;
}

static int read_strip(decoder_step *step, const component *c) {
    TRY(component_keys(c, "content start stop"));
    TRY(read_character(c, "content", step->character, &step->character_bytes));
    TRY(read_count(c, "start", &step->strip_start));
    return read_count(c, "stop", &step->strip_stop);
}

static int read_metaspace(decoder_step *step, const component *c) {
    const char *scheme;
    bool prefix_space;
    TRY(component_keys(c, "replacement str_rep add_prefix_space prepend_scheme split"));
    TRY(read_character(c, "replacement", step->character, &step->character_bytes));
    TRY(json_get_bool(c->object, c->where, "add_prefix_space", true, &prefix_space));
    TRY(json_get_string(c->object, c->where, "prepend_scheme", prefix_space ? "always" : "never", &scheme));
    step->drops_first = strcmp(scheme, "never") != 0;
    return LCKV_OK;
}

static int read_replace(decoder_step *step, const component *c) {
    const char *content;
    size_t bytes;
    TRY(component_keys(c, "pattern content"));
    TRY(component_string(c, "content", &content, &bytes));
    TRY(text_append(&step->content, content, bytes));
    return pattern_read(json_object_get(c->object, "pattern"), c->where, &step->pattern);
}

static int read_step(decoder_step *step, const component *c) {
    static const char *const types[] = {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"};
    for (step->kind = 0; step->kind < sizeof types / sizeof *types; step->kind++)
        if (!strcmp(c->type, types[step->kind])) break;
    switch (step->kind) {
    case DECODE_BYTE_LEVEL: /* its settings concern only pre-tokenizing */
        return component_keys(c, "add_prefix_space trim_offsets use_regex");
    case DECODE_REPLACE:
        return read_replace(step, c);
    case DECODE_BYTE_FALLBACK:
    case DECODE_FUSE:
        return component_keys(c, "");
    case DECODE_STRIP:
        return read_strip(step, c);
    case DECODE_METASPACE:
        return read_metaspace(step, c);
    default:
        return component_unsupported(c);
    }
}

static int add_step(detokenizer *d, const char *file) {
    REQUIRE(d->count < COMPONENT_MAX_STEPS, LCKV_ERROR_UNSUPPORTED, "%s: expected at most %d decoders", file,
            COMPONENT_MAX_STEPS);
    decoder_step *steps = realloc(d->steps, (d->count + 1) * sizeof *steps);
    REQUIRE(steps, LCKV_ERROR_MEMORY, "%s: no memory for a decoder", file);
    d->steps = steps;
    d->steps[d->count++] = (decoder_step){.kind = DECODE_JOIN};
    return LCKV_OK;
}

static int read_decoder(detokenizer *d, const json_t *config, const char *file) {
    component c;
    const json_t *list, *item;
    size_t index;
    TRY(component_open(config, file, "decoder", NULL, &c));
    if (strcmp(c.type, "Sequence") != 0) {
        TRY(add_step(d, file));
        return read_step(&d->steps[d->count - 1], &c);
    }
    TRY(component_keys(&c, "decoders"));
    TRY(component_list(&c, "decoders", &list));
    json_array_foreach((json_t *)(uintptr_t)list, index, item) TRY(read_decoder(d, item, file));
    return LCKV_OK;
}

int detokenizer_read(detokenizer *d, const json_t *config, const char *file) {
    return config && !json_is_null(config) ? read_decoder(d, config, file) : add_step(d, file);
}

void detokenizer_free(detokenizer *d) {
    for (size_t i = 0; i < d->count; i++) {
        pattern_free(d->steps[i].pattern);
        text_free(&d->steps[i].content);
    }
    free(d->steps);
    *d = (detokenizer){0};
}

/* ---- running */

struct detokenizer_run {
    decoder_stage *stages; /* [count] */
    size_t count;
    size_t pushed; /* bytes of the tokens so far */
};

int detokenizer_begin(const detokenizer *d, detokenizer_run **out) {
    *out = NULL;
    detokenizer_run *run = calloc(1, sizeof *run);
    decoder_stage *stages = calloc(d->count + 1, sizeof *stages);
    if (!run || !stages) {
        free(run);
        free(stages);
        return fail(LCKV_ERROR_MEMORY, "no memory to decode a text");
    }
    for (size_t i = 0; i < d->count; i++) stages[i] = (decoder_stage){.step = &d->steps[i], .pushed = &run->pushed};
    *run = (detokenizer_run){.stages = stages, .count = d->count};
    *out = run;
    return LCKV_OK;
}

void detokenizer_end(detokenizer_run *run) {
    if (!run) return;
    for (size_t i = 0; i < run->count; i++) decoder_stage_free(&run->stages[i]);
    free(run->stages);
    free(run);
}

static int copy_text(const text_buffer *from, text_buffer *to) {
    *to = (text_buffer){0};
    return from->length ? text_append(to, from->data, from->length) : LCKV_OK;
}

int detokenizer_copy(const detokenizer_run *run, detokenizer_run **out) {
    *out = NULL;
    detokenizer_run *copy = calloc(1, sizeof *copy);
    REQUIRE(copy, LCKV_ERROR_MEMORY, "no memory to decode a text");
    copy->stages = calloc(run->count + 1, sizeof *copy->stages);
    copy->pushed = run->pushed;
    int status = copy->stages ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory to decode a text");
    for (; status >= 0 && copy->count < run->count; copy->count++) {
        const decoder_stage *from = &run->stages[copy->count];
        decoder_stage *to = &copy->stages[copy->count];
        *to = *from;
        to->bytes = (text_buffer){0};
        to->pushed = &copy->pushed;
        status = copy_text(&from->token, &to->token);
        if (status >= 0) status = copy_text(&from->bytes, &to->bytes);
    }
    if (status < 0)
        detokenizer_end(copy);
    else
        *out = copy;
    return status;
}

/* The last stage has no step; it appends to `out`. */
int detokenizer_push(detokenizer_run *run, const char *token, size_t bytes, text_buffer *out) {
    run->stages[run->count].out = out;
    run->pushed += bytes;
    work_count(bytes + 1);
    TRY(decoder_stage_text(run->stages, token, bytes));
    return decoder_stage_end_token(run->stages);
}

int detokenizer_finish(detokenizer_run *run, text_buffer *out) {
    run->stages[run->count].out = out;
    for (size_t i = 0; i < run->count; i++) TRY(decoder_stage_finish(&run->stages[i]));
    return LCKV_OK;
}
