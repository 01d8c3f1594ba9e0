/* A task: how prompts are made from documents and how answers are rated, read from a description in JSON.
 * docs/evaluation.md lists its keys; those that the harness's task files have, have the same names.
 *
 * A description can have several forms, because some data sets exist in several files with different field names. A
 * document uses the first form whose `where` fields it has. task_documents.h loads documents, task_template.h defines
 * templates, questions.h makes the questions. */
#ifndef EVAL_TASK_H
#define EVAL_TASK_H

#include "base/text/json.h"

enum { TASK_MAX_NAMES = 16, TASK_MAX_FORMS = 4, TASK_MAX_CHOICES = 64 };

typedef enum task_kind {
    TASK_MULTIPLE_CHOICE, /* the most probable of several continuations */
    TASK_LOGLIKELIHOOD,   /* one continuation: its log-likelihood, and whether greedy decoding generates it */
} task_kind;

/* Points into the description. Multiple choice has choices and gold, and either one text, or contexts (one text per
 * choice) and a target that follows each. A log-likelihood has text and target. */
typedef struct task_form {
    const json_t *where;       /* names of fields */
    const char *text, *target; /* templates; NULL: none */
    const json_t *contexts; /* list of templates, or an expression that is a list; NULL: `text` is the only context */
    const json_t *choices;  /* likewise */
    const json_t *gold;     /* an integer, or an expression: a number, or one of `labels` */
    const json_t *labels;   /* list of texts, or an expression that is one; NULL: gold is a number */
    const char *clean;      /* filters ("trim|...") for text and choices; NULL: none */
} task_form;

typedef struct eval_task {
    json_t *root; /* the description; owns all strings here */
    const char *name;
    double version;
    task_kind kind;
    task_form forms[TASK_MAX_FORMS];
    int form_count;
    const char *files[TASK_MAX_NAMES]; /* names in the data folder, without ending; the first that exists is used */
    const char *fewshot_files[TASK_MAX_NAMES];
    int file_count, fewshot_file_count;
    int64_t lines;          /* > 0: lines per document of a text file; a document is {"lines": [...]} */
    int64_t num_fewshot;    /* default number of examples */
    bool first_examples;    /* sampler first_n: the first examples, in order; otherwise drawn for each document */
    bool excludes_document; /* one more example is drawn, and the document itself is left out */
    const char *description, *target_delimiter, *fewshot_delimiter;
    const char *group_by; /* a group: documents with the same value of this field form a part; NULL: no group */
    bool acc, acc_norm, perplexity; /* metrics to report */
} eval_task;

/* `name`: a built-in task, or a file that ends in .json. */
int eval_task_open(const char *name, eval_task *out);
void eval_task_close(eval_task *task);

#endif
