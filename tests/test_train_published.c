/* The published pre-training command, with the program's name and the paths of data, config and output replaced, on a
 * small config: lckv accepts all flags, reports those without effect, and trains to the end. */
#include "program.h"

#include "small_tokenizer.h"

static const char CONFIG[] =
    "{\"model_type\":\"lckv-llama\",\"hidden_size\":24,\"intermediate_size\":36,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"num_hidden_layers\":8,\"vocab_size\":277,\"max_position_embeddings\":2048,"
    "\"rms_norm_eps\":1e-5,\"initializer_range\":0.1,\"layer_types\":\"0_1_2_3_4_5_6_7\"}";

/* run_clm.sh of the published code, line by line; %s: tokenizer, config, data set and output. */
static const char SCRIPT[] =
    "accelerate launch run_clm.py \\\n"
    "    --tokenizer_name %s \\\n"
    "    --config_name %s \\\n"
    "    --config_overrides layer_types=0_6_6_6_6_6_6_7,forward_passes=7,backward_passes=2 \\\n"
    "    --dataset_name %s \\\n"
    "    --dataset_config_name wikitext-103-raw-v1 \\\n"
    "    --per_device_train_batch_size 32 \\\n"
    "    --per_device_eval_batch_size 32 \\\n"
    "    --auto_find_batch_size \\\n"
    "    --gradient_accumulation_steps 1 \\\n"
    "    --block_size 1024 \\\n"
    "    --lr_scheduler_type cosine \\\n"
    "    --warmup_ratio 0.015 \\\n"
    "    --learning_rate 3e-4 \\\n"
    "    --weight_decay 1e-1 \\\n"
    "    --bf16 \\\n"
    "    --torch_dtype bfloat16 \\\n"
    "    --do_train \\\n"
    "    --do_eval \\\n"
    "    --use_liger_kernel \\\n"
    "    --num_train_epochs 3 \\\n"
    "    --save_total_limit 1 \\\n"
    "    --save_strategy steps \\\n"
    "    --save_steps 500 \\\n"
    "    --evaluation_strategy steps \\\n"
    "    --eval_steps 500 \\\n"
    "    --load_best_model_at_end True \\\n"
    "    --metric_for_best_model eval_loss \\\n"
    "    --report_to none \\\n"
    "    --run_name llamatiny-test \\\n"
    "    --overwrite_output_dir \\\n"
    "    --output_dir %s\n";

/* Three blocks of 1024 tokens for training, one for validation. */
static void put_dataset(const folder *f) {
    static const char line[] = "the cat sat on the cat. a b, a b; the stopping.\n";
    folder part;
    text_buffer text = {0};
    snprintf(part.path, sizeof part.path, "%.400s/set/wikitext-103-raw-v1", f->path);
    OK(folder_create(part.path));
    for (int i = 0; i < 90; i++) OK(text_append(&text, line, sizeof line - 1));
    put_text(in(&part, "train.txt"), text.data);
    text.data[40 * (sizeof line - 1)] = '\0';
    put_text(in(&part, "validation.txt"), text.data);
    text_free(&text);
}

static void the_published_command_runs(void **state) {
    const folder *f = *state;
    folder tokenizer;
    char script[4096];
    snprintf(tokenizer.path, sizeof tokenizer.path, "%.480s/tokenizer", f->path);
    OK(folder_create(tokenizer.path));
    small_tokenizer_write(&tokenizer);
    put_dataset(f);
    put_text(in(f, "config.json"), CONFIG);
    snprintf(script, sizeof script, SCRIPT, tokenizer.path, in(f, "config.json"), in(f, "set"), in(f, "out"));
    put_text(in(f, "run_clm.sh"), script);
    outcome o = RUN(f, "train", "--args_file", in(f, "run_clm.sh"), "--json", "--device", "cpu");
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    assert_non_null(strstr(o.messages, "--use_liger_kernel has no effect"));
    json_t *result;
    OK(json_parse(o.output, strlen(o.output), "stdout", &result));
    assert_int_equal(json_integer_value(json_object_get(result, "steps")), 3); /* an epoch is one step */
    assert_true(json_real_value(json_object_get(result, "eval_loss")) > 0);
    assert_true(file_exists(in(f, "out/model.safetensors")));
    assert_true(folder_exists(in(f, "out/checkpoint-3")));
    json_decref(result);
    outcome_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(the_published_command_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
