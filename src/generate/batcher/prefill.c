/* Prefill chunks, see prefill.h. */
#include "generate/batcher/prefill.h"

bool prefill_in_one_call(const model *m, lckv_encoding encoding, int64_t tokens) {
    const model_config *c = m->config;
    switch (encoding) {
    case LCKV_ENCODING_PLAN:
        return true;
    case LCKV_ENCODING_SEQUENTIAL:
        return false;
    case LCKV_ENCODING_AUTO:
        break;
    }
    return c->map.loops == 0 || tokens > (int64_t)c->forward_passes + c->backward_passes;
}

int64_t prefill_next_rows(const model *m, lckv_encoding encoding, const chunk_rules *rules, int64_t count,
                          int64_t cached) {
    int64_t limit = rules->window_length && rules->window_length < count ? rules->window_length : count;
    if (cached >= limit) return 1;
    prompt_chunk chunk = encoding == LCKV_ENCODING_PLAN ? (prompt_chunk){0, limit} : chunk_at(rules, count, cached);
    return prefill_in_one_call(m, encoding, chunk.end - chunk.begin) ? chunk.end - cached : 1;
}

int prefill_check(int encoding_iterations, double encoding_tolerance) {
    REQUIRE(encoding_iterations >= 0 && encoding_iterations <= 1 << 16, LCKV_ERROR_ARGUMENT,
            "encoding_iterations should be 0 (the model's) or 1 to %d, found %d", 1 << 16, encoding_iterations);
    REQUIRE(encoding_tolerance >= 0 && encoding_tolerance < 1, LCKV_ERROR_ARGUMENT,
            "encoding_tolerance should be 0 (off) or more, and less than 1, found %g", encoding_tolerance);
    return LCKV_OK;
}
