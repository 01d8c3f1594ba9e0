/* Repeated work: first executed normally, then captured, then replayed; started again if memory moved or the key
 * changed. On the CPU, with recording entries that count their calls. */
#include "graph/replay.h"

#include "expect.h"

struct device_program {
    int number;
};

static struct calls {
    int begun, ended, forgotten, replayed, released, worked;
    bool recording;
} calls;

static int begin(device *d) {
    (void)d;
    assert_false(calls.recording);
    calls.recording = true;
    calls.begun++;
    return LCKV_OK;
}

static int end(device *d, device_program **out) {
    (void)d;
    assert_true(calls.recording);
    calls.recording = false;
    if (!out) {
        calls.forgotten++;
        return LCKV_OK;
    }
    *out = calloc(1, sizeof **out);
    assert_non_null(*out);
    (*out)->number = ++calls.ended;
    return LCKV_OK;
}

static int replay_program(device *d, device_program *p) {
    (void)d;
    assert_int_equal(p->number, calls.ended);
    calls.replayed++;
    return LCKV_OK;
}

static void release(device *d, device_program *p) {
    (void)d;
    calls.released++;
    free(p);
}

typedef struct workshop {
    device *device;
    graph *graph;
    size_t bytes;
    int status;
} workshop;

static void open_workshop(workshop *w, bool records) {
    calls = (struct calls){0};
    *w = (workshop){.bytes = 1000};
    OK(device_open("cpu", 1, &w->device));
    if (records) w->device->recording = (struct device_recording){begin, end, replay_program, release};
    OK(graph_create(w->device, DTYPE_F32, false, &w->graph));
}

static void close_workshop(workshop *w) {
    graph_free(w->graph);
    device_close(w->device);
}

static int work(void *user) {
    workshop *w = user;
    tensor *t;
    calls.worked++;
    if (w->status < 0) return w->status;
    TRY(graph_tensor(w->graph, 1, (int64_t)w->bytes, DTYPE_U8, &t));
    tensor_release(w->graph, t);
    return LCKV_OK;
}

static int run(workshop *w, replay *r, int64_t value) {
    replay_key key = {{value}};
    int status = replay_run(r, w->graph, &key, work, w);
    OK(graph_reset(w->graph));
    return status;
}

static void what_stands_still_is_replayed(void **state) {
    (void)state;
    workshop w;
    replay r = {0};
    open_workshop(&w, true);
    for (int i = 0; i < 6; i++) OK(run(&w, &r, 1));
    /* the pool allocated in the first round and did not change in the second; the third was captured */
    assert_int_equal(calls.worked, 3);
    assert_int_equal(calls.begun, 1);
    assert_int_equal(calls.replayed, 4);
    OK(run(&w, &r, 2)); /* another key: starts again */
    assert_int_equal(calls.worked, 4);
    assert_int_equal(calls.released, 1);
    for (int i = 0; i < 2; i++) OK(run(&w, &r, 2));
    assert_int_equal(calls.replayed, 6);
    w.bytes = 64 << 20; /* other work changes the pool's addresses */
    OK(work(&w));
    OK(graph_reset(w.graph));
    w.bytes = 1000;
    OK(run(&w, &r, 2));
    assert_int_equal(calls.replayed, 6);
    assert_int_equal(calls.released, 2);
    for (int i = 0; i < 2; i++) OK(run(&w, &r, 2));
    assert_int_equal(calls.replayed, 8);
    replay_forget(&r, w.device);
    assert_int_equal(calls.released, 3);
    assert_int_equal(calls.ended, 3);
    close_workshop(&w);
}

static void failures_leave_nothing_recorded(void **state) {
    (void)state;
    workshop w;
    replay r = {0};
    replay_key key = {{1}};
    open_workshop(&w, true);
    for (int i = 0; i < 2; i++) OK(run(&w, &r, 1));
    w.status = LCKV_ERROR_DEVICE;
    assert_int_equal(run(&w, &r, 1), LCKV_ERROR_DEVICE);
    assert_false(calls.recording);
    assert_int_equal(calls.forgotten, 1);
    assert_false(replay_knows(&r, &key));
    w.status = LCKV_OK;
    for (int i = 0; i < 2; i++) OK(run(&w, &r, 1));
    assert_int_equal(calls.replayed, 1);
    replay_forget(&r, w.device);
    close_workshop(&w);
}

static void devices_without_recording_work_as_it_comes(void **state) {
    (void)state;
    workshop w;
    replay r = {0};
    open_workshop(&w, false);
    for (int i = 0; i < 4; i++) OK(run(&w, &r, 1));
    assert_int_equal(calls.worked, 4);
    replay_forget(&r, w.device);
    close_workshop(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stands_still_is_replayed),
        cmocka_unit_test(failures_leave_nothing_recorded),
        cmocka_unit_test(devices_without_recording_work_as_it_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
