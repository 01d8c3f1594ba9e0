/* Shared parts of the fuzz targets, see README.md: the parts of an input, files made of them, and checks of every
 * failure. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "base/status.h"
#include "device/device.h"

/* Defined by each target: reads an input in every way that its reader supports, frees everything, and returns
 * fuzz_end(). */
int fuzz_run(const uint8_t *data, size_t size);

/* Ends the process, which libFuzzer reports as a finding, unless `condition` holds. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) fuzz_stop(#condition, __FILE__, __LINE__);                                                   \
    } while (0)
_Noreturn void fuzz_stop(const char *condition, const char *file, int line);

/* The message of the last failure. */
extern char fuzz_message[2048];

/* Checks that a failure has a message in UTF-8, and stores it; returns `status`. `empty`: no object was returned. */
int fuzz_end(int status, bool empty);
/* The same for a message from the caller. */
int fuzz_end_with(int status, const char *message);

bool fuzz_is_utf8(const char *text, size_t bytes);

/* ---- inputs of several parts, between which a line "%%" stands */

typedef struct fuzz_part {
    const char *data;
    size_t size;
} fuzz_part;

fuzz_part fuzz_all(const uint8_t *data, size_t size);
/* Removes and returns the first part; an absent part is empty, with `data` NULL. */
fuzz_part fuzz_next(fuzz_part *rest);
/* Removes and returns the first line, without its end. */
fuzz_part fuzz_line(fuzz_part *rest);
/* As a string, released with free(); NULL if the part is absent. */
char *fuzz_string(fuzz_part part);

/* ---- files, in a folder that is this process's own */

const char *fuzz_folder(void);
/* Removes all files. */
void fuzz_clear(void);
/* Writes a file with this content; does nothing if the part is absent. The path is valid until fuzz_clear(). */
const char *fuzz_put(const char *name, fuzz_part part);
/* Writes a safetensors file with this header; its tensors are zeros. */
void fuzz_put_tensors(const char *name, fuzz_part header);

/* A CPU of one thread. */
device *fuzz_device(void);

#endif
