/* Keys and values in kv_int8 (dtype.h): conversion and appending (kv_int8.cu), and reading on tensor cores. */
#ifndef DEVICE_CUDA_KV_INT8_H
#define DEVICE_CUDA_KV_INT8_H

#include "device/cuda/attention.h"

/* op_cast where one of the types or both are kv_int8, op_scatter_rows to kv_int8, and op_rope_append to kv_int8 for the
 * head sizes of cuda_kv_int8_rotates(). */
int cuda_kv_int8_cast(device *d, const struct op_cast *a);
int cuda_kv_int8_append(device *d, const struct op_scatter_rows *a);
int cuda_kv_int8_rope_append(device *d, const struct op_rope_append *a);

static inline bool cuda_kv_int8_rotates(int head_dim) {
    return head_dim >= 2 && head_dim <= ATTENTION_MAX_DIM && head_dim % 2 == 0;
}

/* ---------------------------------------------------------------- writing */

/* The bits of a magnitude; those of a NaN are larger than those of any number. */
__device__ static inline int kv_int8_magnitude(float x) {
    return __float_as_int(x) & 0x7fffffff;
}

__device__ static inline int kv_int8_largest(const struct cuda_four &x) {
    int bits = 0;
    for (int i = 0; i < 4; i++) bits = max(bits, kv_int8_magnitude(x.at[i]));
    return bits;
}

/* The scale of a head, and its inverse, 0 if all of the head is stored as zeros. As kv_int8_quantize() of the CPU. */
struct kv_int8_scale {
    float scale, inverse;

    /* `largest`: the bits of the head's largest magnitude. */
    __device__ kv_int8_scale(int largest) {
        bool finite = largest < 0x7f800000;
        float magnitude = __int_as_float(largest);
        scale = __fdiv_rn(magnitude, 127.0f);
        inverse = finite && scale >= 0x1p-126f ? __fdiv_rn(127.0f, magnitude) : 0;
        if (inverse == 0) scale = finite ? 0 : __int_as_float(0x7fffffff);
    }

    __device__ int8_t integer(float x) const {
        return inverse == 0 ? 0 : (int8_t)__float2int_rn(__fmul_rn(x, inverse));
    }

    /* What pages hold of x. */
    __device__ void round(struct cuda_four *x) const {
        for (int i = 0; i < 4; i++) x->at[i] = scale * integer(x->at[i]);
    }

    /* As the scale of a head of a row of the pages. */
    __device__ void store(view pages, int64_t row, int head) const {
        ((float *)pages.scales)[row * (pages.cols / pages.group) + head] = scale;
    }

    /* Elements [at, at + 4) of a row of the pages; those from `end` on are left out. */
    __device__ void store4(view pages, int64_t row, int64_t at, int64_t end, const struct cuda_four &x) const {
        int8_t *to = (int8_t *)pages.data + row * pages.cols + at;
        char4 four = make_char4(integer(x.at[0]), integer(x.at[1]), integer(x.at[2]), integer(x.at[3]));
        const int8_t each[] = {four.x, four.y, four.z, four.w};
        if (at + 4 <= end && (uintptr_t)to % 4 == 0)
            *(char4 *)to = four;
        else
            for (int i = 0; i < 4 && at + i < end; i++) to[i] = each[i];
    }
};

/* ---------------------------------------------------------------- reading, for tensor cores */

/* Whether tensor core kernels can read the pages: 16 bytes at a time. */
static inline bool kv_int8_in_chunks(const struct op_attention *a) {
    return a->past.k.data && a->past.k.type == DTYPE_KV_INT8 && a->past.v.type == DTYPE_KV_INT8 &&
           a->head_dim % 16 == 0 && ((uintptr_t)a->past.k.data | (uintptr_t)a->past.v.data) % 16 == 0;
}

/* Two bytes of a word as a pair of bf16, which is exact: those at KV_INT8_LOW or KV_INT8_HIGH. 0x4300 with a mantissa m
 * of seven bits is 128 + m, and 0x4380 is 256: the lower seven bits of a byte, less 128 if its sign bit is set. */
enum { KV_INT8_LOW = 0x4140, KV_INT8_HIGH = 0x4342 };

__device__ static inline uint32_t kv_int8_pair(uint32_t word, int which) {
    uint32_t wide = __byte_perm(word, 0x43434343, which);
    uint32_t number = wide & 0xff7fff7f, sign = wide & 0xff80ff80;
    __nv_bfloat162 x = __hsub2(*(__nv_bfloat162 *)&number, *(__nv_bfloat162 *)&sign);
    return *(uint32_t *)&x;
}

#endif
