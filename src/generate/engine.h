/* What the library itself asks of an engine beyond lckv.h. */
#ifndef GENERATE_ENGINE_H
#define GENERATE_ENGINE_H

#include "generate/request.h"
#include "model/model.h"

/* Tokenizer (may be NULL) and model belong together, LCKV_ERROR_ARGUMENT otherwise. */
int engine_check_tokenizer(const model *m, const lckv_tokenizer *tokenizer);

/* A request that has not ended, or whose last event is being told; NULL for others. */
const request *engine_request(const lckv_engine *e, uint64_t id);

#endif
