/* What all ranks need to know of each: names of hosts, numbers. In host memory, while ranks open something together. */
#include "collectives/collectives.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int collectives_gather_host_for_all(const collectives *c, const void *mine, size_t bytes, void *all) {
    int64_t *counts = malloc((size_t)c->ranks * sizeof *counts);
    int status = counts ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for the sizes of %d processes", c->ranks);
    for (int r = 0; counts && r < c->ranks; r++) counts[r] = (int64_t)bytes;
    status = collectives_agree(c, status);
    if (status >= 0) status = collectives_gather_host(c, mine, counts, all);
    if (status >= 0) status = collectives_broadcast_host(c, all, (size_t)c->ranks * bytes);
    free(counts);
    return status;
}

/* Containers of one machine have names of their own. */
typedef struct host_name {
    char name[256], boot[64];
} host_name;

static host_name this_host(void) {
    host_name h = {{0}, {0}};
    gethostname(h.name, sizeof h.name - 1);
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (file && !fgets(h.boot, sizeof h.boot, file)) h.boot[0] = '\0';
    if (file) fclose(file);
    return h;
}

int collectives_ranks_here(const collectives *c, int *count) {
    host_name mine = this_host(), *all = calloc((size_t)c->ranks, sizeof *all);
    *count = 0;
    int status = all ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for the names of %d hosts", c->ranks);
    status = collectives_agree(c, status);
    if (status >= 0) status = collectives_gather_host_for_all(c, &mine, sizeof mine, all);
    for (int r = 0; status >= 0 && r < c->ranks; r++) *count += memcmp(&all[r], &mine, sizeof mine) == 0;
    free(all);
    return status;
}

int collectives_smallest(const collectives *c, double *number) {
    double *all = calloc((size_t)c->ranks, sizeof *all);
    int status = all ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for the numbers of %d processes", c->ranks);
    status = collectives_agree(c, status);
    if (status >= 0) status = collectives_gather_host_for_all(c, number, sizeof *number, all);
    for (int r = 0; status >= 0 && r < c->ranks; r++)
        if (all[r] < *number) *number = all[r];
    free(all);
    return status;
}
