/* Lists of files: paths with spaces and commas, on the command line, in files of flags and in JSON. */
#include "program.h"

#include "cli_capture.h"
#include "id_rows.h"

struct options {
    flag_list files, names, args_file;
};

static const flag FLAGS[] = {
    {"files", FLAG_FILES, NULL, "Lists", "paths", FLAG_INTO(struct options, files)},
    {"names", FLAG_LIST, NULL, "Lists", "names", FLAG_INTO(struct options, names)},
    FLAG_ARGS_FILE(struct options, args_file),
    {0},
};
static const flag_table TABLE = {"test", "A table.", "", FLAGS};

/* The items of a list, separated by bars. */
static const char *items_of(const flag_list *list) {
    static char text[4096];
    text[0] = '\0';
    for (int i = 0; i < list->count; i++) {
        if (i) strcat(text, "|");
        strcat(text, list->items[i]);
    }
    return text;
}

/* Parses the words in the folder and compares both lists. */
static void check_lists(const folder *f, const char *files, const char *names, const char *const *words) {
    struct options o = {0};
    char *argv[32] = {(char *)(uintptr_t) "test"}, *before = getcwd(NULL, 0);
    int argc = 1, code = 0;
    while (*words) argv[argc++] = (char *)(uintptr_t)*words++;
    assert_int_equal(chdir(f->path), 0);
    bool read = flags_parse(&TABLE, argc, argv, &o, &code);
    assert_int_equal(chdir(before), 0);
    free(before);
    assert_true(read);
    assert_string_equal(items_of(&o.files), files);
    assert_string_equal(items_of(&o.names), names);
    flags_free(&TABLE, &o);
}
#define LISTS(f, files, names, ...) check_lists((f), (files), (names), (const char *const[]){__VA_ARGS__, NULL})

static void words_and_commas_separate_files_and_spaces_do_not(void **state) {
    const folder *f = *state;
    LISTS(f, "a|b c.txt", "", "--files", "a", "b c.txt");
    LISTS(f, "a|b c.txt", "", "--files", "a,b c.txt");
    LISTS(f, "a|b c.txt", "", "--files=a, b c.txt");
    LISTS(f, "a|b c.txt", "", "--files", "a", "--files", "b c.txt");
    LISTS(f, "my data/*.txt|b", "", "--files", "my data/*.txt", "b");
    LISTS(f, "a|b", "", "--files", "a,,b,");
    LISTS(f, "a b.txt:0.5|c.txt:2", "", "--files", "a b.txt:0.5", "c.txt:2");
    LISTS(f, "", "a|b|c", "--names", "a b", "c"); /* names have no spaces */
    LISTS(f, "", "a|b|c", "--names=a,b c");
}

static void a_word_that_is_a_file_is_one(void **state) {
    const folder *f = *state;
    put_text(in(f, "a,b c.txt"), "");
    LISTS(f, "a,b c.txt", "", "--files", "a,b c.txt");
    LISTS(f, "a,b c.txt:0.5|d", "", "--files", "a,b c.txt:0.5", "d");
    LISTS(f, "d|a|b c.txt", "", "--files", "d,a,b c.txt");
}

static void files_of_flags_have_them_too(void **state) {
    const folder *f = *state;
    put_text(in(f, "flags.txt"), "run.py --files 'b c.txt' d\\ e.txt \"f g.txt\" --names x y");
    LISTS(f, "b c.txt|d e.txt|f g.txt", "x|y", "--args_file", "flags.txt");
    put_text(in(f, "flags.json"), "{\"files\": [\"b c.txt\", \"d\"], \"names\": \"x,y\"}");
    LISTS(f, "b c.txt|d", "x|y", "--args_file=flags.json");
    put_text(in(f, "my flags.json"), "{\"files\": \"b c.txt\"}");
    LISTS(f, "b c.txt", "", "--args_file", "my flags.json");
    LISTS(f, "z", "", "--args_file", "my flags.json", "--files", "z"); /* flags on the command line replace the list */
}

static void a_list_in_one_pair_of_quotes_is_told(void **state) {
    const folder *f = *state;
    put_text(in(f, "a.txt"), "a");
    put_text(in(f, "b.txt"), "b");
    char both[2048];
    snprintf(both, sizeof both, "%s %s", in(f, "a.txt"), in(f, "b.txt"));
    REFUSES(f, 2, "for several files, leave out the quotes or separate them by commas", "tokenize", "--tokenizer_name",
            "x", "--train_file", both);
    REFUSES(f, 2, "--train_file: expected a value", "tokenize", "--tokenizer_name", "x", "--train_file");
    REFUSES(f, 2, "--train_file: expected a value", "tokenize", "--tokenizer_name", "x", "--train_file", "--json");
}

/* From the flag to the library. */
static void commands_read_such_files(void **state) {
    const folder *f = *state;
    put_text(in(f, "a b,c.jsonl"), "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n");
    put_text(in(f, "d e.jsonl"), "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n");
    put_text(in(f, "config.json"), ID_ROWS_CONFIG("2", ""));
    char pattern[1024];
    snprintf(pattern, sizeof pattern, "%s/d *.jsonl", f->path);
    json_t *r = RUN_JSON(f, "train", "--config_name", in(f, "config.json"), "--train_file", in(f, "a b,c.jsonl"),
                         pattern, "--output_dir", in(f, "my model"), "--block_size=4", "--max_steps=1");
    assert_int_equal(json_integer_value(json_object_get(r, "train_blocks")), 4);
    json_decref(r);
    r = RUN_JSON(f, "eval", "--model_name_or_path", in(f, "my model"), "--file", in(f, "a b,c.jsonl"),
                 in(f, "d e.jsonl"), "--block_size", "8");
    json_decref(r);
}

static void former_names_are_accepted(void **state) {
    (void)state;
    static const flag flags[] = {
        {"iterations", FLAG_INT, "0", "Numbers", "iterations", .former = "runs"},
        {"measure", FLAG_CHOICE, "speed", "Numbers", "measurement", .choices = "speed|iterations",
         .former_choice = "runs=iterations", .offset = sizeof(int64_t)},
        {0},
    };
    static const flag_table table = {"test", "A table.", "", flags};
    char *argv[] = {(char *)(uintptr_t) "test", (char *)(uintptr_t) "--runs=3", (char *)(uintptr_t) "--measure",
                    (char *)(uintptr_t) "runs"};
    struct {
        int64_t iterations;
        int measure;
    } o = {0};
    int code = 0;
    assert_true(flags_parse(&table, 4, argv, &o, &code));
    assert_int_equal(o.iterations, 3);
    assert_int_equal(o.measure, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(words_and_commas_separate_files_and_spaces_do_not),
        IN_FOLDER(a_word_that_is_a_file_is_one),
        IN_FOLDER(files_of_flags_have_them_too),
        IN_FOLDER(a_list_in_one_pair_of_quotes_is_told),
        IN_FOLDER(commands_read_such_files),
        cmocka_unit_test(former_names_are_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
