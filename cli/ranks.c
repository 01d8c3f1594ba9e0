/* Processes that run one model together; see ranks.h. */
#include "ranks.h"
#include "cli/output/output.h"
#include "start_processes.h"

#include <signal.h>
#include <stdio.h>

struct rank_run {
    lckv_processes *processes;
    int models, opened;
};

lckv_processes *ranks_processes(const struct rank_flags *flags) {
    return flags->run ? flags->run->processes : NULL;
}

void ranks_opened(const struct rank_flags *flags) {
    if (flags->run) flags->run->opened++;
}

/* Ctrl-C and schedulers reach all processes. Rank 0 stops, and the others stop with it. */
static void ignore_stop_signals(void) {
    static const int SIGNALS[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};
    const struct sigaction ignored = {.sa_handler = SIG_IGN};
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++) sigaction(SIGNALS[i], &ignored, NULL);
}

/* Rank 0 prints before the processes close, because launchers end all processes when one fails. If it fails before it
 * has opened a model, the others wait for it there. */
static int run_rank(struct rank_run *run, rank_work lead, rank_work follow, void *user) {
    if (lckv_processes_rank(run->processes) > 0) {
        ignore_stop_signals();
        output_mute();
        return follow(user);
    }
    int code = lead(user);
    if (run->opened < run->models) lckv_processes_give_up(run->processes);
    print_flush();
    return code;
}

static int join(const char *command, struct rank_flags *flags, rank_work lead, rank_work follow, void *user) {
    struct rank_run *run = flags->run;
    int status = lckv_processes_open(flags->timeout, &run->processes);
    if (status < 0) return library_error(command, status);
    int count = lckv_processes_count(run->processes), code = EXIT_FINE;
    if (count != flags->tensor_parallel)
        code = usage_error(command, "--tensor_parallel is %lld, but the launcher started %d process%s",
                           (long long)flags->tensor_parallel, count, count == 1 ? "" : "es");
    if (!code) code = run_rank(run, lead, follow, user);
    lckv_processes_close(run->processes);
    return code;
}

int ranks_run(const char *command, char **argv, struct rank_flags *flags, int models, rank_work lead, rank_work follow,
              void *user) {
    struct rank_run run = {.models = models};
    int announced;
    if (flags->tensor_parallel == 1) return lead(user);
    int status = lckv_processes_announced(&announced);
    if (status < 0) return library_error(command, status);
    if (announced == 1) return start_processes((int)flags->tensor_parallel, argv);
    flags->run = &run;
    return join(command, flags, lead, follow, user);
}

int ranks_follow(const char *command, const struct rank_flags *flags, lckv_model *model) {
    if (lckv_model_follow(model) >= 0) return EXIT_FINE;
    fprintf(stderr, "lckv %s: rank %d: %s\n", command, lckv_processes_rank(flags->run->processes), lckv_last_error());
    return EXIT_FAILED;
}
