/* Starts this program several times; see start_processes.h. */
#include "start_processes.h"
#include "cli/flags/flags.h"
#include "cli/output/output.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* After the first failure: seconds until the others get SIGTERM, and from then until they get SIGKILL. */
enum { GRACE_SECONDS = 10, STOP_SECONDS = 10 };

typedef struct job {
    const char *command;
    pid_t self;
    int count, running;
    pid_t *processes; /* [count]; 0: has ended */
    int failed;       /* rank of the process that failed first; -1: none */
    int failure;      /* its wait status */
    int stopping;     /* the last signal that this program sent by itself; 0: none */
    time_t next_stop; /* when to send the next one; 0: never */
} job;

/* ---------------------------------------------------------------- starting */

/* A free port P of the loopback interface; rank 0 listens at MASTER_PORT + 1. Returns P - 1, or 0. */
static int free_master_port(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;
    if (fd < 0) return 0;
    if (!bind(fd, (struct sockaddr *)&at, bytes) && !getsockname(fd, (struct sockaddr *)&at, &bytes))
        port = ntohs(at.sin_port) - 1;
    close(fd);
    return port;
}

static void set_number(const char *name, int number) {
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    setenv(name, text, 1);
}

/* In the new process. It stops, with a checkpoint, if its parent is killed. */
static void become_rank(const job *j, int rank, int port, const sigset_t *mask, char **argv) {
    int words = 0;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != j->self) _exit(EXIT_FAILED); /* it was killed before prctl() */
    while (argv[words]) words++;
    char **all = need(calloc((size_t)words + 2, sizeof *all));
    char program[] = "lckv";
    all[0] = program;
    memcpy(all + 1, argv, (size_t)words * sizeof *argv);
    set_number("RANK", rank);
    set_number("LOCAL_RANK", rank);
    set_number("WORLD_SIZE", j->count);
    set_number("LOCAL_WORLD_SIZE", j->count);
    set_number("MASTER_PORT", port);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execv("/proc/self/exe", all);
    failure(j->command, "cannot start process %d of %d: %s", rank, j->count, strerror(errno));
    _exit(EXIT_FAILED);
}

static void send_all(const job *j, int signal_number) {
    for (int r = 0; r < j->count; r++)
        if (j->processes[r] > 0) kill(j->processes[r], signal_number);
}

static int start_all(job *j, const sigset_t *mask, char **argv) {
    int port = free_master_port();
    if (port < 1) return failure(j->command, "no free port on the loopback interface: %s", strerror(errno));
    for (int r = 0; r < j->count; r++) {
        pid_t process = fork();
        if (process < 0) {
            failure(j->command, "cannot start process %d of %d: %s", r, j->count, strerror(errno));
            j->stopping = SIGKILL;
            send_all(j, j->stopping);
            return EXIT_FAILED;
        }
        if (!process) become_rank(j, r, port, mask, argv);
        j->processes[r] = process;
        j->running++;
    }
    return EXIT_FINE;
}

/* ---------------------------------------------------------------- waiting */

static int exit_code_of(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* A process that was killed comes before one that ended because of that. */
static bool is_worse(const job *j, int status) {
    if (j->stopping || status == 0) return false;
    return j->failed < 0 || (WIFSIGNALED(status) && !WIFSIGNALED(j->failure));
}

static void note_end(job *j, pid_t process, int status) {
    int rank = 0;
    while (rank < j->count && j->processes[rank] != process) rank++;
    if (rank == j->count) return;
    j->processes[rank] = 0;
    j->running--;
    if (j->failed < 0 && status) j->next_stop = time(NULL) + GRACE_SECONDS;
    if (!is_worse(j, status)) return;
    j->failed = rank;
    j->failure = status;
    if (WIFSIGNALED(status))
        failure(j->command, "process %d of %d was killed by signal %d (%s)", rank, j->count, WTERMSIG(status),
                strsignal(WTERMSIG(status)));
}

/* Stops processes that did not end by themselves after another one failed. */
static void stop_rest(job *j) {
    if (!j->next_stop || time(NULL) < j->next_stop) return;
    if (!j->stopping && !WIFSIGNALED(j->failure))
        failure(j->command, "process %d of %d ended with code %d; stopping the other processes", j->failed, j->count,
                exit_code_of(j->failure));
    j->stopping = j->stopping ? SIGKILL : SIGTERM;
    j->next_stop = time(NULL) + STOP_SECONDS;
    send_all(j, j->stopping);
}

/* Ctrl-C reaches the processes itself, because they are in the foreground with this one. The kernel is its sender. */
static void pass_on(const job *j, const siginfo_t *info) {
    bool typed = info->si_signo == SIGINT && info->si_code == SI_KERNEL;
    if (!typed) send_all(j, info->si_signo);
}

static void wait_all(job *j, const sigset_t *signals) {
    while (j->running > 0) {
        siginfo_t info;
        pid_t process;
        int status, number = sigtimedwait(signals, &info, &(struct timespec){.tv_sec = 1});
        if (number > 0 && number != SIGCHLD) pass_on(j, &info);
        while ((process = waitpid(-1, &status, WNOHANG)) > 0) note_end(j, process, status);
        stop_rest(j);
    }
}

int start_processes(int count, char **argv) {
    sigset_t signals, mask;
    job j = {.command = argv[0], .self = getpid(), .count = count, .failed = -1};
    const int handled[] = {SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGHUP};
    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) sigaddset(&signals, handled[i]);
    sigprocmask(SIG_BLOCK, &signals, &mask);
    j.processes = need(calloc((size_t)count, sizeof *j.processes));
    int code = start_all(&j, &mask, argv);
    wait_all(&j, &signals);
    free(j.processes);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return code == EXIT_FINE && j.failed >= 0 ? exit_code_of(j.failure) : code;
}
