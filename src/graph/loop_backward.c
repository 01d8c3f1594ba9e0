/* Several walks over the records of a loop, see graph_backward_loop() in graph.h. */
#include "graph/tape.h"

#include <stdlib.h>

#define RUN(g, op, ...) DEVICE_RUN((g)->device, op, __VA_ARGS__)

/* A gradient that has reached a tensor of the loop from above. */
typedef struct seed {
    tensor *of;
    view grad; /* owned */
} seed;

typedef struct seeds {
    seed *all;
    int count, capacity;
} seeds;

static int take_seed(graph *g, seeds *s, tensor *t) {
    if (!t || !t->grad.data) return LCKV_OK;
    if (s->count == s->capacity) {
        int capacity = s->capacity ? 2 * s->capacity : 16;
        seed *all = realloc(s->all, (size_t)capacity * sizeof *all);
        REQUIRE(all, LCKV_ERROR_MEMORY, "no memory for the gradients of %d tensors", capacity);
        s->all = all;
        s->capacity = capacity;
    }
    s->all[s->count++] = (seed){t, t->grad};
    t->grad.data = NULL;
    tensor_drop_gradient(g, t); /* the rounded one */
    return LCKV_OK;
}

/* Moves the gradients of everything that the records make. */
static int take_seeds(graph *g, int first, seeds *s) {
    for (int i = first; i < g->tape->count; i++) {
        const record *r = &g->tape->records[i];
        TRY(take_seed(g, s, r->out));
        for (int j = 0; j < WORK_OUTPUTS; j++) TRY(take_seed(g, s, r->outputs[j]));
    }
    return LCKV_OK;
}

static int give_copies(graph *g, const seeds *s) {
    for (int i = 0; i < s->count; i++) {
        const seed *from = &s->all[i];
        if (!from->of->sought) continue;
        from->of->grad.type = from->grad.type;
        TRY(pool_take(g->pool, view_bytes(from->grad), &from->of->grad.data));
        TRY(RUN(g, cast, &((struct op_cast){from->grad, from->of->grad})));
    }
    return LCKV_OK;
}

static void give_back(const seeds *s) {
    for (int i = 0; i < s->count; i++) s->all[i].of->grad = s->all[i].grad;
}

/* The gradients of s add to those of s'. */
static int feed_back(graph *g, tensor *const *read, tensor *const *written, int count) {
    for (int i = 0; i < count; i++) {
        if (!read[i] || !read[i]->grad.data) continue;
        TRY(tape_pass_gradient(g, read[i], written[i]));
        tensor_drop_gradient(g, read[i]);
    }
    return LCKV_OK;
}

static void drop_gradients(graph *g, const record *r) {
    if (r->out) tensor_drop_gradient(g, r->out);
    for (int i = 0; i < WORK_OUTPUTS; i++)
        if (r->outputs[i]) tensor_drop_gradient(g, r->outputs[i]);
}

static void count_uses(const record *r, int change) {
    for (int i = 0; i < RECORD_INPUTS; i++)
        if (r->in[i]) r->in[i]->uses += change;
}

/* Uses are counted down as in other walks, so that gradients have the same types. */
static int walk_and_keep(graph *g, int first) {
    tape *t = g->tape;
    int last = t->count - 1;
    for (int i = last; i >= first; i--) {
        record *r = &t->records[i];
        if ((!r->out || r->out->grad.data) && tape_leads_on(g, r)) TRY(r->backward(g, r));
        r = &t->records[i]; /* recomputed work may have moved the records */
        drop_gradients(g, r);
        count_uses(r, -1);
    }
    for (int i = first; i <= last; i++) count_uses(&t->records[i], 1);
    return LCKV_OK;
}

static int walk(graph *g, int first, int walks, tensor *const *read, tensor *const *written, int count, seeds *s) {
    TRY(take_seeds(g, first, s));
    tape_mark_sought(g, first);
    for (int i = 1; i < walks; i++) {
        TRY(give_copies(g, s));
        TRY(feed_back(g, read, written, count));
        g->keeping = true;
        int status = walk_and_keep(g, first);
        g->keeping = false;
        TRY(status);
    }
    give_back(s);
    TRY(feed_back(g, read, written, count));
    return tape_walk(g, first);
}

int graph_backward_loop(graph *g, int first, int walks, tensor *const *read, tensor *const *written, int count) {
    seeds s = {0};
    int status = walk(g, first, walks, read, written, count, &s);
    free(s.all); /* after a failure graph_reset() reclaims the gradients */
    return status;
}
