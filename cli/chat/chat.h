/* A conversation of lckv chat: its messages, sampling settings, and the engine.
 *
 * conversation.c generates answers, chat_commands.c runs chat commands, examples.c reads the questions of the command
 * `example`, and line.c reads lines from the terminal. The flags and the main loop are in cmd_chat.c. */
#ifndef CLI_CHAT_CHAT_H
#define CLI_CHAT_CHAT_H

#include "lckv.h"
#include "src/generate/sampling_parameters.h"

#include <jansson.h>

/* Settings of answers, as the flags of lckv chat. */
#define CHAT_INT int64_t
#define CHAT_NUMBER double
#define CHAT_FIELD(name, KIND, ...) CHAT_##KIND name;
typedef struct chat_settings {
    int64_t max_new_tokens, seed;
    SAMPLING_PARAMETERS(CHAT_FIELD)
} chat_settings;

/* Result of one answer. */
typedef struct chat_result {
    char *text;            /* [bytes] and a NUL; owned by the chat, valid until the next answer */
    size_t bytes;          /* length of the text */
    int64_t prompt_tokens; /* tokens of the conversation up to the answer */
    int64_t cached_tokens; /* those of them that were reused from earlier turns */
    int64_t new_tokens;    /* tokens of the answer */
    bool interrupted;      /* Ctrl-C ended the answer */
} chat_result;

typedef struct chat {
    const char *model_name;            /* value of --model_name_or_path, for saved conversations */
    lckv_tokenizer *tokenizer;         /* borrowed */
    lckv_chat_template *chat_template; /* owned; NULL: lines that start with Human: and Assistant: */
    lckv_engine *engine;               /* owned */
    int32_t *eos_ids;                  /* [eos_count] tokens that end an answer, in addition to the model's EOS */
    int eos_count;

    char *system_prompt, *initial_system_prompt; /* current one, and that of the flag; NULL: none */
    chat_settings settings, initial_settings;    /* current ones, and those of the flags */
    json_t *messages;                            /* array of {role, content}, without the system prompt */
    json_t *examples;                            /* {name: text} */
    uint64_t answers;                            /* number of answers so far */

    bool streams;       /* answers are streamed to standard output */
    chat_result result; /* the current answer */
    size_t capacity;    /* allocated bytes of result.text */
    uint64_t request;   /* number of the engine's current request */
    bool ended;         /* the current answer is complete */
    bool output_failed; /* standard output cannot be written */
} chat;

/* Deletes all messages, but not the system prompt. */
void chat_clear(chat *c);

/* Adds `text` as a message and generates the answer. Both become part of the conversation, even if Ctrl-C interrupted
 * the answer. On failure returns the status of the library and leaves the conversation unchanged. */
int chat_answer(chat *c, const char *text, const chat_result **out);
/* Callback for lckv_engine_options; `user` is the chat. */
void chat_on_event(void *user, const lckv_event *event);

/* ---- chat_commands.c */

typedef enum chat_line_kind { CHAT_MESSAGE, CHAT_EXECUTED, CHAT_EXIT } chat_line_kind;

/* Interprets a line: a message to send (*message points into the line or the chat), a command that was executed, or a
 * request to exit. Errors of commands are printed to stderr, and the command counts as executed. */
chat_line_kind chat_read_line(chat *c, const char *line, const char **message);

/* ---- examples.c */

/* Reads the built-in questions and those of a file, which override them: JSON {"name": "text"} or {"name": {"text":
 * "..."}}, or equivalent YAML. path may be NULL. Returns 0, or an exit code after printing the error. */
int chat_examples_read(const char *command, const char *path, json_t **out);

/* ---- line.c */

/* Lines from standard input. On a terminal, shows a prompt and, if built with libedit, supports editing and history. */
typedef struct chat_lines chat_lines;

chat_lines *chat_lines_open(void);
void chat_lines_close(chat_lines *l);
bool chat_lines_has_terminal(const chat_lines *l);
/* EXIT_FAILED if a line could not be read, which has been reported; else EXIT_FINE. */
int chat_lines_failure(const chat_lines *l);
/* Returns the next line without its line break, owned by `l`; NULL at the end of input. If Ctrl-C was pressed, returns
 * "" and sets *interrupted. */
const char *chat_lines_read(chat_lines *l, const char *prompt, bool *interrupted);

#endif
