/* Filters for lists and dicts: lengths, first and last, order, groups. */
#include "text/jinja/strings.h"

#include <string.h>

static int run_default(machine *m, const call *c, value *out) {
    (void)m;
    bool replaced = c->self.kind == VALUE_UNDEFINED || (value_truth(c->at[1]) && !value_truth(c->self));
    *out = !replaced ? c->self : c->at[0].kind == VALUE_UNSET ? value_text("", 0) : c->at[0];
    return LCKV_OK;
}

static int run_length(machine *m, const call *c, value *out) {
    int64_t length;
    TRY(value_length(m, c->self, &length));
    *out = value_int(length);
    return LCKV_OK;
}

static int copy_items(machine *m, value v, value_list **out) {
    const value_list *items;
    TRY(value_items(m, v, &items));
    TRY(list_new(&m->arena, items->count, out));
    for (size_t i = 0; i < items->count; i++) TRY(list_add(&m->arena, *out, items->items[i]));
    return LCKV_OK;
}

static int run_list(machine *m, const call *c, value *out) {
    value_list *list;
    TRY(copy_items(m, c->self, &list));
    *out = value_of_list(VALUE_LIST, list);
    return LCKV_OK;
}

static int iterator_of(value_list *list, value *out) {
    list->name = "generator";
    *out = value_of_list(VALUE_ITERATOR, list);
    return LCKV_OK;
}

static int run_first(machine *m, const call *c, value *out) {
    const value_list *items;
    if (c->self.kind == VALUE_ITERATOR) { /* takes one element of an iterator */
        value_list *list = c->self.list;
        if (list->next == list->count) return undefined_format(m, out, "No first item, sequence was empty.");
        *out = list->items[list->next++];
        return LCKV_OK;
    }
    TRY(value_items(m, c->self, &items));
    if (!items->count) return undefined_format(m, out, "No first item, sequence was empty.");
    *out = items->items[0];
    return LCKV_OK;
}

static int run_last(machine *m, const call *c, value *out) {
    const value_list *items;
    if (c->self.kind == VALUE_ITERATOR) return RAISE(m, "'%s' object is not reversible", value_type(c->self));
    TRY(value_items(m, c->self, &items));
    if (!items->count) return undefined_format(m, out, "No last item, sequence was empty.");
    *out = items->items[items->count - 1];
    if (is_markup(c->self)) out->markup = true;
    return LCKV_OK;
}

static int run_reverse(machine *m, const call *c, value *out) {
    value_list *list;
    output o = {0};
    TRY(copy_items(m, c->self, &list));
    for (size_t i = 0; i < list->count / 2; i++) {
        value item = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = item;
    }
    if (!is_string(c->self)) return iterator_of(list, out);
    for (size_t i = 0; i < list->count; i++) TRY(output_add(m, &o, list->items[i].text, list->items[i].bytes));
    *out = output_value(&o);
    out->markup = c->self.markup;
    return LCKV_OK;
}

static int run_join(machine *m, const call *c, value *out) {
    value separator = value_text("", 0), items = c->self;
    value_list *list;
    if (c->at[0].kind != VALUE_UNSET) TRY(value_string(m, c->at[0], &separator));
    if (c->at[1].kind != VALUE_UNSET && c->at[1].kind != VALUE_NONE) {
        TRY(copy_items(m, c->self, &list));
        for (size_t i = 0; i < list->count; i++) TRY(value_at_path(m, list->items[i], c->at[1], &list->items[i]));
        items = value_of_list(VALUE_LIST, list);
    }
    return text_join(m, separator, items, true, out);
}

/* items: (key, value) pairs of a mapping; none if undefined. */
static int run_items(machine *m, const call *c, value *out) {
    value_list *list;
    TRY(list_new(&m->arena, 0, &list));
    if (c->self.kind == VALUE_UNDEFINED) return iterator_of(list, out);
    if (c->self.kind != VALUE_DICT) return RAISE(m, "Can only get item pairs from a mapping.");
    for (size_t i = 0; i < c->self.dict->count; i++) {
        value_list *pair;
        TRY(list_new(&m->arena, 2, &pair));
        TRY(list_add(&m->arena, pair, c->self.dict->pairs[i].key));
        TRY(list_add(&m->arena, pair, c->self.dict->pairs[i].value));
        TRY(list_add(&m->arena, list, value_of_list(VALUE_TUPLE, pair)));
    }
    return iterator_of(list, out);
}

/* attr(name): the attribute, never an element of that name. */
static int run_attr(machine *m, const call *c, value *out) {
    value name;
    TRY(argument_text(m, c->at[0], "the name of an attribute", &name));
    return value_own_attribute(m, c->self, name.text, name.bytes, out);
}

/* ---- order */

static int one_step(machine *m, value *v, const char *part, size_t bytes) {
    int64_t number = 0;
    bool digits = bytes > 0 && bytes < 10;
    for (size_t i = 0; i < bytes && digits; i++) {
        digits = part[i] >= '0' && part[i] <= '9';
        number = number * 10 + (part[i] - '0');
    }
    return value_element(m, *v, digits ? value_int(number) : value_text(part, bytes), v);
}

int value_at_path(machine *m, value v, value path, value *out) {
    *out = v;
    if (path.kind == VALUE_UNSET || path.kind == VALUE_NONE) return LCKV_OK;
    if (!is_string(path)) return value_element(m, v, path, out);
    for (size_t at = 0; at <= path.bytes;) {
        const char *part = path.text + at, *dot = path.bytes > at ? memchr(part, '.', path.bytes - at) : NULL;
        size_t bytes = dot ? (size_t)(dot - part) : path.bytes - at;
        TRY(one_step(m, out, part, bytes));
        at += bytes + 1;
    }
    return LCKV_OK;
}

int value_without_case(machine *m, value v, value *out) {
    *out = v;
    return is_string(v) ? text_to_case(m, v, CASE_LOWER, out) : LCKV_OK;
}

/* Merges the sorted runs [first, middle) and [middle, end) of `from` into `to`: items, and keys along with them. */
static int merge(machine *m, const value *from, value *to, size_t count, size_t first, size_t middle, size_t end,
                 bool reverse) {
    const value *keys = from + count;
    size_t left = first, right = middle;
    for (size_t at = first; at < end; at++) {
        int order = 0;
        if (left < middle && right < end) TRY(value_compare(m, keys[right], keys[left], "<", &order));
        bool takes_right = right < end && (left == middle || (reverse ? order > 0 : order < 0));
        size_t taken = takes_right ? right++ : left++;
        to[at] = from[taken];
        to[at + count] = keys[taken];
    }
    return LCKV_OK;
}

int sort_items(machine *m, value *items, value *keys, size_t count, bool reverse) {
    value *from, *to;
    if (!count) return LCKV_OK;
    TAKE(from, &m->arena, 2 * count * sizeof *from);
    TAKE(to, &m->arena, 2 * count * sizeof *to);
    memcpy(from, items, count * sizeof *from);
    memcpy(from + count, keys, count * sizeof *from);
    for (size_t run = 1; run < count; run *= 2) {
        for (size_t first = 0; first < count; first += 2 * run) {
            size_t middle = first + run < count ? first + run : count;
            size_t end = first + 2 * run < count ? first + 2 * run : count;
            TRY(merge(m, from, to, count, first, middle, end, reverse));
        }
        value *swap = from;
        from = to;
        to = swap;
    }
    memcpy(items, from, count * sizeof *from);
    memcpy(keys, from + count, count * sizeof *from);
    return LCKV_OK;
}

static int key_of(machine *m, value item, value path, bool case_sensitive, value *out) {
    TRY(value_at_path(m, item, path, out));
    return case_sensitive ? LCKV_OK : value_without_case(m, *out, out);
}

/* The key of sort is a list, even of one part: comparing lists skips equal elements, so that None can be sorted. */
static int sort_key(machine *m, value item, value path, bool case_sensitive, value *out) {
    value_list *parts;
    value key;
    TRY(list_new(&m->arena, 2, &parts));
    *out = value_of_list(VALUE_LIST, parts);
    if (!is_string(path)) {
        TRY(key_of(m, item, path, case_sensitive, &key));
        return list_add(&m->arena, parts, key);
    }
    for (size_t at = 0; at <= path.bytes;) {
        const char *comma = path.bytes > at ? memchr(path.text + at, ',', path.bytes - at) : NULL;
        size_t bytes = comma ? (size_t)(comma - path.text) - at : path.bytes - at;
        TRY(key_of(m, item, value_text(path.text + at, bytes), case_sensitive, &key));
        TRY(list_add(&m->arena, parts, key));
        at += bytes + 1;
    }
    return LCKV_OK;
}

/* sort(reverse=False, case_sensitive=False, attribute=None) */
static int run_sort(machine *m, const call *c, value *out) {
    value_list *list;
    value *keys;
    TRY(copy_items(m, c->self, &list));
    TAKE(keys, &m->arena, (list->count + 1) * sizeof *keys);
    for (size_t i = 0; i < list->count; i++)
        TRY(sort_key(m, list->items[i], c->at[2], value_truth(c->at[1]), &keys[i]));
    TRY(sort_items(m, list->items, keys, list->count, value_truth(c->at[0])));
    *out = value_of_list(VALUE_LIST, list);
    return LCKV_OK;
}

/* dictsort(case_sensitive=False, by='key', reverse=False) */
static int run_dictsort(machine *m, const call *c, value *out) {
    value pairs, number = value_int(0);
    value_list *list;
    value *keys;
    if (c->self.kind != VALUE_DICT) return RAISE(m, "dictsort takes a mapping, not %s", value_type(c->self));
    if (c->at[1].kind != VALUE_UNSET) {
        bool by_value = is_string(c->at[1]) && text_is(c->at[1].text, c->at[1].bytes, "value");
        if (!by_value && !(is_string(c->at[1]) && text_is(c->at[1].text, c->at[1].bytes, "key")))
            return RAISE(m, "You can only sort by either \"key\" or \"value\"");
        number = value_int(by_value);
    }
    TRY(run_items(m, c, &pairs));
    list = pairs.list;
    TAKE(keys, &m->arena, (list->count + 1) * sizeof *keys);
    for (size_t i = 0; i < list->count; i++) TRY(key_of(m, list->items[i], number, value_truth(c->at[0]), &keys[i]));
    TRY(sort_items(m, list->items, keys, list->count, value_truth(c->at[2])));
    *out = value_of_list(VALUE_LIST, list);
    return LCKV_OK;
}

/* min, max (case_sensitive=False, attribute=None) */
static int extreme(machine *m, const call *c, int sign, value *out) {
    const value_list *items;
    value best = {0}, key;
    TRY(value_items(m, c->self, &items));
    if (!items->count) return undefined_format(m, out, "No aggregated item, sequence was empty.");
    for (size_t i = 0; i < items->count; i++) {
        int order = -1;
        TRY(key_of(m, items->items[i], c->at[1], value_truth(c->at[0]), &key));
        if (i) TRY(value_compare(m, key, best, sign < 0 ? "<" : ">", &order));
        if (i && order * sign <= 0) continue;
        best = key;
        *out = items->items[i];
    }
    return LCKV_OK;
}
static int run_min(machine *m, const call *c, value *out) {
    return extreme(m, c, -1, out);
}
static int run_max(machine *m, const call *c, value *out) {
    return extreme(m, c, 1, out);
}

/* ---- groups */

/* unique(case_sensitive=False, attribute=None) */
static int run_unique(machine *m, const call *c, value *out) {
    const value_list *items;
    value_list *kept;
    value_dict *seen;
    TRY(value_items(m, c->self, &items));
    TRY(list_new(&m->arena, 0, &kept));
    TRY(dict_new(&m->arena, 0, &seen));
    for (size_t i = 0; i < items->count; i++) {
        value key, *found;
        TRY(key_of(m, items->items[i], c->at[1], value_truth(c->at[0]), &key));
        TRY(key_check(m, key));
        TRY(dict_find(m, seen, key, &found));
        if (found) continue;
        TRY(dict_append(&m->arena, seen, key, value_none()));
        TRY(list_add(&m->arena, kept, items->items[i]));
    }
    return iterator_of(kept, out);
}

static int add_group(machine *m, value_list *groups, value name, value_list **members) {
    value_list *group;
    TRY(list_new(&m->arena, 2, &group));
    TRY(list_new(&m->arena, 0, members));
    group->name = "group";
    TRY(list_add(&m->arena, group, name));
    TRY(list_add(&m->arena, group, value_of_list(VALUE_LIST, *members)));
    return list_add(&m->arena, groups, value_of_list(VALUE_TUPLE, group));
}

static int at_path_or(machine *m, value item, value path, value fallback, value *out) {
    TRY(value_at_path(m, item, path, out));
    if (out->kind == VALUE_UNDEFINED && fallback.kind != VALUE_UNSET) *out = fallback;
    return LCKV_OK;
}

/* groupby(attribute, default=None, case_sensitive=False) */
static int run_groupby(machine *m, const call *c, value *out) {
    value_list *list, *groups, *members = NULL;
    value *keys;
    TRY(copy_items(m, c->self, &list));
    TRY(list_new(&m->arena, 0, &groups));
    TAKE(keys, &m->arena, (list->count + 1) * sizeof *keys);
    for (size_t i = 0; i < list->count; i++) {
        TRY(at_path_or(m, list->items[i], c->at[0], c->at[1], &keys[i]));
        if (!value_truth(c->at[2])) TRY(value_without_case(m, keys[i], &keys[i]));
    }
    TRY(sort_items(m, list->items, keys, list->count, false));
    for (size_t i = 0; i < list->count; i++) {
        bool same = false;
        value name;
        if (i) TRY(value_equal(m, keys[i - 1], keys[i], &same));
        TRY(at_path_or(m, list->items[i], c->at[0], c->at[1], &name));
        if (!same) TRY(add_group(m, groups, name, &members));
        TRY(list_add(&m->arena, members, list->items[i]));
    }
    *out = value_of_list(VALUE_LIST, groups);
    return LCKV_OK;
}

/* Elements `first` to `end` of a list, followed by `fills` copies of a value. */
static int add_part(machine *m, value_list *parts, const value_list *items, size_t first, size_t end, value fill,
                    size_t fills) {
    value_list *part;
    TRY(list_new(&m->arena, end - first + fills, &part));
    for (size_t i = first; i < end; i++) TRY(list_add(&m->arena, part, items->items[i]));
    for (size_t i = 0; i < fills; i++) TRY(list_add(&m->arena, part, fill));
    TRY(machine_tick(m, 1 + part->count));
    return list_add(&m->arena, parts, value_of_list(VALUE_LIST, part));
}

/* batch(linecount, fill_with=None): lists of `linecount` elements. */
static int run_batch(machine *m, const call *c, value *out) {
    const value_list *items;
    value_list *parts;
    int64_t size;
    bool fills = c->at[1].kind != VALUE_UNSET && c->at[1].kind != VALUE_NONE;
    TRY(argument_whole(m, c->at[0], 1, "linecount", &size));
    if (size < 1 || size > MAX_RANGE) return RAISE(m, "batch() takes a size from 1 to %d", MAX_RANGE);
    TRY(value_items(m, c->self, &items));
    TRY(list_new(&m->arena, 0, &parts));
    for (size_t first = 0; first < items->count; first += (size_t)size) {
        size_t end = first + (size_t)size < items->count ? first + (size_t)size : items->count;
        TRY(add_part(m, parts, items, first, end, c->at[1], fills ? first + (size_t)size - end : 0));
    }
    return iterator_of(parts, out);
}

/* slice(slices, fill_with=None): `slices` lists. */
static int run_slice(machine *m, const call *c, value *out) {
    const value_list *items;
    value_list *parts;
    int64_t slices;
    size_t first = 0;
    bool fills = c->at[1].kind != VALUE_UNSET && c->at[1].kind != VALUE_NONE;
    TRY(argument_whole(m, c->at[0], 1, "slices", &slices));
    if (slices < 1 || slices > MAX_RANGE) return RAISE(m, "slice() takes a number from 1 to %d", MAX_RANGE);
    TRY(value_items(m, c->self, &items));
    TRY(list_new(&m->arena, 0, &parts));
    for (size_t i = 0; i < (size_t)slices; i++) {
        bool longer = i < items->count % (size_t)slices;
        size_t end = first + items->count / (size_t)slices + longer;
        TRY(add_part(m, parts, items, first, end, c->at[1], fills && !longer));
        first = end;
    }
    return iterator_of(parts, out);
}

const builtin sequence_filters[] = {{"default", "default_value? boolean?", run_default},
                                    {"d", "default_value? boolean?", run_default},
                                    {"length", "", run_length},
                                    {"count", "", run_length},
                                    {"list", "", run_list},
                                    {"first", "", run_first},
                                    {"last", "", run_last},
                                    {"reverse", "", run_reverse},
                                    {"join", "d? attribute?", run_join},
                                    {"items", "", run_items},
                                    {"attr", "name", run_attr},
                                    {"sort", "reverse? case_sensitive? attribute?", run_sort},
                                    {"dictsort", "case_sensitive? by? reverse?", run_dictsort},
                                    {"min", "case_sensitive? attribute?", run_min},
                                    {"max", "case_sensitive? attribute?", run_max},
                                    {"unique", "case_sensitive? attribute?", run_unique},
                                    {"groupby", "attribute default? case_sensitive?", run_groupby},
                                    {"batch", "linecount fill_with?", run_batch},
                                    {"slice", "slices fill_with?", run_slice},
                                    {NULL}};
