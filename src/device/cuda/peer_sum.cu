/* Sums of small views between GPUs that can write to each other's memory, one kernel per sum.
 *
 * A thread adds pieces of 8 bytes of the view. It writes its rank's 8 bytes into a cell in the memory of every rank,
 * waits for a cell of each rank in its own GPU's memory, and adds them in the order of ranks. So the data crosses the
 * link once.
 *
 * A cell is two words of 64 bits: 32 bits of data and, beside them, the number of the sum. A store of one word is not
 * torn (PTX ISA, "Memory Consistency Model": vector accesses are scalar accesses in any order), so a word with the
 * right number has the right data. The protocol needs no flags, no fences, and no order between words.
 *
 * Pieces are independent of each other, on every rank: piece k of block b always uses the same cells and counts its
 * own sums. Ranks make the same sums, so their pieces count alike. Even and odd sums use different cells, because a
 * fast rank can be one sum ahead of a slow one. It cannot be two ahead:
 *
 *   - It writes the cells of sum n + 2 after its kernel of sum n + 1 has ended, and so after it has read a word of sum
 *     n + 1 from every rank.
 *   - A rank writes these words after its kernel of sum n has ended, and so after it has read all cells of sum n.
 *
 * Both "after"s are those of kernels on one stream: cuda_begin() waits until the preceding kernels have ended and their
 * memory accesses have been performed. All threads of a piece write their cells, also those after the end of the view.
 * An old number in a cell is therefore always that of the last sum but one, and numbers may wrap around.
 *
 * A rank that is lost never writes. The others look at p.stop every POLLS polls, and end. */
#include "device/cuda/launch.h"

extern "C" {
#include "device/gpu.h"
}

#include <string.h>

/* Polls between looks at p.stop, which is in host memory and slower to read: less than a millisecond. */
enum { POLLS = 1024 };

/* A thread's part of a piece: numbers of type T. */
template <typename T> struct part {
    enum { COUNT = 8 / sizeof(T) };
    T at[COUNT];
};

struct alignas(16) cell {
    uint64_t low, high;
};

/* Never 0, which new memory has; the parity alternates. */
__device__ static uint32_t number_after(uint32_t number) {
    return number == UINT32_MAX ? 2 : number + 1;
}

/* This block's piece k among all pieces. */
__device__ static int piece_of(int k) {
    return k * GPU_PEER_BLOCKS + (int)blockIdx.x;
}

/* Where rank `to` receives this thread's part of a piece from rank `from`. */
__device__ static cell *cell_of(const struct gpu_peers &p, int to, int from, int piece, uint32_t number) {
    const size_t cells = (size_t)GPU_PEER_NUMBERS * GPU_PEER_THREADS;
    size_t row = number % 2 * (size_t)p.ranks + (size_t)from;
    return (cell *)p.buffers[to] + row * cells + piece * (size_t)GPU_PEER_THREADS + threadIdx.x;
}

template <typename T> __device__ static cell pack(const part<T> &x, uint32_t number) {
    uint64_t data, tag = (uint64_t)number << 32;
    memcpy(&data, &x, sizeof data);
    return {tag | (uint32_t)data, tag | data >> 32};
}

template <typename T> __device__ static part<T> unpack(const cell &c) {
    uint64_t data = (uint32_t)c.low | c.high << 32;
    part<T> x;
    memcpy(&x, &data, sizeof data);
    return x;
}

__device__ static bool has(const cell &c, uint32_t number) {
    return c.low >> 32 == number && c.high >> 32 == number;
}

__device__ static void put(cell *to, const cell &c) {
    asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(c.low), "l"(c.high) : "memory");
}

__device__ static cell get(const cell *from) {
    cell c;
    asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];" : "=l"(c.low), "=l"(c.high) : "l"(from) : "memory");
    return c;
}

__device__ static bool stopped(const int *stop) {
    int value;
    asm volatile("ld.relaxed.sys.global.b32 %0, [%1];" : "=r"(value) : "l"(stop) : "memory");
    return value != 0;
}

/* Reads the cells of all ranks until they have arrived. The loads of one poll do not wait for each other. Returns false
 * if the sum was stopped. */
__device__ static bool receive(const struct gpu_peers &p, int piece, uint32_t number, cell cells[GPU_MAX_PEERS]) {
    for (int polls = 1;; polls++) {
        bool all = true;
#pragma unroll
        for (int r = 0; r < GPU_MAX_PEERS; r++)
            if (r < p.ranks) cells[r] = get(cell_of(p, p.rank, r, piece, number));
#pragma unroll
        for (int r = 0; r < GPU_MAX_PEERS; r++)
            if (r < p.ranks) all = has(cells[r], number) && all;
        if (all) return true;
        if (polls % POLLS == 0 && stopped(p.stop)) return false;
    }
}

template <typename T> __device__ static part<T> add_in_order(const cell cells[GPU_MAX_PEERS], int ranks) {
    part<T> sum = unpack<T>(cells[0]);
#pragma unroll
    for (int r = 1; r < GPU_MAX_PEERS; r++) {
        part<T> x = unpack<T>(cells[r]);
        for (int i = 0; i < part<T>::COUNT && r < ranks; i++) sum.at[i] += x.at[i];
    }
    return sum;
}

/* The number of this sum of a piece, which its next sum follows. */
__device__ static uint32_t count_sum(uint32_t *last) {
    uint32_t number = number_after(*last);
    __syncthreads(); /* all threads have read it */
    if (threadIdx.x == 0) *last = number;
    return number;
}

/* Numbers of the view before this thread's part of a piece. */
template <typename T> __device__ static int first_of(int piece) {
    return (piece * GPU_PEER_THREADS + (int)threadIdx.x) * part<T>::COUNT;
}

template <typename T>
__global__ static void __launch_bounds__(GPU_PEER_THREADS)
    sum_peers(const __grid_constant__ struct gpu_peers p, T *data, int count, int pieces) {
    uint32_t number[GPU_PEER_PIECES];
    cuda_let_next();
    cuda_begin();
#pragma unroll
    for (int k = 0; k < GPU_PEER_PIECES; k++) {
        if (k >= pieces) break;
        int piece = piece_of(k), at = first_of<T>(piece);
        part<T> x = {};
        for (int i = 0; i < part<T>::COUNT; i++)
            if (at + i < count) x.at[i] = data[at + i];
        number[k] = count_sum(p.numbers + piece);
        cell mine = pack(x, number[k]);
        for (int r = 0; r < p.ranks; r++) put(cell_of(p, r, p.rank, piece, number[k]), mine);
    }
#pragma unroll
    for (int k = 0; k < GPU_PEER_PIECES; k++) {
        cell cells[GPU_MAX_PEERS] = {};
        int piece = piece_of(k), at = first_of<T>(piece);
        if (k >= pieces || at >= count || !receive(p, piece, number[k], cells)) return;
        part<T> x = add_in_order<T>(cells, p.ranks);
        for (int i = 0; i < part<T>::COUNT; i++)
            if (at + i < count) data[at + i] = x.at[i];
    }
}

template <typename T> static void sum(device *d, const struct gpu_peers *p, view v) {
    int count = (int)cuda_elements(v);
    int pieces = (int)cuda_blocks((int64_t)view_bytes(v), 8 * GPU_PEER_THREADS);
    dim3 blocks(pieces < GPU_PEER_BLOCKS ? pieces : GPU_PEER_BLOCKS);
    pieces = (pieces + GPU_PEER_BLOCKS - 1) / GPU_PEER_BLOCKS;
    cuda_start(d, sum_peers<T>, blocks, GPU_PEER_THREADS, 0, *p, (T *)v.data, count, pieces);
}

int cuda_device_sum_peers(device *d, const struct gpu_peers *p, view v) {
    struct cuda_state *s = cuda_state_of(d);
    CUDA_TRY(d, cudaSetDevice(s->number));
    s->started = false;
    if (v.type == DTYPE_F64)
        sum<double>(d, p, v);
    else
        sum<float>(d, p, v);
    s->chain = s->started;
    CUDA_TRY(d, cudaPeekAtLastError());
    return LCKV_OK;
}
