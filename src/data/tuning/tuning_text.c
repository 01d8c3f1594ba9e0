/* Converting rows to text, see tuning_text.h. */
#include "data/tuning/tuning_text.h"

#include "base/text/text_buffer.h"
#include "data/tuning/tuning_row.h"

#include <stdlib.h>
#include <string.h>

/* The prompt of Alpaca's train.py (Taori et al. 2023). */
#define BELOW "Below is an instruction that describes a task"
#define WRITE "Write a response that appropriately completes the request.\n\n"
static const char WITH_INPUT[] = BELOW ", paired with an input that provides further context. " WRITE;
static const char WITHOUT_INPUT[] = BELOW ". " WRITE;

const char TUNING_ALPACA_TEMPLATE[] =
    "{%- for message in messages %}\n"
    "    {%- if loop.first %}\n"
    "        {{- '" BELOW ". Write a response that appropriately completes the request.\\n\\n' }}\n"
    "    {%- endif %}\n"
    "    {%- if message.role == 'system' %}\n"
    "        {{- message.content + '\\n\\n' }}\n"
    "    {%- elif message.role == 'user' %}\n"
    "        {{- '### Instruction:\\n' + message.content + '\\n\\n### Response:' }}\n"
    "    {%- else %}\n"
    "        {%- generation %}{{- message.content + eos_token }}{%- endgeneration %}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n";

void tuning_text_free(tuning_text *t) {
    free(t->whole);
    free(t->prompt);
    free(t->answers);
    *t = (tuning_text){0};
}

/* ---------------------------------------------------------------- texts */

static int take(text_buffer *b, char **text, size_t *bytes) {
    *bytes = b->length;
    return text_take(b, text);
}

static bool ends_in(const char *text, size_t bytes, const char *end) {
    size_t length = strlen(end);
    return bytes >= length && !memcmp(text + bytes - length, end, length);
}

/* Concatenates two texts and appends EOS unless the text ends with it. */
static int join(const tuning_source *s, const char *left, size_t left_bytes, const char *right, size_t right_bytes,
                tuning_text *out) {
    text_buffer b = {0};
    int status = text_append(&b, left, left_bytes);
    if (status >= 0) status = text_append(&b, right, right_bytes);
    if (status >= 0 && !ends_in(right, right_bytes, s->eos)) status = text_append(&b, s->eos, strlen(s->eos));
    if (status >= 0) status = take(&b, &out->whole, &out->bytes);
    text_free(&b);
    return status;
}

int tuning_text_of_words(const tuning_source *s, const char *words, size_t bytes, tuning_text *out) {
    *out = (tuning_text){0};
    return join(s, "", 0, words, bytes, out);
}

/* Moves the text of `prompt` to out->prompt. */
static int of_two(const tuning_source *s, text_buffer *prompt, const char *completion, size_t bytes, tuning_text *out) {
    TRY(join(s, prompt->data ? prompt->data : "", prompt->length, completion, bytes, out));
    return take(prompt, &out->prompt, &out->prompt_bytes);
}

static int of_texts(const tuning_source *s, const json_t *prompt, const json_t *completion, tuning_text *out) {
    text_buffer b = {0};
    int status = text_append(&b, json_string_value(prompt), json_string_length(prompt));
    if (status >= 0) status = of_two(s, &b, json_string_value(completion), json_string_length(completion), out);
    text_free(&b);
    return status;
}

/* ---------------------------------------------------------------- conversations */

/* A field of a row as JSON, for the template. A string is JSON already; *text is NULL if there is no such field. */
static int json_of(const json_t *row, const char *key, char **text) {
    const json_t *value = json_object_get(row, key);
    *text = NULL;
    if (!value || json_is_null(value)) return LCKV_OK;
    if (!json_is_string(value)) return json_format(value, 0, text);
    *text = strdup(json_string_value(value));
    REQUIRE(*text, LCKV_ERROR_MEMORY, "no memory for a row's %s", key);
    return LCKV_OK;
}

static int render_with(const tuning_source *s, const json_t *messages, lckv_chat *chat, lckv_chat_text *out) {
    char *text;
    TRY(json_format(messages, 0, &text));
    chat->messages = text;
    int status = lckv_chat_template_render(s->chat_template, chat, out);
    free(text);
    if (status >= 0) return status;
    char why[600];
    snprintf(why, sizeof why, "%s", lckv_last_error());
    return fail(status, "%s: %s", s->where, why);
}

/* Renders a conversation; `row` has its tools and template variables. */
static int render(const tuning_source *s, const json_t *row, const json_t *messages, bool begins_answer,
                  lckv_chat_text *out) {
    char *tools, *variables = NULL;
    lckv_chat chat = lckv_chat_defaults();
    REQUIRE(s->chat_template, LCKV_ERROR_ARGUMENT,
            "%s: the row has messages, but the checkpoint has no chat template; set chat_template to a file with one",
            s->where);
    int status = json_of(row, "tools", &tools);
    if (status >= 0) status = json_of(row, "chat_template_kwargs", &variables);
    chat.tools = tools;
    chat.variables = variables;
    chat.add_generation_prompt = begins_answer;
    chat.return_assistant_tokens = s->how->assistant_only_loss && !begins_answer;
    if (status >= 0) status = render_with(s, messages, &chat, out);
    free(tools);
    free(variables);
    return status;
}

static int of_messages(const tuning_source *s, const json_t *row, const json_t *messages, tuning_text *out) {
    lckv_chat_text text;
    TRY(render(s, row, messages, false, &text));
    *out = (tuning_text){.whole = text.text,
                         .bytes = text.bytes,
                         .rendered = true,
                         .answers = text.assistant,
                         .answer_count = text.assistant_count};
    return LCKV_OK;
}

/* A row whose prompt and completion are lists of messages. */
static int of_conversations(const tuning_source *s, const json_t *row, const json_t *prompt, const json_t *completion,
                            tuning_text *out) {
    lckv_chat_text begun;
    json_t *all = json_array();
    int failed = !all || json_array_extend(all, (json_t *)(uintptr_t)prompt) ||
                 json_array_extend(all, (json_t *)(uintptr_t)completion);
    int status = failed ? fail(LCKV_ERROR_MEMORY, "no memory for a conversation") : of_messages(s, row, all, out);
    json_decref(all);
    TRY(status);
    TRY(render(s, row, prompt, true, &begun));
    out->prompt = begun.text;
    out->prompt_bytes = begun.bytes;
    free(begun.assistant);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- Alpaca */

static int add_heading(text_buffer *b, const char *heading) {
    return text_append(b, heading, strlen(heading));
}

static int add_words(text_buffer *b, const char *heading, const json_t *words) {
    TRY(add_heading(b, heading));
    return text_append(b, json_string_value(words), json_string_length(words));
}

static bool says_something(const json_t *text) {
    return json_is_string(text) && json_string_length(text) > 0;
}

static int alpaca_prompt(const json_t *instruction, const json_t *input, text_buffer *b) {
    bool more = says_something(input);
    TRY(add_heading(b, more ? WITH_INPUT : WITHOUT_INPUT));
    TRY(add_words(b, "### Instruction:\n", instruction));
    if (more) TRY(add_words(b, "\n\n### Input:\n", input));
    return add_heading(b, "\n\n### Response:");
}

static int in_alpacas_words(const tuning_source *s, const json_t *row, tuning_text *out) {
    text_buffer b = {0};
    const json_t *output = json_object_get(row, "output");
    int status = alpaca_prompt(json_object_get(row, "instruction"), json_object_get(row, "input"), &b);
    if (status >= 0) status = of_two(s, &b, json_string_value(output), json_string_length(output), out);
    out->alpaca = true;
    text_free(&b);
    return status;
}

/* The user message is the instruction and the input, with an empty line between them. */
static int as_conversation(const tuning_source *s, const json_t *row, tuning_text *out) {
    text_buffer b = {0};
    const json_t *input = json_object_get(row, "input");
    int status = add_words(&b, "", json_object_get(row, "instruction"));
    if (status >= 0 && says_something(input)) status = add_words(&b, "\n\n", input);
    json_t *prompt = json_pack("[{ss ss%}]", "role", "user", "content", b.data ? b.data : "", b.length);
    json_t *completion = json_pack("[{ss sO}]", "role", "assistant", "content", json_object_get(row, "output"));
    if (status >= 0 && (!prompt || !completion)) status = fail(LCKV_ERROR_MEMORY, "no memory for a conversation");
    if (status >= 0) status = of_conversations(s, row, prompt, completion, out);
    json_decref(prompt);
    json_decref(completion);
    text_free(&b);
    return status;
}

/* ---------------------------------------------------------------- types of rows */

static bool both(const json_t *left, const json_t *right, json_type type) {
    return left && right && json_typeof(left) == type && json_typeof(right) == type;
}

static int is_none(const tuning_source *s, const json_t *row) {
    const char *objection = tuning_row_objection(row);
    if (objection) return fail(LCKV_ERROR_FORMAT, "%s: %s", s->where, objection);
    return fail(
        LCKV_ERROR_FORMAT,
        "%s: expected messages, conversations, prompt and completion, '%s', or instruction and output, found none "
        "of these in a valid form",
        s->where, s->how->dataset_text_field);
}

/* As in trl, prompt and completion take precedence over messages, and messages over a text. */
static int of_row(const tuning_source *s, const json_t *row, tuning_text *out) {
    const json_t *messages = json_object_get(row, "messages"), *prompt = json_object_get(row, "prompt");
    const json_t *completion = json_object_get(row, "completion"), *output = json_object_get(row, "output");
    const json_t *text = json_object_get(row, s->how->dataset_text_field);
    if (both(prompt, completion, JSON_ARRAY)) return of_conversations(s, row, prompt, completion, out);
    if (both(prompt, completion, JSON_STRING)) return of_texts(s, prompt, completion, out);
    if (prompt && completion) return is_none(s, row);
    if (json_is_array(messages)) return of_messages(s, row, messages, out);
    if (json_is_string(text)) return tuning_text_of_words(s, json_string_value(text), json_string_length(text), out);
    if (both(json_object_get(row, "instruction"), output, JSON_STRING))
        return s->chat_template ? as_conversation(s, row, out) : in_alpacas_words(s, row, out);
    return is_none(s, row);
}

/* Adds the role to the message of an error: the template may not support it. */
static int name_role(int status, const char *role) {
    char why[800];
    snprintf(why, sizeof why, "%s", lckv_last_error());
    return fail(status, "%s (the row has the role '%.40s', which lckv passes to the template unchanged, as trl does)",
                why, role);
}

static int of_converted(const tuning_source *s, const json_t *row, tuning_text *out) {
    const char *role = tuning_row_foreign_role(row);
    int status = of_row(s, row, out);
    if (role && status < 0 && s->chat_template) return name_role(status, role);
    if (status >= 0 && role && out->rendered) snprintf(out->foreign_role, sizeof out->foreign_role, "%s", role);
    return status;
}

int tuning_text_of_row(const tuning_source *s, const json_t *row, tuning_text *out) {
    json_t *converted;
    *out = (tuning_text){0};
    TRY(tuning_row_convert(row, &converted));
    int status = of_converted(s, converted, out);
    json_decref(converted);
    if (status >= 0 && s->how->assistant_only_loss && !out->rendered)
        status =
            fail(LCKV_ERROR_ARGUMENT, "%s: assistant_only_loss needs conversations, but the row is not one", s->where);
    if (status < 0) tuning_text_free(out);
    return status;
}
