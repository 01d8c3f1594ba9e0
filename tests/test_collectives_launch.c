/* The variables of launchers, right and wrong, and the first host of Slurm's lists. */
#include "collectives/launch.h"

#include "expect.h"

#include <unistd.h>

static const char *const VARIABLES[] = {"RANK",
                                        "WORLD_SIZE",
                                        "LOCAL_RANK",
                                        "LOCAL_WORLD_SIZE",
                                        "MASTER_ADDR",
                                        "MASTER_PORT",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "PMI_SIZE",
                                        "PMIX_NAMESPACE",
                                        "SLURM_PROCID",
                                        "SLURM_NTASKS",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_LOCALID",
                                        "SLURM_JOB_ID",
                                        "SLURM_STEP_ID",
                                        "SLURM_JOB_NODELIST",
                                        "SLURM_STEP_NODELIST",
                                        "SLURM_LAUNCH_NODE_IPADDR",
                                        "ENVIRONMENT"};

/* Reads an environment with these variables alone: "NAME=VALUE", NULL at the end. */
static int read_from(const char *const *words, launch *l) {
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++) unsetenv(VARIABLES[i]);
    for (; *words; words++) {
        char word[256];
        snprintf(word, sizeof word, "%s", *words);
        char *value = strchr(word, '=');
        *value++ = '\0';
        setenv(word, value, 1);
    }
    return launch_read(l);
}

#define READ(l, ...) read_from((const char *const[]){__VA_ARGS__, NULL}, (l))
#define REFUSED(part, ...) FAILS(READ(&l, __VA_ARGS__), LCKV_ERROR_ARGUMENT, part)
#define TORCHRUN "WORLD_SIZE=4", "LOCAL_RANK=1", "MASTER_ADDR=node1", "MASTER_PORT=29500"

static void test_alone(void **state) {
    (void)state;
    launch l;
    OK(READ(&l, NULL));
    assert_true(l.kind == LAUNCH_ALONE && l.ranks == 1);
    OK(READ(&l, "RANK=0", "WORLD_SIZE=1"));
    assert_true(l.kind == LAUNCH_ALONE);
    OK(READ(&l, "RANK=", "WORLD_SIZE="));
    assert_true(l.kind == LAUNCH_ALONE);
    OK(READ(&l, "OMPI_COMM_WORLD_SIZE=1"));
    assert_true(l.kind == LAUNCH_ALONE);
    OK(READ(&l, "MASTER_ADDR=node1", "LOCAL_RANK=0"));
    assert_true(l.kind == LAUNCH_ALONE);
}

static void test_torchrun(void **state) {
    (void)state;
    launch l;
    OK(READ(&l, "RANK=3", "LOCAL_WORLD_SIZE=2", TORCHRUN));
    assert_true(l.kind == LAUNCH_TCP && l.rank == 3 && l.ranks == 4 && l.local_rank == 1 && l.sharing == 2);
    assert_string_equal(l.host, "node1");
    assert_int_equal(l.port, 29501);
    OK(READ(&l, "RANK=3", "WORLD_SIZE=4", "MASTER_ADDR=::1", "MASTER_PORT=65534"));
    assert_true(l.local_rank == -1 && l.sharing == 1 && l.port == 65535);
    /* inside of a step of Slurm, torchrun's variables count */
    OK(READ(&l, "RANK=3", "SLURM_PROCID=0", "SLURM_NTASKS=2", "PMI_SIZE=2", TORCHRUN));
    assert_true(l.kind == LAUNCH_TCP && l.rank == 3 && l.ranks == 4);
}

static void test_wrong_torchrun(void **state) {
    (void)state;
    launch l;
    char host[300], long_host[320];
    REFUSED("WORLD_SIZE is \"4\", but RANK is not set", TORCHRUN);
    REFUSED("WORLD_SIZE is not set", "RANK=0");
    REFUSED("RANK is 4, but WORLD_SIZE is 4: expected a rank from 0 to 3", "RANK=4", TORCHRUN);
    REFUSED("RANK: expected a number from 0", "RANK=-1", TORCHRUN);
    REFUSED("found \"1x\"", "RANK=1x", TORCHRUN);
    REFUSED("found \" 1\"", "RANK= 1", TORCHRUN);
    REFUSED("found \"99999999999999999999\"", "RANK=99999999999999999999", TORCHRUN);
    REFUSED("WORLD_SIZE: expected a number from 1", "RANK=0", "WORLD_SIZE=0");
    REFUSED("WORLD_SIZE: expected a number from 1", "RANK=0", "WORLD_SIZE=four");
    REFUSED("LOCAL_RANK: expected a number", "RANK=0", "WORLD_SIZE=2", "LOCAL_RANK=a");
    REFUSED("LOCAL_RANK is 2, but there are 2 processes", "RANK=0", "WORLD_SIZE=2", "LOCAL_RANK=2");
    REFUSED("LOCAL_WORLD_SIZE is 1, but", "RANK=0", "LOCAL_WORLD_SIZE=1", TORCHRUN);
    REFUSED("LOCAL_WORLD_SIZE is 5, but", "RANK=0", "LOCAL_WORLD_SIZE=5", TORCHRUN);
    REFUSED("MASTER_ADDR is not set", "RANK=0", "WORLD_SIZE=2", "MASTER_PORT=29500");
    REFUSED("MASTER_PORT is not set", "RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=node1");
    REFUSED("MASTER_PORT: expected a number from 1 to 65534, found \"65535\"", "RANK=0", "WORLD_SIZE=2",
            "MASTER_ADDR=node1", "MASTER_PORT=65535");
    REFUSED("found \"0\"", "RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=node1", "MASTER_PORT=0");
    memset(host, 'h', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    snprintf(long_host, sizeof long_host, "MASTER_ADDR=%.*s", 240, host);
    OK(READ(&l, "RANK=0", "WORLD_SIZE=2", long_host, "MASTER_PORT=29500"));
}

static void test_slurm(void **state) {
    (void)state;
    launch l;
    OK(READ(&l, "SLURM_PROCID=5", "SLURM_NTASKS=8", "SLURM_LOCALID=1", "SLURM_JOB_NODELIST=gpu[003-004]",
            "SLURM_JOB_ID=15007", "SLURM_STEP_ID=0"));
    assert_true(l.kind == LAUNCH_TCP && l.rank == 5 && l.ranks == 8 && l.local_rank == 1 && l.sharing == 1);
    assert_string_equal(l.host, "gpu003");
    int port = l.port;
    assert_true(port >= 15000 && port < 30000);
    OK(READ(&l, "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_LOCALID=0", "SLURM_JOB_NODELIST=gpu[003-004]",
            "SLURM_JOB_ID=15007", "SLURM_STEP_ID=0"));
    assert_int_equal(l.port, port);
    OK(READ(&l, "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_JOB_NODELIST=gpu[003-004]", "SLURM_JOB_ID=15007",
            "SLURM_STEP_ID=1"));
    assert_int_not_equal(l.port, port);
    assert_int_equal(l.local_rank, -1);
    /* the host of srun is the last choice, MASTER_ADDR the first, and a step's own numbers go before the job's */
    OK(READ(&l, "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_LAUNCH_NODE_IPADDR=10.0.0.7"));
    assert_string_equal(l.host, "10.0.0.7");
    OK(READ(&l, "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_STEP_NUM_TASKS=2", "SLURM_JOB_NODELIST=a,b",
            "SLURM_STEP_NODELIST=b", "SLURM_LAUNCH_NODE_IPADDR=10.0.0.7"));
    assert_string_equal(l.host, "b");
    assert_int_equal(l.ranks, 2);
    OK(READ(&l, "SLURM_PROCID=1", "SLURM_NTASKS=4", "SLURM_JOB_NODELIST=a,b", TORCHRUN));
    assert_string_equal(l.host, "node1");
    assert_true(l.port == 29501 && l.rank == 1);
}

/* sbatch runs the batch script once, whatever the number of tasks. */
static void test_slurm_starts_one_process(void **state) {
    (void)state;
    launch l;
    OK(READ(&l, "ENVIRONMENT=BATCH", "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_JOB_NODELIST=a"));
    assert_true(l.kind == LAUNCH_ALONE);
    OK(READ(&l, "ENVIRONMENT=BATCH", "SLURM_STEP_ID=0", "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_JOB_NODELIST=a"));
    assert_true(l.kind == LAUNCH_TCP);
    OK(READ(&l, "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_STEP_NUM_TASKS=1"));
    assert_true(l.kind == LAUNCH_ALONE);
    OK(READ(&l, "SLURM_NTASKS=8", "SLURM_JOB_NODELIST=a")); /* salloc */
    assert_true(l.kind == LAUNCH_ALONE);
}

static void test_wrong_slurm(void **state) {
    (void)state;
    launch l;
    REFUSED("SLURM_NTASKS is not set", "SLURM_PROCID=0");
    REFUSED("SLURM_PROCID is 2, but SLURM_NTASKS is 2", "SLURM_PROCID=2", "SLURM_NTASKS=2");
    REFUSED("SLURM_JOB_NODELIST is not set", "SLURM_PROCID=1", "SLURM_NTASKS=2");
    REFUSED("SLURM_STEP_NODELIST: expected a list of hosts, found \"x[\"", "SLURM_PROCID=1", "SLURM_NTASKS=2",
            "SLURM_STEP_NODELIST=x[", "SLURM_JOB_NODELIST=a,b");
    REFUSED("SLURM_JOB_NODELIST: expected a list of hosts, found \"gpu[1-2\"", "SLURM_PROCID=1", "SLURM_NTASKS=2",
            "SLURM_JOB_NODELIST=gpu[1-2");
    REFUSED("WORLD_SIZE is 4, but Slurm started 2", "SLURM_PROCID=1", "SLURM_NTASKS=2", "SLURM_JOB_NODELIST=a",
            "WORLD_SIZE=4");
    REFUSED("SLURM_JOB_ID: expected a number", "SLURM_PROCID=1", "SLURM_NTASKS=2", "SLURM_JOB_NODELIST=a",
            "SLURM_JOB_ID=x");
}

static void test_mpi(void **state) {
    (void)state;
    launch l;
    OK(READ(&l, "OMPI_COMM_WORLD_SIZE=4"));
    assert_true(l.kind == LAUNCH_MPI && l.ranks == 4);
    OK(READ(&l, "PMI_SIZE=4"));
    assert_true(l.kind == LAUNCH_MPI && l.ranks == 4);
    OK(READ(&l, "PMIX_NAMESPACE=slurm.pmix.1.0"));
    assert_true(l.kind == LAUNCH_MPI && l.ranks == 0);
    REFUSED("PMI_SIZE: expected a number", "PMI_SIZE=many");
}

static void test_first_host(void **state) {
    (void)state;
    static const struct {
        const char *list, *first; /* NULL: refused */
    } CASES[] = {
        {"a", "a"},
        {"a.example.org,b", "a.example.org"},
        {"n[1]", "n1"},
        {"n[07-12,15]", "n07"},
        {"n[7,9-10],m[1-2]", "n7"},
        {"n[1-2]-ib", "n1-ib"},
        {"r[2-3]n[04-05]", "r2n04"},
        {"", NULL},
        {",a", NULL},
        {"n[1-2", NULL},
        {"n1]", NULL},
    };
    char host[LAUNCH_HOST_BYTES], list[2 * LAUNCH_HOST_BYTES];
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        assert_int_equal(launch_first_host(CASES[i].list, host), CASES[i].first != NULL);
        if (CASES[i].first) assert_string_equal(host, CASES[i].first);
    }
    memset(list, '1', sizeof list - 1);
    list[sizeof list - 1] = '\0';
    assert_false(launch_first_host(list, host));
    list[0] = '[', list[sizeof list - 2] = ']';
    assert_false(launch_first_host(list, host));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_torchrun),
        cmocka_unit_test(test_wrong_torchrun),
        cmocka_unit_test(test_slurm),
        cmocka_unit_test(test_slurm_starts_one_process),
        cmocka_unit_test(test_wrong_slurm),
        cmocka_unit_test(test_mpi),
        cmocka_unit_test(test_first_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
