/* Engine functions that are not part of lckv.h. */
#ifndef GENERATE_ENGINE_H
#define GENERATE_ENGINE_H

#include "generate/request.h"
#include "model/model.h"

/* Checks that the tokenizer (may be NULL) fits the model; LCKV_ERROR_ARGUMENT otherwise. */
int engine_check_tokenizer(const model *m, const lckv_tokenizer *tokenizer);

/* A request that has not ended, or whose last event is being delivered; NULL for any other id. */
const request *engine_request(const lckv_engine *e, uint64_t id);

#endif
