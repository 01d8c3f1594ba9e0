/* The flags of lckv train for documents and blocks, through the program. */
#include "base/text/text_buffer.h"

#include "id_rows.h"
#include "program.h"

#include <math.h>
#include <sys/stat.h>

static const char CONFIG[] = ID_ROWS_CONFIG("1", "");

/* `count` lines, each the same. */
static void put_lines(const folder *f, const char *name, const char *line, int count) {
    char *text = malloc(strlen(line) * (size_t)count + 1), *end = text;
    for (int i = 0; i < count; i++) end = stpcpy(end, line);
    put_text(in(f, name), text);
    free(text);
}

/* The output of one step on FILE in blocks of 32, with additional flags. */
static json_t *step_on(const folder *f, const char *file, const char *const *flags) {
    const char *words[32] = {"train",
                             "--json",
                             "--max_steps=1",
                             "--block_size=32",
                             "--save_strategy=no",
                             "--overwrite_output_dir",
                             "--tokenizer_name",
                             SOURCE_DIR "/data/tokenizer"};
    char *config = strdup(in(f, "config.json")), *data = strdup(in(f, file)), *out = strdup(in(f, "out"));
    const char *const files[] = {"--config_name", config, "--train_file", data, "--output_dir", out};
    int count = 8;
    for (int i = 0; i < 6; i++) words[count++] = files[i];
    while (*flags) words[count++] = *flags++;
    put_text(config, CONFIG);
    json_t *result = program_json(f, words);
    free(config);
    free(data);
    free(out);
    return result;
}

/* Counts of one have singular nouns. */
static void too_little_data_is_counted(void **state) {
    const folder *f = *state;
    put_text(in(f, "config.json"), CONFIG);
    put_text(in(f, "one.jsonl"), "{\"input_ids\":[1]}\n");
    REFUSES(f, 1, "1 token in 1 document is too few for a block of 32 tokens", "train", "--config_name",
            in(f, "config.json"), "--tokenizer_name", SOURCE_DIR "/data/tokenizer", "--train_file", in(f, "one.jsonl"),
            "--output_dir", in(f, "out"), "--block_size=32", "--max_steps=1");
}

static json_int_t blocks_with(const folder *f, const char *file, const char *const *flags) {
    json_t *result = step_on(f, file, flags);
    json_int_t blocks = json_integer_value(json_object_get(result, "train_blocks"));
    json_decref(result);
    return blocks;
}

#define BLOCKS(f, file, ...) blocks_with((f), (file), (const char *const[]){__VA_ARGS__, NULL})

/* 1,500 documents of 3 ids: 3,000 / 32 and 1,500 / 32 blocks, or 4,500 / 32. */
static void documents_are_cut_by_the_thousand_or_all_together(void **state) {
    const folder *f = *state;
    put_lines(f, "ids.jsonl", "{\"input_ids\":[1,2,3]}\n", 1500);
    assert_int_equal(BLOCKS(f, "ids.jsonl", "--group_all=False"), 93 + 46);
    assert_int_equal(BLOCKS(f, "ids.jsonl", "--group_all"), 140);
    assert_int_equal(BLOCKS(f, "ids.jsonl", "--max_train_samples", "100"), 100);
    assert_int_equal(BLOCKS(f, "ids.jsonl", "--max_train_samples", "1000"), 93 + 46);
}

/* The loss on the validation split, and the number of training blocks. */
static double loss_of_part(const folder *f, const char *file, const char *max_samples, json_int_t blocks) {
    const char *const flags[] = {
        "--validation_split_percentage", "10", "--learning_rate=0", "--max_eval_samples", max_samples, NULL};
    json_t *result = step_on(f, file, flags);
    double loss = json_real_value(json_object_get(result, "eval_loss"));
    assert_int_equal(json_integer_value(json_object_get(result, "train_blocks")), blocks);
    json_decref(result);
    return loss;
}

/* 150 documents of 32 times the id 5 come first, then 1,350 of 3 ids: a model that does not learn has a loss of its own
 * on the former, and the same on one block of it as on all. */
static void the_first_documents_are_split_off_for_validation(void **state) {
    const folder *f = *state;
    text_buffer text = {0};
    for (int i = 0; i < 1500; i++) {
        const char *ids = i < 150 ? "5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5" : "1,2,3";
        OK(text_printf(&text, "{\"input_ids\":[%s]}\n", ids));
    }
    put_text(in(f, "parts.jsonl"), text.data);
    text_free(&text);
    put_lines(f, "fives.jsonl", "{\"input_ids\":[5,5,5,5,5,5,5,5,5,5,5,5,5,5,5,5]}\n", 200);
    double part = loss_of_part(f, "parts.jsonl", "0", 93 + 32);
    assert_true(part > 0 && fabs(part - loss_of_part(f, "parts.jsonl", "8", 93 + 32)) < 1e-6);
    assert_true(fabs(part - loss_of_part(f, "fives.jsonl", "0", 90)) < 1e-6);
}

static void a_text_has_its_break_and_no_eos_unless_asked_for(void **state) {
    const folder *f = *state;
    put_lines(f, "a.txt", "a\n", 640);
    json_int_t usual = BLOCKS(f, "a.txt", "--append_eos=False");
    assert_true(BLOCKS(f, "a.txt", "--keep_linebreaks", "False") < usual);
    assert_int_equal(BLOCKS(f, "a.txt", "--append_eos"), usual + 640 / 32);
}

static void columns_and_widths_of_ids_are_named(void **state) {
    const folder *f = *state;
    put_lines(f, "a.jsonl", "{\"text\": 5, \"ids\": [1,2,3,4,5,6,7,8]}\n", 16);
    assert_int_equal(BLOCKS(f, "a.jsonl", "--text_column", "ids"), 4);
    char zeros[256] = {0};
    put(in(f, "a.bin"), zeros, sizeof zeros);
    assert_int_equal(BLOCKS(f, "a.bin", "--ids_dtype=uint16"), 4);
    assert_int_equal(BLOCKS(f, "a.bin", "--ids_dtype=uint32"), 2);
}

/* lckv train uses what lckv tokenize has encoded, and does not encode it again. */
static void data_is_encoded_beforehand(void **state) {
    const folder *f = *state;
    const char *const flags[] = {"--token_cache_dir", strdup(in(f, "cache")), "--preprocessing_num_workers=1", NULL};
    char *data = strdup(in(f, "b.txt"));
    put_lines(f, "b.txt", "some words\n", 400);
    json_t *kept = RUN_JSON(f, "tokenize", "--tokenizer_name", SOURCE_DIR "/data/tokenizer", "--train_file", data,
                            "--output_dir", flags[1]);
    char *path = strdup(json_string_value(json_object_get(kept, "path")));
    json_int_t tokens = json_integer_value(json_object_get(kept, "tokens"));
    assert_int_equal(json_integer_value(json_object_get(kept, "documents")), 400);
    json_decref(kept);

    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(blocks_with(f, "b.txt", flags), tokens / 32);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    outcome o = RUN(f, "tokenize", "--tokenizer_name", SOURCE_DIR "/data/tokenizer", "--train_file", data,
                    "--output_dir", flags[1], "--overwrite_cache");
    assert_int_equal(o.code, 0);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino != after.st_ino);
    outcome_free(&o);
    REFUSES(f, 2, "--train_file requires --output_dir", "tokenize", "--tokenizer_name", "x", "--train_file", data);
    free((char *)(uintptr_t)flags[1]);
    free(data);
    free(path);
}

/* A data set with two splits of 8 ids each: 16 documents for training, 8 for validation. */
static void a_data_set_is_trained_and_evaluated_on(void **state) {
    const folder *f = *state;
    OK(folder_create(in(f, "set")));
    put_text(in(f, "config.json"), CONFIG);
    put_lines(f, "set/a.train.jsonl", "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n", 16);
    put_lines(f, "set/a.valid.jsonl", "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n", 8);
    char *config = strdup(in(f, "config.json")), *set = strdup(in(f, "set")), *out = strdup(in(f, "out"));
    json_t *result = RUN_JSON(f, "train", "--config_name", config, "--dataset_name", set, "--dataset_config_name", "a",
                              "--output_dir", out, "--block_size=32", "--max_steps=1", "--save_strategy=no");
    assert_int_equal(json_integer_value(json_object_get(result, "train_blocks")), 4);
    assert_true(json_real_value(json_object_get(result, "eval_loss")) > 0);
    json_decref(result);
    REFUSES(f, 1, "of the config b", "train", "--config_name", config, "--dataset_name", set, "--dataset_config_name",
            "b", "--output_dir", out, "--overwrite_output_dir");
    free(config);
    free(set);
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(too_little_data_is_counted),
        IN_FOLDER(documents_are_cut_by_the_thousand_or_all_together),
        IN_FOLDER(the_first_documents_are_split_off_for_validation),
        IN_FOLDER(a_text_has_its_break_and_no_eos_unless_asked_for),
        IN_FOLDER(columns_and_widths_of_ids_are_named),
        IN_FOLDER(data_is_encoded_beforehand),
        IN_FOLDER(a_data_set_is_trained_and_evaluated_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
