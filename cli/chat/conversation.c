/* Generates the answers of lckv chat. Each turn submits the whole conversation; the engine's prefix cache reuses the
 * earlier part. */
#include "cli/chat/chat.h"
#include "cli/output/output.h"
#include "cli/output/string_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void chat_clear(chat *c) {
    json_array_clear(c->messages);
}

static void add_message(json_t *messages, const char *role, const char *text, size_t bytes) {
    json_t *content = need(string_json(text, bytes));
    json_array_append_new(messages, need(json_pack("{s:s, s:o}", "role", role, "content", content)));
}

/* ---- the prompt */

static json_t *all_messages(const chat *c) {
    json_t *messages = need(json_array());
    if (c->system_prompt) add_message(messages, "system", c->system_prompt, strlen(c->system_prompt));
    json_array_extend(messages, c->messages);
    return messages;
}

static int render(const chat *c, char **text, size_t *bytes) {
    json_t *messages = all_messages(c);
    char *json = need(json_dumps(messages, JSON_COMPACT));
    lckv_chat options = lckv_chat_defaults();
    lckv_chat_text rendered;
    options.messages = json;
    options.add_generation_prompt = true;
    int status = lckv_chat_template_render(c->chat_template, &options, &rendered);
    if (status >= 0) {
        *text = rendered.text;
        *bytes = rendered.bytes;
        rendered.text = NULL;
    }
    lckv_chat_text_free(&rendered);
    free(json);
    json_decref(messages);
    return status;
}

/* Writes the prompt for a model without a chat template. */
static void write_lines(const chat *c, char **text, size_t *bytes) {
    FILE *stream = need(open_memstream(text, bytes));
    size_t index;
    json_t *message;
    if (c->system_prompt) fprintf(stream, "%s\n\n", c->system_prompt);
    json_array_foreach(c->messages, index, message) {
        const json_t *content = json_object_get(message, "content");
        bool user = !strcmp(json_string_value(json_object_get(message, "role")), "user");
        fprintf(stream, "%s: ", user ? "Human" : "Assistant");
        fwrite(json_string_value(content), 1, json_string_length(content), stream);
        fputc('\n', stream);
    }
    fprintf(stream, "Assistant:");
    fclose(stream);
}

/* A template writes the special tokens itself. Plain lines have none, so the tokenizer adds them. */
static int encode(const chat *c, int32_t **ids, size_t *count) {
    char *text = NULL;
    size_t bytes = 0;
    int status = LCKV_OK;
    *ids = NULL;
    if (c->chat_template)
        status = render(c, &text, &bytes);
    else
        write_lines(c, &text, &bytes);
    if (status >= 0) status = lckv_tokenizer_encode(c->tokenizer, text, bytes, !c->chat_template, ids, count);
    free(text);
    return status;
}

/* ---- the answer */

static void append(chat *c, const char *text, size_t bytes) {
    chat_result *r = &c->result;
    if (r->bytes + bytes + 1 > c->capacity) {
        c->capacity = 2 * (r->bytes + bytes) + 256;
        r->text = need(realloc(r->text, c->capacity));
    }
    memcpy(r->text + r->bytes, text, bytes);
    r->bytes += bytes;
    r->text[r->bytes] = 0;
}

static bool is_eos(const chat *c, int32_t token) {
    for (int i = 0; i < c->eos_count; i++)
        if (c->eos_ids[i] == token) return true;
    return false;
}

void chat_on_event(void *user, const lckv_event *event) {
    chat *c = user;
    const char *text = event->text;
    size_t bytes = event->text_bytes;
    if (event->request != c->request || c->ended || event->of_prompt) return;
    c->result.prompt_tokens = event->prompt_tokens;
    c->result.cached_tokens = event->cached_tokens;
    c->result.new_tokens = event->new_tokens;
    c->ended = event->finish != LCKV_FINISH_NONE || is_eos(c, event->token);
    if (is_eos(c, event->token)) return; /* its text is not part of the answer */
    while (!c->chat_template && !c->result.bytes && bytes && *text == ' ') text++, bytes--;
    append(c, text, bytes);
    if (!c->streams) return;
    if (!print_bytes(text, bytes) || !print_flush()) c->output_failed = true;
}

#define COPY(name, ...) request.name = c->settings.name;

static int submit(chat *c, const int32_t *ids, size_t count) {
    static const char *const stop[] = {"\nHuman:"};
    lckv_request request = lckv_request_defaults();
    int64_t free_positions = lckv_engine_describe(c->engine).max_model_len - (int64_t)count;
    request.prompt = (lckv_prompt){ids, (int64_t)count};
    request.max_new_tokens = c->settings.max_new_tokens;
    if (free_positions > 0 && free_positions < request.max_new_tokens) request.max_new_tokens = free_positions;
    SAMPLING_PARAMETERS(COPY)
    request.seed = (uint64_t)c->settings.seed;
    request.stream = c->answers;
    request.stop = stop;
    request.stop_count = c->chat_template ? 0 : 1;
    return lckv_engine_submit(c->engine, &request, &c->request);
}

static int run(chat *c) {
    chat_result *r = &c->result;
    int status = LCKV_OK;
    while (status >= 0 && !c->ended && !c->output_failed && !r->interrupted) {
        status = lckv_engine_step(c->engine);
        r->interrupted = interrupted(); /* other signals stay pending and end the conversation */
        take_interrupt();
    }
    lckv_engine_cancel(c->engine, c->request);
    return status;
}

int chat_answer(chat *c, const char *text, const chat_result **out) {
    int32_t *ids;
    size_t count = 0, message_count = json_array_size(c->messages);
    chat_result *r = &c->result;
    add_message(c->messages, "user", text, strlen(text));
    r->bytes = 0;
    r->interrupted = c->ended = false;
    append(c, "", 0);
    int status = encode(c, &ids, &count);
    if (status >= 0) status = submit(c, ids, count);
    if (status >= 0) status = run(c);
    lckv_free(ids);
    if (status < 0) {
        json_array_remove(c->messages, message_count);
        return status;
    }
    add_message(c->messages, "assistant", r->text, r->bytes);
    c->answers++;
    *out = r;
    return LCKV_OK;
}
