#include "output.h"
#include "cli/flags/flags.h"
#include "lckv.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* State that is global to the process: signals and standard output. progress.c has the state of the terminal. */
static volatile sig_atomic_t stop_signal; /* signal that requested a stop; 0: none */
static bool muted;
static int output_error; /* errno of the first failure to write to stdout */

static void on_interrupt(int signal_number) {
    stop_signal = signal_number;
}

static void print_message(void *user, lckv_log_level level, const char *message) {
    (void)user;
    notice("%s%s", level == LCKV_LOG_WARNING ? "warning: " : "", message);
}

static void stop_on(int signal_number, int flags) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = flags};
    sigaction(signal_number, &action, NULL);
}

/* Writes directly, because printf() is not async-signal-safe. */
static void write_words(const char *const *words) {
    for (; *words; words++) {
        ssize_t written = write(STDERR_FILENO, *words, strlen(*words));
        (void)written;
    }
}

/* A mapped file was truncated while lckv read it. */
static void on_bus_error(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    const char *path = lckv_mapped_file_at(info->si_addr);
    const char *const words[] = {"\nlckv: the file '", path,
                                 "' was truncated or became unreadable while lckv used it; "
                                 "restore it and start lckv again\n",
                                 NULL};
    if (path) {
        write_words(words);
        _exit(EXIT_FAILED);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void report_bus_errors(void) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
}

void output_begin(void) {
    stop_on(SIGINT, (int)SA_RESETHAND);
    report_bus_errors();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* turn a file size limit into a write error */
    lckv_set_log(print_message, NULL, LCKV_LOG_INFO);
}

void output_mute(void) {
    muted = true;
}

bool output_is_muted(void) {
    return muted;
}

void stop_on_scheduler_signals(void) {
    struct sigaction hangup;
    stop_on(SIGTERM, 0);
    stop_on(SIGUSR1, 0);
    bool ignored = sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN; /* nohup */
    if (!ignored) stop_on(SIGHUP, 0);
}

bool interrupted(void) {
    return stop_signal != 0;
}

/* SA_RESTART: an interrupted write continues; otherwise text would be lost and the output treated as broken. */
void continue_after_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
}

bool take_interrupt(void) {
    if (stop_signal != SIGINT) return false;
    stop_signal = 0;
    return true;
}

enum { USUAL_SENTENCE_BYTES = 4096 };

/* Writes the sentence and the end of its line to text[bytes]. Returns its length; 0 if it does not fit. */
static size_t compose(char *text, size_t bytes, const char *command, const char *format, va_list arguments) {
    int prefix = command ? snprintf(text, bytes, "lckv %s: ", command) : 0;
    if (prefix < 0 || (size_t)prefix >= bytes) return 0;
    int rest = vsnprintf(text + prefix, bytes - (size_t)prefix, format, arguments);
    size_t length = (size_t)prefix + (size_t)rest;
    if (rest < 0 || length >= bytes) return 0;
    text[length] = '\n';
    return length + 1;
}

/* In one write, unless it is long: the processes of a run share stderr, and must not write into each other's lines. */
static void print_sentence(const char *command, const char *format, va_list arguments) {
    char text[USUAL_SENTENCE_BYTES];
    va_list again;
    if (muted) return;
    progress_end();
    va_copy(again, arguments);
    size_t length = compose(text, sizeof text, command, format, arguments);
    if (length) {
        fwrite(text, 1, length, stderr);
    } else {
        if (command) fprintf(stderr, "lckv %s: ", command);
        vfprintf(stderr, format, again);
        fputc('\n', stderr);
    }
    va_end(again);
}

int usage_error(const char *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_sentence(command, format, arguments);
    va_end(arguments);
    return EXIT_USAGE;
}

int failure(const char *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_sentence(command, format, arguments);
    va_end(arguments);
    return EXIT_FAILED;
}

int library_error(const char *command, int status) {
    if (status != LCKV_ERROR_INTERRUPTED) return failure(command, "%s", lckv_last_error());
    failure(command, "interrupted");
    return stop_signal ? 128 + stop_signal : EXIT_INTERRUPTED;
}

void notice(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_sentence(NULL, format, arguments);
    va_end(arguments);
}

static bool remember_failure(bool written) {
    if (!written && !output_error) output_error = errno ? errno : EIO;
    return written;
}

bool print_bytes(const char *bytes, size_t length) {
    return muted || remember_failure(fwrite(bytes, 1, length, stdout) == length);
}

bool print_flush(void) {
    return remember_failure(fflush(stdout) == 0);
}

bool print_json(const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    if (!text) return false;
    bool written = print_bytes(text, strlen(text)) && print_bytes("\n", 1);
    free(text);
    return written;
}

json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

int output_end(const char *command, int code) {
    progress_end();
    bool written = remember_failure(print_flush() && !ferror(stdout));
    if (written && !output_error) return code;
    if (output_error != EPIPE) failure(command, "cannot write to standard output: %s", strerror(output_error));
    return code == EXIT_FINE ? EXIT_FAILED : code;
}

void *need(void *memory) {
    if (memory) return memory;
    progress_end();
    fputs("lckv: out of memory\n", stderr);
    exit(EXIT_FAILED);
}

int check_target(const char *command, const char *path) {
    struct stat info;
    if (stat(path, &info) || S_ISREG(info.st_mode)) return EXIT_FINE;
    return failure(command, "cannot write '%s': it is %s, not a regular file", path,
                   S_ISDIR(info.st_mode) ? "a folder" : "a pipe or a device");
}

int write_file(const char *command, const char *path, const char *text) {
    print_flush(); /* the path may be /dev/stdout */
    int status = lckv_write_file(path, text, strlen(text));
    return status < 0 ? library_error(command, status) : EXIT_FINE;
}

int make_folders(const char *command, const char *path) {
    int status = lckv_create_folder(path);
    return status < 0 ? library_error(command, status) : EXIT_FINE;
}

int make_parent_folders(const char *command, const char *file) {
    const char *slash = strrchr(file, '/');
    if (!slash || slash == file) return EXIT_FINE;
    char *folder = need(strndup(file, (size_t)(slash - file)));
    int code = make_folders(command, folder);
    free(folder);
    return code;
}

int display_width(const char *text, size_t bytes) {
    int columns = 0;
    for (size_t i = 0; i < bytes; i++) columns += ((unsigned char)text[i] & 0xC0) != 0x80;
    return columns;
}

static const char *with_unit(double value, double step, const char *const *units, char out[32]) {
    int unit = 0;
    while (fabs(value) >= step && units[unit + 1]) value /= step, unit++;
    int decimals = unit == 0 || fabs(value) >= 100 ? 0 : fabs(value) >= 10 ? 1 : 2;
    snprintf(out, 32, "%.*f%s%s", decimals, value, *units[unit] ? " " : "", units[unit]);
    return out;
}

const char *human_count(double count, char out[32]) {
    static const char *const UNITS[] = {"", "k", "M", "B", "T", NULL};
    return with_unit(count, 1000, UNITS, out);
}

const char *human_bytes(double bytes, char out[32]) {
    static const char *const UNITS[] = {"B", "KiB", "MiB", "GiB", "TiB", NULL};
    return with_unit(bytes, 1024, UNITS, out);
}

const char *human_flops(double flops, char out[32]) {
    static const char *const UNITS[] = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", NULL};
    return with_unit(flops, 1000, UNITS, out);
}

const char *human_grouped(int64_t number, char out[32]) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)number), at = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0 && digits[i - 1] != '-') out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

const char *human_rate(double rate, char out[32]) {
    if (rate >= 100 && rate < 1e15) return human_grouped(llround(rate), out);
    snprintf(out, 32, rate < 100 ? "%.1f" : "%.3g", rate);
    return out;
}

const char *human_quantity(int64_t count, const char *noun, char out[48]) {
    char number[32];
    snprintf(out, 48, "%s %.14s%s", human_grouped(count, number), noun, count == 1 ? "" : "s");
    return out;
}

const char *human_time(double seconds, char out[32]) {
    long long all = seconds > 0 && seconds < 1e9 ? llround(seconds) : 0;
    if (all >= 3600)
        snprintf(out, 32, "%lld:%02lld:%02lld", all / 3600, all / 60 % 60, all % 60);
    else
        snprintf(out, 32, "%lld:%02lld", all / 60, all % 60);
    return out;
}
