/* Sums between GPUs through peer memory (src/collectives/nccl/peer_sums.h): their bits, many of them at once and in
 * recorded steps, and a rank that is lost. The program starts itself as 2, 3, 4 and 8 ranks, as far as there are GPUs;
 * with fewer than two it skips. */
#include "base/clock.h"
#include "base/rng.h"
#include "collectives/collectives.h"
#include "device/gpu.h"

#include "expect.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT = GPU_PEER_BYTES / sizeof(float) };

static lckv_processes *host;
static device *gpu;
static collectives *ranks;
static bool by_peers; /* small sums go through peer memory */

/* ---------------------------------------------------------------- values */

/* Element i of rank r. Sums of integers are exact in any order. */
static double value_of(int r, int64_t i, uint64_t seed, bool integers) {
    double x = rng_uniform(seed, (uint64_t)r, (uint64_t)i) - 0.5;
    return integers ? (double)(int)(1024 * x) : x;
}

static void set(view v, void *host_memory, int64_t i, double x) {
    if (v.type == DTYPE_F64)
        ((double *)host_memory)[i] = x;
    else
        ((float *)host_memory)[i] = (float)x;
}

/* Added in the order of ranks, in the type of v. */
static void fill_sums(view v, void *sums, uint64_t seed, bool integers) {
    for (int64_t i = 0; i < v.cols; i++) {
        double sum = 0;
        float narrow = 0;
        for (int r = 0; r < ranks->ranks; r++) {
            double x = value_of(r, i, seed, integers);
            sum = r ? sum + x : x;
            narrow = r ? narrow + (float)x : (float)x;
        }
        set(v, sums, i, v.type == DTYPE_F64 ? sum : (double)narrow);
    }
}

static void fill_mine(view v, void *mine, uint64_t seed, bool integers) {
    for (int64_t i = 0; i < v.cols; i++) set(v, mine, i, value_of(ranks->rank, i, seed, integers));
}

static void *host_memory(size_t bytes) {
    void *memory = malloc(bytes);
    assert_non_null(memory);
    return memory;
}

static view gpu_view(int64_t count, dtype type) {
    view v = {NULL, 1, count, type, NULL};
    OK(gpu->memory.alloc(gpu, view_bytes(v), &v.data));
    return v;
}

static void copy_out(view v, void *to) {
    OK(gpu->memory.copy_out(gpu, to, v.data, view_bytes(v)));
    OK(gpu->memory.wait(gpu));
}

static void same_bits(const void *found, const void *expected, view v, const char *what) {
    size_t each = dtype_element_bytes(v.type);
    for (int64_t i = 0; i < v.cols; i++)
        if (memcmp((const char *)found + (size_t)i * each, (const char *)expected + (size_t)i * each, each))
            fail_msg("rank %d, %s: element %lld of %lld %s differs", ranks->rank, what, (long long)i, (long long)v.cols,
                     dtype_name(v.type));
}

/* ---------------------------------------------------------------- sums of one view */

static void need_peers(void) {
    if (!by_peers) SKIP("built without NCCL, or the GPUs have no access to each other's memory");
}

/* NCCL adds views beyond the limit, in another order. A view need not be aligned beyond its type. */
static void check_size(int64_t count, dtype type) {
    view all = gpu_view(count + 1, type), v = all;
    v.cols = count;
    v.data = (char *)all.data + dtype_element_bytes(type);
    void *mine = host_memory(view_bytes(v)), *sums = host_memory(view_bytes(v));
    bool integers = view_bytes(v) > GPU_PEER_BYTES;
    fill_mine(v, mine, 5, integers);
    fill_sums(v, sums, 5, integers);
    OK(gpu->memory.copy_in(gpu, v.data, mine, view_bytes(v)));
    OK(collectives_all_reduce(ranks, v));
    copy_out(v, mine);
    same_bits(mine, sums, v, "one sum");
    gpu->memory.release(gpu, all.data);
    free(mine);
    free(sums);
}

static void test_sizes(void **state) {
    (void)state;
    const int64_t counts[] = {1, 2, 3, 511, 512, 513, 4096, 4097, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT};
    need_peers();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        check_size(counts[i], DTYPE_F32);
        check_size((counts[i] + 1) / 2, DTYPE_F64);
    }
}

/* ---------------------------------------------------------------- many sums */

enum { SLICES = 4000 };

/* Most slices are small, some as large as a sum may be; their sizes differ from one to the next. */
static int64_t slice_count(int i, uint64_t seed) {
    double most = i % 16 ? 4096 : LIMIT;
    return 1 + (int64_t)(rng_uniform(seed, 1000, (uint64_t)i) * (most - 1));
}

/* Ranks get ahead of each other at different places. */
static void fall_behind(int i, uint64_t seed) {
    if (rng_uniform(seed, 2000 + (uint64_t)ranks->rank, (uint64_t)i) < 0.02) usleep(1000);
}

static void add_slices(view all, uint64_t seed) {
    int64_t at = 0;
    for (int i = 0; i < SLICES; i++) {
        view v = all;
        v.cols = slice_count(i, seed);
        v.data = (float *)all.data + at;
        at += v.cols;
        OK(collectives_all_reduce(ranks, v));
        fall_behind(i, seed);
    }
}

static void test_many_sums_at_once(void **state) {
    (void)state;
    need_peers();
    for (uint64_t seed = 11; seed < 13; seed++) {
        int64_t count = 0;
        for (int i = 0; i < SLICES; i++) count += slice_count(i, seed);
        view all = gpu_view(count, DTYPE_F32);
        float *mine = host_memory(view_bytes(all)), *sums = host_memory(view_bytes(all));
        fill_mine(all, mine, seed, false);
        fill_sums(all, sums, seed, false);
        OK(gpu->memory.copy_in(gpu, all.data, mine, view_bytes(all)));
        OK(collectives_barrier(ranks));
        add_slices(all, seed);
        copy_out(all, mine);
        same_bits(mine, sums, all, "many sums");
        gpu->memory.release(gpu, all.data);
        free(mine);
        free(sums);
    }
}

/* ---------------------------------------------------------------- recorded steps */

enum { WIDTH = 1024, LAYERS = 8, REPLAYS = 1000 };

/* Layers of a product with this rank's weights, a sum over the ranks, and a norm: x becomes the last layer's result.
 * Kernels overlap (device/cuda/launch.h). */
typedef struct step {
    view x, product, weight, scale, rstd;
    bool waits; /* after each op, so that none overlap */
} step;

static int wait_if(const step *s) {
    return s->waits ? gpu->memory.wait(gpu) : LCKV_OK;
}

static int run_layer(const step *s) {
    TRY(DEVICE_RUN(gpu, linear, &(struct op_linear){.x = s->x, .weight = s->weight, .y = s->product}));
    TRY(wait_if(s));
    TRY(collectives_all_reduce(ranks, s->product));
    TRY(wait_if(s));
    const struct op_rms_norm norm = {.x = s->product, .weight = s->scale, .y = s->x, .rstd = s->rstd, .eps = 1e-5f};
    TRY(DEVICE_RUN(gpu, rms_norm, &norm));
    return wait_if(s);
}

static int run_step(const step *s) {
    for (int i = 0; i < LAYERS; i++) TRY(run_layer(s));
    return LCKV_OK;
}

static view bf16_view(int64_t rows, double scale, int stream) {
    view v = {NULL, rows, WIDTH, DTYPE_BF16, NULL}, wide = v;
    float *values = host_memory((size_t)(rows * WIDTH) * sizeof *values);
    for (int64_t i = 0; i < rows * WIDTH; i++) values[i] = (float)(scale * value_of(stream, i, 21, false));
    wide.type = DTYPE_F32;
    OK(gpu->memory.alloc(gpu, view_bytes(wide), &wide.data));
    OK(gpu->memory.alloc(gpu, view_bytes(v), &v.data));
    OK(gpu->memory.copy_in(gpu, wide.data, values, view_bytes(wide)));
    OK(DEVICE_RUN(gpu, cast, &(struct op_cast){.src = wide, .dst = v}));
    OK(gpu->memory.wait(gpu));
    gpu->memory.release(gpu, wide.data);
    free(values);
    return v;
}

static step make_step(void) {
    return (step){.x = bf16_view(1, 1, 100),
                  .product = gpu_view(WIDTH, DTYPE_F32),
                  .weight = bf16_view(WIDTH, 0.1, ranks->rank),
                  .scale = bf16_view(1, 2, 101),
                  .rstd = gpu_view(1, DTYPE_F32)};
}

static void free_step(const step *s) {
    const view views[] = {s->x, s->product, s->weight, s->scale, s->rstd};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) gpu->memory.release(gpu, views[i].data);
}

/* Each replay continues with the result of the one before. */
static void test_recorded_steps(void **state) {
    (void)state;
    device_program *program;
    float expected[WIDTH], found[WIDTH];
    need_peers();
    step waiting = make_step(), recorded = make_step();
    waiting.waits = true;
    for (int i = 0; i <= REPLAYS; i++) OK(run_step(&waiting));
    copy_out(waiting.product, expected);
    OK(run_step(&recorded)); /* workspaces grow */
    OK(gpu->memory.wait(gpu));
    OK(gpu->recording.begin(gpu));
    OK(run_step(&recorded));
    OK(gpu->recording.end(gpu, &program));
    for (int i = 0; i < REPLAYS; i++) {
        OK(gpu->recording.replay(gpu, program));
        OK(collectives_replayed(ranks));
        fall_behind(i, 31);
    }
    copy_out(recorded.product, found);
    same_bits(found, expected, recorded.product, "recorded steps");
    gpu->recording.release(gpu, program);
    OK(collectives_broadcast_host(ranks, found, sizeof found));
    same_bits(found, expected, recorded.product, "the result of rank 0");
    free_step(&waiting);
    free_step(&recorded);
}

/* ---------------------------------------------------------------- a rank that is lost */

enum { LOST_SECONDS = 30 };

/* The last rank ends before its part of a sum, for which the GPUs of the others wait. */
static void test_lost_rank(void **state) {
    (void)state;
    int last = ranks->ranks - 1;
    char message[64];
    need_peers();
    view v = gpu_view(4096, DTYPE_F32);
    for (int i = 0; i < 10; i++) OK(collectives_all_reduce(ranks, v));
    OK(gpu->memory.wait(gpu));
    OK(collectives_barrier(ranks));
    if (ranks->rank == last) {
        usleep(500000);
        raise(SIGKILL);
    }
    double begin = clock_seconds();
    for (int i = 0; i < 100; i++) OK(collectives_all_reduce(ranks, v));
    OK(gpu->memory.wait(gpu));
    snprintf(message, sizeof message, "process %d is lost", last);
    FAILS(collectives_replayed(ranks), LCKV_ERROR_DEVICE, message);
    assert_true(clock_seconds() - begin < LOST_SECONDS);
    gpu->memory.release(gpu, v.data);
}

/* ---------------------------------------------------------------- one rank */

static void read_log(void *user, lckv_log_level level, const char *message) {
    (void)level;
    if (strstr(message, "go through peer memory")) *(bool *)user = true;
}

static int open_gpus(void **state) {
    (void)state;
    lckv_set_log(read_log, &by_peers, LCKV_LOG_DEBUG);
    if (lckv_processes_open(60, &host) < 0) return -1;
    if (collectives_device_open(host, "cuda", 0, &gpu) < 0) return -1;
    int status = collectives_on_device(host, gpu, &ranks);
    if (status < 0) return status == LCKV_ERROR_UNSUPPORTED ? 0 : -1;
    return collectives_broadcast_host(host, &by_peers, sizeof by_peers); /* rank 0 logs it */
}

static int close_gpus(void **state) {
    (void)state;
    collectives_close(ranks);
    device_close(gpu);
    lckv_processes_close(host);
    return 0;
}

static int run_rank(bool loses) {
    const struct CMUnitTest lost[] = {cmocka_unit_test(test_lost_rank)};
    const struct CMUnitTest sums[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_many_sums_at_once),
        cmocka_unit_test(test_recorded_steps),
    };
    return loses ? cmocka_run_group_tests(lost, open_gpus, close_gpus)
                 : cmocka_run_group_tests(sums, open_gpus, close_gpus);
}

/* ---------------------------------------------------------------- starting the ranks */

static void set_number(const char *variable, int number) {
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    setenv(variable, text, 1);
}

static pid_t start_rank(int rank, int count, const char *what) {
    static char self[] = "/proc/self/exe";
    pid_t child = fork();
    if (child) return child;
    set_number("RANK", rank);
    set_number("LOCAL_RANK", rank);
    set_number("WORLD_SIZE", count);
    set_number("LOCAL_WORLD_SIZE", count);
    set_number("MASTER_PORT", 15000 + (int)getppid() % 15000);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    char words[2][64];
    snprintf(words[0], sizeof words[0], "%s", self);
    snprintf(words[1], sizeof words[1], "%s", what);
    execv(self, (char *[]){words[0], words[1], NULL});
    _exit(99);
}

/* `killed`: the last rank ends by a signal. */
static void run_ranks(int count, const char *what, bool killed) {
    pid_t children[GPU_MAX_PEERS];
    int states[GPU_MAX_PEERS], skipped = 0;
    for (int r = 0; r < count; r++) children[r] = start_rank(r, count, what);
    for (int r = 0; r < count; r++) waitpid(children[r], &states[r], 0);
    for (int r = 0; r < count; r++) {
        bool dies = killed && r == count - 1;
        if (WIFEXITED(states[r]) && WEXITSTATUS(states[r]) == SKIPPED_CODE)
            skipped++;
        else if (dies ? !WIFSIGNALED(states[r]) : !WIFEXITED(states[r]) || WEXITSTATUS(states[r]))
            fail_msg("%d ranks, %s: rank %d ended with state %x", count, what, r, (unsigned)states[r]);
    }
    if (skipped) SKIP("built without NCCL, or the GPUs have no access to each other's memory");
}

static void for_ranks(const char *what, bool killed) {
    const int counts[] = {2, 3, 4, 8};
    int gpus = device_gpus();
    if (gpus < 2) SKIP("needs two GPUs or more");
    for (size_t i = 0; i < sizeof counts / sizeof *counts && counts[i] <= gpus; i++) run_ranks(counts[i], what, killed);
}

static void test_sums_of_ranks(void **state) {
    (void)state;
    for_ranks("sums", false);
}

static void test_a_rank_is_lost(void **state) {
    (void)state;
    for_ranks("lost", true);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums_of_ranks), cmocka_unit_test(test_a_rank_is_lost)};
    if (argc > 1) return run_rank(!strcmp(argv[1], "lost"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
