/* embed, gather_rows, scatter_rows: values, repeated ids, dead rows, and gradients that add up. */
#include "device_check.h"

static const int64_t sizes[][2] = {{1, 1}, {3, 17}, {17, 3}, {100, 16}, {211, 257}}; /* rows, cols */
enum { SIZES = sizeof sizes / sizeof *sizes, TABLE_ROWS = 23 };
static const dtype floats[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
static const dtype weights[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_INT8, DTYPE_INT4};
enum { WEIGHTS = sizeof weights / sizeof *weights };

/* Indices into TABLE_ROWS rows, with repetitions if there are more; one dead row has an invalid index. */
static view random_ids(int64_t rows) {
    view ids = tensor(rows, 1, DTYPE_I32);
    int32_t *id = ids.data;
    for (int64_t r = 0; r < rows; r++) id[r] = (int32_t)random_below(TABLE_ROWS);
    if (rows > 3) id[rows - 1] = -7, id[rows - 2] = TABLE_ROWS;
    return ids;
}

static bool is_dead(view ids, int64_t r) {
    int32_t id = ((int32_t *)ids.data)[r];
    return id < 0 || id >= TABLE_ROWS;
}

static void check_rows_read(const char *what, view out, view ids, view table) {
    for (int64_t i = 0; i < elements(out); i++) {
        int64_t r = i / out.cols, id = ((int32_t *)ids.data)[r];
        check_near(what, out, i, is_dead(ids, r) ? 0.0 : element(table, id * out.cols + i % out.cols), 0);
    }
}

static void check_embed(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int t = 0; t < WEIGHTS; t++) {
            if (is_grouped(weights[t]) && !(d->formats.embed & DTYPE_BIT(weights[t]))) continue;
            view ids = random_ids(sizes[s][0]), table = random_tensor(TABLE_ROWS, sizes[s][1], weights[t], 1.0);
            view out = tensor(sizes[s][0], sizes[s][1], DTYPE_F32);
            RUN(d, embed, ((struct op_embed){.ids = ids, .table = table, .out = out}));
            check_rows_read("embed", out, ids, table);
            release_tensors();
        }
    }
}

static void check_gather(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int t = 0; t < 2; t++) {
            view index = random_ids(sizes[s][0]), src = random_tensor(TABLE_ROWS, sizes[s][1], floats[t], 1.0);
            view dst = tensor(sizes[s][0], sizes[s][1], floats[t]);
            RUN(d, gather_rows, ((struct op_gather_rows){.src = src, .index = index, .dst = dst}));
            check_rows_read("gather", dst, index, src);
            release_tensors();
        }
    }
}

/* The gradient of a table is exactly the sum over the rows that read it, in order. */
static void check_table_gradient(const char *what, view got, view before, view ids, view dout) {
    view want = copy_tensor(before);
    float *sum = want.data;
    for (int64_t r = 0; r < dout.rows; r++) {
        int64_t id = ((int32_t *)ids.data)[r];
        for (int64_t c = 0; c < dout.cols && !is_dead(ids, r); c++) {
            sum[id * dout.cols + c] += ((float *)dout.data)[r * dout.cols + c];
        }
    }
    check_same_bits(what, got, want);
}

static void check_table_gradients(device *d) {
    for (int s = 0; s < SIZES; s++) {
        view ids = random_ids(sizes[s][0]), dout = random_tensor(sizes[s][0], sizes[s][1], DTYPE_F32, 1.0);
        view before = random_tensor(TABLE_ROWS, sizes[s][1], DTYPE_F32, 1.0), got = copy_tensor(before);
        RUN(d, embed_backward, ((struct op_embed){.ids = ids, .dout = dout, .dtable = got}));
        check_table_gradient("dtable", got, before, ids, dout);
        got = copy_tensor(before);
        RUN(d, gather_rows_backward, ((struct op_gather_rows){.index = ids, .ddst = dout, .dsrc = got}));
        check_table_gradient("dsrc", got, before, ids, dout);
        RUN(d, embed_backward, ((struct op_embed){.ids = ids, .dout = dout}));
        RUN(d, gather_rows_backward, ((struct op_gather_rows){.index = ids, .ddst = dout}));
        release_tensors();
    }
}

/* The finite difference of sum(dout * table[ids]) equals the result of embed_backward. */
static void check_finite_differences(device *d) {
    enum { ROWS = 9, COLS = 2 };
    view ids = random_ids(ROWS), table = random_tensor(TABLE_ROWS, COLS, DTYPE_F32, 1.0);
    view out = tensor(ROWS, COLS, DTYPE_F32), dout = random_tensor(ROWS, COLS, DTYPE_F32, 1.0);
    view dtable = tensor(TABLE_ROWS, COLS, DTYPE_F32);
    memset(dtable.data, 0, view_bytes(dtable));
    RUN(d, embed_backward, ((struct op_embed){.ids = ids, .dout = dout, .dtable = dtable}));
    for (int64_t i = 0; i < elements(table); i++) {
        double loss[2], x = element(table, i), step = 0.25; /* linear in the table, so that any step works */
        for (int side = 0; side < 2; side++) {
            set_element(table, i, side ? x + step : x - step);
            RUN(d, embed, ((struct op_embed){.ids = ids, .table = table, .out = out}));
            loss[side] = 0;
            for (int64_t j = 0; j < elements(out); j++) loss[side] += element(out, j) * element(dout, j);
        }
        set_element(table, i, x);
        check_near("dtable", dtable, i, (loss[1] - loss[0]) / (2 * step), 64 * F32_EPSILON * ROWS * 4);
    }
}

/* A permutation into twice as many rows; every third row is not stored. */
static view scatter_index(int64_t rows) {
    view index = tensor(rows, 1, DTYPE_I64);
    int64_t *to = index.data;
    for (int64_t r = 0; r < rows; r++) to[r] = r % 3 == 2 ? -1 - r : 2 * (rows - 1 - r);
    return index;
}

static void check_scatter(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int pair = 0; pair < 4; pair++) {
            int64_t rows = sizes[s][0], cols = sizes[s][1];
            view src = random_tensor(rows, cols, floats[pair / 2], 1.0), index = scatter_index(rows);
            view dst = random_tensor(2 * rows, cols, floats[pair % 2], 1.0), want = copy_tensor(dst);
            for (int64_t i = 0; i < elements(src); i++) {
                int64_t to = ((int64_t *)index.data)[i / cols];
                if (to >= 0) set_element(want, to * cols + i % cols, element(src, i));
            }
            RUN(d, scatter_rows, ((struct op_scatter_rows){.src = src, .index = index, .dst = dst}));
            check_same_bits("scatter", dst, want);
            release_tensors();
        }
    }
}

static void check_scatter_gradient(device *d) {
    for (int s = 0; s < SIZES; s++) {
        int64_t rows = sizes[s][0], cols = sizes[s][1];
        view index = scatter_index(rows), ddst = random_tensor(2 * rows, cols, DTYPE_F32, 1.0);
        view dsrc = random_tensor(rows, cols, DTYPE_F32, 1.0), before = copy_tensor(dsrc);
        RUN(d, scatter_rows_backward, ((struct op_scatter_rows){.index = index, .ddst = ddst, .dsrc = dsrc}));
        for (int64_t i = 0; i < elements(dsrc); i++) {
            int64_t from = ((int64_t *)index.data)[i / cols];
            double term = from < 0 ? 0.0 : element(ddst, from * cols + i % cols);
            check_near("dsrc", dsrc, i, (float)(element(before, i) + term), 0);
        }
        RUN(d, scatter_rows_backward, ((struct op_scatter_rows){.index = index, .ddst = ddst}));
        release_tensors();
    }
}

static void test_embed(void **state) {
    (void)state;
    check_everywhere(check_embed);
}

static void test_gather(void **state) {
    (void)state;
    check_everywhere(check_gather);
}

static void test_table_gradients(void **state) {
    (void)state;
    check_everywhere(check_table_gradients);
    check_everywhere(check_finite_differences);
}

static void test_scatter(void **state) {
    (void)state;
    check_everywhere(check_scatter);
    check_everywhere(check_scatter_gradient);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_table_gradients),
        cmocka_unit_test(test_scatter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
