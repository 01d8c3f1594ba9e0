/* Samples a token from each row of logits, as the processors of transformers 4.45 do, without sorting. A block
 * handles a row.
 *
 * The CPU's entry (cpu/sample.c) defines the computation and its edge cases; the token is the same. A token's weight
 * is the integer floor(exp(score - largest score) * 2^40), so that sums are exact in any order, and an integer draws
 * it.
 *
 * - The order: bias, repetition penalty, temperature, top-k, top-p, min-p.
 * - Thresholds are found digit by digit from the highest bits of the scores, with a histogram of each digit.
 * - Of tokens with equal scores at top-p's threshold, the lower ids are dropped.
 *
 * A row in which a logit is NaN or +inf, or all are -inf, has no probabilities: id -1, logprob NaN. */
#include "device/cuda/launch.h"
#include "device/cuda/random.h"

enum {
    THREADS = 1024,
    EACH = 4,
    LOOK = 4 /* chunks that are loaded at a time */,
    DIGIT = 8,
    BINS = 1 << DIGIT,
    KEY_BITS = 32
};
typedef unsigned long long u64;

/* The state of a row. A token is a candidate if its score is at least `least`, if it is not among the first
 * `dropped_end` ids in case its score equals `drop_equal`, and if its weight is at least `least_weight`. */
struct choice {
    const float *logits;
    const float *bias;   /* may be NULL */
    const uint8_t *seen; /* may be NULL */
    float penalty, temperature, best;
    float least, drop_equal;
    int dropped_end, count;
    u64 least_weight;
};

/* ---------------------------------------------------------------- scores and weights */

/* Unsigned integers in the order of floats. */
__device__ static uint32_t order_of(float x) {
    uint32_t bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ static float float_of(uint32_t order) {
    return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

/* The sum with 0 turns -0 into 0. */
__device__ static float score_of(const struct choice &c, int i) {
    float score = c.logits[i] + 0.0f;
    if (c.bias) score += c.bias[i];
    if (c.seen && c.seen[i] && c.penalty != 1.0f) score = score < 0.0f ? score * c.penalty : score / c.penalty;
    return c.temperature == 1.0f ? score : score / c.temperature;
}

/* The CPU's exponential, operation by operation, for x <= 0. */
__device__ static float same_exp(float x) {
    const float round = 0x1.8p23f;
    x = x < -105.0f ? -105.0f : x;
    float shifted = fmaf(x, 0x1.715476p+0f, round);
    int32_t n = (int32_t)(__float_as_uint(shifted) - __float_as_uint(round));
    float whole = shifted - round;
    float r = fmaf(whole, -0x1.62e4p-1f, x);
    r = fmaf(whole, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6a2352p-10f;
    p = fmaf(p, r, 0x1.123a6cp-7f);
    p = fmaf(p, r, 0x1.5558f4p-5f);
    p = fmaf(p, r, 0x1.55549p-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(p * r, r, r) + 1.0f;
    int32_t half = n >> 1;
    return p * __uint_as_float((uint32_t)(half + 127) << 23) * __uint_as_float((uint32_t)(n - half + 127) << 23);
}

__device__ static u64 weight_of(const struct choice &c, float score) {
    return (u64)(same_exp(score - c.best) * 0x1p40f);
}

__device__ static bool is_candidate(const struct choice &c, int i, float score, u64 weight) {
    bool dropped = score == c.drop_equal && i < c.dropped_end;
    return score >= c.least && !dropped && weight >= c.least_weight;
}

/* The units of a token when tokens are counted, and when they are weighted. */
struct count_units {
    __device__ u64 operator()(const struct choice &c, int i, float score) const {
        return is_candidate(c, i, score, ~0ull);
    }
};

struct weight_units {
    __device__ u64 operator()(const struct choice &c, int i, float score) const {
        u64 weight = weight_of(c, score);
        return is_candidate(c, i, score, weight) ? weight : 0;
    }
};

struct equal_units {
    float score;
    __device__ u64 operator()(const struct choice &, int, float other) const {
        return other == score;
    }
};

/* ---------------------------------------------------------------- sums over a row */

template <typename Units> __device__ u64 total_of(const struct choice &c, Units units) {
    u64 sum = 0;
    for (int i = threadIdx.x; i < c.count; i += THREADS) sum += units(c, i, score_of(c, i));
    return cuda_join_block(sum, cuda_plus());
}

/* The largest score t such that the tokens with scores of at least t have `need` units together (all tokens have as
 * many). *above: the units of those with scores above t. Each round fixes the next DIGIT bits of t. */
template <typename Units> __device__ float threshold(const struct choice &c, Units units, u64 need, u64 *above) {
    __shared__ u64 bins[BINS];
    __shared__ u64 beyond;
    __shared__ uint32_t prefix;
    if (threadIdx.x == 0) prefix = 0, beyond = 0;
    for (int shift = KEY_BITS - DIGIT; shift >= 0; shift -= DIGIT) {
        for (int b = threadIdx.x; b < BINS; b += THREADS) bins[b] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < c.count; i += THREADS) {
            float score = score_of(c, i);
            uint32_t order = order_of(score), upper = shift + DIGIT < KEY_BITS ? order >> (shift + DIGIT) : 0;
            u64 has = upper == prefix ? units(c, i, score) : 0;
            if (has > 0) atomicAdd(&bins[order >> shift & (BINS - 1)], has);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = BINS - 1;
            while (digit > 0 && beyond + bins[digit] < need) beyond += bins[digit--];
            prefix = prefix << DIGIT | (uint32_t)digit;
        }
        __syncthreads();
    }
    *above = beyond;
    float found = float_of(prefix);
    __syncthreads(); /* the next call overwrites them */
    return found;
}

/* The first id at which the running sum of units exceeds `left`, which their total does. Each warp has a range of
 * ids; the one whose range contains it searches it. */
template <typename Units> __device__ int find_id(const struct choice &c, Units units, u64 left) {
    constexpr int WARPS = THREADS / CUDA_WARP;
    __shared__ u64 sums[WARPS];
    __shared__ int found;
    int warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP;
    int each = (c.count + WARPS * CUDA_WARP - 1) / (WARPS * CUDA_WARP) * CUDA_WARP;
    int begin = warp * each, end = min(begin + each, c.count);
    u64 sum = 0;
    for (int i = begin + lane; i < end; i += CUDA_WARP) sum += units(c, i, score_of(c, i));
    sum = cuda_join_lanes(sum, CUDA_WARP, cuda_plus());
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    u64 before = 0;
    for (int w = 0; w < warp; w++) before += sums[w];
    if (before <= left && left < before + sums[warp]) {
        for (int base = begin; base < end; base += CUDA_WARP) {
            u64 own = base + lane < end ? units(c, base + lane, score_of(c, base + lane)) : 0, running = own;
            for (int i = 1; i < CUDA_WARP; i *= 2) {
                u64 lower = __shfl_up_sync(CUDA_ALL_LANES, running, i);
                if (lane >= i) running += lower;
            }
            if (before + running > left && before + running - own <= left) found = base + lane;
            before += __shfl_sync(CUDA_ALL_LANES, running, CUDA_WARP - 1);
            if (before > left) break;
        }
    }
    __syncthreads();
    int id = found;
    __syncthreads();
    return id;
}

/* ---------------------------------------------------------------- the processors */

__device__ static void keep_top_k(struct choice *c, int top_k) {
    u64 above;
    if (top_k <= 0 || top_k >= c->count) return;
    c->least = threshold(*c, count_units(), (u64)top_k, &above);
}

/* In ascending order, tokens are dropped while the sum of their probabilities is at most 1 - top_p. */
__device__ static void keep_top_p(struct choice *c, float top_p) {
    u64 total = total_of(*c, weight_units()), above;
    double dropped = (1.0 - (double)top_p) * (double)total;
    u64 drop = dropped < (double)total ? (u64)dropped : total, need = drop < total ? total - drop : 1;
    c->least = threshold(*c, weight_units(), need, &above);
    u64 equals = total_of(*c, equal_units{c->least});
    if (equals < 2) return;
    u64 weight = weight_of(*c, c->least), kept = weight > 0 ? (need - above + weight - 1) / weight : equals;
    if (kept >= equals) return;
    c->drop_equal = c->least;
    c->dropped_end = find_id(*c, equal_units{c->least}, equals - kept - 1) + 1;
}

/* floor(u * total) for u = bits / 2^53, the product in 128 bits. */
__device__ static u64 scaled(u64 bits, u64 total) {
    return __umul64hi(bits, total) << 11 | bits * total >> 53;
}

__device__ static int draw(const struct choice &c, const sample_row &how) {
    uint32_t words[4];
    random_block(how.seed, how.stream, how.counter, words);
    u64 left = scaled(random_bits53(words[0], words[1]), total_of(c, weight_units()));
    return find_id(c, weight_units(), left);
}

__device__ static int choose(struct choice *c, const sample_row &how) {
    c->temperature = 1.0f;
    float best = -INFINITY;
    for (int i = threadIdx.x; i < c->count; i += THREADS) best = fmaxf(best, score_of(*c, i));
    c->best = cuda_join_block(best, cuda_larger());
    bool hot = how.temperature > 0.0f && isfinite(c->best / how.temperature); /* otherwise greedy is the limit */
    if (!hot) return find_id(*c, equal_units{c->best}, 0);
    c->temperature = how.temperature;
    if (how.temperature != 1.0f) c->best /= how.temperature;
    keep_top_k(c, how.top_k);
    if (how.top_p < 1.0f) keep_top_p(c, how.top_p);
    if (how.min_p > 0.0f) c->least_weight = (u64)ceil(fmin((double)how.min_p, 1.0) * 0x1p40);
    return draw(*c, how);
}

/* ---------------------------------------------------------------- the entry */

/* Of a row's original logits: the largest, its first position, and the sum of exp(logit - largest); NaN if one is
 * NaN. */
struct first_look {
    float best, sum;
    int id;

    /* Logits of chunks that are THREADS apart, the first one at `at`. */
    __device__ void see(const struct cuda_four (&x)[LOOK], int at) {
        float largest = -INFINITY;
#pragma unroll
        for (int i = 0; i < LOOK * EACH; i++) largest = fmaxf(largest, x[i / EACH].at[i % EACH]);
        if (largest > best) {
            sum *= expf(best - largest);
            best = largest;
#pragma unroll
            for (int i = LOOK * EACH - 1; i >= 0; i--)
                if (x[i / EACH].at[i % EACH] == best) id = at + i / EACH * (THREADS * EACH) + i % EACH;
        }
        float shift = best == -INFINITY ? 0.0f : best;
#pragma unroll
        for (int i = 0; i < LOOK * EACH; i++) sum += expf(x[i / EACH].at[i % EACH] - shift);
    }

    __device__ void join(float other, float other_sum, int other_id) {
        float all = fmaxf(best, other);
        if (other > best || (other == best && other_id < id)) id = other_id;
        sum = all == -INFINITY ? sum + other_sum : sum * expf(best - all) + other_sum * expf(other - all);
        best = all;
    }

    /* Every lane receives lane 0's result, because sums in another order may differ. */
    __device__ void join_warp(void) {
        for (int i = CUDA_WARP / 2; i > 0; i /= 2) {
            float other = __shfl_xor_sync(CUDA_ALL_LANES, best, i), other_sum = __shfl_xor_sync(CUDA_ALL_LANES, sum, i);
            join(other, other_sum, __shfl_xor_sync(CUDA_ALL_LANES, id, i));
        }
        best = __shfl_sync(CUDA_ALL_LANES, best, 0);
        sum = __shfl_sync(CUDA_ALL_LANES, sum, 0);
        id = __shfl_sync(CUDA_ALL_LANES, id, 0);
    }
};

/* Four logits from `at` on, -inf after the end. */
__device__ static struct cuda_four logits_at(const float *logits, int at, int n) {
    if (at + EACH <= n) return cuda_get4(logits, DTYPE_F32, at, n);
    struct cuda_four x;
    for (int i = 0; i < EACH; i++) x.at[i] = at + i < n ? logits[at + i] : -INFINITY;
    return x;
}

__device__ static struct first_look look(const float *logits, int n) {
    __shared__ struct first_look warps[THREADS / CUDA_WARP];
    struct first_look own = {-INFINITY, 0, INT32_MAX};
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll 1
    for (int at = threadIdx.x * EACH; at < n; at += THREADS * EACH * LOOK) {
        struct cuda_four x[LOOK];
#pragma unroll
        for (int i = 0; i < LOOK; i++) x[i] = logits_at(logits, at + i * THREADS * EACH, n);
        own.see(x, at);
    }
    own.join_warp();
    if (lane == 0) warps[threadIdx.x / CUDA_WARP] = own;
    __syncthreads();
    own = warps[lane];
    own.join_warp();
    return own;
}

/* Changes the bias for the next token. */
__device__ static void penalize_chosen(const struct op_sample &a, const sample_row &how, int64_t r, int id) {
    if (id < 0 || !a.bias.data || !how.biased) return;
    int64_t at = r * a.logits.cols + id;
    float *bias = (float *)a.bias.data + at;
    uint8_t *penalized = a.penalized.data ? (uint8_t *)a.penalized.data + at : NULL;
    if (penalized && !*penalized) *bias -= how.presence_penalty;
    *bias -= how.frequency_penalty;
    if (penalized) *penalized = 1;
}

__global__ static void __launch_bounds__(THREADS) sample_rows(struct op_sample a) {
    int64_t r = blockIdx.x;
    struct choice c = {};
    c.count = (int)a.logits.cols;
    c.logits = (const float *)a.logits.data + r * c.count;
    uint8_t *seen = a.seen.data ? (uint8_t *)a.seen.data + r * c.count : NULL;
    cuda_let_next();
    cuda_begin();
    const sample_row &how = ((const sample_row *)a.how.data)[r];
    c.bias = a.bias.data && how.biased ? (const float *)a.bias.data + r * c.count : NULL;
    c.seen = seen;
    c.penalty = how.repetition_penalty;
    c.least = c.drop_equal = -INFINITY;
    struct first_look first = look(c.logits, c.count);
    bool plain = !c.bias && (!seen || c.penalty == 1.0f) && !(how.temperature > 0.0f);
    int id = -1;
    if (isfinite(first.best) && !isnan(first.sum)) id = plain ? first.id : choose(&c, how);
    __syncthreads(); /* seen and bias are not read any more */
    if (threadIdx.x != 0) return;
    ((int32_t *)a.ids.data)[r] = id;
    if (seen && id >= 0) seen[id] = 1;
    penalize_chosen(a, how, r, id);
    if (!a.logprob.data) return;
    double logprob = id < 0 ? (double)NAN : (double)c.logits[id] - (double)first.best - log((double)first.sum);
    ((float *)a.logprob.data)[r] = (float)logprob;
}

int cuda_sample(device *d, const struct op_sample *a) {
    if (a->logits.rows > 0) cuda_start(d, sample_rows, dim3((unsigned)a->logits.rows), THREADS, 0, *a);
    return LCKV_OK;
}
