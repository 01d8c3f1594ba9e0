/* Bodies of requests, see body.h. */
#include "body.h"

body_problem body_begin(const body_budget *b, int64_t announced) {
    if (announced > b->most_body) return BODY_TOO_LARGE;
    if (announced > BODY_SMALL && b->held + announced > b->most_all) return BODY_NO_ROOM;
    return BODY_FINE;
}

void body_drop(body_budget *b, body_count *c, bytes *body) {
    b->held -= c->counted;
    c->counted = 0;
    bytes_free(body);
}

/* Room for `size` more bytes: twice as much as before, but never more than was announced. */
static body_problem make_room(body_budget *b, body_count *c, bytes *to, size_t size) {
    size_t needed = to->length + size, capacity = 2 * needed + 64;
    if (needed <= to->capacity) return BODY_FINE;
    if (c->announced >= (int64_t)needed && (int64_t)capacity > c->announced) capacity = (size_t)c->announced;
    int64_t more = capacity > BODY_SMALL ? (int64_t)capacity - c->counted : 0;
    if (b->held + more > b->most_all) return BODY_NO_ROOM;
    char *grown = realloc(to->data, capacity);
    if (!grown) return BODY_NO_MEMORY;
    b->held += more;
    c->counted += more;
    to->data = grown;
    to->capacity = capacity;
    return BODY_FINE;
}

void body_add(body_budget *b, body_count *c, bytes *to, const char *data, size_t size) {
    if (c->problem != BODY_FINE) return;
    c->problem = to->length + size > (size_t)b->most_body ? BODY_TOO_LARGE : make_room(b, c, to, size);
    if (c->problem == BODY_FINE)
        bytes_add(to, data, size);
    else
        body_drop(b, c, to);
}

/* Bytes that jansson takes for the values of a JSON text, without the characters of strings; an upper bound for valid
 * JSON, where each value but the first has one of these signs before or around it. */
static double bytes_of_values(const bytes *body) {
    enum { OBJECT = 448, ARRAY = 192, NUMBER = 64, PAIR = 128, STRING = 96 };
    double taken = OBJECT;
    bool in_string = false;
    for (size_t i = 0; i < body->length; i++) {
        char c = body->data[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            taken += (in_string = !in_string) ? STRING : 0;
        else if (!in_string)
            taken += c == '{' ? OBJECT : c == '[' ? ARRAY : c == ',' ? NUMBER : c == ':' ? PAIR : 0;
    }
    return taken;
}

/* Where memory ends, jansson 2.14 reads a string's bytes one by one, fails for each, and reads beyond the end of those
 * it has. So memory for all that a request may take is asked for first: its text, copies in several forms, its values.
 */
body_problem body_check(const body_budget *b, const bytes *body) {
    enum { COPIES = 12, MARGIN = 1 << 20 };
    double values = bytes_of_values(body);
    if (body->length > BODY_SMALL && values > (double)BODY_VALUES_FACTOR * (double)b->most_body)
        return BODY_TOO_MANY_VALUES;
    void *probe = malloc((size_t)(values + COPIES * (double)body->length) + MARGIN);
    free(probe);
    return probe ? BODY_FINE : BODY_NO_MEMORY;
}
