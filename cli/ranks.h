/* --tensor_parallel: several processes run one model, each with a part of it. lckv starts them, or joins those that a
 * launcher has started. Rank 0 runs the command; the others only follow it. */
#ifndef CLI_RANKS_H
#define CLI_RANKS_H

#include "cli/flags/flags.h"
#include "lckv.h"

/* Flags for commands with a struct rank_flags, which is `member`. */
#define FLAGS_RANKS(options, member)                                                                                   \
    {"tensor_parallel",                                                                                                \
     FLAG_INT,                                                                                                         \
     "1",                                                                                                              \
     "Processes",                                                                                                      \
     "number of processes that run the model together, each with a part of its weights and KV cache, on a GPU of its " \
     "own; lckv starts them on this host unless a launcher (torchrun, srun, mpirun) has",                              \
     FLAG_INTO(options, member.tensor_parallel),                                                                       \
     .min = 1,                                                                                                         \
     .max = 1024},                                                                                                     \
    {                                                                                                                  \
        "ddp_timeout", FLAG_NUMBER, "1800", "Processes",                                                               \
            "seconds to wait for the other processes of --tensor_parallel, at the start and in each exchange of "      \
            "data, "                                                                                                   \
            "before the command ends with an error; no limit with mpirun",                                             \
            FLAG_INTO(options, member.timeout), .min = 1, .max = 1e9                                                   \
    }

struct rank_flags {
    int64_t tensor_parallel; /* 1: this process alone */
    double timeout;          /* seconds */
    struct rank_run *run;    /* of ranks_run(); NULL: this process alone */
};

typedef int (*rank_work)(void *user);

/* Runs `lead` on rank 0 and `follow` on the others; without --tensor_parallel runs `lead`. `argv` are the words of
 * the command line, with which the others are started. Both return an exit code. Both open the same `models` models
 * one after another, and `follow` calls ranks_follow() with each. If `lead` fails before it has opened them, opening
 * fails in `follow`, too. Returns an exit code. */
int ranks_run(const char *command, char **argv, struct rank_flags *flags, int models, rank_work lead, rank_work follow,
              void *user);

/* The processes that the next model is divided between; NULL: it is not divided. */
lckv_processes *ranks_processes(const struct rank_flags *flags);
/* After the model has been opened. */
void ranks_opened(const struct rank_flags *flags);

/* lckv_model_follow(). Returns an exit code after printing the error, also while output is muted. */
int ranks_follow(const char *command, const struct rank_flags *flags, lckv_model *model);

#endif
