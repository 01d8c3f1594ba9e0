/* lckv inspect: what a config or a checkpoint is, and what training and serving it would take. */
#include "commands.h"
#include "flags.h"
#include "lckv.h"
#include "output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *model, *config, *overrides, *svg;
    int64_t batch_size, block_size, sequences, length;
    lckv_lora lora;
    flag_list lora_target_modules;
    bool use_peft, bf16, json;
};

static const flag FLAGS[] = {
    {"model_name_or_path", FLAG_TEXT, NULL, "What is inspected",
     "a checkpoint: folder or ORG/NAME. All its tensors are looked at", FLAG_INTO(struct options, model),
     .value = "NAME"},
    {"config_name", FLAG_TEXT, NULL, "What is inspected", "a config: folder, .json file or ORG/NAME",
     FLAG_INTO(struct options, config), .value = "NAME"},
    {"config_overrides", FLAG_TEXT, NULL, "What is inspected",
     "changes to the config, such as layer_types=0_6_6_6_6_6_6_7,forward_passes=7",
     FLAG_INTO(struct options, overrides), .value = "K=V,..."},

    {"per_device_train_batch_size", FLAG_INT, "8", "Memory", "blocks trained on at a time",
     FLAG_INTO(struct options, batch_size), .min = 1, .max = 1 << 20},
    {"block_size", FLAG_INT, "0", "Memory",
     "tokens of a block; 0: the model's max_position_embeddings, at most 1024, as train takes it",
     FLAG_INTO(struct options, block_size), .min = 0, .max = 1 << 30},
    {"num_sequences", FLAG_INT, "1", "Memory", "sequences served at a time", FLAG_INTO(struct options, sequences),
     .min = 1, .max = 1 << 20},
    {"length", FLAG_INT, "0", "Memory", "tokens of a served sequence; 0: the model's max_position_embeddings",
     FLAG_INTO(struct options, length), .min = 0, .max = 1 << 30},
    {"use_peft", FLAG_SWITCH, NULL, "Memory", "training learns an adapter alone (LoRA)",
     FLAG_INTO(struct options, use_peft)},
    {"lora_r", FLAG_INT, "16", "Memory", "its rank", FLAG_INTO(struct options, lora.r), .min = 1, .max = 1048576},
    {"lora_target_modules", FLAG_LIST, NULL, "Memory", "the matrices that have one; q_proj and v_proj unless given",
     FLAG_INTO(struct options, lora_target_modules), .value = "NAMES"},
    {"bf16", FLAG_SWITCH, NULL, "Memory", "compute in bfloat16; else in float32", FLAG_INTO(struct options, bf16)},

    {"svg", FLAG_TEXT, NULL, "Output", "write the picture of the layer map there", FLAG_INTO(struct options, svg),
     .value = "FILE"},
    FLAG_JSON(struct options, json),
    {0},
};

static const flag_table TABLE = {
    "inspect",
    "Prints the layer map of a model as a picture, its plan, its parameters, the KV bytes of a token beside those of "
    "the\n"
    "same model without sharing, and the memory that training and serving would take.",
    "--config_name NAME | --model_name_or_path NAME",
    FLAGS,
};

/* All that is known in the end. */
struct report {
    lckv_config *config;
    lckv_config_info info;
    int64_t parameters;
    lckv_memory training, serving;
    lckv_memory checkpointed, bf16_weights; /* training with these switches more; zeros: that cannot be */
    char *layer_types, *picture, *plan_text, *plan_json;
};

/* ---------------------------------------------------------------- finding out */

/* The numbers in the checkpoint's tensors: biases count that no config announces. The counting device reads no weights,
 * but all of their names, shapes and types. */
static int count_checkpoint(const struct options *o, int64_t *parameters) {
    lckv_device *device;
    lckv_model *model = NULL;
    lckv_model_options options = lckv_model_defaults();
    options.config_overrides = o->overrides;
    int status = lckv_device_open("count", 0, &device);
    if (status >= 0) status = lckv_model_open(device, o->model, &options, &model);
    if (status >= 0) *parameters = lckv_model_parameters(model);
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

static int foresee_training(const struct options *o, struct report *r) {
    lckv_training_shape shape = {.batch_size = o->batch_size,
                                 .block_size = o->block_size,
                                 .bf16 = o->bf16,
                                 .lora = o->use_peft ? &o->lora : NULL};
    int status = lckv_memory_for_training(r->config, &shape, &r->training);
    if (status >= 0 && o->bf16) {
        shape.bf16_weights = true;
        status = lckv_memory_for_training(r->config, &shape, &r->bf16_weights);
        shape.bf16_weights = false;
    }
    if (status < 0 || r->info.use_sequential) return status;
    shape.gradient_checkpointing = true;
    return lckv_memory_for_training(r->config, &shape, &r->checkpointed);
}

static int find_out(struct options *o, struct report *r) {
    o->lora.alpha = 1; /* changes no memory */
    o->lora.target_modules = (const char *const *)o->lora_target_modules.items;
    o->lora.target_module_count = o->lora_target_modules.count;
    int status = lckv_config_load(o->model ? o->model : o->config, o->overrides, &r->config);
    if (status < 0) return status;
    r->info = lckv_config_describe(r->config);
    r->parameters = r->info.parameters;
    int64_t positions = r->info.max_position_embeddings;
    if (!o->block_size) o->block_size = positions < 1024 ? positions : 1024;
    if (!o->length) o->length = positions;
    if (o->model) status = count_checkpoint(o, &r->parameters);
    if (status >= 0) status = describe_map(r);
    if (status >= 0) status = foresee_training(o, r);
    if (status >= 0) status = lckv_memory_for_serving(r->config, o->sequences, o->length, o->bf16, &r->serving);
    return status;
}

static void free_report(struct report *r) {
    lckv_free(r->layer_types);
    lckv_free(r->picture);
    lckv_free(r->plan_text);
    lckv_free(r->plan_json);
    lckv_config_free(r->config);
}

/* ---------------------------------------------------------------- for programs */

static json_t *memory_json(const lckv_memory *m, bool training) {
    json_t *json = json_pack("{s:I, s:I, s:I, s:f}", "weights", (json_int_t)m->weights, "activations",
                             (json_int_t)m->activations, "total", (json_int_t)m->total, "flops", m->flops);
    if (training) {
        json_object_set_new(json, "gradients", json_integer(m->gradients));
        json_object_set_new(json, "optimizer", json_integer(m->optimizer));
    } else {
        json_object_set_new(json, "kv_cache", json_integer(m->kv_cache));
    }
    return json;
}

static json_t *report_json(const struct options *o, const struct report *r) {
    lckv_dtype kept = r->info.dtype;
    json_t *training = memory_json(&r->training, true), *serving = memory_json(&r->serving, false);
    json_object_set_new(training, "per_device_train_batch_size", json_integer(o->batch_size));
    json_object_set_new(training, "block_size", json_integer(o->block_size));
    if (r->checkpointed.total)
        json_object_set_new(training, "gradient_checkpointing", memory_json(&r->checkpointed, true));
    if (r->bf16_weights.total) json_object_set_new(training, "bfloat16_weights", memory_json(&r->bf16_weights, true));
    json_object_set_new(serving, "num_sequences", json_integer(o->sequences));
    json_object_set_new(serving, "length", json_integer(o->length));
    json_t *plan = json_loads(r->plan_json, 0, NULL);
    return json_pack("{s:s, s:s, s:i, s:I, s:i, s:i, s:i, s:i, s:o, s:I, s:I, s:{s:o, s:o}}", "model_type",
                     r->info.model_type, "layer_types", r->layer_types, "layers", r->info.layers, "parameters",
                     (json_int_t)r->parameters, "kv_slots", r->info.kv_slots, "loops", r->info.loops, "forward_passes",
                     r->info.forward_passes, "backward_passes", r->info.backward_passes, "plan", plan,
                     "kv_bytes_per_token", (json_int_t)lckv_config_kv_bytes_per_token(r->config, kept),
                     "kv_bytes_per_token_unshared",
                     (json_int_t)lckv_config_kv_bytes_per_token_unshared(r->config, kept), "memory", "training",
                     training, "serving", serving);
}

/* ---------------------------------------------------------------- for people */

static const char *dtype_text(lckv_dtype dtype) {
    static const char *const NAMES[] = {"float32", "bfloat16", "float16"};
    return NAMES[dtype];
}

static void print_kv(const struct report *r) {
    long long bytes = lckv_config_kv_bytes_per_token(r->config, r->info.dtype);
    long long unshared = lckv_config_kv_bytes_per_token_unshared(r->config, r->info.dtype);
    printf("KV cache    %lld bytes a token in %s", bytes, dtype_text(r->info.dtype));
    if (bytes < unshared)
        printf("; without sharing %lld, %.3g times as much\n", unshared, (double)unshared / (double)bytes);
    else
        printf(": every layer keeps its own\n");
}

static void print_training(const struct options *o, const struct report *r) {
    const lckv_memory *m = &r->training, *less = &r->checkpointed, *narrow = &r->bf16_weights;
    char total[32], weights[32], gradients[32], optimizer[32], activations[32], flops[32];
    printf("training    %s for %lld blocks of %lld tokens in %s%s; %s a step\n", people_bytes((double)m->total, total),
           (long long)o->batch_size, (long long)o->block_size, o->bf16 ? "bfloat16" : "float32",
           o->use_peft ? ", of an adapter alone" : "", people_flops(m->flops, flops));
    printf("            weights %s, gradients %s, optimizer %s, activations %s\n",
           people_bytes((double)m->weights, weights), people_bytes((double)m->gradients, gradients),
           people_bytes((double)m->optimizer, optimizer), people_bytes((double)m->activations, activations));
    if (narrow->total)
        printf("            with --torch_dtype bfloat16 %s, optimizer %s\n", people_bytes((double)narrow->total, total),
               people_bytes((double)narrow->optimizer, optimizer));
    if (!less->total) return;
    printf("            with --gradient_checkpointing %s, activations %s; %s a step\n",
           people_bytes((double)less->total, total), people_bytes((double)less->activations, activations),
           people_flops(less->flops, flops));
}

static void print_serving(const struct options *o, const lckv_memory *m) {
    char total[32], weights[32], cache[32], activations[32], flops[32];
    printf("serving     %s for %lld sequence%s of %lld tokens in %s; %s a token\n",
           people_bytes((double)m->total, total), (long long)o->sequences, o->sequences == 1 ? "" : "s",
           (long long)o->length, o->bf16 ? "bfloat16" : "float32",
           people_flops(m->flops / (double)o->sequences, flops));
    printf("            weights %s, KV cache %s, activations %s\n", people_bytes((double)m->weights, weights),
           people_bytes((double)m->kv_cache, cache), people_bytes((double)m->activations, activations));
}

static void print_report(const struct options *o, const struct report *r) {
    char count[32];
    printf("%s\n%s\n", r->picture, r->plan_text);
    printf("parameters  %s (%lld)\n", people_count((double)r->parameters, count), (long long)r->parameters);
    print_kv(r);
    print_training(o, r);
    print_serving(o, &r->serving);
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
        return usage_error(TABLE.command, "one of --config_name and --model_name_or_path says what is inspected");
    int status = find_out(o, &r), code = EXIT_FINE;
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
