/* Python's random.Random: the Mersenne Twister (Matsumoto and Nishimura 1998, MT19937), seeded and used as in CPython
 * 3.11. lm-evaluation-harness draws its few-shot examples and bootstrap samples with it. All other random numbers come
 * from base/rng.h. */
#ifndef EVAL_PYTHON_RANDOM_H
#define EVAL_PYTHON_RANDOM_H

#include "base/status.h"

typedef struct python_random {
    uint32_t state[624];
    int at;
} python_random;

void python_random_seed(python_random *r, uint32_t seed); /* Random(seed) */

/* random.sample(range(n), k) into out [k]; k <= n. */
int python_random_sample(python_random *r, int64_t n, int64_t k, int64_t *out);

/* random.choices(range(n), k=1)[0]; n below 2^53. */
int64_t python_random_choice(python_random *r, int64_t n);

#endif
