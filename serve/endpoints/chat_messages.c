/* Messages of a chat request, see chat_messages.h.
 *
 * Clients send earlier responses back as history: message.model_dump() of the openai package contains every key of the
 * class, most of them null. Null means absent, as in OpenAI's API and in transformers' apply_chat_template(). */
#include "chat_messages.h"

#include "bytes.h"
#include "lckv.h"

#include <stdio.h>
#include <string.h>

enum { MAX_MESSAGES = 65536 };

/* ---------------------------------------------------------------- content */

/* The text of a part of type `text` or `refusal`; NULL for other types. */
static const json_t *part_text(const json_t *part) {
    const char *type = json_string_value(json_object_get(part, "type"));
    bool known = type && (!strcmp(type, "text") || !strcmp(type, "refusal"));
    const json_t *text = known ? json_object_get(part, type) : NULL;
    return json_is_string(text) ? text : NULL;
}

/* Concatenates the texts of a list of parts. Returns NULL after fields_error(). */
static json_t *join_parts(fields *f, const json_t *parts, size_t message) {
    bytes text = {0};
    char param[FIELD_NAME_BYTES];
    size_t i;
    json_t *part;
    json_array_foreach(parts, i, part) {
        const json_t *content = part_text(part);
        if (!content) {
            snprintf(param, sizeof param, "messages[%zu].content[%zu]", message, i);
            fields_error(f, param, "%s: only parts of type 'text' are supported", param);
            bytes_free(&text);
            return NULL;
        }
        bytes_add(&text, json_string_value(content), json_string_length(content));
    }
    if (text.failed) {
        fields_no_memory(f, "messages");
        bytes_free(&text);
        return NULL;
    }
    json_t *joined = json_stringn(text.length ? text.data : "", text.length);
    bytes_free(&text);
    return joined;
}

/* An assistant message has either a content or a refusal; the refusal becomes its content. */
static void use_refusal(json_t *message) {
    json_t *refusal = json_object_get(message, "refusal");
    if (json_is_string(refusal) && !json_object_get(message, "content")) json_object_set(message, "content", refusal);
    json_object_del(message, "refusal");
}

static bool plain_content(fields *f, json_t *message, size_t i, const char *param) {
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) return true;
    if (!content && json_object_get(message, "tool_calls")) return true;
    if (!json_is_array(content))
        return fields_error(f, param, "%s must have a 'content': a string or a list of text parts", param);
    json_t *joined = join_parts(f, content, i);
    if (!joined) return false;
    json_object_set_new(message, "content", joined);
    return true;
}

/* ---------------------------------------------------------------- tool calls */

/* Templates expect arguments as an object; clients send them as JSON text. */
static bool plain_arguments(fields *f, json_t *function, const char *param) {
    const json_t *arguments = json_object_get(function, "arguments");
    if (json_is_object(arguments)) return true;
    const char *text = arguments ? json_string_value(arguments) : "";
    json_t *object = NULL;
    if (text && lckv_check_json(text, strlen(text)) >= 0)
        object = json_loads(*text ? text : "{}", JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return fields_error(f, param, "%s: 'arguments' must be a JSON object or the JSON text of an object", param);
    }
    json_object_set_new(function, "arguments", object);
    return true;
}

/* Tool calls are passed to the template unchanged, except for their arguments. An empty list is removed. */
static bool plain_tool_calls(fields *f, json_t *message, size_t i) {
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    char param[FIELD_NAME_BYTES];
    size_t k;
    snprintf(param, sizeof param, "messages[%zu].tool_calls", i);
    if (!calls) return true;
    if (!json_is_array(calls)) return fields_error(f, param, "%s must be a list", param);
    json_array_foreach(calls, k, call) {
        json_t *function = json_object_get(call, "function");
        snprintf(param, sizeof param, "messages[%zu].tool_calls[%zu]", i, k);
        if (!json_is_string(json_object_get(function, "name")))
            return fields_error(f, param, "%s must have a 'function' with a 'name'", param);
        if (!plain_arguments(f, function, param)) return false;
    }
    if (!json_array_size(calls)) json_object_del(message, "tool_calls");
    return true;
}

/* ---------------------------------------------------------------- messages */

static void drop_nulls(json_t *message) {
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(message, next, key, value) if (json_is_null(value)) json_object_del(message, key);
}

static bool plain_message(fields *f, json_t *message, size_t i) {
    static const char *const unsupported[] = {"function_call", "audio"};
    char param[FIELD_NAME_BYTES];
    snprintf(param, sizeof param, "messages[%zu]", i);
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!role) return fields_error(f, param, "%s must be an object with a 'role'", param);
    drop_nulls(message);
    for (size_t k = 0; k < sizeof unsupported / sizeof *unsupported; k++)
        if (json_object_get(message, unsupported[k]))
            return fields_error(f, param, "%s: '%s' is not supported%s", param, unsupported[k],
                                k ? "" : ": use 'tool_calls'");
    if (!strcmp(role, "developer")) json_object_set_new(message, "role", json_string("system"));
    use_refusal(message);
    return plain_tool_calls(f, message, i) && plain_content(f, message, i, param);
}

json_t *messages_read(fields *f) {
    const json_t *given = field_value(f, "messages");
    json_t *messages = json_is_array(given) ? json_deep_copy(given) : NULL, *message;
    size_t i, count = json_array_size(messages);
    if (!messages || count == 0 || count > MAX_MESSAGES) {
        fields_error(f, "messages", "expected 'messages': a list of 1 to %d messages", MAX_MESSAGES);
        json_decref(messages);
        return NULL;
    }
    json_array_foreach(messages, i, message) {
        if (plain_message(f, message, i)) continue;
        json_decref(messages);
        return NULL;
    }
    return messages;
}
