/* Questions: a task's documents as pairs of a context and a continuation, examples before them as the harness puts them
 * (lm_eval/api/task.py, fewshot_context): the description, then for each example text, target delimiter, answer and
 * few-shot delimiter, then the document's own text.
 *
 * Examples are those that the harness 0.4.13 takes with the same seed: one stream of random numbers a task, asked once
 * a document. They come from the task's few-shot file or else from the documents themselves, and then never from the
 * document at hand. */
#ifndef EVAL_QUESTIONS_H
#define EVAL_QUESTIONS_H

#include "eval/documents.h"
#include "eval/loglikelihood.h"

enum { EVAL_MOST_PARTS = 256 }; /* of a group */

/* Continuation i follows context i; where there is one context (one continuation) it goes with all of the others. */
typedef struct eval_question {
    char **contexts, **continuations;
    int context_count, continuation_count;
    int count;    /* pairs */
    int *lengths; /* [count] characters of each choice, what acc_norm divides by; 0 for a log-likelihood */
    int gold;
    eval_answer *answers; /* [count] of the pairs, once they were asked */
} eval_question;

/* Those of one task, or of one part of a group. */
typedef struct eval_questions {
    char *name;
    int64_t num_fewshot;
    int64_t documents; /* in the file; items are the first `count` of them */
    eval_question *items;
    int64_t count;
} eval_questions;

typedef struct question_options {
    const char *data_dir;
    int64_t num_fewshot; /* -1: as the task says */
    double limit;        /* documents a task; below 1: of so large a part of them, rounded up; 0: all */
    uint32_t fewshot_seed;
} question_options;

/* *out [*count]: one, or one for each part of a group. LCKV_ERROR_FILE: the task's file is not there. Release with
 * eval_questions_free(). */
int eval_questions_make(const eval_task *task, const question_options *options, eval_questions **out, int *count);
/* Of pair i. */
const char *eval_question_context(const eval_question *q, int i);
const char *eval_question_continuation(const eval_question *q, int i);

void eval_questions_free(eval_questions *questions, int count);

#endif
