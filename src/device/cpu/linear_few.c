/* Products of a few rows with weights (decoding; any number of rows if sums must not depend on it). Memory bandwidth is
 * the limit: a weight is read once, in place, row after row, which the processor prefetches best. The composed ops join
 * what a layer computes between two products, so that a step has few parallel sections. */
#include "device/cpu/cpu.h"
#include "device/cpu/few.h"
#include "device/cpu/groups.h"
#include "device/cpu/linear.h"

enum {
    OUTPUTS = 32,       /* outputs computed together; whole vectors */
    GROUPS = 2,         /* groups of FEW_ROWS rows that multiply a weight while it is in the first-level cache */
    NEAR_BYTES = 24576, /* of packed rows of x that stay in this cache besides the weight */
    AHEAD_BYTES = 8192, /* of the weight, prefetched before they are used */
    MIN_STEPS = 2048,   /* vectors of a weight that a part reads at least */
    AMX_LEAST = 2       /* rows for which AMX is faster: fewer are read as fast by AVX512_BF16 */
};

static int width_for(int64_t rows) {
    int width = 0;
    while (1 << width < rows) width++;
    return width;
}

static bool fits(const struct few_form *form, view weight) {
    return weight.rows % form->outputs == 0 && weight.cols % form->cols == 0;
}

static const struct few_form *form_for(const device *d, view x, view weight) {
    const struct cpu_state *state = d->own;
    if (cpu_is_grouped(weight.type)) return &CPU_ENTRY(few_groups);
    if (state->level < CPU_AVX512_BF16 || x.type != DTYPE_BF16 || weight.type != DTYPE_BF16) return &CPU_ENTRY(few_f32);
    /* With invariant rows, every number of rows has the same order of sums. */
    bool amx = state->level == CPU_AMX && x.rows >= AMX_LEAST && !d->invariant_rows;
    return amx && fits(CPU_ENTRY(few_amx)(), weight) ? CPU_ENTRY(few_amx)() : CPU_ENTRY(few_bf16)();
}

/* ---------------------------------------------------------------- a block of outputs */

/* Rows of x in one form. */
struct packed {
    const struct few_form *form;
    char *x; /* [rows rounded up to FEW_ROWS, row] */
    float *scales;
    int64_t row, groups; /* elements of a row, and its scales */
};

/* Some products of the same rows, whose outputs the threads share. */
struct job {
    device *d;
    struct packed packed[PROJECT_PARTS]; /* different ones first, then unused ones */
    int64_t rows;
    int count;      /* of products */
    view gated_y;   /* swiglu of two products; may be absent */
    int64_t blocks; /* of OUTPUTS outputs, of all products; of one product if they are gated */
    int parts;
    struct {
        view weight, bias, y, residual; /* bias and residual may be absent */
        const struct packed *x;
    } product[PROJECT_PARTS];
};

/* Up to FEW_ROWS rows of x, packed together, and their sums of a block. */
struct group {
    int64_t row, rows;
    int width; /* packed as 1 << width rows */
    float sum[FEW_ROWS * OUTPUTS];
};

/* The outputs of `b`, a few at a time for all groups, so that only the first group reads the weight from memory. */
static void dot_groups(struct group *groups, int count, const struct few_form *form, dtype type, const struct packed *x,
                       int64_t k, struct few_block b) {
    enum { STEP = 4 };
    int64_t outputs = b.outputs, last = 1 << groups[count - 1].width;
    int64_t least = form->outputs > STEP ? form->outputs : STEP;
    int64_t step = count == 1 ? outputs : FEW_STEP(last) > least ? FEW_STEP(last) : least;
    int64_t ahead = b.ahead;
    for (int64_t o = 0; o < outputs; o += step) {
        b.outputs = outputs - o < step ? outputs - o : step;
        for (int g = 0; g < count; g++) {
            const struct group *group = &groups[g];
            int R = 1 << group->width;
            b.x = x->x + (size_t)(group->row * x->row + k * R) * form->element_bytes;
            b.x_scales = x->scales + group->row * x->groups + k / DTYPE_GROUP;
            b.ahead = g ? 0 : ahead;
            form->dot[type][group->width](groups[g].sum + o * R, &b);
        }
        b.w += step * b.w_row;
        if (b.scales) b.scales += step * b.scale_row;
    }
}

/* The groups times outputs [first, first + count) of the weight, in pieces of the depth whose part of x stays in the
 * first-level cache. With invariant rows, the pieces are the same for any number of rows; the rest of the summation
 * order is so anyway. */
static void few_outputs(struct group *groups, int group_count, const struct job *job, int i, int64_t first,
                        int64_t count) {
    const view weight = job->product[i].weight;
    const struct packed *x = job->product[i].x;
    int64_t depth = weight.cols, bytes = (int64_t)dtype_row_bytes(weight.type, depth);
    int64_t together = group_count > 1 || job->d->invariant_rows ? GROUPS * FEW_ROWS : 1 << groups->width;
    int64_t near = NEAR_BYTES / (int64_t)x->form->element_bytes / together;
    int64_t pieces = (depth + near - 1) / near;
    int64_t piece = pieces > 1 ? tile_round((depth + pieces - 1) / pieces, FEW_UNIT) : depth;
    for (int64_t k = 0; k < depth; k += piece) {
        struct few_block b = {.x_groups = x->groups,
                              .w = (const char *)cpu_row(weight, first) + dtype_row_bytes(weight.type, k),
                              .w_row = bytes,
                              .outputs = count,
                              .depth = depth - k < piece ? depth - k : piece};
        if (weight.scales) b.scales = cpu_scales(weight, first) + k / DTYPE_GROUP;
        b.scale_row = (depth + DTYPE_GROUP - 1) / DTYPE_GROUP;
        b.bytes = (int64_t)dtype_row_bytes(weight.type, b.depth);
        b.gap = bytes - b.bytes;
        b.ahead = pieces == 1 ? AHEAD_BYTES : tile_round(AHEAD_BYTES / b.bytes + 1, FEW_PAIR) * bytes;
        dot_groups(groups, group_count, x->form, weight.type, x, k, b);
    }
}

/* line [rows, OUTPUTS] = factor * sum [OUTPUTS, R]. */
static inline __attribute__((always_inline)) void turn(float *restrict line, const float *restrict sum, int R,
                                                       float factor) {
    for (int r = 0; r < R; r++)
        for (int o = 0; o < OUTPUTS; o++) line[r * OUTPUTS + o] = factor * sum[o * R + r];
}

static void turn_group(float *line, const struct group *g, float factor) {
    if (g->width == 0) turn(line, g->sum, 1, factor);
    if (g->width == 1) turn(line, g->sum, 2, factor);
    if (g->width == 2) turn(line, g->sum, 4, factor);
    if (g->width == 3) turn(line, g->sum, FEW_ROWS, factor);
}

/* y = the sums of a row, plus bias and residual, rounded as if each op stored its result. Changes `line` [OUTPUTS]. */
static void finish_line(float *restrict line, const struct job *job, int i, int64_t row, int64_t first, int64_t count) {
    const view bias = job->product[i].bias, residual = job->product[i].residual, y = job->product[i].y;
    float added[OUTPUTS];
    if (bias.data) {
        cpu_widen(added, cpu_at(bias, 0, first), bias.type, count);
        for (int64_t o = 0; o < count; o++) line[o] += added[o];
    }
    if (residual.data) {
        const float *restrict from = cpu_at(residual, row, first);
        for (int64_t o = 0; o < count; o++) line[o] += from[o];
    }
    if (count == OUTPUTS)
        cpu_narrow(cpu_at(y, row, first), y.type, line, OUTPUTS); /* of constant length */
    else
        cpu_narrow(cpu_at(y, row, first), y.type, line, count);
}

static void run_block(const struct job *job, int i, int64_t first, int64_t count) {
    float lines[FEW_ROWS * OUTPUTS];
    for (int64_t row = 0; row < job->rows;) {
        struct group groups[GROUPS] = {{0}};
        int used = 0;
        for (; used < GROUPS && row < job->rows; row += FEW_ROWS, used++) {
            int64_t rows = job->rows - row < FEW_ROWS ? job->rows - row : FEW_ROWS;
            groups[used].row = row, groups[used].rows = rows, groups[used].width = width_for(rows);
        }
        few_outputs(groups, used, job, i, first, count);
        for (const struct group *g = groups; g < groups + used; g++) {
            turn_group(lines, g, job->product[i].x->form->factor[job->product[i].weight.type]);
            for (int64_t r = 0; r < g->rows; r++) finish_line(lines + r * OUTPUTS, job, i, g->row + r, first, count);
        }
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

/* The form of each product's x. Sizes of rows, without memory. */
static void choose_forms(const device *d, struct job *job, view x) {
    for (int i = 0; i < job->count; i++) {
        const struct few_form *form = form_for(d, x, job->product[i].weight);
        struct packed *p = job->packed;
        while (p->form && p->form != form) p++;
        p->form = form;
        p->row = tile_round(x.cols, FEW_UNIT);
        p->groups = tile_round((x.cols + DTYPE_GROUP - 1) / DTYPE_GROUP, TILE_LANES);
        job->product[i].x = p;
    }
}

/* Rows that are multiplied together are packed together. What is behind the last column, and between the last row and
 * FEW_ROWS, are zeros. */
static void pack_rows(const struct packed *p, view x) {
    for (int64_t r = 0; r < x.rows; r++) {
        int64_t first = r / FEW_ROWS * FEW_ROWS, left = x.rows - first;
        int R = 1 << width_for(left < FEW_ROWS ? left : FEW_ROWS);
        int64_t at = first * p->row + (r - first) * p->form->unit;
        p->form->pack(p->x + (size_t)at * p->form->element_bytes, p->scales + r * p->groups, R, x, r);
    }
}

static int pack_forms(device *d, struct job *job, view x) {
    size_t bytes = 1, rows = (size_t)tile_round(x.rows, FEW_ROWS); /* never 0 bytes: a bias alone has no columns */
    for (struct packed *p = job->packed; p < job->packed + PROJECT_PARTS && p->form; p++)
        bytes += rows * ((size_t)p->row * p->form->element_bytes + (size_t)p->groups * sizeof(float));
    char *memory;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, bytes, (void **)&memory));
    memset(memory, 0, bytes);
    for (struct packed *p = job->packed; p < job->packed + PROJECT_PARTS && p->form; p++) {
        p->scales = (float *)(void *)memory;
        p->x = memory + rows * (size_t)p->groups * sizeof(float);
        memory = p->x + rows * (size_t)p->row * p->form->element_bytes;
        pack_rows(p, x);
    }
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
    choose_forms(d, job, x);
    TRY(pack_forms(d, job, x));
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
