/* Results in the layout of the harness, see task_results.h. */
#include "eval/tasks/task_results.h"

#include "eval/tasks/task_metrics.h"

#include <math.h>

/* Returns the object `key` of `results`, which owns it. Creates it if it does not exist. */
static json_t *section(json_t *results, const char *key) {
    json_t *object = json_object_get(results, key);
    if (object) return object;
    object = json_object();
    return json_object_set_new(results, key, object) ? NULL : object;
}

/* "acc" becomes "acc,none" or "acc_stderr,none": the name of the harness's filter is part of the key. */
static void set_metric(json_t *object, const char *name, const char *kind, double value) {
    char key[64];
    snprintf(key, sizeof key, "%s%s,none", name, kind);
    json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_string("N/A"));
}

static json_t *metrics_json(const char *name, int64_t documents, const eval_metric *metrics, int count) {
    json_t *object = json_pack("{s:s, s:s, s:I}", "name", name, "alias", name, "sample_len", (json_int_t)documents);
    for (int i = 0; i < count; i++) {
        set_metric(object, metrics[i].name, "", metrics[i].value);
        set_metric(object, metrics[i].name, "_stderr", metrics[i].error);
    }
    return object;
}

static json_t *directions_json(const eval_metric *metrics, int count) {
    json_t *object = json_object();
    for (int i = 0; i < count; i++)
        json_object_set_new(object, metrics[i].name, json_boolean(metrics[i].higher_is_better));
    return object;
}

/* ---------------------------------------------------------------- samples */

static json_t *sample_json(const eval_task *task, const eval_question *q, int64_t document) {
    json_t *arguments = json_array(), *answers = json_array();
    for (int i = 0; i < q->count; i++) {
        json_array_append_new(arguments,
                              json_pack("[s, s]", eval_question_context(q, i), eval_question_continuation(q, i)));
        json_array_append_new(answers, json_pack("[f, b]", q->answers[i].loglikelihood, q->answers[i].greedy));
    }
    json_t *sample =
        json_pack("{s:I, s:o, s:o}", "doc_id", (json_int_t)document, "arguments", arguments, "filtered_resps", answers);
    if (task->kind == TASK_MULTIPLE_CHOICE) json_object_set_new(sample, "target", json_integer(q->gold));
    if (task->acc) json_object_set_new(sample, "acc", json_real(eval_question_correct(task, q)));
    if (task->acc_norm) json_object_set_new(sample, "acc_norm", json_real(eval_question_correct_by_character(q)));
    return sample;
}

static json_t *samples_json(const eval_task *task, const eval_questions *part) {
    json_t *samples = json_array();
    for (int64_t i = 0; i < part->count; i++) json_array_append_new(samples, sample_json(task, &part->items[i], i));
    return samples;
}

/* ---------------------------------------------------------------- parts and groups */

static void add_part(const eval_task *task, const eval_questions *part, const eval_metric *metrics, int count,
                     bool samples, json_t *results) {
    json_t *config = json_copy(task->root);
    json_object_set_new(config, "task", json_string(part->name));
    json_object_set_new(config, "num_fewshot", json_integer(part->num_fewshot));
    json_object_set_new(section(results, "results"), part->name, metrics_json(part->name, part->count, metrics, count));
    json_object_set_new(section(results, "configs"), part->name, config);
    json_object_set_new(section(results, "versions"), part->name, json_real(task->version));
    json_object_set_new(section(results, "n-shot"), part->name, json_integer(part->num_fewshot));
    json_object_set_new(section(results, "higher_is_better"), part->name, directions_json(metrics, count));
    json_object_set_new(
        section(results, "n-samples"), part->name,
        json_pack("{s:I, s:I}", "original", (json_int_t)part->documents, "effective", (json_int_t)part->count));
    if (samples) json_object_set_new(section(results, "samples"), part->name, samples_json(task, part));
}

static void add_group(const eval_task *task, const eval_questions *parts, int count,
                      const eval_metric (*metrics)[EVAL_MAX_METRICS], int metric_count, json_t *results) {
    eval_metric own[EVAL_MAX_METRICS];
    json_t *names = json_array();
    int64_t documents = 0;
    eval_metrics_of_group(metrics, metric_count, parts, count, own);
    for (int i = 0; i < count; i++) {
        json_array_append_new(names, json_string(parts[i].name));
        documents += parts[i].count;
    }
    json_t *values = metrics_json(task->name, documents, own, metric_count);
    json_object_set(section(results, "results"), task->name, values);
    json_object_set_new(section(results, "groups"), task->name, values);
    json_object_set_new(section(results, "group_subtasks"), task->name, names);
    json_object_set_new(section(results, "versions"), task->name, json_real(task->version));
    json_object_set_new(section(results, "n-shot"), task->name, json_integer(parts[0].num_fewshot));
    json_object_set_new(section(results, "higher_is_better"), task->name, directions_json(own, metric_count));
}

int eval_results_add(const eval_task *task, const eval_questions *parts, int count, bool samples, json_t *results) {
    eval_metric metrics[EVAL_MAX_PARTS][EVAL_MAX_METRICS];
    int metric_count = 0;
    for (int i = 0; i < count; i++) TRY(eval_metrics_of(task, &parts[i], metrics[i], &metric_count));
    for (int i = 0; i < count; i++) add_part(task, &parts[i], metrics[i], metric_count, samples, results);
    if (task->group_by)
        add_group(task, parts, count, metrics, metric_count, results);
    else
        json_object_set_new(section(results, "group_subtasks"), task->name, json_array());
    REQUIRE(section(results, "results"), LCKV_ERROR_MEMORY, "no memory for results");
    return LCKV_OK;
}
