/* A mutator that changes JSON in an input as a tree, in half of the calls. Randomly changed bytes are rarely valid JSON
 * and would hardly reach the readers behind the parser. The other calls use libFuzzer's own mutations. */
#include "fuzz.h"

#include "base/text/json.h"

#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed);

enum { MAX_TEXT = 1 << 16 };

/* ---------------------------------------------------------------- a value within a tree */

typedef struct place {
    json_t *parent;
    const char *key; /* of an object; NULL: `index` of an array */
    size_t index;
    json_t *value;
} place;

/* Finds the value after `*left` others, in depth-first order; decrements *left. */
static bool find(json_t *parent, long *left, place *out) {
    const char *key;
    json_t *value;
    size_t index;
    json_object_foreach(parent, key, value) {
        *out = (place){parent, key, 0, value};
        if ((*left)-- == 0 || find(value, left, out)) return true;
    }
    json_array_foreach(parent, index, value) {
        *out = (place){parent, NULL, index, value};
        if ((*left)-- == 0 || find(value, left, out)) return true;
    }
    return false;
}

static bool any_place(json_t *tree, unsigned seed, place *out) {
    long all = MAX_TEXT, left;
    find(tree, &all, out);
    if (all == MAX_TEXT) return false;
    left = (long)(seed % (unsigned)(MAX_TEXT - all));
    return find(tree, &left, out);
}

/* ---------------------------------------------------------------- changes */

static void set(const place *at, json_t *value) {
    if (!value) return;
    if (at->key)
        json_object_set_new(at->parent, at->key, value);
    else
        json_array_set_new(at->parent, at->index, value);
}

static void drop(const place *at) {
    if (at->key)
        json_object_del(at->parent, at->key);
    else
        json_array_remove(at->parent, at->index);
}

static json_t *odd_value(unsigned seed) {
    static const char *const values[] = {"null",
                                         "true",
                                         "false",
                                         "0",
                                         "-1",
                                         "1",
                                         "2",
                                         "255",
                                         "65536",
                                         "2147483648",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "0.5",
                                         "-0.0",
                                         "1e308",
                                         "5e-324",
                                         "\"\"",
                                         "\" \"",
                                         "\"a\"",
                                         "\"\\u0000\"",
                                         "\"\\uffff\"",
                                         "\"\\u00e9\"",
                                         "\"e\\u0301\"",
                                         "[]",
                                         "{}",
                                         "[[]]",
                                         "[0,1]",
                                         "{\"\":\"\"}"};
    return json_loads(values[seed % (sizeof values / sizeof *values)], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

/* Other bytes for a string, a number near the old one, or any value. */
static json_t *near_value(const json_t *old, unsigned seed) {
    char text[MAX_TEXT];
    if (json_is_integer(old)) return json_integer((json_int_t)((uint64_t)json_integer_value(old) + seed % 9 - 4));
    if (!json_is_string(old) || json_string_length(old) > sizeof text / 2) return odd_value(seed);
    memcpy(text, json_string_value(old), json_string_length(old));
    return json_stringn(text, LLVMFuzzerMutate((uint8_t *)text, json_string_length(old), sizeof text));
}

static void change(json_t *tree, unsigned seed) {
    place at, other;
    if (!any_place(tree, seed >> 4, &at) || !any_place(tree, seed * 2654435761u >> 4, &other)) return;
    switch (seed % 8) {
    case 0:
        drop(&at);
        break;
    case 1:
        set(&at, odd_value(seed >> 8));
        break;
    case 2:
    case 3:
        set(&at, json_deep_copy(other.value));
        break;
    case 4:
        if (!at.key) json_array_insert_new(at.parent, at.index, json_deep_copy(other.value));
        if (at.key && other.key) json_object_set_new(at.parent, other.key, json_deep_copy(at.value));
        break;
    default:
        set(&at, near_value(at.value, seed >> 8));
    }
}

/* ---------------------------------------------------------------- JSON within an input */

/* The JSON tree that starts at the first bracket at or after `*at`, and its end. */
static json_t *find_tree(const char *text, size_t size, size_t *at, size_t *end) {
    json_error_t error;
    for (; *at < size; ++*at) {
        if (text[*at] != '{' && text[*at] != '[') continue;
        json_t *tree = NULL;
        if (lckv_check_json(text + *at, size - *at) >= 0)
            tree = json_loadb(text + *at, size - *at, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &error);
        if (tree) *end = *at + (size_t)error.position;
        return tree;
    }
    return NULL;
}

/* Where the search starts: at the beginning of a random part. */
static size_t any_part(const char *text, size_t size, unsigned seed) {
    size_t starts[4] = {0}, count = 1;
    for (size_t i = 0; i + 4 <= size && count < 4; i++)
        if (!memcmp(text + i, "\n%%\n", 4)) starts[count++] = i + 4;
    return starts[seed % count];
}

static size_t change_tree(uint8_t *data, size_t size, size_t capacity, unsigned seed) {
    static char text[MAX_TEXT];
    size_t at = any_part((const char *)data, size, seed), end;
    json_t *tree = find_tree((const char *)data, size, &at, &end);
    if (!tree) return 0;
    for (unsigned i = 0; i <= seed % 3; i++) change(tree, seed * (2 * i + 1) >> 2);
    size_t changed = json_dumpb(tree, text, sizeof text, JSON_COMPACT | JSON_ENCODE_ANY), behind = size - end;
    json_decref(tree);
    if (!changed || changed > sizeof text || at + changed + behind > capacity) return 0;
    memmove(data + at + changed, data + end, behind);
    memcpy(data + at, text, changed);
    return at + changed + behind;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed) {
    size_t changed = seed % 2 ? change_tree(data, size, capacity, seed >> 1) : 0;
    return changed ? changed : LLVMFuzzerMutate(data, size, capacity);
}
