/* Values, see value.h. */
#include "text/jinja/value.h"

#include <string.h>

value value_word(const char *word) {
    return value_text(word, strlen(word));
}

bool text_is(const char *text, size_t bytes, const char *word) {
    return bytes == strlen(word) && !memcmp(text, word, bytes);
}

const char *value_type(value v) {
    switch (v.kind) {
    case VALUE_UNSET:
    case VALUE_UNDEFINED:
        return "Undefined";
    case VALUE_NONE:
        return "NoneType";
    case VALUE_BOOL:
        return "bool";
    case VALUE_INT:
        return "int";
    case VALUE_FLOAT:
        return "float";
    case VALUE_STRING:
        return v.markup ? "Markup" : "str";
    case VALUE_LIST:
        return "list";
    case VALUE_TUPLE:
        return "tuple";
    case VALUE_RANGE:
        return "range";
    case VALUE_VIEW:
    case VALUE_ITERATOR:
        return v.list->name;
    case VALUE_DICT:
        return "dict";
    case VALUE_NAMESPACE:
        return "Namespace";
    case VALUE_FUNCTION:
        return "function";
    case VALUE_MACRO:
        return "Macro";
    case VALUE_LOOP:
        return "LoopContext";
    case VALUE_JOINER:
        return "Joiner";
    case VALUE_CYCLER:
        return "Cycler";
    }
    return "?";
}

bool value_truth(value v) {
    switch (v.kind) {
    case VALUE_UNSET:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return v.boolean;
    case VALUE_INT:
        return v.integer != 0;
    case VALUE_FLOAT:
        return v.number != 0;
    case VALUE_STRING:
        return v.bytes != 0;
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
    case VALUE_VIEW:
        return v.list->count != 0;
    case VALUE_DICT:
        return v.dict->count != 0;
    default:
        return true;
    }
}

/* ---- lists and dicts */

int list_new(arena *a, size_t capacity, value_list **out) {
    TAKE(*out, a, sizeof **out);
    TAKE((*out)->items, a, (capacity ? capacity : 1) * sizeof(value));
    (*out)->capacity = capacity;
    return LCKV_OK;
}

int list_add(arena *a, value_list *list, value item) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        value *items;
        TAKE(items, a, capacity * sizeof *items);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return LCKV_OK;
}

int dict_new(arena *a, size_t capacity, value_dict **out) {
    TAKE(*out, a, sizeof **out);
    TAKE((*out)->pairs, a, (capacity ? capacity : 1) * sizeof(value_pair));
    (*out)->capacity = capacity;
    return LCKV_OK;
}

int dict_append(arena *a, value_dict *dict, value key, value item) {
    if (dict->count == dict->capacity) {
        size_t capacity = dict->capacity ? 2 * dict->capacity : 4;
        value_pair *pairs;
        TAKE(pairs, a, capacity * sizeof *pairs);
        if (dict->count) memcpy(pairs, dict->pairs, dict->count * sizeof *pairs);
        dict->pairs = pairs;
        dict->capacity = capacity;
    }
    dict->pairs[dict->count++] = (value_pair){key, item};
    return LCKV_OK;
}

/* ---- JSON */

static int string_from_json(arena *a, const char *text, size_t bytes, value *out) {
    char *copy;
    TAKE(copy, a, bytes + 1);
    memcpy(copy, text, bytes);
    *out = value_text(copy, bytes);
    return LCKV_OK;
}

static int list_from_json(arena *a, const json_t *json, value *out) {
    value_list *list;
    TRY(list_new(a, json_array_size(json), &list));
    for (size_t i = 0; i < json_array_size(json); i++) {
        value item;
        TRY(value_from_json(a, json_array_get(json, i), &item));
        TRY(list_add(a, list, item));
    }
    *out = value_of_list(VALUE_LIST, list);
    return LCKV_OK;
}

static int dict_from_json(arena *a, const json_t *json, value *out) {
    value_dict *dict;
    const char *name;
    json_t *member;
    TRY(dict_new(a, json_object_size(json), &dict));
    json_object_foreach((json_t *)(uintptr_t)json, name, member) {
        value key, item;
        TRY(string_from_json(a, name, strlen(name), &key));
        TRY(value_from_json(a, member, &item));
        TRY(dict_append(a, dict, key, item)); /* keys of a JSON object are unique */
    }
    *out = value_of_dict(dict);
    return LCKV_OK;
}

int value_from_json(arena *a, const json_t *json, value *out) {
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return dict_from_json(a, json, out);
    case JSON_ARRAY:
        return list_from_json(a, json, out);
    case JSON_STRING:
        return string_from_json(a, json_string_value(json), json_string_length(json), out);
    case JSON_INTEGER:
        *out = value_int(json_integer_value(json));
        return LCKV_OK;
    case JSON_REAL:
        *out = value_float(json_real_value(json));
        return LCKV_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = value_bool(json_is_true(json));
        return LCKV_OK;
    default:
        *out = value_none();
        return LCKV_OK;
    }
}
