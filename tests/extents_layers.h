/* Checks of norms, RoPE, heads, the MLP, dropout and the residual stream at given extents (test_device_extents.c). */
#ifndef TESTS_EXTENTS_LAYERS_H
#define TESTS_EXTENTS_LAYERS_H

#include "extents.h"

static inline struct op_rms_norm norm_of(const int64_t *e) {
    return (struct op_rms_norm){.x = random_tensor(e[0], e[1] * e[2], compute, 1.0),
                                .weight = random_tensor(1, e[2], DTYPE_F32, 1.0),
                                .y = tensor(e[0], e[1] * e[2], compute),
                                .rstd = tensor(e[0], e[1], DTYPE_F32),
                                .eps = 1e-3f};
}

static inline void check_rms_norm(device *d, const int64_t *e) {
    struct op_rms_norm a = norm_of(e);
    int64_t width = e[2];
    RUN(d, rms_norm, a);
    for (int64_t run = 0; run < e[0] * e[1]; run++) {
        double squares = 0;
        for (int64_t i = 0; i < width; i++) squares += pow(element(a.x, run * width + i), 2);
        double rstd = 1 / sqrt((width ? squares / (double)width : 0) + (double)a.eps);
        check_near("rstd", a.rstd, run, rstd, 64 * F32_EPSILON * rstd);
        for (int64_t i = 0; i < width; i++) {
            double y = element(a.weight, i) * element(a.x, run * width + i) * rstd;
            check_near("y", a.y, run * width + i, y, near(y));
        }
    }
}

static inline void check_rms_norm_backward(device *d, const int64_t *e) {
    struct op_rms_norm a = norm_of(e);
    int64_t width = e[2];
    RUN(d, rms_norm, a);
    a.dy = gradient(a.x.rows, a.x.cols), a.dx = gradient(a.x.rows, a.x.cols), a.dweight = gradient(1, width);
    view dx = copy_tensor(a.dx), dweight = copy_tensor(a.dweight);
    RUN(d, rms_norm_backward, a);
    for (int64_t i = 0; i < elements(a.dx); i++) {
        int64_t run = i / width, at = run * width;
        double rstd = element(a.rstd, run), pull = 0;
        for (int64_t c = 0; c < width; c++) pull += element(a.dy, at + c) * element(a.weight, c) * element(a.x, at + c);
        double want = element(dx, i) + rstd * element(a.dy, i) * element(a.weight, i % width) -
                      element(a.x, i) * pow(rstd, 3) * pull / (double)width;
        check_near("dx", a.dx, i, want, 1e-4 * (1 + pow(rstd, 3)));
    }
    for (int64_t c = 0; c < width; c++) {
        double want = element(dweight, c);
        for (int64_t i = c; i < elements(a.x); i += width)
            want += element(a.dy, i) * element(a.x, i) * element(a.rstd, i / width);
        check_near("dweight", a.dweight, c, want, 1e-3);
    }
}

static inline void check_rope_angles(device *d, const int64_t *e) {
    struct op_rope_angles a = {.positions = integers(e[0], DTYPE_I64, 1000),
                               .inverse_frequencies = random_tensor(1, e[1], DTYPE_F64, 1.0),
                               .angles = tensor(e[0], 2 * e[1], DTYPE_F32),
                               .scale = 1};
    RUN(d, rope_angles, a);
    for (int64_t i = 0; i < elements(a.angles); i++) {
        int64_t c = i % a.angles.cols;
        double angle =
            (double)((int64_t *)a.positions.data)[i / a.angles.cols] * element(a.inverse_frequencies, c % e[1]);
        check_near("angles", a.angles, i, c < e[1] ? cos(angle) : sin(angle), 1e-6);
    }
}

/* Element i of v with its heads rotated by the angles, or back (sign -1). */
static inline double turned(view v, view angles, int64_t head_dim, int64_t i, double sign) {
    int64_t half = head_dim / 2, c = i % head_dim, low = c < half;
    double cosine = element(angles, i / v.cols * head_dim + c % half);
    double sine = sign * element(angles, i / v.cols * head_dim + half + c % half);
    return element(v, i) * cosine + (low ? -element(v, i + half) : element(v, i - half)) * sine;
}

static inline void check_rope(device *d, const int64_t *e) {
    int64_t head_dim = 2 * e[2];
    struct op_rope a = {.x = random_tensor(e[0], e[1] * head_dim, compute, 1.0),
                        .angles = random_tensor(e[0], head_dim, DTYPE_F32, 1.0),
                        .y = tensor(e[0], e[1] * head_dim, compute),
                        .head_dim = (int)head_dim};
    RUN(d, rope, a);
    for (int64_t i = 0; i < elements(a.y); i++) {
        double want = turned(a.x, a.angles, head_dim, i, 1);
        check_near("y", a.y, i, want, near(want));
    }
}

static inline void check_rope_backward(device *d, const int64_t *e) {
    int64_t head_dim = 2 * e[2];
    struct op_rope a = {.angles = random_tensor(e[0], head_dim, DTYPE_F32, 1.0),
                        .dy = gradient(e[0], e[1] * head_dim),
                        .dx = gradient(e[0], e[1] * head_dim),
                        .head_dim = (int)head_dim};
    view before = copy_tensor(a.dx);
    RUN(d, rope_backward, a);
    for (int64_t i = 0; i < elements(a.dx); i++) {
        double want = element(before, i) + turned(a.dy, a.angles, head_dim, i, -1);
        check_near("dx", a.dx, i, want, 1e-5);
    }
}

/* Part i of a row's three, each of `cols`, as a tensor. */
static inline view third(view x, int64_t cols, int i) {
    view part = tensor(x.rows, cols, x.type);
    for (int64_t at = 0; at < elements(part); at++)
        set_element(part, at, element(x, at / cols * 3 * cols + i * cols + at % cols));
    return part;
}

static inline struct op_split_heads split_of(const int64_t *e) {
    int64_t head_dim = 2 * e[2], cols = e[1] * head_dim;
    return (struct op_split_heads){.x = random_tensor(e[0], 3 * cols, compute, 1.0),
                                   .angles = random_tensor(e[0], head_dim, DTYPE_F32, 1.0),
                                   .q = tensor(e[0], cols, compute),
                                   .k = tensor(e[0], cols, compute),
                                   .v = tensor(e[0], cols, compute),
                                   .head_dim = (int)head_dim};
}

static inline void check_split_heads(device *d, const int64_t *e) {
    struct op_split_heads a = split_of(e);
    view parts[] = {a.q, a.k, a.v};
    RUN(d, split_heads, a);
    for (int part = 0; part < 3; part++) {
        view x = third(a.x, a.q.cols, part);
        for (int64_t i = 0; i < elements(x); i++) {
            double want = part < 2 ? turned(x, a.angles, a.head_dim, i, 1) : element(x, i);
            check_near("a part", parts[part], i, want, near(want));
        }
    }
}

static inline void check_split_heads_backward(device *d, const int64_t *e) {
    struct op_split_heads a = split_of(e);
    a.dq = gradient(e[0], a.q.cols), a.dk = gradient(e[0], a.q.cols), a.dv = gradient(e[0], a.q.cols);
    a.dx = gradient(e[0], a.x.cols);
    view before = copy_tensor(a.dx), parts[] = {a.dq, a.dk, a.dv};
    RUN(d, split_heads_backward, a);
    for (int part = 0; part < 3; part++) {
        view dx = third(a.dx, a.q.cols, part), was = third(before, a.q.cols, part), dy = parts[part];
        for (int64_t i = 0; i < elements(dx); i++) {
            double change = part < 2 ? turned(dy, a.angles, a.head_dim, i, -1) : element(dy, i);
            check_near("dx", dx, i, element(was, i) + change, 1e-5);
        }
    }
}

static inline struct op_swiglu swiglu_of(const int64_t *e) {
    return (struct op_swiglu){.gate = random_tensor(e[0], e[1], compute, 1.0),
                              .up = random_tensor(e[0], e[1], compute, 1.0),
                              .y = tensor(e[0], e[1], compute)};
}

static inline void check_swiglu(device *d, const int64_t *e) {
    struct op_swiglu a = swiglu_of(e);
    RUN(d, swiglu, a);
    for (int64_t i = 0; i < elements(a.y); i++) {
        double x = element(a.gate, i), want = x / (1 + exp(-x)) * element(a.up, i);
        check_near("y", a.y, i, want, near(want));
    }
}

static inline void check_swiglu_backward(device *d, const int64_t *e) {
    struct op_swiglu a = swiglu_of(e);
    a.dy = gradient(e[0], e[1]), a.dgate = gradient(e[0], e[1]), a.dup = gradient(e[0], e[1]);
    view dgate = copy_tensor(a.dgate), dup = copy_tensor(a.dup);
    RUN(d, swiglu_backward, a);
    for (int64_t i = 0; i < elements(a.dy); i++) {
        double x = element(a.gate, i), s = 1 / (1 + exp(-x)), dy = element(a.dy, i);
        check_near("dgate", a.dgate, i, element(dgate, i) + dy * element(a.up, i) * s * (1 + x * (1 - s)), 1e-4);
        check_near("dup", a.dup, i, element(dup, i) + dy * x * s, 1e-4);
    }
}

static inline double dropout_mask(int64_t i) {
    uint32_t words[4];
    rng_block(5, 3, (uint64_t)i / 4, words);
    return words[i % 4] < 1u << 30 ? 0 : 4.0 / 3;
}

static inline struct op_dropout dropout_of(void) {
    struct op_dropout a = {.seed = tensor(1, 1, DTYPE_I64), .p = 0.25, .stream = 3};
    *(int64_t *)a.seed.data = 5;
    return a;
}

static inline void check_dropout(device *d, const int64_t *e) {
    struct op_dropout a = dropout_of();
    a.x = random_tensor(e[0], e[1], compute, 1.0), a.y = tensor(e[0], e[1], compute);
    RUN(d, dropout, a);
    for (int64_t i = 0; i < elements(a.y); i++) {
        double want = element(a.x, i) * dropout_mask(i);
        check_near("y", a.y, i, want, near(want));
    }
}

static inline void check_dropout_backward(device *d, const int64_t *e) {
    struct op_dropout a = dropout_of();
    a.dy = gradient(e[0], e[1]), a.dx = gradient(e[0], e[1]);
    view before = copy_tensor(a.dx);
    RUN(d, dropout_backward, a);
    for (int64_t i = 0; i < elements(a.dx); i++)
        check_near("dx", a.dx, i, element(before, i) + element(a.dy, i) * dropout_mask(i), 1e-5);
}

static inline void check_add(device *d, const int64_t *e) {
    struct op_add a = {gradient(e[0], e[1]), gradient(e[0], e[1]), tensor(e[0], e[1], DTYPE_F32)};
    RUN(d, add, a);
    for (int64_t i = 0; i < elements(a.y); i++) check_near("y", a.y, i, (float)(element(a.a, i) + element(a.b, i)), 0);
}

static inline void check_accumulate(device *d, const int64_t *e) {
    struct op_accumulate a = {random_tensor(e[0], e[1], compute, 1.0), gradient(e[0], e[1]), 0.5f};
    view before = copy_tensor(a.dst);
    RUN(d, accumulate, a);
    for (int64_t i = 0; i < elements(a.dst); i++)
        check_near("dst", a.dst, i, element(before, i) + 0.5 * element(a.src, i), 1e-6);
}

static inline void check_cast(device *d, const int64_t *e) {
    struct op_cast a = {random_tensor(e[0], e[1], compute, 1.0), tensor(e[0], e[1], DTYPE_BF16)};
    RUN(d, cast, a);
    for (int64_t i = 0; i < elements(a.dst); i++)
        check_near("dst", a.dst, i, element(a.src, i), rounding(DTYPE_BF16) * fabs(element(a.src, i)));
}

#endif
