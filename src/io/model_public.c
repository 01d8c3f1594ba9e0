/* The public functions for devices and models (lckv.h): resolves names to folders and strings to data types. */
#include "base/files/file.h"
#include "base/options.h"
#include "collectives/collectives.h"
#include "hub/model_path.h"
#include "io/adapter/adapter_file.h"
#include "io/convert.h"
#include "io/hf_folder.h"
#include "io/host_device.h"
#include "model/ranks/rank_group.h"
#include "model/ranks/rank_part.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---------------------------------------------------------------- devices */

int lckv_device_open(const char *name, int threads, lckv_device **out) {
    return device_open(name, threads, out);
}

void lckv_device_close(lckv_device *d) {
    device_close(d);
}

int lckv_device_describe(lckv_device *d, lckv_device_info *out) {
    size_t unused, total;
    *out = (lckv_device_info){0};
    TRY(d->memory.available(d, &unused, &total));
    memcpy(out->name, d->name, sizeof out->name);
    out->free_bytes = (int64_t)unused;
    out->total_bytes = (int64_t)total;
    out->peak_bytes = (int64_t)d->counts.peak;
    return LCKV_OK;
}

int lckv_device_limit(lckv_device *d, int64_t bytes) {
    REQUIRE(bytes >= 0, LCKV_ERROR_ARGUMENT, "expected a memory limit of 0 (no limit) or more bytes, found %lld",
            (long long)bytes);
    REQUIRE(d->memory.limit, LCKV_ERROR_UNSUPPORTED, "device %s does not support a memory limit", d->name);
    return d->memory.limit(d, (size_t)bytes);
}

/* ---------------------------------------------------------------- options */

/* "auto" and NULL become DTYPE_COUNT. */
static int read_dtype(const char *name, dtype *out) {
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    *out = DTYPE_COUNT;
    if (!name || strcmp(name, "auto") == 0) return LCKV_OK;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, dtype_name(types[i])) == 0) *out = types[i];
    REQUIRE(*out != DTYPE_COUNT, LCKV_ERROR_ARGUMENT,
            "expected torch_dtype auto, float32, bfloat16 or float16, found '%.40s'", name);
    return LCKV_OK;
}

/* NULL stays NULL. */
static int resolve(const char *name, char **folder) {
    *folder = NULL;
    return name ? model_path_resolve(name, folder) : LCKV_OK;
}

/* ---------------------------------------------------------------- models */

void lckv_model_options_init(lckv_model_options *options, size_t struct_size) {
    const lckv_model_options defaults = {.torch_dtype = "auto"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* The folder of the checkpoint that an adapter was trained on. */
static int find_base(const char *folder, char **out) {
    adapter_file f;
    TRY(adapter_file_open(folder, &f));
    int status =
        f.config.base
            ? model_path_resolve(f.config.base, out)
            : fail(LCKV_ERROR_FILE,
                   "'%s' does not name the checkpoint that it was trained on (base_model_name_or_path)", folder);
    adapter_file_close(&f);
    return status;
}

/* If *folder is an adapter, replaces it by the folder of its checkpoint and sets *adapter_of. */
static int resolve_adapter(char **folder, char **adapter_of) {
    char *base;
    if (!adapter_folder(*folder)) return LCKV_OK;
    REQUIRE(!*adapter_of, LCKV_ERROR_ARGUMENT, "'%s' is an adapter; expected a checkpoint to apply the adapter '%s' to",
            *folder, *adapter_of);
    TRY(find_base(*folder, &base));
    *adapter_of = *folder;
    *folder = base;
    return LCKV_OK;
}

/* All processes load their parts, or none. Frees the model on failure. */
static int join_ranks(const lckv_processes *processes, device *d, int status, model **m) {
    if (!processes || processes->ranks == 1) return status;
    status = collectives_agree(processes, status);
    if (status >= 0) status = rank_group_create(processes, d, &(*m)->ranks);
    if (status >= 0) return LCKV_OK;
    model_free(*m);
    *m = NULL;
    return status;
}

int lckv_model_open(lckv_device *d, const char *name, const lckv_model_options *options, lckv_model **out) {
    lckv_model_options o;
    char *folder = NULL, *adapter_of = NULL;
    *out = NULL;
    TRY(OPTIONS_TAKE(&o, options, lckv_model_defaults));
    checkpoint_load_options load = {.config_overrides = o.config_overrides, .loop_start = !o.no_loop_start};
    TRY(read_dtype(o.torch_dtype, &load.type));
    TRY(weight_format_parse(o.weight_dtype, &load.format));
    int status = model_path_resolve(name, &folder);
    if (status >= 0) status = resolve(o.adapter, &adapter_of);
    if (status >= 0) status = resolve_adapter(&folder, &adapter_of);
    load.adapter = adapter_of;
    if (o.processes) load.rank = o.processes->rank, load.ranks = o.processes->ranks;
    if (status >= 0) status = checkpoint_load(d, folder, &load, out);
    status = join_ranks(o.processes, d, status, out);
    free(adapter_of);
    free(folder);
    return status;
}

int lckv_model_create(lckv_device *d, const lckv_config *config, const char *torch_dtype, uint64_t seed,
                      lckv_model **out) {
    dtype type;
    model_config *copy;
    *out = NULL;
    TRY(read_dtype(torch_dtype, &type));
    TRY(config_copy(config, &copy));
    return model_create_random(d, copy, type == DTYPE_COUNT ? DTYPE_F32 : type, seed, out);
}

static int create_part(device *d, const model_config *whole, dtype type, uint64_t seed, const lckv_processes *p,
                       model **out) {
    model_config *copy, *part;
    TRY(config_copy(whole, &copy));
    int status = rank_part_config(whole, p->rank, p->ranks, &part);
    if (status >= 0) status = model_create_random(d, part, type, seed + (uint64_t)p->rank, out);
    if (status < 0)
        config_free(copy);
    else
        (*out)->whole = copy;
    return status;
}

int lckv_model_create_with(lckv_device *d, const lckv_config *config, const lckv_model_options *options, uint64_t seed,
                           lckv_model **out) {
    lckv_model_options o;
    dtype type;
    *out = NULL;
    TRY(OPTIONS_TAKE(&o, options, lckv_model_defaults));
    if (!o.processes || o.processes->ranks == 1) return lckv_model_create(d, config, o.torch_dtype, seed, out);
    TRY(read_dtype(o.torch_dtype, &type));
    int status = create_part(d, config, type == DTYPE_COUNT ? DTYPE_F32 : type, seed, o.processes, out);
    return join_ranks(o.processes, d, status, out);
}

int lckv_model_follow(lckv_model *m) {
    REQUIRE(m->ranks && !rank_group_adds_rest(m->ranks), LCKV_ERROR_ARGUMENT,
            "expected a model that is divided between processes, on a rank other than 0");
    return rank_group_follow(m);
}

void lckv_save_options_init(lckv_save_options *options, size_t struct_size) {
    const lckv_save_options defaults = {.torch_dtype = "auto"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

int lckv_model_save(lckv_model *m, const char *folder, const lckv_save_options *options) {
    lckv_save_options o;
    TRY(OPTIONS_TAKE(&o, options, lckv_save_defaults));
    TRY(rank_group_refuse(m, "saving a model"));
    checkpoint_save_options save = {.shard_bytes = o.max_shard_bytes, .source = m->folder, .loop_start = m->loop_start};
    char *tokenizer;
    TRY(read_dtype(o.torch_dtype, &save.type));
    TRY(weight_format_parse(o.weight_dtype, &save.format));
    REQUIRE(
        !m->adapter, LCKV_ERROR_UNSUPPORTED,
        "the model has an adapter beside its quantized weights, which lckv does not save with them; the folders of the "
        "two can be loaded together");
    TRY(resolve(o.tokenizer_name, &tokenizer));
    save.tokenizer = tokenizer ? tokenizer : m->folder;
    int status = checkpoint_save(m->config, m->params, &save, folder);
    free(tokenizer);
    return status;
}

const lckv_config *lckv_model_config(const lckv_model *m) {
    return m->whole ? m->whole : m->config;
}

int64_t lckv_model_parameters(const lckv_model *m) {
    return params_elements(m->params);
}

int lckv_model_weights(const lckv_model *m, lckv_weight_info **weights, int64_t *count) {
    const params *p = m->params;
    *count = 0;
    *weights = calloc((size_t)p->count + 1, sizeof **weights);
    REQUIRE(*weights, LCKV_ERROR_MEMORY, "no memory for a list of %d weights", p->count);
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        (*weights)[i] = (lckv_weight_info){w->name, w->rows, w->cols, dtype_name(w->tensor.value.type),
                                           (int64_t)view_all_bytes(w->tensor.value)};
    }
    *count = p->count;
    return LCKV_OK;
}

void lckv_model_free(lckv_model *m) {
    model_free(m);
}

/* ---------------------------------------------------------------- conversion */

void lckv_convert_options_init(lckv_convert_options *options, size_t struct_size) {
    const lckv_convert_options defaults = {.kv = LCKV_KV_AVERAGE, .torch_dtype = "auto"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* The adapter's folder if it has tokenizer files, which include the chat template that it was trained with. */
static const char *tokenizer_of_adapter(const char *adapter_of) {
    char *file;
    if (!adapter_of || path_join(adapter_of, "tokenizer.json", &file) < 0) return NULL;
    bool there = path_exists(file);
    free(file);
    return there ? adapter_of : NULL;
}

/* A conversion loses what the other config lacks, so it does not replace its source. */
static int check_target(const char *name, const char *target, const char *source) {
    struct stat a, b;
    bool same = target && !stat(target, &a) && !stat(source, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    REQUIRE(!same, LCKV_ERROR_ARGUMENT, "%s: expected another place than that of the checkpoint, found '%s'", name,
            target);
    return LCKV_OK;
}

static int convert_between(const lckv_convert_options *o, convert_options *convert) {
    device *cpu;
    TRY(check_target("output_dir", o->output_dir, convert->source));
    TRY(check_target("gguf_file", o->gguf_file, convert->source));
    convert->output = o->output_dir;
    convert->gguf_file = o->gguf_file;
    convert->gguf_dtype = o->gguf_dtype;
    convert->kv = o->kv == LCKV_KV_COPY ? KV_COPY : KV_AVERAGE;
    convert->shard_bytes = o->max_shard_bytes;
    convert->go_on = o->go_on;
    convert->user = o->user;
    TRY(host_device_open(&cpu));
    int status = checkpoint_convert(cpu, convert);
    device_close(cpu);
    return status;
}

int lckv_convert(const lckv_convert_options *options) {
    lckv_convert_options taken;
    const lckv_convert_options *o = &taken;
    TRY(OPTIONS_TAKE(&taken, options, lckv_convert_defaults));
    REQUIRE(o->model_name_or_path && !o->output_dir != !o->gguf_file, LCKV_ERROR_ARGUMENT,
            "expected model_name_or_path, and either output_dir or gguf_file");
    REQUIRE(!o->gguf_dtype || o->gguf_file, LCKV_ERROR_ARGUMENT, "gguf_dtype is only for a gguf_file");
    REQUIRE(o->kv == LCKV_KV_AVERAGE || o->kv == LCKV_KV_COPY, LCKV_ERROR_ARGUMENT,
            "expected kv average (%d) or copy (%d), found %d", LCKV_KV_AVERAGE, LCKV_KV_COPY, o->kv);
    convert_options convert = {0};
    TRY(read_dtype(o->torch_dtype, &convert.type));
    TRY(weight_format_parse(o->weight_dtype, &convert.format));
    char *source = NULL, *tokenizer = NULL, *adapter_of = NULL;
    model_config *config = NULL;
    int status = model_path_resolve(o->model_name_or_path, &source);
    if (status >= 0) status = resolve(o->tokenizer_name, &tokenizer);
    if (status >= 0) status = resolve(o->adapter, &adapter_of);
    if (status >= 0) status = resolve_adapter(&source, &adapter_of);
    if (status >= 0) status = config_read(o->config_name ? o->config_name : source, o->config_overrides, &config);
    convert.source = source;
    convert.config = config;
    convert.tokenizer = tokenizer ? tokenizer : tokenizer_of_adapter(adapter_of);
    convert.adapter = adapter_of;
    if (status >= 0) status = convert_between(o, &convert);
    config_free(config);
    free(tokenizer);
    free(adapter_of);
    free(source);
    return status;
}
