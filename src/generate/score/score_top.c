/* Most probable ids, see score_top.h. */
#include "generate/score/score_top.h"

#include <math.h>

/* Inserts an id into the list of the `held` best ids, which has room for `count`. Returns the new length. */
static int64_t insert(const float *logits, int32_t id, int32_t *ids, int64_t held, int64_t count) {
    if (held == count && !(logits[id] > logits[ids[count - 1]])) return held;
    int64_t at = held < count ? held : count - 1;
    for (; at > 0 && logits[id] > logits[ids[at - 1]]; at--) ids[at] = ids[at - 1];
    ids[at] = id;
    return held < count ? held + 1 : count;
}

void score_top(const float *logits, int64_t vocab_size, int64_t count, int32_t *ids, float *values) {
    int64_t held = 0;
    double sum = 0;
    for (int64_t v = 0; v < vocab_size; v++) held = insert(logits, (int32_t)v, ids, held, count);
    double max = (double)logits[ids[0]];
    for (int64_t v = 0; v < vocab_size; v++) sum += exp((double)logits[v] - max);
    for (int64_t i = 0; i < count; i++) values[i] = (float)((double)logits[ids[i]] - max - log(sum));
}
