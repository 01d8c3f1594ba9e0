/* One process alone, and joining others: see exchange.h and lckv_processes_open() in lckv.h. */
#include "train/exchange.h"

#include <stdlib.h>

static const exchange ALONE = {.rank = 0, .ranks = 1};

const exchange *exchange_alone(void) {
    return &ALONE;
}

int exchange_sum(const exchange *e, view v) {
    return e->ranks > 1 ? e->sum(e, v) : LCKV_OK;
}

int exchange_sum_parts(const exchange *e, exchange_parts parts) {
    return e->ranks > 1 ? e->sum_parts(e, parts) : LCKV_OK;
}

int exchange_gather_parts(const exchange *e, exchange_parts parts) {
    return e->ranks > 1 ? e->gather_parts(e, parts) : LCKV_OK;
}

int exchange_collect(const exchange *e, const void *mine, const int64_t *counts, void *all) {
    return e->ranks > 1 ? e->collect(e, mine, counts, all) : LCKV_OK;
}

int exchange_broadcast(const exchange *e, void *host, size_t bytes) {
    return e->ranks > 1 ? e->broadcast(e, host, bytes) : LCKV_OK;
}

int exchange_agree(const exchange *e, int status) {
    return e->ranks > 1 ? e->agree(e, status) : status;
}

int64_t exchange_share(const exchange *e, int64_t count, int64_t *first) {
    int64_t each = count / e->ranks, more = count % e->ranks;
    *first = each * e->rank + (e->rank < more ? e->rank : more);
    return each + (e->rank < more);
}
