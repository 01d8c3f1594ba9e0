/* Normalizing rows as trl does, see tuning_row.h. */
#include "data/tuning/tuning_row.h"

#include <string.h>

/* ---------------------------------------------------------------- without nulls */

static json_t *without_nulls(const json_t *value);

static json_t *object_without_nulls(const json_t *object) {
    const char *key;
    json_t *value, *copy = json_object();
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (json_is_null(value)) continue;
        if (json_object_set_new(copy, key, without_nulls(value)) == 0) continue;
        json_decref(copy);
        return NULL;
    }
    return copy;
}

/* Nulls in arrays stay. */
static json_t *array_without_nulls(const json_t *array) {
    json_t *copy = json_array();
    for (size_t i = 0; copy && i < json_array_size(array); i++) {
        if (json_array_append_new(copy, without_nulls(json_array_get(array, i))) == 0) continue;
        json_decref(copy);
        return NULL;
    }
    return copy;
}

/* Returns a new reference; NULL if there is no memory. */
static json_t *without_nulls(const json_t *value) {
    if (json_is_object(value)) return object_without_nulls(value);
    if (json_is_array(value)) return array_without_nulls(value);
    return json_incref((json_t *)(uintptr_t)value);
}

/* ---------------------------------------------------------------- from and value */

/* As trl's is_conversational_from_value: the first message decides. */
static bool has_from_and_value(const json_t *row) {
    const json_t *first = json_array_get(json_object_get(row, "conversations"), 0);
    return json_object_get(first, "from") && json_object_get(first, "value");
}

static int rename_key(json_t *object, const char *from, const char *to) {
    json_t *value = json_object_get(object, from);
    if (!value) return 0;
    return json_object_set(object, to, value) || json_object_del(object, from);
}

static int rename_keys(json_t *messages) {
    int failed = 0;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (!json_is_object(message)) continue;
        failed |= rename_key(message, "from", "role") || rename_key(message, "value", "content");
    }
    return failed;
}

static int to_chatml(json_t *row) {
    static const char *const keys[] = {"prompt", "completion", "messages", "conversations"};
    int failed = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) failed |= rename_keys(json_object_get(row, keys[i]));
    return failed || rename_key(row, "conversations", "messages");
}

int tuning_row_convert(const json_t *row, json_t **out) {
    *out = without_nulls(row);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a row");
    if (!has_from_and_value(*out) || !to_chatml(*out)) return LCKV_OK;
    json_decref(*out);
    *out = NULL;
    return fail(LCKV_ERROR_MEMORY, "no memory for a row");
}

/* ---------------------------------------------------------------- diagnostics */

const char *tuning_row_foreign_role(const json_t *row) {
    static const char *const known[] = {"system", "user", "assistant", "tool"};
    const json_t *messages = json_object_get(row, "messages");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
        bool is_known = !role;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) is_known = is_known || !strcmp(role, known[k]);
        if (!is_known) return role;
    }
    return NULL;
}

const char *tuning_row_objection(const json_t *row) {
    static const struct {
        const char *key, *objection;
    } known[] = {
        {"input_ids", "lckv sft does not read rows of token ids (input_ids), unlike trl; provide the text"},
        {"images", "lckv does not read images; trl reads them for vision models"},
        {"image", "lckv does not read images; trl reads them for vision models"},
        {"chosen", "chosen and rejected are for preference training (DPO), which neither lckv nor SFTTrainer supports"},
        {"rejected",
         "chosen and rejected are for preference training (DPO), which neither lckv nor SFTTrainer supports"},
        {"conversations",
         "conversations: expected a list of messages with 'from' and 'value'; messages with 'role' and "
         "'content' belong under the key messages"},
        {"messages", "messages: expected a list of messages with 'role' and 'content'"},
        {"completion", "prompt and completion: expected two texts or two lists of messages"},
        {"prompt", "prompt: expected a completion with it"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (json_object_get(row, known[i].key)) return known[i].objection;
    return NULL;
}
