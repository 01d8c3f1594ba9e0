/* `add_prefix_space`, see prefix_space.h.
 *
 * Byte-level tokenizers have a flag for it. In SentencePiece tokenizers the prefix is a normalizer Prepend or the
 * scheme of Metaspace, and the decoder removes it. */
#include "text/tokenizer/steps/prefix_space.h"

#include "base/text/json.h"

#include <string.h>

#define MARK "\xE2\x96\x81" /* U+2581, which represents a space */

static bool is_type(const json_t *part, const char *type) {
    const char *found = json_string_value(json_object_get(part, "type"));
    return found && !strcmp(found, type);
}

/* The list in a "Sequence" of any kind; NULL for other components. */
static json_t *parts_of(const json_t *part) {
    static const char *const keys[] = {"normalizers", "pretokenizers", "decoders"};
    for (size_t i = 0; is_type(part, "Sequence") && i < sizeof keys / sizeof *keys; i++) {
        json_t *list = json_object_get(part, keys[i]);
        if (json_is_array(list)) return list;
    }
    return NULL;
}

/* The first component of a type: `part` itself or in its sequence (one level, as such files are written). */
static json_t *find_part(json_t *part, const char *type) {
    json_t *item;
    size_t index;
    if (is_type(part, type)) return part;
    json_array_foreach(parts_of(part), index, item) if (is_type(item, type)) return item;
    return NULL;
}

/* Removes a component from the one at `key` of `root`. */
static int remove_part(json_t *root, const char *key, const json_t *gone) {
    json_t *part = json_object_get(root, key), *list = parts_of(part), *item;
    size_t index;
    if (part == gone) return json_object_set_new(root, key, json_null());
    json_array_foreach(list, index, item) if (item == gone) return json_array_remove(list, index);
    return 0;
}

/* ---- ByteLevel */

static int set_flag(json_t *part, bool value) {
    return json_object_set_new(part, "add_prefix_space", json_boolean(value));
}

static int set_everywhere(json_t *part) {
    json_t *item;
    size_t index;
    int status = is_type(part, "ByteLevel") ? set_flag(part, true) : 0;
    json_array_foreach(parts_of(part), index, item) if (is_type(item, "ByteLevel") && set_flag(item, true)) status = -1;
    return status;
}

static int apply_to_bytes(json_t *root, prefix_rule rule, bool value) {
    json_t *part = json_object_get(root, "pre_tokenizer");
    if (rule == PREFIX_EVERYWHERE && value) return set_everywhere(part);
    return is_type(part, "ByteLevel") ? set_flag(part, value) : 0;
}

/* ---- Prepend and Metaspace */

static bool prepends(const json_t *metaspace) {
    const char *scheme = json_string_value(json_object_get(metaspace, "prepend_scheme"));
    return scheme ? strcmp(scheme, "never") != 0 : !json_is_false(json_object_get(metaspace, "add_prefix_space"));
}

static int set_scheme(json_t *metaspace, const char *scheme) {
    json_object_del(metaspace, "add_prefix_space");
    return json_object_set_new(metaspace, "prepend_scheme", json_string(scheme));
}

static int drop_prefix(json_t *root, json_t *prepend, json_t *metaspace) {
    json_t *decoder = json_object_get(root, "decoder"), *strip = find_part(decoder, "Strip"),
           *spaces = find_part(decoder, "Metaspace");
    int status = prepend ? remove_part(root, "normalizer", prepend) : 0;
    if (!status && metaspace) status = set_scheme(metaspace, "never");
    if (!status && strip) status = remove_part(root, "decoder", strip);
    if (!status && spaces) status = set_scheme(spaces, "never");
    return status;
}

static json_t *prepend_new(void) {
    return json_pack("{s:s, s:s}", "type", "Prepend", "prepend", MARK);
}

/* Adds the prefix to a file that replaces spaces by the mark. Returns 1 if it has no such step. */
static int give_prefix(json_t *root, json_t *metaspace, bool legacy) {
    json_t *normalizer = json_object_get(root, "normalizer"), *decoder = json_object_get(root, "decoder");
    json_t *replace = find_part(normalizer, "Replace"), *list = parts_of(normalizer),
           *spaces = find_part(decoder, "Metaspace");
    const char *content = json_string_value(json_object_get(replace, "content"));
    if (metaspace) {
        int status = set_scheme(metaspace, legacy ? "always" : "first");
        return status || !spaces ? status : set_scheme(spaces, "always");
    }
    if (!content || strcmp(content, MARK) != 0 || !parts_of(decoder)) return 1;
    json_t *strip = json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0);
    if (json_array_append_new(parts_of(decoder), strip)) return -1;
    if (list) return json_array_insert_new(list, 0, prepend_new());
    json_t *both = json_pack("{s:s, s:[o, O]}", "type", "Sequence", "normalizers", prepend_new(), normalizer);
    return json_object_set_new(root, "normalizer", both);
}

/* A prefix only before the first word of the text, not after a special token. */
static int first_word_only(json_t *root) {
    json_t *metaspace = json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", MARK, "prepend_scheme",
                                  "first", "split", 0);
    if (json_object_set_new(root, "pre_tokenizer", metaspace)) return -1;
    return json_object_set_new(root, "normalizer", json_null());
}

/* Such a file has the class of a SentencePiece tokenizer by mistake; it is not changed. */
static bool has_bytes(const json_t *root) {
    return find_part(json_object_get(root, "pre_tokenizer"), "ByteLevel") ||
           find_part(json_object_get(root, "decoder"), "ByteLevel");
}

static int rebuild(json_t *root, bool value, bool legacy) {
    if (has_bytes(root)) return 0;
    json_t *prepend = find_part(json_object_get(root, "normalizer"), "Prepend"),
           *metaspace = find_part(json_object_get(root, "pre_tokenizer"), "Metaspace");
    bool has = prepend || (metaspace && prepends(metaspace));
    if (has && !value) return drop_prefix(root, prepend, metaspace);
    if (prepend && !metaspace && !legacy) return first_word_only(root);
    return has == value ? 0 : give_prefix(root, metaspace, legacy);
}

int prefix_space_apply(json_t *root, prefix_rule rule, const json_t *value, const json_t *config, const char *path) {
    bool prefix, legacy;
    if (rule == PREFIX_FILE || json_is_null(value) || (rule == PREFIX_REBUILT && !value)) return LCKV_OK;
    TRY(json_get_bool(config, path, "add_prefix_space", false, &prefix));
    TRY(json_get_bool(config, path, "legacy", true, &legacy));
    int status = rule == PREFIX_REBUILT ? rebuild(root, prefix, legacy) : apply_to_bytes(root, rule, prefix);
    REQUIRE(status <= 0, LCKV_ERROR_UNSUPPORTED,
            "%s: 'add_prefix_space' is true, but tokenizer.json has no step that replaces spaces", path);
    REQUIRE(status == 0, LCKV_ERROR_MEMORY, "%s: no memory for 'add_prefix_space'", path);
    return LCKV_OK;
}
