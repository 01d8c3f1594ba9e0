/* Processes that join over TCP: ranks that are missing, doubled or do not fit, programs that are not lckv, and ranks
 * that end or hang later. Each rank is a process of the test; it reports the status and message of what it did. */
#include "collectives/collectives.h"

#include "base/clock.h"

#include "expect.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_PROCESSES = 8, TEXT = 512 };
static const double LIMIT = 2, SLACK = 8 /* seconds that a loaded machine may add */;

typedef struct report {
    int status;
    char message[TEXT];
    double seconds;
} report;

/* What a process does after it has joined; it returns a status. */
typedef int (*work)(const lckv_processes *p);

typedef struct process {
    int rank, ranks;
    work then;
    const char *host; /* NULL: 127.0.0.1 */
    pid_t id;
    int from; /* of its report */
} process;

static int port; /* MASTER_PORT of the current test */

static void set_number(const char *name, int number) {
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    setenv(name, text, 1);
}

static report run_rank(const process *p) {
    report r = {0};
    lckv_processes *ranks = NULL;
    set_number("RANK", p->rank);
    set_number("WORLD_SIZE", p->ranks);
    set_number("MASTER_PORT", port);
    setenv("MASTER_ADDR", p->host ? p->host : "127.0.0.1", 1);
    double begin = clock_seconds();
    r.status = lckv_processes_open(LIMIT, &ranks);
    if (r.status >= 0) begin = clock_seconds();
    if (r.status >= 0 && p->then) r.status = p->then(ranks);
    r.seconds = clock_seconds() - begin;
    if (r.status < 0) snprintf(r.message, sizeof r.message, "%s", lckv_last_error());
    lckv_processes_close(ranks);
    return r;
}

static void start(process *p) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    p->id = fork();
    assert_true(p->id >= 0);
    p->from = ends[0];
    if (p->id) {
        close(ends[1]);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    report r = run_rank(p);
    _exit(write(ends[1], &r, sizeof r) != sizeof r);
}

/* The report is all zero if the process has ended without one. */
static report finish(process *p) {
    report r = {0};
    if (read(p->from, &r, sizeof r) != sizeof r) memset(&r, 0, sizeof r);
    close(p->from);
    assert_int_equal(waitpid(p->id, NULL, 0), p->id);
    return r;
}

static void expect_failure(const report *r, const char *part) {
    if (r->status != LCKV_ERROR_DEVICE || !strstr(r->message, part))
        fail_msg("expected status %d and '%s', found %d and '%s'", LCKV_ERROR_DEVICE, part, r->status, r->message);
}

static void run_all(process *list, int count, report *reports) {
    for (int i = 0; i < count; i++) start(&list[i]);
    for (int i = 0; i < count; i++) reports[i] = finish(&list[i]);
}

/* A socket that listens on the loopback interface, and its port. */
static int listener(int *bound) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && !bind(fd, (struct sockaddr *)&at, bytes) && !listen(fd, 4));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    *bound = ntohs(at.sin_port);
    return fd;
}

static int choose_port(void **state) {
    (void)state;
    int bound;
    close(listener(&bound));
    port = bound - 1;
    return 0;
}

#define JOIN_TEST(test) cmocka_unit_test_setup(test, choose_port)

/* ---------------------------------------------------------------- joining */

static int check_all_are_there(const lckv_processes *p) {
    float one = 1;
    TRY(collectives_all_reduce(p, (view){&one, 1, 1, DTYPE_F32}));
    return one == (float)p->ranks ? LCKV_OK : status_of_failure(LCKV_ERROR_NUMERIC);
}

static void test_names_and_addresses_of_this_host(void **state) {
    (void)state;
    static const char *const HOSTS[] = {"127.0.0.1", "localhost", "0.0.0.0"};
    for (size_t i = 0; i < sizeof HOSTS / sizeof *HOSTS; i++) {
        report r[3];
        process p[3] = {{2, 3, check_all_are_there, HOSTS[i]},
                        {0, 3, check_all_are_there, HOSTS[i]},
                        {1, 3, check_all_are_there, HOSTS[i]}};
        choose_port(state);
        run_all(p, 3, r);
        for (int k = 0; k < 3; k++)
            if (r[k].status) fail_msg("%s, rank %d: %s", HOSTS[i], p[k].rank, r[k].message);
    }
}

static void test_a_rank_that_never_comes(void **state) {
    (void)state;
    report r[2];
    process p[2] = {{0, 4}, {2, 4}};
    run_all(p, 2, r);
    for (int i = 0; i < 2; i++) {
        expect_failure(&r[i], "2 of 4 processes have joined within 2 s, missing: 1, 3");
        assert_true(r[i].seconds < LIMIT + SLACK);
    }
    assert_non_null(strstr(r[1].message, "process 2 of 4: 127.0.0.1:"));
}

static void test_nobody_listens(void **state) {
    (void)state;
    report r;
    process p = {1, 2};
    run_all(&p, 1, &r);
    expect_failure(&r, "cannot reach process 0 within 2 s (Connection refused)");
    assert_true(r.seconds < LIMIT + SLACK);
}

static void test_an_unknown_host(void **state) {
    (void)state;
    report r;
    process p = {1, 2, NULL, "no-such-host.invalid"};
    run_all(&p, 1, &r);
    expect_failure(&r, "process 1 of 2: no-such-host.invalid:");
    expect_failure(&r, "cannot reach process 0 within 2 s");
}

static void test_two_processes_have_one_rank(void **state) {
    (void)state;
    report r[3];
    process p[3] = {{0, 3}, {1, 3}, {1, 3}};
    run_all(p, 3, r);
    for (int i = 0; i < 3; i++) expect_failure(&r[i], "two processes have rank 1");
}

/* By another rank 0, or by another program. */
static void test_the_port_is_in_use(void **state) {
    (void)state;
    report r;
    int bound, fd = listener(&bound);
    port = bound - 1;
    process p = {0, 2};
    run_all(&p, 1, &r);
    expect_failure(&r, "is in use: by another process with rank 0");
    assert_true(r.seconds < LIMIT + SLACK);
    close(fd);
}

static void test_other_numbers_of_processes(void **state) {
    (void)state;
    report r[2];
    process p[2] = {{0, 2}, {1, 3}};
    run_all(p, 2, r);
    for (int i = 0; i < 2; i++)
        expect_failure(&r[i], "process 1 was started as one of 3 processes, process 0 as one of 2");
}

/* ---------------------------------------------------------------- other programs */

static int dial(void) {
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)(port + 1))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    for (int i = 0; i < 200; i++) {
        if (!connect(fd, (struct sockaddr *)&at, sizeof at)) return fd;
        usleep(10000);
    }
    fail_msg("nobody listens");
    return -1;
}

/* Programs that scan ports connect and leave, or send something else. */
static void test_strangers_are_ignored(void **state) {
    (void)state;
    static const char REQUEST[200] = "GET / HTTP/1.1\r\n\r\n";
    process p[2] = {{0, 2, check_all_are_there}, {1, 2, check_all_are_there}};
    start(&p[0]);
    close(dial());
    int fd = dial();
    assert_int_equal(write(fd, REQUEST, sizeof REQUEST), sizeof REQUEST);
    start(&p[1]);
    for (int i = 0; i < 2; i++) {
        report r = finish(&p[i]);
        if (r.status) fail_msg("%s", r.message);
    }
    close(fd);
}

static void test_another_program_listens(void **state) {
    (void)state;
    char bytes[4096];
    int bound, fd = listener(&bound);
    port = bound - 1;
    process p = {1, 2};
    start(&p);
    int client = accept(fd, NULL, NULL);
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(write(client, bytes, sizeof bytes), sizeof bytes);
    report r = finish(&p);
    expect_failure(&r, "the program that listens there is not lckv");
    close(client);
    close(fd);
}

/* ---------------------------------------------------------------- ranks that are lost */

static int sum_on_and_on(const lckv_processes *p) {
    enum { COUNT = 300000 };
    static float data[COUNT];
    int64_t begin[MAX_PROCESSES + 1] = {0};
    for (int r = 1; r <= p->ranks; r++) begin[r] = (int64_t)COUNT * r / p->ranks;
    collectives_parts parts = {data, DTYPE_F32, begin};
    for (;;) {
        TRY(collectives_agree(p, collectives_reduce_scatter(p, parts)));
        TRY(collectives_all_gather(p, parts));
    }
}

static void test_a_rank_that_is_killed(void **state) {
    (void)state;
    for (int dead = 0; dead < 4; dead++) {
        process p[4] = {{0, 4, sum_on_and_on}, {1, 4, sum_on_and_on}, {2, 4, sum_on_and_on}, {3, 4, sum_on_and_on}};
        char expected[64];
        choose_port(state);
        for (int i = 0; i < 4; i++) start(&p[i]);
        usleep(300000);
        assert_int_equal(kill(p[dead].id, SIGKILL), 0);
        snprintf(expected, sizeof expected, "process %d of 4 is lost", dead);
        for (int i = 0; i < 4; i++) {
            report r = finish(&p[i]);
            if (i != dead) expect_failure(&r, expected);
            assert_true(r.seconds < LIMIT + SLACK);
        }
    }
}

static int never_answer(const lckv_processes *p) {
    (void)p;
    usleep(20000000);
    return LCKV_OK;
}

static void test_a_rank_that_hangs(void **state) {
    (void)state;
    process p[3] = {{0, 3, sum_on_and_on}, {1, 3, never_answer}, {2, 3, sum_on_and_on}};
    for (int i = 0; i < 3; i++) start(&p[i]);
    report first = finish(&p[0]), last = finish(&p[2]);
    kill(p[1].id, SIGKILL);
    finish(&p[1]);
    expect_failure(&first, "process 1 of 3 has not answered for 2 s");
    expect_failure(&last, "process 1 of 3 has not answered for 2 s");
    assert_true(first.seconds < LIMIT + SLACK && last.seconds < LIMIT + SLACK);
}

static int wait_for_next(const lckv_processes *p) {
    char byte = 0;
    usleep((useconds_t)(200000 * p->rank)); /* the first to wait in vain is the farthest from the cause */
    return collectives_broadcast(p, (view){&byte, 1, 1, DTYPE_U8}, p->rank + 1);
}

static void test_ranks_that_wait_for_others_do_not_hang(void **state) {
    (void)state;
    process p[4] = {{0, 4, wait_for_next}, {1, 4, wait_for_next}, {2, 4, wait_for_next}, {3, 4, never_answer}};
    for (int i = 0; i < 4; i++) start(&p[i]);
    for (int i = 0; i < 3; i++) {
        report r = finish(&p[i]);
        expect_failure(&r, "process 3 of 4 has not answered for 2 s");
        assert_true(r.seconds < LIMIT + SLACK);
    }
    kill(p[3].id, SIGKILL);
    finish(&p[3]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        JOIN_TEST(test_names_and_addresses_of_this_host),
        JOIN_TEST(test_a_rank_that_never_comes),
        JOIN_TEST(test_nobody_listens),
        JOIN_TEST(test_an_unknown_host),
        JOIN_TEST(test_two_processes_have_one_rank),
        JOIN_TEST(test_the_port_is_in_use),
        JOIN_TEST(test_other_numbers_of_processes),
        JOIN_TEST(test_strangers_are_ignored),
        JOIN_TEST(test_another_program_listens),
        JOIN_TEST(test_a_rank_that_is_killed),
        JOIN_TEST(test_a_rank_that_hangs),
        JOIN_TEST(test_ranks_that_wait_for_others_do_not_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
