/* Two threads for work on requests, see intake.h. */
#include "intake.h"

enum { SMALL, LARGE, LANES };

typedef struct lane {
    struct intake *intake;
    server server; /* with a tokenizer and a template that are this thread's own */
    pthread_t thread;
    bool runs;
    pthread_cond_t posted;
    visit *first, *last; /* under the lock */
} lane;

struct intake {
    pthread_mutex_t lock;
    bool stop; /* under the lock */
    lane lanes[LANES];
};

static visit *take(lane *l) {
    pthread_mutex_lock(&l->intake->lock);
    while (!l->first && !l->intake->stop) pthread_cond_wait(&l->posted, &l->intake->lock);
    visit *v = l->first;
    if (v) l->first = v->next;
    pthread_mutex_unlock(&l->intake->lock);
    return v;
}

static void *run(void *user) {
    lane *l = user;
    for (visit *v; (v = take(l));) {
        struct MHD_Connection *c = v->asker.connection;
        v->left = holds_client_gone(c);
        bool goes_on = v->left || v->work(&l->server, v);
        if (goes_on) holds_end(&l->server.shared->holds, c);
    }
    return NULL;
}

void intake_post(intake *in, visit *v, bool large) {
    lane *l = &in->lanes[large ? LARGE : SMALL];
    pthread_mutex_lock(&in->lock);
    v->next = NULL;
    if (l->first)
        l->last->next = v;
    else
        l->first = v;
    l->last = v;
    pthread_cond_signal(&l->posted);
    pthread_mutex_unlock(&in->lock);
}

static bool start_lane(intake *in, lane *l, const server *like, char error[SERVE_ERROR_BYTES]) {
    l->intake = in;
    l->server = *like;
    pthread_cond_init(&l->posted, NULL);
    if (!server_open_texts(&l->server, error)) return false;
    l->runs = pthread_create(&l->thread, NULL, run, l) == 0;
    if (!l->runs) string_copy(error, SERVE_ERROR_BYTES, "cannot start a thread");
    return l->runs;
}

bool intake_start(const server *like, intake **out, char error[SERVE_ERROR_BYTES]) {
    intake *in = *out = calloc(1, sizeof *in);
    string_copy(error, SERVE_ERROR_BYTES, "not enough memory to serve");
    if (!in) return false;
    pthread_mutex_init(&in->lock, NULL);
    for (int i = 0; i < LANES; i++)
        if (!start_lane(in, &in->lanes[i], like, error)) return false; /* the caller stops what runs */
    return true;
}

void intake_stop(intake *in) {
    if (!in) return;
    pthread_mutex_lock(&in->lock);
    in->stop = true;
    for (int i = 0; i < LANES; i++)
        if (in->lanes[i].intake) pthread_cond_signal(&in->lanes[i].posted);
    pthread_mutex_unlock(&in->lock);
    for (int i = 0; i < LANES; i++) {
        if (in->lanes[i].runs) pthread_join(in->lanes[i].thread, NULL);
        if (in->lanes[i].intake) {
            server_close_texts(&in->lanes[i].server);
            pthread_cond_destroy(&in->lanes[i].posted);
        }
    }
    pthread_mutex_destroy(&in->lock);
    free(in);
}
