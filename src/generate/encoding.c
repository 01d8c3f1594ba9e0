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
