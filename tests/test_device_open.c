/* Opening devices by name, and the CPU's memory: alignment, copies, scratch memory. */
#include "device_check.h"

#include "device/open.h"

static void expect_error(const char *name, int threads, int code, const char *part) {
    device *d = (device *)1;
    assert_int_equal(device_open(name, threads, &d), code);
    assert_null(d);
    if (!strstr(lckv_last_error(), part)) fail_msg("expected \"%s\" in \"%s\"", part, lckv_last_error());
}

static void test_names(void **state) {
    (void)state;
    expect_error("gpu", 0, LCKV_ERROR_ARGUMENT, "\"gpu\"");
    expect_error("", 0, LCKV_ERROR_ARGUMENT, "\"\"");
    expect_error("cpu:0", 0, LCKV_ERROR_ARGUMENT, "\"cpu:0\"");
    expect_error("cpu", -1, LCKV_ERROR_ARGUMENT, "-1");
    device *d;
    assert_int_equal(device_open("cpu", 3, &d), LCKV_OK);
    assert_string_equal(d->name, "cpu");
    assert_int_equal(d->threads, 3);
    assert_true(d->host_memory && !d->counts_only);
    device_close(d);
    assert_int_equal(device_open("cpu", 0, &d), LCKV_OK);
    assert_true(d->threads >= 1);
    device_close(d);
    device_close(NULL);
}

/* Every op of the table exists at every level. */
/* The first usable GPU, else the CPU. */
static void test_auto(void **state) {
    (void)state;
    device *d, *gpu;
    assert_int_equal(device_open("auto", 1, &d), LCKV_OK);
    bool has_gpu = device_open("cuda", 0, &gpu) >= 0;
    assert_string_equal(d->name, has_gpu ? "cuda:0" : "cpu");
    device_close(gpu);
    device_close(d);
}

static void test_table(void **state) {
    (void)state;
    for (int level = CPU_BASE; level < CPU_LEVELS; level++) {
        device d;
        if (level > (int)cpu_level_here()) {
            assert_int_equal(cpu_open_level(&d, 1, (enum cpu_level)level), LCKV_ERROR_UNSUPPORTED);
            continue;
        }
        assert_int_equal(cpu_open_level(&d, 1, (enum cpu_level)level), LCKV_OK);
#define ENTRY(name, arguments) assert_non_null(d.ops.name);
        DEVICE_OPS(ENTRY)
#undef ENTRY
        d.memory.close(&d);
    }
}

static void test_memory(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open("cpu", 1, &d), LCKV_OK);
    static const size_t sizes[] = {0, 1, 255, 4097, 5 << 20}; /* the last one in huge pages, if there are any */
    for (int i = 0; i < 5; i++) {
        unsigned char *memory, first = 1, last = 1;
        assert_int_equal(d->memory.alloc(d, sizes[i], (void **)&memory), LCKV_OK);
        assert_true((uintptr_t)memory % 256 == 0);
        assert_int_equal(d->memory.zero(d, memory, sizes[i]), LCKV_OK);
        if (sizes[i] > 0) {
            assert_int_equal(d->memory.copy_out(d, &last, memory + sizes[i] - 1, 1), LCKV_OK);
            assert_int_equal(last, 0);
            assert_int_equal(d->memory.copy_in(d, memory, &first, 1), LCKV_OK);
            assert_int_equal(memory[0], 1);
        }
        d->memory.release(d, memory);
    }
    void *memory;
    assert_int_equal(d->memory.alloc(d, SIZE_MAX - 4096, &memory), LCKV_ERROR_MEMORY);
    assert_int_equal(d->memory.alloc(d, SIZE_MAX, &memory), LCKV_ERROR_MEMORY);
    d->memory.release(d, NULL);
    size_t free_bytes = 0, total_bytes = 0;
    assert_int_equal(d->memory.available(d, &free_bytes, &total_bytes), LCKV_OK);
    assert_true(free_bytes > 0 && free_bytes <= total_bytes);
    device_close(d);
}

/* Bytes that a device holds, from the error of an allocation above its limit. A GPU has buffers of its own. */
static size_t bytes_held(device *d) {
    void *none;
    size_t bytes = 0;
    assert_int_equal(d->memory.limit(d, 1), LCKV_OK);
    assert_int_equal(d->memory.alloc(d, 2, &none), LCKV_ERROR_MEMORY);
    const char *number = strstr(lckv_last_error(), d->name);
    assert_non_null(number);
    assert_int_equal(sscanf(number + strlen(d->name), ": %zu of the 1 that", &bytes), 1);
    return bytes;
}

/* Freed memory can be allocated again. A limit below the memory in use only forbids more. */
static void check_limit(device *d) {
    enum { PIECE = 1 << 16 };
    void *first, *second;
    size_t allowed = bytes_held(d) + 2 * PIECE;
    assert_int_equal(d->memory.limit(d, allowed), LCKV_OK);
    assert_int_equal(d->memory.alloc(d, PIECE, &first), LCKV_OK);
    assert_int_equal(d->memory.alloc(d, 2 * PIECE, &second), LCKV_ERROR_MEMORY);
    assert_null(second);
    char message[128];
    snprintf(message, sizeof message, "no memory for %d bytes on %s: ", 2 * PIECE, d->name);
    assert_non_null(strstr(lckv_last_error(), message));
    snprintf(message, sizeof message, " of the %zu that it is limited to are taken", allowed);
    assert_non_null(strstr(lckv_last_error(), message));
    assert_int_equal(d->memory.alloc(d, PIECE / 2, &second), LCKV_OK);
    d->memory.release(d, first);
    assert_int_equal(d->memory.alloc(d, PIECE, &first), LCKV_OK);
    assert_int_equal(d->memory.limit(d, 1), LCKV_OK);
    d->memory.release(d, second);
    assert_int_equal(d->memory.alloc(d, 0, &second), LCKV_ERROR_MEMORY);
    assert_int_equal(d->memory.limit(d, 0), LCKV_OK);
    assert_int_equal(d->memory.alloc(d, 100 * PIECE, &second), LCKV_OK);
    d->memory.release(d, first);
    d->memory.release(d, second);
    device_close(d);
}

static void test_limit(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open("cpu", 1, &d), LCKV_OK);
    check_limit(d);
    if (device_open("cuda", 1, &d) >= 0)
        check_limit(d);
    else
        print_message("skipped: the limit of a GPU: %s\n", lckv_last_error());
}

static void test_scratch(void **state) {
    (void)state;
    device d;
    assert_int_equal(cpu_open_level(&d, 1, CPU_BASE), LCKV_OK);
    void *small, *large, *again, *other;
    assert_int_equal(cpu_scratch(&d, CPU_SCRATCH_OPERAND, 100, &small), LCKV_OK);
    assert_int_equal(cpu_scratch(&d, CPU_SCRATCH_OPERAND, 1 << 20, &large), LCKV_OK);
    assert_int_equal(cpu_scratch(&d, CPU_SCRATCH_OPERAND, 200, &again), LCKV_OK);
    assert_int_equal(cpu_scratch(&d, CPU_SCRATCH_OUTER, 200, &other), LCKV_OK);
    assert_ptr_equal(again, large);
    assert_ptr_not_equal(other, large);
    memset(large, 1, 1 << 20);
    assert_int_equal(cpu_scratch(&d, CPU_SCRATCH_OPERAND, SIZE_MAX, &large), LCKV_ERROR_MEMORY);
    assert_int_equal(cpu_scratch(&d, CPU_SCRATCH_OPERAND, 100, &again), LCKV_OK); /* usable after the failure */
    memset(again, 1, 100);
    d.memory.close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_auto),  cmocka_unit_test(test_table),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_limit), cmocka_unit_test(test_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
