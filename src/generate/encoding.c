#include "generate/encoding.h"

bool encoding_in_one_call(const model *m, lckv_encoding encoding, int64_t tokens) {
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

int64_t encoding_next(const model *m, lckv_encoding encoding, const encoding_rules *rules, int64_t count,
                      int64_t cached) {
    int64_t limit = rules->window_length && rules->window_length < count ? rules->window_length : count;
    if (cached >= limit) return 1;
    bool whole = encoding == LCKV_ENCODING_PLAN;
    int64_t begin = whole ? 0 : cached / rules->piece_tokens * rules->piece_tokens, end = limit;
    if (!whole && end - begin > rules->piece_tokens) end = begin + rules->piece_tokens;
    return encoding_in_one_call(m, encoding, end - begin) ? end - cached : 1;
}
