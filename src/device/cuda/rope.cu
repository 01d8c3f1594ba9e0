/* RoPE (Su et al. 2021, "RoFormer"): the table of angles and the rotation. A thread rotates eight pairs of a head. */
#include "device/cuda/rotate.h"

enum { THREADS = 256, EACH = 8 };

/* The factor of the frequencies of a long row from one pair to the next (dynamic scaling); 1 for other rows. */
__device__ static double shrinking(const struct op_rope_angles &a, int64_t length) {
    int64_t half = a.inverse_frequencies.cols;
    if (length <= a.limit || a.inverse_frequencies.rows > 1 || half < 2) return 1;
    return pow(a.growth * (double)length / (double)a.limit - (a.growth - 1), -1.0 / (double)(half - 1));
}

__global__ static void make_angles(struct op_rope_angles a) {
    int64_t half = a.inverse_frequencies.cols, at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= a.positions.rows * half) return;
    int64_t r = at / half, i = at % half, length = a.lengths.data ? ((const int64_t *)a.lengths.data)[r] : 0;
    bool second = length > a.limit && a.inverse_frequencies.rows > 1;
    double frequency = ((const double *)a.inverse_frequencies.data)[second ? half + i : i];
    double shrinks = shrinking(a, length), sine, cosine;
    if (shrinks != 1) frequency *= pow(shrinks, (double)i);
    sincos((double)((const int64_t *)a.positions.data)[r] * frequency, &sine, &cosine);
    float *angles = (float *)a.angles.data + r * a.angles.cols;
    angles[i] = (float)(cosine * (double)a.scale);
    angles[half + i] = (float)(sine * (double)a.scale);
}

int cuda_rope_angles(device *d, const struct op_rope_angles *a) {
    int64_t n = a->positions.rows * a->inverse_frequencies.cols;
    if (n > 0) make_angles<<<cuda_blocks(n, THREADS), THREADS, 0, cuda_stream(d)>>>(*a);
    return LCKV_OK;
}

/* This thread's pairs: elements low + j and high + j of the tensor for j < count, with angles i + j of the row. */
struct pairs {
    int64_t row, low, low_end, high, high_end, i, half;
};

static int64_t pair_threads(view v, int head_dim) {
    if (head_dim == 0) return 0;
    return v.rows * (v.cols / head_dim) * ((head_dim / 2 + EACH - 1) / EACH);
}

__device__ static bool find_pairs(view v, int head_dim, struct pairs *p) {
    int64_t half = head_dim / 2, heads = v.cols / head_dim, pieces = (half + EACH - 1) / EACH;
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, head = at / pieces;
    p->i = at % pieces * EACH;
    p->half = half;
    p->row = head / heads;
    p->low = head * head_dim + p->i;
    p->low_end = head * head_dim + half;
    p->high = p->low + half;
    p->high_end = p->low_end + half;
    return p->row < v.rows;
}

__device__ static void find_angles(view angles, const struct pairs *p, struct cuda_eight *cosines,
                                   struct cuda_eight *sines) {
    const float *row = (const float *)angles.data + p->row * angles.cols;
    *cosines = cuda_get8(row, DTYPE_F32, p->i, p->half);
    *sines = cuda_get8(row, DTYPE_F32, p->half + p->i, 2 * p->half);
}

__global__ static void rotate(struct op_rope a) {
    struct pairs p;
    struct cuda_eight cosines, sines;
    if (!find_pairs(a.y, a.head_dim, &p)) return;
    find_angles(a.angles, &p, &cosines, &sines);
    struct cuda_eight x0 = cuda_get8(a.x.data, a.x.type, p.low, p.low_end);
    struct cuda_eight x1 = cuda_get8(a.x.data, a.x.type, p.high, p.high_end);
    for (int j = 0; j < EACH; j++) cuda_rotate_pair(&x0.at[j], &x1.at[j], cosines.at[j], sines.at[j]);
    cuda_set8(a.y.data, a.y.type, p.low, p.low_end, x0);
    cuda_set8(a.y.data, a.y.type, p.high, p.high_end, x1);
}

int cuda_rope(device *d, const struct op_rope *a) {
    int64_t n = pair_threads(a->y, a->head_dim);
    if (n > 0) rotate<<<cuda_blocks(n, THREADS), THREADS, 0, cuda_stream(d)>>>(*a);
    return LCKV_OK;
}

/* dx += dy rotated back. */
__global__ static void rotate_back(struct op_rope a) {
    struct pairs p;
    struct cuda_eight cosines, sines;
    if (!find_pairs(a.dx, a.head_dim, &p)) return;
    find_angles(a.angles, &p, &cosines, &sines);
    struct cuda_eight dy0 = cuda_get8(a.dy.data, a.dy.type, p.low, p.low_end);
    struct cuda_eight dy1 = cuda_get8(a.dy.data, a.dy.type, p.high, p.high_end);
    struct cuda_eight dx0 = cuda_gradient8(a.dx, p.low, p.low_end);
    struct cuda_eight dx1 = cuda_gradient8(a.dx, p.high, p.high_end);
    for (int j = 0; j < EACH; j++) {
        dx0.at[j] += dy0.at[j] * cosines.at[j] + dy1.at[j] * sines.at[j];
        dx1.at[j] += dy1.at[j] * cosines.at[j] - dy0.at[j] * sines.at[j];
    }
    cuda_set8(a.dx.data, a.dx.type, p.low, p.low_end, dx0);
    cuda_set8(a.dx.data, a.dx.type, p.high, p.high_end, dx1);
}

int cuda_rope_backward(device *d, const struct op_rope *a) {
    int64_t n = pair_threads(a->dy, a->head_dim);
    if (a->dx.data && n > 0) rotate_back<<<cuda_blocks(n, THREADS), THREADS, 0, cuda_stream(d)>>>(*a);
    return LCKV_OK;
}
