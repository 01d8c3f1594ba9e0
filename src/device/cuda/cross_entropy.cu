/* Cross-entropy fused with the product that computes the logits. Rows are processed in chunks whose logits fit a
 * bounded buffer, so that [rows, vocab_size] of all rows is not stored. For gradients, the logits of a chunk are
 * replaced by their gradient, in the compute type, before the next chunk. */
#include "device/cuda/products.h"

enum { THREADS = 1024, EACH = 4, MIN_ROWS = 128, KEPT = 8, MAX_KEPT = THREADS * EACH * KEPT };
static const int64_t LOGITS_BYTES = 256 << 20;

/* One chunk: rows [first, first + rows) of the call. */
struct piece {
    int64_t first, rows;
    view logits, gradient; /* f32 and compute type [rows, vocab_size]; the same memory if both are f32 */
    double *losses;        /* [all rows of the call] */
    bool wants_gradient;
};

/* ---------------------------------------------------------------- one row, one block */

/* FAST: the error of the exponential is far below bf16's rounding of the gradient. */
template <bool FAST> __device__ float exponential(float x) {
    return FAST ? __expf(x) : expf(x);
}

/* The largest logit, and the sum of exp(logit - largest), in one pass: each thread rescales its sum when it finds a
 * larger maximum. A thread's part is summed in f32, all parts in f64, so that the error does not grow with the
 * vocabulary. */
template <bool FAST> __device__ float sum_exponentials(const float *x, int64_t n, double *sum) {
    float largest = -INFINITY, own = 0;
    for (int64_t i = threadIdx.x * EACH; i < n; i += THREADS * EACH) {
        struct cuda_four four = cuda_get4(x, DTYPE_F32, i, n);
        float larger = largest;
        for (int j = 0; j < EACH; j++) larger = i + j < n ? fmaxf(larger, four.at[j]) : larger;
        if (larger > largest) own *= exponential<FAST>(largest - larger);
        largest = larger;
        for (int j = 0; j < EACH; j++) own += i + j < n ? exponential<FAST>(four.at[j] - largest) : 0;
    }
    float all = cuda_join_block(largest, cuda_larger());
    *sum = cuda_join_block(own != 0 ? (double)(own * expf(largest - all)) : 0, cuda_plus());
    return all;
}

/* 1 if no logit is larger and no earlier one is equal. */
__device__ static int is_first_of_largest(const float *x, int64_t label, float largest) {
    int before = 0;
    for (int64_t i = threadIdx.x; i < label; i += THREADS) before |= x[i] == largest;
    before = __syncthreads_or(before);
    return x[label] == largest && !before;
}

/* d *loss / d logits = scale * (softmax - one at the label). A thread reads a logit before it writes this element,
 * so that both may share memory. */
template <bool FAST>
__device__ void gradient_row(const struct piece &p, const float *x, int64_t n, float largest, double sum, int64_t label,
                             float scale) {
    void *out = cuda_row(p.gradient, blockIdx.x);
    float factor = label < 0 ? 0 : (float)((double)scale / sum);
    for (int64_t i = threadIdx.x * EACH; i < n; i += THREADS * EACH) {
        struct cuda_four four = cuda_get4(x, DTYPE_F32, i, n);
        for (int j = 0; j < EACH; j++) {
            float g = label < 0 ? 0 : factor * exponential<FAST>(four.at[j] - largest);
            four.at[j] = i + j == label ? g - scale : g;
        }
        cuda_set4(out, p.gradient.type, i, n, four);
    }
}

template <bool FAST>
__global__ static void __launch_bounds__(THREADS, 2) loss_rows(struct op_linear_cross_entropy a, struct piece p) {
    int64_t row = p.first + blockIdx.x, n = a.weight.rows, label = ((const int32_t *)a.labels.data)[row];
    const float *x = (const float *)p.logits.data + blockIdx.x * n;
    if (label >= n) label = -1;
    double loss = 0, sum = 1;
    float largest = 0;
    int correct = 0;
    if (label >= 0) {
        largest = sum_exponentials<FAST>(x, n, &sum);
        loss = log(sum) + (double)largest - (double)x[label];
        if (a.correct.data) correct = is_first_of_largest(x, label, largest);
    }
    __syncthreads(); /* all have read x[label] */
    if (p.wants_gradient) gradient_row<FAST>(p, x, n, largest, sum, label, *(const float *)a.scale.data);
    if (threadIdx.x != 0) return;
    p.losses[row] = loss;
    if (a.nll.data) ((float *)a.nll.data)[row] = (float)loss;
    if (a.correct.data) ((int32_t *)a.correct.data)[row] = correct;
}

/* Starts copying this thread's logits of a row; zeros behind the last. */
__device__ static void fetch(float4 *to, const float *x, int64_t n) {
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int64_t at = ((int64_t)i * THREADS + threadIdx.x) * EACH;
        matrix_copy16(&to[i * THREADS + threadIdx.x], at < n ? x + at : x, at < n);
    }
    matrix_commit();
}

/* The same for up to MAX_KEPT logits in whole chunks of EACH, which are read once: a block goes from row to row and
 * copies the next one while it works on the one before. */
template <bool FAST>
__global__ static void __launch_bounds__(THREADS, 1) loss_rows_kept(struct op_linear_cross_entropy a, struct piece p) {
    extern __shared__ float4 fetched[]; /* each thread reads what it has copied */
    int64_t n = a.weight.rows, r = blockIdx.x;
    const float *logits = (const float *)p.logits.data;
    fetch(fetched, logits + r * n, n);
    for (; r < p.rows; r += gridDim.x) {
        int64_t label = ((const int32_t *)a.labels.data)[p.first + r];
        const float *x = logits + r * n;
        if (label >= n) label = -1;
        float largest = -INFINITY, own = 0, at_label = label >= 0 ? x[label] : 0;
        struct cuda_four four[KEPT];
        matrix_wait<0>();
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            float4 wide = fetched[i * THREADS + threadIdx.x];
            bool there = ((int64_t)i * THREADS + threadIdx.x) * EACH < n;
            four[i] = {{wide.x, wide.y, wide.z, wide.w}};
            for (int j = 0; j < EACH; j++) {
                four[i].at[j] = there ? four[i].at[j] : -INFINITY;
                largest = fmaxf(largest, four[i].at[j]);
            }
        }
        largest = cuda_join_block(largest, cuda_larger());
        if (r + gridDim.x < p.rows) fetch(fetched, x + gridDim.x * n, n);
#pragma unroll
        for (int i = 0; i < KEPT; i++)
            for (int j = 0; j < EACH; j++) own += four[i].at[j] = exponential<FAST>(four[i].at[j] - largest);
        double sum = cuda_join_block((double)own, cuda_plus());
        int correct = label >= 0 && a.correct.data ? is_first_of_largest(x, label, largest) : 0;
        float scale = label < 0 ? 0 : *(const float *)a.scale.data, factor = (float)((double)scale / sum);
        __syncthreads(); /* all have read their logits */
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            int64_t at = ((int64_t)i * THREADS + threadIdx.x) * EACH;
            if (!p.wants_gradient || at >= n) break;
            for (int j = 0; j < EACH; j++) four[i].at[j] = factor * four[i].at[j] - (at + j == label ? scale : 0);
            cuda_set4(cuda_row(p.gradient, r), p.gradient.type, at, n, four[i]);
        }
        if (threadIdx.x != 0) continue;
        double loss = label < 0 ? 0 : log(sum) + (double)largest - (double)at_label;
        p.losses[p.first + r] = loss;
        if (a.nll.data) ((float *)a.nll.data)[p.first + r] = (float)loss;
        if (a.correct.data) ((int32_t *)a.correct.data)[p.first + r] = correct;
    }
}

/* ---------------------------------------------------------------- all rows */

template <bool FAST> static int find_losses(device *d, const struct op_linear_cross_entropy *a, const struct piece *p) {
    size_t bytes = MAX_KEPT * sizeof(float);
    unsigned rows = (unsigned)p->rows, busy = (unsigned)cuda_state_of(d)->multiprocessors;
    if (a->weight.rows > MAX_KEPT || a->weight.rows % EACH != 0 || a->weight.rows == 0 ||
        bytes > (size_t)cuda_state_of(d)->shared_bytes) {
        loss_rows<FAST><<<rows, THREADS, 0, cuda_stream(d)>>>(*a, *p);
        return LCKV_OK;
    }
    auto kernel = loss_rows_kept<FAST>;
    unsigned blocks = rows < busy ? rows : busy;
    TRY(cuda_allow_shared(d, kernel, bytes));
    kernel<<<blocks, THREADS, bytes, cuda_stream(d)>>>(*a, *p);
    return LCKV_OK;
}

/* One block. */
__global__ static void add_losses(const double *losses, int64_t rows, const float *scale, double *loss) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < rows; i += THREADS) sum += losses[i];
    sum = cuda_join_block(sum, cuda_plus());
    if (threadIdx.x == 0) *loss += (double)*scale * sum;
}

static view rows_of(view v, int64_t first, int64_t rows) {
    return v.data == NULL ? v : view_rows(v, first, rows);
}

static int run_piece(device *d, const struct op_linear_cross_entropy *a, view weight, const struct piece *p) {
    struct cuda_product product = {};
    product.a = rows_of(a->x, p->first, p->rows);
    product.b = weight;
    product.b_transposed = true;
    product.c = p->logits;
    TRY(cuda_multiply(d, &product));
    TRY(a->x.type == DTYPE_BF16 ? find_losses<true>(d, a, p) : find_losses<false>(d, a, p));
    if (!p->wants_gradient) return LCKV_OK;
    return cuda_linear_gradients(d, product.a, weight, p->gradient, rows_of(a->dx, p->first, p->rows), a->dweight);
}

/* Workspace for the losses of all rows and for chunks of `each` rows. */
static int carve(device *d, const struct op_linear_cross_entropy *a, int64_t each, struct piece *p) {
    int64_t rows = a->x.rows, vocab_size = a->weight.rows;
    size_t losses = ((size_t)rows * sizeof(double) + 255) / 256 * 256;
    size_t logits = ((size_t)(each * vocab_size) * sizeof(float) + 255) / 256 * 256;
    bool apart = p->wants_gradient && a->x.type != DTYPE_F32;
    size_t gradient = apart ? (size_t)(each * vocab_size) * dtype_element_bytes(a->x.type) : 0;
    char *memory;
    TRY(cuda_workspace(d, CUDA_WORK_LOGITS, losses + logits + gradient, (void **)&memory));
    p->losses = (double *)memory;
    p->logits = {memory + losses, each, vocab_size, DTYPE_F32, NULL, false, 0};
    p->gradient = {apart ? memory + losses + logits : memory + losses, each, vocab_size, a->x.type, NULL, false, 0};
    return LCKV_OK;
}

int cuda_linear_cross_entropy(device *d, const struct op_linear_cross_entropy *a) {
    int64_t rows = a->x.rows, rows_each = LOGITS_BYTES / (int64_t)sizeof(float);
    if (rows == 0) return LCKV_OK;
    if (a->weight.rows > 0) rows_each /= a->weight.rows;
    if (rows_each < MIN_ROWS) rows_each = MIN_ROWS;
    int64_t pieces = (rows + rows_each - 1) / rows_each, each = (rows + pieces - 1) / pieces;
    struct piece p = {};
    p.wants_gradient = a->dx.data || a->dweight.data;
    view weight;
    TRY(carve(d, a, each, &p));
    TRY(cuda_as(d, a->weight, a->x.type, CUDA_WORK_WEIGHT, &weight));
    for (; p.first < rows; p.first += each) {
        p.rows = rows - p.first < each ? rows - p.first : each;
        p.logits.rows = p.gradient.rows = p.rows;
        TRY(run_piece(d, a, weight, &p));
    }
    if (!a->loss.data) return LCKV_OK;
    add_losses<<<1, THREADS, 0, cuda_stream(d)>>>(p.losses, rows, (const float *)a->scale.data, (double *)a->loss.data);
    return LCKV_OK;
}
