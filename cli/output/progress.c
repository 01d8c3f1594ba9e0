/* The progress line on stderr; see progress() in output.h.
 *
 * Work of unknown length (loading, one large library call) is shown with its elapsed seconds by a thread that does
 * nothing else. */
#include "output.h"
#include "timer.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Seconds: update interval on a terminal, interval elsewhere, and delay before work of unknown length is shown. */
static const double TERMINAL_INTERVAL = 0.1, PLAIN_INTERVAL = 30, FIRST_DELAY = 1;

/* The progress line of the process. All fields are guarded by the lock. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool has_clock;        /* the thread is running */
    bool ticks;            /* work of unknown length is running */
    double since;          /* its start */
    char text[256];        /* its description */
    double shown_at;       /* time of the last update; 0: none */
    bool shown, has_begun; /* the line is visible; shown_at is set */
} line = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---------------------------------------------------------------- the terminal */

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* The bar gets the cells next to the text, or is left out if there are too few. */
static void draw_bar(double fraction, int room) {
    enum { MAX_CELLS = 24, MIN_CELLS = 6 };
    int cells = room < MAX_CELLS ? room : MAX_CELLS, full = (int)(fmin(fraction, 1) * cells);
    if (fraction < 0 || cells < MIN_CELLS) return;
    for (int i = 0; i < cells; i++) fputc(i < full ? '#' : '.', stderr);
    fputc(' ', stderr);
}

static void draw(double fraction, const char *text) {
    int width = terminal_width() - 1;
    fputs("\r\033[K", stderr);
    draw_bar(fraction, width - (int)strlen(text) - 1);
    fprintf(stderr, "%.*s", width, text); /* a wrapped line could not be overwritten */
    fflush(stderr);
    line.shown = true;
    line.shown_at = timer_seconds();
}

/* ---------------------------------------------------------------- work of unknown length */

static void draw_time(void) {
    char text[288], time[32];
    snprintf(text, sizeof text, "%s  %s", line.text, human_time(timer_seconds() - line.since, time));
    draw(-1, text);
}

static void wait_a_while(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 250000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_cond_timedwait(&line.changed, &line.lock, &until);
}

static void *run_clock(void *nothing) {
    pthread_mutex_lock(&line.lock);
    for (;;) {
        if (!line.ticks) {
            pthread_cond_wait(&line.changed, &line.lock);
        } else {
            double time = timer_seconds();
            if (time - line.since >= FIRST_DELAY && time - line.shown_at >= 1) draw_time();
            wait_a_while();
        }
    }
    return nothing;
}

/* If no thread can be started, the line is not shown. Signals go to other threads. */
static void start_clock(void) {
    pthread_t thread;
    sigset_t all, before;
    if (line.has_clock) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    line.has_clock = !pthread_create(&thread, NULL, run_clock, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (line.has_clock) pthread_detach(thread);
}

/* Consecutive work of unknown length shares one timer. */
static void tick(const char *text) {
    if (!line.ticks) line.since = timer_seconds();
    line.ticks = true;
    snprintf(line.text, sizeof line.text, "%s", text);
    start_clock();
    if (line.shown && timer_seconds() - line.shown_at >= TERMINAL_INTERVAL &&
        timer_seconds() - line.since >= FIRST_DELAY)
        draw_time();
    pthread_cond_signal(&line.changed);
}

/* ---------------------------------------------------------------- the progress line */

static void show_on_terminal(double fraction, const char *text) {
    if (fraction < 0) {
        tick(text);
    } else {
        line.ticks = false;
        draw(fraction, text);
    }
}

/* The first plain line waits one interval too, because short work needs none. */
static void show_elsewhere(double fraction, const char *text) {
    double time = timer_seconds();
    if (!line.has_begun) line.shown_at = time;
    line.has_begun = true;
    if (time - line.shown_at < PLAIN_INTERVAL) return;
    line.shown_at = time;
    if (fraction >= 0)
        fprintf(stderr, "%3.0f %%  %s\n", 100 * fmin(fraction, 1), text);
    else
        fprintf(stderr, "%s\n", text);
}

void progress(double fraction, const char *format, ...) {
    char text[256];
    va_list arguments;
    if (output_is_muted()) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&line.lock);
    if (isatty(STDERR_FILENO))
        show_on_terminal(fraction, text);
    else
        show_elsewhere(fraction, text);
    pthread_mutex_unlock(&line.lock);
}

void progress_end(void) {
    pthread_mutex_lock(&line.lock);
    if (line.shown) fputs("\r\033[K", stderr);
    line.shown = line.ticks = false;
    pthread_mutex_unlock(&line.lock);
}

bool progress_due(void) {
    pthread_mutex_lock(&line.lock);
    bool due = timer_seconds() - line.shown_at >= TERMINAL_INTERVAL;
    pthread_mutex_unlock(&line.lock);
    return due;
}
