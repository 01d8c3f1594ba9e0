/* Choosing a token from each row of logits, as transformers 4.45's processors do, without sorting.
 *
 * The order: repetition penalty, temperature, top-k, top-p, min-p. At the edges, as there:
 *   - penalty: a seen token's logit is divided by it where it is at least 0, else multiplied;
 *   - top-k keeps every token that equals the k-th largest score;
 *   - top-p keeps the fewest of the most probable tokens whose probabilities reach top_p, at least one; of equal ones
 *     the higher ids are kept (a stable ascending sort puts them last);
 *   - min-p drops what is less probable than min_p times the most probable one, and keeps at least one.
 *
 * The draw, such that every device can repeat it whatever order it sums in: a token's weight is the integer
 * floor(exp(score - largest score) * 2^40), so that sums are exact; u = rng_uniform() is an integer / 2^53; the token
 * is the first kept one, by id, at which the running sum of weights exceeds floor(u * total). So a token less than
 * 2^-40 times as probable as the best is never drawn.
 *
 * A row in which a logit is NaN or +inf, or all are -inf, has no probabilities: id -1, logprob NaN.
 */
#include "base/rng.h"
#include "device/cpu/cpu.h"

#include <math.h>

#define WEIGHT_ONE 0x1p40f         /* the weight of the largest score */
#define WEIGHT_FLOOR 28.0f         /* exp(-28) < 2^-40: scores further below the largest weigh 0 */
typedef unsigned __int128 uint128; /* products of two 64-bit integers */

/* A row's scores, and those of its tokens that are still candidates, by ascending id. */
struct choice {
    float *scores;     /* [vocab_size], then of the candidates */
    int32_t *ids;      /* of the candidates */
    uint64_t *weights; /* of the candidates */
    int64_t count;
};

static size_t choice_bytes(int64_t vocab_size) {
    return (size_t)vocab_size * (sizeof(float) + sizeof(int32_t) + sizeof(uint64_t));
}

static struct choice choice_at(void *memory, int64_t vocab_size) {
    uint64_t *weights = memory;
    float *scores = (float *)(weights + vocab_size);
    return (struct choice){scores, (int32_t *)(scores + vocab_size), weights, vocab_size};
}

/* ---------------------------------------------------------------- order */

/* Integers in the order of floats; -0 comes before 0. Beyond the key of infinity lie NaNs, at both ends. */
static int32_t order_of(float x) {
    int32_t bits = (int32_t)cpu_bits(x);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static float float_of(int32_t order) {
    return cpu_float((uint32_t)(order ^ ((order >> 31) & 0x7fffffff)));
}

static float largest(const float *x, int64_t n) {
    int32_t most = INT32_MIN;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) {
        int32_t order = order_of(x[i]);
        most = order > most ? order : most;
    }
    return float_of(most);
}

static bool has_nan(const float *x, int64_t n) {
    uint32_t most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) {
        uint32_t magnitude = cpu_bits(x[i]) & 0x7fffffff;
        most = magnitude > most ? magnitude : most;
    }
    return most > 0x7f800000;
}

static int32_t first_equal(const float *x, float value, int64_t n) {
    int64_t i = 0;
    while (i < n - 1 && x[i] != value) i++;
    return (int32_t)i;
}

/* The largest score t such that the candidates with scores of at least t have `need` units (one each, or its weight),
 * and in *above the units of those with scores above t. They must have `need` units together. The order's 32 bits are
 * found in three steps from the top, with a histogram each. */
static float reach(const struct choice *c, const uint64_t *weights, uint64_t need, uint64_t *above) {
    uint32_t found = 0; /* the bits known so far */
    *above = 0;
    for (int shift = 22; shift >= 0; shift -= 11) {
        uint64_t units[2048] = {0};
        uint32_t known = shift == 22 ? 0 : ~0u << (shift + 11);
        for (int64_t i = 0; i < c->count; i++) {
            uint32_t order = (uint32_t)order_of(c->scores[i]) ^ 0x80000000u;
            if ((order & known) == found) units[order >> shift & 2047] += weights ? weights[i] : 1;
        }
        uint32_t digit = 2047;
        while (digit > 0 && *above + units[digit] < need) *above += units[digit--];
        found |= digit << shift;
    }
    return float_of((int32_t)(found ^ 0x80000000u));
}

/* ---------------------------------------------------------------- the processors */

/* Scores of all tokens: penalty, then temperature. The sum with 0 turns -0 into 0. */
static void score(struct choice *c, const float *restrict logits, const uint8_t *restrict seen, const sample_row *how) {
    float *restrict scores = c->scores;
    float penalty = how->repetition_penalty, temperature = how->temperature > 0.0f ? how->temperature : 1.0f;
    for (int64_t i = 0; i < c->count; i++) scores[i] = logits[i] + 0.0f;
    if (seen && penalty != 1.0f) {
        for (int64_t i = 0; i < c->count; i++) {
            float penalized = scores[i] < 0.0f ? scores[i] * penalty : scores[i] / penalty;
            scores[i] = seen[i] ? penalized : scores[i];
        }
    }
    if (temperature != 1.0f) {
        for (int64_t i = 0; i < c->count; i++) scores[i] /= temperature;
    }
}

/* Candidates are the tokens that top-k keeps, without those that weigh nothing. */
static void keep_top_k(struct choice *c, int32_t top_k, float best) {
    float least = best - WEIGHT_FLOOR;
    if (top_k > 0 && top_k < c->count) {
        uint64_t above;
        float kth = reach(c, NULL, (uint64_t)top_k, &above);
        if (kth > least) least = kth;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < c->count; i++) {
        float value = c->scores[i];
        c->scores[kept] = value;
        c->ids[kept] = (int32_t)i;
        kept += value >= least;
    }
    c->count = kept;
}

static uint64_t weigh(struct choice *c, float best) {
    uint64_t total = 0;
    for (int64_t i = 0; i < c->count; i++) {
        c->weights[i] = (uint64_t)(int64_t)(cpu_exp(c->scores[i] - best) * WEIGHT_ONE);
        total += c->weights[i];
    }
    return total;
}

/* In ascending order, tokens go as long as the sum of their probabilities is at most 1 - top_p. */
static void keep_top_p(struct choice *c, float top_p, uint64_t total) {
    double dropped = (1.0 - (double)top_p) * (double)total;
    uint64_t drop = dropped < (double)total ? (uint64_t)dropped : total, above;
    uint64_t need = drop < total ? total - drop : 1;
    float least = reach(c, c->weights, need, &above);
    for (int64_t i = c->count - 1; i >= 0; i--) { /* of those that equal `least`, the last ones by id stay */
        bool equal = c->scores[i] == least;
        if (c->scores[i] < least || (equal && above >= need)) {
            c->weights[i] = 0;
        } else if (equal) {
            above += c->weights[i];
        }
    }
}

static void keep_min_p(struct choice *c, float min_p) {
    uint64_t least = (uint64_t)ceil(fmin((double)min_p, 1.0) * (double)WEIGHT_ONE);
    for (int64_t i = 0; i < c->count; i++) c->weights[i] = c->weights[i] >= least ? c->weights[i] : 0;
}

static int32_t draw(const struct choice *c, const sample_row *how) {
    uint64_t total = 0, sum = 0;
    for (int64_t i = 0; i < c->count; i++) total += c->weights[i];
    uint64_t u = (uint64_t)(rng_uniform(how->seed, how->stream, how->counter) * 0x1p53);
    uint64_t target = (uint64_t)((uint128)u * total >> 53);
    int64_t i = 0;
    for (sum = c->weights[0]; sum <= target; sum += c->weights[i]) i++;
    return c->ids[i];
}

static int32_t choose(struct choice *c, const float *logits, const uint8_t *seen, const sample_row *how) {
    score(c, logits, seen, how);
    float best = largest(c->scores, c->count);
    if (!(how->temperature > 0.0f) || !isfinite(best)) { /* so small a temperature that scores overflow: the limit */
        return first_equal(c->scores, best, c->count);
    }
    keep_top_k(c, how->top_k, best);
    uint64_t total = weigh(c, best);
    if (how->top_p < 1.0f) keep_top_p(c, how->top_p, total);
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

static void sample_row_at(const struct op_sample *a, int64_t r, struct choice c) {
    const float *logits = cpu_row(a->logits, r);
    const sample_row *how = (const sample_row *)cpu_row(a->how, r);
    uint8_t *seen = a->seen.data ? cpu_row(a->seen, r) : NULL;
    float best = largest(logits, c.count);
    int32_t id = -1;
    if (!has_nan(logits, c.count) && isfinite(best)) id = choose(&c, logits, seen, how);
    ((int32_t *)a->ids.data)[r] = id;
    if (seen && id >= 0) seen[id] = 1;
    if (a->logprob.data) {
        ((float *)a->logprob.data)[r] = id < 0 ? NAN : log_softmax_at(logits, a->logits.cols, best, id);
    }
}

int CPU_ENTRY(cpu_sample)(device *d, const struct op_sample *a) {
    int64_t rows = a->logits.rows, vocab_size = a->logits.cols;
    size_t each = choice_bytes(vocab_size);
    int parts = cpu_parts(d, 8 * rows * vocab_size);
    if (parts > rows) parts = rows > 0 ? (int)rows : 1;
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)parts * each, &scratch));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(rows, parts, part);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            sample_row_at(a, r, choice_at((char *)scratch + (size_t)part * each, vocab_size));
        }
    }
    return LCKV_OK;
}
