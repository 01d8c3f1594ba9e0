/* Queries, keys and values of one matrix, apart and rotated (RoPE), and their gradients in one matrix. A thread handles
 * EACH pairs of a head. */
#include "device/cuda/launch.h"
#include "device/cuda/rotate.h"

enum { MAX_THREADS = 256, EACH = 8 };

struct split {
    struct op_split_heads a;
    int heads[3], pieces; /* of queries, keys and values; chunks of EACH pairs per head */
};

/* A thread's pairs: elements i to i + EACH of both halves of a head, in its part and in x. */
struct pairs {
    int part;
    int64_t row, low, from; /* first element in the part and in x */
    int i, half;
};

__device__ static bool find_pairs(const struct split &p, struct pairs *to) {
    int all = p.heads[0] + p.heads[1] + p.heads[2], dim = p.a.head_dim;
    int at = (int)(blockIdx.y * blockDim.x + threadIdx.x), head = at / p.pieces; /* of the row's */
    if (head >= all) return false;
    to->i = at % p.pieces * EACH;
    to->row = blockIdx.x;
    to->half = dim / 2;
    to->from = to->row * p.a.x.cols + (int64_t)head * dim + to->i;
    for (to->part = 0; head >= p.heads[to->part]; to->part++) head -= p.heads[to->part];
    to->low = (to->row * p.heads[to->part] + head) * dim + to->i;
    return true;
}

__device__ static void get_pairs(const void *from, dtype type, int64_t at, const struct pairs &p, struct cuda_eight *x0,
                                 struct cuda_eight *x1) {
    *x0 = cuda_get8(from, type, at, at - p.i + p.half);
    *x1 = cuda_get8(from, type, at + p.half, at - p.i + 2 * p.half);
}

__device__ static void set_pairs(void *to, dtype type, int64_t at, const struct pairs &p, struct cuda_eight x0,
                                 struct cuda_eight x1) {
    cuda_set8(to, type, at, at - p.i + p.half, x0);
    cuda_set8(to, type, at + p.half, at - p.i + 2 * p.half, x1);
}

/* turn: 1, or -1 to rotate back. */
__device__ static void rotate(const struct split &p, const struct pairs &at, float turn, struct cuda_eight *x0,
                              struct cuda_eight *x1) {
    struct cuda_eight cosines, sines;
    get_pairs(p.a.angles.data, DTYPE_F32, at.row * p.a.angles.cols + at.i, at, &cosines, &sines);
    for (int j = 0; j < EACH; j++) cuda_rotate_pair(&x0->at[j], &x1->at[j], cosines.at[j], sines.at[j] * turn);
}

__global__ static void __launch_bounds__(MAX_THREADS) forward(struct split p) {
    struct pairs at;
    struct cuda_eight x0, x1;
    if (!find_pairs(p, &at)) return;
    view to = at.part == 0 ? p.a.q : at.part == 1 ? p.a.k : p.a.v;
    get_pairs(p.a.x.data, p.a.x.type, at.from, at, &x0, &x1);
    if (at.part < 2) rotate(p, at, 1.0f, &x0, &x1);
    set_pairs(to.data, to.type, at.low, at, x0, x1);
}

__global__ static void __launch_bounds__(MAX_THREADS) backward(struct split p) {
    struct pairs at;
    struct cuda_eight dy0 = {}, dy1 = {}, dx0 = {}, dx1 = {};
    if (!find_pairs(p, &at)) return;
    view from = at.part == 0 ? p.a.dq : at.part == 1 ? p.a.dk : p.a.dv;
    if (from.data) get_pairs(from.data, from.type, at.low, at, &dy0, &dy1);
    if (from.data && at.part < 2) rotate(p, at, -1.0f, &dy0, &dy1);
    if (!p.a.dx.fresh) get_pairs(p.a.dx.data, p.a.dx.type, at.from, at, &dx0, &dx1);
    for (int j = 0; j < EACH; j++) dx0.at[j] += dy0.at[j], dx1.at[j] += dy1.at[j];
    set_pairs(p.a.dx.data, p.a.dx.type, at.from, at, dx0, dx1);
}

/* The blocks, and the threads of each; none without columns. */
static dim3 plan(const struct op_split_heads *a, struct split *p, unsigned *threads) {
    view parts[3] = {a->q, a->k, a->v};
    int all = 0;
    *p = {};
    p->a = *a;
    *threads = 0;
    if (a->head_dim < 2) return dim3(0);
    p->pieces = (a->head_dim / 2 + EACH - 1) / EACH;
    for (int i = 0; i < 3; i++) all += p->heads[i] = parts[i].data ? (int)(parts[i].cols / a->head_dim) : 0;
    int64_t needed = (int64_t)all * p->pieces, whole = (needed + CUDA_WARP - 1) / CUDA_WARP * CUDA_WARP;
    *threads = (unsigned)(whole < MAX_THREADS ? whole : (int64_t)MAX_THREADS);
    return dim3((unsigned)a->x.rows, needed > 0 ? cuda_blocks(needed, *threads) : 0);
}

int cuda_split_heads(device *d, const struct op_split_heads *a) {
    struct split p;
    unsigned threads;
    dim3 blocks = plan(a, &p, &threads);
    if (threads > 0 && blocks.x > 0) forward<<<blocks, threads, 0, cuda_stream(d)>>>(p);
    return LCKV_OK;
}

int cuda_split_heads_backward(device *d, const struct op_split_heads *a) {
    struct split p;
    unsigned threads;
    dim3 blocks = plan(a, &p, &threads);
    if (a->dx.data && threads > 0 && blocks.x > 0) backward<<<blocks, threads, 0, cuda_stream(d)>>>(p);
    return LCKV_OK;
}
