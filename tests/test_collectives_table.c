/* Every entry of the table of collectives against values computed from the rank. The program runs as a single rank,
 * over TCP with 2, 3 and 4 ranks, and under mpirun with 3 ranks (tests/CMakeLists.txt). */
#include "base/clock.h"
#include "base/rng.h"
#include "collectives/collectives.h"

static int damaged_row(void) {
    return fail(LCKV_ERROR_FORMAT, "row 5 is damaged");
}

#include "expect.h"

#include <math.h>
#include <time.h>

static lckv_processes *ranks;

static int open_ranks(void **state) {
    (void)state;
    return lckv_processes_open(0, &ranks) == LCKV_OK ? 0 : -1;
}

static int close_ranks(void **state) {
    (void)state;
    lckv_processes_close(ranks);
    return 0;
}

/* Element i of rank r. Sums of these are exact in f32. */
static float value_of(int r, int64_t i) {
    return (float)((r + 1) * (1 + i % 7));
}

static double sum_of(int64_t i) {
    double sum = 0;
    for (int r = 0; r < ranks->ranks; r++) sum += (double)value_of(r, i);
    return sum;
}

static void test_all_reduce_sums_f32_and_f64(void **state) {
    (void)state;
    enum { COUNT = 19 };
    float f32[COUNT];
    double f64[COUNT];
    for (int i = 0; i < COUNT; i++) f32[i] = value_of(ranks->rank, i), f64[i] = (double)f32[i] / 3;
    assert_int_equal(collectives_all_reduce(ranks, (view){f32, 1, COUNT, DTYPE_F32}), LCKV_OK);
    assert_int_equal(collectives_all_reduce(ranks, (view){f64, 1, COUNT, DTYPE_F64}), LCKV_OK);
    for (int i = 0; i < COUNT; i++) {
        double in_order = 0;
        for (int r = 0; r < ranks->ranks; r++) in_order += (double)value_of(r, i) / 3;
        assert_true((double)f32[i] == sum_of(i));
        assert_true(f64[i] == in_order); /* the order of ranks determines the bits */
    }
}

/* Longer than what the ranks exchange at a time, and not a multiple of it. */
static void test_all_reduce_sums_long_buffers(void **state) {
    (void)state;
    int64_t count = 2 * (COLLECTIVES_MAX_REDUCE / (int)sizeof(double)) + 5;
    double *data = malloc((size_t)count * sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) data[i] = (double)value_of(ranks->rank, i);
    assert_int_equal(collectives_all_reduce(ranks, (view){data, 1, count, DTYPE_F64, NULL}), LCKV_OK);
    for (int64_t i = 0; i < count; i++) assert_true(data[i] == sum_of(i));
    free(data);
}

static void test_all_reduce_refuses_other_types(void **state) {
    (void)state;
    int32_t number = 1;
    FAILS(collectives_all_reduce(ranks, (view){&number, 1, 1, DTYPE_I32}), LCKV_ERROR_UNSUPPORTED,
          "all_reduce: expected float32 or float64, found int32");
}

enum { UNEVEN = 3, LONG = 100000 }; /* longer than one transfer of a reduction */

/* Part r has LONG + r * UNEVEN elements. */
static int64_t *divide(void) {
    int64_t *begin = calloc((size_t)ranks->ranks + 1, sizeof *begin);
    assert_non_null(begin);
    for (int r = 0; r < ranks->ranks; r++) begin[r + 1] = begin[r] + LONG + (int64_t)r * UNEVEN;
    return begin;
}

static void test_reduce_scatter_then_all_gather(void **state) {
    (void)state;
    int64_t *begin = divide(), count = begin[ranks->ranks];
    float *data = malloc((size_t)count * sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) data[i] = value_of(ranks->rank, i);
    collectives_parts parts = {data, DTYPE_F32, begin};
    assert_int_equal(collectives_reduce_scatter(ranks, parts), LCKV_OK);
    for (int64_t i = 0; i < count; i++) {
        bool own = i >= begin[ranks->rank] && i < begin[ranks->rank + 1];
        assert_true((double)data[i] == (own ? sum_of(i) : (double)value_of(ranks->rank, i)));
    }
    assert_int_equal(collectives_all_gather(ranks, parts), LCKV_OK);
    for (int64_t i = 0; i < count; i++) assert_true((double)data[i] == sum_of(i));
    free(data);
    free(begin);
}

/* Roundings depend on the order: TCP and MPI give the same bits. The number before the last one is an empty part. */
static void test_sums_are_added_in_the_order_of_ranks(void **state) {
    (void)state;
    int64_t begin[9] = {0}, count = 20000;
    assert_true(ranks->ranks <= 8);
    for (int r = 1; r <= ranks->ranks; r++) begin[r] = r == 2 ? begin[1] : count * r / ranks->ranks;
    begin[ranks->ranks] = count;
    float *data = malloc((size_t)count * sizeof *data), *expected = calloc((size_t)count, sizeof *expected);
    assert_true(data && expected);
    for (int r = 0; r < ranks->ranks; r++) {
        for (int64_t i = 0; i < count; i++) {
            float value = (float)rng_uniform(7, (uint64_t)r, (uint64_t)i) - 0.5f;
            expected[i] = r ? expected[i] + value : value;
            if (r == ranks->rank) data[i] = value;
        }
    }
    float *copy = malloc(COLLECTIVES_MAX_REDUCE / 4);
    int reduced = COLLECTIVES_MAX_REDUCE / 4 / (int)sizeof *copy;
    memcpy(copy, data, COLLECTIVES_MAX_REDUCE / 4);
    assert_int_equal(collectives_all_reduce(ranks, (view){copy, 1, reduced, DTYPE_F32}), LCKV_OK);
    assert_memory_equal(copy, expected, COLLECTIVES_MAX_REDUCE / 4);
    collectives_parts parts = {data, DTYPE_F32, begin};
    assert_int_equal(collectives_reduce_scatter(ranks, parts), LCKV_OK);
    assert_int_equal(collectives_all_gather(ranks, parts), LCKV_OK);
    assert_memory_equal(data, expected, (size_t)count * sizeof *data);
    free(copy);
    free(data);
    free(expected);
}

static void test_reduce_scatter_refuses_other_types(void **state) {
    (void)state;
    int64_t begin[8] = {0};
    collectives_parts parts = {NULL, DTYPE_BF16, begin};
    FAILS(collectives_reduce_scatter(ranks, parts), LCKV_ERROR_UNSUPPORTED, "expected float32, found bfloat16");
}

static void test_broadcast_from_each_root(void **state) {
    (void)state;
    for (int root = 0; root < ranks->ranks; root++) {
        float data[] = {value_of(ranks->rank, 1), value_of(ranks->rank, 2)};
        assert_int_equal(collectives_broadcast(ranks, (view){data, 1, 2, DTYPE_F32}, root), LCKV_OK);
        assert_true(data[0] == value_of(root, 1) && data[1] == value_of(root, 2));
    }
    assert_int_equal(collectives_broadcast(ranks, (view){0}, ranks->ranks), LCKV_ERROR_ARGUMENT);
    assert_int_equal(collectives_broadcast(ranks, (view){0}, -1), LCKV_ERROR_ARGUMENT);
}

/* Longer than what the root sends to each rank itself, and not divisible by the number of ranks. */
static void test_broadcast_of_large_data(void **state) {
    (void)state;
    enum { BYTES = 1000003 };
    uint8_t *data = malloc(BYTES);
    assert_non_null(data);
    for (int root = 0; root < ranks->ranks; root++) {
        for (int i = 0; i < BYTES; i++) data[i] = ranks->rank == root ? (uint8_t)(i % 251 + root) : 0;
        assert_int_equal(collectives_broadcast(ranks, (view){data, 1, BYTES, DTYPE_U8}, root), LCKV_OK);
        for (int i = 0; i < BYTES; i++)
            if (data[i] != (uint8_t)(i % 251 + root)) fail_msg("byte %d from root %d is %d", i, root, data[i]);
    }
    free(data);
}

/* Rank r sends r MB; rank 0 has nothing of its own. */
static void test_gather_of_large_data(void **state) {
    (void)state;
    enum { MEGABYTE = 1000000 };
    int64_t counts[8] = {0}, total = 0;
    assert_true(ranks->ranks <= 8);
    for (int r = 0; r < ranks->ranks; r++) total += counts[r] = (int64_t)r * MEGABYTE;
    char *mine = malloc((size_t)counts[ranks->rank] + 1), *all = ranks->rank ? NULL : calloc((size_t)total + 1, 1);
    memset(mine, 'a' + ranks->rank, (size_t)counts[ranks->rank]);
    assert_int_equal(collectives_gather_host(ranks, mine, counts, all), LCKV_OK);
    const char *at = all;
    for (int r = 0; all && r < ranks->ranks; r++)
        for (int64_t i = 0; i < counts[r]; i++) assert_int_equal(*at++, 'a' + r);
    free(mine);
    free(all);
}

static void test_host_memory(void **state) {
    (void)state;
    int64_t *counts = calloc((size_t)ranks->ranks, sizeof *counts), total = 0;
    assert_non_null(counts);
    for (int r = 0; r < ranks->ranks; r++) total += counts[r] = 2 + r;
    char mine[16], *all = ranks->rank ? NULL : malloc((size_t)total), word = (char)('k' + ranks->rank);
    for (size_t i = 0; i < sizeof mine; i++) mine[i] = (char)('a' + ranks->rank);
    assert_int_equal(collectives_gather_host(ranks, mine, counts, all), LCKV_OK);
    for (int r = 0, at = 0; all && r < ranks->ranks; r++)
        for (int i = 0; i < 2 + r; i++) assert_int_equal(all[at++], 'a' + r);
    assert_int_equal(collectives_broadcast_host(ranks, &word, 1), LCKV_OK);
    assert_int_equal(word, 'k');
    assert_int_equal(collectives_barrier(ranks), LCKV_OK);
    free(all);
    free(counts);
}

static void test_the_failure_of_one_rank_is_that_of_all(void **state) {
    (void)state;
    int last = ranks->ranks - 1;
    assert_int_equal(collectives_agree(ranks, 7), 7);
    int mine = ranks->rank == last ? damaged_row() : LCKV_OK;
    char expected[64] = "row 5 is damaged";
    if (ranks->rank != last) snprintf(expected, sizeof expected, "process %d of %d: row 5 is damaged", last, last + 1);
    FAILS(collectives_agree(ranks, mine), LCKV_ERROR_FORMAT, expected);
}

static void test_shares_cover_everything_once(void **state) {
    (void)state;
    for (int64_t count = 0; count < 20; count++) {
        int64_t covered = 0;
        for (int r = 0; r < ranks->ranks; r++) {
            collectives other = {.rank = r, .ranks = ranks->ranks};
            int64_t first, share = collectives_share(&other, count, &first);
            assert_int_equal(first, covered);
            assert_true(share == count / ranks->ranks || share == count / ranks->ranks + 1);
            covered += share;
        }
        assert_int_equal(covered, count);
    }
}

/* The last rank comes late to the first operation: the others wait in it. */
static void test_operations_are_in_the_profile(void **state) {
    (void)state;
    static const char *const NAMES[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast"};
    enum { COUNT = 12 };
    float data[COUNT] = {0};
    int64_t begin[9] = {0}, count;
    collectives *c;
    device *d;
    lckv_op_call *calls;
    assert_true(ranks->ranks <= 8);
    for (int r = 0; r < ranks->ranks; r++) begin[r + 1] = r + 1 == ranks->ranks ? COUNT : r + 1;
    const collectives_parts parts = {data, DTYPE_F32, begin};
    OK(device_open("cpu", 1, &d));
    OK(collectives_on_device(ranks, d, &c));
    assert_true(!c == (ranks->ranks == 1));
    if (c) {
        OK(collectives_all_reduce(c, (view){data, 1, COUNT, DTYPE_F32, NULL})); /* not in the profile */
        OK(lckv_profile_start(d));
        if (ranks->rank == ranks->ranks - 1) nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        OK(collectives_all_reduce(c, (view){data, 1, COUNT, DTYPE_F32, NULL}));
        OK(collectives_reduce_scatter(c, parts));
        OK(collectives_all_gather(c, parts));
        OK(collectives_broadcast(c, (view){data, 1, COUNT, DTYPE_F32, NULL}, 0));
        OK(collectives_barrier(c)); /* host memory only */
        OK(lckv_profile_stop(d, &calls, &count));
        assert_int_equal(count, 4);
        for (int i = 0; i < 4; i++) {
            assert_string_equal(calls[i].op, NAMES[i]);
            assert_true(calls[i].bytes == COUNT * sizeof(float) && calls[i].flops == 0 && calls[i].seconds >= 0);
            if (i) assert_true(calls[i].begin >= calls[i - 1].begin + calls[i - 1].seconds);
        }
        if (ranks->rank < ranks->ranks - 1) assert_true(calls[0].seconds > 0.1);
        lckv_free(calls);
    }
    collectives_close(c);
    device_close(d);
}

static void pause_last(int milliseconds) {
    if (ranks->rank == ranks->ranks - 1) nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000L}, NULL);
}

/* The last rank comes late. Operations are counted in the slot that is chosen. */
static void test_waits_are_measured(void **state) {
    (void)state;
    double number = 1, begin = clock_seconds(), elapsed;
    collectives_count_waits(ranks, 0);
    pause_last(300);
    OK(collectives_all_reduce(ranks, (view){&number, 1, 1, DTYPE_F64, NULL}));
    elapsed = clock_seconds() - begin;
    collectives_count_waits(ranks, -1);
    pause_last(300);
    OK(collectives_barrier(ranks)); /* not counted */
    double waited = collectives_waited(ranks, 0);
    if (ranks->ranks == 1) {
        assert_true(isnan(waited));
        return;
    }
    assert_true(waited >= (ranks->rank < ranks->ranks - 1 ? 0.25 : 0) && waited <= elapsed);
    collectives_count_waits(ranks, 1);
    pause_last(300);
    OK(collectives_agree(ranks, LCKV_OK));
    assert_true(collectives_waited(ranks, 0) == waited);
    if (ranks->rank < ranks->ranks - 1) assert_true(collectives_waited(ranks, 1) > 0.25);
    collectives_count_waits(ranks, 1);
    assert_true(collectives_waited(ranks, 1) == 0);
    collectives_count_waits(ranks, -1);
}

/* A rank that waits for another leaves the processor to others. */
static void test_waiting_takes_no_processor_time(void **state) {
    (void)state;
    if (ranks->rank == ranks->ranks - 1) nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    double begin = clock_seconds();
    clock_t used = clock();
    OK(collectives_barrier(ranks));
    double waited = clock_seconds() - begin;
    double busy = (double)(clock() - used) / CLOCKS_PER_SEC;
    if (waited > 1 && busy > 0.5 * waited) fail_msg("%.2f s of processor time in %.2f s of waiting", busy, waited);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_reduce_sums_f32_and_f64),
        cmocka_unit_test(test_all_reduce_sums_long_buffers),
        cmocka_unit_test(test_all_reduce_refuses_other_types),
        cmocka_unit_test(test_reduce_scatter_then_all_gather),
        cmocka_unit_test(test_sums_are_added_in_the_order_of_ranks),
        cmocka_unit_test(test_reduce_scatter_refuses_other_types),
        cmocka_unit_test(test_broadcast_from_each_root),
        cmocka_unit_test(test_broadcast_of_large_data),
        cmocka_unit_test(test_gather_of_large_data),
        cmocka_unit_test(test_host_memory),
        cmocka_unit_test(test_the_failure_of_one_rank_is_that_of_all),
        cmocka_unit_test(test_shares_cover_everything_once),
        cmocka_unit_test(test_operations_are_in_the_profile),
        cmocka_unit_test(test_waits_are_measured),
        cmocka_unit_test(test_waiting_takes_no_processor_time),
    };
    return cmocka_run_group_tests(tests, open_ranks, close_ranks);
}
