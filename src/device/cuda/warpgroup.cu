/* Maps of matrices for the copy engine; see warpgroup.h. */
#include "device/cuda/warpgroup.h"

bool warpgroup_map_of(device *d, view matrix, struct warpgroup_map *out) {
    cuuint64_t sizes[] = {(cuuint64_t)matrix.cols, (cuuint64_t)matrix.rows};
    cuuint64_t stride[] = {(cuuint64_t)matrix.cols * 2};
    cuuint32_t box[] = {WARPGROUP_DEPTH, WARPGROUP_ROWS}, steps[] = {1, 1};
    return cuda_state_of(d)->encode_map(&out->map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, matrix.data, sizes, stride, box,
                                        steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

bool warpgroup_map_of_groups(device *d, view weight, struct warpgroup_map *out) {
    bool int8 = weight.type == DTYPE_INT8;
    cuuint64_t bytes = (cuuint64_t)(int8 ? weight.cols : weight.cols / 2), sizes[] = {bytes, (cuuint64_t)weight.rows};
    cuuint64_t stride[] = {bytes};
    cuuint32_t box[] = {(cuuint32_t)WARPGROUP_DEPTH / (int8 ? 1 : 2), WARPGROUP_ROWS}, steps[] = {1, 1};
    return cuda_state_of(d)->encode_map(
               &out->map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, weight.data, sizes, stride, box, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, int8 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_32B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
