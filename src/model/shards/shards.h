/* The division of a table of weights between ranks (ZeRO: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward
 * Training Trillion Parameter Models").
 *
 * The table consists of units: the embedding, each layer, the final norm, the head, each learned start. The elements of
 * a unit, in the table's order, are divided into one contiguous part per rank. Two things can be divided:
 *
 *   - the optimizer state (ZeRO stage 1). Every rank has all weights and gradients.
 *   - also weights and gradients (stage 3). Every rank has its part of each (weight.part, shard_unit.gradient). The
 *     decoder gathers a unit for as long as it uses it (weights_use.h).
 *
 * In memory, the entries of a unit follow each other, each aligned to 256 bytes.
 *
 * Leaves out: moments (train/step/optimizer.h), and the master weights of stage 1 (weight.master). */
#ifndef MODEL_SHARDS_H
#define MODEL_SHARDS_H

#include "collectives/collectives.h"
#include "model/params.h"

typedef struct shard_unit {
    int first, count; /* entries of the table */
    /* Stage 3; see weights_use.h. */
    int uses;                 /* begun and not ended */
    int recorded;             /* uses on the tape whose last backward pass has not ended */
    void *values, *gradients; /* of the whole unit while it is in use, in buffers; NULL: not there */
    bool arriving;            /* the values are being gathered aside */
    bool summing, sum_waits;  /* the gradient is being summed aside, or will be */
    view gradient;            /* [1, elements of this rank's part]: sum over ranks and micro-batches */
} shard_unit;

/* Device memory for a gathered unit or its gradient; kept for the next one that fits. */
typedef struct shard_buffer {
    void *memory;
    size_t bytes;
    bool used;
} shard_buffer;

typedef struct shards {
    const collectives *collectives; /* must outlive it */
    params *params;
    bool divides_weights; /* stage 3 */
    bool regathers_loops; /* the decoder gathers a layer of a loop in each iteration instead of once per loop */
    dtype gradient_type;  /* of shard_unit.gradient: f32, or bf16 for weights in bf16 */
    shard_unit *units;    /* [count] */
    int count;
    int next;                 /* unit to be gathered when attention begins; -1: none */
    int read_before;          /* unit whose values the backward pass reads after those of the current use; -1: none */
    int *unit_of;             /* [params.capacity] unit of each entry */
    int64_t *place4, *place2; /* of each entry in its unit, in elements of 4 and of 2 bytes */
    int64_t *begin;           /* [ranks + 1], for calls of collectives */
    shard_buffer *buffers;    /* [buffer_count] */
    int buffer_count, buffer_room;
} shards;

/* Device memory of at least `bytes`: the smallest unused buffer that is large enough, else a new one. */
int shards_take_buffer(shards *s, size_t bytes, void **out);
void shards_give_buffer(shards *s, const void *memory);

/* Divides a table that is complete. A single rank, and a table without units of its own, have one unit. */
int shards_create(params *p, const collectives *c, shards **out);
void shards_free(shards *s); /* NULL is fine */

/* The part of an entry that belongs to `rank`: returns the number of its elements; the first one is *first. */
int64_t shards_part(const shards *s, int entry, int rank, int64_t *first);

/* Elements of a unit in memory of `type`, with those between entries that are not used; and the first of an entry. */
int64_t shards_unit_elements(const shards *s, const shard_unit *u, dtype type);
int64_t shards_place(const shards *s, int entry, dtype type);

/* Where the ranks' parts of a unit begin, in elements, for memory that begins with the unit's: of gradients, and of
 * values of `type`. Valid until the next call. */
const int64_t *shards_gradient_parts(const shards *s, const shard_unit *u);
const int64_t *shards_value_parts(const shards *s, const shard_unit *u, dtype type);

/* The units in the order in which the backward pass completes their gradients, roughly: the head, the norm, layers from
 * the top, learned starts, the embedding. Unit `i` of `count` in this order. */
int shards_backward_unit(const shards *s, int i);

/* This rank's part of a unit's gradient: [1, n], f32 unless gradient_type is another. */
view shards_gradient(const shards *s, const shard_unit *u);
/* That of one entry in it: [1, count]. */
view shards_entry_gradient(const shards *s, int entry);

#endif
