/* Keys of dicts: which values can be keys, and lookups. Dicts are lists of pairs that are searched from the start, so
 * that the machine counts each search. */
#include "text/jinja/machine.h"

#include <string.h>

enum { KEY_DEPTH = 8 }; /* nested tuples in a key */

static int hashable(machine *m, value v, int depth, bool *out) {
    *out = v.kind == VALUE_TUPLE ? depth > 0 : v.kind <= VALUE_STRING && v.kind != VALUE_UNSET;
    if (v.kind != VALUE_TUPLE) return LCKV_OK;
    TRY(machine_tick(m, v.list->count));
    for (size_t i = 0; i < v.list->count && *out; i++) TRY(hashable(m, v.list->items[i], depth - 1, out));
    return LCKV_OK;
}

int value_hashable(machine *m, value v, bool *out) {
    return hashable(m, v, KEY_DEPTH, out);
}

int key_check(machine *m, value v) {
    bool is_key;
    TRY(value_hashable(m, v, &is_key));
    return is_key ? LCKV_OK : RAISE(m, "unhashable type: '%s'", value_type(v));
}

static int equal_tuples(machine *m, const value_list *a, const value_list *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; i < a->count && *out; i++) {
        TRY(machine_tick(m, 1));
        TRY(key_equal(m, a->items[i], b->items[i], out));
    }
    return LCKV_OK;
}

int key_equal(machine *m, value a, value b, bool *out) {
    bool numbers = is_number(a) && is_number(b);
    *out = a.kind == b.kind; /* None, Undefined */
    if (numbers)
        *out = is_whole(a) && is_whole(b) ? whole(a) == whole(b) : real(a) == real(b);
    else if (*out && is_string(a)) {
        *out = a.bytes == b.bytes;
        if (*out && a.bytes >= 64) TRY(machine_scan(m, a.bytes));
        *out = *out && (!a.bytes || !memcmp(a.text, b.text, a.bytes));
    } else if (*out && a.kind == VALUE_TUPLE)
        return equal_tuples(m, a.list, b.list, out);
    return LCKV_OK;
}

int dict_find(machine *m, const value_dict *dict, value key, value **out) {
    bool same = false;
    *out = NULL;
    TRY(machine_tick(m, dict->count / 16));
    for (size_t i = 0; i < dict->count && !same; i++) {
        TRY(key_equal(m, dict->pairs[i].key, key, &same));
        if (same) *out = &dict->pairs[i].value;
    }
    return LCKV_OK;
}

int dict_set(machine *m, value_dict *dict, value key, value item) {
    value *found;
    TRY(dict_find(m, dict, key, &found));
    if (!found) return dict_append(&m->arena, dict, key, item);
    *found = item;
    return LCKV_OK;
}
