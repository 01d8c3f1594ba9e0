/* Output of the program: results go to stdout; notices, progress and errors go to stderr. Also handles the two ways to
 * stop the program: Ctrl-C, and a closed stdout. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define OUTPUT_FORMAT(at, first) __attribute__((format(printf, at, first)))
#else
#define OUTPUT_FORMAT(at, first)
#endif

/* Called once by main. Sends the library's log messages to stderr, turns a closed stdout into a write error, and makes
 * the first Ctrl-C request a stop (the second one kills the program). If another program truncates a mapped file, the
 * program exits with EXIT_FAILED and names the file. */
void output_begin(void);

/* Disables all output, because another process of the same command prints it. */
void output_mute(void);
bool output_is_muted(void);

/* Makes SIGTERM and SIGUSR1, which schedulers send before they kill a job, and SIGHUP of a terminal that closes request
 * a stop like Ctrl-C. They may come more than once, from the scheduler and from --num_processes. A SIGHUP that nohup
 * has disabled stays ignored. */
void stop_on_scheduler_signals(void);

/* Whether Ctrl-C or a signal requested a stop. Cheap: call it between steps or tokens. */
bool interrupted(void);

/* For commands that continue after Ctrl-C: Ctrl-C never kills the program; it only interrupts a poll().
 * take_interrupt() returns whether Ctrl-C was pressed, and resets that state. */
void continue_after_interrupt(void);
bool take_interrupt(void);

/* Prints "lckv COMMAND: sentence" to stderr, after clearing the progress line. */
int usage_error(const char *command, const char *format, ...) OUTPUT_FORMAT(2, 3); /* returns EXIT_USAGE */
/* Prints the library's last error. Returns EXIT_FAILED, or for LCKV_ERROR_INTERRUPTED prints "interrupted" and returns
 * 128 + the signal (130 for Ctrl-C). `status` is the library's return value. */
int library_error(const char *command, int status);
/* Prints an error of the program itself. Returns EXIT_FAILED. */
int failure(const char *command, const char *format, ...) OUTPUT_FORMAT(2, 3);

/* Prints a notice to stderr. */
void notice(const char *format, ...) OUTPUT_FORMAT(1, 2);

/* Updates the progress line on stderr, with a bar if the terminal is wide enough. If stderr is not a terminal, prints a
 * line every 30 s. `fraction` is the completed part, 0 to 1. If it is negative, the total is unknown: the line appears
 * after one second and shows the elapsed time, which a thread updates until the next call, message or progress_end().
 * See progress.c. */
void progress(double fraction, const char *format, ...) OUTPUT_FORMAT(2, 3);
void progress_end(void); /* clears the progress line */
/* Whether enough time has passed to update the progress line; for callers with many updates. */
bool progress_due(void);

/* Write to stdout. Return false if that failed (closed pipe, full disk); the caller then stops, and output_end() prints
 * the error. */
bool print_bytes(const char *bytes, size_t length);
bool print_flush(void);
bool print_json(const json_t *value); /* one line */
json_t *number_or_null(double value); /* a new reference; null if the value is not finite */

/* Flushes stdout. Returns `code`, or EXIT_FAILED after printing the error if a write failed (a closed pipe is not
 * reported). */
int output_end(const char *command, int code);

/* Returns `memory`; if it is NULL, exits with an error message and EXIT_FAILED. */
void *need(void *memory);

/* lckv_write_file(). Returns EXIT_FINE, or EXIT_FAILED after printing the error. */
int write_file(const char *command, const char *path, const char *text);

/* Returns EXIT_FAILED, after printing the error, if `path` exists and is not a regular file. */
int check_target(const char *command, const char *path);

/* lckv_create_folder(). Returns EXIT_FINE, or EXIT_FAILED after printing the error. */
int make_folders(const char *command, const char *path);
/* Creates the parent folders of a file. */
int make_parent_folders(const char *command, const char *file);

/* Width of UTF-8 text on a screen in columns: its number of code points, because lckv prints no wide characters. */
int display_width(const char *text, size_t bytes);

/* Numbers for people. Each function writes to `out` and returns it. */
/* "1.10 B", "842 M", "260 k"; "1.50 GiB", "12.0 KiB"; "57.8 GFLOP" */
const char *human_count(double count, char out[32]);
const char *human_bytes(double bytes, char out[32]);
const char *human_flops(double flops, char out[32]);
/* "1,342" */
const char *human_grouped(int64_t number, char out[32]);
/* "2,058", and below 100 "97.5" */
const char *human_rate(double rate, char out[32]);
/* "1 step", "1,400 steps": a noun with a regular plural. */
const char *human_quantity(int64_t count, const char *noun, char out[48]);
/* "1:02:03", "4:05" */
const char *human_time(double seconds, char out[32]);

#endif
