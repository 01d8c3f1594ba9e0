/* What the fuzz targets share, see README.md: parts of an input, files made of them, and what holds of every failure.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "base/status.h"
#include "device/device.h"

/* Each target's: reads an input in every way that its reader has, frees what it got, and returns fuzz_end(). */
int fuzz_run(const uint8_t *data, size_t size);

/* Ends the process, which libFuzzer reports as a finding, unless `condition` holds. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) fuzz_stop(#condition, __FILE__, __LINE__);                                                   \
    } while (0)
_Noreturn void fuzz_stop(const char *condition, const char *file, int line);

/* The message of the last run that failed. */
extern char fuzz_message[2048];

/* Checks that a failure has a message in UTF-8 and keeps it; returns `status`. `empty`: nothing was handed out. */
int fuzz_end(int status, bool empty);
/* The same of a message of the caller's. */
int fuzz_end_with(int status, const char *message);

bool fuzz_is_utf8(const char *text, size_t bytes);

/* ---- inputs of several parts, between which a line "%%" stands */

typedef struct fuzz_part {
    const char *data;
    size_t size;
} fuzz_part;

fuzz_part fuzz_all(const uint8_t *data, size_t size);
/* Takes the first part off; one that is absent is empty, with `data` NULL. */
fuzz_part fuzz_next(fuzz_part *rest);
/* The first line without its end, taken off. */
fuzz_part fuzz_line(fuzz_part *rest);
/* As a string, released with free(); NULL of a part that is absent. */
char *fuzz_string(fuzz_part part);

/* ---- files, in a folder that is this process's own */

const char *fuzz_folder(void);
/* Removes what was put there. */
void fuzz_clear(void);
/* A file of this content; nothing of a part that is absent. The path is valid until fuzz_clear(). */
const char *fuzz_put(const char *name, fuzz_part part);
/* A safetensors file of this header; its tensors are zeros. */
void fuzz_put_tensors(const char *name, fuzz_part header);

/* A CPU of one thread. */
device *fuzz_device(void);

#endif
