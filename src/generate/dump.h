/* Activation dump: collects what layers compute while ids are scored and writes it as a safetensors file. See
 * lckv_score_options.dump. */
#ifndef GENERATE_DUMP_H
#define GENERATE_DUMP_H

#include "model/batch.h"

typedef struct dump dump;

/* `rows`: total number of tokens, which arrive in order, in one or several calls. `iterations`: dump every iteration of
 * a loop, not only the last. */
int dump_create(device *on, const char *pattern, bool iterations, int64_t rows, dump **out);
void dump_free(dump *d); /* accepts NULL */

const layer_watch *dump_watch(const dump *d); /* for a batch; valid as long as the dump */

/* LCKV_ERROR_ARGUMENT if the pattern matched nothing. */
int dump_write(const dump *d, const char *path);

/* Whether a name matches a shell pattern with alternatives in braces: layers.{0,1*}.k */
bool dump_matches(const char *pattern, const char *name);

#endif
