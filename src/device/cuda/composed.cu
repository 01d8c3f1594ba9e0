/* The composed ops (device.h), as far as they are faster than their parts. */
#include "device/cuda/groups.h"
#include "device/cuda/kv_int8.h"
#include "device/cuda/launch.h"
#include "device/cuda/products.h"
#include "device/cuda/rotate.h"

enum { MAX_APART = 1 << 30 };

/* Whether cuBLASLt can multiply by two matrices at a time that are so far apart. A tensor map limits the distance,
 * which must be positive. Results in different chunks of a pool can be anywhere. */
static bool near(const void *one, const void *two) {
    uintptr_t apart = (uintptr_t)two - (uintptr_t)one;
    return (uintptr_t)two > (uintptr_t)one && apart <= MAX_APART && apart % 16 == 0;
}

static bool pairs(const struct op_project *a, int i) {
    if (i + 1 >= a->parts || a->part[i].bias.data || a->part[i + 1].bias.data) return false;
    view one = a->part[i].weight, two = a->part[i + 1].weight;
    bool bf16 = one.type == DTYPE_BF16 && two.type == DTYPE_BF16 && a->normed.type == DTYPE_BF16;
    return bf16 && near(one.data, two.data) && near(a->part[i].y.data, a->part[i + 1].y.data) && one.rows == two.rows &&
           cuda_elements(one) > 0;
}

/* Products of equal shapes, such as those of keys and values, two at a time. */
static int project_many(device *d, const struct op_project *a) {
    for (int i = 0; i < a->parts; i++) {
        struct op_linear one = {};
        one.x = a->normed, one.weight = a->part[i].weight, one.bias = a->part[i].bias, one.y = a->part[i].y;
        if (!pairs(a, i)) {
            TRY(cuda_linear(d, &one));
            continue;
        }
        struct cuda_product both = {};
        both.a = one.x, both.b = one.weight, both.c = one.y;
        both.b_twin = a->part[++i].weight.data, both.c_twin = a->part[i].y.data;
        both.b_transposed = true;
        TRY(cuda_multiply(d, &both));
    }
    if (!a->gated_y.data) return LCKV_OK;
    struct op_swiglu gate = {};
    gate.gate = a->part[0].y, gate.up = a->part[1].y, gate.y = a->gated_y;
    return cuda_swiglu(d, &gate);
}

static int norm_rows(device *d, const struct op_project *a) {
    struct op_rms_norm norm = {};
    norm.x = a->x, norm.weight = a->norm, norm.y = a->normed, norm.rstd = a->rstd, norm.eps = a->eps;
    return cuda_rms_norm(d, &norm);
}

/* Replaces weights in grouped formats by their values, for products of many rows. */
static int widen_parts(device *d, struct op_project *a) {
    view weights[PROJECT_PARTS];
    if (a->x.rows <= CUDA_PLAIN_ROWS) return LCKV_OK; /* linear reads them as they are */
    for (int i = 0; i < a->parts; i++) weights[i] = a->part[i].weight;
    TRY(cuda_widen(d, a->parts, weights, a->normed.type));
    for (int i = 0; i < a->parts; i++) a->part[i].weight = weights[i];
    return LCKV_OK;
}

static bool project_few(device *d, const struct op_project *a, bool with_norm) {
    return cuda_project_few_matrix(d, a, with_norm) || cuda_project_few_groups(d, a, with_norm);
}

/* The products of normed rows. */
static int project_normed(device *d, const struct op_project *a) {
    if (project_few(d, a, false) || cuda_project_warpgroup(d, a)) return LCKV_OK;
    struct op_project wide = *a;
    TRY(widen_parts(d, &wide));
    return project_many(d, &wide);
}

int cuda_project(device *d, const struct op_project *a) {
    if (a->x.rows == 0 || project_few(d, a, true)) return LCKV_OK;
    TRY(norm_rows(d, a));
    return project_normed(d, a);
}

static bool heads_few(device *d, const struct op_heads *a, bool with_norm) {
    return cuda_heads_few_matrix(d, a, with_norm) || cuda_heads_few_groups(d, a, with_norm);
}

int cuda_heads(device *d, const struct op_heads *a) {
    bool plain = !a->append.room.data && a->append.pages_k.type != DTYPE_KV_INT8;
    if (!plain && a->project.x.rows <= CUDA_FEW_ROWS) { /* their products do not round, or write int8 */
        TRY(cuda_project(d, &a->project));
        return cuda_rope_append(d, &a->append);
    }
    if (a->project.x.rows == 0 || heads_few(d, a, true)) return LCKV_OK;
    TRY(norm_rows(d, &a->project));
    if (heads_few(d, a, false) || cuda_heads_warpgroup(d, a)) return LCKV_OK;
    TRY(project_normed(d, &a->project));
    return cuda_rope_append(d, &a->append);
}

int cuda_linear_add(device *d, const struct op_linear_add *a) {
    const struct op_linear *p = &a->product;
    if (cuda_elements(p->y) == 0) return LCKV_OK;
    if (p->x.cols == 0) return device_linear_add(d, a);
    if (cuda_linear_few_matrix(d, p, a->residual) || cuda_linear_few_groups(d, p, a->residual)) return LCKV_OK;
    if (cuda_linear_warpgroup(d, p, a->residual)) return LCKV_OK;
    if (p->x.rows <= CUDA_FEW_ROWS) return device_linear_add(d, a);
    struct cuda_product y = {};
    y.a = p->x;
    TRY(cuda_as(d, p->weight, p->x.type, CUDA_WORK_WEIGHT, &y.b));
    if (p->bias.data) TRY(cuda_as(d, p->bias, p->y.type, CUDA_WORK_BIAS, &y.bias));
    y.c = p->y;
    y.term = a->residual;
    y.b_transposed = true;
    return cuda_multiply(d, &y);
}

/* ---------------------------------------------------------------- rope_append */

enum { THREADS = 128, EACH = 4 };

struct append {
    struct op_rope_append a;
    int heads, kv_heads, pieces; /* chunks of EACH pairs per head */
};

/* Pairs i to i + EACH of a head, rotated, to `out` and, if to_page, to `page`. */
__device__ static void rotate(const struct append &p, view x, view out, int64_t row, int head, int i,
                              const float *angles, view pages, int64_t page_row) {
    int half = p.a.head_dim / 2;
    int64_t low = (int64_t)head * p.a.head_dim + i, end = (int64_t)head * p.a.head_dim + half;
    struct cuda_four cosines = cuda_get4(angles, DTYPE_F32, i, half);
    struct cuda_four sines = cuda_get4(angles, DTYPE_F32, half + i, 2 * half);
    const void *from = cuda_row(x, row);
    struct cuda_four y0 = cuda_get4(from, x.type, low, end), y1 = cuda_get4(from, x.type, low + half, end + half);
    for (int j = 0; j < EACH; j++) cuda_rotate_pair(&y0.at[j], &y1.at[j], cosines.at[j], sines.at[j]);
    cuda_set4(cuda_row(out, row), out.type, low, end, y0);
    cuda_set4(cuda_row(out, row), out.type, low + half, end + half, y1);
    if (page_row < 0) return;
    /* pages contain the values of `out`, rounded once */
    if (out.type == DTYPE_BF16 && pages.type != DTYPE_BF16) {
        for (int j = 0; j < EACH; j++) {
            y0.at[j] = __bfloat162float(__float2bfloat16_rn(y0.at[j]));
            y1.at[j] = __bfloat162float(__float2bfloat16_rn(y1.at[j]));
        }
    }
    cuda_set4(cuda_row(pages, page_row), pages.type, low, end, y0);
    cuda_set4(cuda_row(pages, page_row), pages.type, low + half, end + half, y1);
}

/* A thread handles a chunk of a head of queries, keys or values. */
__global__ static void __launch_bounds__(THREADS) rotate_append(struct append p) {
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int i = (int)(at % p.pieces) * EACH, all = p.heads + 2 * p.kv_heads;
    int head = (int)(at / p.pieces % all);
    int64_t row = at / p.pieces / all;
    cuda_let_next();
    cuda_begin();
    if (row >= p.a.angles.rows) return;
    const float *angles = (const float *)p.a.angles.data + row * p.a.angles.cols;
    if (head < p.heads) return rotate(p, p.a.q, p.a.q_out, row, head, i, angles, p.a.pages_k, -1);
    int64_t to = ((const int64_t *)p.a.index.data)[row];
    if (to >= p.a.pages_k.rows) to = -1;
    head -= p.heads;
    if (head < p.kv_heads) return rotate(p, p.a.k, p.a.k_out, row, head, i, angles, p.a.pages_k, to);
    if (to < 0) return;
    int64_t half = p.a.head_dim / 2, begin = (int64_t)(head - p.kv_heads) * p.a.head_dim;
    for (int h = 0; h < 2; h++, begin += half) {
        struct cuda_four x = cuda_get4(cuda_row(p.a.v, row), p.a.v.type, begin + i, begin + half);
        cuda_set4(cuda_row(p.a.pages_v, to), p.a.pages_v.type, begin + i, begin + half, x);
    }
}

int cuda_rope_append(device *d, const struct op_rope_append *a) {
    bool int8 = a->pages_k.type == DTYPE_KV_INT8 && a->pages_v.type == DTYPE_KV_INT8;
    if (int8 && cuda_kv_int8_rotates(a->head_dim)) return cuda_kv_int8_rope_append(d, a);
    if (a->head_dim < 2 || a->room.data || a->pages_k.type == DTYPE_KV_INT8) return device_rope_append(d, a);
    struct append p = {*a, 0, 0, (a->head_dim / 2 + EACH - 1) / EACH};
    if (a->q.data) p.heads = (int)(a->q.cols / a->head_dim);
    if (a->k.data) p.kv_heads = (int)(a->k.cols / a->head_dim);
    int64_t threads = a->angles.rows * (p.heads + 2 * p.kv_heads) * p.pieces;
    if (threads > 0) cuda_start(d, rotate_append, dim3(cuda_blocks(threads, THREADS)), THREADS, 0, p);
    return LCKV_OK;
}
