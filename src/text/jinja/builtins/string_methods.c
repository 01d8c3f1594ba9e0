/* Methods of strings. */
#include "text/jinja/strings.h"

#include "base/text/utf8.h"

#include <string.h>
#include <utf8proc.h>

/* ---- stripping */

static int run_strip(machine *m, const call *c, value *out) {
    return text_strip(m, c->self, c->at[0], true, true, out);
}
static int run_lstrip(machine *m, const call *c, value *out) {
    return text_strip(m, c->self, c->at[0], true, false, out);
}
static int run_rstrip(machine *m, const call *c, value *out) {
    return text_strip(m, c->self, c->at[0], false, true, out);
}

static int remove_affix(machine *m, const call *c, bool prefix, value *out) {
    value affix;
    TRY(argument_text(m, c->at[0], "what is removed", &affix));
    *out = c->self;
    if (affix.bytes > c->self.bytes || !affix.bytes) return LCKV_OK;
    size_t rest = c->self.bytes - affix.bytes;
    TRY(machine_scan(m, affix.bytes));
    if (memcmp(c->self.text + (prefix ? 0 : rest), affix.text, affix.bytes) == 0)
        *out = value_text(c->self.text + (prefix ? affix.bytes : 0), rest);
    return LCKV_OK;
}
static int run_removeprefix(machine *m, const call *c, value *out) {
    return remove_affix(m, c, true, out);
}
static int run_removesuffix(machine *m, const call *c, value *out) {
    return remove_affix(m, c, false, out);
}

/* ---- splitting */

static value part(value v, size_t first, size_t end) {
    return value_text(v.text + first, end - first);
}

static int split_forward(machine *m, value v, value separator, int64_t maxsplit, value_list *list) {
    size_t at = 0;
    while (maxsplit-- != 0) {
        int64_t found = text_find(v, at, separator);
        if (found < 0) break;
        TRY(machine_tick(m, 1));
        TRY(list_add(&m->arena, list, part(v, at, (size_t)found)));
        at = (size_t)found + separator.bytes;
    }
    return list_add(&m->arena, list, part(v, at, v.bytes));
}

/* Last occurrence of the separator before `end`; -1 if there is none. */
static int find_last(machine *m, value v, size_t end, value separator, int64_t *out) {
    size_t bytes = separator.bytes, at = bytes > end ? 0 : end - bytes + 1, seen = at;
    *out = -1;
    while (at-- > 0 && *out < 0) {
        if (bytes && v.text[at] != *separator.text) continue;
        TRY(machine_tick(m, 1 + bytes / 64));
        if (!bytes || !memcmp(v.text + at, separator.text, bytes)) *out = (int64_t)at;
    }
    return machine_scan(m, *out < 0 ? seen : seen - (size_t)*out);
}

static void reverse(value_list *list) {
    for (size_t i = 0; i < list->count / 2; i++) {
        value item = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = item;
    }
}

static int split_backward(machine *m, value v, value separator, int64_t maxsplit, value_list *list) {
    size_t end = v.bytes;
    while (maxsplit-- != 0) {
        int64_t found;
        TRY(machine_tick(m, 1));
        TRY(find_last(m, v, end, separator, &found));
        if (found < 0) break;
        TRY(list_add(&m->arena, list, part(v, (size_t)found + separator.bytes, end)));
        end = (size_t)found;
    }
    TRY(list_add(&m->arena, list, part(v, 0, end)));
    reverse(list);
    return LCKV_OK;
}

/* Skips characters that are, or are not, white space from `at` on; backwards: before `at`. */
static size_t skip(value v, size_t at, bool space, bool back) {
    uint32_t c;
    while (back ? at > 0 : at < v.bytes) {
        size_t first = back ? utf8_last(v.text, at) : at, bytes = utf8_next(v.text + first, &c);
        if (is_space(c) != space) break;
        at = back ? first : at + bytes;
    }
    return at;
}

/* Without a separator: splits at white space and drops it at both ends. */
static int split_words(machine *m, value v, int64_t maxsplit, bool back, value_list *list) {
    size_t at = skip(v, back ? v.bytes : 0, true, back), limit = back ? 0 : v.bytes;
    while (at != limit) {
        size_t end = maxsplit-- == 0 ? limit : skip(v, at, false, back);
        value word = back ? part(v, end, at) : part(v, at, end);
        TRY(machine_tick(m, 1));
        TRY(list_add(&m->arena, list, word));
        at = skip(v, end, true, back);
    }
    if (back) reverse(list);
    return LCKV_OK;
}

static int split(machine *m, const call *c, bool back, value *out) {
    int64_t maxsplit;
    value_list *list;
    value separator = c->at[0];
    TRY(argument_whole(m, c->at[1], -1, "maxsplit", &maxsplit));
    TRY(machine_walk(m, c->self.bytes));
    TRY(list_new(&m->arena, 0, &list));
    *out = value_of_list(VALUE_LIST, list);
    if (separator.kind == VALUE_UNSET || separator.kind == VALUE_NONE)
        return split_words(m, c->self, maxsplit, back, list);
    TRY(argument_text(m, separator, "the separator", &separator));
    if (!separator.bytes) return RAISE(m, "empty separator");
    return back ? split_backward(m, c->self, separator, maxsplit, list)
                : split_forward(m, c->self, separator, maxsplit, list);
}
static int run_split(machine *m, const call *c, value *out) {
    return split(m, c, false, out);
}
static int run_rsplit(machine *m, const call *c, value *out) {
    return split(m, c, true, out);
}

static int run_splitlines(machine *m, const call *c, value *out) {
    value_list *list;
    TRY(text_splitlines(m, c->self, value_truth(c->at[0]), &list));
    *out = value_of_list(VALUE_LIST, list);
    return LCKV_OK;
}

static int partition(machine *m, const call *c, bool back, value *out) {
    value separator;
    value_list *list;
    TRY(argument_text(m, c->at[0], "the separator", &separator));
    if (!separator.bytes) return RAISE(m, "empty separator");
    int64_t found = back ? 0 : text_find(c->self, 0, separator);
    if (back) TRY(find_last(m, c->self, c->self.bytes, separator, &found));
    size_t at = found < 0 ? back ? 0 : c->self.bytes : (size_t)found, length = found < 0 ? 0 : separator.bytes;
    TRY(machine_scan(m, c->self.bytes));
    TRY(list_new(&m->arena, 3, &list));
    TRY(list_add(&m->arena, list, part(c->self, 0, at)));
    TRY(list_add(&m->arena, list, part(c->self, at, at + length)));
    TRY(list_add(&m->arena, list, part(c->self, at + length, c->self.bytes)));
    *out = value_of_list(VALUE_TUPLE, list);
    return LCKV_OK;
}
static int run_partition(machine *m, const call *c, value *out) {
    return partition(m, c, false, out);
}
static int run_rpartition(machine *m, const call *c, value *out) {
    return partition(m, c, true, out);
}

/* ---- searching */

/* The part [start:end] that many methods search; *first: its byte offset. */
static int window(machine *m, const call *c, value *out, size_t *first) {
    value step = {0};
    TRY(value_slice(m, c->self, c->at[1], c->at[2], step, out));
    *first = (size_t)(out->text - c->self.text);
    return LCKV_OK;
}

static bool has_affix(value v, value affix, bool prefix) {
    if (affix.bytes > v.bytes) return false;
    return !affix.bytes || !memcmp(v.text + (prefix ? 0 : v.bytes - affix.bytes), affix.text, affix.bytes);
}

static int test_affix(machine *m, const call *c, bool prefix, value *out) {
    value seen;
    size_t first;
    bool found = false;
    TRY(window(m, c, &seen, &first));
    if (is_string(c->at[0])) {
        TRY(machine_scan(m, c->at[0].bytes));
        *out = value_bool(has_affix(seen, c->at[0], prefix));
        return LCKV_OK;
    }
    if (c->at[0].kind != VALUE_TUPLE)
        return RAISE(m, "%s first arg must be str or a tuple of str, not %s", prefix ? "startswith" : "endswith",
                     value_type(c->at[0]));
    for (size_t i = 0; i < c->at[0].list->count && !found; i++) {
        value affix;
        TRY(argument_text(m, c->at[0].list->items[i], "a part of a tuple", &affix));
        TRY(machine_tick(m, 1 + affix.bytes / 64));
        found = has_affix(seen, affix, prefix);
    }
    *out = value_bool(found);
    return LCKV_OK;
}
static int run_startswith(machine *m, const call *c, value *out) {
    return test_affix(m, c, true, out);
}
static int run_endswith(machine *m, const call *c, value *out) {
    return test_affix(m, c, false, out);
}

static int find(machine *m, const call *c, bool back, bool must, value *out) {
    value what, seen;
    size_t first;
    int64_t at;
    TRY(argument_text(m, c->at[0], "what is looked for", &what));
    TRY(window(m, c, &seen, &first));
    TRY(machine_scan(m, seen.bytes));
    int64_t found = back ? 0 : text_find(seen, 0, what);
    if (back) TRY(find_last(m, seen, seen.bytes, what, &found));
    if (found < 0 && must) return RAISE(m, "substring not found");
    at = found;
    if (found >= 0) TRY(value_length(m, value_text(c->self.text, first + (size_t)found), &at));
    *out = value_int(at);
    return LCKV_OK;
}
static int run_find(machine *m, const call *c, value *out) {
    return find(m, c, false, false, out);
}
static int run_rfind(machine *m, const call *c, value *out) {
    return find(m, c, true, false, out);
}
static int run_index(machine *m, const call *c, value *out) {
    return find(m, c, false, true, out);
}
static int run_rindex(machine *m, const call *c, value *out) {
    return find(m, c, true, true, out);
}

static int run_count(machine *m, const call *c, value *out) {
    value what, seen;
    size_t first, at = 0;
    int64_t count = 0, found;
    TRY(argument_text(m, c->at[0], "what is counted", &what));
    TRY(window(m, c, &seen, &first));
    TRY(machine_scan(m, seen.bytes));
    if (!what.bytes) {
        TRY(value_length(m, seen, &count));
        *out = value_int(count + 1);
        return LCKV_OK;
    }
    for (; (found = text_find(seen, at, what)) >= 0; count++) at = (size_t)found + what.bytes;
    *out = value_int(count);
    return machine_tick(m, (size_t)count);
}

/* ---- changing */

static int run_replace(machine *m, const call *c, value *out) {
    value from, to;
    int64_t count;
    TRY(argument_text(m, c->at[0], "what is replaced", &from));
    TRY(argument_text(m, c->at[1], "what it is replaced with", &to));
    TRY(argument_whole(m, c->at[2], -1, "count", &count));
    return text_replace(m, c->self, from, to, count, out);
}

static int run_upper(machine *m, const call *c, value *out) {
    return text_to_case(m, c->self, CASE_UPPER, out);
}
static int run_lower(machine *m, const call *c, value *out) {
    return text_to_case(m, c->self, CASE_LOWER, out);
}
static int run_casefold(machine *m, const call *c, value *out) {
    value v;
    TRY(text_to_case(m, c->self, CASE_LOWER, &v));
    return text_replace(m, v, value_word("ß"), value_word("ss"), -1, out);
}
static int run_title(machine *m, const call *c, value *out) {
    return text_to_case(m, c->self, CASE_TITLE, out);
}
static int run_capitalize(machine *m, const call *c, value *out) {
    return text_to_case(m, c->self, CASE_CAPITALIZE, out);
}
static int run_swapcase(machine *m, const call *c, value *out) {
    return text_to_case(m, c->self, CASE_SWAP, out);
}

static int run_join(machine *m, const call *c, value *out) {
    return text_join(m, c->self, c->at[0], false, out);
}

static int pad(machine *m, const call *c, char align, value *out) {
    int64_t width, characters;
    value fill = c->at[1].kind == VALUE_UNSET ? value_word(" ") : c->at[1];
    TRY(argument_whole(m, c->at[0], 0, "the width", &width));
    TRY(argument_text(m, fill, "the fill character", &fill));
    TRY(value_length(m, fill, &characters));
    if (characters != 1) return RAISE(m, "The fill character must be exactly one character long");
    return text_pad(m, c->self, width, align, fill, out);
}
static int run_ljust(machine *m, const call *c, value *out) {
    return pad(m, c, '<', out);
}
static int run_rjust(machine *m, const call *c, value *out) {
    return pad(m, c, '>', out);
}
static int run_center(machine *m, const call *c, value *out) {
    return pad(m, c, 'c', out);
}

static int run_zfill(machine *m, const call *c, value *out) {
    int64_t width;
    value sign = value_text("", 0), digits = c->self;
    TRY(argument_whole(m, c->at[0], 0, "the width", &width));
    if (digits.bytes && (*digits.text == '-' || *digits.text == '+')) {
        sign = part(digits, 0, 1);
        digits = part(digits, 1, digits.bytes);
    }
    TRY(text_pad(m, digits, width - (int64_t)sign.bytes, '>', value_word("0"), &digits));
    return value_arithmetic(m, '+', sign, digits, out);
}

/* Tabs become spaces up to the next multiple of `tabsize`. */
static int run_expandtabs(machine *m, const call *c, value *out) {
    int64_t size, column = 0;
    output o = {0};
    TRY(argument_whole(m, c->at[0], 8, "the size of tabs", &size));
    if (size > MAX_RANGE) return RAISE(m, "tabs of more than %d characters", MAX_RANGE);
    for (size_t at = 0, bytes; at < c->self.bytes; at += bytes) {
        uint32_t code_point;
        bytes = utf8_next(c->self.text + at, &code_point);
        int64_t spaces = code_point == '\t' && size > 0 ? size - column % size : 0;
        TRY(machine_tick(m, 1 + (size_t)spaces / 16));
        for (int64_t i = 0; i < spaces; i++) TRY(output_word(m, &o, " "));
        if (code_point != '\t') TRY(output_add(m, &o, c->self.text + at, bytes));
        column = code_point == '\n' || code_point == '\r' ? 0 : column + (code_point == '\t' ? spaces : 1);
    }
    *out = output_value(&o);
    return LCKV_OK;
}

static int run_format(machine *m, const call *c, value *out) {
    return format_braces(m, c->self, c->given, out);
}

/* ---- predicates */

typedef bool character_test(uint32_t);

static bool is_digit(uint32_t c) {
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND || c == 0xB2 || c == 0xB3 || c == 0xB9;
}
static bool is_decimal(uint32_t c) {
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}
static bool is_numeric(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}
static bool is_letter_or_number(uint32_t c) {
    return is_letter(c) || is_numeric(c);
}

/* Whether there is a character and all characters pass. */
static int test_all(machine *m, value v, character_test *test, value *out) {
    bool all = v.bytes > 0;
    TRY(machine_walk(m, v.bytes));
    for (size_t at = 0, bytes; at < v.bytes && all; at += bytes) {
        uint32_t c;
        bytes = utf8_next(v.text + at, &c);
        all = test(c);
    }
    *out = value_bool(all);
    return LCKV_OK;
}
static int run_isdigit(machine *m, const call *c, value *out) {
    return test_all(m, c->self, is_digit, out);
}
static int run_isdecimal(machine *m, const call *c, value *out) {
    return test_all(m, c->self, is_decimal, out);
}
static int run_isnumeric(machine *m, const call *c, value *out) {
    return test_all(m, c->self, is_numeric, out);
}
static int run_isalpha(machine *m, const call *c, value *out) {
    return test_all(m, c->self, is_letter, out);
}
static int run_isalnum(machine *m, const call *c, value *out) {
    return test_all(m, c->self, is_letter_or_number, out);
}
static int run_isspace(machine *m, const call *c, value *out) {
    return test_all(m, c->self, is_space, out);
}

/* Whether there is a cased letter and all of them have this case. */
static int test_case(machine *m, value v, utf8proc_category_t wanted, value *out) {
    bool some = false, all = true;
    TRY(machine_walk(m, v.bytes));
    for (size_t at = 0, bytes; at < v.bytes; at += bytes) {
        uint32_t c;
        bytes = utf8_next(v.text + at, &c);
        some |= is_cased(c);
        all &= !is_cased(c) || utf8proc_category((utf8proc_int32_t)c) == wanted;
    }
    *out = value_bool(some && all);
    return LCKV_OK;
}
/* Whether there is a cased letter, and cased letters are upper case at the start of words and lower case elsewhere. */
static int run_istitle(machine *m, const call *c, value *out) {
    bool some = false, right = true, in_word = false;
    TRY(machine_walk(m, c->self.bytes));
    for (size_t at = 0, bytes; at < c->self.bytes; at += bytes) {
        uint32_t code_point;
        bytes = utf8_next(c->self.text + at, &code_point);
        bool cased = is_cased(code_point);
        bool lower = utf8proc_category((utf8proc_int32_t)code_point) == UTF8PROC_CATEGORY_LL;
        right &= !cased || lower == in_word;
        some |= cased;
        in_word = cased;
    }
    *out = value_bool(some && right);
    return LCKV_OK;
}

static bool is_ascii(uint32_t c) {
    return c < 0x80;
}
static int run_isascii(machine *m, const call *c, value *out) {
    TRY(test_all(m, c->self, is_ascii, out));
    if (!c->self.bytes) *out = value_bool(true);
    return LCKV_OK;
}

static int run_isupper(machine *m, const call *c, value *out) {
    return test_case(m, c->self, UTF8PROC_CATEGORY_LU, out);
}
static int run_islower(machine *m, const call *c, value *out) {
    return test_case(m, c->self, UTF8PROC_CATEGORY_LL, out);
}

const builtin string_methods[] = {{"strip", "chars?", run_strip},
                                  {"lstrip", "chars?", run_lstrip},
                                  {"rstrip", "chars?", run_rstrip},
                                  {"removeprefix", "prefix", run_removeprefix},
                                  {"removesuffix", "suffix", run_removesuffix},
                                  {"split", "sep? maxsplit?", run_split},
                                  {"rsplit", "sep? maxsplit?", run_rsplit},
                                  {"splitlines", "keepends?", run_splitlines},
                                  {"partition", "sep", run_partition},
                                  {"rpartition", "sep", run_rpartition},
                                  {"startswith", "prefix start? end?", run_startswith},
                                  {"endswith", "suffix start? end?", run_endswith},
                                  {"find", "sub start? end?", run_find},
                                  {"rfind", "sub start? end?", run_rfind},
                                  {"index", "sub start? end?", run_index},
                                  {"rindex", "sub start? end?", run_rindex},
                                  {"count", "sub start? end?", run_count},
                                  {"replace", "old new count?", run_replace},
                                  {"upper", "", run_upper},
                                  {"lower", "", run_lower},
                                  {"casefold", "", run_casefold},
                                  {"title", "", run_title},
                                  {"capitalize", "", run_capitalize},
                                  {"swapcase", "", run_swapcase},
                                  {"join", "iterable", run_join},
                                  {"ljust", "width fillchar?", run_ljust},
                                  {"rjust", "width fillchar?", run_rjust},
                                  {"center", "width fillchar?", run_center},
                                  {"zfill", "width", run_zfill},
                                  {"expandtabs", "tabsize?", run_expandtabs},
                                  {"format", NULL, run_format},
                                  {"isdigit", "", run_isdigit},
                                  {"isdecimal", "", run_isdecimal},
                                  {"isnumeric", "", run_isnumeric},
                                  {"isalpha", "", run_isalpha},
                                  {"isalnum", "", run_isalnum},
                                  {"isspace", "", run_isspace},
                                  {"isascii", "", run_isascii},
                                  {"istitle", "", run_istitle},
                                  {"isupper", "", run_isupper},
                                  {"islower", "", run_islower},
                                  {NULL}};
