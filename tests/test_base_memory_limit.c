/* The memory that control groups leave, from files in the kernel's format: both versions, limits of outer groups, no
 * limits. */
#include "base/memory_limit.h"

#include "folder_fixture.h"

static void put_group_file(const folder *f, const char *folder_name, const char *name, const char *text) {
    char command[4 * PATH_BYTES], path[4 * PATH_BYTES];
    snprintf(command, sizeof command, "mkdir -p '%s/%s'", f->path, folder_name);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/%s/%s", f->path, folder_name, name);
    put_text(path, text);
}

static void the_second_version_is_read(void **state) {
    const folder *f = *state;
    put_group_file(f, "proc/self", "cgroup", "0::/slice/job\n");
    assert_true(memory_limit_left(f->path) == SIZE_MAX);
    put_group_file(f, "sys/fs/cgroup/slice/job", "memory.max", "max\n");
    put_group_file(f, "sys/fs/cgroup/slice/job", "memory.current", "900\n");
    assert_true(memory_limit_left(f->path) == SIZE_MAX);
    put_group_file(f, "sys/fs/cgroup/slice/job", "memory.max", "1000\n");
    assert_int_equal(memory_limit_left(f->path), 100);
    put_group_file(f, "sys/fs/cgroup/slice/job", "memory.stat", "anon 300\nfile 600\ninactive_file 250\nslab 0\n");
    assert_int_equal(memory_limit_left(f->path), 350);
    put_group_file(f, "sys/fs/cgroup/slice", "memory.max", "2000\n");
    put_group_file(f, "sys/fs/cgroup/slice", "memory.current", "1990\n");
    assert_int_equal(memory_limit_left(f->path), 10);
    put_group_file(f, "sys/fs/cgroup", "memory.max", "5\n");
    put_group_file(f, "sys/fs/cgroup", "memory.current", "7\n");
    assert_int_equal(memory_limit_left(f->path), 0);
}

static void the_first_version_is_read(void **state) {
    const folder *f = *state;
    put_group_file(f, "proc/self", "cgroup", "9:pids:/\n4:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/\n");
    put_group_file(f, "sys/fs/cgroup/memory", "memory.limit_in_bytes", "9223372036854771712\n");
    put_group_file(f, "sys/fs/cgroup/memory", "memory.usage_in_bytes", "1\n");
    put_group_file(f, "sys/fs/cgroup/memory/docker/ab", "memory.limit_in_bytes", "1000\n");
    put_group_file(f, "sys/fs/cgroup/memory/docker/ab", "memory.usage_in_bytes", "600\n");
    put_group_file(f, "sys/fs/cgroup/memory/docker/ab", "memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
    assert_int_equal(memory_limit_left(f->path), 500);
}

/* In a cgroup namespace, a container sees its group as the root. */
static void a_container_sees_its_group_as_the_root(void **state) {
    const folder *f = *state;
    put_group_file(f, "proc/self", "cgroup", "0::/\n");
    put_group_file(f, "sys/fs/cgroup", "memory.max", "1000\n");
    put_group_file(f, "sys/fs/cgroup", "memory.current", "1\n");
    assert_int_equal(memory_limit_left(f->path), 999);
}

static void without_groups_there_is_no_limit(void **state) {
    const folder *f = *state;
    assert_true(memory_limit_left(f->path) == SIZE_MAX);
    put_group_file(f, "proc/self", "cgroup", "no colon\n:\n0:\n");
    assert_true(memory_limit_left(f->path) == SIZE_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_second_version_is_read),
        IN_FOLDER(the_first_version_is_read),
        IN_FOLDER(a_container_sees_its_group_as_the_root),
        IN_FOLDER(without_groups_there_is_no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
