/* Complete gradients in the backward pass; see gradient_points.h. */
#include "train/step/gradient_points.h"

#include <stddef.h>
#include <stdlib.h>

int gradient_points_create(const shards *s, gradient_points *out) {
    *out = (gradient_points){0};
    if (s->collectives->ranks == 1 || s->divides_weights) return LCKV_OK;
    out->open = calloc((size_t)s->count, sizeof *out->open);
    REQUIRE(out->open, LCKV_ERROR_MEMORY, "no memory for the gradients of %d units of weights", s->count);
    out->shards = s;
    return LCKV_OK;
}

void gradient_points_free(gradient_points *p) {
    free(p->open);
    *p = (gradient_points){0};
}

/* With `all`, also the points of units that are not complete as far as the tape knows. */
static int pass_points(gradient_points *p, bool all) {
    for (; p->next < p->shards->count; p->next++) {
        int unit = shards_backward_unit(p->shards, p->next);
        if (!all && p->open[unit]) return LCKV_OK;
        TRY(collectives_point(p->shards->collectives, unit));
    }
    return LCKV_OK;
}

static int complete(void *user, tensor *t) {
    gradient_points *p = user;
    const weight *w = (const weight *)(const void *)((const char *)t - offsetof(weight, tensor));
    p->open[p->shards->unit_of[w - p->shards->params->table]]--;
    return LCKV_OK;
}

static int attention_begins(void *user) {
    return pass_points(user, false);
}

/* A weight without records has no gradient, or got it in the forward pass. */
int gradient_points_begin(gradient_points *p, graph *g) {
    const shards *s = p->shards;
    if (!s) return LCKV_OK;
    p->next = 0;
    for (int i = 0; i < s->count; i++) p->open[i] = 0;
    for (int i = 0; i < s->params->count; i++) p->open[s->unit_of[i]] += s->params->table[i].tensor.uses > 0;
    if (s->count == 1) return LCKV_OK; /* an adapter: complete at the end */
    g->gradient_ready = complete;
    g->attention_begins = attention_begins;
    g->gradient_ready_user = g->attention_user = p;
    return LCKV_OK;
}

int gradient_points_end(gradient_points *p, graph *g) {
    if (!p->shards) return LCKV_OK;
    if (g->gradient_ready) g->attention_begins = NULL;
    g->gradient_ready = NULL;
    return pass_points(p, true);
}

int gradient_points_finish(gradient_points *p) {
    bool passed = p->passed;
    p->passed = false;
    if (passed || !p->shards) return LCKV_OK;
    p->next = 0;
    return pass_points(p, true);
}
