/* Request bodies, see request_body.h. */
#include "request_body.h"

body_status body_check_length(const body_budget *b, int64_t announced) {
    if (announced > b->max_body) return BODY_TOO_LARGE;
    if (announced > BODY_SMALL && b->in_use + announced > b->max_total) return BODY_BUDGET_FULL;
    return BODY_OK;
}

void body_free(body_budget *b, body_state *c, bytes *body) {
    b->in_use -= c->reserved;
    c->reserved = 0;
    bytes_free(body);
}

/* Makes room for `size` more bytes: doubles the capacity, but not beyond Content-Length. */
static body_status make_room(body_budget *b, body_state *c, bytes *to, size_t size) {
    size_t needed = to->length + size, capacity = 2 * needed + 64;
    if (needed <= to->capacity) return BODY_OK;
    if (c->content_length >= (int64_t)needed && (int64_t)capacity > c->content_length)
        capacity = (size_t)c->content_length;
    int64_t more = capacity > BODY_SMALL ? (int64_t)capacity - c->reserved : 0;
    if (b->in_use + more > b->max_total) return BODY_BUDGET_FULL;
    char *grown = realloc(to->data, capacity);
    if (!grown) return BODY_NO_MEMORY;
    b->in_use += more;
    c->reserved += more;
    to->data = grown;
    to->capacity = capacity;
    return BODY_OK;
}

void body_append(body_budget *b, body_state *c, bytes *to, const char *data, size_t size) {
    if (c->status != BODY_OK) return;
    c->status = to->length + size > (size_t)b->max_body ? BODY_TOO_LARGE : make_room(b, c, to, size);
    if (c->status == BODY_OK)
        bytes_add(to, data, size);
    else
        body_free(b, c, to);
}

/* Upper bound of the bytes that jansson allocates for the values of a valid JSON text, without the characters of
 * strings. Each value except the first has one of the counted characters before or around it. */
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

/* If memory runs out, jansson 2.14 keeps parsing a string byte by byte and reads beyond the end of its buffer.
 * Therefore this allocates, and frees again, all the memory that a request may take: its text, several copies, its
 * values. */
body_status body_check_parse(const body_budget *b, const bytes *body) {
    enum { COPIES = 12, MARGIN = 1 << 20 };
    double values = bytes_of_values(body);
    if (body->length > BODY_SMALL && values > (double)BODY_VALUES_FACTOR * (double)b->max_body)
        return BODY_TOO_MANY_VALUES;
    void *probe = malloc((size_t)(values + COPIES * (double)body->length) + MARGIN);
    free(probe);
    return probe ? BODY_OK : BODY_NO_MEMORY;
}
