/* Attributes, elements and slices, by the rules of Jinja's sandbox: v.name looks for a method first, then for a key;
 * v[key] the other way round. What does not exist is undefined. Access that would change a list or dict is rejected. */
#include "text/jinja/machine.h"
#include "text/jinja/run.h"

#include "base/text/utf8.h"

#include <inttypes.h>
#include <string.h>

static const char *object_name(value v, char room[64]) {
    if (v.kind == VALUE_NONE) return "None";
    snprintf(room, 64, "%s object",
             v.kind == VALUE_NAMESPACE ? "jinja2.utils.Namespace"
             : v.kind == VALUE_LOOP    ? "jinja2.runtime.LoopContext"
             : v.kind == VALUE_MACRO   ? "jinja2.runtime.Macro"
             : v.kind == VALUE_JOINER  ? "jinja2.utils.Joiner"
             : v.kind == VALUE_CYCLER  ? "jinja2.utils.Cycler"
             : is_markup(v)            ? "markupsafe.Markup"
                                       : value_type(v));
    return room;
}

static int no_attribute(machine *m, value v, const char *name, size_t bytes, value *out) {
    char room[64];
    return undefined_format(m, out, "'%s' has no attribute '%.*s'", object_name(v, room),
                            bytes > 200 ? 200 : (int)bytes, name);
}

static int no_element(machine *m, value v, value key, value *out) {
    char room[64];
    output shown = {0};
    if (is_string(key)) return no_attribute(m, v, key.text, key.bytes, out);
    TRY(print_repr(m, &shown, key));
    return undefined_format(m, out, "%s has no element %.*s", object_name(v, room),
                            shown.length > 200 ? 200 : (int)shown.length, shown.length ? shown.data : "");
}

/* ---- attributes */

static bool listed(const char *words, const char *name, size_t bytes) {
    for (const char *at = words; *at; at += *at == ' ') {
        size_t length = strcspn(at, " ");
        if (length == bytes && !memcmp(at, name, bytes)) return true;
        at += length;
    }
    return false;
}

/* Attributes that the immutable sandbox hides from templates. */
static bool is_unsafe(value v, const char *name, size_t bytes) {
    if (bytes >= 1 && *name == '_' && v.kind != VALUE_DICT) return true;
    if (bytes >= 2 && !memcmp(name, "__", 2)) return true;
    if (v.kind == VALUE_LIST) return listed("append clear extend insert pop remove reverse sort", name, bytes);
    if (v.kind == VALUE_DICT) return listed("clear pop popitem setdefault update", name, bytes);
    return false;
}

static const builtin *method_of(value v, const char *name, size_t bytes) {
    switch (v.kind) {
    case VALUE_STRING:
        return builtin_find(string_methods, name, bytes);
    case VALUE_DICT:
        return builtin_find(dict_methods, name, bytes);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return builtin_find(list_methods, name, bytes);
    case VALUE_LOOP:
        return builtin_find(loop_methods, name, bytes);
    case VALUE_CYCLER:
        return builtin_find(cycler_methods, name, bytes);
    case VALUE_FUNCTION:
        return global_method_find(v.function->code, name, bytes);
    default:
        return NULL;
    }
}

static int bind_method(machine *m, const builtin *code, value self, value *out) {
    function *bound;
    TAKE(bound, &m->arena, sizeof *bound);
    *bound = (function){code, self};
    *out = (value){.kind = VALUE_FUNCTION, .function = bound};
    return LCKV_OK;
}

/* What Python's getattr() finds. */
static int find_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found) {
    const builtin *method = method_of(v, name, bytes);
    *found = true;
    if (is_unsafe(v, name, bytes))
        return undefined_format(m, out, "access to attribute '%.*s' of '%s' object is unsafe.",
                                bytes > 200 ? 200 : (int)bytes, name, value_type(v));
    if (method) return bind_method(m, method, v, out);
    if (v.kind == VALUE_LOOP) return loop_attribute(m, v, name, bytes, out, found);
    if (v.kind == VALUE_MACRO) return macro_attribute(m, v, name, bytes, out, found);
    if (v.kind == VALUE_CYCLER) return cycler_attribute(m, v, name, bytes, out, found);
    if (v.kind == VALUE_JOINER) return joiner_attribute(m, v, name, bytes, out, found);
    if (v.kind == VALUE_NAMESPACE) {
        value *item;
        TRY(dict_find(m, v.dict, value_text(name, bytes), &item));
        *found = item != NULL;
        if (item) *out = *item;
        return LCKV_OK;
    }
    if (v.kind == VALUE_TUPLE && v.list->name) { /* for groupby */
        *found = text_is(name, bytes, "grouper") || text_is(name, bytes, "list");
        if (*found) *out = v.list->items[text_is(name, bytes, "list")];
        return LCKV_OK;
    }
    *found = false;
    return LCKV_OK;
}

int value_attribute(machine *m, value v, const char *name, size_t bytes, value *out) {
    bool found;
    if (v.kind == VALUE_UNDEFINED) return RAISE(m, "%.*s", (int)v.bytes, v.text);
    TRY(find_attribute(m, v, name, bytes, out, &found));
    if (found) return LCKV_OK;
    if (v.kind == VALUE_DICT) {
        value *item;
        TRY(dict_find(m, v.dict, value_text(name, bytes), &item));
        if (item) {
            *out = *item;
            return LCKV_OK;
        }
    }
    return no_attribute(m, v, name, bytes, out);
}

int value_own_attribute(machine *m, value v, const char *name, size_t bytes, value *out) {
    bool found = false;
    if (v.kind == VALUE_UNDEFINED) return RAISE(m, "%.*s", (int)v.bytes, v.text);
    TRY(find_attribute(m, v, name, bytes, out, &found));
    return found ? LCKV_OK : no_attribute(m, v, name, bytes, out);
}

/* ---- elements */

/* Byte offset of a character, by its number. */
static size_t byte_of_character(value v, int64_t index) {
    size_t at = 0;
    while (index > 0 && at < v.bytes) {
        at++;
        while (at < v.bytes && ((unsigned char)v.text[at] & 0xC0) == 0x80) at++;
        index--;
    }
    return at;
}

/* Element by number; *found is false out of range. */
static int element_at(machine *m, value v, int64_t index, value *out, bool *found) {
    int64_t length;
    TRY(value_length(m, v, &length));
    if (index < 0) index += length;
    *found = index >= 0 && index < length;
    if (!*found) return LCKV_OK;
    if (!is_string(v)) {
        *out = v.list->items[index];
        return LCKV_OK;
    }
    size_t first = byte_of_character(v, index);
    uint32_t c;
    *out = value_text(v.text + first, utf8_next(v.text + first, &c));
    out->markup = v.markup;
    return LCKV_OK;
}

int value_element(machine *m, value v, value key, value *out) {
    bool found = false, is_key = false;
    bool numbered = is_string(v) || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE || v.kind == VALUE_RANGE;
    if (v.kind == VALUE_UNDEFINED) return RAISE(m, "%.*s", (int)v.bytes, v.text);
    if (v.kind == VALUE_DICT) TRY(value_hashable(m, key, &is_key));
    if (is_key) {
        value *item;
        TRY(dict_find(m, v.dict, key, &item));
        found = item != NULL;
        if (item) *out = *item;
    } else if (numbered && is_whole(key)) {
        TRY(element_at(m, v, whole(key), out, &found));
    }
    if (!found && is_string(key)) TRY(find_attribute(m, v, key.text, key.bytes, out, &found));
    return found ? LCKV_OK : no_element(m, v, key, out);
}

/* ---- slices */

/* start:stop:step of a sequence, as in Python's slice.indices(). */
typedef struct slice {
    int64_t start, stop, step;
} slice;

static int64_t clamp(int64_t index, int64_t length, int64_t lowest, int64_t highest) {
    if (index < 0) index = index < -length ? lowest : index + length;
    return index < lowest ? lowest : index > highest ? highest : index;
}

static int slice_of(machine *m, value start, value stop, value step, int64_t length, slice *out) {
    int64_t first, last;
    TRY(argument_whole(m, step, 1, "the step of a slice", &out->step));
    if (out->step == 0) return RAISE(m, "slice step cannot be zero");
    if (out->step < -INT32_MAX || out->step > INT32_MAX) return RAISE(m, "the step of a slice is out of range");
    bool back = out->step < 0;
    TRY(argument_whole(m, start, 0, "the start of a slice", &first));
    TRY(argument_whole(m, stop, 0, "the end of a slice", &last));
    int64_t lowest = back ? -1 : 0, highest = back ? length - 1 : length;
    bool has_start = start.kind != VALUE_NONE && start.kind != VALUE_UNSET;
    bool has_stop = stop.kind != VALUE_NONE && stop.kind != VALUE_UNSET;
    out->start = has_start ? clamp(first, length, lowest, highest) : back ? highest : lowest;
    out->stop = has_stop ? clamp(last, length, lowest, highest) : back ? lowest : highest;
    return LCKV_OK;
}

static bool inside(const slice *s, int64_t index) {
    return s->step > 0 ? index < s->stop : index > s->stop;
}

static int slice_text(machine *m, value v, const slice *s, value *out) {
    const value_list *list;
    output o = {0};
    if (s->step == 1) {
        size_t first = byte_of_character(v, s->start);
        size_t end = s->stop > s->start
                         ? first + byte_of_character(value_text(v.text + first, v.bytes - first), s->stop - s->start)
                         : first;
        *out = value_text(v.text + first, end - first);
        out->markup = v.markup;
        return LCKV_OK;
    }
    TRY(value_items(m, v, &list));
    for (int64_t i = s->start; inside(s, i); i += s->step)
        TRY(output_add(m, &o, list->items[i].text, list->items[i].bytes));
    *out = output_value(&o);
    out->markup = v.markup;
    return LCKV_OK;
}

int value_slice(machine *m, value v, value start, value stop, value step, value *out) {
    int64_t length;
    slice s;
    value_list *list;
    if (v.kind == VALUE_UNDEFINED) return RAISE(m, "%.*s", (int)v.bytes, v.text);
    bool sliced = is_string(v) || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE || v.kind == VALUE_RANGE;
    if (v.kind == VALUE_DICT) return RAISE(m, "unhashable type: 'slice'");
    if (!sliced) return RAISE(m, "'%s' object is not subscriptable", value_type(v));
    TRY(value_length(m, v, &length));
    TRY(slice_of(m, start, stop, step, length, &s));
    if (is_string(v)) return slice_text(m, v, &s, out);
    TRY(list_new(&m->arena, 0, &list));
    for (int64_t i = s.start; inside(&s, i); i += s.step) TRY(list_add(&m->arena, list, v.list->items[i]));
    TRY(machine_tick(m, list->count));
    *out = value_of_list(v.kind == VALUE_TUPLE ? VALUE_TUPLE : VALUE_LIST, list);
    return LCKV_OK;
}
