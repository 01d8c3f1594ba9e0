/* The fields of a request that completions and chats share. */
#ifndef SERVE_SAMPLING_H
#define SERVE_SAMPLING_H

#include "answer.h"

/* Reads them into the job, and into *stream and *include_usage. Refuses the fields that are not supported. */
void sampling_read(fields *f, job *j, bool *stream, bool *include_usage);

/* "model": the one that is served, or none. */
/* lckv_tokenizer_encode() for a prompt: LCKV_ERROR_TOO_LONG if it has more tokens than any request may have. */
int prompt_encode(const server *s, const char *text, size_t length, bool special, int32_t **ids, size_t *count);

void model_read(fields *f, const server *s);

#endif
