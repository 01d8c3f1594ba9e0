/* A conversation of lckv chat: its messages, sampling settings, and the engine.
 *
 * conversation.c answers, commands.c has the chat commands, examples.c the questions of `example`, line.c the terminal.
 * cmd_chat.c has the flags and the main loop. */
#ifndef CLI_CHAT_CHAT_H
#define CLI_CHAT_CHAT_H

#include "lckv.h"

#include <jansson.h>

typedef struct chat_settings {
    int64_t max_new_tokens, top_k, seed;
    double temperature, top_p, min_p, repetition_penalty;
} chat_settings;

/* Result of one answer. */
typedef struct chat_result {
    char *text; /* owned by the chat, valid until the next answer */
    size_t bytes;
    int64_t prompt_tokens, cached_tokens, new_tokens; /* cached: prompt tokens reused from earlier turns */
    bool interrupted;
} chat_result;

typedef struct chat {
    const char *model_name;
    lckv_tokenizer *tokenizer;
    lckv_chat_template *chat_template; /* NULL: lines that start with Human: and Assistant: */
    lckv_engine *engine;
    int32_t *eos_ids; /* [eos_count] that end an answer, in addition to the model's */
    int eos_count;

    char *system_prompt, *initial_system_prompt; /* NULL: none */
    chat_settings settings, initial;
    json_t *messages; /* without the system prompt */
    json_t *examples; /* {name: text} */
    uint64_t answers; /* so far */

    bool shows; /* stream answers to standard output */
    chat_result result;
    size_t capacity; /* of result.text */
    uint64_t request;
    bool ended, broken; /* the current answer has ended; standard output cannot be written */
} chat;

/* Deletes all messages. */
void chat_clear(chat *c);

/* Sends `text` and generates the answer. Both become part of the conversation, even if Ctrl-C interrupted the answer.
 * On failure (see lckv_last_error()) the conversation is unchanged. */
int chat_answer(chat *c, const char *text, const chat_result **out);
void chat_on_event(void *user, const lckv_event *event); /* for the engine's options; `user` is the chat */

/* ---- commands.c */

typedef enum chat_line_kind { CHAT_MESSAGE, CHAT_EXECUTED, CHAT_EXIT } chat_line_kind;

/* Interprets a line: a message to send (*message points into the line or the chat), a command that was executed, or a
 * request to exit. Errors of commands are printed to stderr, and the command counts as executed. */
chat_line_kind chat_read_line(chat *c, const char *line, const char **message);

/* ---- examples.c */

/* Reads the built-in questions and those of a file, which override them: JSON {"name": "text"} or {"name": {"text":
 * "..."}}, or equivalent YAML. path may be NULL. Returns 0, or an exit code after printing the error. */
int chat_examples_read(const char *command, const char *path, json_t **out);

/* ---- line.c */

typedef struct chat_lines chat_lines;

/* Reads standard input. On a terminal, shows a prompt and, if built with libedit, supports editing and history. */
chat_lines *chat_lines_open(void);
void chat_lines_close(chat_lines *l);
bool chat_lines_has_terminal(const chat_lines *l);
/* The next line without its line break, owned by `l`; NULL at the end of input. If Ctrl-C was pressed, returns "" and
 * sets *interrupted. */
const char *chat_lines_read(chat_lines *l, const char *prompt, bool *interrupted);

#endif
