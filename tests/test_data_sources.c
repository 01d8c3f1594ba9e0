/* Which files names stand for: folders, patterns, data sets and their parts. */
#include "data/sources.h"

#include "train_fixture.h"

static void put_files(room *r, const char *const *names) {
    for (; *names; names++) {
        char folder[PATH_BYTES];
        snprintf(folder, sizeof folder, "%.200s/%.200s", r->folder, *names);
        *strrchr(folder, '/') = '\0';
        OK(folder_create(folder));
        room_file(r, *names, "x");
    }
}

#define FILES(r, ...) put_files((r), (const char *const[]){__VA_ARGS__, NULL})

/* The list as "a b c", paths from the test's folder on. */
static void expect_list(const room *r, source_list *list, const char *expected) {
    char found[1024] = "";
    for (int i = 0; i < list->count; i++) {
        if (i) strcat(found, " ");
        strcat(found, list->paths[i] + strlen(r->folder) + 1);
    }
    assert_string_equal(found, expected);
    source_list_free(list);
}

static void folders_and_patterns_are_files_in_order(void **state) {
    room *r = *state;
    source_list list = {0};
    FILES(r, "d/b.txt", "d/a.jsonl.zst", "d/README.md", "d/.hidden.txt", "d/sub/c.csv", "d/sub/deep/e.bin", "x.raw",
          "[1].txt");
    const char *names[] = {room_path(r, "x.raw"), room_path(r, "d"), room_path(r, "d/*.txt"), room_path(r, "[1].txt"),
                           room_path(r, "d/s?b")};
    OK(sources_add(names, 5, &list));
    expect_list(
        r, &list,
        "x.raw d/a.jsonl.zst d/b.txt d/sub/c.csv d/sub/deep/e.bin d/b.txt [1].txt d/sub/c.csv d/sub/deep/e.bin");
}

static void names_of_nothing_are_refused(void **state) {
    room *r = *state;
    source_list list = {0};
    FILES(r, "empty/README.md");
    const char *folder = room_path(r, "empty"), *pattern = room_path(r, "*.csv");
    FAILS(sources_add(&folder, 1, &list), LCKV_ERROR_FILE, "empty' has no data in it");
    FAILS(sources_add(&pattern, 1, &list), LCKV_ERROR_FILE, "no file matches");
    source_list_free(&list);
}

static void a_data_set_has_parts(void **state) {
    room *r = *state;
    source_list train = {0}, validation = {0};
    FILES(r, "set/one/train-0001.jsonl", "set/one/train-0002.jsonl", "set/one/validation.jsonl", "set/one/test.jsonl",
          "set/two/train/a.txt", "set/two/dev/a.txt", "set/dataset_infos.json", "set/strained.txt");
    OK(sources_of_dataset(room_path(r, "set"), "one", &train, &validation));
    expect_list(r, &train, "set/one/train-0001.jsonl set/one/train-0002.jsonl");
    expect_list(r, &validation, "set/one/validation.jsonl");
    OK(sources_of_dataset(room_path(r, "set"), "two", &train, &validation));
    expect_list(r, &train, "set/two/train/a.txt");
    expect_list(r, &validation, "set/two/dev/a.txt");
    FAILS(sources_of_dataset(room_path(r, "set"), "three", &train, &validation), LCKV_ERROR_FILE,
          "of the config three");
    FILES(r, "plain/a.txt", "plain/b.txt");
    OK(sources_of_dataset(room_path(r, "plain"), NULL, &train, &validation));
    expect_list(r, &train, "plain/a.txt plain/b.txt");
    assert_int_equal(validation.count, 0);
    OK(sources_of_dataset(room_path(r, "plain/a.txt"), NULL, &train, &validation));
    expect_list(r, &train, "plain/a.txt");
}

/* As the datasets library divides what a hub serves: words of parts end at digits, a folder of a config's name is that
 * config alone. */
static void parquet_shards_have_parts(void **state) {
    room *r = *state;
    source_list train = {0}, validation = {0};
    FILES(r, "wiki/wikitext-103-raw-v1/train-00000-of-00002.parquet",
          "wiki/wikitext-103-raw-v1/train-00001-of-00002.parquet",
          "wiki/wikitext-103-raw-v1/validation-00000-of-00001.parquet",
          "wiki/wikitext-103-raw-v1/test-00000-of-00001.parquet", "wiki/wikitext-103-v1/train-00000-of-00001.parquet",
          "wiki/wikitext-103/train.parquet", "wiki/README.md", "data/data/train-00000-of-00001-a09b.parquet",
          "data/data/test-00000-of-00001.parquet", "words/training1.parquet", "words/eval.parquet", "words/val2.jsonl");
    OK(sources_of_dataset(room_path(r, "wiki"), "wikitext-103-raw-v1", &train, &validation));
    expect_list(r, &train,
                "wiki/wikitext-103-raw-v1/train-00000-of-00002.parquet "
                "wiki/wikitext-103-raw-v1/train-00001-of-00002.parquet");
    expect_list(r, &validation, "wiki/wikitext-103-raw-v1/validation-00000-of-00001.parquet");
    OK(sources_of_dataset(room_path(r, "wiki"), "wikitext-103", &train, &validation));
    expect_list(r, &train, "wiki/wikitext-103/train.parquet");
    OK(sources_of_dataset(room_path(r, "data"), NULL, &train, &validation));
    expect_list(r, &train, "data/data/train-00000-of-00001-a09b.parquet");
    OK(sources_of_dataset(room_path(r, "words"), NULL, &train, &validation));
    expect_list(r, &train, "words/training1.parquet");
    expect_list(r, &validation, "words/val2.jsonl");
}

static void a_data_set_may_lie_in_the_cache(void **state) {
    room *r = *state;
    source_list train = {0}, validation = {0};
    FILES(r, "hub/datasets--org--name/snapshots/0123abc/train.txt",
          "hub/datasets--org--name/snapshots/0123abc/valid.txt");
    OK(folder_create(room_path(r, "hub/datasets--org--name/refs")));
    room_file(r, "hub/datasets--org--name/refs/main", "0123abc");
    assert_int_equal(setenv("HF_HUB_CACHE", room_path(r, "hub"), 1), 0);
    OK(sources_of_dataset("org/name", NULL, &train, &validation));
    expect_list(r, &train, "hub/datasets--org--name/snapshots/0123abc/train.txt");
    expect_list(r, &validation, "hub/datasets--org--name/snapshots/0123abc/valid.txt");
    FAILS(sources_of_dataset("org/other", NULL, &train, &validation), LCKV_ERROR_FILE,
          "lckv fetch org/other --repo_type dataset");
    unsetenv("HF_HUB_CACHE");
}

/* Where was looked, and the command that helps. */
static void names_of_the_hub_that_are_not_here_are_told_how_to_be_had(void **state) {
    (void)state;
    source_list train = {0}, validation = {0};
    assert_int_equal(setenv("HF_HUB_CACHE", "/absent/cache", 1), 0);
    static const char *const names[][2] = {
        {"wikitext", "the Hugging Face cache (/absent/cache) does not have it; fetch it with: lckv fetch "
                     "Salesforce/wikitext --repo_type dataset --include '*wikitext-2*', then use dataset_name "
                     "Salesforce/wikitext"},
        {"openwebtext", "lckv fetch Skylion007/openwebtext --repo_type dataset"},
        {"Salesforce/wikitext", "lckv fetch Salesforce/wikitext --repo_type dataset --include '*wikitext-2*'"},
        {"org/name-2.0", "lckv fetch org/name-2.0 --repo_type dataset"},
        {"mine", "on the hub it has a name like ORG/mine"},
        {"./mine", "data set './mine' not found"},
        {"my data", "data set 'my data' not found"},
        {"", "data set '' not found"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        FAILS(sources_of_dataset(names[i][0], "wikitext-2", &train, &validation), LCKV_ERROR_FILE, names[i][1]);
    static const char *const files[][2] = {
        {"wikitext", "cannot open 'wikitext': there is no such file or folder. A data set of the hub is given by "
                     "dataset_name: first lckv fetch Salesforce/wikitext --repo_type dataset"},
        {"org/name", "first lckv fetch org/name --repo_type dataset, then dataset_name org/name"},
        {"mine", "first lckv fetch ORG/NAME --repo_type dataset"},
        {"absent.txt", "cannot open 'absent.txt': No such file or directory"},
        {"data/absent.jsonl", "cannot open 'data/absent.jsonl': No such file or directory"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        FAILS(sources_add(&files[i][0], 1, &train), LCKV_ERROR_FILE, files[i][1]);
    unsetenv("HF_HUB_CACHE");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ROOM_TEST(folders_and_patterns_are_files_in_order),
        ROOM_TEST(names_of_nothing_are_refused),
        ROOM_TEST(a_data_set_has_parts),
        ROOM_TEST(parquet_shards_have_parts),
        ROOM_TEST(a_data_set_may_lie_in_the_cache),
        ROOM_TEST(names_of_the_hub_that_are_not_here_are_told_how_to_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
