/* Behaviour that is specific to GPUs: names, errors of opening, memory, and sizes that the other tests do not reach
 * (several blocks of logits, a long past, products in tensor cores). Results do not depend on the order of thread
 * blocks. The tests of the ops themselves also run on a GPU (check_everywhere()). */
#include "base/clock.h"
#include "device_check.h"

/* ---------------------------------------------------------------- opening */

static void test_names(void **state) {
    (void)state;
    static const char *wrong[] = {"cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cudas", "cuda 0"};
    device *d;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(device_open(wrong[i], 0, &d), LCKV_ERROR_ARGUMENT);
        assert_non_null(strstr(lckv_last_error(), wrong[i]));
        assert_null(d);
    }
}

/* No such GPU, no GPU, or a build without CUDA. */
static void test_absent(void **state) {
    (void)state;
    device *d;
    int status = device_open("cuda:4095", 0, &d);
    assert_true(status == LCKV_ERROR_DEVICE || status == LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "cuda:4095"));
    assert_null(d);
}

static device *open_gpu(void) {
    device *d;
    if (device_open("cuda", 0, &d) < 0) {
        printf("skipped: %s\n", lckv_last_error());
        skip();
    }
    return d;
}

static void test_opened(void **state) {
    (void)state;
    device *d = open_gpu(), *again;
    assert_string_equal(d->name, "cuda:0");
    assert_false(d->host_memory || d->counts_only);
#define ENTRY(name, arguments) assert_non_null(d->ops.name);
    DEVICE_OPS(ENTRY)
#undef ENTRY
    assert_int_equal(device_open("cuda:0", 0, &again), LCKV_OK);
    device_close(again);
    device_close(d);
}

/* ---------------------------------------------------------------- memory */

static unsigned char pattern_byte(size_t i, unsigned seed) {
    return (unsigned char)((i * 2654435761u >> 13) + seed);
}

/* Copies of many sizes to the device and back. The source is overwritten as soon as copy_in() returns. */
static void test_copies(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 255, 4096, (4 << 20) - 1, (4 << 20) + 1, 33 << 20};
    device *d = open_gpu();
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t bytes = sizes[s];
        unsigned char *host = malloc(bytes);
        void *memory;
        assert_int_equal(d->memory.alloc(d, bytes, &memory), LCKV_OK);
        assert_int_equal((uintptr_t)memory % 256, 0);
        for (size_t i = 0; i < bytes; i++) host[i] = pattern_byte(i, (unsigned)s);
        assert_int_equal(d->memory.copy_in(d, memory, host, bytes), LCKV_OK);
        memset(host, 0, bytes);
        assert_int_equal(d->memory.copy_out(d, host, memory, bytes), LCKV_OK);
        assert_int_equal(d->memory.wait(d), LCKV_OK);
        for (size_t i = 0; i < bytes; i++)
            if (host[i] != pattern_byte(i, (unsigned)s)) fail_msg("byte %zu of %zu is another", i, bytes);
        assert_int_equal(d->memory.zero(d, memory, bytes), LCKV_OK);
        assert_int_equal(d->memory.copy_out(d, host, memory, bytes), LCKV_OK);
        assert_int_equal(d->memory.wait(d), LCKV_OK);
        for (size_t i = 0; i < bytes; i++) assert_int_equal(host[i], 0);
        d->memory.release(d, memory);
        free(host);
    }
    d->memory.release(d, NULL);
    device_close(d);
}

/* More pending results than there are buffers, of memory that changes in between: each is the value at the time of the
 * request. */
static void test_results(void **state) {
    (void)state;
    enum { COUNT = 1000, SIZE = 9001 };
    device *d = open_gpu();
    unsigned char *in = malloc(SIZE), *out = malloc((size_t)COUNT * SIZE);
    void *memory;
    assert_int_equal(d->memory.alloc(d, SIZE, &memory), LCKV_OK);
    for (unsigned n = 0; n < COUNT; n++) {
        for (size_t i = 0; i < SIZE; i++) in[i] = pattern_byte(i, n);
        assert_int_equal(d->memory.copy_in(d, memory, in, SIZE), LCKV_OK);
        assert_int_equal(d->memory.copy_out(d, out + (size_t)n * SIZE, memory, SIZE), LCKV_OK);
    }
    assert_int_equal(d->memory.wait(d), LCKV_OK);
    for (unsigned n = 0; n < COUNT; n++)
        for (size_t i = 0; i < SIZE; i++)
            if (out[(size_t)n * SIZE + i] != pattern_byte(i, n)) fail_msg("byte %zu of result %u is another", i, n);
    d->memory.release(d, memory);
    free(in), free(out);
    device_close(d);
}

/* Readings of the clock are in order with the work, which no GPU does at more than MOST bytes/s. */
static void test_clock(void **state) {
    (void)state;
    enum { COUNT = 16, SIZE = 1 << 30 };
    static const double MOST = 16e12;
    device *d = open_gpu();
    void *memory;
    double begin, end, before = clock_seconds();
    assert_int_equal(d->memory.alloc(d, SIZE, &memory), LCKV_OK);
    assert_int_equal(d->memory.clock_out(d, &begin), LCKV_OK);
    for (int i = 0; i < COUNT; i++) assert_int_equal(d->memory.zero(d, memory, SIZE), LCKV_OK);
    assert_int_equal(d->memory.clock_out(d, &end), LCKV_OK);
    assert_int_equal(d->memory.wait(d), LCKV_OK);
    double after = clock_seconds();
    assert_true(before <= begin && end <= after);
    if (end - begin < COUNT * (double)SIZE / MOST) fail_msg("%g s for %d times %d bytes", end - begin, COUNT, SIZE);
    d->memory.release(d, memory);
    device_close(d);
}

static void test_out_of_memory(void **state) {
    (void)state;
    device *d = open_gpu();
    size_t free_bytes, total;
    void *memory;
    assert_int_equal(d->memory.available(d, &free_bytes, &total), LCKV_OK);
    assert_true(free_bytes > 0 && free_bytes <= total);
    assert_int_equal(d->memory.alloc(d, total + (1 << 20), &memory), LCKV_ERROR_MEMORY);
    assert_null(memory);
    assert_non_null(strstr(lckv_last_error(), "MiB are free"));
    assert_non_null(strstr(lckv_last_error(), "--per_device_train_batch_size"));
    assert_int_equal(d->memory.alloc(d, 1 << 20, &memory), LCKV_OK); /* and continues */
    d->memory.release(d, memory);
    assert_int_equal(d->memory.wait(d), LCKV_OK);
    device_close(d);
}

/* ---------------------------------------------------------------- products */

/* Some elements of y, dx and dweight of products in tensor cores, with rows at odd and even addresses. `operands`: the
 * error of rounding an operand. */
static void check_products_of(device *d, int64_t rows, int64_t in, int64_t out, dtype type, dtype weight) {
    struct op_linear a = {.x = random_tensor(rows, in, type, 1.0),
                          .weight = random_tensor(out, in, weight, 1.0),
                          .y = tensor(rows, out, DTYPE_F32),
                          .dy = random_tensor(rows, out, DTYPE_F32, 1.0),
                          .dx = tensor(rows, in, DTYPE_F32),
                          .dweight = tensor(out, in, DTYPE_F32)};
    double operands = operand_rounding(d, type), widened = is_grouped(weight) ? operands : 0;
    memset(a.dx.data, 0, view_bytes(a.dx));
    memset(a.dweight.data, 0, view_bytes(a.dweight));
    RUN(d, linear, a);
    RUN(d, linear_backward, a);
    for (int i = 0; i < 300; i++) {
        int64_t r = random_below(rows), k = random_below(in), c = random_below(out);
        double y = 0, dx = 0, dweight = 0, y_size = 0, dx_size = 0, dweight_size = 0;
        for (int64_t j = 0; j < in; j++) {
            double term = element(a.x, r * in + j) * element(a.weight, c * in + j);
            y += term, y_size += fabs(term);
        }
        for (int64_t j = 0; j < out; j++) {
            double term = element(a.dy, r * out + j) * element(a.weight, j * in + k);
            dx += term, dx_size += fabs(term);
        }
        for (int64_t j = 0; j < rows; j++) {
            double term = element(a.dy, j * out + c) * element(a.x, j * in + k);
            dweight += term, dweight_size += fabs(term);
        }
        check_near("y", a.y, r * out + c, y, (widened + F32_EPSILON * (double)(in + 2)) * y_size);
        check_near("dx", a.dx, r * in + k, dx, (operands + widened + F32_EPSILON * (double)(out + 2)) * dx_size);
        check_near("dweight", a.dweight, c * in + k, dweight,
                   (operands + F32_EPSILON * (double)(rows + 2)) * dweight_size);
    }
    view y = copy_tensor(a.y), dweight = copy_tensor(a.dweight);
    memset(a.dweight.data, 0, view_bytes(a.dweight));
    RUN(d, linear, a);
    RUN(d, linear_backward, a);
    check_same_bits("y, again", a.y, y);
    check_same_bits("dweight, again", a.dweight, dweight);
    release_tensors();
}

static void check_products(device *d) {
    static const int64_t sizes[][3] = {
        {512, 768, 1024}, {300, 1030, 517}, {9, 2048, 1000}, {4096, 64, 32}, {65, 7, 129}};
    static const int64_t grouped[][3] = {{1, 2048, 5632},  {2, 5632, 2048}, {8, 5632, 300},  {16, 2048, 4300},
                                         {32, 1024, 3000}, {31, 4096, 77},  {64, 576, 1536}, {300, 1030, 517}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        check_products_of(d, sizes[s][0], sizes[s][1], sizes[s][2], DTYPE_F32, DTYPE_F32);
        check_products_of(d, sizes[s][0], sizes[s][1], sizes[s][2], DTYPE_BF16, DTYPE_BF16);
    }
    for (size_t s = 0; s < sizeof grouped / sizeof *grouped; s++)
        for (int weight = DTYPE_INT8; weight <= DTYPE_INT4; weight++)
            check_products_of(d, grouped[s][0], grouped[s][1], grouped[s][2], DTYPE_BF16, (dtype)weight);
}

/* ---------------------------------------------------------------- cross-entropy */

/* 4000 rows of 20011 logits are three blocks; 1000 rows are one block. */
static void check_pieces(device *d) {
    enum { ROWS = 4000, PART = 1000, HIDDEN = 8, VOCAB = 20011 };
    struct op_linear_cross_entropy a = {.x = random_tensor(ROWS, HIDDEN, DTYPE_F32, 1.0),
                                        .weight = random_tensor(VOCAB, HIDDEN, DTYPE_F32, 1.0),
                                        .labels = tensor(ROWS, 1, DTYPE_I32),
                                        .scale = tensor(1, 1, DTYPE_F32),
                                        .loss = tensor(1, 1, DTYPE_F64),
                                        .nll = tensor(ROWS, 1, DTYPE_F32),
                                        .dx = tensor(ROWS, HIDDEN, DTYPE_F32)};
    for (int64_t r = 0; r < ROWS; r++) set_element(a.labels, r, r % 5 == 3 ? -100 : (double)random_below(VOCAB));
    set_element(a.scale, 0, 0.001);
    set_element(a.loss, 0, 0);
    memset(a.dx.data, 0, view_bytes(a.dx));
    view nll = tensor(ROWS, 1, DTYPE_F32), dx = copy_tensor(a.dx);
    struct op_linear_cross_entropy part = a;
    RUN(d, linear_cross_entropy, a);
    double loss = 0;
    part.loss = ABSENT;
    for (int64_t r = 0; r < ROWS; r += PART) {
        part.x = (view){cpu_row(a.x, r), PART, HIDDEN, DTYPE_F32};
        part.dx = (view){cpu_row(dx, r), PART, HIDDEN, DTYPE_F32};
        part.labels = (view){cpu_row(a.labels, r), PART, 1, DTYPE_I32};
        part.nll = (view){cpu_row(nll, r), PART, 1, DTYPE_F32};
        RUN(d, linear_cross_entropy, part);
    }
    for (int64_t r = 0; r < ROWS; r++) {
        check_near("nll", nll, r, element(a.nll, r), 1e-5); /* logits up to about 30, sums of 8 terms, twice */
        loss += element(a.scale, 0) * element(a.nll, r);
    }
    check_near("loss", a.loss, 0, loss, ROWS * 1e-3 * 1e-6);
    for (int64_t i = 0; i < elements(dx); i++) check_near("dx", dx, i, element(a.dx, i), 1e-7);
}

/* ---------------------------------------------------------------- attention */

/* One query on its own row and a past of `past` rows, whose pages are in reverse order. */
static void check_long_past(device *d, int past, dtype type) {
    enum { HEADS = 8, KV_HEADS = 2, DIM = 64, PAGE_ROWS = 16 };
    int64_t pages = past / PAGE_ROWS + 1, cols = KV_HEADS * DIM;
    struct op_attention a = {.q = random_tensor(1, HEADS * DIM, type, 1.0),
                             .k = random_tensor(1, cols, type, 1.0),
                             .v = random_tensor(1, cols, type, 1.0),
                             .out = tensor(1, HEADS * DIM, type),
                             .past = {.k = random_tensor(pages * PAGE_ROWS, cols, type, 1.0),
                                      .v = random_tensor(pages * PAGE_ROWS, cols, type, 1.0),
                                      .table = tensor(1, pages, DTYPE_I32),
                                      .page_rows = PAGE_ROWS},
                             .sequences = tensor(1, sizeof(attention_sequence), DTYPE_U8),
                             .max_q_rows = 1,
                             .max_kv_rows = 1,
                             .max_past = past,
                             .heads = HEADS,
                             .kv_heads = KV_HEADS,
                             .head_dim = DIM,
                             .scale = 0.125f};
    *(attention_sequence *)a.sequences.data = (attention_sequence){.q_rows = 1, .kv_rows = 1, .past = past};
    for (int64_t i = 0; i < pages; i++) set_element(a.past.table, i, (double)(pages - 1 - i));
    RUN(d, attention, a);
    double *weight = malloc((size_t)(past + 1) * sizeof *weight);
    for (int h = 0; h < HEADS; h++) {
        double largest = -(double)INFINITY, sum = 0, at = h / (HEADS / KV_HEADS) * DIM;
        for (int u = 0; u <= past; u++) {
            int64_t row = (pages - 1 - u / PAGE_ROWS) * PAGE_ROWS + u % PAGE_ROWS;
            weight[u] = 0;
            for (int c = 0; c < DIM; c++)
                weight[u] +=
                    0.125 * element(a.q, h * DIM + c) *
                    (u < past ? element(a.past.k, row * cols + (int64_t)at + c) : element(a.k, (int64_t)at + c));
            largest = fmax(largest, weight[u]);
        }
        for (int u = 0; u <= past; u++) sum += weight[u] = exp(weight[u] - largest);
        for (int c = 0; c < DIM; c++) {
            double want = 0, size = 0;
            for (int u = 0; u <= past; u++) {
                int64_t row = (pages - 1 - u / PAGE_ROWS) * PAGE_ROWS + u % PAGE_ROWS;
                double v = u < past ? element(a.past.v, row * cols + (int64_t)at + c) : element(a.v, (int64_t)at + c);
                want += weight[u] / sum * v, size += weight[u] / sum * fabs(v);
            }
            /* scores of about 64 terms, and sums of past + 1 terms in parts of about a hundred */
            check_near("out", a.out, h * DIM + c, want,
                       rounding(type) * fabs(want) +
                           (weight_rounding_of(d, type) + F32_EPSILON * (4 * DIM + 400)) * size);
        }
    }
    free(weight);
    view first = copy_tensor(a.out);
    RUN(d, attention, a);
    check_same_bits("attention, again", a.out, first);
    release_tensors();
}

static void check_pasts(device *d) {
    static const int pasts[] = {0, 1, 127, 1000, 5003, 20000};
    for (size_t i = 0; i < sizeof pasts / sizeof *pasts; i++) {
        check_long_past(d, pasts[i], DTYPE_F32);
        check_long_past(d, pasts[i], DTYPE_BF16);
    }
}

/* ---------------------------------------------------------------- sums over rows */

/* Gradients that many rows add to have the same bits each time, in any order of thread blocks. */
static void check_repeats(device *d) {
    enum { ROWS = 3000, COLS = 700, VOCAB = 50 };
    view ids = tensor(ROWS, 1, DTYPE_I32), dout = random_tensor(ROWS, COLS, DTYPE_F32, 1.0);
    view start = random_tensor(VOCAB, COLS, DTYPE_F32, 1.0), first = {0};
    for (int64_t r = 0; r < ROWS; r++) set_element(ids, r, (double)random_below(VOCAB));
    for (int i = 0; i < 3; i++) {
        view dtable = copy_tensor(start);
        RUN(d, embed_backward, ((struct op_embed){.ids = ids, .dout = dout, .dtable = dtable}));
        if (i > 0) check_same_bits("dtable, again", dtable, first);
        first = dtable;
    }
}

static void test_ops(void **state) {
    (void)state;
    check_on_gpu(check_products);
    check_on_gpu(check_pieces);
    check_on_gpu(check_pasts);
    check_on_gpu(check_repeats);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_absent),  cmocka_unit_test(test_opened),
        cmocka_unit_test(test_copies),        cmocka_unit_test(test_results), cmocka_unit_test(test_clock),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_ops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
