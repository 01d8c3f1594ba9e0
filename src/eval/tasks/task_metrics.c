/* Metrics, see task_metrics.h. */
#include "eval/tasks/task_metrics.h"

#include "eval/tasks/python_random.h"

#include <math.h>
#include <stdlib.h>

enum { BOOTSTRAP_CHUNKS = 100, BOOTSTRAP_CHUNK = 1000 };

/* The first of the largest values, as in numpy.argmax(). */
static int best(const eval_question *q, bool by_character) {
    int at = 0;
    double max = -INFINITY;
    for (int i = 0; i < q->count; i++) {
        double score = q->answers[i].loglikelihood / (by_character ? q->lengths[i] : 1);
        if (score > max) max = score, at = i;
    }
    return at;
}

bool eval_question_correct(const eval_task *task, const eval_question *q) {
    return task->kind == TASK_LOGLIKELIHOOD ? q->answers[0].greedy : best(q, false) == q->gold;
}

bool eval_question_correct_by_character(const eval_question *q) {
    return best(q, true) == q->gold;
}

/* ---------------------------------------------------------------- means */

static double mean_of(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum / (double)n;
}

static double deviation_of(const double *x, int64_t n) {
    double mean = mean_of(x, n), sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

static eval_metric mean_metric(const char *name, const double *x, int64_t n) {
    double error = n > 1 ? deviation_of(x, n) / sqrt((double)n) : NAN;
    return (eval_metric){name, mean_of(x, n), error, true};
}

/* ---------------------------------------------------------------- perplexity */

static double resampled_perplexity(python_random *random, const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[python_random_choice(random, n)];
    return exp(-sum / (double)n);
}

/* As in the harness, chunk i is drawn with seed i. */
static int bootstrap(const double *x, int64_t n, double *error) {
    python_random random;
    double *samples = malloc(sizeof *samples * BOOTSTRAP_CHUNKS * BOOTSTRAP_CHUNK);
    REQUIRE(samples, LCKV_ERROR_MEMORY, "no memory for bootstrap samples");
    for (int chunk = 0; chunk < BOOTSTRAP_CHUNKS; chunk++) {
        python_random_seed(&random, (uint32_t)chunk);
        for (int i = 0; i < BOOTSTRAP_CHUNK; i++)
            samples[chunk * BOOTSTRAP_CHUNK + i] = resampled_perplexity(&random, x, n);
    }
    *error = deviation_of(samples, BOOTSTRAP_CHUNKS * BOOTSTRAP_CHUNK);
    free(samples);
    return LCKV_OK;
}

static int perplexity_metric(const double *x, int64_t n, eval_metric *out) {
    *out = (eval_metric){"perplexity", exp(-mean_of(x, n)), NAN, false};
    return n > 1 ? bootstrap(x, n, &out->error) : LCKV_OK;
}

/* ---------------------------------------------------------------- parts and groups */

/* x: work space, [part->count]. */
static int measure(const eval_task *task, const eval_questions *part, double *x, eval_metric *out, int *count) {
    int64_t n = part->count;
    if (task->acc) {
        for (int64_t i = 0; i < n; i++) x[i] = eval_question_correct(task, &part->items[i]);
        out[(*count)++] = mean_metric("acc", x, n);
    }
    if (task->acc_norm) {
        for (int64_t i = 0; i < n; i++) x[i] = eval_question_correct_by_character(&part->items[i]);
        out[(*count)++] = mean_metric("acc_norm", x, n);
    }
    if (!task->perplexity) return LCKV_OK;
    for (int64_t i = 0; i < n; i++) x[i] = part->items[i].answers[0].loglikelihood;
    return perplexity_metric(x, n, &out[(*count)++]);
}

int eval_metrics_of(const eval_task *task, const eval_questions *part, eval_metric *out, int *count) {
    *count = 0;
    REQUIRE(part->count, LCKV_ERROR_FORMAT, "task %s has no documents", part->name);
    double *x = malloc((size_t)part->count * sizeof *x);
    REQUIRE(x, LCKV_ERROR_MEMORY, "no memory for %lld results", (long long)part->count);
    int status = measure(task, part, x, out, count);
    free(x);
    return status;
}

void eval_metrics_of_group(const eval_metric (*metrics)[EVAL_MAX_METRICS], int metric_count,
                           const eval_questions *parts, int part_count, eval_metric *out) {
    for (int m = 0; m < metric_count; m++) {
        double sum = 0, variance = 0, all = 0;
        for (int i = 0; i < part_count; i++) {
            const eval_metric *own = &metrics[i][m];
            double n = (double)parts[i].count;
            sum += n * own->value;
            if (n > 1) variance += (n - 1) * own->error * own->error * n; /* one document has no standard error */
            all += n;
        }
        out[m] = metrics[0][m];
        out[m].value = sum / all;
        out[m].error = sqrt(variance / (all - part_count) / all);
    }
}
