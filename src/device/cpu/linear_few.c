/* Products of a few rows with weights (decoding; any number of rows if sums must not depend on it). Memory bandwidth is
 * the limit: a weight is read once, in place, row after row, which the processor prefetches best. The composed ops join
 * what a layer computes between two products, so that a step has few parallel sections. */
#include "device/cpu/cpu.h"
#include "device/cpu/groups.h"
#include "device/cpu/linear.h"
#include "device/cpu/tile.h"

enum {
    GROUP = TILE_LANES == 16 ? 8 : 4, /* rows of x that share one pass over the weight: as many as registers hold */
    PAIR = 2,                         /* outputs whose sums hide the latency of one and share the loads of x */
    OUTPUTS = 32,                     /* outputs computed together */
    NEAR = 6144,                      /* elements of x that stay in the first-level cache besides the weight */
    AHEAD_BYTES = 8192,               /* of the weight, prefetched before they are used */
    MIN_STEPS = 2048                  /* vectors of a weight that a part reads at least */
};

/* ---------------------------------------------------------------- two outputs */

/* R rows of x and two rows of w. x is packed: vector v of row r is at x + (v * R + r) * TILE_LANES. */
struct pair {
    const float *x;
    const char *w[PAIR];
    int64_t depth;
    const char *next; /* what to prefetch: PAIR times `bytes`, with `gap` bytes between the first and the second */
    int64_t bytes, gap;
};

static inline __attribute__((always_inline)) void add_vector(int R, dtype type, tile_vector *wide, const float *x,
                                                             const char *const *w, int64_t k) {
    const tile_vector w0 = tile_load_as(w[0], type, k), w1 = tile_load_as(w[1], type, k);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        tile_vector part = tile_load(x + k * R + r * TILE_LANES);
        wide[r] += part * w0;
        wide[R + r] += part * w1;
    }
}

/* sum[r * OUTPUTS + o] += x[r] . w[o]. Each vector of w is widened once for all rows. */
static inline __attribute__((always_inline)) void dot_rows(int R, dtype type, float *sum, const struct pair *p) {
    enum { CACHE_LINE = 64 };
    const int line = CACHE_LINE / (type == DTYPE_F32 ? 4 : 2); /* elements */
    const float *x = p->x;
    const char *const w[PAIR] = {p->w[0], p->w[1]};
    int64_t k = 0, depth = p->depth;
    tile_vector wide[PAIR * GROUP] = {0};
    for (; k + line <= depth; k += line) {
        int64_t at = PAIR * k * (CACHE_LINE / line); /* one row after the other, as the processor expects */
        const char *next = p->next + at + (at < p->bytes ? 0 : p->gap);
        for (int i = 0; i < PAIR; i++) __builtin_prefetch(next + i * CACHE_LINE);
#pragma GCC unroll 8
        for (int i = 0; i < line; i += TILE_LANES) add_vector(R, type, wide, x, w, k + i);
    }
    for (; k + TILE_LANES <= depth; k += TILE_LANES) add_vector(R, type, wide, x, w, k);
#pragma GCC unroll 2
    for (int o = 0; o < PAIR; o++)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[r * OUTPUTS + o] += tile_sum(wide[o * R + r]);
    x += k * R;
    for (int64_t i = 0; k + i < depth; i++)
        for (int o = 0; o < PAIR; o++)
            for (int r = 0; r < R; r++) sum[r * OUTPUTS + o] += x[r * TILE_LANES + i] * cpu_widened(w[o], type, k + i);
}

typedef void dot_function(float *sum, const struct pair *p);

#define DOT(R, name, type)                                                                                             \
    static void dot_##R##_##name(float *sum, const struct pair *p) {                                                   \
        dot_rows(R, type, sum, p);                                                                                     \
    }
#define DOTS(R) DOT(R, f32, DTYPE_F32) DOT(R, bf16, DTYPE_BF16) DOT(R, f16, DTYPE_F16)
#define OF(R)                                                                                                          \
    {                                                                                                                  \
        R, {                                                                                                           \
            [DTYPE_F32] = dot_##R##_f32, [DTYPE_BF16] = dot_##R##_bf16, [DTYPE_F16] = dot_##R##_f16                    \
        }                                                                                                              \
    }
DOTS(1)
DOTS(2)
DOTS(4)
#if TILE_LANES == 16
DOTS(8)
#endif

static const struct {
    int rows;
    dot_function *of[DTYPE_COUNT];
} dots[] = {OF(1), OF(2), OF(4),
#if TILE_LANES == 16
            OF(8)
#endif
};

static int dots_for(int64_t rows) {
    int which = 0;
    while (dots[which].rows < rows) which++;
    return which;
}

/* ---------------------------------------------------------------- a block of outputs */

/* Some products of the same rows, whose outputs the threads share. */
struct job {
    device *d;
    const float *x; /* [rows, x_row], packed; see pack_rows() */
    int64_t x_row, rows;
    int count;      /* of products */
    view gated_y;   /* swiglu of two products; may be absent */
    int64_t blocks; /* of OUTPUTS outputs, of all products; of one product if they are gated */
    int parts;
    struct {
        view weight, bias, y, residual; /* bias and residual may be absent */
    } product[PROJECT_PARTS];
};

enum { PIECE = 512 }; /* of a grouped row, widened at a time */

static void few_grouped_outputs(float *sum, const struct job *job, int64_t row, int which, view weight, int64_t first,
                                int64_t count) {
    float lines[PAIR][PIECE];
    for (int64_t k = 0; k < weight.cols; k += PIECE) {
        int64_t length = weight.cols - k < PIECE ? weight.cols - k : PIECE;
        struct pair p = {.x = job->x + row * job->x_row + k * dots[which].rows, .depth = length};
        p.next = (const char *)p.x;
        for (int64_t o = 0; o < count; o += PAIR) {
            for (int i = 0; i < PAIR; i++) {
                cpu_widen_part(lines[i], weight, first + (o + i < count ? o + i : count - 1), k, length);
                p.w[i] = (const char *)lines[i];
            }
            dots[which].of[DTYPE_F32](sum + o, &p);
        }
    }
}

/* sum[r * OUTPUTS + o]: up to GROUP rows of x times outputs [first, first + count) of the weight, in pieces of the
 * depth whose part of x stays in the first-level cache. With invariant rows, the pieces are the same for any number of
 * rows; the rest of the summation order is so anyway. */
static void few_outputs(float *sum, const struct job *job, int64_t row, int64_t rows, view weight, int64_t first,
                        int64_t count) {
    int which = dots_for(rows);
    int64_t depth = weight.cols, bytes = (int64_t)dtype_row_bytes(weight.type, depth);
    int64_t near = NEAR / (job->d->invariant_rows ? GROUP : dots[which].rows), pieces = (depth + near - 1) / near;
    int64_t piece = pieces > 1 ? tile_round((depth + pieces - 1) / pieces, 2 * TILE_LANES) : depth;
    memset(sum, 0, GROUP * OUTPUTS * sizeof *sum);
    if (cpu_is_grouped(weight.type)) {
        few_grouped_outputs(sum, job, row, which, weight, first, count);
        return;
    }
    for (int64_t k = 0; k < depth; k += piece) {
        int64_t length = depth - k < piece ? depth - k : piece;
        struct pair p = {.x = job->x + row * job->x_row + k * dots[which].rows, .depth = length};
        p.bytes = length * bytes / depth;
        p.gap = bytes - p.bytes;
        for (int64_t o = 0; o < count; o += PAIR) {
            for (int i = 0; i < PAIR; i++) /* padded with the last output, whose result is dropped */
                p.w[i] = cpu_at(weight, first + (o + i < count ? o + i : count - 1), k);
            p.next = p.w[0] + (pieces == 1 ? AHEAD_BYTES : tile_round(AHEAD_BYTES / p.bytes + 1, PAIR) * bytes);
            dots[which].of[weight.type](sum + o, &p);
        }
    }
}

/* line [count] = the sums of a row, plus bias and residual, rounded as if each op stored its result. */
static void finish_line(float *line, const float *sum, const struct job *job, int i, int64_t row, int64_t first,
                        int64_t count) {
    const view bias = job->product[i].bias, residual = job->product[i].residual, y = job->product[i].y;
    float added[OUTPUTS];
    memcpy(line, sum, (size_t)count * sizeof *line);
    if (bias.data) {
        cpu_widen(added, cpu_at(bias, 0, first), bias.type, count);
        for (int64_t o = 0; o < count; o++) line[o] += added[o];
    }
    if (residual.data) {
        const float *restrict from = cpu_at(residual, row, first);
        for (int64_t o = 0; o < count; o++) line[o] += from[o];
    }
    cpu_narrow(cpu_at(y, row, first), y.type, line, count);
}

static void run_block(const struct job *job, int i, int64_t first, int64_t count) {
    float sum[GROUP * OUTPUTS], line[OUTPUTS];
    for (int64_t row = 0; row < job->rows; row += GROUP) {
        int64_t rows = job->rows - row < GROUP ? job->rows - row : GROUP;
        few_outputs(sum, job, row, rows, job->product[i].weight, first, count);
        for (int64_t r = 0; r < rows; r++) finish_line(line, sum + r * OUTPUTS, job, i, row + r, first, count);
    }
}

static void gate_block(const struct job *job, int64_t first, int64_t count) {
    float gate[OUTPUTS], up[OUTPUTS];
    for (int64_t row = 0; row < job->rows; row++) {
        cpu_widen(gate, cpu_at(job->product[0].y, row, first), job->product[0].y.type, count);
        cpu_widen(up, cpu_at(job->product[1].y, row, first), job->product[1].y.type, count);
        for (int64_t o = 0; o < count; o++) gate[o] = gate[o] * cpu_sigmoid(gate[o]) * up[o];
        cpu_narrow(cpu_at(job->gated_y, row, first), job->gated_y.type, gate, count);
    }
}

/* ---------------------------------------------------------------- all blocks */

static int64_t blocks_of(view weight) {
    return (weight.rows + OUTPUTS - 1) / OUTPUTS;
}

static void run_part(void *argument, int part, int thread) {
    const struct job *job = argument;
    struct cpu_range mine = cpu_share(job->blocks, job->parts, part);
    (void)thread;
    for (int64_t b = mine.begin; b < mine.end; b++) {
        int i = 0;
        int64_t block = b;
        for (; block >= blocks_of(job->product[i].weight); i++) block -= blocks_of(job->product[i].weight);
        int64_t first = block * OUTPUTS, left = job->product[i].weight.rows - first;
        int64_t count = left < OUTPUTS ? left : OUTPUTS;
        run_block(job, i, first, count);
        if (!job->gated_y.data) continue;
        run_block(job, 1, first, count);
        gate_block(job, first, count);
    }
}

/* x as f32, in groups of rows that are packed for dot_rows(), padded with zeros. */
static int pack_rows(device *d, struct job *job, view x) {
    float *out;
    job->x_row = tile_round(x.cols, TILE_LANES);
    size_t floats = (size_t)(tile_round(x.rows, GROUP) * job->x_row) + 1; /* never 0: a bias alone has no columns */
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, floats * sizeof *out, (void **)&out));
    memset(out, 0, floats * sizeof *out);
    for (int64_t r = 0; r < x.rows; r++) {
        int64_t first = r / GROUP * GROUP, left = x.rows - first;
        int64_t width = dots[dots_for(left < GROUP ? left : GROUP)].rows * TILE_LANES;
        float *to = out + first * job->x_row + (r - first) * TILE_LANES;
        for (int64_t k = 0; k < x.cols; k += TILE_LANES, to += width)
            cpu_widen(to, cpu_at(x, r, k), x.type, x.cols - k < TILE_LANES ? x.cols - k : TILE_LANES);
    }
    job->x = out;
    return LCKV_OK;
}

/* The blocks are divided finely, so that threads that are slower than others get fewer of them. Results do not depend
 * on the division. */
static int run_job(device *d, struct job *job, view x) {
    int64_t steps = 0;
    job->d = d;
    job->rows = x.rows;
    for (int i = 0; i < job->count; i++) {
        steps += x.rows * job->product[i].weight.rows * x.cols / TILE_LANES;
        if (i == 0 || !job->gated_y.data) job->blocks += blocks_of(job->product[i].weight);
    }
    int64_t worth = steps / MIN_STEPS, most = job->blocks < 4 * d->threads ? job->blocks : 4 * d->threads;
    job->parts = worth < 1 ? 1 : worth < most ? (int)worth : (int)most;
    TRY(pack_rows(d, job, x));
    cpu_run(d, x.rows, job->parts, run_part, job);
    return LCKV_OK;
}

/* With invariant rows, every number of rows is multiplied in this way. */
static bool is_few(const device *d, int64_t rows) {
    return d->invariant_rows || rows <= CPU_FEW_ROWS;
}

int CPU_ENTRY(linear_few)(device *d, const struct op_linear *a) {
    struct job job = {.count = 1, .product = {{.weight = a->weight, .bias = a->bias, .y = a->y}}};
    return run_job(d, &job, a->x);
}

int CPU_ENTRY(cpu_linear_add)(device *d, const struct op_linear_add *a) {
    const struct op_linear *p = &a->product;
    if (!is_few(d, p->x.rows)) return device_linear_add(d, a);
    struct job job = {.count = 1,
                      .product = {{.weight = p->weight, .bias = p->bias, .y = p->y, .residual = a->residual}}};
    return run_job(d, &job, p->x);
}

int CPU_ENTRY(cpu_project)(device *d, const struct op_project *a) {
    if (!is_few(d, a->x.rows)) return device_project(d, a);
    struct op_rms_norm norm = {.x = a->x, .weight = a->norm, .y = a->normed, .rstd = a->rstd, .eps = a->eps};
    struct job job = {.count = a->parts, .gated_y = a->gated_y};
    for (int i = 0; i < a->parts; i++) {
        job.product[i].weight = a->part[i].weight;
        job.product[i].bias = a->part[i].bias;
        job.product[i].y = a->part[i].y;
    }
    TRY(DEVICE_RUN(d, rms_norm, &norm));
    return run_job(d, &job, a->normed);
}
