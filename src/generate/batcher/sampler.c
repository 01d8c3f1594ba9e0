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
    row_table seen, bias;
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
    free(s->how);
    free(s);
}

/* ---------------------------------------------------------------- tables */

/* Makes room for `rows`. A table that grows loses its content. */
static int row_table_reserve(sampler *s, row_table *m, int rows, dtype type) {
    if (rows <= m->table.rows) return LCKV_OK;
    int more = 8;
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

/* Sends `seen` of rows whose owner has changed. */
static int send_seen(sampler *s, const sampler_row *rows, int count) {
    device *d = s->device;
    TRY(row_table_reserve(s, &s->seen, count + s->padding, DTYPE_U8));
    for (int i = 0; i < s->seen.table.rows; i++) {
        uint64_t owner = i < count && rows[i].how.repetition_penalty != 1 ? rows[i].owner : 0;
        if (row_is_current(&s->seen, i, owner) || !owner) continue;
        uint8_t *to = (uint8_t *)s->seen.table.data + (size_t)i * (size_t)s->vocab_size;
        TRY(d->memory.copy_in(d, to, rows[i].seen, (size_t)s->vocab_size));
    }
    return LCKV_OK;
}

/* Sends `bias` of rows whose owner has changed, and the changed entry of the others. */
static int send_bias(sampler *s, const sampler_row *rows, int count) {
    device *d = s->device;
    TRY(row_table_reserve(s, &s->bias, count + s->padding, DTYPE_F32));
    for (int i = 0; i < s->bias.table.rows; i++) {
        uint64_t owner = i < count && rows[i].how.biased ? rows[i].owner : 0;
        bool stays = row_is_current(&s->bias, i, owner);
        int32_t id = stays && owner ? rows[i].changed_id : 0;
        if (!owner || id < 0) continue;
        float *to = (float *)s->bias.table.data + (int64_t)i * s->vocab_size + id;
        TRY(d->memory.copy_in(d, to, rows[i].bias + id, (stays ? 1 : (size_t)s->vocab_size) * sizeof *to));
    }
    return LCKV_OK;
}

bool sampler_has_row(const sampler *s, const sampler_row *row, int i) {
    bool seen = row->how.repetition_penalty == 1 || (i < s->seen.table.rows && s->seen.owner[i] == row->owner);
    bool bias = !row->how.biased || (i < s->bias.table.rows && s->bias.owner[i] == row->owner);
    return seen && bias;
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
    s->seen.wanted = s->bias.wanted = false;
    for (int i = 0; i < count; i++) {
        s->how[i] = rows[i].how;
        s->seen.wanted |= rows[i].how.repetition_penalty != 1;
        s->bias.wanted |= rows[i].how.biased != 0;
    }
    for (int i = count; i < count + padding; i++) s->how[i] = sampler_greedy();
    if (s->seen.wanted) TRY(send_seen(s, rows, count));
    if (s->bias.wanted) TRY(send_bias(s, rows, count));
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
    return s->reallocations * 4 + s->seen.wanted * 2 + s->bias.wanted;
}
