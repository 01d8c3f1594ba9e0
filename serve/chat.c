/* /v1/chat/completions and /apply_template: a conversation becomes a prompt by the checkpoint's template. */
#include "json_text.h"
#include "messages.h"
#include "sampling.h"

/* ---------------------------------------------------------------- the prompt */

static char *dump_variables(fields *f) {
    const json_t *variables = field_any(f, "chat_template_kwargs");
    if (variables && !json_is_object(variables))
        fields_wrong(f, "chat_template_kwargs", "'chat_template_kwargs' must be an object");
    return variables ? json_dumps(variables, JSON_COMPACT) : NULL;
}

/* Whether *out has the text of the conversation. */
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
    if (chat.continue_final_message && !field_given(f, "add_generation_prompt")) chat.add_generation_prompt = false;
    if (!s->chat_template)
        fields_wrong(f, "messages", "this model has no chat template: use /v1/completions");
    else if (text && !f->wrong)
        rendered = (status = lckv_chat_template_render(s->chat_template, &chat, out)) >= 0 ||
                   fields_failed(f, "messages", status);
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
    if (status < 0) return fields_failed(f, "messages", status);
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

answer *chat_read(fields *f, server *s) {
    bool stream = false, include_usage = false;
    job *j = job_create(1);
    if (!j) {
        fields_no_memory(f, "");
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
        fields_no_memory(f, "");
        return NULL;
    }
    a->stream = stream, a->include_usage = include_usage, a->logprobs = logprobs;
    return a;
}

bool chat_ask(server *s, const asker *who, visit *v) {
    return answer_ask(s, who, v, chat_read);
}

enum MHD_Result apply_template_answer(server *s, const asker *a, const bytes *body) {
    fields f;
    json_t *object;
    lckv_chat_text text = {0};
    if (!fields_begin(&f, body->data, body->length, &object)) return reply_wrong(a, &f);
    field_ignored(&f, "model");
    enum MHD_Result result =
        render(&f, s, &text) && fields_end(&f)
            ? reply_json(a, MHD_HTTP_OK, json_pack("{so}", "prompt", string_json(text.text, text.bytes)))
            : reply_wrong(a, &f);
    lckv_chat_text_free(&text);
    json_decref(object);
    return result;
}
