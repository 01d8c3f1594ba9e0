/* Sampler, see sampler.h. */
#include "generate/batcher/sampler.h"

#include "generate/sampling_parameters.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT(name, KIND, in_request, ...) .name = in_request,

sample_row sampler_greedy(void) {
    sample_row how = {SAMPLING_PARAMETERS(DEFAULT)}; /* all are off but the temperature */
    how.temperature = 0;
    return how;
}

/* A table on the device with vocab_size entries per sampled row. Tables take most of the memory, so a table is
 * allocated when the first row needs it, and grows. */
typedef struct row_table {
    view table;      /* [rows, vocab_size] */
    uint64_t *owner; /* [rows] owner of each row; 0: none */
    bool wanted;     /* a row of this step needs the table */
} row_table;

struct sampler {
    device *device;
    int64_t vocab_size;
    int capacity;
    sample_row *how; /* [capacity] host */
    view how_view, ids, logprob;
    int count, padding; /* rows that were sent, and padding rows after them */
    row_table seen, bias, penalized;
    int64_t reallocations; /* of tables */
};

static int take(device *d, int64_t rows, int64_t cols, dtype type, view *out) {
    *out = (view){NULL, rows, cols, type};
    return d->memory.alloc(d, view_bytes(*out), &out->data);
}

static int make_rows(sampler *s) {
    s->how = calloc((size_t)s->capacity, sizeof *s->how);
    REQUIRE(s->how, LCKV_ERROR_MEMORY, "no memory to sample %d rows", s->capacity);
    TRY(take(s->device, s->capacity, (int64_t)sizeof *s->how, DTYPE_U8, &s->how_view));
    TRY(take(s->device, s->capacity, 1, DTYPE_I32, &s->ids));
    TRY(take(s->device, s->capacity, 1, DTYPE_F32, &s->logprob));
    return s->device->memory.zero(s->device, s->ids.data, view_bytes(s->ids));
}

int sampler_create(device *d, int64_t vocab_size, int rows, sampler **out) {
    *out = NULL;
    sampler *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for a sampler");
    *s = (sampler){.device = d, .vocab_size = vocab_size, .capacity = rows};
    int status = make_rows(s);
    if (status < 0)
        sampler_free(s);
    else
        *out = s;
    return status;
}

static void row_table_release(sampler *s, row_table *m) {
    s->device->memory.release(s->device, m->table.data);
    free(m->owner);
    *m = (row_table){.wanted = m->wanted};
}

void sampler_free(sampler *s) {
    if (!s) return;
    view *views[] = {&s->how_view, &s->ids, &s->logprob};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) s->device->memory.release(s->device, views[i]->data);
    row_table_release(s, &s->seen);
    row_table_release(s, &s->bias);
    row_table_release(s, &s->penalized);
    free(s->how);
    free(s);
}

/* ---------------------------------------------------------------- tables */

/* Maximum number of rows of a step with `count` sampled rows: padding is less than an eighth (batch.h). */
static int with_padding(const sampler *s, int count) {
    int rows = count + count / 8 + 1;
    return rows < s->capacity ? rows : s->capacity;
}

/* Makes room for the rows of this step. A table that grows loses its content. */
static int row_table_reserve(sampler *s, row_table *m, dtype type) {
    int rows = s->count + s->padding, more = 8;
    if (rows <= m->table.rows) return LCKV_OK;
    if (rows < with_padding(s, s->count)) rows = with_padding(s, s->count);
    while (more < rows) more *= 2;
    if (more > s->capacity) more = s->capacity;
    row_table_release(s, m);
    m->owner = calloc((size_t)more, sizeof *m->owner);
    REQUIRE(m->owner, LCKV_ERROR_MEMORY, "no memory to sample %d rows", more);
    s->reallocations++;
    int status = take(s->device, more, s->vocab_size, type, &m->table);
    if (status < 0) row_table_release(s, m);
    return status;
}

/* Sets the owner of row i; 0: none. An unused row loses its owner, because the owner may be sampled at another index
 * before it returns. Returns whether the row is up to date. */
static bool row_is_current(row_table *m, int i, uint64_t owner) {
    bool stays = owner == m->owner[i];
    m->owner[i] = owner;
    return stays;
}

/* Whether a row uses a table, and its host copy. */
static bool uses_seen(const sample_row *how) {
    return how->repetition_penalty != 1;
}
static bool uses_bias(const sample_row *how) {
    return how->biased != 0;
}
static bool uses_penalized(const sample_row *how) {
    return how->biased && how->presence_penalty != 0;
}
static const void *host_seen(const sampler_row *row) {
    return row->seen;
}
static const void *host_bias(const sampler_row *row) {
    return row->bias;
}
static const void *host_penalized(const sampler_row *row) {
    return row->penalized;
}

/* Sends the rows of a table whose owner has changed. The device changes the others itself. */
static int send_table(sampler *s, row_table *m, dtype type, bool (*uses)(const sample_row *how),
                      const void *(*host)(const sampler_row *row), const sampler_row *rows) {
    device *d = s->device;
    m->wanted = false;
    for (int i = 0; i < s->count; i++) m->wanted |= uses(&rows[i].how);
    if (!m->wanted) return LCKV_OK;
    TRY(row_table_reserve(s, m, type));
    for (int i = 0; i < m->table.rows; i++) {
        uint64_t owner = i < s->count && uses(&rows[i].how) ? rows[i].owner : 0;
        if (row_is_current(m, i, owner) || !owner) continue;
        view row = {(char *)m->table.data + (size_t)i * view_bytes((view){NULL, 1, s->vocab_size, type}), 1,
                    s->vocab_size, type};
        TRY(d->memory.copy_in(d, row.data, host(&rows[i]), view_bytes(row)));
    }
    return LCKV_OK;
}

static bool table_has_row(const sampler *s, const row_table *m, bool used, uint64_t owner, int i, int count) {
    return !used || (with_padding(s, count) <= m->table.rows && m->owner[i] == owner);
}

bool sampler_has_row(const sampler *s, const sampler_row *row, int i, int count) {
    return table_has_row(s, &s->seen, uses_seen(&row->how), row->owner, i, count) &&
           table_has_row(s, &s->bias, uses_bias(&row->how), row->owner, i, count) &&
           table_has_row(s, &s->penalized, uses_penalized(&row->how), row->owner, i, count);
}

/* ---------------------------------------------------------------- a step */

static view first_rows(view v, int rows) {
    v.rows = rows;
    return v;
}

int sampler_send(sampler *s, const sampler_row *rows, int count, int padding) {
    device *d = s->device;
    REQUIRE(count + padding <= s->capacity, LCKV_ERROR_ARGUMENT, "expected at most %d rows to sample, found %d",
            s->capacity, count + padding);
    s->count = count;
    s->padding = padding;
    for (int i = 0; i < count; i++) s->how[i] = rows[i].how;
    for (int i = count; i < count + padding; i++) s->how[i] = sampler_greedy();
    TRY(send_table(s, &s->seen, DTYPE_U8, uses_seen, host_seen, rows));
    TRY(send_table(s, &s->bias, DTYPE_F32, uses_bias, host_bias, rows));
    TRY(send_table(s, &s->penalized, DTYPE_U8, uses_penalized, host_penalized, rows));
    return d->memory.copy_in(d, s->how_view.data, s->how, (size_t)(count + padding) * sizeof *s->how);
}

int sampler_choose(sampler *s, view logits) {
    int rows = s->count + s->padding;
    struct op_sample sample = {.logits = logits,
                               .how = first_rows(s->how_view, rows),
                               .ids = first_rows(s->ids, rows),
                               .logprob = first_rows(s->logprob, rows)};
    if (s->seen.wanted) sample.seen = first_rows(s->seen.table, rows);
    if (s->bias.wanted) sample.bias = first_rows(s->bias.table, rows);
    if (s->penalized.wanted) sample.penalized = first_rows(s->penalized.table, rows);
    return DEVICE_RUN(s->device, sample, &sample);
}

int sampler_fetch(sampler *s, int32_t *ids, float *logprobs) {
    device *d = s->device;
    TRY(d->memory.copy_out(d, ids, s->ids.data, (size_t)s->count * sizeof *ids));
    return d->memory.copy_out(d, logprobs, s->logprob.data, (size_t)s->count * sizeof *logprobs);
}

view sampler_ids(const sampler *s) {
    return s->ids;
}

int64_t sampler_layout(const sampler *s) {
    return s->reallocations * 8 + s->seen.wanted * 4 + s->bias.wanted * 2 + s->penalized.wanted;
}
