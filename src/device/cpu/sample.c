/* Samples a token from each row of logits, as the processors of transformers 4.45 do, without sorting.
 *
 * The order: bias, repetition penalty, temperature, top-k, top-p, min-p. Edge cases are as in transformers:
 * - penalty: a seen token's logit is divided by it if it is at least 0, else multiplied;
 * - top-k keeps every token that equals the k-th largest score;
 * - top-p keeps the fewest of the most probable tokens whose probabilities reach top_p, at least one; of equal ones
 *   the higher ids are kept (a stable ascending sort puts them last; torch's sort is not stable on every processor);
 * - min-p drops tokens less probable than min_p times the most probable one, and keeps at least one.
 *
 * The draw gives the same token on every device, whatever the order of its sums. A token's weight is the integer
 * floor(exp(score - largest score) * 2^40), so that sums are exact; u = rng_uniform() is an integer / 2^53; the
 * token is the first kept one, by id, at which the running sum of weights exceeds floor(u * total). A token less
 * than 2^-40 times as probable as the best is therefore never drawn.
 *
 * A row in which a logit is NaN or +inf, or all are -inf, has no probabilities: id -1, logprob NaN. */
#include "base/rng.h"
#include "device/cpu/cpu.h"

#include <math.h>

#define REACH 28.0f                /* exp(-28) < 2^-40: scores this far below the largest have weight 0 */
#define WEIGHT_ONE 0x1p40          /* the weight of the largest score */
typedef unsigned __int128 uint128; /* products of two 64-bit integers */

/* A row in progress: the remaining candidates by ascending id. */
struct choice {
    int64_t count;
    float best; /* the largest score */
    float *scores;
    int32_t *ids;
    uint64_t *weights;      /* 0: dropped */
    float *near_scores;     /* the candidates near a threshold, */
    uint64_t *near_weights; /* while threshold() searches for it */
};

static size_t choice_bytes(int64_t vocab_size) {
    size_t ids = (size_t)(vocab_size + vocab_size % 2) * sizeof(int32_t); /* a multiple of 8 bytes */
    return (size_t)vocab_size * 2 * (sizeof(uint64_t) + sizeof(float)) + ids;
}

static struct choice choice_at(void *memory, int64_t vocab_size) {
    struct choice c = {.count = vocab_size, .weights = memory};
    c.near_weights = c.weights + vocab_size;
    c.scores = (float *)(c.near_weights + vocab_size);
    c.near_scores = c.scores + vocab_size;
    c.ids = (int32_t *)(c.near_scores + vocab_size);
    return c;
}

/* ---------------------------------------------------------------- order */

/* Integers in the order of floats; -0 is below 0. NaNs are beyond the keys of the infinities, at both ends. */
static int32_t order_of(float x) {
    int32_t bits = (int32_t)float_bits(x);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static float float_of(int32_t order) {
    return float_of_bits((uint32_t)(order ^ ((order >> 31) & 0x7fffffff)));
}

static float largest(const float *x, int64_t n) {
    int32_t peak = INT32_MIN;
#pragma omp simd reduction(max : peak)
    for (int64_t i = 0; i < n; i++) {
        int32_t order = order_of(x[i]);
        peak = order > peak ? order : peak;
    }
    return float_of(peak);
}

static bool has_nan(const float *x, int64_t n) {
    uint32_t peak = 0;
#pragma omp simd reduction(max : peak)
    for (int64_t i = 0; i < n; i++) {
        uint32_t magnitude = float_bits(x[i]) & 0x7fffffff;
        peak = magnitude > peak ? magnitude : peak;
    }
    return peak > 0x7f800000;
}

static int32_t first_equal(const float *x, float value, int64_t n) {
    int64_t i = 0;
    while (i < n - 1 && x[i] != value) i++;
    return (int32_t)i;
}

/* ---------------------------------------------------------------- thresholds */

enum { BINS = 2048, LAST_BIN = BINS - 1, BLOCK = 512 };

/* Scores by their distance from the best, in equal bins; scores without weight are in the last. */
static void bins_of(int32_t *restrict bins, const float *restrict scores, float best, int64_t n) {
    const float per_unit = (float)LAST_BIN / REACH;
    for (int64_t i = 0; i < n; i++) {
        float bin = (best - scores[i]) * per_unit;
        bins[i] = (int32_t)(bin < (float)LAST_BIN ? bin : (float)LAST_BIN);
    }
}

static void histogram(const struct choice *c, const uint64_t *weights, uint64_t units[BINS]) {
    int32_t bins[BLOCK];
    memset(units, 0, BINS * sizeof *units);
    for (int64_t at = 0; at < c->count; at += BLOCK) {
        int64_t n = c->count - at < BLOCK ? c->count - at : BLOCK;
        bins_of(bins, c->scores + at, c->best, n);
        for (int64_t i = 0; i < n; i++) units[bins[i]] += weights ? weights[at + i] : 1;
    }
}

/* Copies the scores and weights of one bin and returns their number. */
static int64_t gather_bin(const struct choice *c, const uint64_t *weights, int32_t bin) {
    int32_t bins[BLOCK];
    int64_t count = 0;
    for (int64_t at = 0; at < c->count; at += BLOCK) {
        int64_t n = c->count - at < BLOCK ? c->count - at : BLOCK;
        bins_of(bins, c->scores + at, c->best, n);
        for (int64_t i = 0; i < n; i++) {
            if (bins[i] != bin) continue;
            c->near_scores[count] = c->scores[at + i];
            c->near_weights[count++] = weights ? weights[at + i] : 1;
        }
    }
    return count;
}

static uint64_t units_from(const float *scores, const uint64_t *weights, int64_t n, float least) {
    uint64_t units = 0;
#pragma omp simd reduction(+ : units)
    for (int64_t i = 0; i < n; i++) units += scores[i] >= least ? weights[i] : 0;
    return units;
}

/* The largest score t such that the candidates with scores of at least t have `need` units together. A unit is a
 * candidate (weights NULL) or one of weight. *above: the units of those with scores above t. -inf if candidates
 * without weight are needed too. First the bin of t is found, then t itself, bit by bit. */
static float threshold(const struct choice *c, const uint64_t *weights, uint64_t need, uint64_t *above) {
    uint64_t units[BINS], beyond = 0;
    int32_t bin = 0;
    histogram(c, weights, units);
    while (bin < LAST_BIN && beyond + units[bin] < need) beyond += units[bin++];
    *above = beyond;
    if (bin == LAST_BIN) return -INFINITY;
    int64_t n = gather_bin(c, weights, bin);
    int64_t low = order_of(-INFINITY), high = (int64_t)order_of(c->best) + 1;
    while (high - low > 1) { /* units from low on >= need > *above = units from high on */
        int64_t middle = low + (high - low) / 2;
        uint64_t there = beyond + units_from(c->near_scores, c->near_weights, n, float_of((int32_t)middle));
        if (there >= need) {
            low = middle;
        } else {
            high = middle;
            *above = there;
        }
    }
    return float_of((int32_t)low);
}

/* ---------------------------------------------------------------- the processors */

/* The sum with 0 turns -0 into 0. */
static void penalize(struct choice *c, const float *restrict logits, const float *restrict bias,
                     const uint8_t *restrict seen, float penalty) {
    float *restrict scores = c->scores;
    int32_t *restrict ids = c->ids;
    for (int64_t i = 0; i < c->count; i++) {
        scores[i] = logits[i] + 0.0f;
        ids[i] = (int32_t)i;
    }
    for (int64_t i = 0; bias && i < c->count; i++) scores[i] += bias[i];
    if (seen && penalty != 1.0f) {
        for (int64_t i = 0; i < c->count; i++) {
            float penalized = scores[i] < 0.0f ? scores[i] * penalty : scores[i] / penalty;
            scores[i] = seen[i] ? penalized : scores[i];
        }
    }
    c->best = largest(scores, c->count);
}

static void apply_temperature(struct choice *c, float temperature) {
    if (temperature == 1.0f) return;
    for (int64_t i = 0; i < c->count; i++) c->scores[i] /= temperature;
    c->best /= temperature;
}

/* Removes dropped candidates, so that later steps have few to look at. */
static void keep_top_k(struct choice *c, int32_t top_k) {
    if (top_k <= 0 || top_k >= c->count) return;
    uint64_t above;
    float least = threshold(c, NULL, (uint64_t)top_k, &above);
    int64_t kept = 0;
    for (int64_t i = 0; i < c->count; i++) {
        if (c->scores[i] < least) continue;
        c->scores[kept] = c->scores[i];
        c->ids[kept++] = c->ids[i];
    }
    c->count = kept;
}

/* floor(exp(score - best) * 2^40), the upper and the lower 20 bits separately, so that conversions to 32-bit
 * integers vectorize. There are two loops, because compilers turn the limits of the exponential into branches if an
 * integer depends on them. */
static void weigh(struct choice *c) {
    float scaled[BLOCK], best = c->best;
    for (int64_t at = 0; at < c->count; at += BLOCK) {
        int64_t n = c->count - at < BLOCK ? c->count - at : BLOCK;
        const float *restrict scores = c->scores + at;
        uint64_t *restrict weights = c->weights + at;
        for (int64_t i = 0; i < n; i++) scaled[i] = cpu_exp(scores[i] - best) * 0x1p20f;
        for (int64_t i = 0; i < n; i++) {
            int32_t high = (int32_t)scaled[i], low = (int32_t)((scaled[i] - (float)high) * 0x1p20f);
            weights[i] = ((uint64_t)(uint32_t)high << 20) + (uint64_t)(uint32_t)low;
        }
    }
}

static uint64_t total_of(const uint64_t *weights, int64_t n) {
    uint64_t total = 0;
    for (int64_t i = 0; i < n; i++) total += weights[i];
    return total;
}

static void drop_below(struct choice *c, float least) {
    const float *restrict scores = c->scores;
    uint64_t *restrict weights = c->weights;
    for (int64_t i = 0; i < c->count; i++) weights[i] = scores[i] >= least ? weights[i] : 0;
}

/* In ascending order, tokens are dropped while the sum of their probabilities is at most 1 - top_p. */
static void keep_top_p(struct choice *c, float top_p) {
    uint64_t total = total_of(c->weights, c->count), above;
    double dropped = (1.0 - (double)top_p) * (double)total;
    uint64_t drop = dropped < (double)total ? (uint64_t)dropped : total;
    uint64_t need = drop < total ? total - drop : 1;
    float least = threshold(c, c->weights, need, &above);
    drop_below(c, least);
    uint64_t equals = 0, weight = 0;
    for (int64_t i = 0; i < c->count; i++) {
        equals += c->scores[i] == least;
        weight = c->scores[i] == least ? c->weights[i] : weight;
    }
    if (equals < 2) return;
    uint64_t kept = (need - above + weight - 1) / weight;
    for (int64_t i = 0; equals > kept; i++) {
        if (c->scores[i] != least) continue;
        c->weights[i] = 0;
        equals--;
    }
}

static void keep_min_p(struct choice *c, float min_p) {
    uint64_t least = (uint64_t)ceil(fmin((double)min_p, 1.0) * WEIGHT_ONE);
    for (int64_t i = 0; i < c->count; i++) c->weights[i] = c->weights[i] >= least ? c->weights[i] : 0;
}

static int32_t draw(const struct choice *c, const sample_row *how) {
    uint64_t u = (uint64_t)(rng_uniform(how->seed, how->stream, how->counter) * 0x1p53);
    uint64_t left = (uint64_t)((uint128)u * total_of(c->weights, c->count) >> 53);
    int64_t i = 0;
    for (;; i += BLOCK) { /* whole blocks first, because their sums vectorize */
        uint64_t sum = total_of(c->weights + i, c->count - i < BLOCK ? c->count - i : BLOCK);
        if (sum > left) break;
        left -= sum;
    }
    for (; c->weights[i] <= left; i++) left -= c->weights[i];
    return c->ids[i];
}

static int32_t choose(struct choice *c, const float *logits, const float *bias, const uint8_t *seen,
                      const sample_row *how) {
    penalize(c, logits, how->biased ? bias : NULL, seen, how->repetition_penalty);
    bool hot = how->temperature > 0.0f && isfinite(c->best / how->temperature); /* otherwise greedy is the limit */
    if (!hot) return first_equal(c->scores, c->best, c->count);
    apply_temperature(c, how->temperature);
    keep_top_k(c, how->top_k);
    weigh(c);
    if (how->top_p < 1.0f) keep_top_p(c, how->top_p);
    if (how->min_p > 0.0f) keep_min_p(c, how->min_p);
    return draw(c, how);
}

/* ---------------------------------------------------------------- the entry */

static float log_softmax_at(const float *logits, int64_t n, float best, int32_t id) {
    double sum = 0.0;
    for (int64_t at = 0; at < n; at += 4096) {
        int64_t end = at + 4096 < n ? at + 4096 : n;
        float partial = 0.0f;
#pragma omp simd reduction(+ : partial)
        for (int64_t i = at; i < end; i++) partial += cpu_exp(logits[i] - best);
        sum += (double)partial;
    }
    return (float)((double)logits[id] - (double)best - log(sum));
}

/* Changes the bias for the next token. */
static void penalize_chosen(const struct op_sample *a, int64_t r, int32_t id) {
    const sample_row *how = (const sample_row *)cpu_row(a->how, r);
    if (id < 0 || !a->bias.data || !how->biased) return;
    float *bias = (float *)cpu_row(a->bias, r) + id;
    uint8_t *penalized = a->penalized.data ? (uint8_t *)cpu_row(a->penalized, r) + id : NULL;
    if (penalized && !*penalized) *bias -= how->presence_penalty;
    *bias -= how->frequency_penalty;
    if (penalized) *penalized = 1;
}

static void sample_row_at(const struct op_sample *a, int64_t r, struct choice c) {
    const float *logits = cpu_row(a->logits, r);
    const sample_row *how = (const sample_row *)cpu_row(a->how, r);
    uint8_t *seen = a->seen.data ? cpu_row(a->seen, r) : NULL;
    const float *bias = a->bias.data ? cpu_row(a->bias, r) : NULL;
    float best = largest(logits, c.count);
    int32_t id = -1;
    if (!has_nan(logits, c.count) && isfinite(best)) id = choose(&c, logits, bias, seen, how);
    ((int32_t *)a->ids.data)[r] = id;
    if (seen && id >= 0) seen[id] = 1;
    penalize_chosen(a, r, id);
    if (a->logprob.data) {
        ((float *)a->logprob.data)[r] = id < 0 ? NAN : log_softmax_at(logits, a->logits.cols, best, id);
    }
}

struct job {
    const struct op_sample *a;
    char *scratch;
    size_t each; /* bytes of scratch of a row or a thread, whichever are fewer */
    bool by_row;
};

static void sample_part(void *argument, int row, int thread) {
    const struct job *job = argument;
    size_t at = (size_t)(job->by_row ? row : thread) * job->each;
    sample_row_at(job->a, row, choice_at(job->scratch + at, job->a->logits.cols));
}

int CPU_ENTRY(cpu_sample)(device *d, const struct op_sample *a) {
    int64_t rows = a->logits.rows;
    struct job job = {.a = a, .each = choice_bytes(a->logits.cols), .by_row = rows <= d->threads};
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)(job.by_row ? rows : d->threads) * job.each, &scratch));
    job.scratch = scratch;
    cpu_run(d, rows, (int)rows, sample_part, &job);
    return LCKV_OK;
}
