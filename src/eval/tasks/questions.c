/* Questions, see questions.h. */
#include "eval/tasks/questions.h"

#include "base/text/text_buffer.h"
#include "eval/tasks/python_random.h"
#include "eval/tasks/task_prompt.h"
#include "eval/tasks/task_template.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* State while the questions of a task, or of a part of a group, are made. Does not own its rows. */
typedef struct maker {
    const eval_task *task;
    const json_t *rows, *examples; /* documents; rows that examples are drawn from */
    bool excludes_document;
    int64_t num_fewshot;
    python_random random;
    int64_t *drawn; /* [num_fewshot + 1] */
} maker;

/* ---------------------------------------------------------------- examples */

static int append_example(const maker *m, const json_t *document, text_buffer *out) {
    task_prompt a;
    TRY(task_prompt_make(m->task, document, &a));
    int status = text_printf(out, "%s%s%s%s", task_prompt_text(&a), m->task->target_delimiter, task_prompt_answer(&a),
                             m->task->fewshot_delimiter);
    task_prompt_free(&a);
    return status;
}

/* Sets m->drawn [*count] to the indices of the candidate examples: the first ones, or drawn at random. One candidate
 * may be the document itself. */
static int draw(maker *m, int64_t *count) {
    int64_t examples = (int64_t)json_array_size(m->examples);
    *count = m->num_fewshot + (m->excludes_document ? 1 : 0);
    REQUIRE(*count <= examples, LCKV_ERROR_ARGUMENT, "num_fewshot is %lld, but there are %lld examples",
            (long long)m->num_fewshot, (long long)examples - (m->excludes_document ? 1 : 0));
    if (!m->task->first_examples) return python_random_sample(&m->random, examples, *count, m->drawn);
    for (int64_t i = 0; i < *count; i++) m->drawn[i] = i;
    return LCKV_OK;
}

static int append_examples(maker *m, const json_t *document, text_buffer *out) {
    int64_t count, taken = 0;
    if (!m->num_fewshot) return LCKV_OK;
    TRY(draw(m, &count));
    for (int64_t i = 0; i < count && taken < m->num_fewshot; i++) {
        const json_t *example = json_array_get(m->examples, (size_t)m->drawn[i]);
        if (m->excludes_document && json_equal(example, document)) continue;
        TRY(append_example(m, example, out));
        taken++;
    }
    REQUIRE(taken == m->num_fewshot, LCKV_ERROR_FORMAT, "the document occurs more than once among its examples");
    return LCKV_OK;
}

/* ---------------------------------------------------------------- one question */

static int join(const char *a, const char *b, char **out) {
    text_buffer text = {0};
    int status = text_printf(&text, "%s%s", a, b);
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    return status;
}

static int characters(const char *text) {
    int count = 0;
    for (; *text; text++) count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

/* Counts are increased item by item, so that on failure everything made so far is freed. */
static int fill_question(const eval_task *task, const task_prompt *a, const char *before, eval_question *q) {
    int continuations = a->target ? 1 : a->choice_count;
    const char *delimiter = task->kind == TASK_LOGLIKELIHOOD ? "" : task->target_delimiter;
    q->count = a->choice_count ? a->choice_count : 1;
    q->gold = a->gold;
    q->contexts = calloc((size_t)a->text_count, sizeof *q->contexts);
    q->continuations = calloc((size_t)continuations, sizeof *q->continuations);
    q->lengths = calloc((size_t)q->count, sizeof *q->lengths);
    q->answers = calloc((size_t)q->count, sizeof *q->answers);
    REQUIRE(q->contexts && q->continuations && q->lengths && q->answers, LCKV_ERROR_MEMORY, "no memory for a question");
    for (int i = 0; i < a->text_count; i++) TRY(join(before, a->texts[i], &q->contexts[q->context_count++]));
    for (int i = 0; i < continuations; i++)
        TRY(join(delimiter, a->target ? a->target : a->choices[i], &q->continuations[q->continuation_count++]));
    for (int i = 0; i < a->choice_count; i++) q->lengths[i] = characters(a->choices[i]);
    return LCKV_OK;
}

static int make_question(maker *m, const json_t *document, eval_question *q) {
    task_prompt a;
    text_buffer before = {0};
    TRY(task_prompt_make(m->task, document, &a));
    int status = task_template_render(m->task->description, document, &before);
    if (status >= 0) status = append_examples(m, document, &before);
    if (status >= 0) status = fill_question(m->task, &a, before.data ? before.data : "", q);
    text_free(&before);
    task_prompt_free(&a);
    return status;
}

static void free_question(eval_question *q) {
    for (int i = 0; i < q->context_count; i++) free(q->contexts[i]);
    for (int i = 0; i < q->continuation_count; i++) free(q->continuations[i]);
    free(q->contexts);
    free(q->continuations);
    free(q->lengths);
    free(q->answers);
}

const char *eval_question_context(const eval_question *q, int i) {
    return q->contexts[q->context_count > 1 ? i : 0];
}

const char *eval_question_continuation(const eval_question *q, int i) {
    return q->continuations[q->continuation_count > 1 ? i : 0];
}

/* ---------------------------------------------------------------- one task */

static int64_t limited(double limit, int64_t documents) {
    double count = limit <= 0 ? (double)documents : limit < 1 ? ceil(limit * (double)documents) : limit;
    return count < (double)documents ? (int64_t)count : documents;
}

static int make_questions(maker *m, double limit, eval_questions *out) {
    out->documents = (int64_t)json_array_size(m->rows);
    out->num_fewshot = m->num_fewshot;
    int64_t count = limited(limit, out->documents);
    out->items = calloc((size_t)count + 1, sizeof *out->items);
    REQUIRE(out->items, LCKV_ERROR_MEMORY, "no memory for %lld questions", (long long)count);
    while (out->count < count) {
        int64_t i = out->count++;
        int status = make_question(m, json_array_get(m->rows, (size_t)i), &out->items[i]);
        if (status < 0) return fail_within(status, "%s, document %lld", out->name, (long long)i + 1);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- groups */

/* The distinct values of the field group_by, in order, as the keys of an object. Without group_by, one empty key. */
static int list_parts(const eval_task *task, const json_t *rows, json_t **out) {
    const json_t *row;
    size_t i;
    *out = json_object();
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a task");
    if (!task->group_by) return json_object_set_new(*out, "", json_null()) ? LCKV_ERROR_MEMORY : LCKV_OK;
    json_array_foreach(rows, i, row) {
        const char *value = json_string_value(json_object_get(row, task->group_by));
        REQUIRE(value, LCKV_ERROR_FORMAT, "%s, document %zu: '%s' should be a string", task->name, i + 1,
                task->group_by);
        json_object_set_new(*out, value, json_null());
    }
    return LCKV_OK;
}

/* The rows of one part. The caller owns the reference. */
static json_t *rows_of(const eval_task *task, const json_t *rows, const char *part) {
    json_t *own = json_array(), *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        const char *value = task->group_by ? json_string_value(json_object_get(row, task->group_by)) : "";
        if (value && !strcmp(value, part)) json_array_append(own, row);
    }
    return own;
}

static int make_part(maker m, const char *part, const question_options *o, eval_questions *out) {
    json_t *rows = rows_of(m.task, m.rows, part), *examples = rows_of(m.task, m.examples, part);
    text_buffer name = {0};
    m.rows = rows;
    m.examples = examples;
    m.drawn = calloc((size_t)m.num_fewshot + 1, sizeof *m.drawn);
    python_random_seed(&m.random, o->fewshot_seed);
    int status = rows && examples && m.drawn ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for a task's documents");
    if (status >= 0) status = text_printf(&name, "%s%s%s", m.task->name, *part ? "_" : "", part);
    if (status >= 0) status = text_take(&name, &out->name);
    if (status >= 0) status = make_questions(&m, o->limit, out);
    text_free(&name);
    free(m.drawn);
    json_decref(rows);
    json_decref(examples);
    return status;
}

static int make_parts(const maker *m, const question_options *o, eval_questions **out, int *count) {
    json_t *parts, *value;
    const char *part;
    int status = list_parts(m->task, m->rows, &parts);
    if (status >= 0 && json_object_size(parts) > EVAL_MAX_PARTS)
        status = fail(LCKV_ERROR_UNSUPPORTED, "%s: found a group of %zu parts, expected at most %d", m->task->name,
                      json_object_size(parts), EVAL_MAX_PARTS);
    if (status >= 0) *out = calloc(json_object_size(parts) + 1, sizeof **out);
    if (status >= 0 && !*out) status = fail(LCKV_ERROR_MEMORY, "no memory for a task");
    json_object_foreach(parts, part, value) {
        if (status < 0) break;
        status = make_part(*m, part, o, &(*out)[(*count)++]);
    }
    json_decref(parts);
    return status;
}

/* ---------------------------------------------------------------- files */

static int missing(const eval_task *task, const char *folder) {
    return fail(LCKV_ERROR_FILE, "task %s: found no file in '%s'; expected %s.jsonl (or %s.jsonl, .json, .txt, ..)",
                task->name, folder, task->files[task->file_count - 1], task->files[0]);
}

int eval_questions_make(const eval_task *task, const question_options *o, eval_questions **out, int *count) {
    task_documents rows, examples = {0};
    maker m = {.task = task, .num_fewshot = o->num_fewshot < 0 ? task->num_fewshot : o->num_fewshot};
    *out = NULL;
    *count = 0;
    TRY(task_documents_load(o->data_dir, task->files, task->file_count, task->lines, &rows));
    int status = rows.rows ? LCKV_OK : missing(task, o->data_dir);
    if (status >= 0 && m.num_fewshot)
        status =
            task_documents_load(o->data_dir, task->fewshot_files, task->fewshot_file_count, task->lines, &examples);
    m.rows = rows.rows;
    m.examples = examples.rows ? examples.rows : rows.rows;
    m.excludes_document = task->excludes_document || !examples.rows;
    if (status >= 0) status = make_parts(&m, o, out, count);
    if (status < 0) {
        eval_questions_free(*out, *count);
        *out = NULL;
    }
    task_documents_free(&rows);
    task_documents_free(&examples);
    return status;
}

void eval_questions_free(eval_questions *questions, int count) {
    for (int i = 0; questions && i < count; i++) {
        for (int64_t j = 0; j < questions[i].count; j++) free_question(&questions[i].items[j]);
        free(questions[i].items);
        free(questions[i].name);
    }
    free(questions);
}
