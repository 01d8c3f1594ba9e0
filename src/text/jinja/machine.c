/* Errors, limits and growing strings of a rendering, see machine.h. */
#include "text/jinja/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void machine_message(const machine *m, const char *format, ...) {
    char text[600];
    va_list given;
    va_start(given, format);
    vsnprintf(text, sizeof text, format, given);
    va_end(given);
    fail_message("%.200s: line %d: %s", m->name, m->line, text);
}

int machine_tick(machine *m, size_t steps) {
    if (steps > MAX_STEPS || (m->steps += (int64_t)steps) > MAX_STEPS)
        return RAISE(m, "the template exceeds %d steps", MAX_STEPS);
    return LCKV_OK;
}

int machine_scan(machine *m, size_t bytes) {
    return machine_tick(m, bytes / 64);
}

int machine_walk(machine *m, size_t bytes) {
    return machine_tick(m, bytes / 4);
}

int machine_enter(machine *m) {
    if (++m->depth > MAX_DEPTH) return RAISE(m, "calls or values are nested more than %d levels deep", MAX_DEPTH);
    return machine_tick(m, 1);
}

int output_add(machine *m, output *o, const char *bytes, size_t count) {
    if (count > o->capacity - o->length) {
        if (count > MAX_TEXT - o->length) return RAISE(m, "the text exceeds %d bytes", MAX_TEXT);
        size_t more = count + o->capacity + 64;
        char *data = arena_extend(&m->arena, o->data, o->capacity, more);
        if (!data) return status_of_failure(LCKV_ERROR_MEMORY);
        o->data = data;
        o->capacity += more;
    }
    if (count) memcpy(o->data + o->length, bytes, count);
    o->length += count;
    return LCKV_OK;
}

int output_word(machine *m, output *o, const char *word) {
    return output_add(m, o, word, strlen(word));
}

static int format_into(machine *m, value_kind kind, value *out, const char *format, va_list given) {
    char text[400], *copy;
    vsnprintf(text, sizeof text, format, given);
    size_t bytes = strlen(text);
    TAKE(copy, &m->arena, bytes + 1);
    memcpy(copy, text, bytes);
    *out = (value){.kind = kind, .text = copy, .bytes = bytes};
    return LCKV_OK;
}

int text_format(machine *m, value *out, const char *format, ...) {
    va_list given;
    va_start(given, format);
    int status = format_into(m, VALUE_STRING, out, format, given);
    va_end(given);
    return status;
}

int undefined_format(machine *m, value *out, const char *format, ...) {
    va_list given;
    va_start(given, format);
    int status = format_into(m, VALUE_UNDEFINED, out, format, given);
    va_end(given);
    return status;
}
