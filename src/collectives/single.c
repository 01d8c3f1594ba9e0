/* The single rank's table: every collective of one rank leaves its data as it is. */
#include "collectives/collectives.h"

#include <math.h>
#include <string.h>

static int keep_view(const collectives *c, view v) {
    (void)c, (void)v;
    return LCKV_OK;
}

static int keep_parts(const collectives *c, collectives_parts parts) {
    (void)c, (void)parts;
    return LCKV_OK;
}

static int broadcast(const collectives *c, view v, int root) {
    (void)c, (void)v, (void)root;
    return LCKV_OK;
}

static int pass_number(const collectives *c, int number) {
    (void)c, (void)number;
    return LCKV_OK;
}

static int barrier(const collectives *c) {
    (void)c;
    return LCKV_OK;
}

static int gather_host(const collectives *c, const void *mine, const int64_t *counts, void *all) {
    (void)c;
    if (counts[0] && all != mine) memcpy(all, mine, (size_t)counts[0]);
    return LCKV_OK;
}

static int broadcast_host(const collectives *c, void *host, size_t bytes) {
    (void)c, (void)host, (void)bytes;
    return LCKV_OK;
}

static int agree(const collectives *c, int status) {
    (void)c;
    return status;
}

static int do_nothing(const collectives *c) {
    (void)c;
    return LCKV_OK;
}

static void give_up(const collectives *c) {
    (void)c;
}

static void count_waits(const collectives *c, int slot) {
    (void)c, (void)slot;
}

static double waited(const collectives *c, int slot) {
    (void)c, (void)slot;
    return NAN;
}

static void leave_open(collectives *c) {
    (void)c;
}

static const collectives SINGLE = {.ops = {.all_reduce = keep_view,
                                           .reduce_scatter = keep_parts,
                                           .all_gather = keep_parts,
                                           .broadcast = broadcast,
                                           .point = pass_number,
                                           .begin_aside = pass_number,
                                           .end_aside = pass_number,
                                           .join_aside = pass_number,
                                           .barrier = barrier,
                                           .gather_host = gather_host,
                                           .broadcast_host = broadcast_host,
                                           .agree = agree,
                                           .await = do_nothing,
                                           .give_up = give_up,
                                           .replayed = do_nothing,
                                           .count_waits = count_waits,
                                           .waited = waited,
                                           .close = leave_open},
                                   .rank = 0,
                                   .ranks = 1};

const collectives *collectives_single(void) {
    return &SINGLE;
}

int collectives_single_open(collectives **out) {
    return collectives_copy(&SINGLE, out);
}
