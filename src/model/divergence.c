/* lckv_kl_divergence(), see lckv.h: how far one form of a model is from another. */
#include "base/status.h"

#include <math.h>

static double log_sum(const float *row, int64_t count) {
    double sum = 0, largest = (double)row[0];
    for (int64_t i = 1; i < count; i++) largest = fmax(largest, (double)row[i]);
    for (int64_t i = 0; i < count; i++) sum += exp((double)row[i] - largest);
    return largest + log(sum);
}

double lckv_kl_divergence(const float *exact, const float *logits, int64_t tokens, int64_t vocab_size) {
    double kl = 0;
    for (int64_t t = 0; t < tokens; t++) {
        const float *p = exact + t * vocab_size, *q = logits + t * vocab_size;
        double p_sum = log_sum(p, vocab_size), q_sum = log_sum(q, vocab_size);
        for (int64_t i = 0; i < vocab_size; i++) {
            double log_p = (double)p[i] - p_sum;
            kl += exp(log_p) * (log_p - (double)q[i] + q_sum);
        }
    }
    kl /= (double)tokens;
    return kl < 0 ? 0 : kl;
}
