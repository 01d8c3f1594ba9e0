/* The choice between lockstep and the plan, see encoding_choice.h. */
#include "generate/costs/encoding_choice.h"

#include "base/work.h"

#include <stdlib.h>

/* Most numbers of lockstep prompts that are compared. */
enum { MAX_CANDIDATES = 32 };

typedef struct choice {
    const cost_table *table;
    const choice_limits *limits;
    const choice_row *rows; /* [row_count] by tokens left */
    int row_count;
    choice_prompt **prompts; /* [count] by exact tokens left */
    int count;
} choice;

/* ---------------------------------------------------------------- the plan */

/* Chunks after this number of a prompt are counted together. */
enum { MAX_ROUNDS = 48 };

/* What the plan has to do for a set of prompts: round i reads chunk i of each. */
typedef struct planned_work {
    double tokens[MAX_ROUNDS], depths[MAX_ROUNDS]; /* depths: sum over all tokens of the tokens before their chunk */
    int rounds;
    int64_t last_steps; /* chunks of one prompt in the last round, at most */
} planned_work;

static void plan_add(planned_work *w, const choice_prompt *p, const chunk_rules *chunks) {
    int64_t count = p->planned_depth + p->planned_tokens, end;
    int64_t chunk = 0;
    for (int64_t at = p->planned_depth; at < count; at = end, chunk++) {
        int round = chunk < MAX_ROUNDS ? (int)chunk : MAX_ROUNDS - 1;
        end = chunk_at(chunks, count, at).end;
        w->tokens[round] += (double)(end - at);
        w->depths[round] += (double)(end - at) * (double)at;
        if (round >= w->rounds) w->rounds = round + 1;
        work_count(1);
    }
    if (chunk - MAX_ROUNDS >= w->last_steps) w->last_steps = chunk - MAX_ROUNDS + 1;
}

static double plan_seconds(const cost_table *t, const choice_limits *limits, const planned_work *w) {
    double seconds = 0;
    for (int i = 0; i < w->rounds; i++) {
        double steps = i == MAX_ROUNDS - 1 ? (double)w->last_steps : 1;
        double full = w->tokens[i] / (double)limits->step_tokens;
        if (full > steps) steps = full;
        seconds += steps * cost_of_step(t, LCKV_ENCODING_PLAN, w->tokens[i] / steps, w->depths[i] / w->tokens[i]);
    }
    return seconds;
}

double choice_plan_seconds(const cost_table *t, const choice_limits *limits, const choice_prompt *prompts, int count) {
    planned_work w = {0};
    for (int i = 0; i < count; i++) plan_add(&w, &prompts[i], &limits->chunks);
    return plan_seconds(t, limits, &w);
}

/* ---------------------------------------------------------------- lockstep */

/* Estimates of reading the `exact` shortest prompts in lockstep. */
typedef struct lockstep {
    double added;      /* seconds by which they lengthen the steps that run anyway */
    double duration;   /* seconds until the last of them is read */
    double first_step; /* seconds of the first step, which has the most rows */
} lockstep;

static double exact_step(const choice *c, int rows, double depths, int64_t step) {
    return rows ? cost_of_step(c->table, LCKV_ENCODING_SEQUENTIAL, rows, depths / rows + (double)step) : 0;
}

/* Walks over the steps in parts in which the same sequences run. */
static lockstep run_lockstep(const choice *c, int exact) {
    lockstep out = {0};
    int prompt = 0, row = 0;
    double prompt_depths = 0, row_depths = 0;
    for (int i = 0; i < exact; i++) prompt_depths += (double)c->prompts[i]->depth;
    for (int i = 0; i < c->row_count; i++) row_depths += (double)c->rows[i].depth;
    for (int64_t step = 0; prompt < exact;) {
        int64_t end = c->prompts[prompt]->exact_tokens;
        if (row < c->row_count && c->rows[row].left < end) end = c->rows[row].left;
        if (end > step) {
            int64_t middle = step + (end - step) / 2;
            int others = c->row_count - row;
            double all = exact_step(c, exact - prompt + others, prompt_depths + row_depths, middle);
            double seconds = (double)(end - step);
            if (!step) out.first_step = all;
            out.duration += seconds * all;
            out.added += seconds * (all - exact_step(c, others, row_depths, middle));
            step = end;
        }
        for (; prompt < exact && c->prompts[prompt]->exact_tokens <= step; prompt++)
            prompt_depths -= (double)c->prompts[prompt]->depth;
        for (; row < c->row_count && c->rows[row].left <= step; row++) row_depths -= (double)c->rows[row].depth;
        work_count(1);
    }
    return out;
}

static bool within_limits(const choice *c, const lockstep *l, double all_planned) {
    const choice_limits *m = c->limits;
    double longest = m->first_token > all_planned ? m->first_token : all_planned;
    double between = m->between_tokens;
    if (m->first_token > 0 && l->duration > longest) return false;
    if (!m->decoding) return true;
    if (between <= 0) between = cost_of_step(c->table, LCKV_ENCODING_PLAN, (double)m->step_tokens, 0);
    return l->first_step <= between;
}

/* ---------------------------------------------------------------- the choice */

static int compare_prompts(const void *a, const void *b) {
    const choice_prompt *x = *(choice_prompt *const *)a, *y = *(choice_prompt *const *)b;
    if (x->exact_tokens != y->exact_tokens) return x->exact_tokens < y->exact_tokens ? -1 : 1;
    return x < y ? -1 : x > y; /* in order of arrival */
}

static int compare_rows(const void *a, const void *b) {
    const choice_row *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->depth < y->depth ? -1 : x->depth > y->depth;
}

/* Seconds if the `exact` shortest prompts are read in lockstep and the others by the plan; negative: not allowed. */
static double seconds_with(const choice *c, int exact, double all_planned) {
    planned_work rest = {0};
    lockstep l = run_lockstep(c, exact);
    if (exact && !within_limits(c, &l, all_planned)) return -1;
    for (int i = exact; i < c->count; i++) plan_add(&rest, c->prompts[i], &c->limits->chunks);
    return l.added + plan_seconds(c->table, c->limits, &rest);
}

/* Prompts of the same length are not divided, except by the limit on the number of candidates. */
static int best_count(const choice *c) {
    double all_planned = seconds_with(c, 0, 0), best = all_planned;
    int chosen = 0, last = 0;
    for (int i = 1; i <= c->count; i++) {
        bool longer = i == c->count || c->prompts[i]->exact_tokens > c->prompts[i - 1]->exact_tokens;
        if (!longer || (i < c->count && i - last < c->count / MAX_CANDIDATES)) continue;
        last = i;
        double seconds = seconds_with(c, i, all_planned);
        if (seconds < 0 || seconds >= best) continue;
        best = seconds;
        chosen = i;
    }
    return chosen;
}

int encoding_choose(const cost_table *t, const choice_limits *limits, choice_row *rows, int row_count,
                    choice_prompt *prompts, int count) {
    for (int i = 0; i < count; i++) prompts[i].exact = false;
    if (!t->count || count + row_count < CHOICE_MIN_ROWS) return LCKV_OK;
    choice c = {.table = t, .limits = limits, .rows = rows, .row_count = row_count, .count = count};
    c.prompts = malloc(((size_t)count + 1) * sizeof(choice_prompt *));
    REQUIRE(c.prompts, LCKV_ERROR_MEMORY, "no memory to choose the form of %d prompts", count);
    for (int i = 0; i < count; i++) c.prompts[i] = &prompts[i];
    qsort(c.prompts, (size_t)count, sizeof(choice_prompt *), compare_prompts);
    if (row_count) qsort(rows, (size_t)row_count, sizeof *rows, compare_rows);
    for (int i = 0, chosen = best_count(&c); i < chosen; i++) c.prompts[i]->exact = true;
    free(c.prompts);
    return LCKV_OK;
}
