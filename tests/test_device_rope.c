/* rope_angles at positions of any size, the rotation with its gradient, and both for the heads of one matrix. */
#include "device_check.h"

static const dtype compute[] = {DTYPE_F32, DTYPE_BF16};

static view inverse_frequencies(int head_dim) {
    view v = tensor(1, head_dim / 2, DTYPE_F64);
    for (int64_t i = 0; i < v.cols; i++) set_element(v, i, pow(10000.0, -2.0 * (double)i / head_dim));
    return v;
}

/* Small positions, large ones, and ones where a float would be wrong by whole turns. */
static view some_positions(int64_t rows) {
    static const int64_t notable[] = {0, 1, 2, 16777217, 1000000000, 1000000007, 1000000000000000};
    view v = tensor(rows, 1, DTYPE_I64);
    for (int64_t r = 0; r < rows; r++) ((int64_t *)v.data)[r] = r < 7 ? notable[r] : random_below(1000000000000);
    return v;
}

/* The angle is a product in double; its cosine and sine are correct to float's rounding. The long double functions
 * reduce it exactly. */
static void check_angles_of(device *d, int64_t rows, int head_dim) {
    view positions = some_positions(rows), frequencies = inverse_frequencies(head_dim);
    view angles = tensor(rows, head_dim, DTYPE_F32);
    RUN(d, rope_angles,
        ((struct op_rope_angles){
            .positions = positions, .inverse_frequencies = frequencies, .angles = angles, .scale = 1}));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < head_dim / 2; i++) {
            long double angle = (long double)((double)((int64_t *)positions.data)[r] * element(frequencies, i));
            double cosine = (double)cosl(angle), sine = (double)sinl(angle);
            check_near("cos", angles, r * head_dim + i, cosine, F32_EPSILON * fabs(cosine) + 1e-15);
            check_near("sin", angles, r * head_dim + head_dim / 2 + i, sine, F32_EPSILON * fabs(sine) + 1e-15);
        }
    }
    release_tensors();
}

static void check_angles(device *d) {
    check_angles_of(d, 1, 2);
    check_angles_of(d, 17, 6);
    check_angles_of(d, 100, 128);
}

/* With pi as the frequency, cosines at integer positions alternate between 1 and -1 while the rounding of the product,
 * half a unit of double at position * pi, is small: 1e9 * 3.2 * 2^-53 < 1e-6. */
static void check_half_turns(device *d) {
    view positions = some_positions(6), frequencies = tensor(1, 1, DTYPE_F64), angles = tensor(6, 2, DTYPE_F32);
    set_element(frequencies, 0, 3.14159265358979323846);
    RUN(d, rope_angles,
        ((struct op_rope_angles){
            .positions = positions, .inverse_frequencies = frequencies, .angles = angles, .scale = 1}));
    for (int64_t r = 0; r < 6; r++) {
        check_near("cos", angles, 2 * r, ((int64_t *)positions.data)[r] % 2 ? -1.0 : 1.0, F32_EPSILON);
        check_near("sin", angles, 2 * r + 1, 0.0, 1e-6);
    }
}

/* Long sequences use the second set of frequencies if there is one, else dynamic scaling. */
static void check_lengths(device *d) {
    enum { ROWS = 9, HALF = 4, LIMIT = 100 };
    for (int sets = 1; sets <= 2; sets++) {
        view positions = tensor(ROWS, 1, DTYPE_I64), lengths = tensor(ROWS, 1, DTYPE_I64);
        view frequencies = random_tensor(sets, HALF, DTYPE_F64, 0.1), angles = tensor(ROWS, 2 * HALF, DTYPE_F32);
        for (int64_t r = 0; r < ROWS; r++) {
            ((int64_t *)positions.data)[r] = 7 * r;
            ((int64_t *)lengths.data)[r] = LIMIT - 3 + r * r; /* 97 to 161 */
        }
        struct op_rope_angles a = {.positions = positions,
                                   .lengths = lengths,
                                   .inverse_frequencies = frequencies,
                                   .angles = angles,
                                   .limit = LIMIT,
                                   .growth = 3,
                                   .scale = 1.5f};
        RUN(d, rope_angles, a);
        for (int64_t i = 0; i < ROWS * HALF; i++) {
            int64_t r = i / HALF, j = i % HALF, length = LIMIT - 3 + r * r;
            bool is_long = length > LIMIT;
            double base = 3.0 * (double)length / LIMIT - 2;
            double f = element(frequencies, sets == 2 && is_long ? HALF + j : j);
            if (sets == 1 && is_long) f *= pow(base, -2.0 * (double)j / (2 * HALF - 2));
            check_near("cos", angles, r * 2 * HALF + j, 1.5 * cos(7.0 * (double)r * f), 1e-6);
            check_near("sin", angles, r * 2 * HALF + HALF + j, 1.5 * sin(7.0 * (double)r * f), 1e-6);
        }
        release_tensors();
    }
}

/* ---------------------------------------------------------------- rotation */

typedef struct shape {
    int64_t rows, heads;
    int head_dim;
} shape;
static const shape shapes[] = {{1, 1, 2}, {3, 5, 6}, {17, 1, 1030}, {100, 3, 16}, {129, 4, 64}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static struct op_rope random_rope(shape h, dtype type) {
    view positions = some_positions(h.rows), angles = tensor(h.rows, h.head_dim, DTYPE_F32);
    for (int64_t r = 0; r < h.rows; r++) {
        for (int64_t i = 0; i < h.head_dim / 2; i++) {
            double angle = fmod((double)((int64_t *)positions.data)[r], 1e6) * pow(100.0, -(double)i / h.head_dim);
            set_element(angles, r * h.head_dim + i, cos(angle));
            set_element(angles, r * h.head_dim + h.head_dim / 2 + i, sin(angle));
        }
    }
    int64_t cols = h.heads * h.head_dim;
    return (struct op_rope){.x = random_tensor(h.rows, cols, type, 1.0),
                            .angles = angles,
                            .y = tensor(h.rows, cols, type),
                            .head_dim = h.head_dim,
                            .dy = random_tensor(h.rows, cols, DTYPE_F32, 1.0),
                            .dx = random_tensor(h.rows, cols, DTYPE_F32, 1.0)};
}

/* Element i of x rotated by the angle of its row, or back (turn -1); *size is the sum of the magnitudes of both terms.
 */
static double turned(view x, const struct op_rope *a, int64_t i, double turn, double *size) {
    int64_t half = a->head_dim / 2, row = i / x.cols, place = i % a->head_dim;
    int64_t pair = place < half ? i + half : i - half, at = row * a->head_dim + place % half;
    double own = element(x, i) * element(a->angles, at);
    double other = element(x, pair) * element(a->angles, at + half) * turn * (place < half ? -1.0 : 1.0);
    *size = fabs(own) + fabs(other);
    return own + other;
}

static void check_rotation(device *d) {
    for (int s = 0; s < SHAPES; s++) {
        for (int t = 0; t < 2; t++) {
            struct op_rope a = random_rope(shapes[s], compute[t]);
            RUN(d, rope, a);
            for (int64_t i = 0; i < elements(a.y); i++) {
                double size, want = turned(a.x, &a, i, 1.0, &size);
                check_near("y", a.y, i, want, 3 * F32_EPSILON * size + rounding(a.y.type) * fabs(want));
            }
            release_tensors();
        }
    }
}

static void check_gradient(device *d) {
    for (int s = 0; s < SHAPES; s++) {
        struct op_rope a = random_rope(shapes[s], compute[s % 2]);
        view before = copy_tensor(a.dx), again = copy_tensor(a.dx);
        RUN(d, rope_backward, a);
        for (int64_t i = 0; i < elements(a.dx); i++) {
            double size, want = turned(a.dy, &a, i, -1.0, &size) + element(before, i);
            check_near("dx", a.dx, i, want, 4 * F32_EPSILON * (size + fabs(element(before, i))));
        }
        view first = a.dx;
        a.dx = again;
        RUN(d, rope_backward, a);
        check_same_bits("dx again", again, first);
        a.dx = ABSENT;
        RUN(d, rope_backward, a);
        release_tensors();
    }
}

/* The rotation is linear, so that a difference over any step is its derivative. */
static void check_differences(device *d) {
    struct op_rope a = random_rope((shape){3, 2, 6}, DTYPE_F32);
    memset(a.dx.data, 0, view_bytes(a.dx));
    RUN(d, rope_backward, a);
    for (int64_t i = 0; i < elements(a.x); i++) {
        double loss[2] = {0, 0}, x = element(a.x, i), step = 0.5;
        for (int side = 0; side < 2; side++) {
            set_element(a.x, i, side ? x + step : x - step);
            RUN(d, rope, a);
            for (int64_t j = 0; j < elements(a.y); j++) loss[side] += element(a.dy, j) * element(a.y, j);
        }
        set_element(a.x, i, x);
        check_near("dx", a.dx, i, loss[1] - loss[0], 64 * F32_EPSILON);
    }
}

/* ---------------------------------------------------------------- heads of one matrix */

static view columns(view v, int64_t first, int64_t count) {
    view part = tensor(v.rows, count, v.type);
    for (int64_t i = 0; i < elements(part); i++)
        set_element(part, i, element(v, i / count * v.cols + first + i % count));
    return part;
}

/* Columns `first` on of `all` are those of a part that was rotated by `turn` (0: not), plus what was there. */
static void check_part(const char *what, view got, int64_t first, view from, int64_t from_first, int64_t count,
                       view before, const struct op_rope *like, double turn) {
    view x = columns(from, from_first, count);
    for (int64_t i = 0; i < elements(x); i++) {
        int64_t at = i / count * got.cols + first + i % count;
        double size = fabs(element(x, i)), want = turn != 0 ? turned(x, like, i, turn, &size) : element(x, i);
        double old = before.data ? element(before, at) : 0;
        double rounds = got.type == DTYPE_F32 ? F32_EPSILON : rounding(got.type);
        check_near(what, got, at, want + old, 4 * F32_EPSILON * (size + fabs(old)) + rounds * fabs(want));
    }
}

/* Queries, keys or values are absent where the number of heads is 0. */
static void check_split_of(device *d, int64_t heads, int64_t k_heads, int64_t v_heads, dtype type) {
    enum { ROWS = 19, DIM = 6 };
    struct op_rope like = random_rope((shape){ROWS, 1, DIM}, type);
    int64_t q = heads * DIM, k = k_heads * DIM, v = v_heads * DIM, all = q + k + v;
    struct op_split_heads a = {.x = random_tensor(ROWS, all, type, 1.0), .angles = like.angles, .head_dim = DIM};
    if (q) a.q = tensor(ROWS, q, type), a.dq = random_tensor(ROWS, q, DTYPE_F32, 1.0);
    if (k) a.k = tensor(ROWS, k, type), a.dk = random_tensor(ROWS, k, DTYPE_F32, 1.0);
    if (v) a.v = tensor(ROWS, v, type), a.dv = random_tensor(ROWS, v, DTYPE_F32, 1.0);
    a.dx = random_tensor(ROWS, all, DTYPE_F32, 1.0);
    view before = copy_tensor(a.dx);
    RUN(d, split_heads, a);
    RUN(d, split_heads_backward, a);
    if (q) check_part("q", a.q, 0, a.x, 0, q, ABSENT, &like, 1);
    if (k) check_part("k", a.k, 0, a.x, q, k, ABSENT, &like, 1);
    if (v) check_part("v", a.v, 0, a.x, q + k, v, ABSENT, &like, 0);
    if (q) check_part("dx of q", a.dx, 0, a.dq, 0, q, before, &like, -1);
    if (k) check_part("dx of k", a.dx, q, a.dk, 0, k, before, &like, -1);
    if (v) check_part("dx of v", a.dx, q + k, a.dv, 0, v, before, &like, 0);
    release_tensors();
}

/* A part without a gradient leaves its columns as they are. */
static void check_split(device *d) {
    for (int t = 0; t < 2; t++) {
        check_split_of(d, 4, 2, 2, compute[t]);
        check_split_of(d, 0, 1, 1, compute[t]);
        check_split_of(d, 3, 1, 0, compute[t]);
        check_split_of(d, 3, 0, 1, compute[t]);
    }
    struct op_rope like = random_rope((shape){3, 1, 6}, DTYPE_F32);
    struct op_split_heads a = {.x = random_tensor(3, 12, DTYPE_F32, 1.0),
                               .angles = like.angles,
                               .q = tensor(3, 6, DTYPE_F32),
                               .v = tensor(3, 6, DTYPE_F32),
                               .dq = random_tensor(3, 6, DTYPE_F32, 1.0),
                               .head_dim = 6,
                               .dx = random_tensor(3, 12, DTYPE_F32, 1.0)};
    view before = copy_tensor(a.dx);
    RUN(d, split_heads_backward, a);
    check_same_bits("dx of v", columns(a.dx, 6, 6), columns(before, 6, 6));
    release_tensors();
}

static void test_split(void **state) {
    (void)state;
    check_everywhere(check_split);
}

static void test_angles(void **state) {
    (void)state;
    check_everywhere(check_angles);
    check_everywhere(check_half_turns);
    check_everywhere(check_lengths);
}

static void test_rotation(void **state) {
    (void)state;
    check_everywhere(check_rotation);
}

static void test_gradient(void **state) {
    (void)state;
    check_everywhere(check_gradient);
    check_everywhere(check_differences);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_angles),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
