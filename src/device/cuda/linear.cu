/* Products of rows with weights: y = x weight^T + bias, and its three gradients.
 *
 * Operands of other types are converted to the compute type first. linear_few.cu handles few rows (decoding) and
 * reads weights in their own type. */
#include "device/cuda/columns.h"
#include "device/cuda/products.h"

/* If operands are not in chunks of 16 bytes, cuBLASLt rounds before it adds the bias. Such a result is computed in
 * f32 and rounded once. */
static bool rounds_twice(const struct op_linear *a) {
    return a->bias.data && a->y.type != DTYPE_F32 && (a->x.cols % 8 != 0 || a->y.cols % 8 != 0);
}

int cuda_linear(device *d, const struct op_linear *a) {
    if (cuda_elements(a->y) == 0) return LCKV_OK;
    if (cuda_linear_few(d, a) || cuda_linear_warpgroup(d, a, {})) return LCKV_OK;
    struct cuda_product y = {};
    y.a = a->x;
    TRY(cuda_as(d, a->weight, a->x.type, CUDA_WORK_WEIGHT, &y.b));
    if (a->bias.data && !rounds_twice(a)) TRY(cuda_as(d, a->bias, a->y.type, CUDA_WORK_BIAS, &y.bias));
    y.c = a->y;
    y.b_transposed = true;
    if (!rounds_twice(a)) return cuda_multiply(d, &y);
    y.c.type = DTYPE_F32;
    TRY(cuda_as(d, a->bias, DTYPE_F32, CUDA_WORK_BIAS, &y.bias));
    TRY(cuda_workspace(d, CUDA_WORK_PARTIAL, view_bytes(y.c), &y.c.data));
    TRY(cuda_multiply(d, &y));
    struct op_cast rounded = {y.c, a->y};
    return cuda_cast(d, &rounded);
}

/* ---------------------------------------------------------------- gradients */

int cuda_linear_gradients(device *d, view x, view weight, view dy, view dx, view dweight) {
    struct cuda_product p = {};
    p.a = dy;
    if (dx.data) {
        p.b = weight;
        p.c = dx;
        p.add = !dx.fresh;
        TRY(cuda_multiply(d, &p));
    }
    if (!dweight.data) return LCKV_OK;
    p.a_transposed = true;
    p.b = x;
    p.c = dweight;
    p.add = true;
    return cuda_multiply(d, &p);
}

struct bias_term {
    view dy;
    __device__ float operator()(int64_t row, int64_t column) const {
        return cuda_get(dy.data, dy.type, row * dy.cols + column);
    }
};

static int add_dbias(device *d, const struct op_linear *a) {
    struct columns_plan plan;
    TRY(columns_begin(d, a->dy.rows, a->dy.cols, &plan));
    columns_parts<<<plan.blocks, COLUMNS_THREADS, 0, cuda_stream(d)>>>(plan, bias_term{a->dy});
    columns_end(d, &plan, (float *)a->dbias.data);
    return LCKV_OK;
}

int cuda_linear_backward(device *d, const struct op_linear *a) {
    view weight = a->weight, dy;
    if (cuda_elements(a->dy) == 0) return cuda_clear_fresh(d, a->dx);
    if (a->dbias.data) TRY(add_dbias(d, a));
    if (!a->dx.data && !a->dweight.data) return LCKV_OK;
    if (a->dx.data) TRY(cuda_as(d, a->weight, a->x.type, CUDA_WORK_WEIGHT, &weight));
    TRY(cuda_as(d, a->dy, a->x.type, CUDA_WORK_GRADIENT, &dy));
    return cuda_linear_gradients(d, a->x, weight, dy, a->dx, a->dweight);
}
