/* The optimizer's three ops: sum_squares, clip, adamw. */
#include "base/rng.h"
#include "device/cpu/blocks.h"

#include <math.h>

static double sum_of_squares(const float *x, int64_t n) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* Elements begin .. end - 1 of any type, with or without `minus`. */
static double sum_in_blocks(const struct op_sum_squares *a, int64_t begin, int64_t end) {
    static const float zeros[CPU_BLOCK];
    float x_buffer[CPU_BLOCK], minus_buffer[CPU_BLOCK];
    double sum = 0.0;
    for (int64_t at = begin, n; at < end; at += n) {
        n = cpu_block_length(at, end);
        const float *x = cpu_block_in(a->x, at, n, x_buffer),
                    *minus = a->minus.data ? cpu_block_in(a->minus, at, n, minus_buffer) : zeros;
        for (int64_t i = 0; i < n; i++) sum += ((double)x[i] - (double)minus[i]) * ((double)x[i] - (double)minus[i]);
    }
    return sum;
}

static double sum_of_part(const struct op_sum_squares *a, struct cpu_range part) {
    if (a->x.type != DTYPE_F32 || a->minus.data) return sum_in_blocks(a, part.begin, part.end);
    return sum_of_squares((const float *)a->x.data + part.begin, part.end - part.begin);
}

/* Each part has a sum; the sums are added in order. */
int CPU_ENTRY(cpu_sum_squares)(device *d, const struct op_sum_squares *a) {
    int64_t n = cpu_elements(a->x);
    int parts = cpu_parts(d, n);
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)parts * sizeof(double), &scratch));
    double *partial = scratch;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        partial[part] = sum_of_part(a, cpu_share(n, parts, part));
    }
    double sum = 0.0;
    for (int part = 0; part < parts; part++) sum += partial[part];
    *(double *)a->out.data += sum;
    return LCKV_OK;
}

int CPU_ENTRY(cpu_clip)(device *d, const struct op_clip *a) {
    (void)d;
    step_state *state = a->state.data;
    double norm = sqrt(*(const double *)a->sum_squares.data), loss = *(const double *)a->loss.data;
    double factor = (double)state->max_grad_norm / (norm + 1e-6);
    state->grad_norm = norm;
    state->clip_factor = state->max_grad_norm > 0.0f && factor < 1.0 ? (float)factor : 1.0f;
    bool too_long = state->skip_grad_norm > 0.0f && norm > (double)state->skip_grad_norm;
    state->finite = isfinite(norm) && isfinite(loss) && !too_long;
    return LCKV_OK;
}

/* Values that are the same for all elements of a step. */
struct step {
    float shrink; /* 1 - learning_rate * weight_decay */
    float size;   /* learning_rate / correction1 */
    float root;   /* 1 / sqrt(correction2) */
    float beta1, beta2, epsilon, clip_factor;
};

static struct step step_of(const step_state *state, float weight_decay) {
    return (struct step){
        .shrink = (float)(1.0 - (double)state->learning_rate * (double)weight_decay),
        .size = (float)((double)state->learning_rate / (double)state->correction1),
        .root = (float)(1.0 / sqrt((double)state->correction2)),
        .beta1 = state->beta1,
        .beta2 = state->beta2,
        .epsilon = state->epsilon,
        .clip_factor = state->clip_factor,
    };
}

static void update(struct step s, float *restrict master, float *restrict grad, float *restrict m, float *restrict v,
                   int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * s.clip_factor;
        m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * g;
        v[i] = s.beta2 * v[i] + (1.0f - s.beta2) * (g * g);
        master[i] = s.shrink * master[i] - s.size * m[i] / (sqrtf(v[i]) * s.root + s.epsilon);
        grad[i] = 0.0f;
    }
}

/* ---------------------------------------------------------------- bf16 */

/* A bf16 number in f32. Values that are not finite are rounded as usual. */
static float round_at_random(float x, uint32_t noise) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) == 0x7f800000u) return x;
    bits = (bits + noise) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* p, m and v of the elements from index `at` of the call on. */
static void round_block(const struct op_adamw *a, int64_t at, int64_t n, float *p, float *m, float *v) {
    uint64_t seed = ((const step_state *)a->state.data)->rounding_seed;
    uint32_t words[4];
    for (int64_t i = 0; i < n; i++) {
        uint64_t element = (uint64_t)(a->first + at + i);
        if (i == 0 || element % 2 == 0) rng_block(seed, a->stream, element / 2, words);
        const uint32_t *noise = words + 2 * (element % 2);
        p[i] = round_at_random(p[i], noise[0] & 0xffff);
        m[i] = round_at_random(m[i], noise[0] >> 16);
        v[i] = round_at_random(v[i], noise[1] & 0xffff);
    }
}

/* A block to change: the tensor's memory, or its elements in `buffer`. */
static float *open_block(view v, int64_t at, int64_t n, float *buffer) {
    if (v.type != DTYPE_F32) cpu_widen(buffer, cpu_element(v, at), v.type, n);
    return cpu_block_out(v, at, buffer);
}

static void update_block(const struct op_adamw *a, struct step s, int64_t at, int64_t n) {
    float buffers[3][CPU_BLOCK];
    float *p = open_block(a->master, at, n, buffers[0]), *m = open_block(a->m, at, n, buffers[1]);
    float *v = open_block(a->v, at, n, buffers[2]);
    update(s, p, (float *)a->grad.data + at, m, v, n);
    if (a->master.type == DTYPE_BF16) round_block(a, at, n, p, m, v);
    cpu_block_store(a->master, at, n, p);
    cpu_block_store(a->m, at, n, m);
    cpu_block_store(a->v, at, n, v);
    if (a->weight.data) cpu_convert(a->weight, at, a->master, at, n);
}

int CPU_ENTRY(cpu_adamw)(device *d, const struct op_adamw *a) {
    const step_state *state = a->state.data;
    if (!state->finite) return d->memory.zero(d, a->grad.data, view_bytes(a->grad));
    struct step s = step_of(state, a->weight_decay);
    int64_t n = cpu_elements(a->master);
    int parts = cpu_parts(d, 4 * n);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(n, parts, part);
        for (int64_t at = mine.begin; at < mine.end; at += CPU_BLOCK)
            update_block(a, s, at, cpu_block_length(at, mine.end));
    }
    return LCKV_OK;
}
