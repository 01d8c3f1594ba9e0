/* lckv convert: converts a checkpoint to another layer map, or merges an adapter into it. */
#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "commands.h"
#include "lckv.h"

/* Values of the flags. */
struct options {
    lckv_convert_options convert; /* set directly by most flags */
    int kv;                       /* index of the choice: average, copy */
    bool json;
};

#define MODEL(member) .offset = offsetof(struct options, convert.member)

static const flag FLAGS[] = {
    {"model_name_or_path", FLAG_TEXT, NULL, "Model", "checkpoint to convert: a folder or ORG/NAME",
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
     "data type of the written weights: float32, bfloat16 or float16; auto keeps the type of the checkpoint",
     MODEL(torch_dtype)},
    {"output_dir", FLAG_TEXT, NULL, "Output", "output folder", MODEL(output_dir), .required = true},
    FLAG_JSON(struct options, json),
    {0},
};

static const char *const EXAMPLES[] = {
    "convert a plain model to one whose layers share keys and values",
    "lckv convert --model_name_or_path demo-model --config_overrides layer_types=0_0_2_2_4_4_6_6 --output_dir demo-cla",
    "merge a LoRA adapter into its model",
    "lckv convert --model_name_or_path demo-model --adapter adapter --output_dir merged",
    NULL,
};

static const flag_table TABLE = {
    "convert",
    "Converts a checkpoint to another layer map. Layer weights are copied; the K and V weights of each slot are merged "
    "from the layers that read it. With --adapter, merges a LoRA adapter into the weights.",
    "--model_name_or_path NAME [--config_name NAME] [--adapter DIR] --output_dir DIR",
    FLAGS,
    .positional = "model_name_or_path output_dir",
    .examples = EXAMPLES,
};

static bool show_progress(void *user, double fraction) {
    const lckv_convert_options *o = user;
    if (progress_due()) progress(fraction, "writing %s", o->output_dir);
    return !interrupted();
}

static int print_result(const struct options *o) {
    notice("wrote %s", o->convert.output_dir);
    if (!o->json) return EXIT_FINE;
    json_t *object = json_pack("{ss}", "output_dir", o->convert.output_dir);
    bool printed = object && print_json(object);
    json_decref(object);
    return printed ? EXIT_FINE : EXIT_FAILED;
}

int cmd_convert(int argc, char **argv) {
    struct options options = {.convert = lckv_convert_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    lckv_convert_options *convert = &options.convert;
    convert->kv = options.kv == 1 ? LCKV_KV_COPY : LCKV_KV_AVERAGE;
    convert->go_on = show_progress;
    convert->user = convert;
    progress(-1, "reading %s", convert->model_name_or_path ? convert->model_name_or_path : "");
    int status = lckv_convert(convert);
    progress_end();
    code = status < 0 ? library_error(TABLE.command, status) : print_result(&options);
    flags_free(&TABLE, &options);
    return code;
}
