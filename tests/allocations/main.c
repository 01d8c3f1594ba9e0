/* allocations [--full | --list] [COMMAND...]: fails each allocation of lckv's commands in turn and checks how they end.
 *
 * A first run records the calls (failing.c). Then each call path fails once at its first call and once at its last one.
 * A command may end with an error that says that memory ran out, or with the result of the undisturbed run where the
 * memory was not needed. It must not crash, hang, leave a partial file behind or, where built with sanitizers, leak.
 *
 * By default a path is one return address and only its first call fails; with --full it is five addresses. Exit status:
 * 0 when everything holds, 1 when something does not, 2 when the arguments are wrong. --list prints the commands. */
#include "allocations.h"

#include <time.h>

enum { HANG_SECONDS = 120, MAX_SHOWN = 20 };

typedef struct call_path {
    char key[17], addresses[200];
    long count;
} call_path;

typedef struct totals {
    int runs, refused, unharmed, missed, wrong;
} totals;

static bool full;
static const char *program = FAILING_PROGRAM;

/* ---------------------------------------------------------------- one run */

/* `plan` is the value of FAILING_ALLOCATION; NULL: records nothing, fails nothing. */
static pid_t start(const scenario *s, const folder *f, const char *plan) {
    pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const char *const names[] = {s->input ? in(f, s->input) : "/dev/null", in(f, "stdout"), in(f, "stderr")};
    for (int i = 0; i < 3; i++) {
        int fd = open(names[i], i ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0666);
        if (dup2(fd, i) < 0) _exit(99);
    }
    if (plan) setenv("FAILING_ALLOCATION", plan, 1);
    if (chdir(f->path)) _exit(99);
    alarm(HANG_SECONDS);
    execv(program, (char **)(uintptr_t)s->words);
    _exit(99);
}

static int wait_for(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void make_fresh(const scenario *s, const folder *f) {
    const char *const written[] = {"out", "home", "cache"};
    for (int i = 0; i < 3; i++) remove_tree(in(f, written[i]));
    static const char *const NAMES[] = {"failed", "stdout", "stderr"};
    for (int i = 0; i < 3; i++) unlink(in(f, NAMES[i]));
    if (s->interrupt)
        copy_tree(in(f, "started"), in(f, "out"));
    else if (s->results[0])
        mkdir(in(f, "out"), 0777);
}

static ending run_once(const scenario *s, const folder *f, const char *plan) {
    size_t bytes;
    ending e = {0};
    make_fresh(s, f);
    pid_t child = start(s, f, plan);
    if (s->use) s->use(f, child, &e);
    e.code = wait_for(child);
    e.output = get(in(f, "stdout"), &bytes);
    e.messages = get(in(f, "stderr"), &bytes);
    e.failed = file_exists(in(f, "failed"));
    return e;
}

static void ending_free(ending *e) {
    free(e->output);
    free(e->messages);
    free(e->answer);
    *e = (ending){0};
}

/* ---------------------------------------------------------------- checks */

static bool says_memory(const char *text) {
    static const char *const WORDS[] = {"no memory", "out of memory", "enough memory", "Cannot allocate memory",
                                        "cannot start a thread"};
    for (size_t i = 0; text && i < sizeof WORDS / sizeof *WORDS; i++)
        if (strstr(text, WORDS[i])) return true;
    return false;
}

static int lines_of_errors(const scenario *s, const char *messages) {
    int count = 0;
    size_t name = strlen(s->words[1]);
    for (const char *at = messages; (at = strstr(at, "lckv")); at += 4) {
        bool first = at == messages || at[-1] == '\n';
        bool named = at[4] == ' ' && !strncmp(at + 5, s->words[1], name) && at[5 + name] == ':';
        count += first && (named || at[4] == ':');
    }
    return count;
}

static bool same_file(const char *left, const char *right) {
    size_t a, b;
    char *x, *y;
    if (file_read(left, &x, &a) < 0) return false;
    bool same = file_read(right, &y, &b) >= 0;
    if (!same) return free(x), false;
    same = a == b && !memcmp(x, y, a);
    free(x);
    free(y);
    return same;
}

/* Checks a run with exit code 0; NULL, or what is wrong. */
static const char *check_success(const scenario *s, const folder *f, const ending *e, const ending *whole) {
    if (!s->varies && strcmp(e->output, whole->output)) return "exit code 0 with another output";
    if (s->use && strcmp(e->answer, whole->answer) && !says_memory(e->answer)) return "another answer";
    if (s->use && strstr(e->answer, "400 ")) return "the client is blamed";
    for (int i = 0; s->results[i]; i++) {
        char kept[PATH_BYTES];
        snprintf(kept, sizeof kept, "whole-%d", i);
        if (!same_file(in(f, s->results[i]), in(f, kept))) return "exit code 0 with another file";
    }
    return NULL;
}

static const char *check_failure(const scenario *s, const folder *f, const ending *e) {
    if (e->code == 128 + SIGALRM) return "hangs";
    if (e->code >= 128) return "crashes";
    if (strstr(e->messages, "Sanitizer")) return "a sanitizer's report";
    if (e->code != 1) return "exit code";
    int lines = lines_of_errors(s, e->messages);
    if (lines < 1 || lines > s->more_errors + 1) return lines ? "too many lines of errors" : "no line of errors";
    if (!says_memory(e->messages)) return "the error does not speak of memory";
    return has_partial_files(in(f, "out")) ? "leaves a partial file" : NULL;
}

/* ---------------------------------------------------------------- all runs */

static void show(const char *text, const char *margin) {
    int lines = 0;
    for (const char *at = text; *at && lines < 12; lines++) {
        int length = (int)strcspn(at, "\n");
        printf("%s%.*s\n", margin, length, at);
        at += length + (at[length] == '\n');
    }
}

/* Prints the source line of a path, from addr2line. */
static void show_path(const call_path *p) {
    char command[1024];
    fflush(stdout);
    snprintf(command, sizeof command, "addr2line -s -f -p -i -e '%s' %s | sed 's/^/    /'", program, p->addresses);
    if (system(command)) printf("    %s\n", p->addresses);
}

static void run_failing(const scenario *s, const folder *f, const call_path *p, long number, const ending *whole,
                        totals *t) {
    char plan[2 * PATH_BYTES];
    snprintf(plan, sizeof plan, "fail:%d:%s:%s:%ld", full ? FULL_DEPTH : 1, in(f, "failed"), p->key, number);
    ending e = run_once(s, f, plan);
    t->runs++;
    t->missed += !e.failed;
    t->refused += e.code != 0;
    t->unharmed += e.failed && e.code == 0;
    const char *wrong = e.code ? check_failure(s, f, &e) : check_success(s, f, &e, whole);
    if (!e.failed && e.code == 0 && s->use) wrong = NULL;
    if (wrong && t->wrong++ < MAX_SHOWN) {
        printf("%s: call %ld of %ld: %s (exit code %d)\n", s->name, number, p->count, wrong, e.code);
        show_path(p);
        show(e.messages, "    | ");
        if (e.answer) show(e.answer, "    > ");
    }
    ending_free(&e);
}

static bool run_whole(const scenario *s, const folder *f, ending *whole) {
    char plan[2 * PATH_BYTES];
    snprintf(plan, sizeof plan, "record:%d:%s", full ? FULL_DEPTH : 1, in(f, "paths"));
    *whole = run_once(s, f, plan);
    if (whole->code) {
        printf("%s: exit code %d where nothing fails\n", s->name, whole->code);
        show(whole->messages, "    | ");
        return false;
    }
    for (int i = 0; s->results[i]; i++) {
        char kept[PATH_BYTES];
        size_t bytes;
        snprintf(kept, sizeof kept, "whole-%d", i);
        char *content = get(in(f, s->results[i]), &bytes);
        put(in(f, kept), content, bytes);
        free(content);
    }
    return true;
}

/* Each process of the program has written its paths; a path that several have is run once. */
static void merge_paths(const folder *f) {
    char command[2 * PATH_BYTES + 64];
    snprintf(command, sizeof command, "sort -u -k 1,1 -o '%s' '%s'", in(f, "paths"), in(f, "paths"));
    if (system(command)) exit(1);
}

static void run_scenario(const scenario *s, totals *all) {
    folder *f;
    ending whole;
    totals t = {0};
    void *state = NULL;
    time_t begin = time(NULL);
    if (model_folder_open(&state)) exit(1);
    f = state;
    prepare(s, f);
    int count = 0;
    if (run_whole(s, f, &whole)) {
        merge_paths(f);
        FILE *paths = fopen(in(f, "paths"), "r");
        call_path p;
        for (; fscanf(paths, "%16s %ld%199[^\n]", p.key, &p.count, p.addresses) == 3; count++) {
            run_failing(s, f, &p, 1, &whole, &t);
            if (full && p.count > 1) run_failing(s, f, &p, p.count, &whole, &t);
        }
        fclose(paths);
    } else {
        t.wrong++;
    }
    finish(s);
    ending_free(&whole);
    folder_close(&state);
    printf("%s: %d call paths, %d runs: %d refused, %d unharmed, %d not reached, %d wrong; %ld s\n", s->name, count,
           t.runs, t.refused, t.unharmed, t.missed, t.wrong, (long)(time(NULL) - begin));
    fflush(stdout);
    all->runs += t.runs;
    all->wrong += t.wrong;
}

static const scenario *find(const char *name) {
    for (const scenario *s = SCENARIOS; s->name; s++)
        if (!strcmp(s->name, name)) return s;
    fprintf(stderr, "allocations: no command \"%s\"; there are:", name);
    for (const scenario *s = SCENARIOS; s->name; s++) fprintf(stderr, " %s", s->name);
    fputc('\n', stderr);
    exit(2);
}

static int list(void) {
    for (const scenario *s = SCENARIOS; s->name; s++) puts(s->name);
    return 0;
}

int main(int argc, char **argv) {
    totals all = {0};
    int first = 1;
    if (argc > 1 && !strcmp(argv[1], "--list")) return list();
    if (argc > 1 && !strcmp(argv[1], "--full")) full = true, first++;
    for (int i = first; i < argc; i++) find(argv[i]);
    if (first < argc)
        for (int i = first; i < argc; i++) run_scenario(find(argv[i]), &all);
    else
        for (const scenario *s = SCENARIOS; s->name; s++) run_scenario(s, &all);
    printf("%d runs, %d wrong\n", all.runs, all.wrong);
    return all.wrong ? 1 : 0;
}
