/* What layers compute, collected while ids are scored and written as a safetensors file: lckv_score_options.dump. */
#ifndef GENERATE_DUMP_H
#define GENERATE_DUMP_H

#include "model/batch.h"

typedef struct dump dump;

/* Of `rows` tokens, which come in order, in one call or in several. */
int dump_create(device *on, const char *pattern, bool runs, int64_t rows, dump **out);
void dump_free(dump *d); /* NULL is fine */

const layer_watch *dump_watch(const dump *d); /* for a batch; lives as long as the dump */

/* LCKV_ERROR_ARGUMENT where the pattern matched nothing. */
int dump_write(const dump *d, const char *path);

/* Whether a name matches a pattern of the shell's kind, with alternatives in braces: layers.{0,1*}.k */
bool dump_matches(const char *pattern, const char *name);

#endif
