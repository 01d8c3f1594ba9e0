/* Fuzz target: a chat template, then messages as JSON, then variables as JSON. The default is one user message. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static int render(const lckv_chat_template *t, const lckv_chat *chat) {
    lckv_chat_text text = {0};
    int status = lckv_chat_template_render(t, chat, &text);
    status = fuzz_end(status, !text.text && !text.assistant);
    if (status >= 0) FUZZ_CHECK(fuzz_is_utf8(text.text, text.bytes));
    for (int i = 0; i < text.assistant_count; i++)
        FUZZ_CHECK(text.assistant[i].first <= text.assistant[i].end && text.assistant[i].end <= text.bytes);
    lckv_chat_text_free(&text);
    return status;
}

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size);
    lckv_chat_template *t;
    fuzz_clear();
    const char *path = fuzz_put("chat_template.jinja", fuzz_next(&rest));
    char *messages = fuzz_string(fuzz_next(&rest)), *variables = fuzz_string(rest);
    int status = lckv_chat_template_open(NULL, path, &t);
    status = fuzz_end(status, !t);
    lckv_chat chat = lckv_chat_defaults();
    chat.messages = messages ? messages : "[{\"role\": \"user\", \"content\": \"a\"}]";
    chat.variables = variables;
    chat.now = 86400;
    if (status >= 0) {
        chat.continue_final_message = true;
        render(t, &chat);
        chat.continue_final_message = false;
        chat.return_assistant_tokens = strstr(lckv_chat_template_source(t), "{% generation") != NULL;
        chat.add_generation_prompt = true;
        status = render(t, &chat);
    }
    lckv_chat_template_free(t);
    free(messages);
    free(variables);
    return status;
}
