/* A task: what is asked of a document and how the answer is judged, from a description in JSON (docs/evaluation.md has
 * its keys; those of the harness's task files carry the harness's names).
 *
 * A description may have several forms, since one data set goes about in several files with other field names; a
 * document takes the first one whose `where` fields it has all. Leaves out: the files (documents.h), what templates
 * mean (template.h), how prompts are put together (questions.h). */
#ifndef EVAL_TASK_H
#define EVAL_TASK_H

#include "base/json.h"

enum { TASK_MOST_NAMES = 16, TASK_MOST_FORMS = 4, TASK_MOST_CHOICES = 64 };

typedef enum task_kind {
    TASK_MULTIPLE_CHOICE, /* the most probable of several continuations */
    TASK_LOGLIKELIHOOD,   /* one continuation: its log-likelihood, and whether greedy decoding would say it */
} task_kind;

/* Points into the description. Multiple choice has choices and gold, and either one text, or contexts (a text a choice)
 * and a target that follows each; a log-likelihood has text and target. */
typedef struct task_form {
    const json_t *where;       /* names of fields */
    const char *text, *target; /* templates; NULL where there are none */
    const json_t *contexts;    /* list of templates, or an expression that is a list; NULL: `text` is the one */
    const json_t *choices;     /* likewise */
    const json_t *gold;        /* a whole number, or an expression: a number, or one of `labels` */
    const json_t *labels;      /* list of texts, or an expression that is one; NULL: gold is a number */
    const char *clean;         /* filters ("trim|...") that text and choices go through; NULL: none */
} task_form;

typedef struct eval_task {
    json_t *root; /* owns every text here */
    const char *name;
    double version;
    task_kind kind;
    task_form forms[TASK_MOST_FORMS];
    int form_count;
    const char *files[TASK_MOST_NAMES]; /* names under the data folder, without ending; the first that is there */
    const char *fewshot_files[TASK_MOST_NAMES];
    int file_count, fewshot_file_count;
    int64_t lines;          /* > 0: a text file has so many lines a document, which becomes {"lines": [...]} */
    int64_t num_fewshot;    /* where nobody says otherwise */
    bool first_examples;    /* sampler first_n: the first examples, in order; else drawn for each document */
    bool excludes_document; /* one more is drawn, and the document itself is left out */
    const char *description, *target_delimiter, *fewshot_delimiter;
    const char
        *group_by; /* the task is a group: documents with the same value of this field are a task; NULL: it is one */
    bool acc, acc_norm, perplexity; /* metrics that are wanted */
} eval_task;

/* `name`: one of the tasks that lckv knows, or a file that ends in .json. */
int eval_task_open(const char *name, eval_task *out);
void eval_task_close(eval_task *task);

#endif
