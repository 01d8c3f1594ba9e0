/* The ranks that run one model together (tensor parallelism). Each has a part of the model (rank_part.h) on its own
 * device.
 *
 * Rank 0 does what a single process does: it schedules, samples, keeps page tables and prefixes. Before each forward
 * pass it sends the filled batch to the other ranks, which then run the same pass on their part (rank_follow.c). What
 * depends on time or on random numbers is decided on rank 0 alone. Of the KV cache, the others only have the pages:
 * they allocate, grow and copy them when rank 0 does. Within the pass, each rank adds its partial sums to those of
 * the others (layer.c), so that all have the same hidden states.
 *
 * Passes that a GPU records (graph/replay.h) are recorded and replayed by all ranks alike, because NCCL requires it.
 *
 * A failure between rank_group_begin() and rank_group_end() leaves the ranks in different places: it ends the group,
 * and all later calls fail with its message. Other failures on rank 0, such as a full KV cache, do not concern the
 * others.
 *
 * Leaves out: starting the ranks (collectives/launch.h), loading a part (io/hf_load.c). */
#ifndef MODEL_RANKS_RANK_GROUP_H
#define MODEL_RANKS_RANK_GROUP_H

#include "collectives/collectives.h"
#include "graph/replay.h"
#include "model/model.h"

/* Joins the ranks of `host`, which must outlive the group. All ranks call it. */
int rank_group_create(const collectives *host, device *d, rank_group **out);
/* On rank 0, the other ranks return from rank_group_follow(). NULL is fine. */
void rank_group_free(rank_group *g);

/* Runs this rank's part of everything that rank 0 does, until rank 0 frees its group. Not on rank 0. */
int rank_group_follow(model *m);

/* ---------------------------------------------------------------- rank 0 */

/* A forward pass that rank 0 is about to run on a filled batch. */
typedef struct rank_pass {
    struct batch *batch;
    struct kv_cache *cache; /* NULL: none */
    dtype compute;          /* of the graph */
    int set, replay;        /* which recording of the cache's user it is (replay_set_find()); replay -1: none */
    replay_action action;
} rank_pass;

/* Announces a pass and then reports its status, around decoder_forward() and whatever follows it in the same recording.
 * Without a group (m->ranks NULL) rank_group_begin() does nothing and rank_group_end() returns `status`. */
int rank_group_begin(const model *m, const rank_pass *p);
int rank_group_end(const model *m, const rank_pass *p, int status);
/* After the results of passes have arrived: fails if they were ended because a rank is lost. */
int rank_group_check(const model *m);
/* decoder_forward() between the two, for a pass that is not recorded. */
int rank_group_forward(const model *m, graph *g, struct batch *b, struct kv_cache *cache, tensor **hidden);
/* Changes when memory of recorded passes has moved on another rank. 0 without a group. */
int64_t rank_group_generation(const model *m);

/* Free memory of the device; with a group, that of the rank that has least. */
int rank_group_available(const model *m, size_t *bytes);

/* The KV cache calls these after it has done the same. `group` and page numbers are those of kv_group.h. */
int rank_group_cache_created(rank_group *g, const struct kv_cache *cache, int *id);
int rank_group_cache_grown(rank_group *g, int id, int group, int32_t pages);
int rank_group_page_copied(rank_group *g, int id, int group, int32_t from, int32_t to);
void rank_group_cache_freed(rank_group *g, int id);
void rank_group_batch_freed(rank_group *g, int id);

/* LCKV_ERROR_UNSUPPORTED if the model is divided: `what` needs all of it. */
int rank_group_refuse(const model *m, const char *what);

/* ---------------------------------------------------------------- in a forward pass, on all ranks */

/* Whether this rank adds what all ranks have, the residual and the biases, to its partial sums. True without a group.
 * */
bool rank_group_adds_rest(const rank_group *g);
/* Adds the partial sums of all ranks in place: f32, or f64. Does nothing without a group. */
int rank_group_sum(const rank_group *g, view v);
/* All ranks receive the ids that rank 0 has sampled. Does nothing without a group. */
int rank_group_share(const rank_group *g, view v);

#endif
