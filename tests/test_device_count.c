/* The counting device: FLOPs and bytes of each op computed by hand, and memory that is only counted. */
#include "device_check.h"

static device *counting(void) {
    device *d;
    assert_int_equal(device_open("count", 0, &d), LCKV_OK);
    return d;
}

/* A view without memory. */
static view nowhere(int64_t rows, int64_t cols, dtype type) {
    return (view){(void *)64, rows, cols, type};
}

static view f32(int64_t rows, int64_t cols) {
    return nowhere(rows, cols, DTYPE_F32);
}

static view bf16(int64_t rows, int64_t cols) {
    return nowhere(rows, cols, DTYPE_BF16);
}

/* Checks the counts since the last call and resets them. */
static void expect(device *d, double flops, double bytes) {
    if (d->counts.flops != flops || d->counts.bytes != bytes) {
        fail_msg("expected %.0f flops and %.0f bytes, found %.0f and %.0f", flops, bytes, d->counts.flops,
                 d->counts.bytes);
    }
    d->counts.flops = d->counts.bytes = 0;
}

static void test_has_every_op(void **state) {
    (void)state;
    device *d = counting();
#define ENTRY(name, arguments) assert_non_null(d->ops.name);
    DEVICE_OPS(ENTRY)
#undef ENTRY
    assert_string_equal(d->name, "count");
    assert_true(d->counts_only && !d->host_memory);
    device_close(d);
}

static void test_rows(void **state) {
    (void)state;
    device *d = counting();
    view ids = nowhere(5, 1, DTYPE_I32), index64 = nowhere(5, 1, DTYPE_I64);
    /* 5 ids, 5 of 100 table rows, 5 rows out */
    RUN(d, embed, ((struct op_embed){.ids = ids, .table = bf16(100, 8), .out = f32(5, 8)}));
    expect(d, 0, 5 * 4 + 5 * 8 * 2 + 5 * 8 * 4);
    RUN(d, embed_backward, ((struct op_embed){.ids = ids, .dout = f32(5, 8), .dtable = f32(100, 8)}));
    expect(d, 0, 5 * 4 + 2 * 5 * 8 * 4);
    RUN(d, embed_backward, ((struct op_embed){.ids = ids, .dout = f32(5, 8)}));
    expect(d, 0, 0);
    RUN(d, gather_rows, ((struct op_gather_rows){.src = bf16(100, 8), .index = ids, .dst = bf16(5, 8)}));
    expect(d, 0, 5 * 4 + 2 * 5 * 8 * 2);
    RUN(d, gather_rows_backward, ((struct op_gather_rows){.index = ids, .dsrc = f32(100, 8), .ddst = f32(5, 8)}));
    expect(d, 0, 5 * 4 + 2 * 5 * 8 * 4);
    RUN(d, scatter_rows, ((struct op_scatter_rows){.src = f32(5, 8), .index = index64, .dst = bf16(100, 8)}));
    expect(d, 0, 5 * 8 + 5 * 8 * 4 + 5 * 8 * 2);
    RUN(d, scatter_rows_backward, ((struct op_scatter_rows){.index = index64, .dsrc = f32(5, 8), .ddst = f32(100, 8)}));
    expect(d, 0, 5 * 8 + 2 * 5 * 8 * 4);
    device_close(d);
}

static void test_elements(void **state) {
    (void)state;
    device *d = counting();
    struct op_rms_norm norm = {.x = f32(5, 8), .weight = bf16(1, 4), .y = bf16(5, 8), .rstd = f32(5, 2)};
    RUN(d, rms_norm, norm);
    expect(d, 0, 160 + 8 + 80 + 40);
    norm.dy = f32(5, 8), norm.dx = f32(5, 8), norm.dweight = f32(1, 4);
    RUN(d, rms_norm_backward, norm);
    expect(d, 0, 160 + 8 + 40 + 160 + 160 + 16);
    RUN(d, rope_angles,
        ((struct op_rope_angles){.positions = nowhere(5, 1, DTYPE_I64),
                                 .inverse_frequencies = nowhere(1, 4, DTYPE_F64),
                                 .angles = f32(5, 8)}));
    expect(d, 0, 5 * 8 + 4 * 8 + 5 * 8 * 4);
    RUN(d, rope, ((struct op_rope){.x = bf16(5, 16), .angles = f32(5, 8), .y = bf16(5, 16)}));
    expect(d, 0, 2 * 5 * 16 * 2 + 160);
    RUN(d, rope_backward, ((struct op_rope){.angles = f32(5, 8), .dy = f32(5, 16), .dx = f32(5, 16)}));
    expect(d, 0, 2 * 5 * 16 * 4 + 160);
    RUN(d, swiglu, ((struct op_swiglu){.gate = bf16(5, 8), .up = bf16(5, 8), .y = bf16(5, 8)}));
    expect(d, 0, 3 * 5 * 8 * 2);
    RUN(d, swiglu_backward,
        ((struct op_swiglu){.gate = bf16(5, 8), .up = bf16(5, 8), .dy = f32(5, 8), .dup = f32(5, 8)}));
    expect(d, 0, 2 * 5 * 8 * 2 + 2 * 5 * 8 * 4);
    struct op_dropout dropout = {.x = bf16(5, 8), .y = bf16(5, 8), .seed = nowhere(1, 1, DTYPE_I64), .p = 0.5};
    RUN(d, dropout, dropout);
    expect(d, 0, 2 * 80 + 8);
    RUN(d, dropout_backward, ((struct op_dropout){.seed = dropout.seed, .dy = f32(5, 8), .dx = f32(5, 8)}));
    expect(d, 0, 2 * 160 + 8);
    RUN(d, add, ((struct op_add){f32(5, 8), f32(5, 8), f32(5, 8)}));
    expect(d, 0, 3 * 160);
    RUN(d, accumulate, ((struct op_accumulate){bf16(5, 8), f32(5, 8), 1}));
    expect(d, 0, 80 + 160);
    RUN(d, cast, ((struct op_cast){bf16(5, 8), f32(5, 8)}));
    expect(d, 0, 80 + 160);
    RUN(d, fill_normal, ((struct op_fill_normal){.dst = bf16(5, 8)}));
    expect(d, 0, 80);
    device_close(d);
}

static void test_products(void **state) {
    (void)state;
    device *d = counting();
    view x = bf16(5, 8), weight = bf16(3, 8);
    RUN(d, linear, ((struct op_linear){.x = x, .weight = weight, .bias = bf16(1, 3), .y = f32(5, 3)}));
    expect(d, 2 * 5 * 8 * 3, 80 + 48 + 6 + 60);
    RUN(d, linear_backward,
        ((struct op_linear){
            .x = x, .weight = weight, .dy = f32(5, 3), .dx = f32(5, 8), .dweight = f32(3, 8), .dbias = f32(1, 3)}));
    expect(d, 4 * 5 * 8 * 3, 60 + 160 + 96 + 12 + 48 + 80);
    RUN(d, linear_backward, ((struct op_linear){.x = x, .weight = weight, .dy = f32(5, 3), .dx = f32(5, 8)}));
    expect(d, 2 * 5 * 8 * 3, 60 + 160 + 48);
    RUN(d, linear_backward, ((struct op_linear){.x = x, .weight = weight, .dy = f32(5, 3), .dweight = f32(3, 8)}));
    expect(d, 2 * 5 * 8 * 3, 60 + 96 + 80);
    view labels = nowhere(5, 1, DTYPE_I32), scale = f32(1, 1), loss = nowhere(1, 1, DTYPE_F64);
    RUN(d, linear_cross_entropy,
        ((struct op_linear_cross_entropy){
            .x = x, .weight = weight, .labels = labels, .scale = scale, .nll = f32(5, 1)}));
    expect(d, 2 * 5 * 8 * 3, 80 + 48 + 20 + 4 + 20);
    RUN(d, linear_cross_entropy,
        ((struct op_linear_cross_entropy){.x = x,
                                          .weight = weight,
                                          .labels = labels,
                                          .scale = scale,
                                          .loss = loss,
                                          .dx = f32(5, 8),
                                          .dweight = f32(3, 8)}));
    expect(d, 6 * 5 * 8 * 3, 80 + 48 + 20 + 4 + 8 + 160 + 96);
    device_close(d);
}

static void test_attention(void **state) {
    (void)state;
    device *d = counting();
    view sequences = nowhere(2, sizeof(attention_sequence), DTYPE_U8);
    double listed = 2.0 * sizeof(attention_sequence);
    /* 7 visible pairs, 2 heads of 4: products q k^T and p v */
    RUN(d, attention,
        ((struct op_attention){.q = bf16(5, 8),
                               .k = bf16(5, 4),
                               .v = bf16(5, 4),
                               .out = bf16(5, 8),
                               .lse = f32(5, 2),
                               .sequences = sequences,
                               .pairs = 7,
                               .heads = 2,
                               .kv_heads = 1,
                               .head_dim = 4}));
    expect(d, 2 * 2 * 7 * 2 * 4, 80 + 2 * 40 + 80 + 40 + listed);
    /* each sequence is charged for 3 past rows, and for reading the whole page table */
    RUN(d, attention,
        ((struct op_attention){.q = bf16(5, 8),
                               .out = bf16(5, 8),
                               .sequences = sequences,
                               .max_past = 3,
                               .past = {.k = bf16(64, 4), .v = bf16(64, 4), .table = nowhere(2, 6, DTYPE_I32)},
                               .pairs = 7,
                               .heads = 2,
                               .kv_heads = 1,
                               .head_dim = 4}));
    expect(d, 2 * 2 * 7 * 2 * 4, 80 + 80 + 2 * 2 * 3 * 4 * 2 + 2 * 6 * 4 + listed);
    RUN(d, attention_backward,
        ((struct op_attention){.q = bf16(5, 8),
                               .k = bf16(5, 4),
                               .v = bf16(5, 4),
                               .out = bf16(5, 8),
                               .lse = f32(5, 2),
                               .sequences = sequences,
                               .pairs = 7,
                               .heads = 2,
                               .kv_heads = 1,
                               .head_dim = 4,
                               .dout = f32(5, 8),
                               .dq = f32(5, 8),
                               .dk = f32(5, 4),
                               .dv = f32(5, 4)}));
    expect(d, 5 * 2 * 7 * 2 * 4, 80 + 2 * 40 + 80 + 40 + listed + 2 * 160 + 2 * 80);
    RUN(d, attention_backward,
        ((struct op_attention){
            .sequences = sequences, .pairs = 7, .heads = 2, .kv_heads = 1, .head_dim = 4, .dq = f32(5, 8)}));
    expect(d, 3 * 2 * 7 * 2 * 4, listed + 160);
    device_close(d);
}

static void test_tokens_and_optimizer(void **state) {
    (void)state;
    device *d = counting();
    view how = nowhere(5, sizeof(sample_row), DTYPE_U8), step = nowhere(1, sizeof(step_state), DTYPE_U8);
    view one = nowhere(1, 1, DTYPE_F64);
    RUN(d, sample, ((struct op_sample){f32(5, 8), how, nowhere(5, 8, DTYPE_U8), nowhere(5, 1, DTYPE_I32), f32(5, 1)}));
    expect(d, 0, 5 * 8 * 4 + 5 * sizeof(sample_row) + 40 + 20 + 20);
    RUN(d, sum_squares, ((struct op_sum_squares){f32(5, 8), one}));
    expect(d, 0, 160 + 8);
    RUN(d, clip, ((struct op_clip){one, one, step}));
    expect(d, 0, 8 + 8 + sizeof(step_state));
    RUN(d, adamw,
        ((struct op_adamw){.master = f32(5, 8),
                           .weight = bf16(5, 8),
                           .grad = f32(5, 8),
                           .m = f32(5, 8),
                           .v = f32(5, 8),
                           .state = step}));
    expect(d, 0, 4 * 160 + 80 + sizeof(step_state));
    device_close(d);
}

/* ---------------------------------------------------------------- memory */

static void test_memory(void **state) {
    (void)state;
    device *d = counting();
    void *a, *b, *c, *huge;
    assert_int_equal(d->memory.alloc(d, 1000, &a), LCKV_OK);
    assert_int_equal(d->memory.alloc(d, 0, &b), LCKV_OK);
    assert_int_equal(d->memory.alloc(d, 256, &c), LCKV_OK);
    assert_true((uintptr_t)a % 256 == 0 && (uintptr_t)b % 256 == 0 && (uintptr_t)c % 256 == 0);
    assert_true((char *)a + 1000 <= (char *)b && b != c);
    assert_int_equal(d->counts.memory, 1256);
    d->memory.release(d, a);
    d->memory.release(d, NULL);
    assert_int_equal(d->counts.memory, 256);
    assert_int_equal(d->memory.alloc(d, (size_t)1 << 50, &huge), LCKV_OK); /* a petabyte can be allocated here */
    assert_int_equal(d->counts.memory, 256 + ((size_t)1 << 50));
    d->memory.release(d, huge);
    d->memory.release(d, b);
    d->memory.release(d, c);
    assert_int_equal(d->counts.memory, 0);
    assert_int_equal(d->memory.alloc(d, 100, &a), LCKV_OK);
    d->memory.release(d, a);
    assert_int_equal(d->counts.peak, 256 + ((size_t)1 << 50));
    assert_int_equal(d->memory.alloc(d, SIZE_MAX, &huge), LCKV_ERROR_MEMORY);
    assert_null(huge);
    device_close(d);
}

/* Allocates and frees in random order. */
static void test_many_blocks(void **state) {
    (void)state;
    enum { BLOCKS = 500 };
    device *d = counting();
    void *blocks[BLOCKS] = {NULL};
    size_t sizes[BLOCKS] = {0}, live = 0;
    for (int round = 0; round < 20000; round++) {
        int64_t i = random_below(BLOCKS);
        if (blocks[i]) {
            d->memory.release(d, blocks[i]);
            live -= sizes[i];
            blocks[i] = NULL;
        } else {
            sizes[i] = (size_t)random_below(10000);
            assert_int_equal(d->memory.alloc(d, sizes[i], &blocks[i]), LCKV_OK);
            live += sizes[i];
        }
        assert_int_equal(d->counts.memory, live);
    }
    for (int i = 0; i < BLOCKS; i++) d->memory.release(d, blocks[i]);
    assert_int_equal(d->counts.memory, 0);
    device_close(d);
}

static void test_copies(void **state) {
    (void)state;
    device *d = counting();
    void *memory;
    char host[16];
    size_t free_bytes, total_bytes;
    memset(host, 1, sizeof host);
    assert_int_equal(d->memory.alloc(d, sizeof host, &memory), LCKV_OK);
    assert_int_equal(d->memory.copy_in(d, memory, host, sizeof host), LCKV_OK);
    assert_int_equal(d->memory.zero(d, memory, sizeof host), LCKV_OK);
    assert_int_equal(d->memory.copy_out(d, host, memory, sizeof host), LCKV_OK);
    assert_int_equal(d->memory.wait(d), LCKV_OK);
    for (size_t i = 0; i < sizeof host; i++) assert_int_equal(host[i], 0);
    assert_int_equal(d->memory.available(d, &free_bytes, &total_bytes), LCKV_OK);
    assert_true(total_bytes > (size_t)1 << 60 && free_bytes == total_bytes - sizeof host);
    assert_true(d->counts.bytes == 0 && d->counts.flops == 0);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_has_every_op), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_elements),     cmocka_unit_test(test_products),
        cmocka_unit_test(test_attention),    cmocka_unit_test(test_tokens_and_optimizer),
        cmocka_unit_test(test_memory),       cmocka_unit_test(test_many_blocks),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
