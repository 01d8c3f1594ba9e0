/* A piece of work that is done again and again with the same shapes and addresses. The first time it is done as it
 * comes; once nothing has moved from one time to the next it is recorded (device.h), and from then on replayed: the
 * host makes one call for all of it. On a device that records nothing it is always done as it comes.
 *
 * Leaves out: what the work is, and copies, which stay outside of it. */
#ifndef GRAPH_REPLAY_H
#define GRAPH_REPLAY_H

#include "graph/graph.h"

/* Everything that the work's arguments depend on but the graph's pool: shapes, maxima, addresses. Unused ones 0. */
typedef struct replay_key {
    int64_t values[12];
} replay_key;

typedef struct replay {
    replay_key key;
    int64_t generation; /* of the pool when it was last done */
    bool known;         /* key and generation are of the last time */
    device_program *program;
} replay; /* begins as zeros */

/* Does `work` (which runs ops of g and must not copy, allocate or wait), or what was recorded of it. The pool is as
 * graph_reset() leaves it, and is to be reset afterwards, as after any step. A failure leaves nothing recorded. */
int replay_run(replay *r, graph *g, const replay_key *key, int (*work)(void *user), void *user);

/* Whether the last time was with this key. */
bool replay_knows(const replay *r, const replay_key *key);

void replay_forget(replay *r, device *d); /* zeros are fine */

/* The same for work that takes turns at several sizes: one replay for each key, of which the oldest gives way. */
enum { REPLAY_SET = 256 };

typedef struct replay_set {
    replay replays[REPLAY_SET];
    int next; /* the one that gives way */
} replay_set; /* begins as zeros */

int replay_set_run(replay_set *s, graph *g, const replay_key *key, int (*work)(void *user), void *user);
void replay_set_forget(replay_set *s, device *d); /* zeros are fine */

#endif
