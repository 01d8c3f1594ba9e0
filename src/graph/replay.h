/* Work that repeats with the same shapes and addresses. It first runs normally. When nothing has moved between two
 * runs, it is recorded (device.h) and replayed from then on with one call of the host. A device that does not record
 * always runs it normally.
 *
 * Leaves out: the work itself, and copies, which are not recorded. */
#ifndef GRAPH_REPLAY_H
#define GRAPH_REPLAY_H

#include "graph/graph.h"

/* All values on which the work's arguments depend, except the graph's pool: shapes, maxima, addresses. Unused ones
 * are 0. */
typedef struct replay_key {
    int64_t values[12];
} replay_key;

typedef struct replay {
    replay_key key;
    int64_t generation; /* of the pool at the last run */
    bool known;         /* key and generation are those of the last run */
    device_program *program;
} replay; /* initialize with zeros */

/* What the next run with a key does. */
typedef enum replay_action {
    REPLAY_RUN,    /* runs the work */
    REPLAY_RECORD, /* records it and replays the recording */
    REPLAY_REPLAY, /* replays the recording */
} replay_action;

replay_action replay_next(const replay *r, const graph *g, const replay_key *key);
/* Does that without asking whether the key and the pool are those of the last run. For work that follows the replays of
 * another process (model/ranks/rank_group.h). */
int replay_do(replay *r, graph *g, replay_action action, int (*work)(void *user), void *user);

/* Runs `work`, which runs ops of g and must not copy, allocate or wait, or replays its recording. The pool must be
 * as after graph_reset(), and must be reset afterwards. After a failure nothing is recorded. */
int replay_run(replay *r, graph *g, const replay_key *key, int (*work)(void *user), void *user);

/* Whether the last run had this key. */
bool replay_knows(const replay *r, const replay_key *key);

void replay_forget(replay *r, device *d); /* zeros are fine */

/* The same for work that alternates between several sizes: one replay per key; the oldest is replaced. */
enum { REPLAY_SET = 256 };

typedef struct replay_set {
    replay replays[REPLAY_SET];
    int next; /* the next one to be replaced */
} replay_set; /* initialize with zeros */

int replay_set_run(replay_set *s, graph *g, const replay_key *key, int (*work)(void *user), void *user);
/* Index of the replay for a key: that of an earlier run, or else the one that is replaced next. */
int replay_set_find(replay_set *s, const replay_key *key);
void replay_set_forget(replay_set *s, device *d); /* zeros are fine */

#endif
