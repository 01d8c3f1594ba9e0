/* Attention of a few queries over pages in kv_int8 on tensor cores; see attention_paged_matrix.h.
 *
 * Pages are copied as they are. Their bytes become bf16 in registers, which is exact; scores are multiplied by the
 * scales of the keys, and weights by the scales of the values. New rows are in bf16, in a tile of their own. A lane
 * reads adjacent elements of a row, as in linear_few_matrix.cu. */
#include "device/cuda/attention_paged_matrix.h"

enum { BYTES_CHUNK = 16, LINE = 128 /* bytes that one access to shared memory covers */ };

/* What tiles in both forms have in common. */
template <int DIM> struct adjacent_order {
    static constexpr int EACH = DIM / 8; /* elements of a value that a lane has */

    /* Of 64 elements, lane % 4 has 16, in four steps. */
    __device__ static int query_column(int step, int upper) {
        return 64 * (step / 4) + 16 * ((int)threadIdx.x % 4) + 4 * (step % 4) + 2 * upper;
    }

    __device__ static int out_column(int m, int upper) {
        return EACH * ((int)threadIdx.x % CUDA_WARP / 4) + 2 * m + upper;
    }

    /* Lower halves of the pairs are elements 2 EACH (lane % 4) .., upper halves the EACH elements after them. */
    __device__ static void store_row(uint16_t *to, const uint32_t (&pairs)[EACH], int dim) {
#pragma unroll
        for (int upper = 0; upper < 2; upper++)
#pragma unroll
            for (int n = 0; n < EACH; n += 8) {
                int c = EACH * (2 * ((int)threadIdx.x % 4) + upper) + n, which = upper ? 0x7632 : 0x5410;
                uint4 chunk = make_uint4(
                    __byte_perm(pairs[n], pairs[n + 1], which), __byte_perm(pairs[n + 2], pairs[n + 3], which),
                    __byte_perm(pairs[n + 4], pairs[n + 5], which), __byte_perm(pairs[n + 6], pairs[n + 7], which));
                if (c < dim) *(uint4 *)(to + c) = chunk;
            }
    }

    /* The first of the four rows of a tile whose values a lane has; the others are 1, 8 and 9 further. */
    __device__ static int value_row(int n) {
        return 16 * n + 2 * ((int)threadIdx.x % 4);
    }
};

__device__ static uint32_t word_of(uint4 chunk, int i) {
    return i == 0 ? chunk.x : i == 1 ? chunk.y : i == 2 ? chunk.z : chunk.w;
}

/* ---------------------------------------------------------------- new rows */

template <int DIM_> struct new_rows_tile : adjacent_order<DIM_> {
    static constexpr int DIM = DIM_, KEYS = GROUP;
    static constexpr bool SCALED = false, APART = false;
    char k[KEYS * DIM * 2], v[KEYS * DIM * 2];

    __device__ void key_rows(uint32_t (&left)[4], int n, int step) {
        int row = 16 * n + (int)threadIdx.x % CUDA_WARP / 4, c = this->query_column(step, 0);
        uint2 low = *(const uint2 *)(matrix_at<DIM>(k, row, c / MATRIX_CHUNK) + c % MATRIX_CHUNK * 2);
        uint2 high = *(const uint2 *)(matrix_at<DIM>(k, row + 8, c / MATRIX_CHUNK) + c % MATRIX_CHUNK * 2);
        left[0] = low.x, left[1] = high.x, left[2] = low.y, left[3] = high.y;
    }

    /* Elements 2 m and 2 m + 1 of the lane's. */
    __device__ uint32_t value_pair(int row, int m) {
        int c = this->out_column(m, 0);
        return *(const uint32_t *)(matrix_at<DIM>(v, row, c / MATRIX_CHUNK) + c % MATRIX_CHUNK * 2);
    }

    __device__ void value_rows(uint32_t (&left)[4], int n, int m) {
        int row = this->value_row(n);
        uint32_t first = value_pair(row, m), second = value_pair(row + 1, m);
        uint32_t third = value_pair(row + 8, m), fourth = value_pair(row + 9, m);
        left[0] = __byte_perm(first, second, 0x5410), left[1] = __byte_perm(first, second, 0x7632);
        left[2] = __byte_perm(third, fourth, 0x5410), left[3] = __byte_perm(third, fourth, 0x7632);
    }

    __device__ void copy(int i, const struct attention_call &call, const struct attention_head &head,
                         const struct group &from, bool old, bool fresh) {
        copy_group<DIM>(matrix_at<DIM>(k, i, 0), matrix_at<DIM>(v, i, 0), call, head, from, old, fresh);
    }
};

/* ---------------------------------------------------------------- rows of pages */

/* Chunks are permuted so that what a few adjacent lanes read is in different banks: chunks of one row, or one chunk of
 * every second row. */
template <int DIM_, int KEYS_> struct int8_tile : adjacent_order<DIM_> {
    static constexpr int DIM = DIM_, KEYS = KEYS_, EACH = DIM / 8, CHUNKS = DIM / BYTES_CHUNK;
    static constexpr bool SCALED = true, APART = true;
    static constexpr size_t NEW_BYTES = sizeof(struct new_rows_tile<DIM>);
    typedef struct new_rows_tile<DIM> new_tile;
    char k[KEYS * DIM], v[KEYS * DIM];
    float k_scale[KEYS], v_scale[KEYS];

    __device__ static char *at(char *tile, int row, int chunk) {
        int line = DIM == 64 ? row / 2 : row, place = DIM == 64 ? row % 2 * 4 + chunk : chunk ^ row % 2 * 4;
        return tile + line * LINE + (place ^ row / 2 % 4 * 2) * BYTES_CHUNK;
    }

    __device__ void key_rows(uint32_t (&left)[4], int n, int step) {
        int row = 16 * n + (int)threadIdx.x % CUDA_WARP / 4, chunk = step / 4 * 4 + (int)threadIdx.x % 4;
        uint32_t low = word_of(*(const uint4 *)at(k, row, chunk), step % 4);
        uint32_t high = word_of(*(const uint4 *)at(k, row + 8, chunk), step % 4);
        left[0] = kv_int8_pair(low, KV_INT8_LOW), left[1] = kv_int8_pair(high, KV_INT8_LOW);
        left[2] = kv_int8_pair(low, KV_INT8_HIGH), left[3] = kv_int8_pair(high, KV_INT8_HIGH);
    }

    /* Elements 4 i to 4 i + 3 of the lane's. */
    __device__ uint32_t value_word(int row, int i) {
        int c = this->out_column(0, 0);
        const char *from = at(v, row, c / BYTES_CHUNK) + c % BYTES_CHUNK;
        if (EACH == BYTES_CHUNK) return word_of(*(const uint4 *)from, i);
        uint2 pair = *(const uint2 *)from;
        return i == 0 ? pair.x : pair.y;
    }

    __device__ void value_rows(uint32_t (&left)[4], int n, int m) {
        int row = this->value_row(n), which = m % 2 ? 0x7362 : 0x5140;
        uint32_t first = __byte_perm(value_word(row, m / 2), value_word(row + 1, m / 2), which);
        uint32_t second = __byte_perm(value_word(row + 8, m / 2), value_word(row + 9, m / 2), which);
        left[0] = kv_int8_pair(first, KV_INT8_LOW), left[1] = kv_int8_pair(first, KV_INT8_HIGH);
        left[2] = kv_int8_pair(second, KV_INT8_LOW), left[3] = kv_int8_pair(second, KV_INT8_HIGH);
    }

    /* Row `row` of a group, as a row of the pages; NONE: zeros. */
    __device__ void copy_chunk(int i, int row, int chunk, int64_t place, const struct attention_call &call,
                               const struct attention_head &head) {
        bool there = place != NONE && chunk * BYTES_CHUNK < call.a.head_dim;
        int64_t at_byte = (place * call.a.kv_heads + head.kv_head) * call.a.head_dim + chunk * BYTES_CHUNK;
        if (!there) at_byte = 0;
        matrix_copy16(at(k, i + row, chunk), (const char *)call.a.past.k.data + at_byte, there);
        matrix_copy16(at(v, i + row, chunk), (const char *)call.a.past.v.data + at_byte, there);
    }

    /* A lane has one scale of one key or value. */
    __device__ void copy_scale(int i, int64_t place, const struct attention_call &call,
                               const struct attention_head &head) {
        int lane = (int)threadIdx.x % CUDA_WARP, row = i + lane % GROUP;
        bool there = place != NONE, keys = lane < GROUP;
        const float *from = (const float *)(keys ? call.a.past.k.scales : call.a.past.v.scales);
        matrix_copy4(keys ? &k_scale[row] : &v_scale[row], from + (there ? place * call.a.kv_heads + head.kv_head : 0),
                     there);
    }

    __device__ void copy(int i, const struct attention_call &call, const struct attention_head &head,
                         const struct group &from, bool old, bool fresh) {
        constexpr int ROWS = CUDA_WARP / CHUNKS;
        int lane = (int)threadIdx.x % CUDA_WARP, chunk = lane % CHUNKS, row = lane / CHUNKS;
        if (!old) return;
        copy_scale(i, from.whole ? from.place + lane % GROUP : from.place, call, head);
#pragma unroll
        for (int r = row; r < row + GROUP; r += ROWS) {
            int its = from.whole ? from.place + r : __shfl_sync(CUDA_ALL_LANES, from.place, r);
            copy_chunk(i, r, chunk, its, call, head);
        }
    }
};

int attention_paged_int8(device *d, const struct attention_call *call, const struct attention_cut *cut, int warps) {
    return call->a.head_dim > 64 ? run_tiles<struct int8_tile<128, 32>>(d, call, cut, warps)
                                 : run_tiles<struct int8_tile<64, 32>>(d, call, cut, warps);
}
