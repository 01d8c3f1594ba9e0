/* Reading the fields of a request: each is of its type and in its range, or the request is refused with its name.
 *
 * A field that is absent or null has its default. The first thing that is wrong is kept; whoever reads asks at the end.
 * Every field that a path knows is read by one of these, so that fields_end() can refuse the others: nothing that was
 * asked for is ever ignored. */
#ifndef SERVE_FIELDS_H
#define SERVE_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { FIELDS_MOST = 64, FIELD_NAME_BYTES = 96, FIELD_MESSAGE_BYTES = 384 };

typedef struct fields {
    const json_t *object;
    const char *known[FIELDS_MOST];
    int known_count;
    bool wrong;
    bool unknown_model;
    bool no_memory; /* which is not the client's fault */
    bool too_long;  /* a prompt has more tokens than a request can have */
    char param[FIELD_NAME_BYTES];
    char message[FIELD_MESSAGE_BYTES];
} fields;

/* `text` to an object; false: it is none, and `f` says why. Release *out, which `f` reads, with json_decref(). */
bool fields_begin(fields *f, const char *text, size_t length, json_t **out);
/* Refuses what no one has read. Whether all was right. */
bool fields_end(fields *f);

/* Keeps the sentence, unless something was wrong before. Always false. */
bool fields_wrong(fields *f, const char *param, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same where memory runs out: the request may be repeated. */
bool fields_no_memory(fields *f, const char *param);

/* The same with the library's last error, whose status is given. */
bool fields_failed(fields *f, const char *param, int status);

bool field_given(fields *f, const char *name); /* there, and not null */
const json_t *field_any(fields *f, const char *name);
double field_number(fields *f, const char *name, double fallback, double least, double most);
int64_t field_int(fields *f, const char *name, int64_t fallback, int64_t least, int64_t most);
bool field_bool(fields *f, const char *name, bool fallback);
/* NULL where absent. A string with a NUL inside is refused. */
const char *field_text(fields *f, const char *name);

/* A list of token ids: *out [*count], released with free(). False, and nothing is owned: entry *count is no id, or
 * there is no memory for so many. */
bool ids_read(const json_t *list, int32_t **out, size_t *count);

/* Taken where it asks for nothing: absent, null, or equal to one of `nothing` (JSON texts, apart by |). Else refused:
 * "NAME is not supported". */
void field_unsupported(fields *f, const char *name, const char *nothing);
/* Taken, whatever it is: it changes nothing about the answer. */
void field_ignored(fields *f, const char *name);

#endif
