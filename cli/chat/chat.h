/* A conversation: what was said, how answers are sampled, and the engine that makes them. Used by lckv chat alone.
 *
 * chat.c answers, chat_commands.c is what a line can ask for instead, chat_examples.c the questions at hand,
 * chat_line.c the terminal; cmd_chat.c has the flags and the loop. */
#ifndef CLI_CHAT_CHAT_H
#define CLI_CHAT_CHAT_H

#include "lckv.h"

#include <jansson.h>

typedef struct chat_settings {
    int64_t max_new_tokens, top_k, seed;
    double temperature, top_p, min_p, repetition_penalty;
} chat_settings;

/* What came of one answer. */
typedef struct chat_result {
    char *text; /* owned by the chat, until the next answer */
    size_t bytes;
    int64_t prompt_tokens, cached_tokens, new_tokens; /* cached: of the prompt, those that had been read before */
    bool interrupted;
} chat_result;

typedef struct chat {
    const char *model_name;
    lckv_tokenizer *tokenizer;
    lckv_chat_template *chat_template; /* NULL: Human: and Assistant: lines */
    lckv_engine *engine;
    int32_t *eos_ids; /* [eos_count] that end an answer besides the model's own */
    int eos_count;

    char *system_prompt, *initial_system_prompt; /* NULL: none */
    chat_settings settings, initial;
    json_t *messages; /* without the system prompt */
    json_t *examples; /* {name: text} */
    uint64_t answers; /* so far */

    bool shows; /* answers go to standard output as they come */
    chat_result result;
    size_t capacity; /* of result.text */
    uint64_t request;
    bool ended, broken; /* this answer; standard output takes no more */
} chat;

/* Forgets what was said. */
void chat_clear(chat *c);

/* Says `text` and gets the answer, which becomes part of the conversation; one that Ctrl-C has cut too. On failure,
 * with the message in lckv_last_error(), nothing has been said. */
int chat_answer(chat *c, const char *text, const chat_result **out);
void chat_on_event(void *user, const lckv_event *event); /* for the engine's options; `user` is the chat */

/* ---- chat_commands.c */

typedef enum chat_verdict { CHAT_SAY, CHAT_DONE, CHAT_EXIT } chat_verdict;

/* What a line is: something to say (*message, which is the line's or the chat's), a command that was carried out, or
 * the wish to end. What is wrong with a command goes to stderr, and it counts as done. */
chat_verdict chat_read_line(chat *c, const char *line, const char **message);

/* ---- chat_examples.c */

/* Built-in ones, and those of a file over them: JSON {"name": "text"} or {"name": {"text": "..."}}, or YAML of that
 * form; path NULL: none. 0, or an exit code after the message. */
int chat_examples_read(const char *command, const char *path, json_t **out);

/* ---- chat_line.c */

typedef struct chat_lines chat_lines;

/* From standard input. With a terminal there are a prompt and, where libedit is, editing and history. */
chat_lines *chat_lines_open(void);
void chat_lines_close(chat_lines *l);
bool chat_lines_has_terminal(const chat_lines *l);
int chat_lines_failure(const chat_lines *l); /* EXIT_FAILED after a line that could not be read, and a message */
/* The next line without its end, which belongs to `l`; NULL at the end. "" with *interrupted where Ctrl-C was pressed.
 */
const char *chat_lines_read(chat_lines *l, const char *prompt, bool *interrupted);

#endif
