/* The pool: blocks never overlap, the same calls give the same addresses, all memory is released. */
#include "base/rng.h"
#include "graph/pool.h"

#include "expect.h"

enum { BLOCKS = 60, ROUNDS = 4000 };

typedef struct block {
    char *start;
    size_t bytes;
} block;

static void check_apart(const block *blocks, int mine) {
    for (int i = 0; i < BLOCKS; i++)
        if (i != mine && blocks[i].start)
            assert_true(blocks[i].start + blocks[i].bytes <= blocks[mine].start ||
                        blocks[mine].start + blocks[mine].bytes <= blocks[i].start);
}

/* Allocates and frees at random; returns a hash of all addresses relative to the first. */
static uint64_t play(pool *p) {
    block blocks[BLOCKS] = {{0}};
    char *origin = NULL;
    uint64_t mark = 0;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        int at = (int)(rng_uniform(1, 0, i) * BLOCKS);
        if (blocks[at].start) {
            pool_give(p, blocks[at].start, blocks[at].bytes);
            blocks[at].start = NULL;
            continue;
        }
        blocks[at].bytes = (size_t)(rng_uniform(1, 1, i) * rng_uniform(1, 2, i) * 400000);
        void *memory;
        OK(pool_take(p, blocks[at].bytes, &memory));
        blocks[at].start = memory;
        if (!origin) origin = memory;
        assert_int_equal((uintptr_t)memory % 256, 0);
        check_apart(blocks, at);
        mark = mark * 31 + (uint64_t)(blocks[at].start - origin);
    }
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].start) pool_give(p, blocks[i].start, blocks[i].bytes);
    return mark;
}

static void blocks_lie_apart(void **state) {
    (void)state;
    device *d;
    pool *p;
    OK(device_open("cpu", 1, &d));
    OK(pool_create(d, &p));
    play(p);
    assert_int_equal(pool_in_use(p), 0);
    pool_free(p);
    device_close(d);
}

/* From the second round on there is one chunk, and rounds have the same addresses. */
static void rounds_are_alike(void **state) {
    (void)state;
    device *d;
    pool *p;
    OK(device_open("cpu", 1, &d));
    OK(pool_create(d, &p));
    play(p);
    OK(pool_reset(p));
    uint64_t second = play(p);
    OK(pool_reset(p));
    assert_true(second == play(p));
    pool_free(p);
    device_close(d);
}

/* The counting device's pool counts what a real one allocates. */
static void counted_as_taken(void **state) {
    (void)state;
    device *real, *count;
    pool *a, *b;
    OK(device_open("cpu", 1, &real));
    OK(device_open("count", 1, &count));
    OK(pool_create(real, &a));
    OK(pool_create(count, &b));
    play(a);
    play(b);
    assert_int_equal(pool_peak(a), pool_peak(b));
    pool_free(a);
    pool_free(b);
    device_close(real);
    device_close(count);
}

static int allocations;
static int (*alloc_of_device)(device *d, size_t bytes, void **out);

static int count_alloc(device *d, size_t bytes, void **out) {
    allocations++;
    return alloc_of_device(d, bytes, out);
}

/* Chunks hold the largest block, and grow, so that there are few. */
static void chunks_grow(void **state) {
    (void)state;
    device *d;
    pool *p;
    OK(device_open("count", 1, &d));
    alloc_of_device = d->memory.alloc;
    d->memory.alloc = count_alloc;
    OK(pool_create(d, &p));
    block blocks[BLOCKS] = {{0}};
    for (int i = 0; i < BLOCKS; i++) {
        void *memory;
        blocks[i].bytes = (size_t)(i + 1) << 20;
        OK(pool_take(p, blocks[i].bytes, &memory));
        blocks[i].start = memory;
        check_apart(blocks, i);
    }
    assert_in_range(allocations, 2, 20);
    for (int i = 0; i < BLOCKS; i++) pool_give(p, blocks[i].start, blocks[i].bytes);
    assert_int_equal(pool_in_use(p), 0);
    pool_free(p);
    d->memory.alloc = alloc_of_device;
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_lie_apart),
        cmocka_unit_test(rounds_are_alike),
        cmocka_unit_test(counted_as_taken),
        cmocka_unit_test(chunks_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
