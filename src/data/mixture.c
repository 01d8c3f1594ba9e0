/* Mixing corpora by weight, see mixture.h. */
#include "data/mixture.h"

#include "data/shuffle.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- reading */

/* The source at position `place` of an epoch, and the number of its blocks before that position. */
static const mixture_source *source_at(const mixture *m, int64_t place, int64_t *before) {
    const mixture_source *s = m->sources;
    for (*before = place; *before >= s->an_epoch; s++) *before -= s->an_epoch;
    return s;
}

/* The blocks of each source are shuffled by themselves, again after each pass through the source. */
static const examples *find(const mixture *m, int64_t number, int64_t *block) {
    int64_t before, epoch = number / m->examples.count;
    const mixture_source *s = source_at(m, number % m->examples.count, &before);
    int64_t at = epoch * s->an_epoch + before, all = s->blocks.examples.count;
    uint64_t seed = m->seed + 1 + (uint64_t)(s - m->sources); /* `seed` itself shuffles the epoch */
    *block = m->shuffle ? shuffle_index(seed, (uint64_t)(at / all), all, at % all) : at % all;
    return &s->blocks.examples;
}

static int read_of_mixture(const examples *from, int64_t number, example *out) {
    int64_t block;
    const examples *source = find((const mixture *)from, number, &block);
    return source->read(source, block, out);
}

static int count_labels_of_mixture(const examples *from, int64_t number, int64_t *out) {
    int64_t block;
    const examples *source = find((const mixture *)from, number, &block);
    return source->count_labels(source, block, out);
}

/* ---------------------------------------------------------------- making */

int mixture_create(int count, bool shuffle, uint64_t seed, mixture *out) {
    *out = (mixture){.examples = {.read = read_of_mixture, .count_labels = count_labels_of_mixture},
                     .count = count,
                     .shuffle = shuffle,
                     .seed = seed};
    out->sources = calloc((size_t)count, sizeof *out->sources);
    REQUIRE(out->sources, LCKV_ERROR_MEMORY, "no memory for %d sources", count);
    return LCKV_OK;
}

/* Blocks of an epoch (not rounded): until the first source has no blocks left. */
static double length_of_epoch(const mixture *m, double weights, int64_t max_blocks) {
    double length = max_blocks ? (double)max_blocks : 0x1p53;
    for (int i = 0; i < m->count; i++) {
        double until = (double)m->sources[i].blocks.examples.count * weights / m->sources[i].weight;
        length = until < length ? until : length;
    }
    return length;
}

/* Divides the weights by a power of two, so that their sum is finite. This is exact and does not change the shares. */
static void scale_weights(mixture *m) {
    double largest = 0;
    int exponent;
    for (int i = 0; i < m->count; i++) largest = fmax(largest, m->sources[i].weight);
    frexp(largest, &exponent);
    for (int i = 0; i < m->count; i++) m->sources[i].weight = ldexp(m->sources[i].weight, -exponent);
}

int mixture_weigh(mixture *m, int64_t max_blocks) {
    const double ROUNDING = 1 + 0x1p-40; /* keeps integers exact */
    double weights = 0;
    scale_weights(m);
    for (int i = 0; i < m->count; i++) weights += m->sources[i].weight;
    double length = length_of_epoch(m, weights, max_blocks);
    for (int i = 0; i < m->count; i++) {
        mixture_source *s = &m->sources[i];
        s->an_epoch = (int64_t)(length * s->weight / weights * ROUNDING);
        REQUIRE(s->an_epoch, LCKV_ERROR_FORMAT,
                "an epoch of %.1f blocks has none of '%s', whose share is %g; increase its weight, or add data to the "
                "other sources",
                length, s->name, s->weight / weights);
        m->examples.count += s->an_epoch;
    }
    m->examples.block_size = m->sources->blocks.examples.block_size;
    return LCKV_OK;
}

void mixture_free(mixture *m) {
    for (int i = 0; i < m->count && m->sources; i++) {
        blocks_free(&m->sources[i].blocks);
        token_store_close(&m->sources[i].ids);
    }
    free(m->sources);
    *m = (mixture){0};
}
