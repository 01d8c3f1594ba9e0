/* Prompts from flags and files: text, token ids or conversations. */
#ifndef CLI_PROMPTS_H
#define CLI_PROMPTS_H

#include "cli/flags/flags.h"
#include "lckv.h"

/* A prompt. */
typedef struct given_prompt {
    char *text;        /* as given, or `messages` rendered by the chat template; NULL if token ids were given */
    size_t text_bytes; /* length of the text */
    char *messages;    /* conversation as JSON; NULL: none */
    int32_t *ids;      /* [count] token ids, given or encoded */
    int64_t count;
} given_prompt;

/* A list of prompts, initially all zeros. */
typedef struct prompt_list {
    given_prompt *items; /* [count] */
    int count;
    bool takes_messages; /* files may contain conversations, to be rendered by prompts_render() */
} prompt_list;

/* Functions that return an int return 0, or an exit code after printing the error. */
/* `name`: the flag that gives the text. It and prompts_add_file() warn about text that is not UTF-8. */
int prompts_add_text(prompt_list *list, const char *name, const char *text, size_t bytes);
int prompts_add_ids(const char *command, prompt_list *list, const char *text); /* "1,15,7" */
/* Adds the prompts of a file: one per line of JSON lines (.jsonl, .ndjson, .json) with `prompt`, `text`, `input_ids` or
 * `messages`, otherwise the whole text as one. `strip` removes one line break at the end of the text. */
int prompts_add_file(const char *command, prompt_list *list, const char *path, bool strip);

bool prompts_have_messages(const prompt_list *list);
bool prompts_have_text(const prompt_list *list); /* also true for messages, which are rendered to text */

/* Renders conversations to text, each up to the start of the answer. */
int prompts_render(const char *command, prompt_list *list, const lckv_chat_template *chat_template);
/* Encodes `prefix` and the text of each text prompt. Rendered conversations are encoded without adding anything,
 * because the template writes the special tokens. */
int prompts_encode(const char *command, prompt_list *list, lckv_tokenizer *tokenizer, const char *prefix,
                   bool add_special_tokens);
void prompts_free(prompt_list *list);

#endif
