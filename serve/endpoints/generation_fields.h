/* Request fields that completions and chat share: model, sampling, stop strings, streaming. */
#ifndef SERVE_GENERATION_FIELDS_H
#define SERVE_GENERATION_FIELDS_H

#include "completion.h"

/* Reads the fields into the job, *stream and *include_usage. */
void generation_fields_read(fields *f, job *j, bool *stream, bool *include_usage);

/* Checks the field `model`: a name of the served model, or absent. */
void model_field_read(fields *f, const server *s);

/* Encodes a prompt. Returns LCKV_ERROR_TOO_LONG if it has more tokens than a request may have (max_model_len). */
int prompt_encode(const server *s, const char *text, size_t length, bool special, int32_t **ids, size_t *count);

#endif
