/* sum_squares, clip and adamw: against double, and against results of torch.optim.AdamW and clip_grad_norm_ (torch 2).
 */
#include "base/rng.h"
#include "device_check.h"

static const int64_t sizes[][2] = {{1, 1}, {3, 17}, {1, 1030}, {100, 3}, {211, 257}};
enum { SIZES = sizeof sizes / sizeof *sizes };
static const dtype floats[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

static view scalar(double x) {
    view v = tensor(1, 1, DTYPE_F64);
    set_element(v, 0, x);
    return v;
}

static view state_tensor(const step_state *state) {
    view v = tensor(1, sizeof *state, DTYPE_U8);
    memcpy(v.data, state, sizeof *state);
    return v;
}

static void clip(device *d, view sum, view loss, step_state *state) {
    view v = state_tensor(state);
    RUN(d, clip, ((struct op_clip){sum, loss, v}));
    memcpy(state, v.data, sizeof *state);
}

/* ---------------------------------------------------------------- norm and clipping */

static void check_sum_squares(device *d) {
    for (int s = 0; s < SIZES; s++) {
        view x = random_tensor(sizes[s][0], sizes[s][1], DTYPE_F32, 3.0), out = scalar(0.75);
        view again = scalar(0.75);
        double want = 0.75;
        for (int64_t i = 0; i < elements(x); i++) want += element(x, i) * element(x, i);
        RUN(d, sum_squares, ((struct op_sum_squares){x, out}));
        RUN(d, sum_squares, ((struct op_sum_squares){x, again}));
        check_near("sum of squares", out, 0, want, 0x1p-53 * (double)(elements(x) + 2) * want);
        check_same_bits("sum of squares again", out, again);
        release_tensors();
    }
}

static void check_square_distances(device *d) {
    static const dtype TYPES[] = {DTYPE_F32, DTYPE_BF16};
    for (int s = 0; s < 2 * SIZES; s++) {
        const int64_t rows = sizes[s / 2][0], cols = sizes[s / 2][1];
        view x = random_tensor(rows, cols, TYPES[s % 2], 3.0), minus = random_tensor(rows, cols, TYPES[s % 2], 3.0);
        view out = scalar(0.75);
        double want = 0.75;
        for (int64_t i = 0; i < elements(x); i++) want += pow(element(x, i) - element(minus, i), 2);
        RUN(d, sum_squares, ((struct op_sum_squares){x, out, minus}));
        check_near("square distance", out, 0, want, 0x1p-53 * (double)(elements(x) + 4) * want);
        release_tensors();
    }
}

/* Squares that float could not hold. */
static void check_large_squares(device *d) {
    view x = tensor(1, 3, DTYPE_F32), out = scalar(0.0);
    set_element(x, 0, 1e30), set_element(x, 1, -1e30), set_element(x, 2, 1e-30);
    RUN(d, sum_squares, ((struct op_sum_squares){x, out}));
    check_near("sum of squares", out, 0, 2 * (double)1e30f * (double)1e30f, 1e46);
}

static step_state clip_state(device *d, double sum, double loss, float max_norm) {
    step_state state = {.max_grad_norm = max_norm, .learning_rate = 7.0f, .finite = -1};
    clip(d, scalar(sum), scalar(loss), &state);
    assert_true(state.learning_rate == 7.0f && state.max_grad_norm == max_norm);
    return state;
}

static void check_clip(device *d) {
    step_state s = clip_state(d, 9.0, 2.5, 1.0f);
    assert_true(s.finite == 1 && s.grad_norm == 3.0 && s.clip_factor == (float)(1.0 / (3.0 + 1e-6)));
    s = clip_state(d, 9.0, 2.5, 4.0f);
    assert_true(s.finite == 1 && s.grad_norm == 3.0 && s.clip_factor == 1.0f);
    s = clip_state(d, 9.0, 2.5, 0.0f);
    assert_true(s.finite == 1 && s.grad_norm == 3.0 && s.clip_factor == 1.0f);
    s = clip_state(d, 0.0, -2.5, 1.0f);
    assert_true(s.finite == 1 && s.grad_norm == 0.0 && s.clip_factor == 1.0f);
    assert_int_equal(clip_state(d, (double)NAN, 2.5, 1.0f).finite, 0);
    assert_int_equal(clip_state(d, (double)INFINITY, 2.5, 1.0f).finite, 0);
    assert_int_equal(clip_state(d, 9.0, (double)NAN, 1.0f).finite, 0);
    assert_int_equal(clip_state(d, 9.0, -(double)INFINITY, 0.0f).finite, 0);
    for (int i = 0; i < 3; i++) { /* a norm of 3 against limits around it, and none */
        step_state t = {.skip_grad_norm = i == 0 ? 2.9f : i == 1 ? 3.0f : 0.0f, .finite = -1};
        clip(d, scalar(9.0), scalar(2.5), &t);
        assert_int_equal(t.finite, i != 0);
    }
}

/* ---------------------------------------------------------------- steps */

typedef struct settings {
    double learning_rate, beta1, beta2, epsilon, decay;
} settings;

static step_state state_of(settings s, int step) {
    return (step_state){.learning_rate = (float)s.learning_rate,
                        .beta1 = (float)s.beta1,
                        .beta2 = (float)s.beta2,
                        .epsilon = (float)s.epsilon,
                        .correction1 = (float)(1.0 - pow(s.beta1, step)),
                        .correction2 = (float)(1.0 - pow(s.beta2, step)),
                        .clip_factor = 1.0f,
                        .finite = 1};
}

typedef struct parameters {
    view master, weight, grad, m, v;
} parameters;

static parameters random_parameters(int64_t rows, int64_t cols, dtype type) {
    parameters p = {random_tensor(rows, cols, DTYPE_F32, 1.0), ABSENT, tensor(rows, cols, DTYPE_F32),
                    tensor(rows, cols, DTYPE_F32), tensor(rows, cols, DTYPE_F32)};
    if (type != DTYPE_F32) p.weight = tensor(rows, cols, type);
    memset(p.m.data, 0, view_bytes(p.m));
    memset(p.v.data, 0, view_bytes(p.v));
    return p;
}

static void adamw(device *d, parameters p, step_state *state, double decay) {
    RUN(d, adamw,
        ((struct op_adamw){p.master, p.weight, p.grad, p.m, p.v, state_tensor(state), .weight_decay = (float)decay}));
}

/* The formula in double, one element: p, m and v are what they were and become what they are. */
static void reference(settings s, int step, double clip_factor, double grad, double *p, double *m, double *v) {
    double g = grad * clip_factor;
    *p *= 1.0 - s.learning_rate * s.decay;
    *m = s.beta1 * *m + (1.0 - s.beta1) * g;
    *v = s.beta2 * *v + (1.0 - s.beta2) * g * g;
    *p -= s.learning_rate * (*m / (1.0 - pow(s.beta1, step))) / (sqrt(*v / (1.0 - pow(s.beta2, step))) + s.epsilon);
}

/* The constants, beta and 1 - beta among them, are floats: off by a few epsilons, 1 - beta by epsilon / (1 - beta). An
 * update is at most about 4 learning rates large here, so a step loses about 4 lr (8 + 1 / (1 - beta2)) epsilons, and
 * the rounding of p. */
static double step_error(settings s, double p) {
    return F32_EPSILON * (2.0 * fabs(p) + 4.0 * s.learning_rate * (8.0 + 1.0 / (1.0 - s.beta2)));
}

static void check_steps_of(device *d, int64_t rows, int64_t cols, dtype type, settings s) {
    enum { STEPS = 5 };
    parameters p = random_parameters(rows, cols, type);
    int64_t n = rows * cols;
    view want = tensor(rows, cols, DTYPE_F64), m = tensor(rows, cols, DTYPE_F64), v = tensor(rows, cols, DTYPE_F64);
    for (int64_t i = 0; i < n; i++) set_element(want, i, element(p.master, i));
    memset(m.data, 0, view_bytes(m));
    memset(v.data, 0, view_bytes(v));
    for (int step = 1; step <= STEPS; step++) {
        step_state state = state_of(s, step);
        state.clip_factor = step % 2 ? 1.0f : 0.25f;
        for (int64_t i = 0; i < n; i++) {
            set_element(p.grad, i, random_normal() * (i % 3 ? 1.0 : 1e-3));
            reference(s, step, (double)state.clip_factor, element(p.grad, i), (double *)want.data + i,
                      (double *)m.data + i, (double *)v.data + i);
        }
        adamw(d, p, &state, s.decay);
        for (int64_t i = 0; i < n; i++) {
            check_near("p", p.master, i, element(want, i), step * step_error(s, element(want, i)));
            check_near("grad", p.grad, i, 0.0, 0.0);
        }
    }
    view rounded = tensor(rows, cols, type);
    for (int64_t i = 0; i < n && p.weight.data; i++) set_element(rounded, i, element(p.master, i));
    if (p.weight.data) check_same_bits("weight", p.weight, rounded);
    release_tensors();
}

static void check_steps(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int t = 0; t < 3; t++) {
            check_steps_of(d, sizes[s][0], sizes[s][1], floats[t], (settings){0.01, 0.9, 0.95, 1e-8, 0.1});
        }
    }
    check_steps_of(d, 5, 7, DTYPE_F32, (settings){0.001, 0.9, 0.999, 1e-6, 0.0});
}

/* torch.optim.AdamW(lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1) after clip_grad_norm_(1.0). */
static void check_torch(device *d) {
    static const double grads[3][4] = {{0.25, -2.0, 0.5, 1e-3}, {-0.125, 1.0, 0.25, -1e-3}, {3.0, 0.5, -0.75, 2e-3}};
    static const double norms[3] = {2.0766561, 1.03832841, 3.13249159};
    static const double after[3][4] = {{0.489500016, -1.23874998, 1.98800004, -0.00999979209},
                                       {0.489536822, -1.23803759, 1.97601211, -0.00635610428},
                                       {0.482973814, -1.23796201, 1.97139037, -0.00717330677}};
    const settings s = {0.01, 0.9, 0.95, 1e-8, 0.1};
    parameters p = random_parameters(1, 4, DTYPE_F32);
    set_element(p.master, 0, 0.5), set_element(p.master, 1, -1.25);
    set_element(p.master, 2, 2.0), set_element(p.master, 3, 0.0);
    for (int step = 1; step <= 3; step++) {
        step_state state = state_of(s, step);
        state.max_grad_norm = 1.0f, state.finite = 0, state.clip_factor = 0.0f;
        for (int i = 0; i < 4; i++) set_element(p.grad, i, grads[step - 1][i]);
        view sum = scalar(0.0);
        RUN(d, sum_squares, ((struct op_sum_squares){p.grad, sum}));
        clip(d, sum, scalar(1.0), &state);
        assert_true(fabs(state.grad_norm - norms[step - 1]) < 4 * F32_EPSILON * state.grad_norm);
        adamw(d, p, &state, s.decay);
        for (int i = 0; i < 4; i++) {
            check_near("p", p.master, i, after[step - 1][i], step * step_error(s, after[step - 1][i]));
        }
    }
}

/* Not finite: nothing changes, and gradients are 0 for the next step. */
static void check_not_finite(device *d) {
    parameters p = random_parameters(3, 17, DTYPE_BF16);
    for (int64_t i = 0; i < elements(p.grad); i++) set_element(p.grad, i, random_normal());
    set_element(p.grad, 5, (double)NAN);
    memset(p.weight.data, 0x3f, view_bytes(p.weight));
    view before[] = {copy_tensor(p.master), copy_tensor(p.weight), copy_tensor(p.m), copy_tensor(p.v)};
    step_state state = state_of((settings){0.01, 0.9, 0.95, 1e-8, 0.1}, 1);
    view sum = scalar(0.0);
    RUN(d, sum_squares, ((struct op_sum_squares){p.grad, sum}));
    clip(d, sum, scalar(1.0), &state);
    adamw(d, p, &state, 0.1);
    view after[] = {p.master, p.weight, p.m, p.v};
    for (int i = 0; i < 4; i++) check_same_bits("not finite", after[i], before[i]);
    for (int64_t i = 0; i < elements(p.grad); i++) assert_true(element(p.grad, i) == 0);
}

/* ---------------------------------------------------------------- bf16 */

/* Every factor is a power of 2 and every gradient has 8 bits, so that each line of the formula rounds once, fused or
 * not: the f32 results are the same bits everywhere, and only then rounded. */
static const step_state POWERS = {.learning_rate = 0.125f,
                                  .beta1 = 0.5f,
                                  .beta2 = 0.5f,
                                  .epsilon = 0x1p-10f,
                                  .correction1 = 1.0f,
                                  .correction2 = 1.0f,
                                  .clip_factor = 1.0f,
                                  .finite = 1,
                                  .rounding_seed = 0x123456789abcdef};

static void in_powers(float grad, float *p, float *m, float *v) {
    *m = 0.5f * *m + 0.5f * grad;
    *v = 0.5f * *v + 0.5f * (grad * grad);
    float length = sqrtf(*v) + 0x1p-10f;
    float step = 0.125f * *m / length;
    *p = *p - step;
}

/* The upper half of x after noise was added to the lower one. */
static double rounded_up_by(float x, uint32_t noise) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + noise) >> 16 << 16;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static parameters bf16_parameters(int64_t rows, int64_t cols) {
    view rough = random_tensor(rows, cols, DTYPE_BF16, 1.0);
    parameters p = {random_tensor(rows, cols, DTYPE_BF16, 1.0), ABSENT, tensor(rows, cols, DTYPE_F32),
                    random_tensor(rows, cols, DTYPE_BF16, 1.0), random_tensor(rows, cols, DTYPE_BF16, 1.0)};
    for (int64_t i = 0; i < rows * cols; i++) {
        set_element(p.grad, i, element(rough, i));
        set_element(p.v, i, fabs(element(p.v, i)));
    }
    return p;
}

static void adamw_from(device *d, parameters p, step_state state, int64_t first) {
    RUN(d, adamw,
        ((struct op_adamw){p.master, p.weight, p.grad, p.m, p.v, state_tensor(&state), .stream = 77, .first = first}));
}

static void check_bf16_of(device *d, int64_t rows, int64_t cols, int64_t first) {
    parameters p = bf16_parameters(rows, cols);
    view want[3] = {tensor(rows, cols, DTYPE_BF16), tensor(rows, cols, DTYPE_BF16), tensor(rows, cols, DTYPE_BF16)};
    for (int64_t i = 0; i < rows * cols; i++) {
        float x[3] = {(float)element(p.master, i), (float)element(p.m, i), (float)element(p.v, i)};
        uint32_t words[4];
        int64_t e = first + i, k = e % 2 * 2;
        in_powers((float)element(p.grad, i), &x[0], &x[1], &x[2]);
        rng_block(POWERS.rounding_seed, 77, (uint64_t)e / 2, words);
        const uint32_t noise[3] = {words[k] & 0xffff, words[k] >> 16, words[k + 1] & 0xffff};
        for (int j = 0; j < 3; j++) set_element(want[j], i, rounded_up_by(x[j], noise[j]));
    }
    adamw_from(d, p, POWERS, first);
    check_same_bits("p", p.master, want[0]);
    check_same_bits("m", p.m, want[1]);
    check_same_bits("v", p.v, want[2]);
    for (int64_t i = 0; i < rows * cols; i++) check_near("grad", p.grad, i, 0.0, 0.0);
    release_tensors();
}

static void check_bf16(device *d) {
    for (int s = 0; s < SIZES; s++)
        for (int64_t first = 0; first < 300; first += 149) check_bf16_of(d, sizes[s][0], sizes[s][1], first);
}

/* 2^14 equal elements: their mean is the f32 result within 5 deviations of the mean of as many roundings, each of which
 * deviates by half a place at most. An element that lies on a bf16 number stays there. */
static void check_unbiased(device *d) {
    enum { COUNT = 1 << 14 };
    const float start[3] = {0.6328125f, 0.25f, 0.015625f}, grad = 0.3125f;
    parameters p = {tensor(1, COUNT, DTYPE_BF16), ABSENT, tensor(1, COUNT, DTYPE_F32), tensor(1, COUNT, DTYPE_BF16),
                    tensor(1, COUNT, DTYPE_BF16)};
    view all[3] = {p.master, p.m, p.v};
    float exact[3] = {start[0], start[1], start[2]};
    for (int64_t i = 0; i < COUNT; i++) {
        for (int j = 0; j < 3; j++) set_element(all[j], i, (double)start[j]);
        set_element(p.grad, i, (double)grad);
    }
    in_powers(grad, &exact[0], &exact[1], &exact[2]);
    adamw_from(d, p, POWERS, 0);
    for (int j = 0; j < 3; j++) {
        double sum = 0, place = ldexp(1.0, ilogb((double)exact[j]) - 7);
        for (int64_t i = 0; i < COUNT; i++) {
            sum += element(all[j], i);
            assert_true(fabs(element(all[j], i) - (double)exact[j]) < place);
        }
        if (fabs(sum / COUNT - (double)exact[j]) > 5 * place / 2 / sqrt(COUNT))
            fail_msg("tensor %d: the mean is %.9g, expected %.9g", j, sum / COUNT, (double)exact[j]);
    }
    for (int64_t i = 0; i < COUNT; i++) assert_true(element(p.m, i) == 0.28125); /* (0.25 + 0.3125) / 2 */
    release_tensors();
}

static void check_bf16_not_finite(device *d) {
    parameters p = bf16_parameters(3, 17);
    view before[] = {copy_tensor(p.master), copy_tensor(p.m), copy_tensor(p.v)};
    step_state state = POWERS;
    state.finite = 0;
    adamw_from(d, p, state, 0);
    check_same_bits("p", p.master, before[0]);
    check_same_bits("m", p.m, before[1]);
    check_same_bits("v", p.v, before[2]);
    for (int64_t i = 0; i < elements(p.grad); i++) assert_true(element(p.grad, i) == 0);
    release_tensors();
}

static void test_bf16(void **state) {
    (void)state;
    check_everywhere(check_bf16);
    check_everywhere(check_unbiased);
    check_everywhere(check_bf16_not_finite);
}

static void test_norm(void **state) {
    (void)state;
    check_everywhere(check_sum_squares);
    check_everywhere(check_square_distances);
    check_everywhere(check_large_squares);
    check_everywhere(check_clip);
}

static void test_steps(void **state) {
    (void)state;
    check_everywhere(check_steps);
    check_everywhere(check_torch);
}

static void test_not_finite(void **state) {
    (void)state;
    check_everywhere(check_not_finite);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
