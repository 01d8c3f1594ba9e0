/* Components of tokenizer files, see component.h. */
#include "text/subword/component.h"

#include <stdio.h>
#include <string.h>

int component_open(const json_t *object, const char *file, const char *part, const char *type, component *out) {
    if (!json_is_object(object)) return json_wrong_type(file, part, "an object or null", object);
    out->object = object;
    snprintf(out->where, sizeof out->where, "%.200s: %s", file, part);
    TRY(json_get_string(object, out->where, "type", type, &out->type));
    REQUIRE(out->type, LCKV_ERROR_FORMAT, "%s has no 'type'", out->where);
    if (*out->type) snprintf(out->where, sizeof out->where, "%.200s: %s '%.60s'", file, part, out->type);
    return LCKV_OK;
}

static bool listed(const char *keys, const char *key) {
    size_t length = strlen(key);
    if (!length || strchr(key, ' '))
        return false; /* no supported key is empty, and searching for an empty one would not end */
    for (const char *at = keys; (at = strstr(at, key)); at += length) {
        bool begins = at == keys || at[-1] == ' ', ends = at[length] == ' ' || at[length] == 0;
        if (begins && ends) return true;
    }
    return false;
}

int component_keys(const component *c, const char *keys) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)c->object, key, value) {
        if (!strcmp(key, "type") || listed(keys, key)) continue;
        return fail(LCKV_ERROR_UNSUPPORTED, "%s has the key '%.60s', which is not supported", c->where, key);
    }
    return LCKV_OK;
}

int component_unsupported(const component *c) {
    return fail(LCKV_ERROR_UNSUPPORTED, "%s is not supported", c->where);
}

int component_string(const component *c, const char *key, const char **out, size_t *bytes) {
    const json_t *value = json_object_get(c->object, key);
    REQUIRE(json_is_string(value), LCKV_ERROR_FORMAT, "%s: '%s' should be a string", c->where, key);
    *out = json_string_value(value);
    *bytes = json_string_length(value);
    return LCKV_OK;
}

int component_list(const component *c, const char *key, const json_t **out) {
    *out = json_object_get(c->object, key);
    REQUIRE(json_is_array(*out), LCKV_ERROR_FORMAT, "%s: '%s' should be a list", c->where, key);
    return LCKV_OK;
}
