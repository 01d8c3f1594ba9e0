/* The files of folders, patterns, and data sets with their splits. */
#include "data/sources/sources.h"

#include "base/text/text_buffer.h"

#include "folder_fixture.h"

static void put_files(folder *r, const char *const *names) {
    for (; *names; names++) {
        char place[PATH_BYTES];
        snprintf(place, sizeof place, "%.200s/%.200s", r->path, *names);
        *strrchr(place, '/') = '\0';
        OK(folder_create(place));
        put_text_in(r, *names, "x");
    }
}

#define FILES(r, ...) put_files((r), (const char *const[]){__VA_ARGS__, NULL})

/* The list as "a b c", paths from the test's folder on. */
static void expect_list(const folder *r, source_list *list, const char *expected) {
    char found[1024] = "";
    for (int i = 0; i < list->count; i++) {
        if (i) strcat(found, " ");
        strcat(found, list->paths[i] + strlen(r->path) + 1);
    }
    assert_string_equal(found, expected);
    source_list_free(list);
}

static void folders_and_patterns_are_files_in_order(void **state) {
    folder *r = *state;
    source_list list = {0};
    FILES(r, "d/b.txt", "d/a.jsonl.zst", "d/README.md", "d/.hidden.txt", "d/sub/c.csv", "d/sub/deep/e.bin", "x.raw",
          "[1].txt");
    const char *names[] = {in(r, "x.raw"), in(r, "d"), in(r, "d/*.txt"), in(r, "[1].txt"), in(r, "d/s?b")};
    OK(sources_add(names, 5, &list));
    expect_list(
        r, &list,
        "x.raw d/a.jsonl.zst d/b.txt d/sub/c.csv d/sub/deep/e.bin d/b.txt [1].txt d/sub/c.csv d/sub/deep/e.bin");
}

static void names_of_nothing_are_refused(void **state) {
    folder *r = *state;
    source_list list = {0};
    FILES(r, "empty/README.md");
    const char *place = in(r, "empty"), *pattern = in(r, "*.csv");
    FAILS(sources_add(&place, 1, &list), LCKV_ERROR_FILE, "empty' contains no data");
    FAILS(sources_add(&pattern, 1, &list), LCKV_ERROR_FILE, "no file matches");
    source_list_free(&list);
}

static void a_data_set_has_parts(void **state) {
    folder *r = *state;
    source_list train = {0}, validation = {0};
    FILES(r, "set/one/train-0001.jsonl", "set/one/train-0002.jsonl", "set/one/validation.jsonl", "set/one/test.jsonl",
          "set/two/train/a.txt", "set/two/dev/a.txt", "set/dataset_infos.json", "set/strained.txt");
    OK(sources_of_dataset(in(r, "set"), "one", &train, &validation));
    expect_list(r, &train, "set/one/train-0001.jsonl set/one/train-0002.jsonl");
    expect_list(r, &validation, "set/one/validation.jsonl");
    OK(sources_of_dataset(in(r, "set"), "two", &train, &validation));
    expect_list(r, &train, "set/two/train/a.txt");
    expect_list(r, &validation, "set/two/dev/a.txt");
    FAILS(sources_of_dataset(in(r, "set"), "three", &train, &validation), LCKV_ERROR_FILE, "of the config three");
    FILES(r, "plain/a.txt", "plain/b.txt");
    OK(sources_of_dataset(in(r, "plain"), NULL, &train, &validation));
    expect_list(r, &train, "plain/a.txt plain/b.txt");
    assert_int_equal(validation.count, 0);
    OK(sources_of_dataset(in(r, "plain/a.txt"), NULL, &train, &validation));
    expect_list(r, &train, "plain/a.txt");
}

/* As in the datasets library: the word of a split may be followed by digits, and a folder with the name of a config is
 * that config. */
static void parquet_shards_have_parts(void **state) {
    folder *r = *state;
    source_list train = {0}, validation = {0};
    FILES(r, "wiki/wikitext-103-raw-v1/train-00000-of-00002.parquet",
          "wiki/wikitext-103-raw-v1/train-00001-of-00002.parquet",
          "wiki/wikitext-103-raw-v1/validation-00000-of-00001.parquet",
          "wiki/wikitext-103-raw-v1/test-00000-of-00001.parquet", "wiki/wikitext-103-v1/train-00000-of-00001.parquet",
          "wiki/wikitext-103/train.parquet", "wiki/README.md", "data/data/train-00000-of-00001-a09b.parquet",
          "data/data/test-00000-of-00001.parquet", "words/training1.parquet", "words/eval.parquet", "words/val2.jsonl");
    OK(sources_of_dataset(in(r, "wiki"), "wikitext-103-raw-v1", &train, &validation));
    expect_list(r, &train,
                "wiki/wikitext-103-raw-v1/train-00000-of-00002.parquet "
                "wiki/wikitext-103-raw-v1/train-00001-of-00002.parquet");
    expect_list(r, &validation, "wiki/wikitext-103-raw-v1/validation-00000-of-00001.parquet");
    OK(sources_of_dataset(in(r, "wiki"), "wikitext-103", &train, &validation));
    expect_list(r, &train, "wiki/wikitext-103/train.parquet");
    OK(sources_of_dataset(in(r, "data"), NULL, &train, &validation));
    expect_list(r, &train, "data/data/train-00000-of-00001-a09b.parquet");
    OK(sources_of_dataset(in(r, "words"), NULL, &train, &validation));
    expect_list(r, &train, "words/training1.parquet");
    expect_list(r, &validation, "words/val2.jsonl");
}

static void a_data_set_may_lie_in_the_cache(void **state) {
    folder *r = *state;
    source_list train = {0}, validation = {0};
    FILES(r, "hub/datasets--org--name/snapshots/0123abc/train.txt",
          "hub/datasets--org--name/snapshots/0123abc/valid.txt");
    OK(folder_create(in(r, "hub/datasets--org--name/refs")));
    put_text_in(r, "hub/datasets--org--name/refs/main", "0123abc");
    assert_int_equal(setenv("HF_HUB_CACHE", in(r, "hub"), 1), 0);
    OK(sources_of_dataset("org/name", NULL, &train, &validation));
    expect_list(r, &train, "hub/datasets--org--name/snapshots/0123abc/train.txt");
    expect_list(r, &validation, "hub/datasets--org--name/snapshots/0123abc/valid.txt");
    FAILS(sources_of_dataset("org/other", NULL, &train, &validation), LCKV_ERROR_FILE,
          "lckv fetch org/other --repo_type dataset");
    unsetenv("HF_HUB_CACHE");
}

/* The error states where lckv searched, and the command to run. */
static void names_of_the_hub_that_are_not_here_are_told_how_to_be_had(void **state) {
    (void)state;
    source_list train = {0}, validation = {0};
    assert_int_equal(setenv("HF_HUB_CACHE", "/absent/cache", 1), 0);
    static const char *const names[][2] = {
        {"wikitext",
         "not in the Hugging Face cache (/absent/cache); fetch it with: lckv fetch "
         "Salesforce/wikitext --repo_type dataset --include README.md '*wikitext-2*', then use dataset_name "
         "Salesforce/wikitext"},
        {"openwebtext", "lckv fetch Skylion007/openwebtext --repo_type dataset"},
        {"Salesforce/wikitext",
         "lckv fetch Salesforce/wikitext --repo_type dataset --include README.md '*wikitext-2*'"},
        {"org/name-2.0", "lckv fetch org/name-2.0 --repo_type dataset"},
        {"mine", "names on the hub have the form ORG/mine"},
        {"./mine", "data set './mine' not found"},
        {"my data", "data set 'my data' not found"},
        {"", "data set '' not found"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        FAILS(sources_of_dataset(names[i][0], "wikitext-2", &train, &validation), LCKV_ERROR_FILE, names[i][1]);
    static const char *const files[][2] = {
        {"wikitext", "cannot open 'wikitext': no such file or folder; for a data set of the hub, run lckv fetch "
                     "Salesforce/wikitext --repo_type dataset"},
        {"org/name", "run lckv fetch org/name --repo_type dataset and set dataset_name org/name"},
        {"mine", "run lckv fetch ORG/NAME --repo_type dataset"},
        {"absent.txt", "cannot open 'absent.txt': No such file or directory"},
        {"data/absent.jsonl", "cannot open 'data/absent.jsonl': No such file or directory"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        FAILS(sources_add(&files[i][0], 1, &train), LCKV_ERROR_FILE, files[i][1]);
    unsetenv("HF_HUB_CACHE");
}

/* ---------------------------------------------------------------- README.md */

static void put_readme(folder *r, const char *data_set, const char *configs) {
    char name[PATH_BYTES];
    text_buffer text = {0};
    OK(text_printf(&text, "---\nlicense: mit\ntags: [\"configs: no\"]\n%s---\n# Text\nconfigs:\n- config_name: none\n",
                   configs));
    snprintf(name, sizeof name, "%s/README.md", data_set);
    put_text_in(r, name, text.data);
    text_free(&text);
}

/* Expects the files "TRAINING | VALIDATION", relative to the data set. */
static void expect_parts(folder *r, const char *data_set, const char *config, const char *expected) {
    source_list lists[2] = {{0}};
    char found[1024] = "";
    int status = sources_of_dataset(in(r, data_set), config, &lists[0], &lists[1]);
    if (status < 0) fail_msg("%s: %s", data_set, lckv_last_error());
    for (int k = 0; k < 2; k++) {
        if (k) strcat(found, " |");
        for (int i = 0; i < lists[k].count; i++) {
            if (*found) strcat(found, " ");
            strcat(found, lists[k].paths[i] + strlen(in(r, data_set)) + 1);
        }
        source_list_free(&lists[k]);
    }
    assert_string_equal(found, expected);
}

#define PUT_DATA(r)                                                                                                    \
    FILES((r), "d/one/train-0.jsonl", "d/one/train-1.jsonl", "d/one/valid.jsonl", "d/two/a.txt", "d/two/b.txt",        \
          "d/two/deep/c.txt", "d/two/notes.md", "d/__old/train.txt", "d/odd[1].txt", "d/x.data")

static const struct {
    const char *configs, *name, *expected;
} CARDS[] = {
    {"configs:\n- config_name: default\n  data_files: two/a.txt\n", NULL, "two/a.txt |"},
    {"configs:\n  - config_name: default\n    data_files: 'two/*.txt' # all\n", NULL, "two/a.txt two/b.txt |"},
    {"configs:\n- config_name: c\n  data_files:\n  - two/b.txt\n  - \"two/a*\"\n", NULL, "two/b.txt two/a.txt |"},
    {"configs:\n- config_name: c\n  data_files:\n  - split: train\n    path: one/train-*\n  - split: validation\n    "
     "path: one/valid.jsonl\n  - split: test\n    path: absent-*\n",
     NULL, "one/train-0.jsonl one/train-1.jsonl | one/valid.jsonl"},
    {"configs:\n- config_name: c\n  data_files:\n    - split: train\n      path:\n        - two/b.txt\n        - "
     "one/train-1.jsonl\n  default: true\n",
     NULL, "two/b.txt one/train-1.jsonl |"},
    {"configs: [{config_name: c, data_files: [{split: train, path: [two/a.txt,\n  'two/b.txt']},\n  {split: "
     "validation, "
     "path: x.data}]}]\n",
     NULL, "two/a.txt two/b.txt | x.data"},
    {"configs:\n- config_name: a\n  data_files: two/a.txt\n- data_files: two/b.txt\n  default: True\n  config_name: "
     "b\n",
     NULL, "two/b.txt |"},
    {"configs:\n- config_name: a\n  data_files: two/a.txt\n- config_name: b\n  data_files: two/b.txt\n", "a",
     "two/a.txt |"},
    {"configs:\n- config_name: 2024\n  data_files: two/a.txt\n- config_name: \"two\"\n  data_files: two/b.txt\n",
     "2024", "two/a.txt |"},
    {"configs:\n- config_name: a\n  default: false\n  data_files: two/a.txt\n- config_name: default\n  data_files: "
     "two/b.txt\n",
     NULL, "two/b.txt |"},
    {"configs:\n- config_name: a\n  data_files: \"two/**\"\n", NULL, "two/a.txt two/b.txt two/deep/c.txt |"},
    {"configs:\n- config_name: a\n  data_files: \"**/c.txt\"\n", NULL, "two/deep/c.txt |"},
    {"configs:\n- config_name: a\n  data_files: \"**/*.txt\"\n", NULL,
     "odd[1].txt two/a.txt two/b.txt two/deep/c.txt |"},
    {"configs:\n- config_name: a\n  data_files: \"__*/*\"\n", NULL, "__old/train.txt |"},
    {"configs:\n- config_name: a\n  data_files: ./two/[!a].t?t\n", NULL, "two/b.txt |"},
    {"configs:\n- config_name: a\n  data_files: odd[1].txt\n", NULL, "odd[1].txt |"},
    {"configs:\n- config_name: a\n  data_dir: one\n", NULL, "one/train-0.jsonl one/train-1.jsonl | one/valid.jsonl"},
    {"configs:\n\n# none\n- config_name: a\n  drop_labels: true\n  data_files:\n  - split: train\n    path: two/a.txt\n"
     "dataset_info:\n  features:\n  - name: text\n",
     "a", "two/a.txt |"},
    /* no configs: the names say what files are for */
    {"", NULL, "__old/train.txt one/train-0.jsonl one/train-1.jsonl | one/valid.jsonl"},
    {"configs:\n", NULL, "__old/train.txt one/train-0.jsonl one/train-1.jsonl | one/valid.jsonl"},
    {"configs: []\n", "two", "two/a.txt two/b.txt two/deep/c.txt |"},
};

static void a_readme_says_what_files_are_for(void **state) {
    folder *r = *state;
    PUT_DATA(r);
    for (size_t i = 0; i < sizeof CARDS / sizeof *CARDS; i++) {
        put_readme(r, "d", CARDS[i].configs);
        expect_parts(r, "d", CARDS[i].name, CARDS[i].expected);
    }
    put_text_in(r, "d/README.md", "# No YAML\n---\nconfigs:\n- config_name: a\n  data_files: absent\n---\n");
    expect_parts(r, "d", "two", "two/a.txt two/b.txt two/deep/c.txt |");
}

static const struct {
    const char *configs, *name;
    int code;
    const char *message;
} BAD_CARDS[] = {
    {"configs:\n- config_name: a\n- config_name: b\n", NULL, LCKV_ERROR_ARGUMENT, "dataset_config_name: a, b"},
    {"configs:\n- config_name: a\n- config_name: b\n", "c", LCKV_ERROR_ARGUMENT, "has no config 'c'; it has a, b"},
    {"configs:\n- config_name: a\n  default: true\n- config_name: b\n  default: true\n", NULL, LCKV_ERROR_FORMAT,
     "'a' and 'b' are both the default"},
    {"configs:\n- data_files: x\n", NULL, LCKV_ERROR_FORMAT, "entry 0 of 'configs' should have a 'config_name'"},
    {"configs: all\n", NULL, LCKV_ERROR_FORMAT, "'configs' should be a list"},
    {"configs:\n- config_name: a\n  data_files: absent-*\n", NULL, LCKV_ERROR_FILE, "'absent-*' in 'data_files'"},
    {"configs:\n- config_name: a\n  data_files: two/notes*\n", NULL, LCKV_ERROR_FILE, "'two/notes*' in 'data_files'"},
    {"configs:\n- config_name: a\n  data_files: ../d/x.data\n", NULL, LCKV_ERROR_FORMAT, "inside the data set"},
    {"configs:\n- config_name: a\n  data_files: /etc/passwd\n", NULL, LCKV_ERROR_FORMAT, "inside the data set"},
    {"configs:\n- config_name: a\n  data_files: \"**.txt\"\n", NULL, LCKV_ERROR_FORMAT, "whole part of the path"},
    {"configs:\n- config_name: a\n  data_files: hf://datasets/a/b/c\n", NULL, LCKV_ERROR_UNSUPPORTED, "addresses"},
    {"configs:\n- config_name: a\n  data_files:\n    train: x\n", NULL, LCKV_ERROR_FORMAT, "'data_files' should be"},
    {"configs:\n- config_name: a\n  data_files:\n  - split: train\n", NULL, LCKV_ERROR_FORMAT, "'split' and a 'path'"},
    {"configs:\n- config_name: a\n  data_files:\n  - split: train\n    path: x.data\n  - split: train\n    path: "
     "x.data\n",
     NULL, LCKV_ERROR_FORMAT, "'train' twice"},
    {"configs:\n- config_name: a\n  data_files:\n  - split: test\n    path: x.data\n", NULL, LCKV_ERROR_FILE,
     "no files for training or validation"},
    {"configs:\n- config_name: a\n  sep: \"\\t\"\n  data_files: x.csv\n", NULL, LCKV_ERROR_UNSUPPORTED, "option 'sep'"},
    {"configs:\n- config_name: a\n  data_dir: absent\n", NULL, LCKV_ERROR_FILE, "no folder"},
    /* YAML that is not read */
    {"configs:\n- config_name: a\n  data_files: *x\n", NULL, LCKV_ERROR_FORMAT, "line 6: a value that begins with '*'"},
    {"configs:\n- &x\n  config_name: a\n", NULL, LCKV_ERROR_FORMAT, "begins with '&'"},
    {"configs:\n- config_name: |\n    a\n", NULL, LCKV_ERROR_FORMAT, "begins with '|'"},
    {"configs:\n- config_name: a\n   data_files: x\n", NULL, LCKV_ERROR_FORMAT, "line 6: a line that does not fit"},
    {"configs:\n- config_name: a\n  data_files: [x, y\n", NULL, LCKV_ERROR_FORMAT, "brackets that do not close"},
    {"configs:\n- config_name: a\n  data_files: \"x\n", NULL, LCKV_ERROR_FORMAT, "does not end with its line"},
    {"configs:\n- config_name: a\n  data_files: 'x' y\n", NULL, LCKV_ERROR_FORMAT, "does not end with its line"},
    {"configs:\n\t- config_name: a\n", NULL, LCKV_ERROR_FORMAT, "a tab"},
};

static void readmes_that_are_not_understood_are_refused(void **state) {
    folder *r = *state;
    source_list train = {0}, validation = {0};
    PUT_DATA(r);
    for (size_t i = 0; i < sizeof BAD_CARDS / sizeof *BAD_CARDS; i++) {
        put_readme(r, "d", BAD_CARDS[i].configs);
        FAILS(sources_of_dataset(in(r, "d"), BAD_CARDS[i].name, &train, &validation), BAD_CARDS[i].code,
              BAD_CARDS[i].message);
        source_list_free(&train);
        source_list_free(&validation);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(folders_and_patterns_are_files_in_order),
        IN_FOLDER(names_of_nothing_are_refused),
        IN_FOLDER(a_data_set_has_parts),
        IN_FOLDER(parquet_shards_have_parts),
        IN_FOLDER(a_data_set_may_lie_in_the_cache),
        IN_FOLDER(a_readme_says_what_files_are_for),
        IN_FOLDER(readmes_that_are_not_understood_are_refused),
        IN_FOLDER(names_of_the_hub_that_are_not_here_are_told_how_to_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
