/* Request threads, see request_threads.h. */
#include "request_threads.h"

enum { SMALL, LARGE, LANES };

typedef struct lane {
    struct request_threads *owner;
    server server; /* with the tokenizer and the chat template of this thread */
    pthread_t thread;
    bool running;
    pthread_cond_t submitted;
    http_request *first, *last; /* FIFO queue, protected by the lock */
} lane;

struct request_threads {
    pthread_mutex_t lock;
    bool stop; /* protected by the lock */
    lane lanes[LANES];
};

static http_request *take(lane *l) {
    pthread_mutex_lock(&l->owner->lock);
    while (!l->first && !l->owner->stop) pthread_cond_wait(&l->submitted, &l->owner->lock);
    http_request *r = l->first;
    if (r) l->first = r->next;
    pthread_mutex_unlock(&l->owner->lock);
    return r;
}

static void *run(void *user) {
    lane *l = user;
    for (http_request *r; (r = take(l));) {
        struct MHD_Connection *c = r->client.connection;
        r->client_gone = connection_client_gone(c);
        bool should_run = r->client_gone || r->work(&l->server, r);
        if (should_run) suspended_resume(&l->server.shared->suspended, c);
    }
    return NULL;
}

void request_threads_submit(request_threads *in, http_request *r, bool large) {
    lane *l = &in->lanes[large ? LARGE : SMALL];
    pthread_mutex_lock(&in->lock);
    r->next = NULL;
    if (l->first)
        l->last->next = r;
    else
        l->first = r;
    l->last = r;
    pthread_cond_signal(&l->submitted);
    pthread_mutex_unlock(&in->lock);
}

static bool start_lane(request_threads *in, lane *l, const server *like, char error[SERVE_ERROR_BYTES]) {
    l->owner = in;
    l->server = *like;
    pthread_cond_init(&l->submitted, NULL);
    if (!server_open_tokenizer(&l->server, error)) return false;
    l->running = pthread_create(&l->thread, NULL, run, l) == 0;
    if (!l->running) string_copy(error, SERVE_ERROR_BYTES, "cannot start a thread");
    return l->running;
}

bool request_threads_start(const server *like, request_threads **out, char error[SERVE_ERROR_BYTES]) {
    request_threads *in = *out = calloc(1, sizeof *in);
    string_copy(error, SERVE_ERROR_BYTES, "not enough memory for the server");
    if (!in) return false;
    pthread_mutex_init(&in->lock, NULL);
    for (int i = 0; i < LANES; i++)
        if (!start_lane(in, &in->lanes[i], like, error)) return false; /* the caller stops the threads that run */
    return true;
}

void request_threads_stop(request_threads *in) {
    if (!in) return;
    pthread_mutex_lock(&in->lock);
    in->stop = true;
    for (int i = 0; i < LANES; i++)
        if (in->lanes[i].owner) pthread_cond_signal(&in->lanes[i].submitted);
    pthread_mutex_unlock(&in->lock);
    for (int i = 0; i < LANES; i++) {
        if (in->lanes[i].running) pthread_join(in->lanes[i].thread, NULL);
        if (in->lanes[i].owner) {
            server_close_tokenizer(&in->lanes[i].server);
            pthread_cond_destroy(&in->lanes[i].submitted);
        }
    }
    pthread_mutex_destroy(&in->lock);
    free(in);
}
