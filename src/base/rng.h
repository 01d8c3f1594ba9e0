/* Counter-based random numbers: Philox-4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
 *
 * A number depends only on (seed, stream, counter), so a seed gives the same results on every device and with any
 * number of threads. `stream` separates the users of one seed (a weight, a sequence, the data order).
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

/* A block of four independent 32-bit words. */
void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);

/* A uniform number in [0, 1) with 53 bits, from the first two words of the block. */
double rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter);

/* An unpredictable number from the operating system, for names of temporary files and for seeding hash tables against
 * chosen collisions. Results never depend on it. */
uint64_t rng_entropy(void);

/* Two standard normal numbers, by the Box-Muller transform. */
void rng_normal2(uint64_t seed, uint64_t stream, uint64_t counter, double out[2]);

#endif
