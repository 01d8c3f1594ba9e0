/* lckv.h - the public interface of liblckv.
 *
 * liblckv trains, converts and runs decoder language models whose layers share keys and values (KV). One string,
 * `layer_types`, says which layer reads whose KV; see docs/model.md.
 *
 * Conventions, true of every function here unless its comment says otherwise:
 *   - A function that can fail returns LCKV_OK or a negative lckv_status; lckv_last_error() then holds one sentence for
 *     people: what was expected, what was found, where.
 *   - On failure nothing is handed out: `*out` is NULL and the caller owns nothing new.
 *   - Arguments stay the caller's; the library copies what it keeps. Strings are UTF-8 and end in NUL.
 *   - Strings and arrays that are handed out are released with lckv_free(), handles with their own function; each of
 *     these takes NULL.
 *   - Options structs are filled by their *_defaults() function first, then changed; fields state unit, default, and
 *     what 0 means.
 *   - The library never exits and never prints; lckv_set_log() hands its messages to the caller.
 *   - A handle is used by one thread at a time. Different handles may be used by different threads.
 */
#ifndef LCKV_H
#define LCKV_H

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

/* ---------------------------------------------------------------- errors, log, memory */

typedef enum lckv_status {
    LCKV_OK = 0,
    LCKV_ERROR_ARGUMENT = -1,    /* a value given by the caller is out of range or contradicts another */
    LCKV_ERROR_FILE = -2,        /* a file is absent, unreadable, or cannot be written (disk full included) */
    LCKV_ERROR_FORMAT = -3,      /* a file's content is not what its format says */
    LCKV_ERROR_UNSUPPORTED = -4, /* well formed, but asks for what lckv does not do */
    LCKV_ERROR_MEMORY = -5,      /* host or device memory ran out */
    LCKV_ERROR_DEVICE = -6,      /* a device is absent, busy or lost, or its library reported an error */
    LCKV_ERROR_NUMERIC = -7,     /* a loss or gradient is not finite */
    LCKV_ERROR_INTERRUPTED = -8, /* the caller's callback asked to stop */
} lckv_status;

/* The sentence of this thread's last failure, "" before the first. Valid until this thread's next failure. */
LCKV_API const char *lckv_last_error(void);

/* "0.1.0" */
LCKV_API const char *lckv_version(void);

typedef enum lckv_log_level { LCKV_LOG_WARNING, LCKV_LOG_INFO, LCKV_LOG_DEBUG } lckv_log_level;
typedef void (*lckv_log_function)(void *user, lckv_log_level level, const char *message);

/* Sends messages of `level` and more urgent ones to `function` (NULL: to nobody, the default). For the whole process.
 */
LCKV_API void lckv_set_log(lckv_log_function function, void *user, lckv_log_level level);

/* Releases a string or array that a function handed out. */
LCKV_API void lckv_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
