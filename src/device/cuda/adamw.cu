/* The optimizer's three ops: sum_squares, clip, adamw. */
#include "device/cuda/cuda.h"
#include "device/cuda/random.h"

enum { THREADS = 256, EACH = 4, BLOCKS_EACH = 8 /* per multiprocessor */, MAX_PARTS = 1024 };

static unsigned grid(device *d, int64_t n, int64_t max_blocks) {
    int64_t blocks = (n + THREADS * EACH - 1) / (THREADS * EACH),
            enough = BLOCKS_EACH * cuda_state_of(d)->multiprocessors;
    if (enough > max_blocks) enough = max_blocks;
    return (unsigned)(blocks < enough ? blocks : enough);
}

/* ---------------------------------------------------------------- sum_squares */

__global__ static void squares(view x, view minus, int64_t n, double *partial) {
    double sum = 0;
    int64_t step = (int64_t)gridDim.x * THREADS * EACH;
    for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH; at < n; at += step) {
        struct cuda_four value = cuda_get4(x.data, x.type, at, n), less = {};
        if (minus.data) less = cuda_get4(minus.data, minus.type, at, n);
        for (int i = 0; i < EACH; i++) {
            double difference = (double)value.at[i] - (double)less.at[i];
            sum += difference * difference;
        }
    }
    sum = cuda_join_block(sum, cuda_plus());
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/* One block sums the parts, each thread its own in their order. */
__global__ static void add_squares(const double *partial, int parts, double *out) {
    double sum = 0;
    for (int i = threadIdx.x; i < parts; i += THREADS) sum += partial[i];
    sum = cuda_join_block(sum, cuda_plus());
    if (threadIdx.x == 0) *out += sum;
}

int cuda_sum_squares(device *d, const struct op_sum_squares *a) {
    int64_t n = cuda_elements(a->x);
    if (n == 0) return LCKV_OK;
    unsigned parts = grid(d, n, MAX_PARTS);
    double *partial;
    TRY(cuda_workspace(d, CUDA_WORK_PARTIAL, MAX_PARTS * sizeof *partial, (void **)&partial));
    squares<<<parts, THREADS, 0, cuda_stream(d)>>>(a->x, a->minus, n, partial);
    add_squares<<<1, THREADS, 0, cuda_stream(d)>>>(partial, (int)parts, (double *)a->out.data);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- clip */

__global__ static void clip(const double *sum_squares, const double *loss, step_state *state) {
    double norm = sqrt(*sum_squares), factor = (double)state->max_grad_norm / (norm + 1e-6);
    state->grad_norm = norm;
    state->clip_factor = state->max_grad_norm > 0.0f && factor < 1.0 ? (float)factor : 1.0f;
    bool too_long = state->skip_grad_norm > 0.0f && norm > (double)state->skip_grad_norm;
    state->finite = isfinite(norm) && isfinite(*loss) && !too_long;
}

int cuda_clip(device *d, const struct op_clip *a) {
    clip<<<1, 1, 0, cuda_stream(d)>>>((const double *)a->sum_squares.data, (const double *)a->loss.data,
                                      (step_state *)a->state.data);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- adamw */

/* Values that are the same for all elements of a step. */
struct step {
    float shrink; /* 1 - learning_rate * weight_decay */
    float size;   /* learning_rate / correction1 */
    float root;   /* 1 / sqrt(correction2) */
};

__device__ static struct step step_of(const step_state *state, float weight_decay) {
    struct step s;
    s.shrink = (float)(1.0 - (double)state->learning_rate * (double)weight_decay);
    s.size = (float)((double)state->learning_rate / (double)state->correction1);
    s.root = (float)(1.0 / sqrt((double)state->correction2));
    return s;
}

/* A bf16 number in f32. Values that are not finite are rounded as usual. */
__device__ static float round_at_random(float x, uint32_t noise) {
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return x;
    return __uint_as_float((bits + noise) & 0xffff0000u);
}

__device__ static void round_element(const struct op_adamw *a, uint64_t seed, int64_t at, float *p, float *m,
                                     float *v) {
    uint32_t words[4];
    uint64_t element = (uint64_t)(a->first + at);
    random_block(seed, a->stream, element / 2, words);
    uint32_t first = element % 2 ? words[2] : words[0], second = element % 2 ? words[3] : words[1];
    *p = round_at_random(*p, first & 0xffff);
    *m = round_at_random(*m, first >> 16);
    *v = round_at_random(*v, second & 0xffff);
}

__device__ static void update(const struct op_adamw *a, const step_state *state, struct step s, int64_t at, int64_t n) {
    dtype type = a->master.type;
    struct cuda_four p = cuda_get4(a->master.data, type, at, n), g = cuda_get4(a->grad.data, DTYPE_F32, at, n);
    struct cuda_four m = cuda_get4(a->m.data, type, at, n), v = cuda_get4(a->v.data, type, at, n);
    for (int i = 0; i < EACH; i++) {
        float gradient = g.at[i] * state->clip_factor;
        m.at[i] = state->beta1 * m.at[i] + (1.0f - state->beta1) * gradient;
        v.at[i] = state->beta2 * v.at[i] + (1.0f - state->beta2) * (gradient * gradient);
        p.at[i] = s.shrink * p.at[i] - s.size * m.at[i] / (sqrtf(v.at[i]) * s.root + state->epsilon);
        if (type == DTYPE_BF16) round_element(a, state->rounding_seed, at + i, &p.at[i], &m.at[i], &v.at[i]);
    }
    cuda_set4(a->master.data, type, at, n, p);
    cuda_set4(a->m.data, type, at, n, m);
    cuda_set4(a->v.data, type, at, n, v);
    cuda_set4(a->grad.data, DTYPE_F32, at, n, cuda_four{});
    if (a->weight.data) cuda_set4(a->weight.data, a->weight.type, at, n, p);
}

__global__ static void adamw(struct op_adamw a, int64_t n) {
    __shared__ struct step shared_step;
    __shared__ step_state state;
    if (threadIdx.x == 0) {
        state = *(const step_state *)a.state.data;
        shared_step = step_of(&state, a.weight_decay);
    }
    __syncthreads();
    int64_t step = (int64_t)gridDim.x * THREADS * EACH;
    for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH; at < n; at += step) {
        if (state.finite)
            update(&a, &state, shared_step, at, n);
        else
            cuda_set4(a.grad.data, DTYPE_F32, at, n, cuda_four{});
    }
}

int cuda_adamw(device *d, const struct op_adamw *a) {
    int64_t n = cuda_elements(a->master);
    if (n > 0) adamw<<<grid(d, n, INT32_MAX), THREADS, 0, cuda_stream(d)>>>(*a, n);
    return LCKV_OK;
}
