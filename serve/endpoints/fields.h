/* Fields of a JSON request: each is checked for its type and range, or the request is rejected with the field's name.
 *
 * A field that is absent or null has its default. The first error is kept; callers check it at the end. Each known
 * field must be read by one of these functions, so that fields_finish() can reject all others: a request never contains
 * a field that is silently ignored. */
#ifndef SERVE_FIELDS_H
#define SERVE_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { FIELDS_MAX = 64, FIELD_NAME_BYTES = 96, FIELD_MESSAGE_BYTES = 384 };

typedef struct fields {
    const json_t *object;
    const char *known[FIELDS_MAX];
    int known_count;
    bool failed; /* `param` and `message` hold the first error */
    bool unknown_model;
    bool no_memory; /* the error is not the client's: the server replies 503 */
    bool too_long;  /* a prompt has more tokens than a request may have */
    char param[FIELD_NAME_BYTES];
    char message[FIELD_MESSAGE_BYTES];
} fields;

/* Parses `text` as a JSON object, which `f` reads. Release *out with json_decref(). Returns false, with the error in
 * `f`, if it is not an object. */
bool fields_parse(fields *f, const char *text, size_t length, json_t **out);
/* Rejects fields that were not read. Returns whether there was no error. */
bool fields_finish(fields *f);

/* Sets the error, unless there is one already. Always returns false. */
bool fields_error(fields *f, const char *param, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Sets the error for memory that ran out; the client may repeat the request. */
bool fields_no_memory(fields *f, const char *param);

/* Sets lckv_last_error() as the error; `status` is its code. */
bool fields_library_error(fields *f, const char *param, int status);

bool field_present(fields *f, const char *name); /* present and not null */
const json_t *field_value(fields *f, const char *name);
double field_number(fields *f, const char *name, double fallback, double min, double max);
int64_t field_int(fields *f, const char *name, int64_t fallback, int64_t min, int64_t max);
bool field_bool(fields *f, const char *name, bool fallback);
/* NULL if absent. A string that contains NUL is rejected. */
const char *field_string(fields *f, const char *name);

/* Reads a list of token ids into *out [*count], released with free(). Returns false, with nothing to free, if entry
 * *count is not a token id or memory runs out. */
bool ids_read(const json_t *list, int32_t **out, size_t *count);

/* Rejects the field ("NAME is not supported") unless it is absent, null, or equal to one of `neutral`: JSON texts,
 * separated by |, that ask for nothing. */
void field_reject(fields *f, const char *name, const char *neutral);
/* Accepts any value: the field does not change the response. */
void field_ignore(fields *f, const char *name);

#endif
