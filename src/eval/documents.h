/* The documents of a task: rows of a local file as JSON objects.
 *
 * Files are looked for under one folder, by the names that a description gives and with one of the endings .jsonl,
 * .json, .txt, plain or compressed (data/byte_stream.h). JSON is an object a line, or one array of objects; a text
 * file has as many lines a document as the description says. */
#ifndef EVAL_DOCUMENTS_H
#define EVAL_DOCUMENTS_H

#include "eval/task.h"

typedef struct eval_documents {
    json_t *rows; /* array of objects; NULL: no file was found */
    char *path;
} eval_documents;

/* The first of `names` that is there. None: *out is empty, which is no failure. */
int eval_documents_load(const char *folder, const char *const *names, int count, int64_t lines, eval_documents *out);
void eval_documents_free(eval_documents *d);

#endif
