/* lckv.h - the public interface of liblckv.
 *
 * liblckv trains, converts and runs decoder language models whose layers share keys and values (KV). One string,
 * `layer_types`, says which layer reads whose KV. docs/model.md defines the terms, docs/library.md walks through
 * examples.
 *
 * Contents: errors, log and memory; configs; devices; processes; models; tokenizers; chat templates; downloads;
 * training; generation; the engine (continuous batching); scoring; evaluation; perplexity; memory estimates.
 *
 * Conventions. They hold for every function unless its comment says otherwise.
 *
 * Errors. A function that can fail returns LCKV_OK or a negative lckv_status. After a failure, lckv_last_error()
 * returns one sentence that says what was expected, what was found, and where. The library never exits and never
 * prints; lckv_set_log() passes its messages to the caller.
 *
 * Ownership. On failure `*out` is NULL and the caller owns nothing new. Arguments remain the caller's; the library
 * copies what it keeps. The caller frees returned strings and arrays with lckv_free(), and each handle with the
 * function of its type. All of these functions accept NULL.
 *
 * Strings are UTF-8 and end in NUL.
 *
 * Options. Get an options struct from its lckv_..._defaults() function, then change fields:
 *     lckv_generate_options options = lckv_generate_defaults();
 *     options.length = 100;
 * `struct_size` is the size of the struct in the lckv.h that your program was compiled with. The library reads only
 * that part and uses defaults for the rest, so that later versions can add fields without breaking programs. If
 * struct_size is 0, or if a field is set that an older library does not know, the function fails. The lckv_..._init()
 * functions fill the first `struct_size` bytes of a struct; use them from other languages. Where a function takes
 * options, NULL stands for the defaults. The comment of a field states its meaning, its unit, its default, and what 0
 * or NULL does.
 *
 * Threads. Use a handle from one thread at a time. Different handles may be used from different threads.
 *
 * Names. A NAME_OR_PATH is a folder, a GGUF file, or ORG/NAME in the Hugging Face cache (HF_HUB_CACHE, HF_HOME, or the
 * default folder). lckv looks only in the cache; lckv_fetch() downloads. */
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
    LCKV_ERROR_ARGUMENT = -1,    /* A value from the caller is out of range or contradicts another. */
    LCKV_ERROR_FILE = -2,        /* A file is missing or unreadable, or cannot be written (also: the disk is full). */
    LCKV_ERROR_FORMAT = -3,      /* The content of a file violates its format. */
    LCKV_ERROR_UNSUPPORTED = -4, /* Well-formed input that asks for something lckv does not do. */
    LCKV_ERROR_MEMORY = -5,      /* Host or device memory is exhausted. */
    LCKV_ERROR_DEVICE = -6,      /* A device is missing, busy or lost, or its library reported an error. */
    LCKV_ERROR_NUMERIC = -7,     /* A loss, gradient, logit or log-probability is not finite. */
    LCKV_ERROR_INTERRUPTED = -8, /* A callback of the caller asked to stop. */
    LCKV_ERROR_BUSY = -9,        /* A queue is full; retry later. */
    LCKV_ERROR_TOO_LONG = -10,   /* More tokens than the model or the memory can hold. */
} lckv_status;

/* Returns the message of this thread's last failure, "" before the first. It is valid UTF-8 (other bytes, for example
 * in file names, become U+FFFD) and remains valid until this thread's next failure. */
LCKV_API const char *lckv_last_error(void);

/* Returns the version of the library, "0.1.0". */
LCKV_API const char *lckv_version(void);

/* Returns the path of the file that lckv has mapped at `address`, NULL if there is none. The string is valid until the
 * file is closed. Async-signal-safe.
 *
 * lckv maps weights and tokenized corpora and reads them in place. If another program truncates such a file, the next
 * access to the missing part raises SIGBUS. The library installs no signal handler. To report the file, call this
 * function from your own SIGBUS handler with siginfo_t.si_addr, as the program `lckv` does. */
LCKV_API const char *lckv_mapped_file_at(const void *address);

/* Maximum nesting depth of JSON that lckv reads, in arrays and objects. Deeper JSON is LCKV_ERROR_FORMAT, which bounds
 * the stack that a parser needs. */
#define LCKV_JSON_LEVELS 128

/* Checks that JSON text nests at most LCKV_JSON_LEVELS deep. It reports no other error. Call it before you pass
 * untrusted JSON to a recursive parser. */
LCKV_API int lckv_check_json(const char *text, size_t bytes);

/* Checks that text is valid UTF-8. If not, returns LCKV_ERROR_FORMAT, and the message has the line and the byte, from
 * 1, of the first ill-formed part. Tokenizers accept such text and read each ill-formed part as U+FFFD, so that a text
 * in another encoding becomes noise. */
LCKV_API int lckv_check_utf8(const char *text, size_t bytes);

typedef enum lckv_log_level { LCKV_LOG_WARNING, LCKV_LOG_INFO, LCKV_LOG_DEBUG } lckv_log_level;
typedef void (*lckv_log_function)(void *user, lckv_log_level level, const char *message);

/* Sends messages of `level`, and more urgent ones, to `function`, for the whole process. NULL discards all messages
 * (default). `user` is passed to every call. */
LCKV_API void lckv_set_log(lckv_log_function function, void *user, lckv_log_level level);

/* Frees a string or an array that a function returned. */
LCKV_API void lckv_free(void *memory);

/* Writes a file: a temporary file in the same folder is synced and renamed to `path`, so that after a crash the file
 * has the old or the new content. /dev/stdout, /dev/stderr, /dev/fd/N and /dev/null are written in place.
 * LCKV_ERROR_FILE also if the path is a folder, a pipe or another device. */
LCKV_API int lckv_write_file(const char *path, const void *bytes, size_t count);

/* Creates a folder and its parents, unless they exist. */
LCKV_API int lckv_create_folder(const char *path);

/* ---------------------------------------------------------------- configs */

/* A config.json of model type lckv-llama, llama, mistral, qwen2 or qwen3, as transformers 4 or 5 writes it. */
typedef struct lckv_config lckv_config;

/* LCKV_INT8 is a type of keys and values only: bytes, with an f32 scale for each token and KV head. */
typedef enum lckv_dtype { LCKV_FLOAT32, LCKV_BFLOAT16, LCKV_FLOAT16, LCKV_INT8 } lckv_dtype;

/* Resolves a NAME_OR_PATH to a folder or a GGUF file: `name` itself, or the snapshot of ORG/NAME in the Hugging Face
 * cache. A folder without config.json that has one GGUF file stands for that file. Free *folder with lckv_free().
 * LCKV_ERROR_FILE: neither exists; the message contains the command that downloads it. */
LCKV_API int lckv_find_folder(const char *name, char **folder);

/* Loads a config. `name`: a folder with config.json, a .json file, a GGUF file, or ORG/NAME in the Hugging Face cache.
 * `overrides`: "k=v,k=v", applied to the file; NULL for none. A value is parsed as JSON; if that fails, it is a string.
 * A Llama or Mistral config becomes an lckv-llama if layer_types is given as a string. The override weight_dtype sets
 * the format of the matrices, as in lckv_model_options. EOS tokens of a
 * generation_config.json beside the file are added. Error messages quote the file, the key, and the entry of
 * layer_types. LCKV_ERROR_FILE: no such file; for ORG/NAME the message contains the command that downloads it.
 * LCKV_ERROR_FORMAT: a value is missing, has another type, or is out of range. LCKV_ERROR_UNSUPPORTED: another model
 * type, or a key that asks for a computation that lckv does not do. */
LCKV_API int lckv_config_load(const char *name, const char *overrides, lckv_config **out);
LCKV_API void lckv_config_free(lckv_config *config);

typedef struct lckv_config_info {
    const char *model_type; /* Owned by the config. */
    int64_t hidden_size, intermediate_size, vocab_size;
    int64_t
        max_position_embeddings; /* Context length in tokens; with dynamic RoPE scaling, `factor` times the file's. */
    int layers, heads, kv_heads, head_dim;
    int kv_slots;                        /* Layers whose KV some entry of layer_types names. */
    int loops;                           /* Ranges of layers that the plan iterates. */
    int forward_passes, backward_passes; /* Iterations per loop: m without gradient, then b with gradient. */
    int64_t sliding_window;              /* Tokens, the current one included; 0 if there is no window. */
    bool tie_word_embeddings;
    bool use_sequential; /* Training runs token by token, in the sequential (exact) form. */
    lckv_dtype dtype;    /* Of the weights, as torch_dtype says. */
    /* Number of parameters: K and V of slot owners only, the biases and head norms that the config names, tied
     * embeddings once. A checkpoint may have biases that no config names. */
    int64_t parameters;
    /* Slots whose readers all have sliding windows. A cache keeps sliding_window - 1 tokens of them. */
    int windowed_slots;
    const char *weight_dtype; /* Format of the matrices of layers: "float" (see dtype), "int8" or "int4"; a constant. */
} lckv_config_info;

LCKV_API lckv_config_info lckv_config_describe(const lckv_config *config);

/* Returns the bytes of KV that one token adds to the cache, over all slots: kv_slots * 2 * kv_heads * head_dim values,
 * with LCKV_INT8 also kv_slots * 2 * kv_heads scales of 4 bytes. */
LCKV_API int64_t lckv_config_kv_bytes_per_token(const lckv_config *config, lckv_dtype dtype);
/* The same for a model in which every layer keeps its own KV. */
LCKV_API int64_t lckv_config_kv_bytes_per_token_unshared(const lckv_config *config, lckv_dtype dtype);

typedef enum lckv_picture { LCKV_PICTURE_TEXT, LCKV_PICTURE_SVG } lckv_picture;

/* Draws the layer map: which layer reads whose KV, slots, windows and loops. Text is UTF-8 for a terminal. SVG is a
 * complete file that suits light and dark pages. Free *text with lckv_free(). */
LCKV_API int lckv_config_picture(const lckv_config *config, lckv_picture kind, char **text);

/* Describes the plan in words, one line per range of layers. Free *text with lckv_free(). */
LCKV_API int lckv_config_plan_text(const lckv_config *config, char **text);
/* Describes the plan as JSON, one object per step in order:
 * [{"first": 0, "last": 0, "with_grad": true, "commit": true}, ...]. Both layers are included in the range. Free *text
 * with lckv_free(). */
LCKV_API int lckv_config_plan_json(const lckv_config *config, char **text);

/* Returns config.json with the overrides applied and unknown keys kept, in the form that transformers and the published
 * LCKV classes read. Free *text with lckv_free(). */
LCKV_API int lckv_config_json(const lckv_config *config, char **text);

/* Returns layer_types as one string, also if the file has a list or no layer_types. Free *text with lckv_free(). */
LCKV_API int lckv_config_layer_types(const lckv_config *config, char **text);

/* ---------------------------------------------------------------- devices */

/* A CPU or GPU that models run on. */
typedef struct lckv_device lckv_device;

/* Opens a device. `name`:
 *   "cpu"             the CPU
 *   "cuda", "cuda:N"  an NVIDIA GPU: the first one, or number N
 *   "auto"            the first usable GPU, else the CPU
 *   "count"           computes nothing and counts bytes and FLOPs
 * `threads`: number of CPU threads; 0 uses every processor that this process may use. Free all models of a device
 * before you close it. LCKV_ERROR_ARGUMENT: another name. LCKV_ERROR_UNSUPPORTED: a GPU, but the library was built
 * without CUDA. LCKV_ERROR_DEVICE: the GPU is missing, too old, or used exclusively by another process. */
LCKV_API int lckv_device_open(const char *name, int threads, lckv_device **out);
LCKV_API void lckv_device_close(lckv_device *device);

typedef struct lckv_device_info {
    char name[32];                   /* "cpu", "cuda:0", "count" */
    int64_t free_bytes, total_bytes; /* Device memory at this moment. */
    int64_t peak_bytes;              /* "count": peak memory footprint. Other devices: 0. */
} lckv_device_info;

/* LCKV_ERROR_DEVICE: the device does not answer. */
LCKV_API int lckv_device_describe(lckv_device *device, lckv_device_info *out);

/* Limits the device memory to `bytes` in total; 0 removes the limit (default). Allocations beyond it fail with
 * LCKV_ERROR_MEMORY. Linux overcommits memory: without a limit it may kill the process. Mapped files do not count.
 *   LCKV_ERROR_UNSUPPORTED: the device is a GPU, whose allocations fail by themselves. */
LCKV_API int lckv_device_limit(lckv_device *device, int64_t bytes);

/* Reference speeds of a device, to compare the speed of models with; 0 on the device "count". */
typedef struct lckv_device_speeds {
    double product_flops; /* FLOP/s of a large matrix product. */
    double copy_bytes;    /* Bytes per second of a large copy in device memory, read and written. */
    double read_bytes;    /* CPU: bytes per second that all threads together read from memory. GPU: 0. */
} lckv_device_speeds;

/* Measures the reference speeds in a few seconds at most. The product is in bfloat16 with `bf16`, else in float32. No
 * other work should run on the device.
 *   LCKV_ERROR_MEMORY: the matrices do not fit into device memory, up to 3 GiB on a GPU and 200 MiB on a CPU. */
LCKV_API int lckv_device_speed(lckv_device *device, bool bf16, lckv_device_speeds *out);

/* One call of an op on a device that is profiled. */
typedef struct lckv_op_call {
    /* Name of the op, such as "linear", or of an operation between processes: "all_reduce", "reduce_scatter",
     * "all_gather" or "broadcast". A constant, not to be freed. */
    const char *op;
    double begin;   /* Seconds from lckv_profile_start() to the start of the op. */
    double seconds; /* Duration of the op. */
    double flops;   /* FLOPs of products and attention, 2 per multiply-add, as on the device "count". */
    double bytes;   /* Bytes of the operands that the op reads or writes, each operand once. */
} lckv_op_call;

/* Starts a profile: from here on, the device records every op. The device waits before and after each op and does not
 * replay recorded steps, so that work takes longer than without a profile. Results do not change, except for rounding
 * on a GPU if the engine is created during the profile.
 *   LCKV_ERROR_ARGUMENT: a profile of this device is running. */
LCKV_API int lckv_profile_start(lckv_device *device);

/* Stops the profile and returns the calls in the order of their execution, *calls [*count]. Free *calls with
 * lckv_free(). lckv_device_close() discards a profile that is still running.
 *   LCKV_ERROR_ARGUMENT: no profile of this device is running. */
LCKV_API int lckv_profile_stop(lckv_device *device, lckv_op_call **calls, int64_t *count);

/* ---------------------------------------------------------------- processes */

/* The processes that train or run one model together, on one machine or several (docs/processes.md). A launcher
 * starts them: torchrun, accelerate, Slurm, mpirun, or lckv train --num_processes. In training, all of them make the
 * same calls with the same options. Each process trains its share of a step's blocks and holds its part of the
 * optimizer state. Only rank 0 writes files. For inference, see lckv_model_options. */
typedef struct lckv_processes lckv_processes;

/* Number of processes that the launcher of this one announces in the environment: 1 if it was started alone, 0 if the
 * launcher does not say.
 *   LCKV_ERROR_ARGUMENT: variables of a launcher are missing, malformed or contradictory. */
LCKV_API int lckv_processes_announced(int *count);
/* Joins the processes that were started with this one; a process that was started alone has rank 0 of 1. With several
 * processes, call it once per process. `time_limit`: seconds to wait for the other processes, when joining and in each
 * exchange of data; 0 uses 1800. With MPI there is no limit.
 *   LCKV_ERROR_ARGUMENT: variables of a launcher are missing, malformed or contradictory.
 *   LCKV_ERROR_UNSUPPORTED: MPI started several processes, and lckv was built without MPI.
 *   LCKV_ERROR_DEVICE: the processes could not join, or MPI failed.
 *   LCKV_ERROR_INTERRUPTED: a signal handler ran while this process waited for others. */
LCKV_API int lckv_processes_open(double time_limit, lckv_processes **out);
/* Returns the rank of this process, 0 to count - 1. */
LCKV_API int lckv_processes_rank(const lckv_processes *processes);
LCKV_API int lckv_processes_count(const lckv_processes *processes);
/* Opens this process's device, as lckv_device_open() does. With several processes, "cuda" is the GPU with the number of
 * the process on its host, and so is "auto" if there are GPUs; `threads` 0 divides the processors between the processes
 * of the host that share them. NULL is one process. */
LCKV_API int lckv_processes_device(const lckv_processes *processes, const char *name, int threads, lckv_device **out);
/* Tells the other processes that this one has failed, with lckv_last_error(): what they wait for fails with that
 * message. With MPI, this process then has to exit with a code other than 0, and mpirun ends the others. */
LCKV_API void lckv_processes_give_up(lckv_processes *processes);
/* Waits until all processes call it. Afterwards a process may exit at any time; before, only together with all others.
 */
LCKV_API void lckv_processes_close(lckv_processes *processes);

/* ---------------------------------------------------------------- models */

/* A config and its weights on a device. */
typedef struct lckv_model lckv_model;

typedef struct lckv_model_options {
    size_t struct_size;           /* Size of this struct, set by lckv_model_defaults(). */
    const char *config_overrides; /* Changes to config.json, "k=v,k=v"; NULL for none (default). */
    /* Data type of the weights that are not quantized: "float32", "bfloat16", "float16", or "auto" for the stored type
     * (default). */
    const char *torch_dtype;
    /* LoRA adapter in peft's layout, NAME_OR_PATH, merged into the weights: W + scale B A in f32, then rounded to the
     * type of the weights. Into quantized weights it is not merged: each product adds it. NULL for none (default). */
    const char *adapter;
    /* Start loops from zeros even if the folder has a learned start, loop_start.safetensors (default false). */
    bool no_loop_start;
    /* Processes that run the model together (tensor parallelism, docs/scaling.md): each loads its part of every layer.
     * All of them open the model with the same arguments. Rank 0 then uses it like any other model, except for
     * lckv_model_save() and lckv_score_options.dump; the others call lckv_model_follow(). Close the processes after the
     * model. NULL or one process: this process alone (default). */
    lckv_processes *processes;
    /* Format of the matrices of layers: "int8" or "int4", in groups of 32 with an f16 scale; embeddings and output
     * layer are then "int8". "float" for torch_dtype, also if the folder is quantized. "auto" or NULL for the
     * format of the folder or the GGUF file, in which q8_0 is "int8" and q4_0 is "int4" (default). */
    const char *weight_dtype;
} lckv_model_options;

LCKV_API void lckv_model_options_init(lckv_model_options *options, size_t struct_size);
static inline lckv_model_options lckv_model_defaults(void) {
    lckv_model_options options;
    lckv_model_options_init(&options, sizeof options);
    return options;
}

/* Loads a model from a Hugging Face folder: config.json with model.safetensors, or with shards and
 * model.safetensors.index.json; f32, bf16 or f16, or quantized to 8 or 4 bits (docs/file-formats.md). Or loads a GGUF
 * file, whose quantized weights become torch_dtype, by default bf16 (docs/file-formats.md, "GGUF files"). `name` is a
 * NAME_OR_PATH. `options` NULL uses the defaults. The
 * device remains the caller's and must outlive the model.
 *
 * On the CPU, weights that keep their stored type are used in the mapped files, which other processes share. lckv
 * ignores K and V tensors of layers that own no slot, rotary_emb.inv_freq, and the lm_head.weight of tied embeddings.
 * Every other tensor must belong to the model. If a folder has an adapter but no model, lckv loads the checkpoint that
 * its adapter_config.json names and merges the adapter. The learned start of the model's loops, if the folder has
 * loop_start.safetensors, is loaded too. LCKV_ERROR_FILE: a file is missing. LCKV_ERROR_FORMAT: a tensor
 * is missing or unknown, or has another shape or data type, or a file is malformed; the message names file and tensor.
 *   LCKV_ERROR_UNSUPPORTED: the folder has only pytorch_model.bin, or lckv_config_load() does not support the config.
 */
LCKV_API int lckv_model_open(lckv_device *device, const char *name, const lckv_model_options *options,
                             lckv_model **out);

/* Creates a model with random weights, which are a function of `seed`: matrices are normal with the config's
 * initializer_range, norms are 1, biases are 0, as in transformers. `torch_dtype`: "float32" (also NULL and
 * "auto"), "bfloat16" or "float16". Matrices are quantized if the config's weight_dtype is "int8" or "int4". The
 * model copies the config. */
LCKV_API int lckv_model_create(lckv_device *device, const lckv_config *config, const char *torch_dtype, uint64_t seed,
                               lckv_model **out);
/* The same with options, of which it reads torch_dtype and processes. With several processes, each has random weights
 * of its own in its part. */
LCKV_API int lckv_model_create_with(lckv_device *device, const lckv_config *config, const lckv_model_options *options,
                                    uint64_t seed, lckv_model **out);

/* For ranks other than 0 of lckv_model_options.processes: does this rank's part of the work of rank 0, and returns
 * LCKV_OK after rank 0 has called lckv_model_free(). Signals do not interrupt it.
 *   LCKV_ERROR_ARGUMENT: the model is not divided, or this is rank 0.
 *   LCKV_ERROR_DEVICE: another process is lost or has failed; the message names it. */
LCKV_API int lckv_model_follow(lckv_model *model);

typedef struct lckv_save_options {
    size_t struct_size; /* Size of this struct, set by lckv_save_defaults(). */
    /* Data type on disk: "float32", "bfloat16", "float16", or "auto" for a type that loses nothing (default). */
    const char *torch_dtype;
    int64_t max_shard_bytes; /* Maximum size of a weight file in bytes; 0 for 5e9 (default). */
    /* NAME_OR_PATH of the tokenizer files to copy; NULL for those of the folder that the model was loaded from, if any
     * (default). */
    const char *tokenizer_name;
    /* Format of the matrices of layers on disk: "float", "int8", "int4", or "auto" or NULL for that in memory
     * (default). Embeddings and output layer are not quantized on disk, as other programs expect; if they are in
     * memory, torch_dtype "auto" stores them as float32. */
    const char *weight_dtype;
} lckv_save_options;

LCKV_API void lckv_save_options_init(lckv_save_options *options, size_t struct_size);
static inline lckv_save_options lckv_save_defaults(void) {
    lckv_save_options options;
    lckv_save_options_init(&options, sizeof options);
    return options;
}

/* Saves a model as a Hugging Face folder, which is created if missing: config.json (unknown keys kept), weights,
 * tokenizer files, generation_config.json, and the *.py files that auto_map names. `options` NULL uses the
 * defaults. lckv writes everything under temporary names and renames it once all of it is on disk. A failure or
 * crash therefore leaves the old checkpoint, the new one, or none that loads. LCKV_ERROR_UNSUPPORTED: the model has
 * an adapter that is not merged. */
LCKV_API int lckv_model_save(lckv_model *model, const char *folder, const lckv_save_options *options);

/* Returns the model's config, which the model owns. */
LCKV_API const lckv_config *lckv_model_config(const lckv_model *model);
/* Returns the number of parameters, as in the checkpoint (tied embeddings count once). */
LCKV_API int64_t lckv_model_parameters(const lckv_model *model);

/* A weight of a model. */
typedef struct lckv_weight_info {
    const char *name;   /* In the checkpoint; owned by the model. */
    int64_t rows, cols; /* A vector has one row. */
    const char *dtype;  /* In memory: "float32", "bfloat16", "float16", "int8" or "int4"; a constant. */
    int64_t bytes;      /* In memory, with scales. */
} lckv_weight_info;

/* Lists the weights of a model in the order of the checkpoint: *weights [*count]. Free *weights with lckv_free(). */
LCKV_API int lckv_model_weights(const lckv_model *model, lckv_weight_info **weights, int64_t *count);
LCKV_API void lckv_model_free(lckv_model *model);

/* K and V of a slot's owner when a checkpoint is converted to another layer_types. */
typedef enum lckv_convert_kv {
    LCKV_KV_AVERAGE, /* The mean over the layers that read the slot. */
    LCKV_KV_COPY     /* The owner's own. */
} lckv_convert_kv;

typedef struct lckv_convert_options {
    size_t struct_size;             /* Size of this struct, set by lckv_convert_defaults(). */
    const char *model_name_or_path; /* Checkpoint to convert; required. */
    const char *config_name;        /* Target config: folder, .json file or ORG/NAME; NULL for the checkpoint's own. */
    const char *adapter;            /* NAME_OR_PATH of a LoRA adapter to merge first; NULL for none. */
    const char *config_overrides;   /* Changes to the target config, "k=v,k=v"; NULL for none. */
    const char *tokenizer_name;     /* NAME_OR_PATH of the tokenizer files; NULL for the checkpoint's own. */
    const char *output_dir;         /* Folder to write; either it or gguf_file is required. */
    lckv_convert_kv kv;             /* How KV weights of slots are formed (default: the average). */
    const char *torch_dtype;        /* Data type on disk; "auto" keeps the checkpoint's (default). */
    int64_t max_shard_bytes;        /* Maximum size of a weight file in bytes; 0 for 5e9 (default). */
    /* Progress callback, called before each tensor with the fraction written, 0 to 1. Return false to stop. NULL for
     * none. */
    bool (*go_on)(void *user, double fraction);
    void *user;            /* User data, passed to `go_on`. */
    const char *gguf_file; /* GGUF file for llama.cpp to write instead of output_dir; NULL for none (default). */
    /* Format of the matrices in gguf_file: "f32", "f16", "bf16", "q8_0", "q4_0"; NULL or "auto" keeps the checkpoint's,
     * with int8 as q8_0 and int4 as q4_0 (default). With q4_0, the embeddings and lm_head are q8_0. */
    const char *gguf_dtype;
    /* Format of the matrices of layers on disk: "float", "int8", "int4", or "auto" or NULL for the checkpoint's
     * (default). */
    const char *weight_dtype;
} lckv_convert_options;

LCKV_API void lckv_convert_options_init(lckv_convert_options *options, size_t struct_size);
static inline lckv_convert_options lckv_convert_defaults(void) {
    lckv_convert_options options;
    lckv_convert_options_init(&options, sizeof options);
    return options;
}

/* Converts a checkpoint to a model with another layer_types. K and V weights, biases and k_norm of each slot's owner
 * are merged as `kv` says (means in f64); everything else is copied. If a layer of the checkpoint owns no slot, the K
 * and V of the slot that it reads are used in its place. One tensor at a time is in memory. LCKV_ERROR_ARGUMENT: a size
 * differs between the two configs; the message names it. LCKV_ERROR_INTERRUPTED: `go_on` returned false; output_dir is
 * unchanged. LCKV_ERROR_UNSUPPORTED: llama.cpp cannot run the model in gguf_file, such as one whose layers share KV;
 * the message names the reason. Quantized matrices are copied as they are if nothing changes them; an adapter for them
 * is LCKV_ERROR_UNSUPPORTED unless weight_dtype is given. Other errors as in lckv_model_open() and lckv_model_save().
 */
LCKV_API int lckv_convert(const lckv_convert_options *options);

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

/* ---------------------------------------------------------------- downloads */

/* Progress of lckv_fetch(). Pointers are valid during the callback. */
typedef struct lckv_fetch_progress {
    const char *file;           /* Current file: downloading, or waiting for another process that downloads it. */
    int64_t file_index, files;  /* Index of the current file from 0, and number of files. */
    int64_t bytes, total_bytes; /* Of all files; files that were in the cache count as downloaded. */
    int64_t received_bytes;     /* Received over the network in this call. */
    double seconds;             /* Since the first file started. */
} lckv_fetch_progress;

/* Progress callback, called at least once per file and about once per second. Return false to stop. */
typedef bool (*lckv_fetch_callback)(void *user, const lckv_fetch_progress *progress);

typedef struct lckv_fetch_options {
    size_t struct_size;   /* Size of this struct, set by lckv_fetch_defaults(). */
    const char *name;     /* ORG/NAME of the repository; required. */
    bool dataset;         /* The repository is a data set (default false: a model). */
    const char *revision; /* Branch, tag or commit (default "main"). */
    /* Shell patterns of paths, in which * also matches "/". Files are downloaded if they match one of `include` (none:
     * all files) and none of `exclude`. */
    const char *const *include;
    const char *const *exclude;
    int include_count, exclude_count; /* Number of patterns (default 0). */
    /* Retries after a lost connection without progress, after 0.2, 0.8, 3.2, 12.8 and then 30 seconds (default 5). */
    int retries;
    lckv_fetch_callback callback; /* Progress callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */
} lckv_fetch_options;

typedef struct lckv_fetch_result {
    char *folder;           /* Folder of the snapshot; free it with lckv_free(). */
    char commit[41];        /* Commit of the revision, 40 hexadecimal digits. */
    int64_t files, bytes;   /* Of the snapshot, selected files only. */
    int64_t received_bytes; /* Received over the network. */
} lckv_fetch_result;

LCKV_API void lckv_fetch_options_init(lckv_fetch_options *options, size_t struct_size);
static inline lckv_fetch_options lckv_fetch_defaults(void) {
    lckv_fetch_options options;
    lckv_fetch_options_init(&options, sizeof options);
    return options;
}

/* Downloads a model or data set into the Hugging Face cache (HF_HUB_CACHE, HF_HOME, or the default folder), in the
 * layout of huggingface_hub. The server is HF_ENDPOINT (default https://huggingface.co). The token is HF_TOKEN, or the
 * file that huggingface-cli login writes; lckv sends it to no other host.
 *
 * Files in the cache are not downloaded again. Partial files (BLOB.incomplete) are resumed, also those of
 * huggingface_hub. Every file is verified: against its SHA-256 if the hub stores it as a large file, else against git's
 * SHA-1. The reference of the revision is written when all files are complete. Two processes may download the same
 * repository at once. LCKV_ERROR_ARGUMENT: `name` or `revision` is not valid. LCKV_ERROR_FILE: no such repository or
 * revision, no permission, a network failure, or a full disk; the message says which. LCKV_ERROR_FORMAT: the hub's
 * answer is not as expected, or a checksum differs (the partial file is removed). LCKV_ERROR_UNSUPPORTED: built without
 * libcurl. LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_fetch(const lckv_fetch_options *options, lckv_fetch_result *result);

/* ---------------------------------------------------------------- training */

/* Learning-rate schedules. All but CONSTANT start with a linear warmup from 0. */
typedef enum lckv_schedule_type {
    LCKV_SCHEDULE_LINEAR,               /* Linear decay to 0 at the last step. */
    LCKV_SCHEDULE_COSINE,               /* Decay to 0 along half a cosine. */
    LCKV_SCHEDULE_CONSTANT,             /* Constant, without warmup. */
    LCKV_SCHEDULE_CONSTANT_WITH_WARMUP, /* Constant after the warmup. */
    LCKV_SCHEDULE_COSINE_WITH_MIN_LR,   /* As cosine, but down to min_lr_rate of the peak. */
    LCKV_SCHEDULE_WARMUP_STABLE_DECAY   /* Constant; in the last num_decay_steps, decay as COSINE_WITH_MIN_LR. */
} lckv_schedule_type;

typedef enum lckv_interval_strategy {
    LCKV_INTERVAL_NO,    /* Never. */
    LCKV_INTERVAL_STEPS, /* Every N steps. */
    LCKV_INTERVAL_EPOCH  /* At the end of each epoch and of the run. */
} lckv_interval_strategy;

/* How models with loops are trained (docs/model.md). */
typedef enum lckv_loop_form {
    LCKV_LOOP_PLAN,      /* By the plan: m iterations without gradient, then b with it. Approximate. */
    LCKV_LOOP_EXACT,     /* At the fixed point: slots are filled token by token, then b backward passes of one pass. */
    LCKV_LOOP_SEQUENTIAL /* Token by token, with gradients through all tokens. Exact and slow. */
} lckv_loop_form;

typedef enum lckv_train_phase {
    LCKV_TRAIN_READING,    /* Reading documents, encoding them and cutting them into blocks. */
    LCKV_TRAIN_STEPPING,   /* A training step has finished. */
    LCKV_TRAIN_EVALUATING, /* Evaluating the validation blocks. */
    LCKV_TRAIN_EVALUATED   /* The evaluation has finished; see `evaluation`. */
} lckv_train_phase;

/* Result of an evaluation on the validation blocks. */
typedef struct lckv_evaluation {
    double loss;       /* Mean over the labels, in nats. */
    double perplexity; /* exp(loss) */
    double accuracy;   /* Fraction of labels with the largest logit (the first of equal ones), 0 to 1. */
    int64_t blocks;
    double seconds; /* Duration. */
} lckv_evaluation;

typedef struct lckv_train_progress {
    lckv_train_phase phase;
    double fraction;      /* Of the phase, 0 to 1. */
    int64_t step, steps;  /* Steps done, and steps in total. The fields from here to `logged` are set while stepping. */
    double loss;          /* Of this step: mean over its labels, in nats. */
    double mean_loss;     /* Mean since the last logged step, this step included, skipped steps excluded. */
    double grad_norm;     /* Of this step, before clipping. */
    double learning_rate; /* Of this step. */
    double tokens_per_second; /* Since the last logged step. */
    double seconds, seconds_left;
    /* The loss or the gradient was not finite, or the gradient norm exceeded skip_grad_norm. No weight changed. */
    bool skipped;
    bool logged;                /* This step has a line in train_log.jsonl. */
    lckv_evaluation evaluation; /* Set in the phase LCKV_TRAIN_EVALUATED only. */
    /* LCKV_LOOP_EXACT: relative distance between the filled slots and those that the recorded pass computes from them,
     * which is rounding. Over this process's share of the step; NAN in the other forms. */
    double loop_residual;
    double loop_start_error; /* Relative squared error of the learned start, as loop_residual; NAN without a start. */
    /* Seconds per step in which this process's computation waited for other processes: mean since the last logged step;
     * NAN with one process. */
    double communication_wait;
} lckv_train_progress;

/* Progress callback. It may be called many times per second, on the trainer's thread. Return false to stop. On a device
 * that works asynchronously (a GPU) the next step has started by then; it is completed and counted. */
typedef bool (*lckv_train_callback)(void *user, const lckv_train_progress *progress);

/* Format of the ids in .bin files, little-endian. */
typedef enum lckv_ids_dtype { LCKV_IDS_UINT16, LCKV_IDS_UINT32 } lckv_ids_dtype;

/* LoRA (Hu et al. 2021): each target matrix W of a layer is frozen and gets two trained matrices of low rank,
 * y = x W^T + alpha / r (dropout(x) A^T) B^T. Names are those of peft, defaults those of trl (ModelConfig), except for
 * dropout. */
typedef struct lckv_lora {
    size_t struct_size; /* Size of this struct, set by lckv_lora_defaults(). */
    int64_t r;          /* Rank (default 16). */
    double alpha;       /* Scale, divided by the rank (default 32). */
    /* Probability, from 0 to below 1, of dropping an element of x before A in training; the others are multiplied by
     * 1 / (1 - dropout). A function of the seed and the step. 0 disables dropout (default; trl's default is 0.05). */
    double dropout;
    /* Modules to adapt: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or all-linear; NULL for q_proj
     * and v_proj (default). Only layers that own a slot have k_proj and v_proj. */
    const char *const *target_modules;
    int target_module_count; /* Number of modules. */
} lckv_lora;

LCKV_API void lckv_lora_init(lckv_lora *options, size_t struct_size);
static inline lckv_lora lckv_lora_defaults(void) {
    lckv_lora options;
    lckv_lora_init(&options, sizeof options);
    return options;
}

/* Which tokens of a row with prompt and completion are trained on. */
typedef enum lckv_completion_loss {
    LCKV_COMPLETION_LOSS_AUTO, /* The completion, as YES; also the default of trl. */
    LCKV_COMPLETION_LOSS_YES,  /* The completion. */
    LCKV_COMPLETION_LOSS_NO    /* Prompt and completion. */
} lckv_completion_loss;

/* Instruction tuning, as trl's SFTTrainer (0.24) does it. A row has messages, prompt and completion, text, or Alpaca's
 * fields, and is one example. Names are those of SFTConfig if it has them. */
typedef struct lckv_tuning {
    size_t struct_size;             /* Size of this struct, set by lckv_tuning_defaults(). */
    const char *chat_template;      /* File with a chat template; NULL for the tokenizer's (default). */
    const char *dataset_text_field; /* Name of the text field (default "text"). */
    bool packing;                   /* Several rows per example; each row attends only to itself (default false). */
    bool drop_long;                 /* Drop rows longer than block_size tokens (default false: truncate at the end). */
    /* Train only on what the template marks with {% generation %} (default false: on whole conversations). */
    bool assistant_only_loss;
    lckv_completion_loss completion_only_loss; /* Loss on prompt and completion (default auto). */
} lckv_tuning;

LCKV_API void lckv_tuning_init(lckv_tuning *options, size_t struct_size);
static inline lckv_tuning lckv_tuning_defaults(void) {
    lckv_tuning options;
    lckv_tuning_init(&options, sizeof options);
    return options;
}

/* Names and defaults are those of TrainingArguments 4.45 and run_clm.py. */
typedef struct lckv_train_options {
    size_t struct_size; /* Size of this struct, set by lckv_train_defaults(). */
    /* -- Model. At least one of model_name_or_path and config_name is required. -- */
    const char *model_name_or_path; /* NAME_OR_PATH of the weights to start from; NULL for random weights by `seed`. */
    /* Config of the model: folder, .json file or ORG/NAME. With model_name_or_path, the weights are first converted to
     * this config as by lckv_convert(). NULL for the config of the weights. */
    const char *config_name;
    lckv_convert_kv kv;           /* How KV weights are formed in such a conversion (default: the average). */
    const char *config_overrides; /* Changes to the config, "k=v,k=v"; NULL for none. */
    lckv_loop_form loop_form; /* (default: LCKV_LOOP_PLAN, or LCKV_LOOP_SEQUENTIAL if the config has use_sequential) */
    /* LCKV_LOOP_EXACT: number of examples whose slots are filled together, at least a micro-batch. 0 (default): all
     * examples of a step and process, or as many as memory allows. */
    int64_t loop_group_size;
    /* Train a LoRA adapter; the weights of model_name_or_path are frozen, without f32 masters or moments (default
     * false). The output is an adapter in peft's layout instead of a model. */
    bool use_peft;
    const lckv_lora *lora;      /* Shape of the adapter, used with use_peft; NULL for the defaults (default). */
    const char *tokenizer_name; /* NAME_OR_PATH of the tokenizer; NULL for the model's own. Required for text data. */

    /* -- Data. -- */
    /* Training data: files, folders (all data files in them) and patterns such as a/b-*.jsonl, with text, JSON, CSV or
     * ids, plain or compressed (docs/data.md). Together they are one corpus, in this order. If each has the form
     * NAME:WEIGHT, each is a corpus and WEIGHT (divided by the sum) is its share of the blocks of an epoch; the epoch
     * ends when the first corpus ends. */
    const char *const *train_files;
    /* Data set: a file, a folder, or ORG/NAME in the Hugging Face cache, with files for training and for validation. It
     * is used for those of train_files and validation_files that are not given. NULL for none. */
    const char *dataset_name;
    const char *dataset_config_name;     /* Word in the path of the data set's files to use; NULL for all files. */
    int train_file_count;                /* Number of train_files. */
    const char *const *validation_files; /* Validation data, same forms; evaluated at the end of training. */
    int validation_file_count;           /* Number of validation_files. */

    /* -- Output. -- */
    const char *output_dir; /* Folder for the model, tokenizer, checkpoints and logs (docs/watching.md); created. */
    /* Start anew in an output_dir that has files; old checkpoints are removed once the first one of this run is
     * complete (default false: resume). */
    bool overwrite_output_dir;
    /* Instruction tuning; NULL for documents that are joined and cut into blocks (default). With it, block_size is the
     * maximum length of a row, max_train_samples and max_eval_samples count rows, and the data options from
     * keep_linebreaks to document_mask are not used. The saved checkpoint contains the chat template. */
    const lckv_tuning *tuning;
    bool do_train, do_eval; /* Train; evaluate at the end if there is validation data (default true). */

    /* -- Documents and blocks (docs/data.md). -- */
    bool keep_linebreaks; /* Encode a line of a text file with its line break (default true). */
    /* Field of JSON rows or column of CSV; NULL for `input_ids` or `text` in JSON, and for `text`, else the first
     * column, in CSV (default). */
    const char *text_column;
    lckv_ids_dtype ids_dtype; /* Format of .bin files (default uint16). */
    bool append_eos;          /* Append EOS to each text if the tokenizer does not (default false). */
    /* Folder of the cache of tokenized data; NULL for lckv-ids in HF_HOME or ~/.cache/huggingface (default). */
    const char *token_cache_dir;
    bool overwrite_cache;              /* Encode again and replace cached data (default false). */
    int64_t preprocessing_num_workers; /* Encoding threads; 0 for all processors, at most 16 (default). */
    /* Cut all documents together into blocks. Default false: cut each thousand documents separately and drop the rest.
     */
    bool group_all;
    /* Restrict attention and positions to documents; the last token of a document predicts nothing (default false). */
    bool document_mask;
    int64_t max_train_samples; /* Maximum number of training blocks, from the first; 0 for all (default). */
    int64_t max_eval_samples;  /* Maximum number of validation blocks, from the first; 0 for all (default). */
    /* Percentage of the training documents, from the first, to use as validation data if there is none; 0 for none
     * (default). */
    int64_t validation_split_percentage;
    int64_t block_size; /* Block length in tokens; 0 for max_position_embeddings, at most 1024 (default). */

    /* -- Batches and steps. -- */
    int64_t per_device_train_batch_size; /* Micro-batch size in blocks (default 8). */
    /* Reduce the micro-batch size until it fits into memory; the blocks per step (micro-batch size times accumulation
     * steps) are unchanged. Single process only. Default false: a run that does not fit is rejected. */
    bool auto_find_batch_size;
    int64_t memory_limit;                /* Device memory to use, in bytes; 0 for the memory that is free (default). */
    int64_t per_device_eval_batch_size;  /* Blocks per batch in evaluations (default 8). */
    int64_t gradient_accumulation_steps; /* Micro-batches per step (default 1). */
    double num_train_epochs;             /* Epochs to train (default 3); not used if max_steps is set. */
    int64_t max_steps;                   /* Steps to train; -1 to use num_train_epochs (default). */
    bool shuffle;                        /* Shuffle the blocks in each epoch by `seed` (default true). */
    int64_t seed;                        /* Random seed (default 42). */

    /* -- Optimizer and learning-rate schedule. -- */
    lckv_schedule_type lr_scheduler_type; /* Schedule (default linear). */
    double learning_rate;                 /* Peak learning rate (default 5e-5). */
    int64_t warmup_steps;                 /* Warmup steps; 0 to use warmup_ratio (default). */
    double warmup_ratio;                  /* Warmup as a fraction of all steps, 0 to 1 (default 0). */
    double min_lr_rate;                   /* Final learning rate as a fraction of the peak, 0 to 1 (default 0). */
    int64_t num_decay_steps; /* Decay steps of warmup_stable_decay; 0 for a tenth of all steps, rounded up (default). */
    double weight_decay;     /* Weight decay, of matrices only (default 0). */
    double adam_beta1;       /* Decay rate of the gradient average (default 0.9). */
    double adam_beta2;       /* Decay rate of the squared-gradient average (default 0.999). */
    double adam_epsilon;     /* Term added to the denominator (default 1e-8). */
    double max_grad_norm;    /* Maximum gradient norm; 0 disables clipping (default 1). */
    int64_t max_skipped_steps; /* Maximum number of steps with a non-finite loss or gradient, which are skipped; one
                                  more ends the run (default 0). */
    double skip_grad_norm;     /* Gradient norm above which a step is skipped; 0 disables skipping (default). */

    /* -- Precision and memory. -- */
    bool bf16; /* Compute products and attention in bfloat16 with f32 master weights (default false: all in f32). */
    /* Data type of the weights. "bfloat16", together with bf16: weights and moments in bfloat16 with stochastic
     * rounding by `seed`, 6 instead of 14 bytes per parameter, and 4 for its gradient; checkpoints are bfloat16 too.
     * NULL (default), "auto" and "float32": f32. */
    const char *torch_dtype;
    /* Activation checkpointing: keep only the inputs of layers and recompute the rest in the backward pass (default
     * false). Results are bit-identical; training takes less memory and more time. Not with LCKV_LOOP_SEQUENTIAL. */
    bool gradient_checkpointing;

    /* -- Logs, checkpoints and evaluation. -- */
    int64_t logging_steps; /* Steps between lines in train_log.jsonl; the last step also gets one (default 500). */
    /* When to save training checkpoints, OUTPUT_DIR/checkpoint-STEP (default: steps). Unless it is NO, the last step
     * gets one too. */
    lckv_interval_strategy save_strategy;
    double save_steps;        /* Steps between checkpoints; below 1, a fraction of all steps (default 500). */
    int64_t save_total_limit; /* Number of newest checkpoints to keep, besides the best; 0 keeps all (default). */
    /* Checkpoint to resume from: a folder, or "True" for the newest valid one in output_dir, which must exist; NULL for
     * the newest valid one if there is one (default). */
    const char *resume_from_checkpoint;
    lckv_interval_strategy eval_strategy; /* When to evaluate during training (default: no, only at the end). */
    double eval_steps;                    /* Steps between evaluations; below 1, a fraction; 0 for logging_steps. */
    bool load_best_model_at_end; /* Save the checkpoint with the lowest evaluation loss as the model (default false). */
    /* Consecutive evaluations without improvement after which the run ends; 0 disables early stopping (default). */
    int64_t early_stopping_patience;

    /* -- Device and processes. -- */
    const char *device; /* Device, as in lckv_device_open() (default "auto"). */
    int threads;        /* CPU threads; 0 for all processors that this process may use (default). */
    /* Processes that train together, which must outlive the trainer; NULL for this process alone (default). Batch sizes
     * are per process: a step has that number of blocks from each of them. */
    lckv_processes *processes;

    /* -- Reports. -- */
    bool tensorboard;        /* Write TensorBoard event files to logging_dir. */
    const char *logging_dir; /* Folder of the event files; NULL for OUTPUT_DIR/runs. */
    const char *run_name;    /* Subfolder of logging_dir, so that runs can share it; NULL for logging_dir itself. */
    const char *command;     /* Command line that started the run, recorded in training_args.json; NULL if unknown. */

    lckv_train_callback callback; /* Progress callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */

    /* -- Learned start (docs/model.md). -- */
    /* Train a start of the model's loops beside the model, by regression on the keys and values that the loops end
     * with; it continues from that of model_name_or_path if there is one. Not with LCKV_LOOP_SEQUENTIAL or use_peft
     * (default false). */
    bool loop_start;
    double loop_start_weight; /* Weight of its mean squared error beside the loss (default 1). */
    int64_t loop_start_width; /* Width of a new start's hidden layer; 0 for 2 * hidden_size (default). */
    /* -- Several processes (docs/processes.md). -- */
    int64_t zero; /* ZeRO stage: 1 divides the optimizer state between them (default), 3 also weights and gradients. */
    /* zero 3: Gather the weights of a loop's layers in each iteration, instead of once for all. Needs less memory and
     * communicates more (default false). */
    bool zero_regather_loops;
    /* zero 3: Data type of the sum of gradients that a process keeps: "float32" (also NULL and "auto"), or "bfloat16",
     * which needs torch_dtype bfloat16 and takes 2 bytes less per parameter (default NULL). */
    const char *grad_accum_dtype;

    /* Format of the frozen matrices with use_peft: "int8", "int4", "float", or "auto" or NULL for that of
     * model_name_or_path (default). Quantized matrices are not trained, so that int8 and int4 need use_peft. */
    const char *weight_dtype;

    /* -- Exact training (docs/model.md). -- */
    /* LCKV_LOOP_EXACT: Fraction of the steps that run by the plan, from 0 to below 1, evenly spread by the number of
     * the step; they train the model for few iterations too. 0 (default): none. */
    double loop_plan_share;
    /* LCKV_LOOP_EXACT: Weight of the mean squared error of keys and values after one iteration from the start (zeros,
     * or the learned one) beside the loss. It takes one more iteration per step. 0 (default): none. */
    double loop_iteration_weight;
} lckv_train_options;

LCKV_API void lckv_train_options_init(lckv_train_options *options, size_t struct_size);
static inline lckv_train_options lckv_train_defaults(void) {
    lckv_train_options options;
    lckv_train_options_init(&options, sizeof options);
    return options;
}

/* Fitting a learned start of a model's loops (docs/model.md, "A learned start"). */
typedef struct lckv_fit_options {
    size_t struct_size;             /* Size of this struct, set by lckv_fit_defaults(). */
    const char *model_name_or_path; /* Model with loops; required. */
    const char *tokenizer_name;     /* NAME_OR_PATH of the tokenizer; NULL for the model's own (default). */
    const char *const *files;       /* Plain text, one document per file; at least one. */
    int file_count;
    const char *output_dir; /* Folder of the same model, which gets loop_start.safetensors; required. */
    int64_t block_size;     /* Tokens per sequence; 0 for 512, or the model's positions if fewer (default). */
    int64_t width;          /* Width of the hidden layer; 0 for 2 * hidden_size (default). */
    int64_t steps;          /* Steps of 4,096 tokens; 0 for a number that follows from the text (default). */
    double learning_rate;   /* Highest learning rate (default 3e-3). */
    uint64_t seed;          /* Of initial weights and order (default 42). */
    bool bf16;              /* Compute in bf16 instead of f32 (default false). */
    /* Progress callback with the part of the work and the fraction of it done, 0 to 1. Return false to stop. NULL for
     * none. */
    bool (*go_on)(void *user, const char *part, double fraction);
    void *user; /* User data, passed to `go_on`. */
} lckv_fit_options;

#define LCKV_FIT_ITERATIONS 64

typedef struct lckv_fit_result {
    int64_t tokens, held_out_tokens; /* Fitted to; used to measure the divergence. */
    int64_t parameters, steps;
    double relative_error;                /* Squared error of keys and values over their squares. */
    int plan_iterations;                  /* forward_passes + backward_passes. */
    int default_iterations;               /* Iterations with which prompts are read from now on. */
    int measured;                         /* Entries of kl_zeros and kl_start. */
    double kl_zeros[LCKV_FIT_ITERATIONS]; /* Mean KL divergence from the exact form, nats per token, after */
    double kl_start[LCKV_FIT_ITERATIONS]; /* 1, 2, ... iterations: from zeros, from the start. */
} lckv_fit_result;

LCKV_API void lckv_fit_options_init(lckv_fit_options *options, size_t struct_size);
static inline lckv_fit_options lckv_fit_defaults(void) {
    lckv_fit_options options;
    lckv_fit_options_init(&options, sizeof options);
    return options;
}

/* Fits a small network that predicts the keys and values which a model's loops converge to, and writes it to
 * output_dir/loop_start.safetensors. The model's weights do not change. lckv_model_open() loads the file if it is
 * there; loops then need fewer iterations. The device remains the caller's.
 *   LCKV_ERROR_UNSUPPORTED: the model has no loop.
 *   LCKV_ERROR_FORMAT: the text is too short for two blocks.
 *   LCKV_ERROR_INTERRUPTED: `go_on` returned false; nothing was written. */
LCKV_API int lckv_fit_loop_start(lckv_device *device, const lckv_fit_options *options, lckv_fit_result *result);

/* The work that a trainer is about to do. */
typedef struct lckv_train_summary {
    int64_t parameters;                                  /* Those of an adapter included. */
    int64_t trainable_parameters;                        /* All parameters, or the adapter's only. */
    int64_t block_size, train_blocks, validation_blocks; /* Blocks as run_clm.py groups them (docs/data.md). */
    int64_t train_tokens;                                /* Of the training documents, dropped ones included. */
    int64_t steps_per_epoch;                             /* The last step of an epoch may be smaller. */
    int64_t steps;
    int64_t first_step;     /* Steps done before: those of the checkpoint that the run resumes from. */
    double flops_per_token; /* Of training: forward and backward, all iterations of loops included. */
} lckv_train_summary;

typedef struct lckv_train_result {
    int64_t steps, tokens;         /* Done in total, also before this process. */
    int64_t skipped_steps;         /* Of these, steps with a non-finite loss or gradient. */
    int64_t new_steps, new_tokens; /* Done by this process; 0 if nothing was left to do. */
    double seconds;                /* Training time of this process; 0 without new steps. */
    double tokens_per_second;      /* Of this process; NAN without new steps. */
    double train_loss;             /* Mean over all steps that were not skipped, also before this process. */
    double eval_loss;              /* Mean over the labels of the validation data; NAN without. */
    double perplexity;             /* exp(eval_loss) */
    double eval_accuracy;          /* Fraction of these labels with the largest logit, 0 to 1; NAN without. */
    double communication_wait; /* As in lckv_train_progress: mean over new_steps; NAN without, or with one process. */
} lckv_train_result;

/* Tokenized data in the cache. */
typedef struct lckv_tokenized {
    int64_t documents, tokens;
    char *path; /* File in token_cache_dir; free it with lckv_free(). */
} lckv_tokenized;

/* Encodes train_files as lckv_trainer_create() would and caches the ids, unless they are in the cache. It does not
 * train. Options used: tokenizer_name (required for text), those that define documents, token_cache_dir,
 * overwrite_cache, preprocessing_num_workers, and the callback. */
LCKV_API int lckv_tokenize(const lckv_train_options *options, lckv_tokenized *out);

/* A training run. */
typedef struct lckv_trainer lckv_trainer;

/* Checks the options, reads the data, and loads or creates the model. If the tokenizer has more tokens than the model
 * has embedding rows, lckv adds rows, drawn with the config's initializer range, and logs it. If output_dir has
 * checkpoints (and overwrite_output_dir is false), the run resumes from the newest valid one; a warning names damaged
 * ones. One run at a time writes to a folder. This function writes only the folder's run.lock. LCKV_ERROR_MEMORY: the
 * run would not fit, by the estimate of the counting device; nothing has been read. LCKV_ERROR_ARGUMENT: an option is
 * out of range, or output_dir has files but no checkpoint. LCKV_ERROR_FORMAT: all checkpoints, or the requested one,
 * are damaged. LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_trainer_create(const lckv_train_options *options, lckv_trainer **out);
LCKV_API lckv_train_summary lckv_trainer_summary(const lckv_trainer *trainer);

/* Measures the FLOP/s of plain matrix products, in the trainer's data type and on its device, times the number of
 * processes. Compare the speed of training with it. It takes a fraction of a second. Call it on the trainer's thread
 * while lckv_trainer_run() is not running. */
LCKV_API int lckv_trainer_peak(lckv_trainer *trainer, double *flops_per_second);
/* Returns the memory footprint of this process in bytes; on a GPU, the memory that all processes use there. 0 if
 * unknown. */
LCKV_API int64_t lckv_trainer_memory(const lckv_trainer *trainer);

/* Trains, evaluates, and saves the model to output_dir as a Hugging Face folder. Call it once per trainer. `result` may
 * be NULL. The optimizer is AdamW. The loss of a step is the sum over all of its labels divided by their number,
 * accumulated micro-batches included.
 *
 * A resumed run ends with the same bytes as an uninterrupted one if threads, CPU features and options are the same;
 * otherwise lckv logs a warning. A checkpoint that cannot be written (a full disk) is a warning, and training
 * continues. LCKV_ERROR_INTERRUPTED: the callback asked to stop. A checkpoint has been written, and *result describes
 * the run so far. LCKV_ERROR_NUMERIC: more than max_skipped_steps losses or gradients are not finite. The message names
 * the step and the last checkpoint; a model that was in output_dir is unchanged. */
LCKV_API int lckv_trainer_run(lckv_trainer *trainer, lckv_train_result *result);
LCKV_API void lckv_trainer_free(lckv_trainer *trainer);

/* ---------------------------------------------------------------- generation */

/* How a model with loops processes given tokens. Without loops all of these are equal. */
typedef enum lckv_encoding {
    /* Up to forward_passes + backward_passes tokens: sequential. More: by the plan, unless so many prompts can be
     * processed together that token by token is faster for all of them (docs/serving.md). */
    LCKV_ENCODING_AUTO,
    LCKV_ENCODING_PLAN,      /* All tokens in parallel, by the plan: the form that the model was trained in. */
    LCKV_ENCODING_SEQUENTIAL /* Token by token: the exact form. */
} lckv_encoding;

/* The measured duration of a step, an entry of a cost table. */
typedef struct lckv_step_cost {
    lckv_encoding encoding; /* SEQUENTIAL: one token of each sequence; PLAN: a prefill chunk of each. */
    int64_t rows, depth;    /* Tokens of the step, and tokens of each sequence before them. */
    double seconds;
} lckv_step_cost;

typedef enum lckv_finish {
    LCKV_FINISH_NONE,   /* Not finished. */
    LCKV_FINISH_STOP,   /* An EOS token, or a stop string in the text. */
    LCKV_FINISH_LENGTH, /* Stopped at the token limit, or at the model's context length (max_position_embeddings). */
    LCKV_FINISH_ERROR   /* The logits are not finite; there is no token. */
} lckv_finish;

/* A prompt: 1 to INT32_MAX ids of the model, for example from lckv_tokenizer_encode(). */
typedef struct lckv_prompt {
    const int32_t *ids;
    int64_t count;
} lckv_prompt;

/* A new token of one sequence. Valid until the callback returns. */
typedef struct lckv_token {
    int prompt, sample; /* The sequence: sample 0 to num_return_sequences - 1 of prompt 0 to count - 1. */
    int32_t id;
    double logprob; /* Natural log-probability under the plain logits, before penalty and temperature. */
    /* Text that this token completes: whole UTF-8 characters that continue the prompt's text, often "". Text that may
     * become a stop string is held back. Always "" without a tokenizer. */
    const char *text;
    size_t text_bytes;
    lckv_finish finish; /* If not LCKV_FINISH_NONE, this is the sequence's last token. */
} lckv_token;

/* Token callback, called for each new token, and with NULL after each step that brought none (prefill). Return false to
 * stop. */
typedef bool (*lckv_token_callback)(void *user, const lckv_token *token);

/* Names and defaults are those of run_generation.py if it has them. */
typedef struct lckv_generate_options {
    size_t struct_size; /* Size of this struct, set by lckv_generate_defaults(). */
    int64_t length;     /* Maximum number of new tokens (default 20). */
    double temperature; /* Sampling temperature; 0 is greedy: always the most probable token (default 1). */
    int64_t top_k;      /* Number of most probable tokens to sample from; 0 for all (default). */
    double top_p;       /* Probability mass of the smallest set of tokens to sample from; 1 for all (default 0.9). */
    double min_p;       /* Minimum probability relative to the most probable token; 0 for all (default). */
    double
        repetition_penalty; /* Penalty on ids that occurred, above 1 (Keskar et al. 2019); 1 disables it (default). */
    /* Random seed (default 42). Sample i of prompt j does not depend on what else is generated with it. */
    uint64_t seed;
    int num_return_sequences; /* Samples per prompt (default 1). */
    bool ignore_eos; /* Continue after EOS tokens, those of config.json and generation_config.json (default false). */
    const char *const
        *stop;      /* [stop_count] Strings that end a text, which is cut before them; they need a tokenizer. */
    int stop_count; /* Number of stop strings (default 0). */

    lckv_encoding encoding;    /* How prompts are processed (default auto). */
    int encoding_iterations;   /* Iterations per loop, as in lckv_engine_options; 0 for the model's own (default). */
    double encoding_tolerance; /* Early end of the iterations, as in lckv_engine_options; 0 for never (default). */
    /* Tokens in the sink cache (StreamingLLM), which has no length limit; 0 keeps all tokens (default). */
    int64_t window_length;
    int64_t num_sink_tokens; /* Of these, the first tokens of the sequence; less than window_length (default 0). */
    bool bf16;               /* Products, attention and KV cache in bfloat16 (default false: f32). */

    lckv_token_callback callback; /* Token callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */
    const char *cost_table;       /* File of cost tables, as in lckv_engine_options; NULL for none (default). */
    const char *kv_dtype;         /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_generate_options;

LCKV_API void lckv_generate_options_init(lckv_generate_options *options, size_t struct_size);
static inline lckv_generate_options lckv_generate_defaults(void) {
    lckv_generate_options options;
    lckv_generate_options_init(&options, sizeof options);
    return options;
}

typedef struct lckv_sequence {
    int prompt, sample;
    int32_t *ids; /* [count] The new tokens only, a final EOS included. */
    int64_t count;
    /* Decoded `ids` without special tokens, cut before a stop string; text_bytes bytes, then NUL. NULL without a
     * tokenizer. */
    char *text;
    size_t text_bytes;
    lckv_finish finish;
    lckv_encoding encoding; /* How the prompt was processed: PLAN or SEQUENTIAL. */
} lckv_sequence;

typedef struct lckv_generation {
    lckv_sequence *sequences; /* [count] By prompt, then by sample. */
    int count;
    int64_t prompt_tokens, decode_tokens;  /* Prefilled tokens, and tokens from steps without prefill. */
    double prompt_seconds, decode_seconds; /* Duration of the steps with prefill, and of the others. */
    double decode_bytes;                   /* Bytes of weights that the others read: each weight once per step. */
} lckv_generation;

/* Generates from `count` prompts, batched. The cache holds prompt and new tokens. Without a sink cache a sequence ends
 * at the model's max_position_embeddings; lckv logs a warning if it expects this. With a sink cache, the first window
 * of a prompt is processed as usual and the rest token by token. `tokenizer` may be NULL: no text then. `options` NULL
 * uses the defaults. Free *out with lckv_generation_free(). LCKV_ERROR_ARGUMENT: an option or id is out of range, a
 * prompt fills all positions of the model, or the tokenizer has more tokens than the model. LCKV_ERROR_NUMERIC: logits
 * are not finite. LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_generate(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_prompt *prompts, int count,
                           const lckv_generate_options *options, lckv_generation **out);
LCKV_API void lckv_generation_free(lckv_generation *generation);

/* ---------------------------------------------------------------- engine: continuous batching */

/* Runs many requests over one model with continuous batching: requests join and leave between steps, and each gets the
 * result that it would get alone. One thread owns the engine, its model, and the tokenizer while the engine uses it. */
typedef struct lckv_engine lckv_engine;

typedef struct lckv_logprob {
    int32_t id;
    float logprob; /* Natural log-probability under the plain logits. */
} lckv_logprob;

/* An event of one sample: a new token, or its end. Pointers are valid until the callback returns. */
typedef struct lckv_event {
    uint64_t request; /* Number of the request, from lckv_engine_submit(). */
    void *mark;       /* User data of the request. */
    int sample;       /* 0 to n - 1 */
    /* The event is about a token of the prompt (see prompt_logprobs). These events come first, in order, from the
     * second token on, for sample 0 only; their text is "" and new_tokens is 0. */
    bool of_prompt;
    int32_t token;  /* The token; -1 if there is none and the sample only ended. */
    double logprob; /* Natural log-probability under the plain logits; NAN without a token. */
    /* [top_count] The most probable tokens at this position, best first. If `token` is one of them, the
     * log-probabilities are equal. */
    const lckv_logprob *top;
    int top_count; /* The request's top_logprobs; 0 without a token. */
    /* Text that this token completes: whole UTF-8 characters that continue the prompt's text, often "". Text that may
     * become a stop string is held back; a stop string is cut off. "" without a tokenizer. */
    const char *text;
    size_t text_bytes;
    lckv_finish finish; /* If not LCKV_FINISH_NONE, this is the sample's last event. */
    int64_t new_tokens; /* New tokens of this sample so far, this one included. */
    int64_t prompt_tokens;
    int64_t
        cached_tokens; /* Of prompt_tokens, those that were in the cache from an earlier prompt or another sample. */
    lckv_encoding encoding; /* How the prompt is processed: PLAN or SEQUENTIAL. */
} lckv_event;

/* Event callback, called for each event during lckv_engine_step(). It must not call the engine. */
typedef void (*lckv_event_callback)(void *user, const lckv_event *event);

typedef struct lckv_engine_options {
    size_t struct_size; /* Size of this struct, set by lckv_engine_defaults(). */
    /* Maximum number of samples that run together; 0 for 128, and on a GPU for as many as half of its free memory holds
     * KV caches for, 128 to 1024 (default). */
    int max_num_seqs;
    /* Maximum number of tokens per sample, prompt included; 0 for the model's max_position_embeddings, or less if the
     * KV cache is too small for one sample of this length (default). No limit with a sink cache. */
    int64_t max_model_len;
    /* Device memory for the KV cache in bytes, allocated at once; 0 for what max_num_seqs samples of max_model_len
     * tokens need, at most half of the free memory (default). */
    int64_t kv_cache_memory;
    /* Maximum number of prompt tokens per step, and of a chunk, but at least prefill_chunk_size. 0 for 2048, on a GPU
     * 8192 (default). */
    int64_t max_num_batched_tokens;
    /* Prefill chunk in tokens, at most max_num_batched_tokens; 0 for 256, on a GPU 1024 (default). Chunks end at
     * multiples of it, counted from the start of the prompt. Except on a GPU, the last one is split once more at a
     * multiple of 32 tokens. Prompts share whole chunks. In models with loops the result depends on the chunks, and on
     * nothing else about batching. */
    int64_t prefill_chunk_size;
    /* Iterations per loop for a chunk that is processed by the plan; 0 for forward_passes + backward_passes, or for as
     * many as are as exact with a learned start (default). Fewer are faster and less exact (docs/serving.md). */
    int encoding_iterations;
    /* Early end of a chunk's iterations: relative change of its keys and values below which they stop; 0 for never
     * (default). */
    double encoding_tolerance;
    /* Make each sample bit-identical in any batch, with slower products; CPU only. LCKV_ENCODING_AUTO then depends on
     * the request alone: long prompts use the plan. Default false: equal up to rounding and to that choice. */
    bool batch_invariant;
    int max_queue;                /* Maximum number of waiting requests (default 1024). */
    int64_t window_length;        /* Tokens in the sink cache (StreamingLLM); 0 keeps all tokens (default). */
    int64_t num_sink_tokens;      /* Of these, the first tokens of the sequence; less than window_length (default 0). */
    bool bf16;                    /* Products, attention and KV cache in bfloat16 (default false: f32). */
    lckv_event_callback callback; /* Event callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */
    /* File of cost tables, for LCKV_ENCODING_AUTO. If it has a table of this device and model, the engine uses it; else
     * it measures one when it first needs it, and adds it to the file, which is created with its folder. The same table
     * and the same requests give the same choice. NULL: measured by each engine, and not kept (default). */
    const char *cost_table;
    /* Time to the first token up to which AUTO processes prompts token by token, in seconds, as estimated when they
     * start. A longer time is allowed if the plan needs it, too. 0 for no limit (default). */
    double max_time_to_first_token;
    /* Duration of a step up to which prompts join it token by token while other samples decode, in seconds, as
     * estimated. 0 for that of max_num_batched_tokens tokens by the plan (default). */
    double max_time_between_tokens;
    /* Type of the keys and values in the KV cache: "auto" for the type of computation (also NULL; default),
     * "float32", "bfloat16", or "int8": bytes with an f32 scale for each token and KV head (docs/model.md).
     */
    const char *kv_dtype;
} lckv_engine_options;

LCKV_API void lckv_engine_options_init(lckv_engine_options *options, size_t struct_size);
static inline lckv_engine_options lckv_engine_defaults(void) {
    lckv_engine_options options;
    lckv_engine_options_init(&options, sizeof options);
    return options;
}

/* Creates an engine. Model and tokenizer remain the caller's and must outlive it. `tokenizer` may be NULL: no text
 * then. `options` NULL uses the defaults. LCKV_ERROR_ARGUMENT: an option is out of range, or the tokenizer has more
 * tokens than the model. LCKV_ERROR_MEMORY: no memory for the KV cache, or it is too small for one sample of
 * max_model_len tokens. */
LCKV_API int lckv_engine_create(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_engine_options *options,
                                lckv_engine **out);
/* Frees the engine. Running requests end without an event. */
LCKV_API void lckv_engine_free(lckv_engine *engine);

typedef struct lckv_request {
    size_t struct_size; /* Size of this struct, set by lckv_request_defaults(). */
    lckv_prompt prompt; /* Prompt; required. */
    int n;              /* Number of samples, at most max_num_seqs (default 1). */
    /* Maximum number of new tokens per sample; -1 for what max_model_len leaves (default); 0 only processes the prompt.
     */
    int64_t max_new_tokens;
    double temperature;        /* Sampling temperature; 0 is greedy: always the most probable token (default 1). */
    int64_t top_k;             /* Number of most probable tokens to sample from; 0 for all (default). */
    double top_p;              /* Probability mass of the smallest set of tokens to sample from; 1 for all (default). */
    double min_p;              /* Minimum probability relative to the most probable token; 0 for all (default). */
    double repetition_penalty; /* Penalty on ids that occurred, also in the prompt, above 1; 1 disables it (default). */
    double
        presence_penalty; /* Value to subtract from the logits of tokens in the sample, prompt excluded (default 0). */
    double frequency_penalty; /* The same, for each occurrence (default 0). */
    const int32_t *bias_ids;  /* [bias_count] Ids whose logits are biased, before everything else. */
    const float *bias_values; /* [bias_count] Values to add; finite. */
    int bias_count;           /* Number of biases (default 0). */
    int top_logprobs;         /* Most probable tokens to return with each token, 0 to 100 (default 0). */
    /* Return log-probabilities of the prompt's tokens too (default false). In models with loops such a prompt is
     * processed as one chunk, as in lckv_score(). */
    bool prompt_logprobs;
    /* Random seed and stream (default 0, 0). A sample is a function of these, its number, the prompt and the options.
     */
    uint64_t seed, stream;
    bool ignore_eos; /* Continue after EOS tokens, those of config.json and generation_config.json (default false). */
    const char *const
        *stop;              /* [stop_count] Strings that end a text, which is cut before them; they need a tokenizer. */
    int stop_count;         /* Number of stop strings (default 0). */
    lckv_encoding encoding; /* How the prompt is processed (default auto). PLAN: as one chunk. */
    void *mark;             /* User data, returned with each event (default NULL). */
} lckv_request;

LCKV_API void lckv_request_init(lckv_request *options, size_t struct_size);
static inline lckv_request lckv_request_defaults(void) {
    lckv_request options;
    lckv_request_init(&options, sizeof options);
    return options;
}

/* Queues a request and returns its number, counted from 1. Requests start in order of submission, as soon as there is
 * memory for the whole request; later requests cannot take it away.
 *   LCKV_ERROR_ARGUMENT: an option or id is out of range.
 *   LCKV_ERROR_TOO_LONG: prompt and new tokens exceed max_model_len.
 *   LCKV_ERROR_BUSY: max_queue requests are waiting.
 *   LCKV_ERROR_MEMORY: no memory for the request; the engine is unharmed. */
LCKV_API int lckv_engine_submit(lckv_engine *engine, const lckv_request *request, uint64_t *id);
/* Cancels a request in any state. Its memory is free at once and no more events come. An unknown or finished request is
 * ignored. */
LCKV_API void lckv_engine_cancel(lckv_engine *engine, uint64_t id);

/* Returns whether no request is running or waiting. */
LCKV_API bool lckv_engine_idle(const lckv_engine *engine);
/* Returns the cost table of the engine. If it is not known yet, it is loaded or measured, which takes seconds. The
 * engine owns *costs [*count]. There is none if there is nothing to choose: the model has no loops, or an option
 * excludes it (batch_invariant, encoding_tolerance, window_length). */
LCKV_API int lckv_engine_costs(lckv_engine *engine, const lckv_step_cost **costs, int *count);
/* Runs one step: one token for each running sample, and at most max_num_batched_tokens tokens of waiting prompts. It
 * does nothing if the engine is idle. After LCKV_ERROR_DEVICE or LCKV_ERROR_MEMORY the engine can only be freed. */
LCKV_API int lckv_engine_step(lckv_engine *engine);

typedef struct lckv_engine_stats {
    int max_num_seqs;     /* Maximum number of samples that run together, as chosen. */
    int running, waiting; /* Samples. */
    int64_t max_model_len;
    int64_t submitted, finished, cancelled;                   /* Requests so far. */
    int64_t kv_pages, kv_pages_used, kv_bytes, kv_bytes_used; /* KV cache: total, and used by running samples. */
    int64_t kv_pages_shared;                                  /* Used pages of two or more samples. */
    /* Bytes that plain attention would use now: all tokens in every layer, nothing shared. */
    int64_t kv_bytes_plain;
    int64_t kv_pages_kept; /* Unused pages in the prefix cache; they are evicted when pages run out. */
    int64_t steps, prompt_tokens, decode_tokens; /* Prefilled tokens, and tokens from steps without prefill. */
    double prompt_seconds, decode_seconds;       /* Duration of the steps with prefill, and of the others. */
    double decode_bytes;                         /* Bytes of weights that the others read: each weight once per step. */
    int64_t sequential_tokens;                   /* Of prompt_tokens, those that were processed token by token. */
} lckv_engine_stats;

LCKV_API lckv_engine_stats lckv_engine_describe(const lckv_engine *engine);

typedef struct lckv_slot_usage {
    int layer;          /* Owner of the slot. */
    int64_t bytes_used; /* Share of kv_bytes_used. */
} lckv_slot_usage;

/* Fills `out` [kv_slots of the model's config], one entry per slot. */
LCKV_API void lckv_engine_describe_slots(const lckv_engine *engine, lckv_slot_usage *out);

/* ---------------------------------------------------------------- scoring */

typedef struct lckv_score_options {
    size_t struct_size;      /* Size of this struct, set by lckv_score_defaults(). */
    lckv_encoding encoding;  /* How the tokens are processed (default auto). */
    int64_t window_length;   /* Tokens in the sink cache, processed token by token; 0 keeps all tokens (default). */
    int64_t num_sink_tokens; /* Of these, the first tokens; less than window_length (default 0). */
    bool bf16;               /* Products, attention and KV cache in bfloat16 (default false: f32). */
    const char
        *logits_file; /* File for tensor `logits`, safetensors, [count, vocab_size] f32; NULL for none (default). */
    float *logits;    /* [count, vocab_size] Buffer for the logits; NULL for none (default). Not with logits_file. */
    /* Patterns of the tensors to write to dump_file, with * and {a,b} as in the shell; NULL for none (default). Each is
     * f32 [count, ...]. layers.N.hidden: residual stream after layer N; layers.N.attn: attention output before o_proj;
     * layers.N.k, layers.N.v: cached keys and values of slot owners. */
    const char *dump;
    const char *dump_file; /* File for the dump, safetensors; required with `dump`. */
    /* Dump every iteration of a loop, as layers.N.run.R.hidden and so on, R from 0 (default false: the last iteration).
     * Tensors that an iteration does not compute, because nothing reads them, are missing. */
    bool dump_iterations;
    int64_t top_logprobs; /* Most probable ids to return per position; 0 for none (default). */
    int32_t *top_ids;     /* [count, top_logprobs] Buffer for the ids that may follow each id, best first. */
    /* [count, top_logprobs] Buffer for their log-probabilities. If the next id is one of them, `logprobs` has the same
     * number. */
    float *top_values;
    /* Progress callback, called between tokens if they are processed one at a time. Return false to stop. NULL for none
     * (default). */
    bool (*go_on)(void *user, double fraction);
    void *user;                /* User data, passed to `go_on`. */
    int encoding_iterations;   /* Iterations per loop, as in lckv_engine_options; 0 for the model's own (default). */
    double encoding_tolerance; /* As in lckv_engine_options; 0 disables it (default). */
    const char *kv_dtype;      /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_score_options;

LCKV_API void lckv_score_options_init(lckv_score_options *options, size_t struct_size);
static inline lckv_score_options lckv_score_defaults(void) {
    lckv_score_options options;
    lckv_score_options_init(&options, sizeof options);
    return options;
}

/* Computes the natural log-probabilities of ids[1] to ids[count - 1], each given all ids before it. `logprobs` [count -
 * 1] is the caller's. `options` NULL uses the defaults. Without `logits` and `logits_file`, only a part of the logits
 * is in memory at any time. More ids than the model has positions are scored too, with a warning in the log.
 *   LCKV_ERROR_ARGUMENT: an id is not the model's, or an option is out of range.
 *   LCKV_ERROR_FILE: logits_file cannot be written.
 *   LCKV_ERROR_NUMERIC: a log-probability is not finite.
 *   LCKV_ERROR_INTERRUPTED: `go_on` returned false. */
LCKV_API int lckv_score(lckv_model *model, const int32_t *ids, int64_t count, const lckv_score_options *options,
                        float *logprobs);

/* Mean KL divergence, in nats per token, of the next-token distributions of `logits` from those of `exact`, both
 * [tokens, vocab_size]: that of the parallel form of a model with loops from its exact form, for example. At least 0:
 * rounding may leave less. NAN if a logit is not finite, or without tokens. */
LCKV_API double lckv_kl_divergence(const float *exact, const float *logits, int64_t tokens, int64_t vocab_size);

/* ---------------------------------------------------------------- evaluation */

typedef struct lckv_eval_progress {
    const char *task;        /* Current task; valid until the callback returns. */
    int64_t done, documents; /* Documents of all tasks: evaluated, and in total. */
    double seconds, seconds_left;
} lckv_eval_progress;

/* Progress callback, called after each call of the model, on the caller's thread. Return false to stop. */
typedef bool (*lckv_eval_callback)(void *user, const lckv_eval_progress *progress);

/* Tasks of lm-evaluation-harness 0.4.13, with the same documents and the same prompts. */
typedef struct lckv_eval_options {
    size_t struct_size; /* Size of this struct, set by lckv_eval_defaults(). */
    /* Tasks: built-in names (hellaswag, openbookqa, winogrande, arc_challenge, arc_easy, boolq, piqa, mmlu,
     * lambada_openai, sciq), or files that describe a task (docs/evaluation.md). */
    const char *const *tasks;
    int task_count;        /* Number of tasks. */
    const char *data_dir;  /* Folder of the tasks' documents; docs/evaluation.md lists the file names. */
    int64_t num_fewshot;   /* Number of examples before each document; -1 for the task's own (default). */
    uint32_t fewshot_seed; /* Random seed of the examples (default 1234). */
    double limit; /* Maximum number of documents per task, from the first; below 1, a fraction; 0 for all (default). */
    bool log_samples; /* Add each document's context, continuations and log-likelihoods to the results (default false).
                       */
    /* How contexts are processed (default auto). SEQUENTIAL: token by token, many documents together, which is exact.
     * AUTO: SEQUENTIAL if the cost table says that it is faster for all documents together, else PLAN. */
    lckv_encoding encoding;
    bool bf16;                   /* Products and attention in bfloat16 (default false: f32). */
    lckv_eval_callback callback; /* Progress callback; NULL for none (default). */
    void *user;                  /* User data, passed to the callback. */
    const char *cost_table;      /* File of cost tables, as in lckv_engine_options; NULL for none (default). */
    const char *kv_dtype;        /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_eval_options;

LCKV_API void lckv_eval_options_init(lckv_eval_options *options, size_t struct_size);
static inline lckv_eval_options lckv_eval_defaults(void) {
    lckv_eval_options options;
    lckv_eval_options_init(&options, sizeof options);
    return options;
}

/* Evaluates a model on tasks. *json is an object in the layout of the harness's results file: for each task, "results"
 * has "acc,none", "acc_stderr,none" and so on. Contexts longer than max_position_embeddings are truncated from the
 * left. Free *json with lckv_free(). LCKV_ERROR_FILE: the documents or the description of a task are missing.
 *   LCKV_ERROR_FORMAT: they are malformed.
 *   LCKV_ERROR_ARGUMENT: an option is out of range, or there is no such task.
 *   LCKV_ERROR_NUMERIC: a log-likelihood is not finite.
 *   LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_eval(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_eval_options *options, char **json);

/* ---------------------------------------------------------------- perplexity of long texts */

/* Two modes. Windows: the text is cut into windows of block_size tokens that start `stride` tokens apart; each token is
 * scored once, by the first window that contains it. Streaming: all texts form one stream, processed token by token
 * through the sink cache (StreamingLLM) in constant memory. */
typedef struct lckv_perplexity_options {
    size_t struct_size;      /* Size of this struct, set by lckv_perplexity_defaults(). */
    bool streaming;          /* Streaming mode (default false: windows). */
    int64_t window_length;   /* Streaming: tokens in the cache (default 256). */
    int64_t num_sink_tokens; /* Streaming: of these, the first tokens of the stream (default 2). */
    /* Streaming: position of the first token after the sinks, as if that number of tokens had been evicted before it
     * (default 0). */
    int64_t start_position;
    int64_t block_size;      /* Windows: length in tokens; 0 for max_position_embeddings (default). */
    int64_t stride;          /* Windows: distance in tokens, less than block_size; 0 for half of it (default). */
    int64_t num_eval_tokens; /* Maximum number of tokens to score, over all texts; 0 for all (default). */
    lckv_encoding encoding;  /* Windows: AUTO and PLAN use the plan, SEQUENTIAL is exact (default auto). */
    bool bf16;               /* Products, attention and KV cache in bfloat16 (default false: f32). */
    /* Token callback, called with the negative log-likelihood of each token in nats. Return false to stop. NULL for
     * none (default). */
    bool (*callback)(void *user, double nll);
    void *user;           /* User data, passed to the callback. */
    const char *kv_dtype; /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_perplexity_options;

LCKV_API void lckv_perplexity_options_init(lckv_perplexity_options *options, size_t struct_size);
static inline lckv_perplexity_options lckv_perplexity_defaults(void) {
    lckv_perplexity_options options;
    lckv_perplexity_options_init(&options, sizeof options);
    return options;
}

typedef struct lckv_perplexity_result {
    int64_t tokens;      /* Scored tokens: all of a text but its first. */
    double mean_nll;     /* Nats per token; NAN before the first. */
    double perplexity;   /* exp(mean_nll) */
    int64_t cache_bytes; /* Streaming: device memory of the KV cache. */
} lckv_perplexity_result;

/* Mean negative log-likelihood of `tokens` scored tokens, starting with number `first`, counted from 0. */
typedef struct lckv_curve_point {
    int64_t first, tokens;
    double nll;
} lckv_curve_point;

typedef struct lckv_perplexity lckv_perplexity;

/* Starts a measurement. The model must outlive it. `options` NULL uses the defaults.
 *   LCKV_ERROR_ARGUMENT: an option is out of range. */
LCKV_API int lckv_perplexity_open(lckv_model *model, const lckv_perplexity_options *options, lckv_perplexity **out);
/* Scores a text, at most until num_eval_tokens are scored. Tokens that were scored before an error count.
 *   LCKV_ERROR_ARGUMENT: an id is not the model's.
 *   LCKV_ERROR_NUMERIC: a negative log-likelihood is not finite.
 *   LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_perplexity_read(lckv_perplexity *p, const int32_t *ids, int64_t count);
/* Returns the result over all texts so far. */
LCKV_API lckv_perplexity_result lckv_perplexity_so_far(const lckv_perplexity *p);
/* Returns the negative log-likelihood over the position, at most 256 points. Free *points with lckv_free(). */
LCKV_API int lckv_perplexity_curve(const lckv_perplexity *p, lckv_curve_point **points, int *count);
LCKV_API void lckv_perplexity_free(lckv_perplexity *p);

/* ---------------------------------------------------------------- memory estimates */

/* Bytes of device memory and FLOPs of a run. They are exact for what they count: the same code runs on the device
 * "count", which computes nothing. */
typedef struct lckv_memory {
    int64_t weights;
    int64_t gradients, optimizer; /* Training; f32 master weights of bfloat16 weights count as optimizer. */
    int64_t kv_cache;             /* Serving: pages that the sequences use, an engine's kv_bytes_used. */
    int64_t kv_cache_plain;       /* Serving: the engine's kv_bytes_plain. */
    /* Serving: memory of a KV cache that holds the sequences however they are scheduled; kv_bytes of an engine that
     * chooses the size itself. */
    int64_t kv_cache_reserved;
    int64_t activations; /* Peak of all temporary memory. */
    int64_t total;       /* Sum of the above without kv_cache and kv_cache_plain, which kv_cache_reserved contains. */
    /* Products and attention, 2 per multiply-add: of one training step, or of one decoded token for each sequence (0 if
     * all sequences end with their prompts). */
    double flops;
} lckv_memory;

/* Options that determine the memory of training, as in lckv_train_options. */
typedef struct lckv_training_shape {
    size_t struct_size;                /* Size of this struct, set by lckv_training_shape_defaults(). */
    int64_t batch_size, block_size;    /* Micro-batch size in blocks, and block length in tokens. */
    bool bf16, gradient_checkpointing; /* As in lckv_train_options. */
    bool bf16_weights;                 /* torch_dtype is "bfloat16". */
    const lckv_lora *lora;             /* Adapter to train (use_peft); NULL if all weights are trained. */
    lckv_loop_form loop_form;          /* As in lckv_train_options. */
    int64_t loop_group_size;           /* As in lckv_train_options; 0 (default): batch_size. */
    bool loop_start;                   /* With a learned start of the default width (default false). */
    int64_t num_processes;             /* Processes that train together; 0 (default): one. */
    int64_t zero;                      /* As in lckv_train_options; 0 and 1: stage 1 (default). */
    bool zero_regather_loops;          /* As in lckv_train_options (default false). */
    bool bf16_gradients;               /* grad_accum_dtype is "bfloat16" (default false). */
    double loop_plan_share;            /* As in lckv_train_options (default 0); flops is the mean over the steps. */
    double loop_iteration_weight;      /* As in lckv_train_options (default 0). */
} lckv_training_shape;

LCKV_API void lckv_training_shape_init(lckv_training_shape *options, size_t struct_size);
static inline lckv_training_shape lckv_training_shape_defaults(void) {
    lckv_training_shape options;
    lckv_training_shape_init(&options, sizeof options);
    return options;
}

/* Estimates the memory of training with AdamW. Frozen matrices below an adapter have the config's weight_dtype.
 * LCKV_ERROR_UNSUPPORTED: these are quantized, and there is no adapter. With several processes, it is that of one
 * of them: the one with the largest share of the optimizer state. */
LCKV_API int lckv_memory_for_training(const lckv_config *config, const lckv_training_shape *shape, lckv_memory *out);

/* Options that determine the memory of serving. Weights have the config's torch_dtype and weight_dtype. */
typedef struct lckv_serving_shape {
    size_t struct_size;                     /* Size of this struct, set by lckv_serving_shape_defaults(). */
    int64_t sequences;                      /* Number of sequences that run together. */
    int64_t length;                         /* Tokens per sequence, new ones included. */
    int64_t prompt_length;                  /* Of these, tokens of the prompt; 0 for all but the last two (default). */
    bool bf16;                              /* Products and KV cache in bfloat16 (default false: f32). */
    int64_t window_length, num_sink_tokens; /* Sink cache, as in lckv_engine_options; 0 for none (default). */
    const char *kv_dtype; /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
    /* Processes that run the model together (lckv_model_options.processes). The estimate is that of rank 0, whose
     * part is the largest. 0 (default): one. */
    int64_t tensor_parallel;
} lckv_serving_shape;

LCKV_API void lckv_serving_shape_init(lckv_serving_shape *options, size_t struct_size);
static inline lckv_serving_shape lckv_serving_shape_defaults(void) {
    lckv_serving_shape options;
    lckv_serving_shape_init(&options, sizeof options);
    return options;
}

/* Estimates the memory of serving sequences that share nothing: prefill of all prompts, then one decoding step.
 *   LCKV_ERROR_ARGUMENT: a value is out of range, or the model cannot be divided between tensor_parallel processes. */
LCKV_API int lckv_memory_for_serving(const lckv_config *config, const lckv_serving_shape *shape, lckv_memory *out);

#ifdef __cplusplus
}
#endif
#endif
