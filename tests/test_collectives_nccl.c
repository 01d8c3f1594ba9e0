/* src/collectives/nccl with an NCCL that works on host memory, over the ranks' own transport: which calls it gets, that
 * the results are those of the table, and what happens on failures. No GPU is needed. The program runs as a single
 * rank, and with 3 ranks (tests/CMakeLists.txt). */
#include "collectives/nccl/nccl.h"

#include "base/clock.h"
#include "device/gpu.h"

static int damaged_row(void) {
    return fail(LCKV_ERROR_FORMAT, "row 5 is damaged");
}

#include "expect.h"
#include "fake_nccl.h"
#include "fake_peers.h"

#include <math.h>
#include <pthread.h>
#include <unistd.h>

/* ---------------------------------------------------------------- tests */

static collectives *nccl;

static int reset(void **state) {
    (void)state;
    fake.groups = fake.destroyed = fake.aborted = fake.calls = fake.lost = 0;
    fake.launch_blocks = 0;
    fake.one_gpu = fake.init_fails = fake.hangs = fake.records = fake.separated = false;
    fake.order[0] = '\0';
    fake_peers = (struct fake_peers){0};
    setenv("LCKV_PEER_SUMS", "0", 1);
    return 0;
}

static int check_events(void **state) {
    (void)state;
    return fake.events || fake.streams || fake_peers.held; /* all destroyed */
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

static void test_operations_on_views(void **state) {
    (void)state;
    enum { COUNT = 7, PART = 5 };
    OK(collectives_nccl_open(ranks, &gpu, &nccl));
    assert_true(nccl->rank == ranks->rank && nccl->ranks == ranks->ranks && !nccl->host_memory);
    float f32[COUNT], word = value_of(ranks->rank, 3);
    double f64[COUNT];
    for (int i = 0; i < COUNT; i++) f32[i] = value_of(ranks->rank, i), f64[i] = (double)f32[i];
    OK(collectives_all_reduce(nccl, (view){f32, 1, COUNT, DTYPE_F32, NULL}));
    OK(collectives_all_reduce(nccl, (view){f64, 1, COUNT, DTYPE_F64, NULL}));
    for (int i = 0; i < COUNT; i++) assert_true((double)f32[i] == sum_of(i) && f64[i] == sum_of(i));
    OK(collectives_broadcast(nccl, (view){&word, 1, 1, DTYPE_F32, NULL}, ranks->ranks - 1));
    assert_true(word == value_of(ranks->ranks - 1, 3));

    /* part r has PART + r elements; part 1 is empty */
    int64_t begin[9] = {0};
    for (int r = 0; r < ranks->ranks; r++) begin[r + 1] = begin[r] + (r == 1 ? 0 : PART + r);
    int64_t count = begin[ranks->ranks];
    float data[64];
    for (int64_t i = 0; i < count; i++) data[i] = value_of(ranks->rank, i);
    fake.groups = fake.calls = 0;
    collectives_parts parts = {data, DTYPE_F32, begin};
    OK(collectives_reduce_scatter(nccl, parts));
    for (int64_t i = 0; i < count; i++) {
        bool own = i >= begin[ranks->rank] && i < begin[ranks->rank + 1];
        assert_true((double)data[i] == (own ? sum_of(i) : (double)value_of(ranks->rank, i)));
    }
    OK(collectives_all_gather(nccl, parts));
    for (int64_t i = 0; i < count; i++) assert_true((double)data[i] == sum_of(i));
    assert_int_equal(fake.groups, 2); /* one launch each */
    assert_int_equal(fake.calls, 2 * (ranks->ranks - (ranks->ranks > 1)));
    OK(collectives_barrier(nccl));
    OK(collectives_agree(nccl, LCKV_OK));
    assert_int_equal(collectives_agree(nccl, LCKV_ERROR_INTERRUPTED), LCKV_ERROR_INTERRUPTED);
    OK(collectives_all_reduce(nccl, (view){f32, 1, COUNT, DTYPE_F32, NULL})); /* it goes on, for a checkpoint */
    collectives_close(nccl);
    assert_true(fake.destroyed == 1 && times_aborted() == 0);
}

static void test_two_ranks_on_one_gpu(void **state) {
    (void)state;
    fake.one_gpu = true;
    if (ranks->ranks == 1) return;
    FAILS(collectives_nccl_open(ranks, &gpu, &nccl), LCKV_ERROR_ARGUMENT,
          "processes 0 and 1 use the same GPU (cuda:0): start one process per GPU");
    assert_null(nccl);
}

static void test_the_failure_of_nccl_is_that_of_all(void **state) {
    (void)state;
    fake.init_fails = true;
    FAILS(collectives_nccl_open(ranks, &gpu, &nccl), LCKV_ERROR_DEVICE, "ncclCommInitRank: unhandled system error");
    assert_int_equal(times_aborted(), ranks->rank < ranks->ranks - 1);
}

static void test_a_failure_aborts_nccl(void **state) {
    (void)state;
    float word = 1;
    OK(collectives_nccl_open(ranks, &gpu, &nccl));
    int mine = ranks->rank == 0 ? damaged_row() : LCKV_OK;
    FAILS(collectives_agree(nccl, mine), LCKV_ERROR_FORMAT, "row 5 is damaged");
    assert_int_equal(times_aborted(), 1);
    FAILS(collectives_all_reduce(nccl, (view){&word, 1, 1, DTYPE_F32, NULL}), LCKV_ERROR_DEVICE, "NCCL was stopped");
    collectives_close(nccl);
    assert_true(times_aborted() == 1 && fake.destroyed == 0);
}

static void wait_for_abort(void) {
    for (double begin = clock_seconds(); !times_aborted() && clock_seconds() < begin + 30;) usleep(10000);
    assert_int_equal(times_aborted(), 1);
}

/* The connection of a rank closes while this one is in no operation of the transport. */
static void test_a_lost_rank_aborts_nccl(void **state) {
    (void)state;
    int ends[2], watched[8];
    assert_int_equal(pipe(ends), 0);
    assert_true(ranks->ranks <= 8);
    for (int r = 0; r < ranks->ranks; r++) watched[r] = r ? -1 : ends[0];
    collectives host = *ranks;
    host.watched = watched;
    OK(collectives_nccl_open(&host, &gpu, &nccl));
    usleep(300000);
    assert_int_equal(times_aborted(), 0);
    close(ends[1]);
    wait_for_abort();
    collectives_close(nccl);
    assert_int_equal(fake.destroyed, 0);
    close(ends[0]);
}

/* The connection of rank 0 closes during a launch, which waits for that rank for `seconds`. */
static void lose_a_rank_in_a_launch(double seconds) {
    int ends[2], watched[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    float word = 1;
    assert_int_equal(pipe(ends), 0);
    collectives host = *ranks;
    watched[0] = ends[0];
    host.watched = watched;
    OK(collectives_nccl_open(&host, &gpu, &nccl));
    fake.lost = ends[1];
    fake.launch_blocks = seconds;
    FAILS(collectives_all_reduce(nccl, (view){&word, 1, 1, DTYPE_F32, NULL}), LCKV_ERROR_DEVICE,
          "NCCL was stopped because process 0 is lost or has failed");
    assert_int_equal(times_aborted(), 1);
    FAILS(collectives_replayed(nccl), LCKV_ERROR_DEVICE, "NCCL was stopped because process 0 is lost");
    collectives_close(nccl);
    assert_true(times_aborted() == 1 && fake.destroyed == 0);
    close(ends[0]);
}

/* It would wait forever. */
static void test_a_rank_is_lost_while_a_launch_waits_for_it(void **state) {
    (void)state;
    double begin = clock_seconds();
    lose_a_rank_in_a_launch(60);
    assert_true(clock_seconds() < begin + 30);
}

/* The communicator is not aborted while a launch uses it that ends by itself. */
static void test_a_rank_is_lost_during_a_launch(void **state) {
    (void)state;
    double begin = clock_seconds();
    lose_a_rank_in_a_launch(0.7);
    assert_true(clock_seconds() >= begin + 0.7);
}

/* No rank is lost, and each operation has half a second. */
static void open_with_time_limit(void) {
    static const int watched[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    static collectives host;
    host = *ranks;
    host.watched = watched;
    host.time_limit = 0.5;
    OK(collectives_nccl_open(&host, &gpu, &nccl));
}

static void test_a_launch_has_the_time_limit(void **state) {
    (void)state;
    float word = 1;
    open_with_time_limit();
    OK(collectives_barrier(nccl));
    fake.launch_blocks = 60;
    double begin = clock_seconds();
    FAILS(collectives_all_reduce(nccl, (view){&word, 1, 1, DTYPE_F32, NULL}), LCKV_ERROR_DEVICE,
          "its GPU has waited for ");
    assert_true(clock_seconds() < begin + 30);
    collectives_close(nccl);
    assert_true(times_aborted() == 1 && fake.destroyed == 0);
}

/* An operation does not complete, on any of the GPUs. */
static void test_a_gpu_that_hangs(void **state) {
    (void)state;
    float word = 1;
    open_with_time_limit();
    usleep(800000);
    assert_int_equal(times_aborted(), 0); /* there is no operation */
    OK(collectives_all_reduce(nccl, (view){&word, 1, 1, DTYPE_F32, NULL}));
    usleep(800000);
    assert_int_equal(times_aborted(), 0); /* it has completed */
    OK(collectives_barrier(nccl));
    pthread_mutex_lock(&fake.lock);
    fake.hangs = true;
    pthread_mutex_unlock(&fake.lock);
    OK(collectives_all_reduce(nccl, (view){&word, 1, 1, DTYPE_F32, NULL}));
    wait_for_abort();
    FAILS(collectives_agree(nccl, LCKV_OK), LCKV_ERROR_DEVICE, "its GPU has waited for ");
    collectives_close(nccl);
}

/* A recorded operation runs when it is replayed, and only then has a time limit. */
static void test_recorded_operations(void **state) {
    (void)state;
    float word = 1;
    open_with_time_limit();
    fake.records = true;
    OK(collectives_all_reduce(nccl, (view){&word, 1, 1, DTYPE_F32, NULL})); /* records no event */
    fake.records = false;
    pthread_mutex_lock(&fake.lock);
    fake.hangs = true;
    pthread_mutex_unlock(&fake.lock);
    usleep(800000);
    assert_int_equal(times_aborted(), 0);
    OK(collectives_replayed(nccl));
    wait_for_abort();
    FAILS(collectives_replayed(nccl), LCKV_ERROR_DEVICE, "its GPU has waited for ");
    collectives_close(nccl);
}

/* The stream beside that of the ops waits for the point. Ops wait for the operation where it is joined. Event 0 is that
 * of the time limit. */
static void test_operations_aside(void **state) {
    (void)state;
    enum { PART = 5, SIZE = 8 * PART };
    int64_t begin[9] = {0};
    float data[SIZE];
    OK(collectives_nccl_open(ranks, &gpu, &nccl));
    for (int r = 0; r < ranks->ranks; r++) begin[r + 1] = begin[r] + PART;
    for (int i = 0; i < SIZE; i++) data[i] = value_of(ranks->rank, i);
    collectives_parts parts = {data, DTYPE_F32, begin};
    for (int recorded = 0; recorded < 2; recorded++) {
        for (int i = 0; i < SIZE; i++) data[i] = value_of(ranks->rank, i);
        fake.order[0] = '\0';
        fake.separated = false;
        fake.records = recorded;
        OK(collectives_point(nccl, 1));
        assert_true(fake.separated);
        fake.records = false;
        fake.separated = false;
        OK(collectives_reduce_scatter_aside(nccl, parts, 1));
        OK(collectives_join_aside(nccl, 1));
        for (int i = 0; i < PART; i++)
            assert_true((double)data[begin[ranks->rank] + i] == sum_of(begin[ranks->rank] + i));
        assert_string_equal(fake.order, "point1m wait1b nccl0b event0b event2b wait2m");
    }
    OK(collectives_point(nccl, 40)); /* more events */
    OK(collectives_all_gather_aside(nccl, parts, 40));
    OK(collectives_join_aside(nccl, 40));
    for (int i = 0; i < PART * ranks->ranks; i++) assert_true((double)data[i] == sum_of(i));
    fake.order[0] = '\0';
    OK(collectives_all_gather(nccl, parts)); /* on the stream of the ops again */
    assert_string_equal(fake.order, "nccl0m event0m");
    collectives_close(nccl);
}

static void expect_wait(int slot, double milliseconds) {
    double found = 1000 * collectives_waited(nccl, slot);
    if (!(fabs(found - milliseconds) < 1e-3)) fail_msg("slot %d: %g ms, expected %g", slot, found, milliseconds);
}

/* The device's stream waits for what is not aside, and where operations aside are joined. */
static void test_waits_are_measured(void **state) {
    (void)state;
    enum { PART = 2 };
    int64_t begin[9] = {0};
    float data[8 * PART] = {0};
    const view word = {data, 1, 1, DTYPE_F32, NULL};
    OK(collectives_nccl_open(ranks, &gpu, &nccl));
    for (int r = 0; r < ranks->ranks; r++) begin[r + 1] = begin[r] + PART;
    collectives_parts parts = {data, DTYPE_F32, begin};
    OK(collectives_all_reduce(nccl, word));
    assert_string_equal(fake.order, "nccl0m event0m"); /* no further events */
    collectives_count_waits(nccl, 0);
    for (int i = 0; i < 50; i++) OK(collectives_all_reduce(nccl, word)); /* more events than there is room for */
    collectives_count_waits(nccl, 1);
    OK(collectives_point(nccl, 1));
    OK(collectives_reduce_scatter_aside(nccl, parts, 1));
    OK(collectives_join_aside(nccl, 1));
    collectives_count_waits(nccl, -1);
    OK(collectives_all_reduce(nccl, word));
    expect_wait(0, 50 * OPERATION_MILLISECONDS);
    expect_wait(1, JOIN_MILLISECONDS);
    collectives_count_waits(nccl, 1);
    OK(collectives_all_reduce(nccl, word));
    collectives_count_waits(nccl, 0);
    expect_wait(0, 0);
    expect_wait(1, OPERATION_MILLISECONDS);
    fake.records = true; /* it runs later, and as often as the recording is replayed */
    OK(collectives_all_reduce(nccl, word));
    fake.records = false;
    assert_true(isnan(collectives_waited(nccl, 0)));
    pthread_mutex_lock(&fake.lock);
    fake.hangs = true; /* the device has not come so far */
    pthread_mutex_unlock(&fake.lock);
    assert_true(isnan(collectives_waited(nccl, 1)));
    collectives_close(nccl);
}

/* ---------------------------------------------------------------- sums of peers */

enum { PEER_SUM = GPU_PEER_BYTES / 4 };

static void expect_sums(int count, int nccl_calls) {
    static float data[PEER_SUM + 1];
    double wide = 1 + ranks->rank;
    fake.calls = 0;
    for (int i = 0; i < count; i++) data[i] = value_of(ranks->rank, i);
    OK(collectives_all_reduce(nccl, (view){data, 1, count, DTYPE_F32, NULL}));
    OK(collectives_all_reduce(nccl, (view){&wide, 1, 1, DTYPE_F64, NULL}));
    for (int i = 0; i < count; i++) assert_true((double)data[i] == sum_of(i));
    assert_true(wide == sum_of(0) && fake.calls == nccl_calls);
}

/* They are ops of the device, which need no separation. NCCL adds larger views. */
static void test_sums_of_peers(void **state) {
    (void)state;
    bool several = ranks->ranks > 1;
    setenv("LCKV_PEER_SUMS", "1", 1);
    OK(collectives_nccl_open(ranks, &gpu, &nccl));
    fake.separated = false; /* it was for the sums on trial */
    for (int i = 0; i < 500; i++) expect_sums(1 + i * 7 % 100, several ? 0 : 2);
    expect_sums(PEER_SUM, several ? 0 : 2);
    assert_int_equal(fake.separated, !several);
    expect_sums(PEER_SUM + 1, several ? 1 : 2);
    collectives_close(nccl);
}

/* Something that one rank lacks makes all ranks use NCCL. */
static void test_ranks_without_peer_memory(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        int lacks = ranks->rank == ranks->ranks - 1 ? i : -1;
        fake_peers = (struct fake_peers){.cannot_open = lacks == 0, .wrong = lacks == 1};
        setenv("LCKV_PEER_SUMS", lacks == 2 ? "0" : "1", 1);
        if (lacks == 3) setenv("NCCL_P2P_DISABLE", "1", 1);
        OK(collectives_nccl_open(ranks, &gpu, &nccl));
        unsetenv("NCCL_P2P_DISABLE");
        assert_int_equal(fake_peers.held, 0);
        expect_sums(3, 2);
        collectives_close(nccl);
    }
}

/* The connection of a rank closes while the GPUs of the others wait for its part of a sum. */
static void test_a_lost_rank_stops_sums_of_peers(void **state) {
    (void)state;
    int ends[2], watched[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    float word = 1;
    if (ranks->ranks == 1) return;
    setenv("LCKV_PEER_SUMS", "1", 1);
    assert_int_equal(pipe(ends), 0);
    watched[1] = ends[0];
    collectives host = *ranks;
    host.watched = watched;
    OK(collectives_nccl_open(&host, &gpu, &nccl));
    fake_peers.returns_at_once = true;
    if (ranks->rank != 1) OK(collectives_all_reduce(nccl, (view){&word, 1, 1, DTYPE_F32, NULL}));
    usleep(300000);
    close(ends[1]);
    wait_for_abort();
    FAILS(collectives_replayed(nccl), LCKV_ERROR_DEVICE, "process 1 is lost or has failed");
    collectives_close(nccl); /* waits for the sum */
    assert_int_equal(fake_peers.stopped, ranks->rank != 1);
    close(ends[0]);
}

static int open_ranks(void **state) {
    (void)state;
    setenv("NCCL_PROTO", "Tree of the user", 1);
    return lckv_processes_open(0, &ranks) == LCKV_OK ? 0 : -1;
}

static int close_ranks(void **state) {
    (void)state;
    lckv_processes_close(ranks);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_operations_on_views, reset, check_events),
        cmocka_unit_test_setup_teardown(test_two_ranks_on_one_gpu, reset, check_events),
        cmocka_unit_test_setup_teardown(test_the_failure_of_nccl_is_that_of_all, reset, check_events),
        cmocka_unit_test_setup_teardown(test_a_failure_aborts_nccl, reset, check_events),
        cmocka_unit_test_setup_teardown(test_a_lost_rank_aborts_nccl, reset, check_events),
        cmocka_unit_test_setup_teardown(test_a_rank_is_lost_while_a_launch_waits_for_it, reset, check_events),
        cmocka_unit_test_setup_teardown(test_a_rank_is_lost_during_a_launch, reset, check_events),
        cmocka_unit_test_setup_teardown(test_a_launch_has_the_time_limit, reset, check_events),
        cmocka_unit_test_setup_teardown(test_a_gpu_that_hangs, reset, check_events),
        cmocka_unit_test_setup_teardown(test_recorded_operations, reset, check_events),
        cmocka_unit_test_setup_teardown(test_operations_aside, reset, check_events),
        cmocka_unit_test_setup_teardown(test_waits_are_measured, reset, check_events),
        cmocka_unit_test_setup_teardown(test_sums_of_peers, reset, check_events),
        cmocka_unit_test_setup_teardown(test_ranks_without_peer_memory, reset, check_events),
        cmocka_unit_test_setup_teardown(test_a_lost_rank_stops_sums_of_peers, reset, check_events),
    };
    return cmocka_run_group_tests(tests, open_ranks, close_ranks);
}
