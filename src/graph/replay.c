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

int replay_run(replay *r, graph *g, const replay_key *key, int (*work)(void *user), void *user) {
    device *d = g->device;
    if (!d->recording.begin) return work(user);
    int64_t generation = pool_generation(g->pool);
    if (!replay_knows(r, key) || r->generation != generation) {
        replay_forget(r, d);
        TRY(work(user)); /* memory grows as needed; nothing may move while work is recorded */
        *r = (replay){.key = *key, .generation = generation, .known = true};
        return LCKV_OK;
    }
    int status = r->program ? LCKV_OK : record_work(r, d, work, user);
    if (status >= 0) status = d->recording.replay(d, r->program);
    if (status < 0) replay_forget(r, d);
    return status;
}

static replay *find(replay_set *s, const replay_key *key) {
    for (int i = 0; i < REPLAY_SET; i++)
        if (replay_knows(&s->replays[i], key)) return &s->replays[i];
    return &s->replays[s->next++ % REPLAY_SET];
}

int replay_set_run(replay_set *s, graph *g, const replay_key *key, int (*work)(void *user), void *user) {
    return replay_run(find(s, key), g, key, work, user);
}

void replay_set_forget(replay_set *s, device *d) {
    for (int i = 0; i < REPLAY_SET; i++) replay_forget(&s->replays[i], d);
}
