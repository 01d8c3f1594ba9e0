/* Parsing of flags, through the program: flags of the Hugging Face scripts without effect here, flags from a file, and
 * errors. Other tests check the effect of each flag. */
#include "program.h"

#include "id_rows.h"

#include <math.h>

static const char CONFIG[] = ID_ROWS_CONFIG("2", "");

/* 12 documents of 16 ids: blocks of 8 make 24. */
static void put_data(const folder *f) {
    char text[ID_ROWS_BYTES];
    id_rows(text);
    put_text(in(f, "ids.jsonl"), text);
    put_text(in(f, "config.json"), CONFIG);
}

/* A run of three steps with additional flags. */
#define TRAINS(f, ...)                                                                                                 \
    RUN(f, "train", "--config_name", in(f, "config.json"), "--train_file", in(f, "ids.jsonl"), "--output_dir",         \
        in(f, "out"), "--block_size=8", "--max_steps=3", __VA_ARGS__)

static void flags_with_nothing_to_do_are_taken_with_a_line_that_says_so(void **state) {
    const folder *f = *state;
    put_data(f);
    outcome o =
        TRAINS(f, "--use_liger_kernel", "--attn_implementation", "sdpa", "--fp16", "False", "--low-cpu-mem-usage",
               "--no_dataloader_pin_memory", "--fsdp_min_num_params=0", "--past_index", "-1");
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    assert_non_null(strstr(o.messages, "--use_liger_kernel has no effect: norms, "));
    assert_non_null(strstr(o.messages, "--attn_implementation has no effect: "));
    assert_non_null(strstr(o.messages, "--low_cpu_mem_usage has no effect: weights are memory-mapped\n"));
    assert_non_null(strstr(o.messages, "--dataloader_pin_memory has no effect: "));
    assert_null(strstr(o.messages, "fp16"));       /* False has no effect and causes no message */
    assert_null(strstr(o.messages, "past_index")); /* neither does -1 */
    outcome_free(&o);
}

static void flags_that_would_change_the_result_are_refused_with_the_reason(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "--fp16 True is refused: float16 needs loss scaling", "train", "--fp16");
    REFUSES(f, 2, "--label_smoothing_factor 0.1 is refused: the loss is", "train", "--label_smoothing_factor", "0.1");
    REFUSES(f, 2, "--optim adafactor is refused: the only optimizer is AdamW", "train", "--optim=adafactor");
    REFUSES(f, 2, "--fsdp full_shard,auto_wrap is refused", "train", "--fsdp", "full_shard", "auto_wrap");
    REFUSES(f, 2, "--save_safetensors False is refused", "train", "--no_save_safetensors");
    REFUSES(f, 2, "--deepspeed ds_config.json is refused", "train", "--deepspeed", "ds_config.json");
}

static void flags_that_are_missing_are_named(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "expected --config_name, --model_name_or_path, or both", "train", "--output_dir", "out");
    REFUSES(f, 2, "--train_file or --dataset_name is required", "train", "--output_dir", "out", "--config_name", "x");
}

/* sft has the flags of train except those for blocks, flags of its own, and trl's names for them. */
static void sft_has_flags_of_its_own(void **state) {
    const folder *f = *state;
    put_data(f);
    REFUSES(f, 2, "--model_name_or_path is required", "sft", "--output_dir", "out", "--train_file", "x");
    REFUSES(f, 2, "--train_file or --dataset_name is required", "sft", "--output_dir", "out", "--model_name_or_path",
            "x");
    REFUSES(f, 2, "--completion_only_loss: expected True or False, found \"maybe\"", "sft", "--output_dir", "out",
            "--completion_only_loss", "maybe");
    REFUSES(f, 2, "--max_seq_length: expected 0 or at least 2", "sft", "--output_dir", "out", "--model_name_or_path",
            "x", "--train_file", "x", "--max_length", "1");
    REFUSES(f, 2, "--packing_strategy wrapped is refused: rows are packed whole", "sft", "--packing_strategy",
            "wrapped");
    REFUSES(f, 2, "--lora_dropout: expected", "sft", "--lora_dropout", "1.5");
    REFUSES(f, 2, "block_size", "sft", "--output_dir", "out", "--block_size", "8");
    REFUSES(f, 1, "instruction tuning needs a tokenizer, but", "sft", "--output_dir", in(f, "out"),
            "--model_name_or_path", in(f, "."), "--train_file", in(f, "ids.jsonl"), "--padding_free",
            "--packing_strategy", "bfd", "--lora_dropout", "0");
}

/* Checks that the flag reaches the step; test_train_stepper.c checks its effect. */
static void gradient_checkpointing_reaches_the_step(void **state) {
    const folder *f = *state;
    put_data(f);
    outcome o = TRAINS(f, "--gradient_checkpointing");
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    outcome_free(&o);
    REFUSES(f, 1, "gradient_checkpointing is not supported with use_sequential", "train", "--config_name",
            in(f, "config.json"), "--config_overrides", "use_sequential=true", "--train_file", in(f, "ids.jsonl"),
            "--output_dir", in(f, "other"), "--block_size=8", "--gradient_checkpointing");
}

/* By the names of types in the header, which is JSON behind 8 bytes. */
static bool has_bf16_alone(const char *safetensors) {
    size_t count;
    char *text = get(safetensors, &count);
    bool alone = strstr(text + 8, "\"BF16\"") && !strstr(text + 8, "\"F32\"");
    free(text);
    return alone;
}

static void torch_dtype_is_the_type_of_the_weights(void **state) {
    const folder *f = *state;
    put_data(f);
    outcome o = TRAINS(f, "--bf16", "--torch_dtype", "bfloat16");
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    outcome_free(&o);
    assert_file_says(in(f, "out/config.json"), "\"torch_dtype\": \"bfloat16\"");
    assert_true(has_bf16_alone(in(f, "out/model.safetensors")));
    assert_true(has_bf16_alone(in(f, "out/checkpoint-3/optimizer.safetensors")));
    REFUSES(f, 1, "torch_dtype bfloat16 needs bf16", "train", "--config_name", in(f, "config.json"), "--train_file",
            in(f, "ids.jsonl"), "--output_dir", in(f, "other"), "--torch_dtype", "bfloat16");
    REFUSES(f, 1, "torch_dtype: expected auto, float32 or bfloat16, found float16", "train", "--config_name",
            in(f, "config.json"), "--train_file", in(f, "ids.jsonl"), "--output_dir", in(f, "other"), "--torch_dtype",
            "float16");
}

static void a_misspelt_flag_names_the_nearest_of_all_that_are_known(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "unknown flag \"--use_ligerkernel\"; did you mean --use_liger_kernel?", "train", "--use_ligerkernel");
    REFUSES(f, 2, "unknown flag \"--lerning-rate\"; did you mean --learning_rate?", "train", "--lerning-rate", "1");
    REFUSES(f, 2, "unknown flag \"--no_bf16\"", "train",
            "--no_bf16"); /* False by default: there is nothing to negate */
    REFUSES(f, 2, "--use_liger_kernel: expected True, False or no value", "train", "--use_liger_kernel=maybe");
}

static json_int_t steps_of(const folder *f, const char *const *words) {
    json_t *result = program_json(f, words);
    json_int_t steps = json_integer_value(json_object_get(result, "steps"));
    json_decref(result);
    return steps;
}

/* `script` is a format for the paths of config, data and output. */
static void put_script(const folder *f, const char *name, const char *script) {
    char text[4096];
    snprintf(text, sizeof text, script, in(f, "config.json"), in(f, "ids.jsonl"), in(f, "out"));
    put_text(in(f, name), text);
}

static double number_of(const folder *f, const char *const *words, const char *key) {
    json_t *result = program_json(f, words), *value = json_object_get(result, key);
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    json_decref(result);
    return number;
}

/* A run from the model in `out` with additional flags; returns a number of its output. */
#define GOES_ON(f, key, ...)                                                                                           \
    number_of(f, (const char *const[]){"train", "--args_file", in(f, "on.txt"), "--json", __VA_ARGS__, NULL}, key)

static void flags_of_order_batches_and_evaluation_act(void **state) {
    const folder *f = *state;
    put_data(f);
    outcome o = TRAINS(f, "--save_strategy=no");
    assert_int_equal(o.code, 0);
    outcome_free(&o);
    char text[4096];
    snprintf(text, sizeof text,
             "--model_name_or_path %s --train_file %s --validation_file %s --output_dir %s --overwrite_output_dir "
             "--block_size 8",
             in(f, "out"), in(f, "ids.jsonl"), in(f, "ids.jsonl"), in(f, "on"));
    put_text(in(f, "on.txt"), text);
    double shuffled = GOES_ON(f, "train_loss", "--max_steps=1", "--seed=1");
    double in_order = GOES_ON(f, "train_loss", "--max_steps=1", "--seed=1", "--no_shuffle");
    assert_true(shuffled != GOES_ON(f, "train_loss", "--max_steps=1", "--seed=2"));
    assert_true(in_order == GOES_ON(f, "train_loss", "--max_steps=1", "--seed=2", "--no_shuffle"));
    assert_true(isfinite(GOES_ON(f, "eval_loss", "--max_steps=1", "--per_gpu_eval_batch_size=3")));
    assert_true(isnan(GOES_ON(f, "eval_loss", "--max_steps=1", "--do_eval=False")));
    assert_true(GOES_ON(f, "steps", "--num_train_epochs=1", "--per_gpu_train_batch_size=4") == 6);
}

static void older_names_and_choices_are_checked_as_the_newer_ones(void **state) {
    const folder *f = *state;
    put_data(f);
    char *config = strdup(in(f, "config.json")), *ids = strdup(in(f, "ids.jsonl")), *on = strdup(in(f, "on"));
    REFUSES(f, 2, "per_device_eval_batch_size: expected", "train", "--per_gpu_eval_batch_size=0");
    REFUSES(f, 2, "--metric_for_best_model: expected one of", "train", "--metric_for_best_model=bleu");
    REFUSES(f, 1, "eval_strategy needs do_eval, and a validation_file", "train", "--evaluation_strategy=epoch",
            "--config_name", config, "--train_file", ids, "--output_dir", on);
    REFUSES(f, 1, "cuda:99", "train", "--device=cuda:99", "--config_name", config, "--train_file", ids, "--output_dir",
            on);
    free(config);
    free(ids);
    free(on);
    outcome o = TRAINS(f, "--device=cuda:99", "--use_cpu", "--metric_for_best_model=eval_loss");
    assert_int_equal(o.code, 0);
    outcome_free(&o);
    o = TRAINS(f, "--device=cuda:99", "--no_cuda", "--overwrite_output_dir");
    assert_int_equal(o.code, 0);
    outcome_free(&o);
}

static void flags_come_from_a_script_and_the_command_line_wins(void **state) {
    const folder *f = *state;
    put_data(f);
    put_script(f, "run.sh.txt",
               "#!/usr/bin/env bash\n"
               "export JOB=$RANDOM  # isn't used\n"
               "echo \"Start $JOB\"\n"
               "accelerate launch run_clm.py \\\n"
               "    --config_name '%s' --train_file \"%s\" \\\n"
               "    --output_dir %s --overwrite_output_dir \\\n"
               "    # a line left out: --max_steps 9\n"
               "    --block_size 8 \\\n"
               "    --use_liger_kernel --max_steps 2\n");
    const char *script = in(f, "run.sh.txt");
    assert_int_equal(steps_of(f, (const char *const[]){"train", "--args_file", script, "--json", NULL}), 2);
    const char *const typed[] = {"train", "--max_steps", "4", "--args_file", script, "--json", NULL};
    assert_int_equal(steps_of(f, typed), 4);
    put_text(in(f, "more.jsonl"), "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n");
    const char *const other[] = {
        "train",          "--args_file", script, "--train_file", in(f, "more.jsonl"), "--json", "--num_train_epochs=3",
        "--max_steps=-1", NULL};
    assert_int_equal(steps_of(f, other), 3); /* one block: the list of files was replaced, not added to */
}

static void flags_come_from_json_as_the_scripts_parser_takes_it(void **state) {
    const folder *f = *state;
    put_data(f);
    put_script(f, "run.json",
               "{\"config_name\": \"%s\", \"train_file\": [\"%s\"], \"output_dir\": \"%s\", \"max_steps\": 2,\n"
               " \"learning_rate\": 3e-4, \"bf16\": false, \"model_name_or_path\": null, \"block_size\": 8}\n");
    const char *path = in(f, "run.json");
    assert_int_equal(steps_of(f, (const char *const[]){"train", "--args_file", path, "--json", NULL}), 2);
}

static void files_of_flags_that_cannot_be_read_are_named(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "cannot read 'absent.txt'", "train", "--args_file", "absent.txt");
    REFUSES(f, 2, "--args_file: expected a value", "train", "--args_file");
    put_text(in(f, "variable.txt"), "run.py --seed 1\n  --output_dir out-$RANDOM\n");
    REFUSES(f, 2, "variable.txt', line 2: substitutions with $ or `", "train", "--args_file", in(f, "variable.txt"));
    put_text(in(f, "quote.txt"), "--output_dir 'out");
    REFUSES(f, 2, "quote.txt', line 1: unterminated quote", "train", "--args_file", in(f, "quote.txt"));
    put_text(in(f, "object.txt"), "{\"max_steps\": 1}\n");
    REFUSES(f, 2, "object.txt': expected flags (--NAME VALUE), found none; a JSON object", "train", "--args_file",
            in(f, "object.txt"));
    put_text(in(f, "itself.txt"), "--args_file=itself.txt");
    REFUSES(f, 2, "itself.txt' contains --args_file", "train", "--args_file", in(f, "itself.txt"));
    put_text(in(f, "wrong.txt"), "--block_sise 8");
    REFUSES(f, 2, "did you mean --block_size?", "train", "--args_file", in(f, "wrong.txt"));
    put_text(in(f, "broken.json"), "{\"seed\": 1,\n}");
    REFUSES(f, 2, "broken.json', line 2: ", "train", "--args_file", in(f, "broken.json"));
    put_text(in(f, "list.json"), "[1]");
    REFUSES(f, 2, "list.json': expected a JSON object", "train", "--args_file", in(f, "list.json"));
    put(in(f, "binary.txt"), "--seed\0", 7);
    REFUSES(f, 2, "binary.txt' is not a text file", "train", "--args_file", in(f, "binary.txt"));
}

/* The learning rate of the last of three steps in the log. */
static double last_learning_rate(const folder *f) {
    size_t bytes;
    char *text;
    OK(file_read(in(f, "out/train_log.jsonl"), &text, &bytes));
    const char *at = strstr(text, "\"learning_rate\": ");
    assert_non_null(at);
    double found = atof(at + strlen("\"learning_rate\": "));
    free(text);
    return found;
}

static void schedules_are_chosen_by_flags(void **state) {
    const folder *f = *state;
    put_data(f);
    outcome o = TRAINS(f, "--learning_rate=0.01", "--lr_scheduler_type", "cosine_with_min_lr", "--min_lr_rate=0.5",
                       "--warmup_steps=1");
    assert_int_equal(o.code, 0);
    assert_true(fabs(last_learning_rate(f) - 0.0075) < 1e-15); /* one of two steps after the warm-up */
    outcome_free(&o);
    o = TRAINS(f, "--overwrite_output_dir", "--learning_rate=0.01", "--lr_scheduler_type", "warmup_stable_decay",
               "--min_lr_rate=0.5", "--num_decay_steps=2");
    assert_int_equal(o.code, 0);
    assert_true(fabs(last_learning_rate(f) - 0.0075) < 1e-15);
    outcome_free(&o);
}

static void the_table_is_printed_as_rows(void **state) {
    const folder *f = *state;
    outcome o = RUN(f, "help", "--markdown", "train");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.output, "| `--seed` | acts | "));
    assert_non_null(strstr(o.output, "| `--use_liger_kernel` | no effect | "));
    assert_non_null(strstr(o.output, "| `--fp16` | refused | "));
    for (const char *line = o.output; *line; line = strchr(line, '\n') + 1) {
        int bars = 0;
        for (const char *c = line; *c != '\n'; c++) bars += *c == '|' && (c == line || c[-1] != '\\');
        assert_int_equal(bars, 4);
    }
    outcome_free(&o);
}

static void reports_are_written_here_or_said_not_to_be(void **state) {
    const folder *f = *state;
    put_data(f);
    outcome o = TRAINS(f, "--report_to", "wandb", "tensorboard", "--logging_dir", in(f, "logs"), "--run_name", "one");
    assert_int_equal(o.code, 0);
    assert_non_null(
        strstr(o.messages, "--report_to wandb is not available and is ignored; only tensorboard is available"));
    assert_int_equal(access(in(f, "logs/one"), F_OK), 0);
    outcome_free(&o);
    REFUSES(f, 2, "--report_to: expected none, tensorboard or all, found \"tensorbord\"", "train", "--output_dir=out",
            "--config_name=x", "--train_file=y", "--report_to=tensorbord");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(flags_with_nothing_to_do_are_taken_with_a_line_that_says_so),
        IN_FOLDER(flags_that_would_change_the_result_are_refused_with_the_reason),
        IN_FOLDER(sft_has_flags_of_its_own),
        IN_FOLDER(flags_that_are_missing_are_named),
        IN_FOLDER(gradient_checkpointing_reaches_the_step),
        IN_FOLDER(torch_dtype_is_the_type_of_the_weights),
        IN_FOLDER(a_misspelt_flag_names_the_nearest_of_all_that_are_known),
        IN_FOLDER(flags_of_order_batches_and_evaluation_act),
        IN_FOLDER(older_names_and_choices_are_checked_as_the_newer_ones),
        IN_FOLDER(flags_come_from_a_script_and_the_command_line_wins),
        IN_FOLDER(flags_come_from_json_as_the_scripts_parser_takes_it),
        IN_FOLDER(files_of_flags_that_cannot_be_read_are_named),
        IN_FOLDER(schedules_are_chosen_by_flags),
        IN_FOLDER(the_table_is_printed_as_rows),
        IN_FOLDER(reports_are_written_here_or_said_not_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
