/* Matrix products by cuBLASLt, for linear and cross-entropy. */
#ifndef DEVICE_CUDA_PRODUCTS_H
#define DEVICE_CUDA_PRODUCTS_H

#include "device/cuda/cuda.h"
#include "device/cuda/matrix.h"

int cuda_products_open(device *d);
void cuda_products_close(device *d); /* also after a failed open */

/* c = A B + bias, or c += A B with `add`, all row-major: A [c.rows, k] is `a` or its transpose, B [k, c.cols] is `b` or
 * its transpose. a and b are both f32 or both bf16, c is either; bias [1, c.cols] is of c's type or absent. Sums are
 * f32; f32 operands are not rounded (no TF32). Any extent may be 0. */
struct cuda_product {
    view a, b, c, bias;
    view term;          /* f32 [c.rows, c.cols], may be absent: c = A B + bias + term instead; c is f32 */
    const void *b_twin; /* of a second product with the same shapes and `a`, or NULL; without bias and term */
    void *c_twin;
    bool a_transposed, b_transposed, add;
};
int cuda_multiply(device *d, const struct cuda_product *p);

/* v in `type`, f32 or bf16: v itself, or converted into the workspace `where`. */
int cuda_as(device *d, view v, dtype type, enum cuda_work where, view *out);

/* The same product for few rows, for all combinations of types (linear_few.cu). False, without doing anything, if
 * there are too many rows. */
bool cuda_linear_few(device *d, const struct op_linear *a);

/* Up to CUDA_FEW_ROWS rows on tensor cores (linear_few_matrix.cu), if all operands are bf16 in whole chunks. False,
 * without doing anything, otherwise. residual: may be absent. with_norm: includes op_project's norm; otherwise
 * `normed` is given. */
enum { CUDA_FEW_ROWS = 32, CUDA_PLAIN_ROWS = 8 /* without tensor cores */ };
bool cuda_linear_few_matrix(device *d, const struct op_linear *a, view residual);
bool cuda_project_few_matrix(device *d, const struct op_project *a, bool with_norm);
bool cuda_heads_few_matrix(device *d, const struct op_heads *a, bool with_norm);

/* The same with weights in int8 or int4 (linear_few_groups.cu), all parts in one of them. */
bool cuda_linear_few_groups(device *d, const struct op_linear *a, view residual);
bool cuda_project_few_groups(device *d, const struct op_project *a, bool with_norm);
bool cuda_heads_few_groups(device *d, const struct op_heads *a, bool with_norm);

/* Whether the kernels on tensor cores can copy rows of `v`: bf16, in whole aligned chunks. */
static inline bool products_in_chunks(view v) {
    return v.type == DTYPE_BF16 && v.cols % MATRIX_CHUNK == 0 && (uintptr_t)v.data % 16 == 0;
}

/* Sets the fields of a kernel's call that say how op_heads rotates and where it writes. `parts` is set before. */
template <typename call> static inline void products_take_heads(const struct op_rope_append *append, call *a) {
    a->rotated = append->k.data ? a->parts - 1 : a->parts;
    a->head_dim = append->head_dim;
    a->angles = append->angles;
    a->index = append->index;
    a->pages_k = append->pages_k;
    a->pages_v = append->pages_v;
    if (append->q.data) a->part[0].y = append->q_out;
    if (append->k.data) a->part[a->rotated - 1].y = append->k_out;
}

/* 33 to 64 bf16 rows by warpgroup instructions (linear_warpgroup.cu), if the GPU has them and all operands are in whole
 * chunks; the rows of a projection are in `normed`. False, without doing anything, otherwise. */
bool cuda_linear_warpgroup(device *d, const struct op_linear *a, view residual);
bool cuda_project_warpgroup(device *d, const struct op_project *a);
bool cuda_heads_warpgroup(device *d, const struct op_heads *a);

/* dx += dy weight,  dweight += dy^T x, as far as present; x, weight and dy have the same type. */
int cuda_linear_gradients(device *d, view x, view weight, view dy, view dx, view dweight);

#endif
