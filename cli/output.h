/* What the program prints: results to stdout, everything for people to stderr, a progress line where there is a
 * terminal; and the two signals that end it, Ctrl-C and a reader of stdout that went away. */
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

/* Called once by main: the library's warnings and notes go to stderr, a closed stdout becomes an error of writing, and
 * the first Ctrl-C asks to stop (the second one ends the program at once). A mapped file that another program truncates
 * ends the program with EXIT_FAILED and a message that names the file. */
void output_begin(void);

/* From now on nothing is printed, neither for people nor results: another process of the same command does it. */
void output_mute(void);
bool output_is_muted(void);

/* SIGTERM and SIGUSR1, which schedulers send before they end a job, ask to stop as Ctrl-C does. */
void stop_on_warnings(void);

/* Ctrl-C was pressed, or a signal asked to stop. Cheap: ask between steps or tokens. */
bool interrupted(void);

/* For a command that goes on behind Ctrl-C: from now on it ends nothing, however often it is pressed, but a poll() that
 * waits. take_interrupt() tells whether it was pressed, and forgets it. */
void interrupts_only_ask(void);
bool take_interrupt(void);

/* "lckv COMMAND: sentence" to stderr. Both end the progress line first. */
int usage_error(const char *command, const char *format, ...) OUTPUT_FORMAT(2, 3); /* returns EXIT_USAGE */
/* The library's last error; returns EXIT_FAILED, or 128 + the signal for LCKV_ERROR_INTERRUPTED (130 for Ctrl-C; and
 * then says only "interrupted"). `status` is what the library returned. */
int library_error(const char *command, int status);
/* The program's own failures. Returns EXIT_FAILED. */
int failure(const char *command, const char *format, ...) OUTPUT_FORMAT(2, 3);

/* A sentence for people, on stderr. */
void notice(const char *format, ...) OUTPUT_FORMAT(1, 2);

/* A line on stderr that is written over by the next one, with a bar where the terminal is wide enough. Where stderr is
 * no terminal, a plain line from time to time. fraction < 0: unknown; the line comes when the work takes more than a
 * second, and then has the time that it takes, which goes on by itself until the next call, message or
 * progress_end(). See progress.c. */
void progress(double fraction, const char *format, ...) OUTPUT_FORMAT(2, 3);
void progress_end(void); /* clears the line */
/* Whether so much time has passed since the last line that another one would be seen: for callers that have many. */
bool progress_due(void);

/* To stdout; false when that failed (the reader is gone, the disk is full): stop then. output_end() will say why. */
bool print_bytes(const char *bytes, size_t length);
bool print_flush(void);
bool print_json(const json_t *value); /* one line */

/* Flushes stdout. Returns `code`, or EXIT_FAILED when something could not be written (and says why, except where the
 * reader has simply gone). */
int output_end(const char *command, int code);

/* `memory`; where that is NULL the program ends with a message and EXIT_FAILED. */
void *need(void *memory);

/* Writes a file beside its target and renames it; /dev/stdout, /dev/stderr, /dev/fd/N and /dev/null are written in
 * place. EXIT_FINE, or EXIT_FAILED after the message: also where the target is a folder, a pipe or a device. */
int write_file(const char *command, const char *path, const char *text);

/* EXIT_FAILED, after the message, where a path names something that exists and is no regular file. */
int check_target(const char *command, const char *path);

/* Makes a folder and those above it; one that is there already is fine. The same of the folder that a file lies in. */
int make_folders(const char *command, const char *path);
int make_folders_of(const char *command, const char *file);

/* "1.10 B", "842 M", "260 k"; "1.50 GiB", "12.0 KiB"; "57.8 GFLOP". In `out`, which is returned. */
const char *people_count(double count, char out[32]);
const char *people_bytes(double bytes, char out[32]);
const char *people_flops(double flops, char out[32]);
/* "1 step", "400 steps": a noun that takes an s. */
const char *people_number(int64_t count, const char *noun, char out[48]);
/* "1:02:03", "4:05" */
const char *people_time(double seconds, char out[32]);

#endif
