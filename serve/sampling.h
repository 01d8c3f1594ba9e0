/* The fields of a request that completions and chats share. */
#ifndef SERVE_SAMPLING_H
#define SERVE_SAMPLING_H

#include "answer.h"

/* Reads them into the job, and into *stream and *include_usage. Refuses the fields that are not supported. */
void sampling_read(fields *f, job *j, bool *stream, bool *include_usage);

/* "model": the one that is served, or none. */
void model_read(fields *f, const server *s);

#endif
