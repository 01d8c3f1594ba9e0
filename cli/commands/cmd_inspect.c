/* lckv inspect: layer map, plan, parameters and memory footprint of a config or a checkpoint. */
#include "cli/flags/flags.h"
#include "cli/open_model.h"
#include "cli/output/output.h"
#include "commands.h"
#include "lckv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of the flags. */
struct options {
    const char *model, *config;     /* folder or ORG/NAME; one of them is given, the other is NULL */
    const char *overrides;          /* changes to the config, "K=V,..."; NULL: none */
    const char *svg;                /* file for the picture; NULL: none */
    int64_t batch_size, block_size; /* training: blocks per batch and process, tokens per block */
    int64_t num_processes, zero;    /* training */
    int64_t loop_group_size;        /* training with --loop_form exact: blocks; 0: batch_size */
    lckv_serving_shape serving;     /* set directly by most flags of serving */
    int64_t window_length;          /* tokens; used with sink_cache */
    int torch_dtype;                /* index of TORCH_DTYPES */
    int kv_dtype;                   /* index of KV_DTYPES */
    int grad_accum_dtype;           /* index of the choices: auto, float32, bfloat16 */
    int weight_dtype;               /* index of WEIGHT_DTYPES */
    lckv_lora lora;                 /* used with use_peft */
    flag_list lora_target_modules;
    bool use_peft, sink_cache, bf16, json, zero_regather_loops;
};

static const flag FLAGS[] = {
    {"model_name_or_path", FLAG_TEXT, NULL, "Model",
     "checkpoint: a folder, a GGUF file or ORG/NAME; lckv checks all its tensors", FLAG_INTO(struct options, model),
     .value = "NAME"},
    {"config_name", FLAG_TEXT, NULL, "Model", "config: a folder, .json file or ORG/NAME",
     FLAG_INTO(struct options, config), .value = "NAME"},
    {"config_overrides", FLAG_TEXT, NULL, "Model",
     "changes to the config, such as layer_types=0_6_6_6_6_6_6_7,forward_passes=7",
     FLAG_INTO(struct options, overrides), .value = "K=V,..."},

    {"per_device_train_batch_size", FLAG_INT, "8", "Memory", "training batch size in blocks",
     FLAG_INTO(struct options, batch_size), .min = 1, .max = 1 << 20},
    {"block_size", FLAG_INT, "0", "Memory",
     "block size for training in tokens; 0 uses the model's max_position_embeddings, at most 1024, as lckv train does",
     FLAG_INTO(struct options, block_size), .min = 0, .max = 1 << 30},
    {"num_processes", FLAG_INT, "1", "Memory",
     "number of processes that train together; the memory and the work of training are those of one of them",
     FLAG_INTO(struct options, num_processes), .min = 1, .max = 4096},
    {"zero", FLAG_INT, "1", "Memory",
     "ZeRO stage of several processes: 1 divides the optimizer state between them, 3 also weights and gradients",
     FLAG_INTO(struct options, zero), .min = 1, .max = 3},
    {"loop_group_size", FLAG_INT, "0", "Memory",
     "with --loop_form exact: number of blocks whose slots are filled together; 0 uses per_device_train_batch_size",
     FLAG_INTO(struct options, loop_group_size), .min = 0, .max = 1 << 20},
    {"zero_regather_loops", FLAG_SWITCH, NULL, "Memory",
     "with --zero 3: gather the weights of a loop's layers in each iteration instead of once for all",
     FLAG_INTO(struct options, zero_regather_loops)},
    {"grad_accum_dtype", FLAG_CHOICE, "auto", "Memory",
     "with --zero 3 and --torch_dtype bfloat16: data type of the sum of gradients that each process keeps",
     FLAG_INTO(struct options, grad_accum_dtype), .choices = "auto|float32|bfloat16"},
    {"tensor_parallel", FLAG_INT, "1", "Memory",
     "number of processes that serve the model together; the memory and the work of serving are those of one of them",
     FLAG_INTO(struct options, serving.tensor_parallel), .min = 1, .max = 1024},
    {"num_sequences", FLAG_INT, "1", "Memory", "number of sequences served at a time",
     FLAG_INTO(struct options, serving.sequences), .min = 1, .max = 1 << 20},
    {"length", FLAG_INT, "0", "Memory",
     "length of a served sequence in tokens; 0 uses the model's max_position_embeddings",
     FLAG_INTO(struct options, serving.length), .min = 0, .max = 1 << 29},
    {"sink_cache", FLAG_SWITCH, NULL, "Memory",
     "serve with a sink cache, which keeps only the first and the most recent tokens (StreamingLLM)",
     FLAG_INTO(struct options, sink_cache)},
    {"window_length", FLAG_INT, "256", "Memory", "size of the sink cache in tokens",
     FLAG_INTO(struct options, window_length), .min = 1, .max = 1 << 29},
    {"num_sink_tokens", FLAG_INT, "2", "Memory", "number of those tokens that are the first ones of the sequence",
     FLAG_INTO(struct options, serving.num_sink_tokens), .min = 0, .max = 1 << 29},
    {"use_peft", FLAG_SWITCH, NULL, "Memory", "train only a LoRA adapter", FLAG_INTO(struct options, use_peft)},
    {"lora_r", FLAG_INT, "16", "Memory", "rank of the adapter", FLAG_INTO(struct options, lora.r), .min = 1,
     .max = 1048576},
    {"lora_target_modules", FLAG_LIST, NULL, "Memory", "matrices to adapt; by default q_proj and v_proj",
     FLAG_INTO(struct options, lora_target_modules), .value = "NAMES"},
    {"torch_dtype", FLAG_CHOICE, "auto", "Memory",
     "data type of the weights when serving; bfloat16 with --bf16 also applies to training; auto uses the type in the "
     "config",
     FLAG_INTO(struct options, torch_dtype), .choices = TORCH_DTYPES},
    FLAG_WEIGHT_DTYPE(struct options, weight_dtype, "Memory"),
    {"bf16", FLAG_SWITCH, NULL, "Memory",
     "compute in bfloat16 (matrix products, attention, KV cache) instead of float32", FLAG_INTO(struct options, bf16)},
    FLAG_KV_DTYPE(struct options, kv_dtype, "Memory"),

    {"svg", FLAG_TEXT, NULL, "Output", "SVG file for the picture of the layer map", FLAG_INTO(struct options, svg),
     .value = "FILE"},
    FLAG_JSON(struct options, json),
    {0},
};

static const char *const EXAMPLES[] = {
    "layer map, parameters and training memory of a config",
    "lckv inspect --config_name configs/lckv-50m.json --per_device_train_batch_size 4 --block_size 512",
    "the same config with another layer map, as a picture",
    "lckv inspect --config_name configs/lckv-50m.json --config_overrides layer_types=0_0_2_2_4_4_6_6 --svg map.svg",
    NULL,
};

static const flag_table TABLE = {
    "inspect",
    "Prints the layer map of a model as a picture, its plan, its parameters, the KV bytes per token compared with "
    "the same model without sharing, and the memory footprint of training and serving.",
    "--config_name NAME | --model_name_or_path NAME",
    FLAGS,
    .positional = "model_name_or_path",
    .examples = EXAMPLES,
};

/* Weights of one data type. */
typedef struct weight_sum {
    const char *dtype;
    int64_t tensors, parameters, bytes;
} weight_sum;

typedef struct weight_sums {
    weight_sum of[8];
    int count;
} weight_sums;

/* All results. */
struct report {
    lckv_config *config;
    lckv_config_info info;
    int64_t parameters;
    weight_sums weights;
    lckv_memory training, serving; /* training has zeros if the weights are quantized and no adapter is trained */
    lckv_memory regathered;        /* memory with --zero_regather_loops; zeros if that does not apply */
    lckv_memory checkpointed;      /* memory of training with --gradient_checkpointing; zeros if that is not possible */
    lckv_memory exact;             /* memory of training with --loop_form exact; zeros if the model has no loop */
    lckv_memory bf16_weights;      /* memory of training with --torch_dtype bfloat16; zeros if that is not possible */
    char *layer_types, *picture, *plan_text, *plan_json;
};

/* ---------------------------------------------------------------- computing */

static void add_weight(const lckv_weight_info *w, weight_sums *sums) {
    int i = 0;
    while (i < sums->count && strcmp(sums->of[i].dtype, w->dtype)) i++;
    if (i == sums->count) sums->of[sums->count++] = (weight_sum){.dtype = w->dtype};
    sums->of[i].tensors++;
    sums->of[i].parameters += w->rows * w->cols;
    sums->of[i].bytes += w->bytes;
}

static int sum_weights(const lckv_model *model, weight_sums *sums) {
    lckv_weight_info *weights;
    int64_t count;
    int status = lckv_model_weights(model, &weights, &count);
    for (int64_t i = 0; i < count; i++) add_weight(&weights[i], sums);
    lckv_free(weights);
    return status;
}

/* Opens the checkpoint, including biases that the config does not mention, or makes a model of the config. The counting
 * device reads the names, shapes and types of all tensors, but not their values. */
static int open_counted(const struct options *o, const lckv_config *config, lckv_device *device, lckv_model **out) {
    lckv_model_options options = lckv_model_defaults();
    options.config_overrides = o->overrides;
    options.torch_dtype = torch_dtype_name(o->torch_dtype);
    options.weight_dtype = weight_dtype_name(o->weight_dtype);
    if (o->model) return lckv_model_open(device, o->model, &options, out);
    return lckv_model_create(device, config, torch_dtype_name(1 + (int)lckv_config_describe(config).dtype), 0, out);
}

/* Counts the parameters, and sums the weights by data type. */
static int count_weights(const struct options *o, struct report *r) {
    lckv_device *device;
    lckv_model *model = NULL;
    int status = lckv_device_open("count", 0, &device);
    if (status >= 0) status = open_counted(o, r->config, device, &model);
    if (status >= 0) r->parameters = lckv_model_parameters(model);
    if (status >= 0) status = sum_weights(model, &r->weights);
    lckv_model_free(model);
    lckv_device_close(device);
    return status;
}

static int describe_map(struct report *r) {
    int status = lckv_config_layer_types(r->config, &r->layer_types);
    if (status >= 0) status = lckv_config_picture(r->config, LCKV_PICTURE_TEXT, &r->picture);
    if (status >= 0) status = lckv_config_plan_text(r->config, &r->plan_text);
    if (status >= 0) status = lckv_config_plan_json(r->config, &r->plan_json);
    return status;
}

static bool wants_bf16_weights(const struct options *o) {
    return !strcmp(torch_dtype_name(o->torch_dtype), "bfloat16");
}

static bool is_quantized(const struct report *r) {
    return strcmp(r->info.weight_dtype, "float") != 0;
}

/* Quantized weights are not trained. */
static int training_memory(const struct options *o, struct report *r) {
    if (is_quantized(r) && !o->use_peft) return LCKV_OK;
    lckv_training_shape shape = {.struct_size = sizeof shape,
                                 .batch_size = o->batch_size,
                                 .block_size = o->block_size,
                                 .bf16 = o->bf16,
                                 .bf16_weights = o->bf16 && wants_bf16_weights(o),
                                 .lora = o->use_peft ? &o->lora : NULL,
                                 .num_processes = o->num_processes,
                                 .zero = o->zero,
                                 .zero_regather_loops = o->zero_regather_loops,
                                 .bf16_gradients = o->grad_accum_dtype == 2};
    int status = lckv_memory_for_training(r->config, &shape, &r->training);
    if (status >= 0 && o->bf16 && !shape.bf16_weights) {
        shape.bf16_weights = true;
        status = lckv_memory_for_training(r->config, &shape, &r->bf16_weights);
        shape.bf16_weights = false;
    }
    if (status >= 0 && o->zero == 3 && o->num_processes > 1 && r->info.loops && !o->zero_regather_loops) {
        shape.zero_regather_loops = true;
        status = lckv_memory_for_training(r->config, &shape, &r->regathered);
        shape.zero_regather_loops = false;
    }
    if (status < 0 || r->info.use_sequential) return status;
    shape.gradient_checkpointing = true;
    status = lckv_memory_for_training(r->config, &shape, &r->checkpointed);
    if (status < 0 || !r->info.loops) return status;
    shape.gradient_checkpointing = false;
    shape.loop_form = LCKV_LOOP_EXACT;
    shape.loop_group_size = o->loop_group_size;
    return lckv_memory_for_training(r->config, &shape, &r->exact);
}

/* --torch_dtype and --weight_dtype override the types in the config. */
static int load_config(const struct options *o, lckv_config **out) {
    const added_overrides added = {.torch_dtype = o->torch_dtype, .weight_dtype = o->weight_dtype};
    char *overrides = add_overrides(o->overrides, &added);
    int status = lckv_config_load(o->model ? o->model : o->config, overrides, out);
    free(overrides);
    return status;
}

/* The config has one format for all matrices of layers. Those of a GGUF file may have several, which the checkpoint
 * shows. The part of a process is computed from the config alone. */
static int serving_memory(const struct options *o, struct report *r) {
    int64_t bytes = 0;
    int status = lckv_memory_for_serving(r->config, &o->serving, &r->serving);
    for (int i = 0; i < r->weights.count; i++) bytes += r->weights.of[i].bytes;
    if (status < 0 || !o->model || !is_quantized(r) || o->serving.tensor_parallel > 1) return status;
    r->serving.total += bytes - r->serving.weights;
    r->serving.weights = bytes;
    return LCKV_OK;
}

static int make_report(struct options *o, struct report *r) {
    o->lora.struct_size = sizeof o->lora;
    o->lora.alpha = 1; /* does not affect memory */
    o->lora.target_modules = (const char *const *)o->lora_target_modules.items;
    o->lora.target_module_count = o->lora_target_modules.count;
    int status = load_config(o, &r->config);
    if (status < 0) return status;
    r->info = lckv_config_describe(r->config);
    r->parameters = r->info.parameters;
    int64_t positions = r->info.max_position_embeddings;
    if (!o->block_size) o->block_size = positions < 1024 ? positions : 1024;
    if (!o->serving.length) o->serving.length = positions;
    o->serving.struct_size = sizeof o->serving;
    o->serving.bf16 = o->bf16;
    o->serving.kv_dtype = kv_dtype_name(o->kv_dtype);
    if (o->sink_cache) o->serving.window_length = o->window_length;
    if (o->model) progress(-1, "reading the tensors of %s", o->model);
    status = count_weights(o, r);
    if (status >= 0) status = describe_map(r);
    progress(-1, "computing the memory footprint of training");
    if (status >= 0) status = training_memory(o, r);
    progress(-1, "computing the memory footprint of serving");
    if (status >= 0) status = serving_memory(o, r);
    return status;
}

static void free_report(struct report *r) {
    lckv_free(r->layer_types);
    lckv_free(r->picture);
    lckv_free(r->plan_text);
    lckv_free(r->plan_json);
    lckv_config_free(r->config);
}

/* ---------------------------------------------------------------- JSON output */

static const char *dtype_text(lckv_dtype dtype) {
    static const char *const NAMES[] = {"float32", "bfloat16", "float16", "int8"};
    return NAMES[dtype];
}

/* The KV cache has the type of computation by default, not that of the weights. */
static lckv_dtype kv_dtype(const struct options *o) {
    return kv_dtype_of(o->kv_dtype, o->bf16);
}

static json_t *memory_json(const lckv_memory *m, bool training) {
    json_t *json = json_pack("{s:I, s:I, s:I, s:f}", "weights", (json_int_t)m->weights, "activations",
                             (json_int_t)m->activations, "total", (json_int_t)m->total, "flops", m->flops);
    if (training) {
        json_object_set_new(json, "gradients", json_integer(m->gradients));
        json_object_set_new(json, "optimizer", json_integer(m->optimizer));
    } else {
        json_object_set_new(json, "kv_cache", json_integer(m->kv_cache));
        json_object_set_new(json, "kv_cache_reserved", json_integer(m->kv_cache_reserved));
        json_object_set_new(json, "kv_cache_plain", json_integer(m->kv_cache_plain));
    }
    return json;
}

/* The sliding window of each layer; null if it has none. */
static json_t *windows_json(const struct report *r) {
    json_t *windows = json_array();
    for (const char *entry = r->layer_types; entry; entry = strchr(entry, '_')) {
        entry += *entry == '_';
        bool windowed = entry[strcspn(entry, "_s")] == 's';
        json_array_append_new(windows, windowed ? json_integer(r->info.sliding_window) : json_null());
    }
    return windows;
}

/* With the names of config.json; values that the file leaves out are the defaults of the model type. */
static json_t *shape_json(const struct report *r) {
    const lckv_config_info *i = &r->info;
    return json_pack("{s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:o, s:b, s:s, s:s}", "hidden_size",
                     (json_int_t)i->hidden_size, "intermediate_size", (json_int_t)i->intermediate_size, "vocab_size",
                     (json_int_t)i->vocab_size, "max_position_embeddings", (json_int_t)i->max_position_embeddings,
                     "num_attention_heads", i->heads, "num_key_value_heads", i->kv_heads, "head_dim", i->head_dim,
                     "sliding_window", i->sliding_window ? json_integer(i->sliding_window) : json_null(),
                     "tie_word_embeddings", i->tie_word_embeddings, "torch_dtype", dtype_text(i->dtype), "weight_dtype",
                     i->weight_dtype);
}

/* Weights in memory, by data type. */
static json_t *weights_json(const struct report *r) {
    json_t *list = json_array();
    for (int i = 0; i < r->weights.count; i++) {
        const weight_sum *w = &r->weights.of[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:I}", "dtype", w->dtype, "tensors", (json_int_t)w->tensors,
                                        "parameters", (json_int_t)w->parameters, "bytes", (json_int_t)w->bytes));
    }
    return list;
}

static json_t *training_json(const struct options *o, const struct report *r) {
    json_t *training = memory_json(&r->training, true);
    json_object_set_new(training, "per_device_train_batch_size", json_integer(o->batch_size));
    json_object_set_new(training, "block_size", json_integer(o->block_size));
    json_object_set_new(training, "num_processes", json_integer(o->num_processes));
    json_object_set_new(training, "zero", json_integer(o->zero));
    if (r->checkpointed.total)
        json_object_set_new(training, "gradient_checkpointing", memory_json(&r->checkpointed, true));
    if (r->regathered.total) json_object_set_new(training, "zero_regather_loops", memory_json(&r->regathered, true));
    if (r->exact.total) json_object_set_new(training, "loop_form_exact", memory_json(&r->exact, true));
    if (r->bf16_weights.total) json_object_set_new(training, "bfloat16_weights", memory_json(&r->bf16_weights, true));
    return training;
}

static json_t *serving_json(const struct options *o, const struct report *r) {
    json_t *serving = memory_json(&r->serving, false);
    json_object_set_new(serving, "num_sequences", json_integer(o->serving.sequences));
    json_object_set_new(serving, "length", json_integer(o->serving.length));
    json_object_set_new(serving, "tensor_parallel", json_integer(o->serving.tensor_parallel));
    return serving;
}

static json_t *report_json(const struct options *o, const struct report *r) {
    lckv_dtype kv_type = kv_dtype(o);
    json_t *json =
        json_pack("{s:s, s:s, s:i, s:I, s:i, s:i, s:i, s:i, s:i, s:o, s:o}", "model_type", r->info.model_type,
                  "layer_types", r->layer_types, "layers", r->info.layers, "parameters", (json_int_t)r->parameters,
                  "kv_slots", r->info.kv_slots, "windowed_slots", r->info.windowed_slots, "loops", r->info.loops,
                  "forward_passes", r->info.forward_passes, "backward_passes", r->info.backward_passes, "layer_windows",
                  windows_json(r), "plan", json_loads(r->plan_json, 0, NULL));
    json_t *shape = shape_json(r);
    json_object_update(json, shape);
    json_decref(shape);
    json_t *memory = json_pack(
        "{s:o, s:s, s:I, s:I, s:{s:o, s:o}}", "weights", weights_json(r), "kv_dtype", dtype_text(kv_type),
        "kv_bytes_per_token", (json_int_t)lckv_config_kv_bytes_per_token(r->config, kv_type),
        "kv_bytes_per_token_unshared", (json_int_t)lckv_config_kv_bytes_per_token_unshared(r->config, kv_type),
        "memory", "training", r->training.total ? training_json(o, r) : json_null(), "serving", serving_json(o, r));
    json_object_update(json, memory);
    json_decref(memory);
    return json;
}

/* ---------------------------------------------------------------- text output */

static void print_kv(const struct options *o, const struct report *r) {
    char slots[48], tokens[48], number[32];
    int64_t bytes = lckv_config_kv_bytes_per_token(r->config, kv_dtype(o));
    int64_t unshared = lckv_config_kv_bytes_per_token_unshared(r->config, kv_dtype(o));
    printf("KV cache    %s bytes per token in %s", human_grouped(bytes, number), dtype_text(kv_dtype(o)));
    if (bytes < unshared)
        printf(", %.3gx smaller than without sharing (%s bytes)\n", (double)unshared / (double)bytes,
               human_grouped(unshared, number));
    else
        printf("; no layers share keys and values\n");
    if (r->info.windowed_slots)
        printf("            of %s, %d keep only the last %s (sliding_window %lld)\n",
               human_quantity(r->info.kv_slots, "slot", slots), r->info.windowed_slots,
               human_quantity(r->info.sliding_window - 1, "token", tokens), (long long)r->info.sliding_window);
}

/* Memory with another flag; nothing if it does not apply. */
static void print_variant(const char *with, const lckv_memory *m) {
    char total[32], activations[32], flops[32];
    if (!m->total) return;
    printf("            with %s %s, activations %s; %s per step\n", with, human_bytes((double)m->total, total),
           human_bytes((double)m->activations, activations), human_flops(m->flops, flops));
}

static void print_weights(const struct report *r) {
    char parameters[32], bytes[32];
    printf("weights     ");
    for (int i = 0; i < r->weights.count; i++) {
        const weight_sum *w = &r->weights.of[i];
        printf("%s%s: %s parameters, %s", i ? "; " : "", w->dtype, human_count((double)w->parameters, parameters),
               human_bytes((double)w->bytes, bytes));
    }
    printf("\n");
}

static void print_training(const struct options *o, const struct report *r) {
    if (!r->training.total) {
        printf("training    quantized weights are not trained; with --use_peft, an adapter is\n");
        return;
    }
    const lckv_memory *m = &r->training, *less = &r->checkpointed, *narrow = &r->bf16_weights;
    char total[32], weights[32], gradients[32], optimizer[32], activations[32], flops[32], blocks[48], tokens[48];
    char each[80] = "";
    if (o->num_processes > 1)
        snprintf(each, sizeof each, " in each of %lld processes (ZeRO %lld)", (long long)o->num_processes,
                 (long long)o->zero);
    printf("training    %s%s for %s of %s in %s%s; %s per step\n", human_bytes((double)m->total, total), each,
           human_quantity(o->batch_size, "block", blocks), human_quantity(o->block_size, "token", tokens),
           o->bf16 ? "bfloat16" : "float32", o->use_peft ? ", adapter only" : "", human_flops(m->flops, flops));
    printf("            weights %s, gradients %s, optimizer %s, activations %s\n",
           human_bytes((double)m->weights, weights), human_bytes((double)m->gradients, gradients),
           human_bytes((double)m->optimizer, optimizer), human_bytes((double)m->activations, activations));
    if (narrow->total)
        printf("            with --torch_dtype bfloat16 %s, optimizer %s\n", human_bytes((double)narrow->total, total),
               human_bytes((double)narrow->optimizer, optimizer));
    print_variant("--gradient_checkpointing", less);
    print_variant("--zero_regather_loops", &r->regathered);
    print_variant("--loop_form exact", &r->exact);
}

static void print_serving(const struct options *o, const struct report *r) {
    char total[32], weights[32], cache[32], reserved[32], activations[32], flops[32], window[64] = "";
    char sequences[48], tokens[48], each[48] = "";
    const lckv_memory *m = &r->serving;
    const lckv_serving_shape *s = &o->serving;
    if (s->tensor_parallel > 1)
        snprintf(each, sizeof each, " in each of %lld processes", (long long)s->tensor_parallel);
    if (s->window_length) snprintf(window, sizeof window, " with a sink cache of %lld", (long long)s->window_length);
    printf("serving     %s%s for %s of %s%s in %s, weights in %s; %s per token\n", human_bytes((double)m->total, total),
           each, human_quantity(s->sequences, "sequence", sequences), human_quantity(s->length, "token", tokens),
           window, o->bf16 ? "bfloat16" : "float32", is_quantized(r) ? r->info.weight_dtype : dtype_text(r->info.dtype),
           human_flops(m->flops / (double)s->sequences, flops));
    printf("            weights %s, KV cache %s (%s reserved), activations %s\n",
           human_bytes((double)m->weights, weights), human_bytes((double)m->kv_cache, cache),
           human_bytes((double)m->kv_cache_reserved, reserved), human_bytes((double)m->activations, activations));
}

static void print_report(const struct options *o, const struct report *r) {
    char count[32], exact[32];
    printf("%s\n%s\n", r->picture, r->plan_text);
    printf("parameters  %s (%s)\n", human_count((double)r->parameters, count), human_grouped(r->parameters, exact));
    print_weights(r);
    print_kv(o, r);
    print_training(o, r);
    print_serving(o, r);
}

/* ---------------------------------------------------------------- the command */

static int write_svg(const struct options *o, const struct report *r) {
    char *svg;
    int status = lckv_config_picture(r->config, LCKV_PICTURE_SVG, &svg);
    if (status < 0) return library_error(TABLE.command, status);
    int code = write_file(TABLE.command, o->svg, svg);
    if (!code) notice("wrote %s", o->svg);
    lckv_free(svg);
    return code;
}

static int inspect(struct options *o) {
    struct report r = {0};
    if (!o->model == !o->config)
        return usage_error(TABLE.command, "expected either --config_name or --model_name_or_path");
    int status = make_report(o, &r), code = EXIT_FINE;
    progress_end();
    if (status < 0) code = library_error(TABLE.command, status);
    if (!code && o->svg) code = write_svg(o, &r);
    if (!code && o->json) {
        json_t *json = report_json(o, &r);
        print_json(json);
        json_decref(json);
    } else if (!code) {
        print_report(o, &r);
    }
    free_report(&r);
    return code;
}

int cmd_inspect(int argc, char **argv) {
    struct options options = {0};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = inspect(&options);
    flags_free(&TABLE, &options);
    return code;
}
