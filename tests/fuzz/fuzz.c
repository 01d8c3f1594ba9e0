/* Shared parts of the fuzz targets, see fuzz.h. */
#include "fuzz.h"

#include "base/text/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FILES = 16, PATH_BYTES = 256, MAX_ZEROS = 1 << 20 };

char fuzz_message[2048];

void fuzz_stop(const char *condition, const char *file, int line) {
    fprintf(stderr, "%s:%d: '%s' does not hold; last error: %s\n", file, line, condition, lckv_last_error());
    abort();
}

bool fuzz_is_utf8(const char *text, size_t bytes) {
    json_t *string = json_stringn(text ? text : "", bytes);
    json_decref(string);
    return string != NULL;
}

int fuzz_end_with(int status, const char *message) {
    fuzz_message[0] = 0;
    if (status >= 0) return status;
    FUZZ_CHECK(*message && fuzz_is_utf8(message, strlen(message)));
    snprintf(fuzz_message, sizeof fuzz_message, "%s", message);
    return status;
}

int fuzz_end(int status, bool empty) {
    FUZZ_CHECK(status >= 0 || empty);
    return fuzz_end_with(status, lckv_last_error());
}

/* ---------------------------------------------------------------- parts */

static const char BETWEEN[] = "\n%%\n";

fuzz_part fuzz_all(const uint8_t *data, size_t size) {
    return (fuzz_part){size ? (const char *)data : "", size};
}

static const char *find_end(fuzz_part part, const char *word) {
    size_t bytes = strlen(word);
    for (size_t at = 0; at + bytes <= part.size; at++)
        if (!memcmp(part.data + at, word, bytes)) return part.data + at;
    return NULL;
}

static fuzz_part take(fuzz_part *rest, const char *until) {
    fuzz_part first = *rest;
    const char *end = first.data ? find_end(first, until) : NULL;
    *rest = (fuzz_part){0};
    if (!end) return first;
    first.size = (size_t)(end - first.data);
    size_t taken = first.size + strlen(until);
    *rest = (fuzz_part){first.data + taken, (size_t)0};
    return first;
}

static fuzz_part take_off(fuzz_part *rest, const char *until) {
    const char *end = rest->data ? rest->data + rest->size : NULL;
    fuzz_part first = take(rest, until);
    if (rest->data) rest->size = (size_t)(end - rest->data);
    return first;
}

fuzz_part fuzz_next(fuzz_part *rest) {
    return take_off(rest, BETWEEN);
}

fuzz_part fuzz_line(fuzz_part *rest) {
    return take_off(rest, "\n");
}

char *fuzz_string(fuzz_part part) {
    if (!part.data) return NULL;
    char *text = malloc(part.size + 1);
    FUZZ_CHECK(text);
    memcpy(text, part.data, part.size);
    text[part.size] = 0;
    return text;
}

/* ---------------------------------------------------------------- files */

static char folder[PATH_BYTES / 2], files[MAX_FILES][PATH_BYTES];
static int file_count;

static void remove_folder(void) {
    fuzz_clear();
    rmdir(folder);
}

/* In memory, if the system has a file system for it. */
const char *fuzz_folder(void) {
    if (*folder) return folder;
    const char *given = getenv("TMPDIR"), *place = given ? given : access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(folder, sizeof folder, "%s/lckv-fuzz-XXXXXX", place);
    FUZZ_CHECK(mkdtemp(folder));
    atexit(remove_folder);
    return folder;
}

void fuzz_clear(void) {
    while (file_count > 0) unlink(files[--file_count]);
}

static FILE *begin_file(const char *name) {
    FUZZ_CHECK(file_count < MAX_FILES);
    snprintf(files[file_count], PATH_BYTES, "%s/%s", fuzz_folder(), name);
    FILE *file = fopen(files[file_count++], "wb");
    FUZZ_CHECK(file);
    return file;
}

static void put(FILE *file, const void *bytes, size_t count) {
    FUZZ_CHECK(!count || fwrite(bytes, 1, count, file) == count);
}

const char *fuzz_put(const char *name, fuzz_part part) {
    if (!part.data) return NULL;
    FILE *file = begin_file(name);
    put(file, part.data, part.size);
    FUZZ_CHECK(!fclose(file));
    return files[file_count - 1];
}

/* The bytes of data that the offsets of a header cover, up to a limit. */
static size_t data_bytes(fuzz_part header) {
    json_t *tree, *tensor;
    const char *name;
    json_int_t largest = 0;
    if (json_parse(header.data, header.size, "header", &tree) < 0) return 0;
    json_object_foreach(tree, name, tensor) {
        json_int_t end = json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 1));
        if (end > largest && end <= MAX_ZEROS) largest = end;
    }
    json_decref(tree);
    return (size_t)largest;
}

void fuzz_put_tensors(const char *name, fuzz_part header) {
    if (!header.data) return;
    unsigned char length[8];
    FILE *file = begin_file(name);
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.size >> (8 * i));
    put(file, length, sizeof length);
    put(file, header.data, header.size);
    FUZZ_CHECK(!fflush(file) && !ftruncate(fileno(file), (off_t)(sizeof length + header.size + data_bytes(header))));
    FUZZ_CHECK(!fclose(file));
}

device *fuzz_device(void) {
    static device *d;
    if (!d) FUZZ_CHECK(device_open("cpu", 1, &d) >= 0);
    return d;
}
