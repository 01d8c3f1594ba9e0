/* Files: read and mapped whole, written so that the old or the new content is there and nothing else. */
#include "base/file.h"
#include "expect.h"

#include <dirent.h>
#include <unistd.h>

static char folder[64];

static const char *in_folder(const char *name) {
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof *paths, "%s/%s", folder, name);
    return path;
}

static int enter(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/lckv-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int count_entries(void) {
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int count = 0;
    for (struct dirent *e; (e = readdir(dir));) count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

static int leave(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void assert_content(const char *path, const char *expected) {
    char *text;
    size_t bytes;
    OK(file_read(path, &text, &bytes));
    assert_int_equal(bytes, strlen(expected));
    assert_string_equal(text, expected);
    free(text);
}

static void writes_and_reads(void **state) {
    (void)state;
    const char *path = in_folder("a");
    OK(file_replace(path, "one", 3));
    assert_content(path, "one");
    OK(file_replace(path, "", 0));
    assert_content(path, "");
    OK(file_replace(path, "two\0", 3));
    assert_content(path, "two");
    OK(file_copy(path, in_folder("b")));
    assert_content(in_folder("b"), "two");
    assert_int_equal(count_entries(), 2);
}

static void maps(void **state) {
    (void)state;
    const char *path = in_folder("a");
    mapped_file m;
    OK(file_replace(path, "mapped", 6));
    OK(file_map(path, &m));
    assert_int_equal(m.bytes, 6);
    assert_memory_equal(m.data, "mapped", 6);
    file_unmap(&m);
    file_unmap(&m);
    OK(file_replace(path, "", 0));
    OK(file_map(path, &m));
    assert_int_equal(m.bytes, 0);
    assert_null(m.data);
    file_unmap(&m);
}

static void target_changes_at_commit_alone(void **state) {
    (void)state;
    const char *path = in_folder("a");
    new_file file;
    OK(file_replace(path, "old", 3));
    OK(file_begin(path, &file));
    OK(file_write(&file, "newer", 5));
    fflush(file.stream);
    assert_content(path, "old");
    OK(file_commit(&file));
    assert_content(path, "newer");
    file_abandon(&file);
    assert_content(path, "newer");
    assert_int_equal(count_entries(), 1);
}

static void abandoning_leaves_nothing(void **state) {
    (void)state;
    const char *path = in_folder("a");
    new_file file;
    OK(file_begin(path, &file));
    OK(file_write(&file, "x", 1));
    file_abandon(&file);
    file_abandon(&file);
    assert_int_equal(count_entries(), 0);
}

/* The partial file is led to /dev/full, where every write fails as on a full disk. */
static void full_disk(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) != 0) SKIP("there is no /dev/full");
    const char *path = in_folder("a"), *partial = in_folder("a.partial");
    char *large = calloc(1, 1 << 20);
    assert_non_null(large);
    OK(file_replace(path, "old", 3));
    assert_int_equal(symlink("/dev/full", partial), 0);
    FAILS(file_replace(path, "small", 5), LCKV_ERROR_FILE, "No space left");
    assert_int_equal(symlink("/dev/full", partial), 0);
    FAILS(file_replace(path, large, 1 << 20), LCKV_ERROR_FILE, "a.partial");
    assert_content(path, "old");
    assert_int_equal(count_entries(), 1);
    free(large);
}

static void missing_and_odd_files(void **state) {
    (void)state;
    char *text = (char *)1;
    size_t bytes;
    mapped_file m;
    new_file file;
    FAILS(file_read(in_folder("none"), &text, &bytes), LCKV_ERROR_FILE, "none");
    assert_null(text);
    FAILS(file_map(in_folder("none"), &m), LCKV_ERROR_FILE, "No such file");
    assert_null(m.data);
    FAILS(file_read(folder, &text, &bytes), LCKV_ERROR_FILE, "not a regular file");
    FAILS(file_map("/dev/null", &m), LCKV_ERROR_FILE, "not a regular file");
    FAILS(file_begin(in_folder("none/a"), &file), LCKV_ERROR_FILE, "none/a.partial");
    FAILS(file_copy(in_folder("none"), in_folder("b")), LCKV_ERROR_FILE, "none");
    FAILS(file_replace(folder, "x", 1), LCKV_ERROR_FILE, "rename"); /* a folder is in the way */
    assert_int_equal(count_entries(), 0);
    char partial[80];
    snprintf(partial, sizeof partial, "%s.partial", folder);
    assert_false(file_exists(partial));
}

static void folders(void **state) {
    (void)state;
    OK(folder_create(in_folder("x/y//z/")));
    assert_true(folder_exists(in_folder("x/y/z")));
    OK(folder_create(in_folder("x/y/z")));
    OK(file_replace(in_folder("x/file"), "", 0));
    assert_true(file_exists(in_folder("x/file")));
    assert_false(folder_exists(in_folder("x/file")));
    assert_false(file_exists(in_folder("x")));
    FAILS(folder_create(in_folder("x/file/deeper")), LCKV_ERROR_FILE, "x/file");
}

static void paths(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *joined;
        OK(path_join(cases[i][0], cases[i][1], &joined));
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
    assert_string_equal(path_base("a/b/c"), "c");
    assert_string_equal(path_base("c"), "c");
    assert_string_equal(path_base("a/"), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_and_reads, enter, leave),
        cmocka_unit_test_setup_teardown(maps, enter, leave),
        cmocka_unit_test_setup_teardown(target_changes_at_commit_alone, enter, leave),
        cmocka_unit_test_setup_teardown(abandoning_leaves_nothing, enter, leave),
        cmocka_unit_test_setup_teardown(full_disk, enter, leave),
        cmocka_unit_test_setup_teardown(missing_and_odd_files, enter, leave),
        cmocka_unit_test_setup_teardown(folders, enter, leave),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
