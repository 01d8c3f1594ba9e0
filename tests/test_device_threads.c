/* Threads of steps of few rows: each part of each job runs once, threads that sleep are woken, and a job does not wait
 * for threads that do not come. */
#include "base/clock.h"
#include "device/cpu/threads.h"

#include "expect.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

enum { MAX_PARTS = 64 };

typedef struct job {
    int number;
    int threads[MAX_PARTS];
    int runs[MAX_PARTS]; /* of each part; not atomic, so that a part that runs twice at once is a data race */
    int numbers[MAX_PARTS];
} job;

static void count_part(void *argument, int part, int thread) {
    job *j = argument;
    j->threads[part] = thread;
    j->runs[part]++;
    j->numbers[part] = j->number;
}

static void run_jobs(int threads, int jobs, int pause_every) {
    cpu_threads *all = cpu_threads_create(threads);
    assert_non_null(all);
    for (int i = 0; i < jobs; i++) {
        job j = {.number = i};
        int parts = 1 + i * 7 % MAX_PARTS;
        cpu_threads_run(all, parts, count_part, &j);
        for (int part = 0; part < MAX_PARTS; part++) {
            assert_int_equal(j.runs[part], part < parts);
            assert_int_equal(j.numbers[part], part < parts ? i : 0);
            assert_in_range(j.threads[part], 0, threads - 1);
        }
        if (pause_every && i % pause_every == 0) usleep(2000);
    }
    cpu_threads_free(all);
}

static void every_part_runs_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= 5; threads++) run_jobs(threads, 5000, 0);
    run_jobs(3, 100, 1);
    for (int i = 0; i < 50; i++) run_jobs(4, i % 3, 0);
    cpu_threads_free(NULL);
}

/* Two parts that wait for each other. */
typedef struct meeting {
    atomic_int arrived;
    atomic_bool late;
} meeting;

static void meet(void *argument, int part, int thread) {
    meeting *m = argument;
    (void)part, (void)thread;
    atomic_fetch_add(&m->arrived, 1);
    for (double begin = clock_seconds(); atomic_load(&m->arrived) < 2;) {
        if (clock_seconds() - begin > 60) atomic_store(&m->late, true);
        if (atomic_load(&m->late)) return;
        usleep(10);
    }
}

static void sleeping_threads_are_woken(void **state) {
    (void)state;
    cpu_threads *all = cpu_threads_create(2);
    for (int i = 0; i < 20; i++) {
        meeting m = {0};
        usleep(i % 2 ? 10000 : 0);
        cpu_threads_run(all, 2, meet, &m);
        assert_false(atomic_load(&m.late));
    }
    cpu_threads_free(all);
}

/* The only helper is kept busy by a part; the caller runs the others. */
typedef struct hold {
    atomic_int others; /* parts that have run */
    atomic_bool late;
} hold;

static void hold_helper(void *argument, int part, int thread) {
    hold *h = argument;
    double begin = clock_seconds();
    (void)part;
    usleep(100);
    while (thread != 0 && atomic_load(&h->others) < 30 && !atomic_load(&h->late)) {
        usleep(10);
        if (clock_seconds() - begin > 60) atomic_store(&h->late, true);
    }
    atomic_fetch_add(&h->others, 1);
}

static void a_busy_thread_holds_up_nothing_else(void **state) {
    (void)state;
    cpu_threads *all = cpu_threads_create(2);
    hold h = {0};
    cpu_threads_run(all, 32, hold_helper, &h);
    assert_false(atomic_load(&h.late));
    assert_int_equal(atomic_load(&h.others), 32);
    cpu_threads_free(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_runs_once),
        cmocka_unit_test(sleeping_threads_are_woken),
        cmocka_unit_test(a_busy_thread_holds_up_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
