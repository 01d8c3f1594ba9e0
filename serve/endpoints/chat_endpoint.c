/* /v1/chat/completions and /apply_template: the chat template converts a conversation to a prompt. */
#include "chat_messages.h"
#include "generation_fields.h"
#include "json_text.h"

/* ---------------------------------------------------------------- the prompt */

static char *dump_variables(fields *f) {
    const json_t *variables = field_value(f, "chat_template_kwargs");
    if (variables && !json_is_object(variables))
        fields_error(f, "chat_template_kwargs", "'chat_template_kwargs' must be an object");
    return variables ? json_dumps(variables, JSON_COMPACT) : NULL;
}

/* Renders the conversation into *out. Returns false after fields_error(). */
static bool render(fields *f, const server *s, lckv_chat_text *out) {
    json_t *messages = messages_read(f);
    lckv_chat chat = lckv_chat_defaults();
    chat.add_generation_prompt = field_bool(f, "add_generation_prompt", true);
    chat.continue_final_message = field_bool(f, "continue_final_message", false);
    char *variables = dump_variables(f), *text = messages ? json_dumps(messages, JSON_COMPACT) : NULL;
    chat.messages = text;
    chat.variables = variables;
    bool rendered = false;
    int status;
    if (chat.continue_final_message && !field_present(f, "add_generation_prompt")) chat.add_generation_prompt = false;
    if (!s->chat_template)
        fields_error(f, "messages",
                     "the model has no chat template: use /v1/completions, or start the server with --chat_template");
    else if (text && !f->failed)
        rendered = (status = lckv_chat_template_render(s->chat_template, &chat, out)) >= 0 ||
                   fields_library_error(f, "messages", status);
    free(text);
    free(variables);
    json_decref(messages);
    return rendered;
}

static bool set_prompt(fields *f, const server *s, job_prompt *p) {
    lckv_chat_text text;
    size_t count = 0;
    if (!render(f, s, &text)) return false;
    int status = prompt_encode(s, text.text, text.bytes, false, &p->ids, &count);
    lckv_chat_text_free(&text);
    p->count = (int64_t)count;
    if (status < 0) return fields_library_error(f, "messages", status);
    return count > 0 || fields_error(f, "messages", "the conversation is empty");
}

/* ---------------------------------------------------------------- other fields */

/* Returns whether the request asks for log-probabilities. */
static bool read_limits(fields *f, job *j) {
    int64_t max_tokens = field_int(f, "max_tokens", -1, 1, INT32_MAX);
    j->request.max_new_tokens = field_int(f, "max_completion_tokens", max_tokens, 1, INT32_MAX);
    bool logprobs = field_bool(f, "logprobs", false), top = field_present(f, "top_logprobs");
    j->request.top_logprobs = (int)field_int(f, "top_logprobs", 0, 0, JOB_MAX_TOP_LOGPROBS);
    if (top && !logprobs) fields_error(f, "top_logprobs", "'top_logprobs' requires 'logprobs': true");
    return logprobs;
}

static void refuse_unsupported(fields *f) {
    field_reject(f, "tools", "[]");
    field_reject(f, "tool_choice", "\"none\"|\"auto\"");
    field_reject(f, "functions", "[]");
    field_reject(f, "function_call", "\"none\"|\"auto\"");
    field_reject(f, "response_format", "{\"type\":\"text\"}");
    field_reject(f, "modalities", "[\"text\"]");
    field_reject(f, "audio", "");
    field_reject(f, "prediction", "");
    field_reject(f, "reasoning_effort", "");
    field_reject(f, "web_search_options", "");
    field_reject(f, "store", "false");
    field_reject(f, "echo", "false");
    field_ignore(f, "parallel_tool_calls"); /* tools are rejected */
    field_ignore(f, "metadata");
    field_ignore(f, "service_tier");
    field_ignore(f, "safety_identifier");
    field_ignore(f, "prompt_cache_key");
}

completion *chat_read(fields *f, server *s) {
    bool stream = false, include_usage = false;
    job *j = job_create(1);
    if (!j) {
        fields_no_memory(f, "");
        return NULL;
    }
    model_field_read(f, s);
    generation_fields_read(f, j, &stream, &include_usage);
    bool logprobs = read_limits(f, j);
    refuse_unsupported(f);
    if (!set_prompt(f, s, &j->prompts[0]) || !fields_finish(f)) {
        job_free(j);
        return NULL;
    }
    completion *a = completion_create(s, j, true);
    if (!a) {
        fields_no_memory(f, "");
        return NULL;
    }
    a->stream = stream, a->include_usage = include_usage, a->logprobs = logprobs;
    return a;
}

bool chat_endpoint(server *s, const client *to, http_request *r) {
    return completion_submit(s, to, r, chat_read);
}

enum MHD_Result apply_template_endpoint(server *s, const client *a, const bytes *body) {
    fields f;
    json_t *object;
    lckv_chat_text text = {0};
    if (!fields_parse(&f, body->data, body->length, &object)) return reply_field_error(a, &f);
    field_ignore(&f, "model");
    enum MHD_Result result =
        render(&f, s, &text) && fields_finish(&f)
            ? reply_json(a, MHD_HTTP_OK, json_pack("{so}", "prompt", string_json(text.text, text.bytes)))
            : reply_field_error(a, &f);
    lckv_chat_text_free(&text);
    json_decref(object);
    return result;
}
