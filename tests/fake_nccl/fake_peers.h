/* Memory of a GPU that the processes of a test share, and the sums in it; for test_collectives_nccl.c. */
#ifndef FAKE_PEERS_H
#define FAKE_PEERS_H

#include <stdbool.h>

struct fake_peers {
    bool cannot_open;     /* the memory of other processes */
    bool wrong;           /* this process writes wrong numbers */
    bool returns_at_once; /* a sum runs beside the process until this process waits for the GPU */
    int sums;             /* begun */
    int stopped;
    int held; /* allocations and open handles */
};

extern struct fake_peers fake_peers;

#endif
