/* Makes one allocation of the program fail, for tests/allocations/main.c.
 *
 * The linker puts these functions in place of malloc() and the others in lckv's own objects (ld --wrap). Shared
 * libraries keep the real ones, so that only what lckv itself asks for is counted and fails. A call is known by its
 * path: the innermost return addresses, which differ for two callers of one helper.
 *
 *   FAILING_ALLOCATION=record:DEPTH:FILE       appends at exit a line "PATH COUNT ADDRESS..." for each path; so do
 *                                              the processes that the program starts
 *   FAILING_ALLOCATION=fail:DEPTH:FILE:PATH:N  fails the N-th call of PATH, and makes FILE
 *
 * DEPTH is how many addresses make a path. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

enum { MAX_DEPTH = 8, MAX_PATHS = 1 << 15 };

extern const char __executable_start, etext; /* the linker creates these names */

typedef struct call_path {
    uint64_t key; /* 0: none */
    uint64_t count;
    uintptr_t addresses[MAX_DEPTH];
} call_path;

static struct {
    enum { IDLE, RECORD, FAIL } mode;
    int depth;
    char file[512];
    uint64_t key, count, wanted;
} plan;

static call_path paths[MAX_PATHS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---------------------------------------------------------------- paths */

typedef struct walk {
    uintptr_t from; /* return address of the wrapped call */
    bool begun;
    int depth;
    uintptr_t addresses[MAX_DEPTH];
} walk;

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *user) {
    walk *w = user;
    uintptr_t at = _Unwind_GetIP(context), first = (uintptr_t)&__executable_start;
    if (at == w->from) w->begun = true;
    if (!w->begun) return _URC_NO_REASON;
    if (at < first || at >= (uintptr_t)&etext) return _URC_NORMAL_STOP; /* called by a library */
    w->addresses[w->depth++] = at - first;
    return w->depth < plan.depth ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

static uint64_t key_of(const walk *w) {
    uint64_t key = 14695981039346656037u; /* FNV-1a */
    for (int i = 0; i < w->depth; i++)
        for (unsigned byte = 0; byte < sizeof(uintptr_t); byte++)
            key = (key ^ (w->addresses[i] >> (8 * byte) & 0xff)) * 1099511628211u;
    return key ? key : 1;
}

static void record(const walk *w, uint64_t key) {
    size_t at = key % MAX_PATHS;
    while (paths[at].key && paths[at].key != key) at = (at + 1) % MAX_PATHS;
    paths[at].key = key;
    paths[at].count++;
    memcpy(paths[at].addresses, w->addresses, sizeof w->addresses);
}

/* Whether the call with this return address fails. */
static bool fails(const void *from) {
    if (plan.mode == IDLE) return false;
    walk w = {.from = (uintptr_t)from};
    _Unwind_Backtrace(step, &w);
    uint64_t key = key_of(&w);
    bool now = false;
    pthread_mutex_lock(&lock);
    if (plan.mode == RECORD)
        record(&w, key);
    else if (key == plan.key)
        now = ++plan.count == plan.wanted;
    pthread_mutex_unlock(&lock);
    if (!now) return false;
    int fd = open(plan.file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0) close(fd);
    errno = ENOMEM;
    return true;
}

/* ---------------------------------------------------------------- start and exit */

static void __attribute__((constructor)) begin(void) {
    const char *text = getenv("FAILING_ALLOCATION");
    char mode[8];
    if (!text) return;
    int found =
        sscanf(text, "%7[^:]:%d:%511[^:]:%" SCNx64 ":%" SCNu64, mode, &plan.depth, plan.file, &plan.key, &plan.wanted);
    bool good = (found == 3 && !strcmp(mode, "record")) || (found == 5 && !strcmp(mode, "fail"));
    if (!good || plan.depth < 1 || plan.depth > MAX_DEPTH) {
        fprintf(stderr, "FAILING_ALLOCATION: not understood: \"%s\"\n", text);
        _exit(99);
    }
    plan.mode = found == 3 ? RECORD : FAIL;
}

static void __attribute__((destructor)) end(void) {
    if (plan.mode != RECORD) return;
    plan.mode = IDLE;
    FILE *file = fopen(plan.file, "a");
    for (size_t i = 0; file && i < MAX_PATHS; i++) {
        if (!paths[i].key) continue;
        fprintf(file, "%016" PRIx64 " %" PRIu64, paths[i].key, paths[i].count);
        for (int k = 0; k < plan.depth && paths[i].addresses[k]; k++)
            fprintf(file, " 0x%" PRIxPTR, paths[i].addresses[k]);
        fputc('\n', file);
    }
    if (file) fclose(file);
}

/* ---------------------------------------------------------------- the wrapped functions */

#define WRAP(type, name, parameters, arguments, failed)                                                                \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    __attribute__((noinline)) type __wrap_##name parameters {                                                          \
        return fails(__builtin_return_address(0)) ? (failed) : __real_##name arguments;                                \
    }

WRAP(void *, malloc, (size_t bytes), (bytes), NULL)
WRAP(void *, calloc, (size_t count, size_t bytes), (count, bytes), NULL)
WRAP(void *, realloc, (void *old, size_t bytes), (old, bytes), NULL)
WRAP(void *, aligned_alloc, (size_t alignment, size_t bytes), (alignment, bytes), NULL)
WRAP(char *, strdup, (const char *text), (text), NULL)
WRAP(char *, strndup, (const char *text, size_t bytes), (text, bytes), NULL)
WRAP(char *, realpath, (const char *path, char *to), (path, to), NULL)
WRAP(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
WRAP(FILE *, fdopen, (int fd, const char *mode), (fd, mode), NULL)
WRAP(FILE *, open_memstream, (char **text, size_t *bytes), (text, bytes), NULL)
WRAP(DIR *, opendir, (const char *path), (path), NULL)
WRAP(ssize_t, getline, (char **line, size_t *room, FILE *file), (line, room, file), -1)
WRAP(void *, mmap, (void *at, size_t bytes, int protection, int flags, int fd, off_t offset),
     (at, bytes, protection, flags, fd, offset), MAP_FAILED)
WRAP(int, scandir,
     (const char *path, struct dirent ***names, int (*filter)(const struct dirent *),
      int (*compare)(const struct dirent **, const struct dirent **)),
     (path, names, filter, compare), -1)
WRAP(int, glob, (const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *found),
     (pattern, flags, on_error, found), GLOB_NOSPACE)
WRAP(int, pthread_create, (pthread_t * thread, const pthread_attr_t *how, void *(*run)(void *), void *user),
     (thread, how, run, user), EAGAIN)
