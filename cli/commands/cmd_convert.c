/* lckv convert: converts a checkpoint to another layer map, merges an adapter into it, or fits a start of its loops. */
#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "cli/output/string_json.h"
#include "commands.h"
#include "lckv.h"

#include <stdio.h>
#include <string.h>

/* Values of the flags. */
struct options {
    lckv_convert_options convert; /* set directly by most flags */
    int kv;                       /* index of the choice: average, copy */
    lckv_fit_options fit;         /* set directly by most flags */
    flag_list fit_files;          /* none: no start is fitted */
    const char *device;
    int64_t threads;
    bool json;
};

#define MODEL(member) .offset = offsetof(struct options, convert.member)

static const flag FLAGS[] = {
    {"model_name_or_path", FLAG_TEXT, NULL, "Model", "checkpoint to convert: a folder, a GGUF file or ORG/NAME",
     MODEL(model_name_or_path), .required = true},
    {"config_name", FLAG_TEXT, NULL, "Model",
     "config of the new model: a folder, .json file or ORG/NAME; by default the checkpoint's own", MODEL(config_name)},
    {"adapter", FLAG_TEXT, NULL, "Model",
     "LoRA adapter in peft's format (folder or ORG/NAME) to merge into the weights first; its tokenizer files are "
     "copied too",
     MODEL(adapter), .value = "DIR"},
    {"config_overrides", FLAG_TEXT, NULL, "Model",
     "changes to the config, such as layer_types=0_6_6_6_6_6_6_7,forward_passes=7", MODEL(config_overrides)},
    {"tokenizer_name", FLAG_TEXT, NULL, "Model",
     "tokenizer to copy to output_dir: a folder or ORG/NAME; by default the checkpoint's own", MODEL(tokenizer_name)},
    {"kv", FLAG_CHOICE, "average", "Weights",
     "K and V weights of each slot owner: average takes the mean over the layers that read the slot, copy keeps the "
     "owner's",
     .offset = offsetof(struct options, kv), .choices = "average|copy"},
    {"torch_dtype", FLAG_TEXT, "auto", "Weights",
     "data type of the written weights that are not quantized: float32, bfloat16 or float16; auto keeps the type of "
     "the "
     "checkpoint",
     MODEL(torch_dtype)},
    {"weight_dtype", FLAG_TEXT, "auto", "Weights",
     "format of the written matrices of layers: int8 or int4, in groups of 32 with a scale; float dequantizes them; "
     "auto "
     "keeps that of the checkpoint",
     MODEL(weight_dtype)},
    {"output_dir", FLAG_TEXT, NULL, "Output", "output folder; required without --gguf", MODEL(output_dir)},
    {"gguf", FLAG_TEXT, NULL, "Output",
     "GGUF file for llama.cpp to write instead of a folder; for plain models, whose layers share no KV",
     MODEL(gguf_file), .value = "FILE"},
    {"gguf_dtype", FLAG_TEXT, NULL, "Output",
     "format of the matrices in the GGUF file: f32, f16, bf16, q8_0 or q4_0; by default the checkpoint's type",
     MODEL(gguf_dtype)},
    {"fit_loop_start", FLAG_FILES, NULL, "Learned start",
     "plain text files to fit a learned start of the loops to (loop_start.safetensors), with which prompts need fewer "
     "iterations; some minutes for a small model",
     FLAG_INTO(struct options, fit_files), .value = "FILES"},
    {"loop_start_width", FLAG_INT, "0", "Learned start", "width of its hidden layer; 0 is 2 * hidden_size",
     FLAG_INTO(struct options, fit.width), .min = 0, .max = 1 << 20},
    {"loop_start_steps", FLAG_INT, "0", "Learned start",
     "steps of 4,096 tokens; 0 chooses a number that follows from the text", FLAG_INTO(struct options, fit.steps),
     .min = 0, .max = 1e9},
    {"loop_start_learning_rate", FLAG_NUMBER, "3e-3", "Learned start", "highest learning rate of the fit",
     FLAG_INTO(struct options, fit.learning_rate), .min = 1e-9, .max = 0.999},
    {"bf16", FLAG_SWITCH, NULL, "Learned start", "compute in bfloat16 instead of float32",
     FLAG_INTO(struct options, fit.bf16)},

    FLAG_JSON(struct options, json),
    FLAG_DEVICE(struct options, device),
    FLAG_THREADS(struct options, threads),
    {0},
};

static const char *const EXAMPLES[] = {
    "convert a plain model to one whose layers share keys and values",
    "lckv convert --model_name_or_path demo-model --config_overrides layer_types=0_0_2_2_4_4_6_6 --output_dir demo-cla",
    "write a GGUF file for llama.cpp",
    "lckv convert --model_name_or_path llama-model --gguf llama.gguf --gguf_dtype q8_0",
    "quantize a checkpoint to 4 bits, in a layout that transformers reads",
    "lckv convert --model_name_or_path demo-model --weight_dtype int4 --output_dir demo-int4",
    NULL,
};

static const flag_table TABLE = {
    "convert",
    "Converts a checkpoint to another layer map. Layer weights are copied; the K and V weights of each slot are merged "
    "from the layers that read it. Reads a Hugging Face folder or a GGUF file and writes a folder, or with --gguf a "
    "GGUF file. With --weight_dtype, quantizes the matrices. With --adapter, merges a LoRA adapter into the weights. "
    "With --fit_loop_start, fits "
    "a learned start of the result's loops to a text.",
    "--model_name_or_path NAME [--config_name NAME] [--adapter DIR] [--fit_loop_start FILES] --output_dir DIR | --gguf "
    "FILE",
    FLAGS,
    .positional = "model_name_or_path output_dir",
    .examples = EXAMPLES,
};

static const char *output_of(const lckv_convert_options *o) {
    return o->gguf_file ? o->gguf_file : o->output_dir;
}

static bool show_progress(void *user, double fraction) {
    const lckv_convert_options *o = user;
    if (progress_due()) progress(fraction, "writing %s", output_of(o));
    return !interrupted();
}

static bool show_fitting(void *user, const char *part, double fraction) {
    (void)user;
    if (progress_due()) progress(fraction, "%s %3.0f %%", part, 100 * fraction);
    return !interrupted();
}

/* Fits a start to the written checkpoint. */
static int fit_start(struct options *o, lckv_fit_result *out) {
    lckv_device *device;
    o->fit.model_name_or_path = o->fit.output_dir = o->convert.output_dir;
    o->fit.files = (const char *const *)o->fit_files.items;
    o->fit.file_count = o->fit_files.count;
    o->fit.go_on = show_fitting;
    int status = lckv_device_open(o->device, (int)o->threads, &device);
    if (status < 0) return library_error(TABLE.command, status);
    status = lckv_fit_loop_start(device, &o->fit, out);
    lckv_device_close(device);
    progress_end();
    if (status >= 0) return EXIT_FINE;
    int code = library_error(TABLE.command, status);
    notice("%s has the checkpoint, without a start", o->convert.output_dir);
    return code;
}

static json_t *describe_column(const double *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_real(values[i]));
    return list;
}

static json_t *describe_fit(const lckv_fit_result *f) {
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:i, s:i, s:o, s:o}", "tokens", (json_int_t)f->tokens,
                     "held_out_tokens", (json_int_t)f->held_out_tokens, "parameters", (json_int_t)f->parameters,
                     "steps", (json_int_t)f->steps, "relative_error", f->relative_error, "plan_iterations",
                     f->plan_iterations, "default_iterations", f->default_iterations, "kl_zeros",
                     describe_column(f->kl_zeros, f->measured), "kl_start", describe_column(f->kl_start, f->measured));
}

static void notice_fit(const lckv_fit_result *f) {
    char tokens[48], parameters[48];
    notice("fitted a start of %s to %s; %d iterations from it are as exact as %d from zeros",
           human_quantity(f->parameters, "parameter", parameters), human_quantity(f->tokens, "token", tokens),
           f->default_iterations, f->plan_iterations);
    for (int i = 0; i < f->measured; i++)
        notice("KL from exact after %d iteration%s: %.2g from zeros, %.2g from the start", i + 1, i ? "s" : "",
               f->kl_zeros[i], f->kl_start[i]);
}

static int print_result(const struct options *o, const lckv_fit_result *fit) {
    notice("wrote %s", output_of(&o->convert));
    if (o->fit_files.count) notice_fit(fit);
    if (!o->json) return EXIT_FINE;
    const char *written = output_of(&o->convert);
    json_t *object =
        need(json_pack("{so}", o->convert.gguf_file ? "gguf" : "output_dir", string_json(written, strlen(written))));
    if (o->fit_files.count) json_object_set_new(object, "loop_start", describe_fit(fit));
    bool printed = print_json(object);
    json_decref(object);
    return printed ? EXIT_FINE : EXIT_FAILED;
}

/* Returns 0, or EXIT_USAGE after printing the error. */
static int check_output(const struct options *o) {
    const lckv_convert_options *c = &o->convert;
    if (!c->output_dir && !c->gguf_file)
        return usage_error(TABLE.command, "missing --output_dir (a folder to write) or --gguf (a GGUF file to write)");
    if (c->output_dir && c->gguf_file) return usage_error(TABLE.command, "--output_dir and --gguf exclude each other");
    if (c->gguf_file && o->fit_files.count)
        return usage_error(TABLE.command, "--fit_loop_start needs --output_dir; llama.cpp has no learned starts");
    if (c->gguf_dtype && !c->gguf_file) return usage_error(TABLE.command, "--gguf_dtype needs --gguf");
    return EXIT_FINE;
}

static int run(struct options *o) {
    lckv_convert_options *convert = &o->convert;
    lckv_fit_result fit = {0};
    int code = check_output(o);
    if (code) return code;
    convert->kv = o->kv == 1 ? LCKV_KV_COPY : LCKV_KV_AVERAGE;
    convert->go_on = show_progress;
    convert->user = convert;
    progress(-1, "reading %s", convert->model_name_or_path);
    int status = lckv_convert(convert);
    progress_end();
    code = status < 0 ? library_error(TABLE.command, status) : EXIT_FINE;
    if (!code && o->fit_files.count) code = fit_start(o, &fit);
    return code ? code : print_result(o, &fit);
}

int cmd_convert(int argc, char **argv) {
    struct options options = {.convert = lckv_convert_defaults(), .fit = lckv_fit_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = run(&options);
    flags_free(&TABLE, &options);
    return code;
}
