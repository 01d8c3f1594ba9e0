/* Documents of a task: rows of a local file as JSON objects.
 *
 * A task names its files. A file is searched in the data folder with one of the endings .jsonl, .json, .txt, plain or
 * compressed (data/documents/byte_stream.h). JSON is one object per line, or one array of objects. In a text file, the
 * task's `lines` is the number of lines per document. */
#ifndef EVAL_TASK_DOCUMENTS_H
#define EVAL_TASK_DOCUMENTS_H

#include "eval/tasks/task.h"

typedef struct task_documents {
    json_t *rows; /* array of objects; NULL: no file was found */
    char *path;
} task_documents;

/* Loads the first of `names` that exists. If none exists, *out is empty; that is not an error. */
int task_documents_load(const char *folder, const char *const *names, int count, int64_t lines, task_documents *out);
void task_documents_free(task_documents *d);

#endif
