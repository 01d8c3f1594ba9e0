/* /v1/chat/completions and /apply_template: a conversation becomes a prompt by the checkpoint's template. */
#include "sampling.h"

#include <stdio.h>

enum { MESSAGES_MOST = 65536 };

/* ---------------------------------------------------------------- messages */

/* The text of a list of parts, which are to be text. NULL after fields_wrong(). */
static json_t *join_parts(fields *f, const json_t *parts, size_t message) {
    bytes text = {0};
    char param[FIELD_NAME_BYTES];
    size_t i;
    json_t *part;
    json_array_foreach(parts, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *said = json_object_get(part, "text");
        if (!type || strcmp(type, "text") || !json_is_string(said)) {
            snprintf(param, sizeof param, "messages[%zu].content[%zu]", message, i);
            fields_wrong(f, param, "%s: only parts of type 'text' are supported", param);
            bytes_free(&text);
            return NULL;
        }
        bytes_add(&text, json_string_value(said), json_string_length(said));
    }
    json_t *joined = json_stringn(text.length ? text.data : "", text.length);
    bytes_free(&text);
    return joined;
}

/* Contents as text, and the role `developer` by the name that templates know. */
static bool plain_message(fields *f, json_t *message, size_t i) {
    char param[FIELD_NAME_BYTES];
    snprintf(param, sizeof param, "messages[%zu]", i);
    const json_t *content = json_object_get(message, "content");
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!role) return fields_wrong(f, param, "%s must be an object with a 'role'", param);
    if (json_object_get(message, "tool_calls"))
        return fields_wrong(f, param, "%s: 'tool_calls' is not supported", param);
    if (!strcmp(role, "developer")) json_object_set_new(message, "role", json_string("system"));
    if (json_is_string(content)) return true;
    if (!json_is_array(content)) return fields_wrong(f, param, "%s must have a 'content' of text", param);
    json_t *joined = join_parts(f, content, i);
    if (!joined) return false;
    json_object_set_new(message, "content", joined);
    return true;
}

/* The messages as the template takes them; NULL after fields_wrong(). */
static json_t *read_messages(fields *f) {
    const json_t *given = field_any(f, "messages");
    json_t *messages = json_is_array(given) ? json_deep_copy(given) : NULL, *message;
    size_t i, count = json_array_size(messages);
    if (!messages || count == 0 || count > MESSAGES_MOST) {
        fields_wrong(f, "messages", "expected 'messages', a list of 1 to %d", MESSAGES_MOST);
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

/* ---------------------------------------------------------------- the prompt */

static char *dump_variables(fields *f) {
    const json_t *variables = field_any(f, "chat_template_kwargs");
    if (variables && !json_is_object(variables))
        fields_wrong(f, "chat_template_kwargs", "'chat_template_kwargs' must be an object");
    return variables ? json_dumps(variables, JSON_COMPACT) : NULL;
}

/* Whether *out has the text of the conversation. */
static bool render(fields *f, const server *s, lckv_chat_text *out) {
    json_t *messages = read_messages(f);
    lckv_chat chat = lckv_chat_defaults();
    chat.add_generation_prompt = field_bool(f, "add_generation_prompt", true);
    chat.continue_final_message = field_bool(f, "continue_final_message", false);
    char *variables = dump_variables(f), *text = messages ? json_dumps(messages, JSON_COMPACT) : NULL;
    chat.messages = text;
    chat.variables = variables;
    bool rendered = false;
    if (chat.continue_final_message && !field_given(f, "add_generation_prompt")) chat.add_generation_prompt = false;
    if (!s->chat_template)
        fields_wrong(f, "messages", "this model has no chat template: use /v1/completions");
    else if (text && !f->wrong)
        rendered = lckv_chat_template_render(s->chat_template, &chat, out) >= 0 ||
                   fields_wrong(f, "messages", "%s", lckv_last_error());
    free(text);
    free(variables);
    json_decref(messages);
    return rendered;
}

static bool set_prompt(fields *f, const server *s, job_prompt *p) {
    lckv_chat_text text;
    size_t count = 0;
    if (!render(f, s, &text)) return false;
    int status = lckv_tokenizer_encode(s->tokenizer, text.text, text.bytes, false, &p->ids, &count);
    lckv_chat_text_free(&text);
    p->count = (int64_t)count;
    if (status < 0) return fields_wrong(f, "messages", "%s", lckv_last_error());
    return count > 0 || fields_wrong(f, "messages", "the conversation is empty");
}

/* ---------------------------------------------------------------- what is asked for */

/* Whether log-probabilities are asked for. */
static bool read_limits(fields *f, job *j) {
    int64_t older = field_int(f, "max_tokens", -1, 1, INT32_MAX);
    j->request.max_new_tokens = field_int(f, "max_completion_tokens", older, 1, INT32_MAX);
    bool logprobs = field_bool(f, "logprobs", false), top = field_given(f, "top_logprobs");
    j->request.top_logprobs = (int)field_int(f, "top_logprobs", 0, 0, JOB_TOP_MOST);
    if (top && !logprobs) fields_wrong(f, "top_logprobs", "'top_logprobs' needs 'logprobs'");
    return logprobs;
}

static void refuse_unsupported(fields *f) {
    field_unsupported(f, "tools", "[]");
    field_unsupported(f, "tool_choice", "\"none\"|\"auto\"");
    field_unsupported(f, "functions", "[]");
    field_unsupported(f, "function_call", "\"none\"|\"auto\"");
    field_unsupported(f, "response_format", "{\"type\":\"text\"}");
    field_unsupported(f, "modalities", "[\"text\"]");
    field_unsupported(f, "audio", "");
    field_unsupported(f, "prediction", "");
    field_unsupported(f, "reasoning_effort", "");
    field_unsupported(f, "web_search_options", "");
    field_unsupported(f, "store", "false");
    field_unsupported(f, "echo", "false");
    field_ignored(f, "parallel_tool_calls"); /* there are no tools to call */
    field_ignored(f, "metadata");
    field_ignored(f, "service_tier");
    field_ignored(f, "safety_identifier");
    field_ignored(f, "prompt_cache_key");
}

static answer *read_request(fields *f, server *s) {
    bool stream = false, include_usage = false;
    job *j = job_create(1);
    if (!j) {
        fields_wrong(f, "", "no memory");
        return NULL;
    }
    model_read(f, s);
    sampling_read(f, j, &stream, &include_usage);
    bool logprobs = read_limits(f, j);
    refuse_unsupported(f);
    if (!set_prompt(f, s, &j->prompts[0]) || !fields_end(f)) {
        job_free(j);
        return NULL;
    }
    answer *a = answer_create(s, j, true);
    if (!a) {
        fields_wrong(f, "", "no memory");
        return NULL;
    }
    a->stream = stream, a->include_usage = include_usage, a->logprobs = logprobs;
    return a;
}

enum MHD_Result chat_ask(server *s, const asker *who, visit *v) {
    return answer_ask(s, who, v, read_request);
}

enum MHD_Result apply_template_answer(server *s, const asker *a, const bytes *body) {
    fields f;
    json_t *object;
    lckv_chat_text text = {0};
    if (!fields_begin(&f, body->data, body->length, &object)) return reply_wrong(a, &f);
    field_ignored(&f, "model");
    enum MHD_Result result =
        render(&f, s, &text) && fields_end(&f)
            ? reply_json(a, MHD_HTTP_OK, json_pack("{so}", "prompt", json_stringn(text.text, text.bytes)))
            : reply_wrong(a, &f);
    lckv_chat_text_free(&text);
    json_decref(object);
    return result;
}
