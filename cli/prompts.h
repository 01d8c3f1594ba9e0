/* Prompts from flags and files: text, or ids as they are. */
#ifndef CLI_PROMPTS_H
#define CLI_PROMPTS_H

#include "flags.h"
#include "lckv.h"

typedef struct given_prompt {
    char *text; /* as typed, or what a chat template made of `messages`; NULL where ids were given */
    size_t text_bytes;
    char *messages; /* JSON; NULL: it was no conversation */
    int32_t *ids;
    int64_t count;
} given_prompt;

typedef struct prompt_list {
    given_prompt *items;
    int count;
    bool takes_messages; /* files may have conversations, which prompts_render() makes texts of */
} prompt_list;           /* begins empty */

/* These return 0, or an exit code after the message. */
int prompts_add_text(prompt_list *list, const char *text, size_t bytes);
int prompts_add_ids(const char *command, prompt_list *list, const char *text); /* "1,15,7" */
/* A file: of JSON lines with `prompt`, `text`, `input_ids` or `messages` (.jsonl, .ndjson, .json) as many prompts, else
 * its text as one. With `strip` one line break at the text's end is not part of it. */
int prompts_add_file(const char *command, prompt_list *list, const char *path, bool strip);

bool prompts_have_messages(const prompt_list *list);
bool prompts_have_text(const prompt_list *list); /* or messages, which become text */

/* Makes texts of the conversations, each up to where its answer begins. */
int prompts_render(const char *command, prompt_list *list, const lckv_chat_template *chat_template);
/* Gives each prompt that is text its ids, of `prefix` and the text. What a template made of a conversation is taken as
 * it is: special tokens stand in it. */
int prompts_encode(const char *command, prompt_list *list, lckv_tokenizer *tokenizer, const char *prefix,
                   bool add_special_tokens);
void prompts_free(prompt_list *list);

#endif
