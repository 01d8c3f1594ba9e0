/* lckv_eval(), see lckv.h. All questions of all tasks are made first, so that an invalid task fails before any work is
 * done and the remaining time can be estimated. Then they run in batches. */
#include "base/clock.h"
#include "base/options.h"
#include "eval/lockstep_scorer.h"
#include "eval/tasks/task_results.h"
#include "model/cache/kv_cache.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

/* Rows and pairs of one call by the plan: large enough for efficient matrix products, and a bound for activations. In
 * lockstep, many pairs run together, and the next ones start when others have ended. The pairs of a question are always
 * in the same call. */
enum { CALL_ROWS = 2048, CALL_PAIRS = 256, LOCKSTEP_PAIRS = 4096 };

typedef struct prepared_task {
    eval_task task;
    eval_questions *parts;
    int part_count;
} prepared_task;

typedef struct evaluation {
    const lckv_model *model;
    lckv_tokenizer *tokenizer;
    const lckv_eval_options *options;
    dtype compute, kv_type;
    prepared_task *tasks;
    int task_count;
    eval_scorer *scorer;
    lckv_encoding encoding;                             /* as chosen */
    eval_pair pairs[LOCKSTEP_PAIRS + TASK_MAX_CHOICES]; /* of the call that is being filled */
    int pair_count;
    int64_t rows, in_call, questions, done; /* rows and questions of that call; all questions, and answered ones */
    const char *part;                       /* name of the part of a task that is running */
    double begin, reported;
} evaluation;

void lckv_eval_options_init(lckv_eval_options *options, size_t struct_size) {
    const lckv_eval_options defaults = {.num_fewshot = -1, .fewshot_seed = 1234, .encoding = LCKV_ENCODING_AUTO};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* ---------------------------------------------------------------- making questions */

static int make_task(evaluation *e, const char *name, prepared_task *t) {
    const lckv_eval_options *o = e->options;
    question_options questions = {
        .data_dir = o->data_dir, .num_fewshot = o->num_fewshot, .limit = o->limit, .fewshot_seed = o->fewshot_seed};
    TRY(eval_task_open(name, &t->task));
    TRY(eval_questions_make(&t->task, &questions, &t->parts, &t->part_count));
    for (int i = 0; i < t->part_count; i++) e->questions += t->parts[i].count;
    return LCKV_OK;
}

static int make_tasks(evaluation *e) {
    const lckv_eval_options *o = e->options;
    REQUIRE(o->task_count > 0, LCKV_ERROR_ARGUMENT, "expected at least one task");
    REQUIRE(o->data_dir, LCKV_ERROR_ARGUMENT, "data_dir (the folder with the tasks' documents) is required");
    REQUIRE(o->limit >= 0 && o->limit <= 1e12, LCKV_ERROR_ARGUMENT, "limit should be at least 0, found %g", o->limit);
    REQUIRE(o->num_fewshot >= -1 && o->num_fewshot <= 1000, LCKV_ERROR_ARGUMENT,
            "num_fewshot should be 0 to 1000, or -1, found %lld", (long long)o->num_fewshot);
    e->tasks = calloc((size_t)o->task_count, sizeof *e->tasks);
    REQUIRE(e->tasks, LCKV_ERROR_MEMORY, "no memory for %d tasks", o->task_count);
    while (e->task_count < o->task_count) {
        int i = e->task_count++;
        TRY(make_task(e, o->tasks[i], &e->tasks[i]));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- running them */

/* `more`: questions of the running call that are answered. */
static int report_progress(evaluation *e, int64_t more) {
    const lckv_eval_options *o = e->options;
    double seconds = clock_seconds() - e->begin, done = (double)(e->done + more), all = (double)e->questions;
    lckv_eval_progress progress = {.task = e->part,
                                   .done = e->done + more,
                                   .documents = e->questions,
                                   .seconds = seconds,
                                   .seconds_left = done > 0 ? seconds / done * (all - done) : 0};
    bool go_on = !o->callback || o->callback(o->user, &progress);
    REQUIRE(go_on, LCKV_ERROR_INTERRUPTED, "interrupted after %lld of %lld document%s", (long long)(e->done + more),
            (long long)e->questions, plural(e->questions));
    return LCKV_OK;
}

/* Between the steps of a call, at most ten times per second. */
static int report_answered(void *user, int answered) {
    evaluation *e = user;
    double now = clock_seconds();
    if (now - e->reported < 0.1) return LCKV_OK;
    e->reported = now;
    return report_progress(e, answered * e->in_call / e->pair_count);
}

static int run_call(evaluation *e) {
    const eval_progress progress = {report_answered, e};
    int status = e->pair_count ? eval_scorer_run(e->scorer, e->pairs, e->pair_count, &progress) : LCKV_OK;
    for (int i = 0; i < e->pair_count; i++) eval_pair_free(&e->pairs[i]);
    e->done += e->in_call;
    e->pair_count = 0;
    e->rows = e->in_call = 0;
    return status;
}

/* Encodes the pairs of a question into the batch. *rows: their rows. */
static int add_pairs(evaluation *e, eval_question *q, int64_t *rows) {
    int64_t max_length = e->model->config->positions;
    *rows = 0;
    for (int i = 0; i < q->count; i++) {
        eval_pair *p = &e->pairs[e->pair_count];
        TRY(eval_pair_encode(e->tokenizer, eval_question_context(q, i), eval_question_continuation(q, i), max_length,
                             p));
        p->answer = &q->answers[i];
        e->pair_count++;
        *rows += p->count;
    }
    return LCKV_OK;
}

static bool is_full(const evaluation *e, int64_t next_rows) {
    if (e->encoding == LCKV_ENCODING_SEQUENTIAL) return e->pair_count >= LOCKSTEP_PAIRS;
    return e->rows + next_rows > CALL_ROWS || e->pair_count >= CALL_PAIRS;
}

static int run_part(evaluation *e, eval_questions *part) {
    int64_t rows = 0;
    e->part = part->name;
    for (int64_t i = 0; i < part->count; i++) {
        int status = add_pairs(e, &part->items[i], &rows);
        if (status < 0) return fail_within(status, "%s, document %lld", part->name, (long long)i + 1);
        e->rows += rows;
        e->in_call++;
        if (!is_full(e, rows)) continue;
        TRY(run_call(e));
        TRY(report_progress(e, 0));
    }
    return e->encoding == LCKV_ENCODING_SEQUENTIAL ? LCKV_OK : run_call(e);
}

static int run_parts(evaluation *e) {
    for (int t = 0; t < e->task_count; t++)
        for (int i = 0; i < e->tasks[t].part_count; i++) TRY(run_part(e, &e->tasks[t].parts[i]));
    return run_call(e);
}

/* Encodes the first questions of each task, as many as fit into a call. */
static int add_first_pairs(evaluation *e) {
    int64_t ignored;
    for (int t = 0; t < e->task_count; t++)
        for (int i = 0; i < e->tasks[t].part_count; i++) {
            eval_questions *part = &e->tasks[t].parts[i];
            for (int64_t q = 0; q < part->count && e->pair_count < LOCKSTEP_PAIRS; q++) {
                int status = add_pairs(e, &part->items[q], &ignored);
                if (status < 0) return fail_within(status, "%s, document %lld", part->name, (long long)q + 1);
            }
        }
    return LCKV_OK;
}

/* Chooses by the cost of the first questions, once for all. */
static int choose_encoding(evaluation *e) {
    lockstep_scorer *s = NULL;
    bool faster = false;
    e->encoding = e->options->encoding;
    if (e->encoding != LCKV_ENCODING_AUTO || !e->model->config->map.loops) return LCKV_OK;
    TRY(lockstep_scorer_create(e->model, e->compute, e->kv_type, e->options->cost_table, &s));
    int status = add_first_pairs(e);
    if (status >= 0) status = lockstep_scorer_is_faster(s, e->pairs, e->pair_count, &faster);
    for (int i = 0; i < e->pair_count; i++) eval_pair_free(&e->pairs[i]);
    e->pair_count = 0;
    lockstep_scorer_free(s);
    e->encoding = faster ? LCKV_ENCODING_SEQUENTIAL : LCKV_ENCODING_PLAN;
    return status;
}

static int run_all(evaluation *e) {
    TRY(choose_encoding(e));
    TRY(eval_scorer_create(e->model, e->compute, e->kv_type, e->encoding, &e->scorer));
    e->begin = clock_seconds();
    return run_parts(e);
}

/* ---------------------------------------------------------------- results */

static int write_results(const evaluation *e, char **text) {
    const lckv_eval_options *o = e->options;
    json_t *results = json_object();
    int status = results ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for results");
    for (int i = 0; i < e->task_count && status >= 0; i++) {
        const prepared_task *t = &e->tasks[i];
        status = eval_results_add(&t->task, t->parts, t->part_count, o->log_samples, results);
    }
    json_object_set_new(results, "config",
                        json_pack("{s:o, s:o, s:I, s:b, s:s, s:s}", "model", json_text_or_null(e->model->folder),
                                  "limit", o->limit > 0 ? json_real(o->limit) : json_null(), "fewshot_seed",
                                  (json_int_t)o->fewshot_seed, "bf16", o->bf16, "kv_dtype", dtype_name(e->kv_type),
                                  "encoding", e->encoding == LCKV_ENCODING_SEQUENTIAL ? "sequential" : "plan"));
    json_object_set_new(results, "date", json_real((double)time(NULL)));
    json_object_set_new(results, "total_evaluation_time_seconds", json_real(clock_seconds() - e->begin));
    if (status >= 0) status = json_format(results, 2, text);
    json_decref(results);
    return status;
}

static void end(evaluation *e) {
    for (int i = 0; i < e->pair_count; i++) eval_pair_free(&e->pairs[i]);
    for (int i = 0; i < e->task_count; i++) {
        eval_questions_free(e->tasks[i].parts, e->tasks[i].part_count);
        eval_task_close(&e->tasks[i].task);
    }
    free(e->tasks);
    eval_scorer_free(e->scorer);
    free(e);
}

int lckv_eval(lckv_model *m, lckv_tokenizer *tokenizer, const lckv_eval_options *given, char **json) {
    lckv_eval_options options;
    *json = NULL;
    TRY(OPTIONS_TAKE(&options, given, lckv_eval_defaults));
    evaluation *e = calloc(1, sizeof *e);
    REQUIRE(e, LCKV_ERROR_MEMORY, "no memory for an evaluation");
    e->model = m;
    e->tokenizer = tokenizer;
    e->options = &options;
    e->compute = options.bf16 ? DTYPE_BF16 : DTYPE_F32;
    int status = kv_cache_choose_type(m->device, e->compute, options.kv_dtype, &e->kv_type);
    if (status >= 0) status = make_tasks(e);
    if (status >= 0) status = run_all(e);
    if (status >= 0) status = write_results(e, json);
    end(e);
    return status;
}
