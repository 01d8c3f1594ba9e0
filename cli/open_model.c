#include "open_model.h"
#include "cli/output/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_named_tokenizer(const char *name, lckv_tokenizer **out) {
    char *folder;
    *out = NULL;
    int status = lckv_find_folder(name, &folder);
    if (status >= 0) status = lckv_tokenizer_open(folder, out);
    lckv_free(folder);
    return status;
}

/* Whether the model's folder has a tokenizer; most tests and some checkpoints have none. A GGUF file is opened to see.
 */
static bool has_tokenizer(const char *name) {
    char *folder, *file;
    int status = lckv_find_folder(name, &folder);
    if (status < 0) return status == LCKV_ERROR_MEMORY; /* unknown: opening it will tell */
    size_t length = strlen(folder) + sizeof "/tokenizer.json";
    file = need(malloc(length));
    snprintf(file, length, "%s/tokenizer.json", folder);
    struct stat status_of_folder;
    bool gguf = stat(folder, &status_of_folder) == 0 && S_ISREG(status_of_folder.st_mode);
    bool found = gguf || access(file, F_OK) == 0;
    lckv_free(folder);
    free(file);
    return found;
}

const char *model_tokenizer_name(const struct model_flags *flags) {
    if (flags->tokenizer_name) return flags->tokenizer_name;
    return flags->adapter && has_tokenizer(flags->adapter) ? flags->adapter : flags->name;
}

int open_tokenizer(const char *command, const struct model_flags *flags, lckv_tokenizer **out) {
    progress(-1, "loading the tokenizer of %s", model_tokenizer_name(flags));
    int status = open_named_tokenizer(model_tokenizer_name(flags), out);
    progress_end();
    return status < 0 ? library_error(command, status) : EXIT_FINE;
}

int open_chat_template(const char *command, const struct model_flags *flags, const char *file,
                       lckv_chat_template **out) {
    char *folder;
    *out = NULL;
    int status = lckv_find_folder(model_tokenizer_name(flags), &folder);
    if (status >= 0) status = lckv_chat_template_open(folder, file, out);
    lckv_free(folder);
    return status < 0 ? library_error(command, status) : EXIT_FINE;
}

int check_sink_cache(const char *command, int64_t num_sink_tokens, int64_t window_length) {
    if (num_sink_tokens < window_length) return EXIT_FINE;
    return usage_error(command, "--num_sink_tokens (%lld) must be less than --window_length (%lld)",
                       (long long)num_sink_tokens, (long long)window_length);
}

const char *encoding_name(lckv_encoding encoding) {
    return encoding == LCKV_ENCODING_SEQUENTIAL ? "sequential" : "plan";
}

char *cost_table_path(const char *value) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (value) return strcmp(value, "none") ? need(strdup(value)) : NULL;
    if (!(cache && *cache) && !(home && *home)) return NULL;
    bool own = cache && *cache;
    const char *folder = own ? cache : home, *rest = own ? "/lckv/cost_tables.json" : "/.cache/lckv/cost_tables.json";
    size_t bytes = strlen(folder) + strlen(rest) + 1;
    char *path = need(malloc(bytes));
    snprintf(path, bytes, "%s%s", folder, rest);
    return path;
}

const char *torch_dtype_name(int torch_dtype) {
    static const char *const NAMES[] = {"auto", "float32", "bfloat16", "float16"};
    return NAMES[torch_dtype];
}

const char *kv_dtype_name(int kv_dtype) {
    static const char *const NAMES[] = {"auto", "float32", "bfloat16", "int8"};
    return NAMES[kv_dtype];
}

lckv_dtype kv_dtype_of(int kv_dtype, bool bf16) {
    static const lckv_dtype TYPES[] = {0, LCKV_FLOAT32, LCKV_BFLOAT16, LCKV_INT8};
    if (kv_dtype) return TYPES[kv_dtype];
    return bf16 ? LCKV_BFLOAT16 : LCKV_FLOAT32;
}

const char *weight_dtype_name(int weight_dtype) {
    static const char *const NAMES[] = {"auto", "float", "int8", "int4"};
    return NAMES[weight_dtype];
}

char *add_overrides(const char *overrides, const added_overrides *added) {
    size_t bytes = (overrides ? strlen(overrides) : 0) + 128, length;
    char *all = need(malloc(bytes));
    length = (size_t)snprintf(all, bytes, "%s", overrides ? overrides : "");
    if (added->torch_dtype)
        length += (size_t)snprintf(all + length, bytes - length, "%storch_dtype=%s", length ? "," : "",
                                   torch_dtype_name(added->torch_dtype));
    if (added->weight_dtype)
        length += (size_t)snprintf(all + length, bytes - length, "%sweight_dtype=%s", length ? "," : "",
                                   weight_dtype_name(added->weight_dtype));
    if (added->positions)
        length += (size_t)snprintf(all + length, bytes - length, "%smax_position_embeddings=%lld", length ? "," : "",
                                   (long long)added->positions);
    if (length) return all;
    free(all);
    return NULL;
}

static int open_parts(const struct model_flags *flags, opened_model *out) {
    lckv_model_options options = lckv_model_defaults();
    options.config_overrides = flags->config_overrides;
    options.adapter = flags->adapter;
    options.torch_dtype = torch_dtype_name(flags->torch_dtype);
    options.weight_dtype = weight_dtype_name(flags->weight_dtype);
    options.no_loop_start = flags->no_loop_start;
    options.processes = ranks_processes(&flags->ranks);
    int status = lckv_processes_device(options.processes, flags->device, (int)flags->threads, &out->device);
    if (status >= 0) status = lckv_model_open(out->device, flags->name, &options, &out->model);
    if (status >= 0) ranks_opened(&flags->ranks);
    return status;
}

/* The model cannot read ids beyond its vocabulary. If text is only printed, the tokenizer is skipped then. */
static int check_tokenizer(const char *command, bool needed, opened_model *m) {
    int64_t rows = lckv_config_describe(lckv_model_config(m->model)).vocab_size;
    int64_t tokens = m->tokenizer ? lckv_tokenizer_vocab_size(m->tokenizer) : 0;
    if (tokens <= rows) return EXIT_FINE;
    if (needed)
        return failure(command, "the tokenizer has %lld tokens, but the model has %lld; use the tokenizer of the model",
                       (long long)tokens, (long long)rows);
    notice("printing token ids instead of text: the tokenizer has %lld tokens, but the model has %lld",
           (long long)tokens, (long long)rows);
    lckv_tokenizer_free(m->tokenizer);
    m->tokenizer = NULL;
    return EXIT_FINE;
}

int open_model(const char *command, const struct model_flags *flags, bool needs_tokenizer, opened_model *out) {
    bool needed = needs_tokenizer || flags->tokenizer_name;
    const char *tokenizer = model_tokenizer_name(flags);
    int status = LCKV_OK;
    *out = (opened_model){0};
    progress(-1, "loading %s", flags->name);
    if (needed || has_tokenizer(tokenizer)) status = open_named_tokenizer(tokenizer, &out->tokenizer);
    if (status < 0 && status != LCKV_ERROR_MEMORY && !needed) {
        notice("printing token ids instead of text: %s", lckv_last_error());
        status = LCKV_OK;
    }
    if (status >= 0) status = open_parts(flags, out);
    int code = status < 0 ? library_error(command, status) : check_tokenizer(command, needed, out);
    if (code) close_model(out);
    progress_end();
    return code;
}

void close_model(opened_model *m) {
    lckv_tokenizer_free(m->tokenizer);
    lckv_model_free(m->model);
    lckv_device_close(m->device);
    *m = (opened_model){0};
}

/* If opening fails, it fails on rank 0, too, which reports it. */
int follow_model(const char *command, const struct model_flags *flags) {
    opened_model m = {0};
    int code = open_parts(flags, &m) < 0 ? EXIT_FINE : ranks_follow(command, &flags->ranks, m.model);
    close_model(&m);
    return code;
}
