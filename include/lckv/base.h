/* What all of lckv.h needs: errors, the log, memory, checks of text, and files. lckv.h states the conventions. */
#ifndef LCKV_BASE_H
#define LCKV_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LCKV_API __attribute__((visibility("default")))
#else
#define LCKV_API
#endif

typedef enum lckv_status {
    LCKV_OK = 0,
    LCKV_ERROR_ARGUMENT = -1,    /* A value from the caller is out of range or contradicts another. */
    LCKV_ERROR_FILE = -2,        /* A file is missing or unreadable, or cannot be written (also: the disk is full). */
    LCKV_ERROR_FORMAT = -3,      /* The content of a file violates its format. */
    LCKV_ERROR_UNSUPPORTED = -4, /* Well-formed input that asks for something lckv does not do. */
    LCKV_ERROR_MEMORY = -5,      /* Host or device memory is exhausted. */
    LCKV_ERROR_DEVICE = -6,      /* A device is missing, busy or lost, or its library reported an error. */
    LCKV_ERROR_NUMERIC = -7,     /* A loss, gradient, logit or log-probability is not finite. */
    LCKV_ERROR_INTERRUPTED = -8, /* A callback of the caller asked to stop. */
    LCKV_ERROR_BUSY = -9,        /* A queue is full; retry later. */
    LCKV_ERROR_TOO_LONG = -10,   /* More tokens than the model or the memory can hold. */
} lckv_status;

/* Returns the message of this thread's last failure, "" before the first. It is valid UTF-8 (other bytes, for example
 * in file names, become U+FFFD) and remains valid until this thread's next failure. */
LCKV_API const char *lckv_last_error(void);

/* Returns the version of the library, "0.1.0". */
LCKV_API const char *lckv_version(void);

/* Returns the path of the file that lckv has mapped at `address`, NULL if there is none. The string is valid until the
 * file is closed. Async-signal-safe.
 *
 * lckv maps weights and tokenized corpora and reads them in place. If another program truncates such a file, the next
 * access to the missing part raises SIGBUS. The library installs no signal handler. To report the file, call this
 * function from your own SIGBUS handler with siginfo_t.si_addr, as the program `lckv` does. */
LCKV_API const char *lckv_mapped_file_at(const void *address);

/* Maximum nesting depth of JSON that lckv reads, in arrays and objects. Deeper JSON is LCKV_ERROR_FORMAT, which bounds
 * the stack that a parser needs. */
#define LCKV_JSON_LEVELS 128

/* Checks that JSON text nests at most LCKV_JSON_LEVELS deep. It reports no other error. Call it before you pass
 * untrusted JSON to a recursive parser. */
LCKV_API int lckv_check_json(const char *text, size_t bytes);

/* Checks that text is valid UTF-8. If not, returns LCKV_ERROR_FORMAT, and the message has the line and the byte, from
 * 1, of the first ill-formed part. Tokenizers accept such text and read each ill-formed part as U+FFFD, so that a text
 * in another encoding becomes noise. */
LCKV_API int lckv_check_utf8(const char *text, size_t bytes);

typedef enum lckv_log_level { LCKV_LOG_WARNING, LCKV_LOG_INFO, LCKV_LOG_DEBUG } lckv_log_level;
typedef void (*lckv_log_function)(void *user, lckv_log_level level, const char *message);

/* Sends messages of `level`, and more urgent ones, to `function`, for the whole process. NULL discards all messages
 * (default). `user` is passed to every call. */
LCKV_API void lckv_set_log(lckv_log_function function, void *user, lckv_log_level level);

/* Frees a string or an array that a function returned. */
LCKV_API void lckv_free(void *memory);

/* Writes a file: a temporary file in the same folder is synced and renamed to `path`, so that after a crash the file
 * has the old or the new content. /dev/stdout, /dev/stderr, /dev/fd/N and /dev/null are written in place.
 * LCKV_ERROR_FILE also if the path is a folder, a pipe or another device. */
LCKV_API int lckv_write_file(const char *path, const void *bytes, size_t count);

/* Creates a folder and its parents, unless they exist. */
LCKV_API int lckv_create_folder(const char *path);

#ifdef __cplusplus
}
#endif
#endif
