/* lckv.h - the public interface of liblckv.
 *
 * liblckv trains, converts and runs decoder language models whose layers share keys and values (KV). One string,
 * `layer_types`, says which layer reads whose KV; see docs/model.md.
 *
 * Conventions, true of every function here unless its comment says otherwise:
 *   - A function that can fail returns LCKV_OK or a negative lckv_status; lckv_last_error() then holds one sentence for
 *     people: what was expected, what was found, where.
 *   - On failure nothing is handed out: `*out` is NULL and the caller owns nothing new.
 *   - Arguments stay the caller's; the library copies what it keeps. Strings are UTF-8 and end in NUL.
 *   - Strings and arrays that are handed out are released with lckv_free(), handles with their own function; each of
 *     these takes NULL.
 *   - Options structs are filled by their *_defaults() function first, then changed; fields state unit, default, and
 *     what 0 means.
 *   - The library never exits and never prints; lckv_set_log() hands its messages to the caller.
 *   - A handle is used by one thread at a time. Different handles may be used by different threads.
 */
#ifndef LCKV_H
#define LCKV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LCKV_API __attribute__((visibility("default")))
#else
#define LCKV_API
#endif

/* ---------------------------------------------------------------- errors, log, memory */

typedef enum lckv_status {
    LCKV_OK = 0,
    LCKV_ERROR_ARGUMENT = -1,    /* a value given by the caller is out of range or contradicts another */
    LCKV_ERROR_FILE = -2,        /* a file is absent, unreadable, or cannot be written (disk full included) */
    LCKV_ERROR_FORMAT = -3,      /* a file's content is not what its format says */
    LCKV_ERROR_UNSUPPORTED = -4, /* well formed, but asks for what lckv does not do */
    LCKV_ERROR_MEMORY = -5,      /* host or device memory ran out */
    LCKV_ERROR_DEVICE = -6,      /* a device is absent, busy or lost, or its library reported an error */
    LCKV_ERROR_NUMERIC = -7,     /* a loss or gradient is not finite */
    LCKV_ERROR_INTERRUPTED = -8, /* the caller's callback asked to stop */
    LCKV_ERROR_BUSY = -9,        /* a queue is full: later there will be room */
    LCKV_ERROR_TOO_LONG = -10,   /* more tokens than model or memory can ever hold */
} lckv_status;

/* The sentence of this thread's last failure, "" before the first. Always valid UTF-8; bytes of names that are not are
 * shown as U+FFFD. Valid until this thread's next failure. */
LCKV_API const char *lckv_last_error(void);

/* "0.1.0" */
LCKV_API const char *lckv_version(void);

/* The path of the file that lckv has mapped at `address`; NULL if none. Async-signal-safe. lckv maps weights and
 * tokenized corpora and reads them where they lie. If another program truncates such a file, the next access to the
 * part that is gone raises SIGBUS. The library installs no signal handlers: a program that wants to report the file
 * calls this function from its own SIGBUS handler with siginfo_t.si_addr, as `lckv` does. The string is valid until the
 * file is closed. */
LCKV_API const char *lckv_mapped_file_at(const void *address);

/* Levels of arrays and objects in JSON that lckv reads; more is LCKV_ERROR_FORMAT, so that reading needs little stack.
 */
#define LCKV_JSON_LEVELS 128

/* Checks that JSON text has at most that many levels; other errors are the parser's. A program that parses untrusted
 * JSON by a recursive parser calls it before. */
LCKV_API int lckv_check_json(const char *text, size_t bytes);

typedef enum lckv_log_level { LCKV_LOG_WARNING, LCKV_LOG_INFO, LCKV_LOG_DEBUG } lckv_log_level;
typedef void (*lckv_log_function)(void *user, lckv_log_level level, const char *message);

/* Sends messages of `level` and more urgent ones to `function` (NULL: to nobody, the default). For the whole process.
 */
LCKV_API void lckv_set_log(lckv_log_function function, void *user, lckv_log_level level);

/* Releases a string or array that a function handed out. */
LCKV_API void lckv_free(void *memory);

/* ---------------------------------------------------------------- configs */

/* A model's config.json: of type lckv-llama, llama, mistral, qwen2 or qwen3, as transformers 4 or 5 writes it. */
typedef struct model_config lckv_config;

typedef enum lckv_dtype { LCKV_FLOAT32, LCKV_BFLOAT16, LCKV_FLOAT16 } lckv_dtype;

/* The folder that people mean by `name`: itself, or the snapshot of ORG/NAME in the Hugging Face cache (HF_HUB_CACHE,
 * HF_HOME, the default folder). LCKV_ERROR_FILE: neither; the message prints the command that fetches it. Release
 * *folder with lckv_free(). */
LCKV_API int lckv_find_folder(const char *name, char **folder);

/* `name`: a folder with config.json, a .json file, or ORG/NAME in the Hugging Face cache (HF_HUB_CACHE, HF_HOME, the
 * default folder). `overrides`: "k=v,k=v" put over the file, NULL for none; a value is JSON where it parses as such,
 * else a string. A Llama or Mistral given layer_types as a string becomes an lckv-llama. The EOS tokens of a
 * generation_config.json beside the file count too. Errors quote the file, the key, and an entry of layer_types.
 *   LCKV_ERROR_FILE: no such file; for ORG/NAME the message prints the command that fetches it.
 *   LCKV_ERROR_FORMAT: a value is missing, of another type, or out of range.
 *   LCKV_ERROR_UNSUPPORTED: another model type, or a key that asks for a computation that lckv does not do. */
LCKV_API int lckv_config_load(const char *name, const char *overrides, lckv_config **out);
LCKV_API void lckv_config_free(lckv_config *config);

typedef struct lckv_config_info {
    const char *model_type; /* belongs to the config */
    int64_t hidden_size, intermediate_size, vocab_size;
    int64_t max_position_embeddings; /* most tokens of a sequence; dynamic RoPE scaling: `factor` times the file's */
    int layers, heads, kv_heads, head_dim;
    int kv_slots;                        /* layers that some layer's entry in layer_types names */
    int loops;                           /* ranges of layers that the plan runs several times */
    int forward_passes, backward_passes; /* how often: m without gradient, then b with it */
    int64_t sliding_window;              /* tokens, the current one included; 0: none */
    bool tie_word_embeddings;
    bool use_sequential; /* trained token by token, in the exact form */
    lckv_dtype dtype;    /* of the weights, as torch_dtype announces it */
    int64_t parameters;  /* K and V of slot owners alone; biases and head norms that the config announces; tied
                            embeddings once. A checkpoint may hold biases that no config announces. */
    int windowed_slots;  /* of kv_slots, those whose readers all have sliding windows: a cache keeps sliding_window - 1
                            tokens of them */
} lckv_config_info;

LCKV_API lckv_config_info lckv_config_describe(const lckv_config *config);

/* Bytes of K and V that one token leaves in the cache, all slots together:
 * kv_slots * 2 * kv_heads * head_dim values. */
LCKV_API int64_t lckv_config_kv_bytes_per_token(const lckv_config *config, lckv_dtype dtype);
/* The same if every layer kept its own. */
LCKV_API int64_t lckv_config_kv_bytes_per_token_unshared(const lckv_config *config, lckv_dtype dtype);

typedef enum lckv_picture { LCKV_PICTURE_TEXT, LCKV_PICTURE_SVG } lckv_picture;

/* The layer map: which layer reads whose keys and values, slots, windows and loops. Text is UTF-8 for a terminal, SVG
 * stands alone and suits light and dark pages. Release *text with lckv_free(). */
LCKV_API int lckv_config_picture(const lckv_config *config, lckv_picture kind, char **text);

/* The plan in words, a line for each range of layers. Release *text with lckv_free(). */
LCKV_API int lckv_config_plan_text(const lckv_config *config, char **text);
/* The plan step by step: [{"first": 0, "last": 0, "with_grad": true, "commit": true}, ...], both layers included, in
 * order. Release *text with lckv_free(). */
LCKV_API int lckv_config_plan_json(const lckv_config *config, char **text);

/* config.json with the overrides in it, unknown keys kept, as transformers and the published LCKV classes read it.
 * Release *text with lckv_free(). */
LCKV_API int lckv_config_json(const lckv_config *config, char **text);

/* layer_types in the one-string form, also where the file has a list or none. Release *text with lckv_free(). */
LCKV_API int lckv_config_layer_types(const lckv_config *config, char **text);

/* ---------------------------------------------------------------- devices */

/* What models are computed on. */
typedef struct device lckv_device;

/* `name`: "cpu"; "cuda" or "cuda:N", an NVIDIA GPU, the first or the one of that number; "auto", the first GPU, or the
 * CPU where there is none that can be used; "count", which computes nothing and adds up bytes and FLOPs. threads, for
 * the CPU: 0 for every processor that this process may use. Models made on a device must be freed before it is closed.
 *   LCKV_ERROR_ARGUMENT: another name.
 *   LCKV_ERROR_UNSUPPORTED: a GPU, and the library was built without CUDA.
 *   LCKV_ERROR_DEVICE: the GPU is absent, too old, or another process has it for itself. */
LCKV_API int lckv_device_open(const char *name, int threads, lckv_device **out);
LCKV_API void lckv_device_close(lckv_device *device);

typedef struct lckv_device_info {
    char name[32];                   /* "cpu", "cuda:0", "count" */
    int64_t free_bytes, total_bytes; /* of its memory, now */
    int64_t peak_bytes;              /* "count": the most that was taken at a time; others: 0 */
} lckv_device_info;

/* LCKV_ERROR_DEVICE: the device cannot be asked. */
LCKV_API int lckv_device_describe(lckv_device *device, lckv_device_info *out);

/* From now on what takes more memory of the device than `bytes` in all fails with LCKV_ERROR_MEMORY; 0: no limit. A CPU
 * promises memory that it has not, and what uses it is ended: so its memory is filled safely. Files that are mapped do
 * not count. LCKV_ERROR_UNSUPPORTED: a GPU, which says no by itself. */
LCKV_API int lckv_device_limit(lckv_device *device, int64_t bytes);

/* ---------------------------------------------------------------- models */

/* A config and weights on a device. */
typedef struct model lckv_model;

typedef struct lckv_model_options {
    const char *config_overrides; /* "k=v,k=v" put over config.json; NULL (default): none */
    const char *torch_dtype;      /* of the weights: "float32", "bfloat16", "float16"; "auto" (default): as stored */
    const char *adapter;          /* folder or ORG/NAME of a LoRA adapter in peft's layout, merged into the weights:
                                     W + scale B A in f32, then of the type; NULL (default): none */
} lckv_model_options;

LCKV_API lckv_model_options lckv_model_defaults(void);

/* Reads a Hugging Face folder: config.json with model.safetensors, or with shards and model.safetensors.index.json;
 * f32, bf16 or f16. `name`: a folder, or ORG/NAME in the Hugging Face cache. On the CPU, weights wanted as they are
 * stored are used in the mapped files, which other processes share. K and V tensors of layers that own no KV slot,
 * rotary_emb.inv_freq, and the lm_head.weight of tied embeddings are passed over; any other tensor must be the model's.
 * A folder that has an adapter and no model stands for the checkpoint that its adapter_config.json names, with it.
 * `options` NULL: the defaults. The device stays the caller's and must outlive the model.
 *   LCKV_ERROR_FILE: a file is absent, LCKV_ERROR_FORMAT: a tensor is missing, unknown, of another shape or dtype, or a
 *   file is not what it says: the message names file and tensor. LCKV_ERROR_UNSUPPORTED: a folder with
 * pytorch_model.bin only, or a config that lckv_config_load() refuses so. */
LCKV_API int lckv_model_open(lckv_device *device, const char *name, const lckv_model_options *options,
                             lckv_model **out);

/* Random weights, a function of the seed: matrices normal with the config's initializer_range, norms 1, biases 0, as
 * transformers begins. torch_dtype: "float32" (also NULL and "auto"), "bfloat16", "float16". The config is copied. */
LCKV_API int lckv_model_create(lckv_device *device, const lckv_config *config, const char *torch_dtype, uint64_t seed,
                               lckv_model **out);

typedef struct lckv_save_options {
    const char *torch_dtype;    /* on disk: "float32", "bfloat16", "float16"; "auto" (default): without loss */
    int64_t max_shard_bytes;    /* weights beyond so many bytes are divided over several files; 0 (default): 5e9 */
    const char *tokenizer_name; /* folder or ORG/NAME of the tokenizer files to put beside the weights; NULL (default):
                                   those of the folder that the model was read from, if any */
} lckv_save_options;

LCKV_API lckv_save_options lckv_save_defaults(void);

/* Writes a Hugging Face folder, which is created if absent: config.json (unknown keys kept), weights, tokenizer files,
 * generation_config.json and the *.py files that auto_map names. Everything is written beside its target and renamed
 * when all of it is on disk, so that a failure or crash leaves the old checkpoint, the new one, or none that loads.
 * `options` NULL: the defaults. */
LCKV_API int lckv_model_save(lckv_model *model, const char *folder, const lckv_save_options *options);

/* Belongs to the model. */
LCKV_API const lckv_config *lckv_model_config(const lckv_model *model);
/* Numbers in all weights, as the checkpoint has them (tied embeddings once). */
LCKV_API int64_t lckv_model_parameters(const lckv_model *model);
LCKV_API void lckv_model_free(lckv_model *model);

/* What the owner of a KV slot gets when a checkpoint is converted to another layer_types. */
typedef enum lckv_convert_kv {
    LCKV_KV_AVERAGE, /* the mean over the layers that attend to it */
    LCKV_KV_COPY     /* its own */
} lckv_convert_kv;

typedef struct lckv_convert_options {
    const char *model_name_or_path; /* the checkpoint: folder or ORG/NAME; required */
    const char *config_name;        /* the config to be: folder, .json file or ORG/NAME; NULL: the checkpoint's own */
    const char *adapter;            /* folder or ORG/NAME of a LoRA adapter, merged in first; NULL: none */
    const char *config_overrides;   /* "k=v,k=v" over it; NULL: none */
    const char *tokenizer_name;     /* folder or ORG/NAME of tokenizer files; NULL: the checkpoint's own */
    const char *output_dir;         /* folder to write; required */
    lckv_convert_kv kv;             /* average */
    const char *torch_dtype;        /* on disk; "auto": as the checkpoint has it */
    int64_t max_shard_bytes;        /* 0: 5e9 */
    bool (*go_on)(void *user, double fraction); /* called before each tensor with the part that is written, 0 to 1;
                                                   returns whether to go on. NULL: nobody is asked */
    void *user;
} lckv_convert_options;

LCKV_API lckv_convert_options lckv_convert_defaults(void);

/* Writes the checkpoint's weights as a model of another layer_types: K and V weights, biases and k_norm of each slot's
 * owner are merged as `kv` says (means in f64), everything else is copied. A layer of the checkpoint that owns no slot
 * counts with the K and V of the slot that it reads. One tensor at a time is in memory.
 *   LCKV_ERROR_ARGUMENT: the sizes of the two configs differ; the message names what. LCKV_ERROR_INTERRUPTED: go_on
 * said no; output_dir is as it was. Otherwise as lckv_model_open() and lckv_model_save(). */
LCKV_API int lckv_convert(const lckv_convert_options *options);

/* ---------------------------------------------------------------- tokenizers */

/* A Hugging Face tokenizer (tokenizer.json): byte-pair encoding, over bytes or over characters with byte fallback, or
 * Unigram (SentencePiece). Ids are those that the `tokenizers` library gives. What a file asks for that is not
 * supported is an error when it is opened. */
typedef struct lckv_tokenizer lckv_tokenizer;

/* `folder_or_file`: a folder with tokenizer.json, or such a file. tokenizer_config.json, special_tokens_map.json
 * and added_tokens.json beside it add tokens, name BOS and EOS and decide what stands around a text, as in transformers
 * (docs/file-formats.md, "Tokenizers"). LCKV_ERROR_FILE: absent; LCKV_ERROR_FORMAT: malformed; LCKV_ERROR_UNSUPPORTED:
 * names what it asks for, or how to convert a folder that has another kind of tokenizer (tokenizer.model). */
LCKV_API int lckv_tokenizer_open(const char *folder_or_file, lckv_tokenizer **out);
LCKV_API void lckv_tokenizer_free(lckv_tokenizer *tokenizer);

/* `text`: any bytes, NUL included; each ill-formed part of its UTF-8 counts as U+FFFD (as Python's errors="replace"
 * reads it). `add_special_tokens`: with what the tokenizer puts around a text, such as BOS. *ids [*count] is released
 * with lckv_free(), and NULL where there are none. */
LCKV_API int lckv_tokenizer_encode(lckv_tokenizer *tokenizer, const char *text, size_t bytes, bool add_special_tokens,
                                   int32_t **ids, size_t *count);
/* The same for texts that may have at most `most` tokens (0: any number): LCKV_ERROR_TOO_LONG as soon as it is certain
 * that there are more, without encoding the rest. */
LCKV_API int lckv_tokenizer_encode_at_most(lckv_tokenizer *tokenizer, const char *text, size_t bytes,
                                           bool add_special_tokens, size_t most, int32_t **ids, size_t *count);

/* *text is valid UTF-8 of *bytes bytes and a NUL behind them; bytes that make no character are U+FFFD. Release it with
 * lckv_free(). An id that no token has is LCKV_ERROR_ARGUMENT. */
LCKV_API int lckv_tokenizer_decode(lckv_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                   bool skip_special_tokens, char **text, size_t *bytes);

/* Bytes that a token adds to a text behind other tokens: with its leading space, and a token that is a part of a
 * character has the bytes of that part. Joined, they are the text. `at_start`: bytes at the start of a text, where many
 * tokenizers drop a space. *bytes [*count] has a NUL behind it and is released with lckv_free(). LCKV_ERROR_ARGUMENT:
 * no token has the id. */
LCKV_API int lckv_tokenizer_token_bytes(lckv_tokenizer *tokenizer, int32_t id, bool at_start, char **bytes,
                                        size_t *count);

/* The largest id + 1, added tokens included: the rows that a model's embedding must have. */
LCKV_API int32_t lckv_tokenizer_vocab_size(const lckv_tokenizer *tokenizer);

/* -1 where there is no such token. A token is written as in tokenizer.json ("\u0120the", "<0x0A>"). */
LCKV_API int32_t lckv_tokenizer_token_to_id(const lckv_tokenizer *tokenizer, const char *token);
/* NULL where no token has the id; else valid as long as the tokenizer. */
LCKV_API const char *lckv_tokenizer_id_to_token(const lckv_tokenizer *tokenizer, int32_t id);
/* Whether decoding leaves the token out when asked to skip special ones. */
LCKV_API bool lckv_tokenizer_is_special(const lckv_tokenizer *tokenizer, int32_t id);
/* Of tokenizer_config.json; -1 where it names none. */
LCKV_API int32_t lckv_tokenizer_bos_id(const lckv_tokenizer *tokenizer);
LCKV_API int32_t lckv_tokenizer_eos_id(const lckv_tokenizer *tokenizer);

/* Decoding as ids come: whole characters only, and in the end the same text as decoding all ids at once. What can still
 * change waits (a character whose bytes are not all there, a row of byte tokens). A stream counts as a use of its
 * tokenizer, which must outlive it: both belong to one thread at a time. */
typedef struct lckv_decode_stream lckv_decode_stream;

LCKV_API int lckv_decode_stream_open(lckv_tokenizer *tokenizer, bool skip_special_tokens, lckv_decode_stream **out);
/* *text (*bytes, and a NUL) is what this id makes certain, often "". It belongs to the stream, until its next call. */
LCKV_API int lckv_decode_stream_push(lckv_decode_stream *stream, int32_t id, const char **text, size_t *bytes);
/* The rest of the text. The stream is then ready for another. */
LCKV_API int lckv_decode_stream_finish(lckv_decode_stream *stream, const char **text, size_t *bytes);
LCKV_API void lckv_decode_stream_free(lckv_decode_stream *stream);

/* ---------------------------------------------------------------- chat templates */

/* How a checkpoint wants a conversation as text: the Jinja template in its tokenizer files, read and rendered as
 * transformers' apply_chat_template does. It is not trusted: it cannot run without end or take all memory. */
typedef struct lckv_chat_template lckv_chat_template;

/* `folder`: a folder with tokenizer files. Its template is FOLDER/chat_template.jinja, else `chat_template` of
 * tokenizer_config.json: one, or a list of named ones, of which `default` is taken, and `tool_use` where there are
 * tools. `chat_template`: a file with a template to take instead; NULL: none. `folder` may then be NULL too: no special
 * tokens are known. *out is NULL, and that is no error, where there is no template.
 *   LCKV_ERROR_FILE, LCKV_ERROR_FORMAT: a file is absent or malformed, with file and line; LCKV_ERROR_UNSUPPORTED: the
 * template has a statement that chat templates do not have. */
LCKV_API int lckv_chat_template_open(const char *folder, const char *chat_template, lckv_chat_template **out);
LCKV_API void lckv_chat_template_free(lckv_chat_template *chat_template);

/* The template's text, as it stands in its file: the default one. Belongs to the handle. */
LCKV_API const char *lckv_chat_template_source(const lckv_chat_template *chat_template);

/* JSON text is what transformers takes as Python objects. */
typedef struct lckv_chat {
    const char *messages;         /* [{"role": "user", "content": "..."}, ...]; required */
    const char *tools;            /* a list of JSON schemas; NULL (default): none */
    const char *documents;        /* a list of objects; NULL (default): none */
    const char *variables;        /* an object: more names for the template, such as {"enable_thinking": false}; they go
                                     before the tokenizer's special tokens. NULL (default): none */
    bool add_generation_prompt;   /* ends in what begins an answer; false */
    bool continue_final_message;  /* ends inside of the last message, for its text to be gone on with; false */
    bool return_assistant_tokens; /* asks for `assistant` below, which the template must mark; false */
    int64_t now;                  /* what strftime_now() tells, in seconds since 1970, shown in local time; 0 (default):
                                     the clock */
} lckv_chat;

LCKV_API lckv_chat lckv_chat_defaults(void);

/* Bytes [first, end) of a text. */
typedef struct lckv_text_span {
    size_t first, end;
} lckv_text_span;

typedef struct lckv_chat_text {
    char *text; /* to be encoded without special tokens: they stand in it. NUL behind its `bytes` */
    size_t bytes;
    lckv_text_span *assistant; /* [assistant_count] what {% generation %} blocks rendered, in order; NULL without */
    int assistant_count;
} lckv_chat_text;

/* The conversation as text. `out` is released with lckv_chat_text_free().
 *   LCKV_ERROR_ARGUMENT: the JSON is not what it should be; or the template refuses the conversation, and the message
 * ends in its own words. LCKV_ERROR_FORMAT: a mistake shows in the template; LCKV_ERROR_UNSUPPORTED: it has a filter or
 * test that is not supported. These name the line. LCKV_ERROR_UNSUPPORTED too where assistant tokens are asked for and
 * the template marks none. */
LCKV_API int lckv_chat_template_render(const lckv_chat_template *chat_template, const lckv_chat *chat,
                                       lckv_chat_text *out);
LCKV_API void lckv_chat_text_free(lckv_chat_text *text);

/* ---------------------------------------------------------------- fetching from a hub */

/* How far lckv_fetch() has come. Pointers are valid during the call. */
typedef struct lckv_fetch_progress {
    const char *file;           /* the file being brought, or waited for while another process brings it */
    int64_t file_index, files;  /* file_index from 0 */
    int64_t bytes, total_bytes; /* of all files; what was there already counts as brought */
    int64_t received_bytes;     /* over the network in this call */
    double seconds;             /* since the first file was begun */
} lckv_fetch_progress;

/* Returns whether to go on. Called at least once a file, and about once a second. */
typedef bool (*lckv_fetch_callback)(void *user, const lckv_fetch_progress *progress);

typedef struct lckv_fetch_options {
    const char *name;     /* ORG/NAME */
    bool dataset;         /* a data set, not a model */
    const char *revision; /* branch, tag or commit; default "main" */
    const char *const *include, *const
                                    *exclude; /* patterns of paths, as the shell has them, where * takes / too: what */
    int include_count, exclude_count;         /* matches one of `include` (none: all) and none of `exclude` */
    int retries;                              /* how often a lost connection is tried again without a byte's progress;
                                               * default 5, waiting 0.2, 0.8, 3.2, 12.8, 30 seconds */
    lckv_fetch_callback callback;             /* NULL: none */
    void *user;
} lckv_fetch_options;

typedef struct lckv_fetch_result {
    char *folder;           /* the snapshot; release with lckv_free() */
    char commit[41];        /* what the revision is, 40 hexadecimal digits */
    int64_t files, bytes;   /* of the snapshot, as far as asked for */
    int64_t received_bytes; /* over the network */
} lckv_fetch_result;

LCKV_API lckv_fetch_options lckv_fetch_defaults(void);

/* Brings a model or data set into the Hugging Face cache (HF_HUB_CACHE, HF_HOME, the default folder) in the layout of
 * huggingface_hub, from HF_ENDPOINT (https://huggingface.co) and with the token of HF_TOKEN or of the file that
 * huggingface-cli login writes. The token goes to no other host. What is there already is not fetched again; a file
 * begun is gone on with (BLOB.incomplete), also by huggingface_hub. Each file is checked: against its SHA-256 where the
 * hub keeps it as a large file, else against git's SHA-1; the reference of the revision is written once all files are
 * there. Two processes may fetch the same at once. LCKV_ERROR_ARGUMENT: `name` or `revision` is none. LCKV_ERROR_FILE:
 * no such repository, revision or permission, the network failed, or the disk is full; the message says which.
 * LCKV_ERROR_FORMAT: the hub's answer is not what it should be, or a file has another checksum (what was brought of it
 * is removed). LCKV_ERROR_UNSUPPORTED: built without libcurl. LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_fetch(const lckv_fetch_options *options, lckv_fetch_result *result);

/* ---------------------------------------------------------------- training */

typedef enum lckv_schedule_type {
    LCKV_SCHEDULE_LINEAR,               /* falls to 0 at the end of the run */
    LCKV_SCHEDULE_COSINE,               /* the same, along half a cosine */
    LCKV_SCHEDULE_CONSTANT,             /* without warming up */
    LCKV_SCHEDULE_CONSTANT_WITH_WARMUP, /* rises from 0, then stays */
    LCKV_SCHEDULE_COSINE_WITH_MIN_LR,   /* as cosine, but to min_lr_rate of the highest */
    LCKV_SCHEDULE_WARMUP_STABLE_DECAY   /* rises, stays, and in the last num_decay_steps falls as the one above */
} lckv_schedule_type;

typedef enum lckv_interval_strategy {
    LCKV_INTERVAL_NO,
    LCKV_INTERVAL_STEPS, /* every so many steps */
    LCKV_INTERVAL_EPOCH  /* at the end of each epoch, and of the run */
} lckv_interval_strategy;

typedef enum lckv_train_phase {
    LCKV_TRAIN_READING,    /* documents are read, encoded and cut into blocks */
    LCKV_TRAIN_STEPPING,   /* a step has ended */
    LCKV_TRAIN_EVALUATING, /* the validation blocks are run through */
    LCKV_TRAIN_EVALUATED   /* they have been: see `evaluation` */
} lckv_train_phase;

/* What running through the validation blocks has found. */
typedef struct lckv_evaluation {
    double loss;       /* mean over their labels, in nats */
    double perplexity; /* exp(loss) */
    double accuracy;   /* the share of labels that have the largest logit (the first of equals), 0 to 1 */
    int64_t blocks;
    double seconds; /* that it took */
} lckv_evaluation;

typedef struct lckv_train_progress {
    lckv_train_phase phase;
    double fraction;          /* of the phase that is done, 0 to 1 */
    int64_t step, steps;      /* steps done and in all; what follows is set while stepping */
    double loss;              /* of this step: mean over its labels, in nats */
    double mean_loss;         /* mean of the losses since the last logged step, this one included, skipped ones not */
    double grad_norm;         /* of this step, before clipping */
    double learning_rate;     /* that this step used */
    double tokens_per_second; /* since the last logged step */
    double seconds, seconds_left;
    bool skipped;               /* loss or gradient were not finite, or above skip_grad_norm: no weight has changed */
    bool logged;                /* this step has its line in train_log.jsonl */
    lckv_evaluation evaluation; /* in the phase of its name alone */
} lckv_train_progress;

/* Called many times a second at most, on the trainer's thread. Returns whether to go on; where the device works on its
 * own (a GPU), the next step has begun by then, and is done and counted still. */
typedef bool (*lckv_train_callback)(void *user, const lckv_train_progress *progress);

/* Processes that train one model together, on one machine or several: those that mpirun or Slurm started
 * (docs/processes.md). They make the same calls with the same options. Each gets its share of a step's blocks and keeps
 * its part of the optimizer's state; the process of rank 0 alone writes files. */
typedef struct exchange lckv_processes;

/* Joins the processes that this one was started with, or stands for it alone where it was started by itself. Once in
 * the life of a process, where there are several.
 *   LCKV_ERROR_UNSUPPORTED: there are several, and this lckv was built without MPI. LCKV_ERROR_DEVICE: MPI failed. */
LCKV_API int lckv_processes_open(lckv_processes **out);
LCKV_API int lckv_processes_rank(const lckv_processes *processes); /* 0 .. count - 1 */
LCKV_API int lckv_processes_count(const lckv_processes *processes);
/* Waits until all processes come here. After it a process may end as it likes, before it only with all others. */
LCKV_API void lckv_processes_close(lckv_processes *processes);

/* What an id in a .bin file is, little-endian. */
typedef enum lckv_ids_dtype { LCKV_IDS_UINT16, LCKV_IDS_UINT32 } lckv_ids_dtype;

/* LoRA (Hu et al. 2021): each chosen matrix W of a layer stays as it is and gets two of low rank that are learned,
 * y = x W^T + alpha / r (dropout(x) A^T) B^T. Names are peft's, defaults trl's (ModelConfig) but for dropout. */
typedef struct lckv_lora {
    int64_t r;    /* the rank; 16 */
    double alpha; /* 32 */
    /* Probability, from 0 to below 1, with which each element of x is dropped before A in training (trl's default is
     * 0.05); others are multiplied by 1 / (1 - dropout). A function of the seed and the step; 0 (default): none. */
    double dropout;
    /* Of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or all-linear; NULL (default): q_proj and
     * v_proj. Of k_proj and v_proj there are those of layers with a KV slot. */
    const char *const *target_modules;
    int target_module_count;
} lckv_lora;

/* What of a row with prompt and completion is learned. */
typedef enum lckv_completion_loss {
    LCKV_COMPLETION_LOSS_AUTO, /* the completion, as YES: the default of trl too */
    LCKV_COMPLETION_LOSS_YES,
    LCKV_COMPLETION_LOSS_NO /* both */
} lckv_completion_loss;

/* Instruction tuning as trl's SFTTrainer (0.24) does it: rows are messages, prompt and completion, text, or Alpaca's
 * fields, each an example of its own. Names are those of SFTConfig where it has them. */
typedef struct lckv_tuning {
    const char *chat_template;      /* file with a template to use instead of the tokenizer's; NULL (default): that */
    const char *dataset_text_field; /* the field with the text; "text" */
    bool packing;                   /* several rows an example, each seeing itself alone; false */
    bool drop_long;                 /* rows of more than block_size tokens are left out; false: cut at their end */
    bool assistant_only_loss;       /* of conversations, what the template marks with {% generation %}; false: all */
    lckv_completion_loss completion_only_loss; /* auto */
} lckv_tuning;

LCKV_API lckv_tuning lckv_tuning_defaults(void);

/* Names and defaults are those of TrainingArguments 4.45 and run_clm.py. */
typedef struct lckv_train_options {
    const char *model_name_or_path; /* weights to go on from: folder or ORG/NAME. Or: */
    const char *config_name;        /* fresh weights of this config (folder, .json file, ORG/NAME), random by `seed`.
                                     * Both: those weights as lckv_convert() makes them into a model of this config */
    lckv_convert_kv kv;             /* then: what the owner of a KV slot gets; the mean */
    const char *config_overrides;   /* "k=v,k=v" over either one's config; NULL: none */
    bool use_sequential;            /* token by token, exactly, as the config's use_sequential; false: as that says */
    /* Learn an adapter beside the weights of model_name_or_path, which stay as they are: it is written in peft's layout
     * instead of a model, without f32 masters or moments of anything else. false */
    bool use_peft;
    lckv_lora lora;
    const char *tokenizer_name; /* NULL: the model's own. Needed where there is text */
    /* Files, folders (all data in them), and patterns such as a/b-*.jsonl: text, JSON, CSV or ids, plain or compressed,
     * see docs/data.md; one corpus in this order. Or each NAME:WEIGHT: corpora of their own, a weight (divided by their
     * sum) being the share of an epoch's blocks; an epoch ends where the first of them does. Or: */
    const char *const *train_files;
    const char *dataset_name; /* a file, a folder, or ORG/NAME in the Hugging Face cache, with files for training and
                               * for validation, which count where train_files and validation_files name none */
    const char *dataset_config_name; /* only those files of it that have this word in their path; NULL: all */
    int train_file_count;
    const char *const *validation_files; /* the same; evaluated when training ends */
    int validation_file_count;
    const char *output_dir; /* where model, tokenizer, checkpoints and the files of docs/watching.md are written; made
                             * if absent */
    bool overwrite_output_dir; /* true: begin anew in one that has files in it. Checkpoints in it are removed when the
                                * first one of this run stands */
    /* Instruction tuning; NULL (default): documents are joined and cut into blocks. With it block_size is the longest
     * row, max_train_samples and max_eval_samples count rows, and what is below until block_size does not count. The
     * checkpoint that is written has the chat template. */
    const lckv_tuning *tuning;
    bool do_train, do_eval; /* true: train; run through the validation data, if there is any, at the end too */

    /* What documents are, and which blocks they make: docs/data.md. */
    bool keep_linebreaks;              /* true: a line of a text file is encoded with its break */
    const char *text_column;           /* field of JSON rows, column of CSV; NULL: `input_ids` or `text`; of CSV `text`,
                                        * else the first one */
    lckv_ids_dtype ids_dtype;          /* of .bin files; uint16 */
    bool append_eos;                   /* false; true: EOS behind each text, where the tokenizer puts none */
    const char *token_cache_dir;       /* where encoded data is kept, so that the next run finds it; NULL: lckv-ids in
                                        * HF_HOME or ~/.cache/huggingface */
    bool overwrite_cache;              /* true: encode anew what is kept; false */
    int64_t preprocessing_num_workers; /* threads that encode; 0 (default): all processors, at most 16 */
    bool group_all;                    /* false: each thousand documents is cut into blocks on its own and what is
                                        * left is dropped; true: they are cut together */
    bool document_mask;                /* true: attention and positions stay within documents, and the last token of
                                        * each predicts nothing; false */
    int64_t max_train_samples;         /* blocks, the first ones; 0 (default): all */
    int64_t max_eval_samples;          /* the same of the validation data */
    int64_t validation_split_percentage; /* without validation files, so many percent of the training documents, the
                                          * first ones, are validation data instead; 0 (default): none */
    int64_t block_size;                  /* tokens; 0 (default): max_position_embeddings, at most 1024 */
    int64_t per_device_train_batch_size; /* blocks run at a time; 8 */
    bool auto_find_batch_size; /* as many blocks at a time as fit, while those of a step (the two numbers multiplied)
                                * stay; one process alone. false: a run that does not fit is refused */
    int64_t memory_limit;      /* bytes of the device that may be used; 0 (default): those that are free now */
    int64_t per_device_eval_batch_size;  /* the same when evaluating; 8 */
    int64_t gradient_accumulation_steps; /* such batches a step; 1 */
    double num_train_epochs;             /* 3; not used where there is: */
    int64_t max_steps;                   /* -1 */
    bool shuffle;                        /* true: a new order each epoch, a function of `seed` */
    int64_t seed;                        /* 42 */

    lckv_schedule_type lr_scheduler_type;        /* linear */
    double learning_rate;                        /* the highest; 5e-5 */
    int64_t warmup_steps;                        /* 0; not used where 0: */
    double warmup_ratio;                         /* of all steps, 0 to 1; 0 */
    double min_lr_rate;                          /* of the two schedules that have it, 0 to 1; 0 */
    int64_t num_decay_steps;                     /* of warmup_stable_decay; 0: a tenth of all steps, rounded up */
    double weight_decay;                         /* of matrices alone; 0 */
    double adam_beta1, adam_beta2, adam_epsilon; /* 0.9, 0.999, 1e-8 */
    double max_grad_norm;                        /* 1; 0: gradients are not clipped */

    bool bf16; /* products and attention in bfloat16, master weights in f32; false: all in f32 */
    /* Of the weights. "bfloat16", with bf16: weights and moments in bfloat16, stochastically rounded by `seed`, which
     * takes 6 bytes a parameter instead of 14, and 4 for its gradient; checkpoints are bfloat16 too. NULL (default),
     * "auto" and "float32": in f32. */
    const char *torch_dtype;
    bool gradient_checkpointing; /* layers keep their inputs alone and are computed again in the backward pass: the same
                                  * bits with less memory and more time. Not with use_sequential. false */
    int64_t logging_steps;       /* 500: each such step and the last one get a line in train_log.jsonl */

    /* Training checkpoints, OUTPUT_DIR/checkpoint-STEP. The last step gets one too, unless there are none. */
    lckv_interval_strategy save_strategy; /* steps */
    double save_steps;                    /* 500; below 1: that share of all steps */
    int64_t save_total_limit;             /* 0: all are kept, else so many of the newest, and the best */
    /* NULL: the newest good one in output_dir, if there is one. "True": the same, and it must be there. Else a folder.
     */
    const char *resume_from_checkpoint;

    lckv_interval_strategy eval_strategy; /* no: at the end alone */
    double eval_steps;                    /* below 1: that share of all steps; 0: logging_steps */
    bool load_best_model_at_end;          /* the model written is the checkpoint with the lowest loss in evaluation */
    int64_t early_stopping_patience;      /* evaluations in a row without a better one, then the run ends; 0: never */

    int64_t max_skipped_steps; /* steps whose loss or gradient is not finite; one more ends the run. 0 */
    double skip_grad_norm;     /* a step with a longer gradient is skipped; 0: none is */

    const char *device; /* as in lckv_device_open(); "auto" */
    int threads;        /* 0: all processors that this process may use */
    /* Those that train together, which outlive the trainer; NULL (default): this process alone. The batch sizes above
     * are each one's: a step has as many blocks from each of them. */
    lckv_processes *processes;

    bool tensorboard;        /* event files for TensorBoard in logging_dir */
    const char *logging_dir; /* NULL: OUTPUT_DIR/runs */
    const char *run_name;    /* a folder in logging_dir, which several runs may share; NULL: logging_dir itself */
    const char *command;     /* that asked for it, as one would type it: for training_args.json; NULL: unknown */

    lckv_train_callback callback; /* NULL: nobody is told and nothing interrupts */
    void *user;
} lckv_train_options;

LCKV_API lckv_train_options lckv_train_defaults(void);

/* What a trainer is about to do. */
typedef struct lckv_train_summary {
    int64_t parameters;                                  /* an adapter's included */
    int64_t trainable_parameters;                        /* all of them, or the adapter's alone */
    int64_t block_size, train_blocks, validation_blocks; /* run_clm.py's grouping, see data/blocks.h */
    int64_t train_tokens;                                /* of the training documents, dropped ones included */
    int64_t steps_per_epoch;                             /* the last step of an epoch takes what is left of it */
    int64_t steps;
    int64_t first_step;     /* that have been done before: the checkpoint's that this run goes on from */
    double flops_per_token; /* that training needs, forward and backward, all passes of loops included */
} lckv_train_summary;

typedef struct lckv_train_result {
    int64_t steps, tokens;         /* done, before this process too */
    int64_t skipped_steps;         /* of these, those whose loss or gradient was not finite */
    int64_t new_steps, new_tokens; /* of steps and tokens, done by this process; 0 where nothing was left to do */
    double seconds;                /* of training in this process; 0 without new steps */
    double tokens_per_second;      /* of this process; NAN without new steps */
    double train_loss;             /* mean over the steps that were not skipped, before this process too */
    double eval_loss;              /* mean over the labels of the validation data, NAN without */
    double perplexity;             /* exp(eval_loss) */
    double eval_accuracy;          /* the share of those labels that the model would have chosen, 0 to 1; NAN without */
} lckv_train_result;

/* Encoded data that is kept for training. */
typedef struct lckv_tokenized {
    int64_t documents, tokens;
    char *path; /* of the file that keeps it, in token_cache_dir; release with lckv_free() */
} lckv_tokenized;

/* Encodes train_files as lckv_trainer_create() would, where they are not kept already, and trains nothing. Of the
 * options count tokenizer_name (needed where there is text), those that say what documents are, token_cache_dir,
 * overwrite_cache, preprocessing_num_workers, and the callback. */
LCKV_API int lckv_tokenize(const lckv_train_options *options, lckv_tokenized *out);

typedef struct lckv_trainer lckv_trainer;

/* Checks the options, reads the data, and loads or makes the model. Where the tokenizer has more tokens than the model
 * has rows, rows are added, drawn with the config's initializer range, which is logged. Where output_dir has
 * checkpoints (and overwrite_output_dir is not asked for), the run goes on from the newest one that is whole; damaged
 * ones are named in warnings. One run at a time writes into a folder; nothing but its run.lock is written yet.
 * LCKV_ERROR_MEMORY before anything is read where the run would not fit, by what the counting device says of it;
 * LCKV_ERROR_ARGUMENT where output_dir has files but no checkpoint; LCKV_ERROR_FORMAT where all of them are damaged, or
 * the one that was asked for is; LCKV_ERROR_INTERRUPTED when the callback asked to stop. */
LCKV_API int lckv_trainer_create(const lckv_train_options *options, lckv_trainer **out);
LCKV_API lckv_train_summary lckv_trainer_summary(const lckv_trainer *trainer);

/* FLOP/s of plain matrix products of the type that the trainer computes in, on its device, times the processes: what
 * its speed can be compared with. Measured, in a fraction of a second; on the trainer's thread, while it does not run.
 */
LCKV_API int lckv_trainer_peak(lckv_trainer *trainer, double *flops_per_second);
/* Bytes: what this process has in memory, or on a GPU what is taken there by all. 0: unknown. */
LCKV_API int64_t lckv_trainer_memory(const lckv_trainer *trainer);

/* Trains, evaluates, and writes the model to output_dir as a Hugging Face folder; once a trainer. AdamW; a step's loss
 * is the sum over all its labels divided by their number, accumulated batches included. A run that goes on from a
 * checkpoint ends with the bytes of one that never stopped, at the same threads, processor features and options; where
 * these differ, a warning says so. A checkpoint that cannot be written (a full disk) is a warning too, and the run goes
 * on. LCKV_ERROR_INTERRUPTED: the callback asked to stop; a checkpoint has been written, *result says how far the run
 * came. LCKV_ERROR_NUMERIC: more losses or gradients than max_skipped_steps are not finite; the message names the step
 * and the last checkpoint, and a model that output_dir had stays. `result` may be NULL. */
LCKV_API int lckv_trainer_run(lckv_trainer *trainer, lckv_train_result *result);
LCKV_API void lckv_trainer_free(lckv_trainer *trainer);

/* ---------------------------------------------------------------- generating */

/* How given tokens enter a model with loops; without loops all of these compute the same. */
typedef enum lckv_encoding {
    LCKV_ENCODING_AUTO,      /* up to forward_passes + backward_passes tokens one at a time, more by the plan */
    LCKV_ENCODING_PLAN,      /* all at once, by the plan: the form that the model was trained in */
    LCKV_ENCODING_SEQUENTIAL /* one at a time: the exact form */
} lckv_encoding;

typedef enum lckv_finish {
    LCKV_FINISH_NONE,   /* it runs */
    LCKV_FINISH_STOP,   /* an EOS token, or a stop string in the text */
    LCKV_FINISH_LENGTH, /* as long as was asked for, or as the model goes (max_position_embeddings) */
    LCKV_FINISH_ERROR   /* its logits are not numbers: there is no token */
} lckv_finish;

/* 1 to INT32_MAX ids of the model; lckv_tokenizer_encode() makes them. */
typedef struct lckv_prompt {
    const int32_t *ids;
    int64_t count;
} lckv_prompt;

/* A new token of one sequence. Its fields are valid until the callback returns. */
typedef struct lckv_token {
    int prompt, sample; /* which sequence: sample 0 .. num_return_sequences - 1 of prompt 0 .. count - 1 */
    int32_t id;
    double logprob;   /* natural logarithm of its probability under the plain logits: before penalty and temperature */
    const char *text; /* what can be said after it: whole UTF-8 characters that continue the prompt's text, often "";
                         text that may become a stop string waits. Always "" without a tokenizer */
    size_t text_bytes;
    lckv_finish finish; /* not LCKV_FINISH_NONE: its sequence's last token */
} lckv_token;

/* Called for each new token, and with NULL after each step that brought none (prompts are being read). Returns whether
 * to go on. */
typedef bool (*lckv_token_callback)(void *user, const lckv_token *token);

/* Names and defaults are those of run_generation.py where it has them. */
typedef struct lckv_generate_options {
    int64_t length;            /* new tokens at most; 20 */
    double temperature;        /* 0: greedy, the most probable token always; 1 */
    int64_t top_k;             /* the k most probable tokens alone; 0 (default): all */
    double top_p;              /* the fewest tokens whose probabilities come to p; 1: all; 0.9 */
    double min_p;              /* tokens at least min_p times as probable as the first; 0 (default): all */
    double repetition_penalty; /* above 1: ids that occurred are less likely (Keskar et al. 2019); 1: none */
    uint64_t seed;             /* 42. Sample i of prompt j is the same in whatever company it is made */
    int num_return_sequences;  /* samples a prompt; 1 */
    bool ignore_eos;           /* go on behind EOS tokens (of config.json and generation_config.json); false */
    const char *const *stop;   /* [stop_count] strings that end a text, which is cut before them; needs a tokenizer */
    int stop_count;            /* 0 */

    lckv_encoding encoding;    /* auto */
    int encoding_runs;         /* as in lckv_engine_options; 0 */
    double encoding_tolerance; /* 0 */
    int64_t window_length;     /* > 0: the sink cache (StreamingLLM): so many tokens are kept, and there is no limit of
                                  length; 0 (default): all are kept */
    int64_t num_sink_tokens;   /* of which so many are the first ones; less than window_length */
    bool bf16;                 /* products, attention and KV cache in bfloat16; false: f32 */

    lckv_token_callback callback; /* NULL: nobody is told and nothing interrupts */
    void *user;
} lckv_generate_options;

LCKV_API lckv_generate_options lckv_generate_defaults(void);

typedef struct lckv_sequence {
    int prompt, sample;
    int32_t *ids; /* [count] the new tokens alone, an ending EOS included */
    int64_t count;
    char *text; /* what `ids` decode to by themselves, special tokens left out, cut before a stop string; NUL behind its
                   text_bytes. NULL without a tokenizer */
    size_t text_bytes;
    lckv_finish finish;
} lckv_sequence;

typedef struct lckv_generation {
    lckv_sequence *sequences; /* by prompt, then sample */
    int count;
    int64_t prompt_tokens, decode_tokens;  /* tokens read, and tokens made in steps that read no prompt */
    double prompt_seconds, decode_seconds; /* time of the steps that read prompts, and of the others */
    double decode_bytes;                   /* of weights that the others read: each weight once a step */
} lckv_generation;

/* Continues `count` prompts, all together. The cache holds prompt and new tokens; without a sink cache a sequence ends
 * at the model's max_position_embeddings, which is logged as a warning when it is foreseen. With one, the first window
 * of a prompt is encoded as usual and the rest of it token by token. `tokenizer` may be NULL: there is no text then.
 *   LCKV_ERROR_ARGUMENT: an option or id is out of range, a prompt fills all positions of the model, or the tokenizer
 * has more tokens than the model. LCKV_ERROR_NUMERIC: logits are not numbers. LCKV_ERROR_INTERRUPTED: the callback
 * asked to stop. Release *out with lckv_generation_free(). */
LCKV_API int lckv_generate(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_prompt *prompts, int count,
                           const lckv_generate_options *options, lckv_generation **out);
LCKV_API void lckv_generation_free(lckv_generation *generation);

/* ---------------------------------------------------------------- many requests at once */

/* Runs many requests together over one model: requests come and go between steps, and each gets what it would get
 * alone. One thread owns an engine, its model, and the tokenizer while the engine uses it. */
typedef struct lckv_engine lckv_engine;

typedef struct lckv_logprob {
    int32_t id;
    float logprob; /* natural logarithm of its probability under the plain logits */
} lckv_logprob;

/* Something that a sample of a request got. Pointers are valid until the callback returns. */
typedef struct lckv_event {
    uint64_t request; /* as lckv_engine_submit() numbered it */
    void *mark;       /* the request's own */
    int sample;       /* 0 .. n - 1 */
    bool of_prompt;   /* with prompt_logprobs, before anything else: the prompt's tokens in order, from the second on,
                         told to sample 0 alone; text is "" and new_tokens 0 */
    int32_t token;    /* the new token; -1: none came, the sample only ended */
    double logprob;   /* natural logarithm of its probability under the plain logits; NAN without a token */
    const lckv_logprob *top; /* [top_count] the most probable tokens at its place, the first one first; where the token
                                is among them it has the same logprob there */
    int top_count;           /* top_logprobs; 0 without a token */
    const char *text; /* what can be said after it: whole UTF-8 characters that continue the prompt's text, often "";
                         text that may become a stop string waits, and a stop string is cut off. "" without a
                         tokenizer */
    size_t text_bytes;
    lckv_finish finish; /* not LCKV_FINISH_NONE: this sample's last event */
    int64_t new_tokens; /* of this sample so far, this one included */
    int64_t prompt_tokens;
    int64_t cached_tokens; /* of them, those that had been read before: by an earlier prompt, or for another sample */
} lckv_event;

/* Called for each event, within lckv_engine_step(). It must not call the engine. */
typedef void (*lckv_event_callback)(void *user, const lckv_event *event);

typedef struct lckv_engine_options {
    int max_num_seqs;      /* samples that run together; 64 */
    int64_t max_model_len; /* tokens of a sample, prompt included; 0 (default): the model's max_position_embeddings, or
                              fewer where the KV cache is too small for one sample of so many. No limit with a sink
                              cache */
    int64_t kv_cache_memory; /* bytes of device memory for the KV cache, taken at once; 0 (default): what max_num_seqs
                                samples of max_model_len tokens need, at most half of what is free */
    int64_t
        max_num_batched_tokens; /* pieces of prompts enter a step until they have so many tokens, one always; 2048 */
    int64_t prompt_piece; /* tokens: a prompt is read in pieces that end at multiples of this, counted from its start.
                             In  models with loops the result depends on it; it depends on nothing else. 64 */
    int encoding_runs;    /* of each loop, for a piece of a prompt that is encoded by the plan; 0 (default): the model's
                             forward_passes + backward_passes. Fewer are faster and less exact: docs/serving.md */
    double encoding_tolerance; /* a piece's runs end early once its keys and values move less than this part of their
                                  length; 0 (default): never */
    bool batch_invariant;      /* a sample is the same to the bit alone and in any company, which takes slower products;
                                  false:  to rounding. CPU alone */
    int max_queue;             /* requests that may wait; 1024 */
    int64_t window_length;     /* > 0: the sink cache (StreamingLLM): so many tokens are kept; 0 (default): all */
    int64_t num_sink_tokens;   /* of which so many are the first ones; less than window_length */
    bool bf16;                 /* products, attention and KV cache in bfloat16; false: f32 */
    lckv_event_callback callback; /* NULL: nobody is told */
    void *user;
} lckv_engine_options;

LCKV_API lckv_engine_options lckv_engine_defaults(void);

/* Model and tokenizer stay the caller's and must outlive the engine. `tokenizer` may be NULL: there is no text then.
 *   LCKV_ERROR_ARGUMENT: an option is out of range, or the tokenizer has more tokens than the model.
 *   LCKV_ERROR_MEMORY: no memory for the KV cache, or it is too small for a sample of max_model_len tokens. */
LCKV_API int lckv_engine_create(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_engine_options *options,
                                lckv_engine **out);
LCKV_API void lckv_engine_free(lckv_engine *engine); /* whatever runs ends untold */

typedef struct lckv_request {
    lckv_prompt prompt;
    int n;                     /* samples; 1. At most max_num_seqs */
    int64_t max_new_tokens;    /* of each; -1 (default): as many as max_model_len leaves; 0: the prompt is only read */
    double temperature;        /* 0: greedy, the most probable token always; 1 */
    int64_t top_k;             /* the k most probable tokens alone; 0 (default): all */
    double top_p;              /* the fewest tokens whose probabilities come to p; 1 (default): all */
    double min_p;              /* tokens at least min_p times as probable as the first; 0 (default): all */
    double repetition_penalty; /* above 1: ids that occurred, in the prompt too, are less likely; 1: none */
    double presence_penalty;   /* off the logits of tokens that the sample has so far, its prompt not counted; 0 */
    double frequency_penalty;  /* the same each time that they came; 0 */
    const int32_t *bias_ids;   /* [bias_count] tokens to whose logits bias_values are added, before all else */
    const float *bias_values;  /* finite */
    int bias_count;            /* 0 */
    int top_logprobs;          /* told of each token, the most probable ones; 0 (default) to 100 */
    bool prompt_logprobs;      /* also tell of the prompt's tokens; false. In models with loops such a prompt is read in
                                  one piece, as by lckv_score() */
    uint64_t seed, stream;   /* of the random numbers: a sample is a function of these, its number, prompt and options;
                                0, 0 */
    bool ignore_eos;         /* go on behind EOS tokens (of config.json and generation_config.json); false */
    const char *const *stop; /* [stop_count] strings that end a text, which is cut before them; need a tokenizer */
    int stop_count;          /* 0 */
    lckv_encoding encoding;  /* of the prompt; auto. Plan: in one piece */
    void *mark;              /* handed out with each event, for whoever asked to know it by; NULL */
} lckv_request;

LCKV_API lckv_request lckv_request_defaults(void);

/* Queues a request, numbered from 1 on. It starts, in order of submission, when there is room for all of it; then
 * nothing that comes later can take its room.
 *   LCKV_ERROR_ARGUMENT: an option or id is out of range.
 *   LCKV_ERROR_TOO_LONG: prompt and new tokens are more than max_model_len.
 *   LCKV_ERROR_BUSY: max_queue requests wait already. */
LCKV_API int lckv_engine_submit(lckv_engine *engine, const lckv_request *request, uint64_t *id);
/* Ends a request wherever it is; its memory is free at once and no more events come. One that has ended, or never was,
 * is no error. */
LCKV_API void lckv_engine_cancel(lckv_engine *engine, uint64_t id);

LCKV_API bool lckv_engine_idle(const lckv_engine *engine); /* no request runs or waits */
/* One step: a token for each sample that runs, and as much of the waiting prompts as max_num_batched_tokens lets in.
 * Nothing when idle. After an error of the device or of memory the engine can only be freed. */
LCKV_API int lckv_engine_step(lckv_engine *engine);

typedef struct lckv_engine_stats {
    int running, waiting; /* samples */
    int64_t max_model_len;
    int64_t submitted, finished, cancelled;                   /* requests so far */
    int64_t kv_pages, kv_pages_used, kv_bytes, kv_bytes_used; /* of the KV cache, by samples that run */
    int64_t kv_pages_shared;                                  /* of the used pages, those of two samples or more */
    int64_t kv_bytes_plain; /* what plain attention would use now: the same tokens in every layer, all of them, nothing
                               shared */
    int64_t kv_pages_kept;  /* not used, with prefixes of prompts for those that begin in the same way; they give way */
    int64_t steps, prompt_tokens, decode_tokens; /* tokens read, and tokens made in steps that read no prompt */
    double prompt_seconds, decode_seconds;       /* time of the steps that read prompts, and of the others */
    double decode_bytes;                         /* of weights that the others read: each weight once a step */
} lckv_engine_stats;

LCKV_API lckv_engine_stats lckv_engine_describe(const lckv_engine *engine);

typedef struct lckv_slot_usage {
    int layer;          /* that owns the slot */
    int64_t bytes_used; /* of kv_bytes_used */
} lckv_slot_usage;

/* Of each KV slot: `out` [kv_slots of the model's config], the caller's. */
LCKV_API void lckv_engine_describe_slots(const lckv_engine *engine, lckv_slot_usage *out);

/* ---------------------------------------------------------------- scoring */

typedef struct lckv_score_options {
    lckv_encoding encoding;  /* auto */
    int64_t window_length;   /* > 0: the sink cache, and then token by token; 0 (default): all tokens are kept */
    int64_t num_sink_tokens; /* less than window_length */
    bool bf16;               /* products, attention and KV cache in bfloat16; false: f32 */
    const char
        *logits_file; /* safetensors file to write: tensor `logits` [count, vocab_size] f32; NULL (default): none */
    float *logits; /* [count, vocab_size], the caller's, for the logits; NULL (default): none. Not with logits_file */
    const char *dump; /* what of the layers is written to dump_file, f32 [count, ..] each: tensors whose names match,
                         with * and {a,b} as the shell has them. layers.N.hidden: the residual stream behind layer N;
                         attn: what its attention gives, before o_proj; k, v: of owners of KV slots, as they are
                         cached. NULL (default): none */
    const char *dump_file;
    bool dump_runs;       /* layers of a loop in each of its runs, layers.N.run.R.hidden and so on, R from 0; false: in
                             the one that stays. What a run does not compute, since nothing reads it, is not there */
    int64_t top_logprobs; /* the most probable ids of each place that are told; 0 (default): none. Then: */
    int32_t *top_ids;     /* [count, top_logprobs], the caller's: what may follow each id, the last one too, the most
                             probable first */
    float *top_values;    /* [count, top_logprobs], the caller's: their log-probabilities. Where an id is among those of
                             its place, `logprobs` has the same number */
    bool (*go_on)(void *user, double fraction); /* asked between tokens where they are read one at a time; NULL: yes */
    void *user;
} lckv_score_options;

LCKV_API lckv_score_options lckv_score_defaults(void);

/* Log-probabilities (natural) of ids[1] to ids[count - 1], each given all before it, into logprobs [count - 1], the
 * caller's. Without logits and logits_file never more than a part of the logits is in memory. More ids than the model
 * has positions are scored too, with a warning in the log. LCKV_ERROR_ARGUMENT: an id is not the model's.
 * LCKV_ERROR_FILE: logits_file cannot be written. LCKV_ERROR_NUMERIC: a log-probability is not finite.
 * LCKV_ERROR_INTERRUPTED: go_on said no. */
LCKV_API int lckv_score(lckv_model *model, const int32_t *ids, int64_t count, const lckv_score_options *options,
                        float *logprobs);

/* ---------------------------------------------------------------- evaluating */

typedef struct lckv_eval_progress {
    const char *task;        /* the one at hand; valid until the callback returns */
    int64_t done, documents; /* of all tasks */
    double seconds, seconds_left;
} lckv_eval_progress;

/* Called after each call of the model, on the caller's thread. Returns whether to go on. */
typedef bool (*lckv_eval_callback)(void *user, const lckv_eval_progress *progress);

/* What lm-evaluation-harness 0.4.13 asks, of the same documents in the same words. */
typedef struct lckv_eval_options {
    const char *const
        *tasks; /* names that lckv knows (hellaswag, openbookqa, winogrande, arc_challenge, arc_easy, boolq,
                   piqa, mmlu, lambada_openai, sciq), or files with a description (docs/evaluation.md) */
    int task_count;
    const char *data_dir;  /* folder of the tasks' documents: see docs/evaluation.md for the names of files */
    int64_t num_fewshot;   /* examples before each document; -1 (default): as the task says */
    uint32_t fewshot_seed; /* of their choice; 1234 */
    double limit;          /* documents a task, the first ones; below 1: of so large a part of them; 0 (default): all */
    bool log_samples;      /* each document's context, continuations and log-likelihoods in the results; false */
    lckv_encoding
        encoding; /* auto and plan: by the plan, which is exact up to forward_passes + backward_passes tokens */
    bool bf16;    /* products and attention in bfloat16; false: f32 */
    lckv_eval_callback callback; /* NULL: nobody is told and nothing interrupts */
    void *user;
} lckv_eval_options;

LCKV_API lckv_eval_options lckv_eval_defaults(void);

/* Asks a model the tasks. *json is an object in the layout of the harness's results file ("results" has for each task
 * "acc,none", "acc_stderr,none" and so on). Contexts too long for the model's max_position_embeddings keep their last
 * tokens. Release *json with lckv_free().
 *   LCKV_ERROR_FILE: a task's documents or description are not there; LCKV_ERROR_FORMAT: they are not what they should
 * be; LCKV_ERROR_ARGUMENT: an option is out of range, or there is no such task; LCKV_ERROR_NUMERIC: a log-likelihood is
 * not finite; LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_eval(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_eval_options *options, char **json);

/* Perplexity of long texts. Windows: the text in pieces of block_size tokens that begin `stride` tokens after one
 * another, each token scored once, by the first window that has it. Streaming: token by token through the sink cache
 * (StreamingLLM), texts one after the other as one stream, memory flat however long it is. */
typedef struct lckv_perplexity_options {
    bool streaming;          /* false: windows */
    int64_t window_length;   /* streaming: tokens that the cache keeps; 256 */
    int64_t num_sink_tokens; /* of which so many are the first ones; 2 */
    int64_t start_position;  /* streaming: the first token behind the sinks stands so far on, as if so many tokens had
                                come and gone; 0 */
    int64_t block_size;      /* windows: tokens; 0 (default): max_position_embeddings */
    int64_t stride;          /* less than block_size; 0 (default): half of it */
    int64_t num_eval_tokens; /* of all texts, scored ones; 0 (default): all */
    lckv_encoding encoding;  /* of windows: auto and plan by the plan, sequential exactly */
    bool bf16;               /* products, attention and KV cache in bfloat16; false: f32 */
    bool (*callback)(void *user, double nll); /* of each token in turn, in nats; returns whether to go on. NULL: yes */
    void *user;
} lckv_perplexity_options;

LCKV_API lckv_perplexity_options lckv_perplexity_defaults(void);

typedef struct lckv_perplexity_result {
    int64_t tokens;      /* that were scored: all of a text but its first */
    double mean_nll;     /* nats a token; NAN before the first */
    double perplexity;   /* exp(mean_nll) */
    int64_t cache_bytes; /* streaming: device memory of the KV cache */
} lckv_perplexity_result;

/* Mean nll of `tokens` scored tokens, the first of which is the first-th of all, from 0. */
typedef struct lckv_curve_point {
    int64_t first, tokens;
    double nll;
} lckv_curve_point;

typedef struct lckv_perplexity lckv_perplexity;

/* The model must outlive it. LCKV_ERROR_ARGUMENT: an option is out of range. */
LCKV_API int lckv_perplexity_open(lckv_model *model, const lckv_perplexity_options *options, lckv_perplexity **out);
/* Scores a text; it ends early once num_eval_tokens are scored. LCKV_ERROR_ARGUMENT: an id is not the model's.
 * LCKV_ERROR_NUMERIC: an nll is not finite. LCKV_ERROR_INTERRUPTED: the callback said no. What was scored counts in any
 * case. */
LCKV_API int lckv_perplexity_read(lckv_perplexity *p, const int32_t *ids, int64_t count);
LCKV_API lckv_perplexity_result lckv_perplexity_so_far(const lckv_perplexity *p);
/* nll over position, at most 256 points; release *points with lckv_free(). */
LCKV_API int lckv_perplexity_curve(const lckv_perplexity *p, lckv_curve_point **points, int *count);
LCKV_API void lckv_perplexity_free(lckv_perplexity *p);

/* ---------------------------------------------------------------- memory, foreseen */

/* Bytes of device memory and FLOPs of a run that did not take place: the same code, on a device that only counts. */
typedef struct lckv_memory {
    int64_t weights;
    int64_t gradients, optimizer; /* training; f32 masters of bfloat16 weights count as optimizer */
    int64_t kv_cache;             /* serving: pages that the sequences hold, kv_bytes_used of an engine that has them */
    int64_t kv_cache_plain;       /* serving: kv_bytes_plain of that engine */
    int64_t kv_cache_reserved;    /* serving: device memory of the KV cache in which the sequences find room however
                                     they are read; kv_bytes of an engine that chooses its size itself */
    int64_t activations;          /* the most at any time, with everything else that comes and goes */
    int64_t total;                /* all of these but kv_cache and kv_cache_plain, which lie in kv_cache_reserved */
    double flops; /* products and attention, 2 a multiply-add: of one training step; of one token for each sequence
                     (0 where all have ended with their prompt) */
} lckv_memory;

/* What training takes depends on these, which mean what they mean in lckv_train_options. */
typedef struct lckv_training_shape {
    int64_t batch_size, block_size; /* blocks run at a time, and tokens of one */
    bool bf16, gradient_checkpointing;
    bool bf16_weights;     /* torch_dtype bfloat16 */
    const lckv_lora *lora; /* use_peft; NULL: all weights are trained */
} lckv_training_shape;

/* Training with gradients and AdamW, as one process alone. */
LCKV_API int lckv_memory_for_training(const lckv_config *config, const lckv_training_shape *shape, lckv_memory *out);

/* What serving takes depends on these. Weights are of the config's torch_dtype. */
typedef struct lckv_serving_shape {
    int64_t sequences;                      /* served at a time */
    int64_t length;                         /* tokens of each, new ones included */
    int64_t prompt_length;                  /* of these, tokens of the prompt; 0 (default): all but the last two */
    bool bf16;                              /* operands and KV cache in bfloat16; false (default): f32 */
    int64_t window_length, num_sink_tokens; /* as in lckv_engine_options: the sink cache; 0 (default): none */
} lckv_serving_shape;

/* Serving sequences that share nothing: all prompts, then one step of decoding. */
LCKV_API int lckv_memory_for_serving(const lckv_config *config, const lckv_serving_shape *shape, lckv_memory *out);

#ifdef __cplusplus
}
#endif
#endif
