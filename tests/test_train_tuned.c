/* Instruction tuning through the program: a checkpoint that is tuned on 1,050 rows, in full and with an adapter, has a
 * lower loss on the other 50 and ends its answers. A short form of the example in docs/tuning.md; takes half a minute.
 */
#include "program.h"

#define MODEL SHARED_DIR "/data/models/lckv-3m"
#define ROWS SHARED_DIR "/data/sft/rasbt-instruction-data.json"
enum { TRAINED = 1050, HELD = 50 };

/* The user message is instruction and input, the assistant message the output. */
static json_t *conversation(const json_t *row, bool answered) {
    const char *input = json_string_value(json_object_get(row, "input"));
    json_t *asked =
        json_sprintf("%s%s%s", json_string_value(json_object_get(row, "instruction")), *input ? "\n" : "", input);
    json_t *messages = json_pack("[{ss so}]", "role", "user", "content", asked);
    if (answered)
        json_array_append_new(messages,
                              json_pack("{ss sO}", "role", "assistant", "content", json_object_get(row, "output")));
    return json_pack("{so}", "messages", messages);
}

static void write_rows(const folder *f, const char *name, const json_t *rows, size_t first, size_t count,
                       bool answered) {
    FILE *file = fopen(in(f, name), "w");
    assert_non_null(file);
    for (size_t i = first; i < first + count; i++) {
        json_t *row = conversation(json_array_get(rows, i), answered);
        assert_int_equal(json_dumpf(row, file, JSON_COMPACT), 0);
        fputc('\n', file);
        json_decref(row);
    }
    assert_int_equal(fclose(file), 0);
}

static void write_files(const folder *f) {
    json_t *rows, *trl;
    OK(json_read_file(ROWS, &rows));
    assert_int_equal(json_array_size(rows), TRAINED + HELD);
    write_rows(f, "train.jsonl", rows, 0, TRAINED, true);
    write_rows(f, "held.jsonl", rows, TRAINED, HELD, true);
    write_rows(f, "questions.jsonl", rows, TRAINED, HELD, false);
    OK(json_read_file(SOURCE_DIR "/tests/tune/trl.json", &trl));
    put_text(in(f, "template.jinja"), json_string_value(json_object_get(trl, "template")));
    json_decref(trl);
    json_decref(rows);
}

static double loss_of(json_t *result) {
    double loss = json_number_value(json_object_get(result, "eval_loss"));
    json_decref(result);
    return loss;
}

/* Number of answers that end in EOS, decoded greedily with at most 96 tokens. The template and the checkpoint of an
 * adapter are found without flags. */
static int count_ends(const folder *f, const char *tuned) {
    json_t *line;
    size_t bytes;
    int ends = 0, lines = 0;
    outcome o = RUN(f, "generate", "--model_name_or_path", tuned, "--prompt_file", in(f, "questions.jsonl"),
                    "--temperature", "0", "--length", "96", "--output_file", in(f, "answers.jsonl"));
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    outcome_free(&o);
    char *text = get(in(f, "answers.jsonl"), &bytes), *rest = text;
    for (char *row; (row = strsep(&rest, "\n")) && *row; lines++) {
        OK(json_parse(row, strlen(row), "answers", &line));
        const json_t *answer = json_array_get(json_object_get(line, "sequences"), 0);
        ends += !strcmp(json_string_value(json_object_get(answer, "finish_reason")), "stop");
        json_decref(line);
    }
    free(text);
    assert_int_equal(lines, HELD);
    assert_int_equal(unlink(in(f, "answers.jsonl")), 0);
    return ends;
}

/* Other tests cover this code with sanitizers, which would take minutes here. */
static bool is_sanitized(void) {
#ifdef SANITIZED
    return true;
#else
    return false;
#endif
}

static void tuned_models_answer_and_stop(void **state) {
    const folder *f = *state;
    char held[2 * PATH_BYTES], rows[2 * PATH_BYTES], words[2 * PATH_BYTES], full[2 * PATH_BYTES], lora[2 * PATH_BYTES];
    if (is_sanitized() || !file_exists(ROWS) || !folder_exists(MODEL)) {
        print_message("skipped: %s or %s is not there, or sanitizers make it slow\n", ROWS, MODEL);
        skip();
    }
    write_files(f);
    snprintf(held, sizeof held, "%s", in(f, "held.jsonl"));
    snprintf(rows, sizeof rows, "%s", in(f, "train.jsonl"));
    snprintf(words, sizeof words, "%s", in(f, "template.jinja"));
    snprintf(full, sizeof full, "%s", in(f, "full"));
    snprintf(lora, sizeof lora, "%s", in(f, "lora"));
#define TUNE(...)                                                                                                      \
    loss_of(RUN_JSON(f, "sft", "--model_name_or_path", MODEL, "--validation_file", held, "--chat_template", words,     \
                     "--assistant_only_loss", "--save_strategy", "no", "--per_device_train_batch_size", "4",           \
                     "--warmup_steps", "5", "--device", "cpu", __VA_ARGS__))
    double before = TUNE("--do_train", "False", "--output_dir", in(f, "nothing"));
    double in_full = TUNE("--train_file", rows, "--output_dir", full, "--max_steps", "80", "--learning_rate", "1e-3");
    double adapted = TUNE("--train_file", rows, "--output_dir", lora, "--max_steps", "80", "--learning_rate", "5e-3",
                          "--use_peft", "--lora_target_modules", "all-linear", "--lora_dropout", "0");
    print_message("nll of answers: %.4f, in full %.4f, as an adapter %.4f\n", before, in_full, adapted);
    assert_true(in_full <= 0.8 * before && adapted <= 0.8 * before);
    int full_ends = count_ends(f, full), lora_ends = count_ends(f, lora);
    print_message("of %d answers end: %d, %d\n", HELD, full_ends, lora_ends);
    assert_true(full_ends >= 0.9 * HELD && lora_ends >= 0.9 * HELD);
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(tuned_models_answer_and_stop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
