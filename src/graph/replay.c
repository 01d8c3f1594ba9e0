/* Recording and replaying; see replay.h. */
#include "graph/replay.h"

#include <string.h>

void replay_forget(replay *r, device *d) {
    if (r->program) d->recording.release(d, r->program);
    *r = (replay){0};
}

bool replay_knows(const replay *r, const replay_key *key) {
    return r->known && memcmp(&r->key, key, sizeof *key) == 0;
}

static int record_work(replay *r, device *d, int (*work)(void *user), void *user) {
    TRY(d->recording.begin(d));
    int status = work(user);
    if (status >= 0) return d->recording.end(d, &r->program);
    d->recording.end(d, NULL);
    return status;
}

replay_action replay_next(const replay *r, const graph *g, const replay_key *key) {
    bool records = g->device->recording.begin != NULL;
    if (!records || !replay_knows(r, key) || r->generation != pool_generation(g->pool)) return REPLAY_RUN;
    return r->program ? REPLAY_REPLAY : REPLAY_RECORD;
}

int replay_do(replay *r, graph *g, replay_action action, int (*work)(void *user), void *user) {
    device *d = g->device;
    int status = LCKV_OK;
    if (action != REPLAY_REPLAY) replay_forget(r, d);
    if (action == REPLAY_RUN) return work(user);
    if (action == REPLAY_RECORD) status = record_work(r, d, work, user);
    REQUIRE(status < 0 || r->program, LCKV_ERROR_ARGUMENT, "there is no recording to replay");
    return status < 0 ? status : d->recording.replay(d, r->program);
}

int replay_run(replay *r, graph *g, const replay_key *key, int (*work)(void *user), void *user) {
    replay_action action = replay_next(r, g, key);
    int64_t generation = pool_generation(g->pool); /* running may change it: memory grows as needed */
    int status = replay_do(r, g, action, work, user);
    if (status < 0) replay_forget(r, g->device);
    if (status < 0 || !g->device->recording.begin) return status;
    r->key = *key;
    r->generation = generation;
    r->known = true;
    return LCKV_OK;
}

int replay_set_find(replay_set *s, const replay_key *key) {
    for (int i = 0; i < REPLAY_SET; i++)
        if (replay_knows(&s->replays[i], key)) return i;
    return s->next++ % REPLAY_SET;
}

int replay_set_run(replay_set *s, graph *g, const replay_key *key, int (*work)(void *user), void *user) {
    return replay_run(&s->replays[replay_set_find(s, key)], g, key, work, user);
}

void replay_set_forget(replay_set *s, device *d) {
    for (int i = 0; i < REPLAY_SET; i++) replay_forget(&s->replays[i], d);
}
