/* The published commands for generation, streaming, the harness, conversion, tuning and chat, with only the program's
 * name and the paths of models and data replaced: lckv accepts each and does its work. Uses a small model to be fast.
 * Pre-training: test_train_published.c. */
#include "program.h"

#include "model_folder.h"

/* run_generation.sh of the published code; LCKV is the program, the folder is that of the test. */
static const char GENERATION[] = "# run generation\n"
                                 "LCKV generate \\\n"
                                 "    --model_type lckv-llama \\\n"
                                 "    --torch_dtype bfloat16 \\\n"
                                 "    --tokenizer_name model \\\n"
                                 "    --model_name_or_path model \\\n"
                                 "    --num_return_sequences 1 \\\n"
                                 "    --prompt \"the meaning of life is\" \\\n"
                                 "    --length 512\n"
                                 "\n"
                                 "# run streaming\n"
                                 "LCKV generate \\\n"
                                 "    --model_type lckv-llama \\\n"
                                 "    --torch_dtype bfloat16 \\\n"
                                 "    --tokenizer_name model \\\n"
                                 "    --model_name_or_path model \\\n"
                                 "    --num_return_sequences 1 \\\n"
                                 "    --prompt \"the meaning of life is\" \\\n"
                                 "    --length 2048 \\\n"
                                 "    --sink_cache \\\n"
                                 "    --window_length 1024 \\\n"
                                 "    --num_sink_tokens 4 \\\n";

/* run_streaming.sh */
static const char STREAMING[] = "# streaming test\n"
                                "LCKV eval \\\n"
                                "    --model_name_or_path model \\\n"
                                "    --output_dir streaming/llamatiny-test \\\n"
                                "    --dataset_name pg19 \\\n"
                                "    --download_streaming \\\n"
                                "    --num_eval_tokens 4000000 \\\n"
                                "    --sink_cache \\\n"
                                "    --num_sink_tokens 4 \\\n"
                                "    --window_length 1024 \\\n"
                                "\n"
                                "# performance test\n"
                                "LCKV eval \\\n"
                                "    --model_name_or_path model \\\n"
                                "    --output_dir streaming/llamatiny-2048 \\\n"
                                "    --dataset_name pg19 \\\n"
                                "    --download_streaming \\\n"
                                "    --num_eval_tokens 50 \\\n"
                                "    --sink_cache \\\n"
                                "    --num_sink_tokens 4 \\\n"
                                "    --window_length 2048 \\\n";

/* README.md: harness (test_harness.py, with all of its flags and with none), conversion, chat. */
static const char HARNESS[] = "LCKV eval --model_name_or_path model --data_dir documents\n"
                              "LCKV eval --model_name_or_path model --dtype bfloat16 --tasks piqa arc_easy "
                              "--num_fewshot 0 --output harness/result.json --data_dir documents\n";
static const char CONVERSION[] =
    "LCKV convert --model_name_or_path model --config_name config.json --output_dir outputs/tinyllama-converted\n";
static const char CHAT[] = "echo 'the cat' | LCKV chat --model_name_or_path model\n";

/* run_sft.sh */
static const char TUNING[] = "# Full training\n"
                             "LCKV sft \\\n"
                             "    --model_name_or_path model \\\n"
                             "    --dataset_name openassistant-guanaco \\\n"
                             "    --dataset_text_field text \\\n"
                             "    --max_seq_length 1024 \\\n"
                             "    --use_liger \\\n"
                             "    --bf16 \\\n"
                             "    --torch_dtype bfloat16 \\\n"
                             "    --attn_implementation flash_attention_2 \\\n"
                             "    --per_device_train_batch_size 16 \\\n"
                             "    --gradient_accumulation_steps 1 \\\n"
                             "    --learning_rate 1.41e-5 \\\n"
                             "    --logging_steps 1 \\\n"
                             "    --num_train_epochs 3 \\\n"
                             "    --report_to none \\\n"
                             "    --output_dir outputs/llamatiny-sft-test\n";

/* Runs it in the test's folder, expects exit code 0, and returns the output. */
static outcome run_script(const folder *f, const char *script) {
    char text[4096], command[3 * PATH_BYTES];
    outcome o;
    size_t bytes;
    snprintf(text, sizeof text, "set -e\nLCKV() { command=$1; shift; '%s' \"$command\" \"$@\"; }\n%s", program_path(),
             script);
    put_text(in(f, "script.sh"), text);
    snprintf(command, sizeof command, "cd '%s' && sh script.sh >out 2>messages", f->path);
    int status = system(command);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    o.output = get(in(f, "out"), &bytes);
    o.messages = get(in(f, "messages"), &bytes);
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    return o;
}

static void generation(void **state) {
    outcome o = run_script(*state, GENERATION);
    char *first = strstr(o.output, "the meaning of life is");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "the meaning of life is"));
    outcome_free(&o);
}

static int lines_of(const char *path) {
    size_t bytes;
    int lines = 0;
    char *text = get(path, &bytes);
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    free(text);
    return lines;
}

static void streaming(void **state) {
    const folder *f = *state;
    folder pg19;
    snprintf(pg19.path, sizeof pg19.path, "%.480s/pg19", f->path);
    OK(folder_create(pg19.path));
    put_text(in(&pg19, "1.txt"), "the cat sat on the cat. a b, a b; the stopping.");
    put_text(in(&pg19, "2.jsonl"), "{\"text\": \"a b a b the cat\"}\n{\"text\": \"the stop. the cat sat on a cat\"}\n");
    put_text(in(&pg19, "README.md"), "what is no text is left alone");
    outcome o = run_script(f, STREAMING);
    assert_non_null(strstr(o.messages, "--download_streaming has no effect"));
    assert_true(lines_of(in(f, "streaming/llamatiny-test/log.txt")) > 30);
    assert_int_equal(lines_of(in(f, "streaming/llamatiny-test/ppl.txt")), 1);
    assert_true(lines_of(in(f, "streaming/llamatiny-2048/log.txt")) <= 50);
    outcome_free(&o);
}

static void put_documents(const folder *documents) {
    static const char *const QUERIES[] = {"piqa", "boolq", "arc_easy", "arc_challenge", "openbookqa"};
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.jsonl", QUERIES[i]);
        put_text(in(documents, name), "{\"query\": \"the cat\", \"choices\": [\"sat\", \"b\"], \"gold\": 0}\n");
    }
    put_text(in(documents, "winogrande.jsonl"),
             "{\"context_options\": [\"the cat\", \"a b\"], \"continuation\": \"sat on\", \"gold\": 1}\n");
    put_text(in(documents, "hellaswag_val_full.txt"), "the cat\n0\nsat.\na b.\non a cat.\nstop.\n");
}

static void the_harness(void **state) {
    const folder *f = *state;
    folder documents;
    static const char *const TASKS[] = {"arc_challenge", "arc_easy", "boolq",     "hellaswag",
                                        "openbookqa",    "piqa",     "winogrande"};
    snprintf(documents.path, sizeof documents.path, "%.480s/documents", f->path);
    OK(folder_create(documents.path));
    put_documents(&documents);
    outcome o = run_script(f, HARNESS);
    for (int i = 0; i < 7; i++) assert_non_null(strstr(o.output, TASKS[i]));
    assert_file_says(in(f, "harness/result.json"), "\"acc,none\"");
    outcome_free(&o);
}

static void conversion(void **state) {
    const folder *f = *state;
    outcome o = run_script(f, CONVERSION);
    assert_true(file_exists(in(f, "outputs/tinyllama-converted/model.safetensors")));
    assert_true(file_exists(in(f, "outputs/tinyllama-converted/tokenizer.json")));
    outcome_free(&o);
}

static void tuning(void **state) {
    const folder *f = *state;
    folder guanaco;
    snprintf(guanaco.path, sizeof guanaco.path, "%.480s/openassistant-guanaco", f->path);
    OK(folder_create(guanaco.path));
    put_text(in(&guanaco, "train.jsonl"), "{\"text\": \"the cat sat\"}\n{\"text\": \"a b a b; the stop\"}\n");
    put_text(in(f, "model/tokenizer_config.json"), "{\"eos_token\": \"</s>\"}"); /* ends a row */
    outcome o = run_script(f, TUNING);
    assert_non_null(strstr(o.messages, "--use_liger has no effect"));
    assert_true(file_exists(in(f, "outputs/llamatiny-sft-test/model.safetensors")));
    assert_int_equal(lines_of(in(f, "outputs/llamatiny-sft-test/train_log.jsonl")), 3); /* an epoch is one step */
    outcome_free(&o);
}

static void chat(void **state) {
    outcome o = run_script(*state, CHAT);
    assert_true(strlen(o.output) > 0);
    outcome_free(&o);
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(generation), WITH_MODEL(streaming), WITH_MODEL(the_harness),
        WITH_MODEL(conversion), WITH_MODEL(tuning),    WITH_MODEL(chat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
