/* Text: tokenizers, from text to ids and back, and chat templates, from a conversation to text. */
#ifndef LCKV_TEXT_H
#define LCKV_TEXT_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- tokenizers */

/* A Hugging Face tokenizer (tokenizer.json): byte-pair encoding, over bytes or over characters with byte fallback, or
 * Unigram (SentencePiece). Ids equal those of the `tokenizers` library. Unsupported features are an error on opening.
 */
typedef struct lckv_tokenizer lckv_tokenizer;

/* Opens a tokenizer. `folder_or_file`: a folder with tokenizer.json, such a file, or a GGUF file.
 * tokenizer_config.json, special_tokens_map.json and added_tokens.json beside it add tokens, name BOS and EOS, and
 * define which special tokens surround a text, as in transformers (docs/file-formats.md, "Tokenizers").
 *   LCKV_ERROR_FILE: the file is missing, or the GGUF file has no tokenizer.
 *   LCKV_ERROR_FORMAT: the file is malformed.
 *   LCKV_ERROR_UNSUPPORTED: the message names the feature; for another kind of tokenizer (tokenizer.model) it says how
 *     to convert the folder. */
LCKV_API int lckv_tokenizer_open(const char *folder_or_file, lckv_tokenizer **out);
LCKV_API void lckv_tokenizer_free(lckv_tokenizer *tokenizer);

/* Encodes a text. `text`: any bytes, NUL included; each ill-formed part of its UTF-8 is read as U+FFFD, as with
 * Python's errors="replace". `add_special_tokens`: adds the tokens that the tokenizer puts around a text, such as BOS.
 * Free *ids [*count] with lckv_free(); it is NULL if there are none. */
LCKV_API int lckv_tokenizer_encode(lckv_tokenizer *tokenizer, const char *text, size_t bytes, bool add_special_tokens,
                                   int32_t **ids, size_t *count);
/* The same with at most `limit` tokens; 0 disables the limit.
 *   LCKV_ERROR_TOO_LONG: there are more tokens. lckv stops as soon as this is certain and does not encode the rest. */
LCKV_API int lckv_tokenizer_encode_at_most(lckv_tokenizer *tokenizer, const char *text, size_t bytes,
                                           bool add_special_tokens, size_t limit, int32_t **ids, size_t *count);

/* Decodes ids. *text is valid UTF-8 of *bytes bytes, followed by NUL; bytes that form no character become U+FFFD. Free
 * it with lckv_free(). LCKV_ERROR_ARGUMENT: no token has this id. */
LCKV_API int lckv_tokenizer_decode(lckv_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                   bool skip_special_tokens, char **text, size_t *bytes);

/* Returns the bytes that a token adds to a text, its leading space included. A token that is part of a character has
 * the bytes of that part. The bytes of all tokens, joined, are the text. `at_start`: the token begins the text, where
 * many tokenizers drop a space. *bytes [*count] is followed by NUL; free it with lckv_free(). LCKV_ERROR_ARGUMENT: no
 * token has this id. */
LCKV_API int lckv_tokenizer_token_bytes(lckv_tokenizer *tokenizer, int32_t id, bool at_start, char **bytes,
                                        size_t *count);

/* Returns the largest id + 1, added tokens included. The model's embedding needs at least this number of rows. */
LCKV_API int32_t lckv_tokenizer_vocab_size(const lckv_tokenizer *tokenizer);

/* Returns the id of a token, -1 if there is no such token. Write it as in tokenizer.json ("\u0120the", "<0x0A>"). */
LCKV_API int32_t lckv_tokenizer_token_to_id(const lckv_tokenizer *tokenizer, const char *token);
/* Returns the token of an id, NULL if there is none. The tokenizer owns the string. */
LCKV_API const char *lckv_tokenizer_id_to_token(const lckv_tokenizer *tokenizer, int32_t id);
/* Returns whether skip_special_tokens omits this token. */
LCKV_API bool lckv_tokenizer_is_special(const lckv_tokenizer *tokenizer, int32_t id);
/* Return the id of BOS and EOS as in tokenizer_config.json, -1 if it names none. */
LCKV_API int32_t lckv_tokenizer_bos_id(const lckv_tokenizer *tokenizer);
LCKV_API int32_t lckv_tokenizer_eos_id(const lckv_tokenizer *tokenizer);

/* Incremental decoding. The stream returns whole characters only; in total the text equals that of decoding all ids at
 * once. Text that later ids can still change is held back: an incomplete character, or a row of byte tokens. The
 * tokenizer must outlive the stream. Use both from one thread at a time, because a stream uses its tokenizer. */
typedef struct lckv_decode_stream lckv_decode_stream;

LCKV_API int lckv_decode_stream_open(lckv_tokenizer *tokenizer, bool skip_special_tokens, lckv_decode_stream **out);
/* Adds one id. *text (*bytes bytes, then NUL) is the text that this id completes, often "". The stream owns it until
 * its next call. */
LCKV_API int lckv_decode_stream_push(lckv_decode_stream *stream, int32_t id, const char **text, size_t *bytes);
/* Returns the rest of the text, which the stream owns until its next call, and resets the stream for another text. */
LCKV_API int lckv_decode_stream_finish(lckv_decode_stream *stream, const char **text, size_t *bytes);
LCKV_API void lckv_decode_stream_free(lckv_decode_stream *stream);

/* ---------------------------------------------------------------- chat templates */

/* The Jinja template of a checkpoint, which turns a conversation into text, rendered as transformers'
 * apply_chat_template does. Templates are not trusted: their run time and memory are limited. */
typedef struct lckv_chat_template lckv_chat_template;

/* Opens a chat template. `folder`: a folder with tokenizer files, or a GGUF file. The template is
 * FOLDER/chat_template.jinja, else `chat_template` in tokenizer_config.json: one template, or a list of named ones, of
 * which lckv takes `default`, and `tool_use` if there are tools. `chat_template`: a file with a template to use
 * instead; NULL for none. With such a file, `folder` may be NULL; no special tokens are known then. If there is no
 * template, the function succeeds and *out is NULL. LCKV_ERROR_FILE, LCKV_ERROR_FORMAT: a file is missing or malformed;
 * the message has file and line.
 *   LCKV_ERROR_UNSUPPORTED: the template has a statement that chat templates do not have. */
LCKV_API int lckv_chat_template_open(const char *folder, const char *chat_template, lckv_chat_template **out);
LCKV_API void lckv_chat_template_free(lckv_chat_template *chat_template);

/* Returns the text of the default template, unchanged. The handle owns it. */
LCKV_API const char *lckv_chat_template_source(const lckv_chat_template *chat_template);

/* A conversation. Values that transformers takes as Python objects are JSON text here. */
typedef struct lckv_chat {
    size_t struct_size;    /* Size of this struct, set by lckv_chat_defaults(). */
    const char *messages;  /* Messages, [{"role": "user", "content": "..."}, ...]; required. */
    const char *tools;     /* Tools, a list of JSON schemas; NULL for none (default). */
    const char *documents; /* Documents, a list of objects; NULL for none (default). */
    /* Further template variables, an object such as {"enable_thinking": false}; they override the tokenizer's special
     * tokens. NULL for none (default). */
    const char *variables;
    bool add_generation_prompt;  /* Append the start of an assistant message (default false). */
    bool continue_final_message; /* Leave the last message open so that the model continues it (default false). */
    /* Return the spans of assistant text, which the template must mark with {% generation %} (default false). */
    bool return_assistant_tokens;
    /* Time for strftime_now(), in seconds since the Unix epoch, formatted in local time; 0 uses the current time
     * (default). */
    int64_t now;
} lckv_chat;

LCKV_API void lckv_chat_init(lckv_chat *options, size_t struct_size);
static inline lckv_chat lckv_chat_defaults(void) {
    lckv_chat options;
    lckv_chat_init(&options, sizeof options);
    return options;
}

/* Bytes [first, end) of a text. */
typedef struct lckv_text_span {
    size_t first, end;
} lckv_text_span;

typedef struct lckv_chat_text {
    char *text; /* Rendered text, followed by NUL. Encode it without special tokens: the text contains them. */
    size_t bytes;
    lckv_text_span *assistant; /* [assistant_count] Output of {% generation %} blocks, in order; NULL if none. */
    int assistant_count;
} lckv_chat_text;

/* Renders a conversation as text. Free `out` with lckv_chat_text_free().
 *   LCKV_ERROR_ARGUMENT: the JSON is not as expected, or the template rejects the conversation; the message ends with
 * the template's own words. LCKV_ERROR_FORMAT: the template has an error; the message names the line.
 *   LCKV_ERROR_UNSUPPORTED: the template uses a filter or test that is not supported (the message names the line), or
 *   assistant tokens are wanted and the template marks none. */
LCKV_API int lckv_chat_template_render(const lckv_chat_template *chat_template, const lckv_chat *chat,
                                       lckv_chat_text *out);
LCKV_API void lckv_chat_text_free(lckv_chat_text *text);

#ifdef __cplusplus
}
#endif
#endif
