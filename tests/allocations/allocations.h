/* The commands whose allocations fail (scenarios.c), for main.c. */
#ifndef TESTS_ALLOCATIONS_H
#define TESTS_ALLOCATIONS_H

#include "base/files/file.h"

#include "hub_server.h"
#include "model_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { FULL_DEPTH = 5 };

/* Result of a run. */
typedef struct ending {
    int code; /* exit code, or 128 + the signal that ended it */
    char *output, *messages;
    char *answer; /* of a server; NULL: no server */
    bool failed;  /* the allocation was reached and failed */
} ending;

/* Arguments, input and outputs are file names in the scenario's folder, in which the program runs. */
typedef struct scenario {
    const char *name;
    const char *words[48];
    const char *input;      /* of standard input; NULL: none */
    const char *results[4]; /* files that a run with exit code 0 must write, with the same content each time */
    const char *interrupt;  /* shell commands that prepare `out` for a run that resumes it; NULL: `out` is absent */
    int more_errors;        /* further lines of errors that may come: the same call fails in several processes */
    bool varies;            /* standard output differs between runs, for example by times */
    void (*use)(const folder *f, pid_t process, ending *e); /* talks to the running program and ends it; NULL: none */
} scenario;

extern const scenario SCENARIOS[]; /* the last one has no name */

/* Creates what a scenario needs besides the small model: files, environment, hub. */
void prepare(const scenario *s, const folder *f);
void finish(const scenario *s);

void copy_tree(const char *from, const char *to);
bool has_partial_files(const char *path);

#endif
