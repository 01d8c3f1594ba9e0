/* Prompts from flags and files: text, or ids as they are. */
#ifndef CLI_PROMPTS_H
#define CLI_PROMPTS_H

#include "flags.h"
#include "lckv.h"

typedef struct given_prompt {
    char *text; /* as typed; NULL where ids were given */
    size_t text_bytes;
    int32_t *ids;
    int64_t count;
} given_prompt;

typedef struct prompt_list {
    given_prompt *items;
    int count;
} prompt_list; /* begins empty */

/* These return 0, or an exit code after the message. */
int prompts_add_text(prompt_list *list, const char *text, size_t bytes);
int prompts_add_ids(const char *command, prompt_list *list, const char *text); /* "1,15,7" */
/* A file: of JSON lines with `prompt`, `text` or `input_ids` (.jsonl, .ndjson, .json) as many prompts, else its text as
 * one. With `strip` one line break at the text's end is not part of it. */
int prompts_add_file(const char *command, prompt_list *list, const char *path, bool strip);

bool prompts_have_text(const prompt_list *list);

/* Gives each prompt that is text its ids, of `prefix` and the text. */
int prompts_encode(const char *command, prompt_list *list, lckv_tokenizer *tokenizer, const char *prefix,
                   bool add_special_tokens);
void prompts_free(prompt_list *list);

#endif
