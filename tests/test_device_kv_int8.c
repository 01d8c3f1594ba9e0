/* Keys and values in int8: the error of a round trip, appended rows, copies of pages, heads that are zero, tiny or not
 * finite, and the error of attention that follows from that of its past. */
#include "device_check.h"

static const int64_t sizes[][3] = {{1, 1, 1},  {3, 2, 6},   {5, 3, 7},    {9, 4, 64},
                                   {4, 1, 80}, {17, 8, 33}, {40, 2, 128}, {2, 2, 1000}}; /* rows, heads, head size */
enum { SIZES = sizeof sizes / sizeof *sizes };
static const dtype floats[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

static bool has_int8(const device *d) {
    return d->formats.attention & DTYPE_BIT(DTYPE_KV_INT8);
}

/* scale = max / 127 with one rounding; x * (127 / max) has three, of a number of at most 127, before it is rounded
 * to an integer. */
#define SLACK (1 + 2 * F32_EPSILON)
#define HALF (0.5 + 127 * 4 * F32_EPSILON)

static void check_head(view x, view q, int64_t row, int64_t head) {
    int64_t at = row * x.cols + head * q.group;
    double largest = 0, scale = (double)((float *)q.scales)[row * (q.cols / q.group) + head];
    for (int64_t i = at; i < at + q.group; i++) largest = fmax(largest, fabs(element(x, i)));
    if (!(fabs(scale - largest / 127) <= largest / 127 * (SLACK - 1)))
        fail_msg("scale %.9g of a head whose largest value is %.9g", scale, largest);
    for (int64_t i = at; i < at + q.group; i++) {
        assert_in_range(((int8_t *)q.data)[i] + 127, 0, 254);
        check_near("int8", q, i, element(x, i), scale * HALF);
    }
}

static view quantize(device *d, view x, int64_t group) {
    view q = tensor_of_heads(x.rows, x.cols, group);
    RUN(d, cast, ((struct op_cast){x, q}));
    return q;
}

static void check_round_trip(device *d) {
    for (int s = 0; s < SIZES && has_int8(d); s++)
        for (int t = 0; t < 3; t++) {
            int64_t group = sizes[s][2], heads = sizes[s][1];
            view x = random_tensor(sizes[s][0], heads * group, floats[t], exp(3 * random_normal()));
            view q = quantize(d, x, group), back = tensor(x.rows, x.cols, floats[t]), copy, again;
            for (int64_t r = 0; r < x.rows; r++)
                for (int64_t h = 0; h < heads; h++) check_head(x, q, r, h);
            RUN(d, cast, ((struct op_cast){q, back}));
            for (int64_t i = 0; i < elements(x); i++)
                check_near("back", back, i, element(q, i), fabs(element(q, i)) * rounding(floats[t]));
            again = quantize(d, back, group); /* what was rounded once keeps its integers */
            check_same_bits("int8 of int8", q, again);
            copy = tensor_of_heads(x.rows, x.cols, group);
            RUN(d, cast, ((struct op_cast){q, copy}));
            check_same_bits("a copy", q, copy);
            assert_memory_equal(q.scales, copy.scales, view_scale_bytes(q));
            release_tensors();
        }
}

/* Appended rows are those of a cast; rows without a place, and other rows of the pages, do not change. */
static void check_append(device *d) {
    for (int s = 0; s < SIZES && has_int8(d); s++)
        for (int t = 0; t < 2; t++) {
            int64_t rows = sizes[s][0], group = sizes[s][2];
            view x = random_tensor(rows, sizes[s][1] * group, floats[t], 1.0), index = tensor(rows, 1, DTYPE_I64);
            view want = quantize(d, x, group), pages = tensor_of_heads(2 * rows, x.cols, group);
            size_t scales = view_row_scale_bytes(pages);
            memset(pages.data, 7, view_bytes(pages));
            memset(pages.scales, 7, view_scale_bytes(pages));
            for (int64_t r = 0; r < rows; r++)
                ((int64_t *)index.data)[r] = r % 3 == 2 ? (r % 2 ? -1 : 2 * rows) : 2 * (rows - 1 - r);
            RUN(d, scatter_rows, ((struct op_scatter_rows){.src = x, .index = index, .dst = pages}));
            bool *written = calloc((size_t)(2 * rows), sizeof *written);
            for (int64_t r = 0; r < rows; r++) {
                int64_t to = ((int64_t *)index.data)[r];
                if (to < 0 || to >= pages.rows) continue;
                written[to] = true;
                assert_memory_equal((char *)pages.data + to * x.cols, (char *)want.data + r * x.cols, (size_t)x.cols);
                assert_memory_equal((char *)pages.scales + (size_t)to * scales,
                                    (char *)want.scales + (size_t)r * scales, scales);
            }
            for (int64_t i = 0; i < elements(pages); i++)
                if (!written[i / x.cols]) assert_int_equal(((int8_t *)pages.data)[i], 7);
            free(written);
            release_tensors();
        }
}

/* A head that is not finite reads as NaN, and its neighbours are as they were. Tiny ones become zeros, huge ones do not
 * overflow. */
static void check_special_heads(device *d) {
    enum { GROUP = 20, HEADS = 7 };
    static const float values[HEADS] = {0.0f, NAN, -INFINITY, 3e38f, 1e-37f, 1e-45f, -1.5f};
    if (!has_int8(d)) return;
    view x = random_tensor(1, HEADS * GROUP, DTYPE_F32, 1e-3), back = tensor(1, x.cols, DTYPE_F32);
    for (int64_t i = 0; i < GROUP; i++) ((float *)x.data)[i] = 0;
    for (int64_t i = 4 * GROUP; i < 6 * GROUP; i++) ((float *)x.data)[i] = values[i / GROUP] * (float)(i % 2);
    for (int h = 1; h < HEADS; h++) ((float *)x.data)[h * GROUP + 3 * h % GROUP] = values[h];
    view q = quantize(d, x, GROUP);
    RUN(d, cast, ((struct op_cast){q, back}));
    for (int64_t i = 0; i < x.cols; i++) {
        int64_t head = i / GROUP;
        double got = element(back, i);
        if (head == 1 || head == 2)
            assert_true(isnan(got));
        else if (head == 0 || head == 4 || head == 5)
            assert_true(got == 0);
        else
            check_near("back", back, i, element(x, i), fabs((double)values[head]) / 127 * HALF);
    }
    release_tensors();
}

/* Rows, heads or head columns that do not exist, and a head that is too long. */
static void check_extents(device *d) {
    if (!has_int8(d)) return;
    view x = tensor(0, 12, DTYPE_F32), none = tensor(5, 0, DTYPE_F32);
    quantize(d, x, 6);
    quantize(d, none, 6);
    view index = tensor(5, 1, DTYPE_I64), pages = tensor_of_heads(8, 0, 6);
    memset(index.data, 0, view_bytes(index));
    RUN(d, scatter_rows, ((struct op_scatter_rows){.src = none, .index = index, .dst = pages}));
    if (strcmp(d->name, "cpu") != 0) return; /* a GPU has no limit */
    view wide = random_tensor(1, 2000, DTYPE_F32, 1.0), q = tensor_of_heads(1, 2000, 2000);
    assert_int_equal(d->ops.cast(d, &(struct op_cast){wide, q}), LCKV_ERROR_UNSUPPORTED);
    release_tensors();
}

/* Attention over a past in int8, against the same past in f32. A score changes by at most
 *   e = scale * sum |q| * (largest scale of a key) / 2,
 * so that a weight changes by a factor of at most exp(2 e), and the result by at most
 *   (largest scale of a value) / 2 + (exp(2 e) - 1) * sum of weight * |value|. */
static void check_attention_error(device *d) {
    enum { PAST = 37, PAGE = 16, HEADS = 6, KV_HEADS = 2, DIM = 24, PAGES = 3 };
    if (!has_int8(d)) return;
    for (int draw = 0; draw < 6; draw++) {
        view q = random_tensor(1, HEADS * DIM, DTYPE_F32, 0.4), none = ABSENT, out[2];
        view k = random_tensor(PAGES * PAGE, KV_HEADS * DIM, DTYPE_F32, exp(random_normal()));
        view v = random_tensor(PAGES * PAGE, KV_HEADS * DIM, DTYPE_F32, exp(random_normal()));
        view k8 = quantize(d, k, DIM), v8 = quantize(d, v, DIM);
        view table = tensor(1, PAGES, DTYPE_I32), sequences = tensor(1, sizeof(attention_sequence), DTYPE_U8);
        for (int i = 0; i < PAGES; i++) ((int32_t *)table.data)[i] = i;
        *(attention_sequence *)sequences.data = (attention_sequence){.q_rows = 1, .past = PAST};
        struct op_attention a = {.q = q, .k = none, .sequences = sequences, .max_q_rows = 1, .max_past = PAST};
        a.heads = HEADS, a.kv_heads = KV_HEADS, a.head_dim = DIM, a.scale = (float)(1 / sqrt(DIM));
        for (int i = 0; i < 2; i++) {
            a.past = (struct kv_pages){i ? k8 : k, i ? v8 : v, table, PAGE};
            a.out = out[i] = tensor(1, HEADS * DIM, DTYPE_F32);
            RUN(d, attention, a);
        }
        view sizes_of_values = copy_tensor(v);
        for (int64_t i = 0; i < elements(v); i++) set_element(sizes_of_values, i, fabs(element(v, i)));
        a.past = (struct kv_pages){k, sizes_of_values, table, PAGE};
        a.out = tensor(1, HEADS * DIM, DTYPE_F32); /* sum of weight * |value| */
        RUN(d, attention, a);
        for (int h = 0; h < HEADS; h++) {
            double k_scale = 0, v_scale = 0, q_sum = 0;
            for (int u = 0; u < PAST; u++) {
                k_scale = fmax(k_scale, (double)((float *)k8.scales)[u * KV_HEADS + h / 3]);
                v_scale = fmax(v_scale, (double)((float *)v8.scales)[u * KV_HEADS + h / 3]);
            }
            for (int c = 0; c < DIM; c++) q_sum += fabs(element(q, h * DIM + c));
            double change = expm1((double)a.scale * q_sum * k_scale * HALF * 2);
            for (int64_t c = h * DIM; c < (h + 1) * DIM; c++)
                check_near("attention", out[1], c, element(out[0], c),
                           v_scale * HALF + (change + 1e-5) * element(a.out, c));
        }
        release_tensors();
    }
}

/* The largest integers of the longest head that the device supports, in every element: each product of a query and a
 * key is +-largest * size, so that the scores are +-1 here, and the values +-2. A query that is not finite gives a
 * result that is not. */
static void check_attention_extremes(device *d) {
    enum { PAST = 20, PAGE = 32, HEADS = 4 };
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16};
    const int dim = strcmp(d->name, "cpu") == 0 ? 1024 : 256;
    if (!has_int8(d)) return;
    for (int t = 0; t < 2; t++) {
        view q = tensor(1, HEADS * dim, types[t]), none = ABSENT, k = tensor_of_heads(PAGE, dim, dim);
        view v = tensor_of_heads(PAGE, dim, dim), table = tensor(1, 1, DTYPE_I32);
        view sequences = tensor(1, sizeof(attention_sequence), DTYPE_U8), out = tensor(1, HEADS * dim, types[t]);
        for (int64_t i = 0; i < q.cols; i++) set_element(q, i, i / dim % 2 ? -3.0 : 3.0);
        set_element(q, 2 * dim + 5, NAN);
        for (int64_t i = 0; i < elements(k); i++)
            ((int8_t *)k.data)[i] = ((int8_t *)v.data)[i] = i / dim % 4 == 0 ? 127 : -127;
        for (int64_t u = 0; u < PAGE; u++) ((float *)k.scales)[u] = 1.0f, ((float *)v.scales)[u] = 2.0f / 127;
        *(int32_t *)table.data = 0;
        *(attention_sequence *)sequences.data = (attention_sequence){.q_rows = 1, .past = PAST};
        struct op_attention a = {.q = q, .k = none, .sequences = sequences, .max_q_rows = 1, .max_past = PAST};
        a.heads = HEADS, a.kv_heads = 1, a.head_dim = dim, a.scale = 1.0f / (3 * 127 * dim), a.out = out;
        a.past = (struct kv_pages){k, v, table, PAGE};
        RUN(d, attention, a);
        for (int64_t i = 0; i < out.cols; i++) {
            double sign = i / dim % 2 ? -1 : 1, up = PAST / 4 * exp(sign), down = (PAST - PAST / 4) * exp(-sign);
            double want = 2 * (up - down) / (up + down);
            if (i / dim == 2)
                assert_true(isnan(element(out, i)));
            else
                check_near("attention", out, i, want,
                           2 * fabs(want) * rounding(types[t]) + 2 * operand_rounding(d, types[t]) + 2e-4);
        }
        release_tensors();
    }
}

static void test_round_trip(void **state) {
    (void)state;
    check_everywhere(check_round_trip);
}

static void test_append(void **state) {
    (void)state;
    check_everywhere(check_append);
}

static void test_special_heads(void **state) {
    (void)state;
    check_everywhere(check_special_heads);
    check_everywhere(check_extents);
}

static void test_attention_error(void **state) {
    (void)state;
    check_everywhere(check_attention_error);
    check_everywhere(check_attention_extremes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_special_heads),
        cmocka_unit_test(test_attention_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
