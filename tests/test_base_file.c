/* Files: reading, mapping, and writes after which a file has either the old or the new content. */
#include "base/files/checksum.h"
#include "base/files/folder.h"
#include "base/files/mapped_file.h"
#include "expect.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], in_folder_of_threads[128], link_of_threads[128];

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

/* A limit on file sizes simulates a full disk. */
static void full_disk(void **state) {
    (void)state;
    const char *path = in_folder("a");
    char *large = calloc(1, 1 << 20);
    struct rlimit before, small;
    assert_non_null(large);
    OK(file_replace(path, "old", 3));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = (struct rlimit){4, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    FAILS(file_replace(path, "small", 5), LCKV_ERROR_FILE, ".partial': File too large");
    FAILS(file_replace(path, large, 1 << 20), LCKV_ERROR_FILE, "/a.");
    setrlimit(RLIMIT_FSIZE, &before);
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
    FAILS(file_map("/dev/null", &m), LCKV_ERROR_FILE, "not a regular file: it is a device");
    FAILS(file_begin(in_folder("none/a"), &file), LCKV_ERROR_FILE, "none/a.");
    FAILS(file_copy(in_folder("none"), in_folder("b")), LCKV_ERROR_FILE, "none");
    FAILS(file_begin("", &file), LCKV_ERROR_FILE, "cannot create a file: its name is empty");
    FAILS(file_replace(folder, "x", 1), LCKV_ERROR_FILE, "not a regular file: it is a folder");
    assert_int_equal(count_entries(), 0);
}

/* A link whose target is gone exists, so that nobody mistakes an optional file for absent, and cannot be opened. */
static void broken_links(void **state) {
    (void)state;
    char *text;
    size_t bytes;
    mapped_file m;
    assert_int_equal(symlink("gone", in_folder("link")), 0);
    assert_true(path_exists(in_folder("link")) && !file_exists(in_folder("link")));
    FAILS(file_read(in_folder("link"), &text, &bytes), LCKV_ERROR_FILE, "/link': it is a symbolic link to a file that");
    FAILS(file_map(in_folder("link"), &m), LCKV_ERROR_FILE, "/link': it is a symbolic link to a file that does not");
    OK(file_replace(in_folder("gone"), "x", 1));
    OK(file_read(in_folder("link"), &text, &bytes));
    free(text);
}

/* Writing does not wait for the reader of a pipe, and does not replace the pipe. */
static void writing_to_what_is_no_file(void **state) {
    (void)state;
    FILE *stream;
    struct stat info;
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    alarm(60);
    FAILS(file_replace(in_folder("pipe"), "x", 1), LCKV_ERROR_FILE, "not a regular file: it is a named pipe");
    FAILS(file_append(in_folder("pipe"), &stream), LCKV_ERROR_FILE, "not a regular file: it is a named pipe");
    FAILS(file_append(folder, &stream), LCKV_ERROR_FILE, "it is a folder");
    FAILS(file_append("/dev/zero", &stream), LCKV_ERROR_FILE, "it is a device");
    alarm(0);
    assert_int_equal(stat(in_folder("pipe"), &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    assert_int_equal(count_entries(), 1);
}

/* Standard output and error are appended to in place. */
static void own_outputs(void **state) {
    (void)state;
    static const char *const PATHS[] = {"/dev/fd/%d", "/proc/self/fd/%d"};
    struct stat info;
    OK(file_replace("/dev/null", "x", 1));
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    for (int i = 0; i < 2; i++) {
        char path[64];
        FILE *stream = fopen(in_folder("out"), "w");
        assert_non_null(stream);
        assert_true(fputs("a", stream) >= 0 && fflush(stream) == 0);
        snprintf(path, sizeof path, PATHS[i], fileno(stream));
        OK(file_replace(path, "b", 1));
        assert_true(fputs("c", stream) >= 0);
        fclose(stream);
        assert_content(in_folder("out"), "abc");
    }
}

/* A name of 255 bytes, the maximum of file systems: the temporary name is not longer. */
static void long_names(void **state) {
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s/%0255d", folder, 7);
    OK(file_replace(path, "x", 1));
    assert_content(path, "x");
    OK(file_link("target", path));
    assert_int_equal(count_entries(), 1);
}

/* Files that block or never end are rejected immediately. */
static void pipes_sockets_and_devices(void **state) {
    (void)state;
    static const struct {
        const char *name, *kind;
    } CASES[] = {{"pipe", "it is a named pipe"}, {"socket", "it is a socket"}, {"inside", "it is a folder"}};
    char *text;
    size_t bytes;
    mapped_file m;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", in_folder("socket"));
    assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof at), 0);
    OK(folder_create(in_folder("inside")));
    alarm(20);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        uint64_t sum;
        const char *path = in_folder(CASES[i].name);
        FAILS(file_read(path, &text, &bytes), LCKV_ERROR_FILE, CASES[i].kind);
        FAILS(file_map(path, &m), LCKV_ERROR_FILE, CASES[i].kind);
        FAILS(checksum_file(path, &sum, &bytes), LCKV_ERROR_FILE, CASES[i].kind);
        FAILS(file_copy(path, in_folder("to")), LCKV_ERROR_FILE, CASES[i].kind);
    }
    FAILS(file_read("/dev/zero", &text, &bytes), LCKV_ERROR_FILE, "it is a device");
    alarm(0);
    close(server);
}

static void *write_often(void *user) {
    char content[4096];
    memset(content, *(const char *)user, sizeof content);
    for (int i = 0; i < 200; i++) {
        if (file_replace(in_folder_of_threads, content, sizeof content) < 0) return (void *)1;
        if (file_link(content[0] == 'a' ? "one" : "other", link_of_threads) < 0) return (void *)1;
    }
    return NULL;
}

/* Each thread writes a file under the same name; the last one remains. */
static void writers_of_one_path_do_not_meet(void **state) {
    (void)state;
    pthread_t threads[4];
    static char contents[4] = "abcd";
    char *text;
    size_t bytes;
    void *failed;
    snprintf(in_folder_of_threads, sizeof in_folder_of_threads, "%s/one", folder);
    snprintf(link_of_threads, sizeof link_of_threads, "%s/link", folder);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, write_often, &contents[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    OK(file_read(in_folder_of_threads, &text, &bytes));
    assert_int_equal(bytes, 4096);
    for (size_t i = 1; i < bytes; i++) assert_int_equal(text[i], text[0]);
    free(text);
    assert_int_equal(count_entries(), 2);
}

/* Temporary files of a killed process are removed; files with similar names are not. */
static void leftovers_are_swept(void **state) {
    (void)state;
    static const char *const NAMES[] = {"a.0123456789abcdef.partial", "b.ends.0123456789abcdef.partial", "a.partial",
                                        "a.0123456789abcde.partial", ".0123456789abcdef.partial"};
    for (int i = 0; i < 5; i++) OK(file_replace(in_folder(NAMES[i]), "x", 1));
    OK(folder_create(in_folder("c.0123456789abcdef.partial")));
    OK(folder_sweep(folder, "b"));
    assert_true(file_exists(in_folder(NAMES[0])));
    assert_false(file_exists(in_folder(NAMES[1])));
    OK(folder_sweep(folder, ""));
    assert_false(file_exists(in_folder(NAMES[0])));
    assert_true(file_exists(in_folder(NAMES[2])) && file_exists(in_folder(NAMES[3])));
    assert_true(folder_exists(in_folder("c.0123456789abcdef.partial")));
    FAILS(folder_sweep(in_folder("none"), ""), LCKV_ERROR_FILE, "none");
}

/* ---- a mapped file that shrinks */

static void tell_and_exit(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)context;
    const char *path = lckv_mapped_file_at(info->si_addr);
    _exit(path && !strcmp(path_base(path), "weights") ? 7 : 8);
}

static void read_truncated(const char *path) {
    struct sigaction action = {.sa_sigaction = tell_and_exit, .sa_flags = SA_SIGINFO};
    mapped_file m;
    sigaction(SIGBUS, &action, NULL);
    if (file_map(path, &m) < 0 || truncate(path, 10) < 0) _exit(9);
    _exit(m.data[100000] ? 10 : 11);
}

static void a_mapped_file_that_shrinks_has_a_name(void **state) {
    (void)state;
    static char content[200000];
    mapped_file maps[3];
    int status;
    const char *path = in_folder("weights");
    OK(file_replace(path, content, sizeof content));
    pid_t child = fork();
    if (!child) read_truncated(path);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    for (int i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        OK(file_replace(in_folder(name), content, 5000));
        OK(file_map(in_folder(name), &maps[i]));
    }
    const void *inside = maps[1].data + 4999;
    assert_string_equal(path_base(lckv_mapped_file_at(inside)), "1");
    assert_null(lckv_mapped_file_at(maps[1].data + 5000));
    assert_null(lckv_mapped_file_at(&status));
    assert_null(lckv_mapped_file_at(NULL));
    file_unmap(&maps[1]);
    assert_null(lckv_mapped_file_at(inside));
    assert_string_equal(path_base(lckv_mapped_file_at(maps[2].data)), "2");
    file_unmap(&maps[0]);
    file_unmap(&maps[2]);
}

static void folders(void **state) {
    (void)state;
    OK(folder_create(in_folder("x/y//z/")));
    assert_true(folder_exists(in_folder("x/y/z")));
    OK(folder_create(in_folder("x/y/z")));
    FAILS(folder_create(""), LCKV_ERROR_FILE, "cannot create a folder: its name is empty");
    OK(file_replace(in_folder("x/file"), "", 0));
    FAILS(folder_create(in_folder("x/file")), LCKV_ERROR_FILE, "/x/file': a file has this name");
    FAILS(folder_create(in_folder("x/file/y")), LCKV_ERROR_FILE, "/x/file': a file has this name");
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
        cmocka_unit_test_setup_teardown(broken_links, enter, leave),
        cmocka_unit_test_setup_teardown(writing_to_what_is_no_file, enter, leave),
        cmocka_unit_test_setup_teardown(own_outputs, enter, leave),
        cmocka_unit_test_setup_teardown(long_names, enter, leave),
        cmocka_unit_test_setup_teardown(pipes_sockets_and_devices, enter, leave),
        cmocka_unit_test_setup_teardown(writers_of_one_path_do_not_meet, enter, leave),
        cmocka_unit_test_setup_teardown(leftovers_are_swept, enter, leave),
        cmocka_unit_test_setup_teardown(a_mapped_file_that_shrinks_has_a_name, enter, leave),
        cmocka_unit_test_setup_teardown(folders, enter, leave),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
