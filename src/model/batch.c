/* Fills a batch; see batch.h. Everything is laid out in host memory and sent in one copy. */
#include "model/batch.h"

#include "model/ranks/rank_group.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- memory */

/* Places a field of the batch. Fields have the size of the limits, so that their addresses do not change between
 * calls. */
static size_t field(size_t *at, view *v, int64_t rows, int64_t cols, dtype type) {
    size_t start = *at;
    *v = (view){NULL, rows, cols, type};
    *at += (view_bytes(*v) + 255) / 256 * 256;
    return start;
}

enum { FIELDS = 9, GROUP_FIELDS = 4 };

/* The views of a batch in the order of lay_out(). */
static void list_views(batch *b, view *views[FIELDS + KV_MAX_GROUPS * GROUP_FIELDS]) {
    int n = 0;
    views[n++] = &b->ids;
    views[n++] = &b->from;
    views[n++] = &b->labels;
    views[n++] = &b->positions;
    views[n++] = &b->sink_positions;
    views[n++] = &b->lengths;
    views[n++] = &b->wanted_rows;
    views[n++] = &b->nearby;
    for (int g = 0; g < KV_MAX_GROUPS; g++) {
        views[n++] = &b->groups[g].sequences;
        views[n++] = &b->groups[g].wanted_sequences;
        views[n++] = &b->groups[g].table;
        views[n++] = &b->groups[g].destination;
    }
    views[n] = NULL;
}

static size_t lay_out(batch *b, size_t places[FIELDS + KV_MAX_GROUPS * GROUP_FIELDS]) {
    int64_t rows = b->limits.rows, sequences = b->limits.sequences, pages = b->limits.pages;
    size_t at = 0;
    int n = 0;
    places[n++] = field(&at, &b->ids, rows, 1, DTYPE_I32);
    places[n++] = field(&at, &b->from, rows, 1, DTYPE_I32);
    places[n++] = field(&at, &b->labels, rows, 1, DTYPE_I32);
    places[n++] = field(&at, &b->positions, rows, 1, DTYPE_I64);
    places[n++] = field(&at, &b->sink_positions, rows, 1, DTYPE_I64);
    places[n++] = field(&at, &b->lengths, rows, 1, DTYPE_I64);
    places[n++] = field(&at, &b->wanted_rows, rows, 1, DTYPE_I32);
    places[n++] = field(&at, &b->nearby, LOOP_START_TOKENS * rows, 1, DTYPE_I32);
    for (int g = 0; g < KV_MAX_GROUPS; g++) {
        places[n++] = field(&at, &b->groups[g].sequences, sequences, sizeof(attention_sequence), DTYPE_U8);
        places[n++] = field(&at, &b->groups[g].wanted_sequences, sequences, sizeof(attention_sequence), DTYPE_U8);
        places[n++] = field(&at, &b->groups[g].table, sequences, pages, DTYPE_I32);
        places[n++] = field(&at, &b->groups[g].destination, rows, 1, DTYPE_I64);
    }
    return at;
}

static int allocate(batch *b, batch_limits limits) {
    b->limits = limits;
    TRY(b->device->memory.wait(b->device));
    b->device->memory.release(b->device, b->memory);
    free(b->staging);
    b->memory = b->staging = NULL;
    size_t places[FIELDS + KV_MAX_GROUPS * GROUP_FIELDS];
    view *views[FIELDS + KV_MAX_GROUPS * GROUP_FIELDS];
    b->bytes = lay_out(b, places);
    b->staging = calloc(1, b->bytes);
    REQUIRE(b->staging, LCKV_ERROR_MEMORY, "no memory for a batch of %d rows", b->limits.rows);
    TRY(b->device->memory.alloc(b->device, b->bytes, &b->memory));
    list_views(b, views);
    for (int i = 0; views[i]; i++) views[i]->data = (char *)b->memory + places[i];
    b->moves++;
    return LCKV_OK;
}

/* Memory for at least the requested limits. Pages get room for growth. */
static int batch_reserve(batch *b, batch_limits asked) {
    batch_limits limits = b->limits;
    if (b->memory && asked.rows <= limits.rows && asked.sequences <= limits.sequences && asked.pages <= limits.pages)
        return LCKV_OK;
    if (asked.rows > limits.rows) limits.rows = asked.rows;
    if (asked.sequences > limits.sequences) limits.sequences = asked.sequences;
    if (asked.pages > limits.pages) limits.pages = 2 * asked.pages;
    return allocate(b, limits);
}

int batch_create(device *d, batch_limits limits, batch **out) {
    *out = NULL;
    batch *b = calloc(1, sizeof *b);
    REQUIRE(b, LCKV_ERROR_MEMORY, "no memory for a batch");
    b->device = d;
    b->limits = limits;
    b->rounds = d->recording.begin != NULL;
    int status = batch_reserve(b, limits);
    if (status < 0)
        batch_free(b);
    else
        *out = b;
    return status;
}

void batch_free(batch *b) {
    if (!b) return;
    if (b->ranks) rank_group_batch_freed(b->ranks, b->id);
    b->device->memory.release(b->device, b->memory);
    free(b->staging);
    free(b);
}

/* The address of a device view in the staging copy. */
static void *host_of(const batch *b, view v) {
    return (char *)b->staging + ((char *)v.data - (char *)b->memory);
}

const void *batch_host(const batch *b, view v) {
    return host_of(b, v);
}

/* ---------------------------------------------------------------- filling */

static int check_entries(const batch_entry *entries, int count, bool cached) {
    REQUIRE(count > 0, LCKV_ERROR_ARGUMENT, "expected at least one sequence in a batch");
    int64_t rows = 0;
    for (int i = 0; i < count; i++) {
        const batch_entry *e = &entries[i];
        REQUIRE(e->rows > 0 && e->wanted >= 0 && e->wanted <= e->rows, LCKV_ERROR_ARGUMENT,
                "sequence %d of a batch: expected at least one row and at most that many wanted rows, found %d and %d",
                i, e->rows, e->wanted);
        REQUIRE((e->cache_id >= 0) == cached, LCKV_ERROR_ARGUMENT, "sequence %d of a batch %s a cache", i,
                cached ? "does not name its place in" : "has no");
        REQUIRE(!i || entries[i - 1].planned || !e->planned, LCKV_ERROR_ARGUMENT,
                "sequence %d of a batch is planned, but follows one that is not", i);
        rows += e->rows;
    }
    REQUIRE(rows <= INT32_MAX / 2, LCKV_ERROR_ARGUMENT, "a batch of %lld rows is too large", (long long)rows);
    return LCKV_OK;
}

/* The next multiple of an eighth of the next lower power of two, at least of 64. A growing number takes few values. */
static int32_t rounded_up(int32_t rows) {
    int32_t step = 64;
    while (step < rows / 8) step *= 2;
    return (rows + step - 1) / step * step;
}

/* The numbers of a call, before anything is laid out. */
static void count_rows(batch *b, const batch_entry *entries, int count) {
    b->rows = b->plan_rows = b->plan_sequences = b->wanted = b->max_rows = b->labels_counted = 0;
    b->sequences = count;
    b->reads_previous = b->rounds && b->previous.data; /* recorded steps do the same whatever the entries are */
    for (int i = 0; i < count; i++) {
        const batch_entry *e = &entries[i];
        b->reads_previous |= e->chosen > 0;
        b->rows += e->rows;
        b->wanted += e->wanted;
        if (e->planned) b->plan_rows += e->rows, b->plan_sequences++;
        if (e->rows > b->max_rows) b->max_rows = e->rows;
        for (int32_t j = e->rows - e->wanted; e->labels && j < e->rows; j++) b->labels_counted += e->labels[j] >= 0;
    }
    b->wants_all = b->wanted == b->rows;
    b->padded_max_rows = b->max_rows;
}

int32_t batch_rounded_rows(int32_t rows) {
    int32_t step = 1;
    while (step * 16 <= rows) step *= 2;
    return (rows + step - 1) / step * step;
}

/* Pads a step of one row per sequence to one of a few sizes; if only some rows are wanted, they are padded likewise. */
static void round_decoding(batch *b) {
    if (!b->fills || b->max_rows > 1 || b->plan_rows) return;
    b->wanted = b->wants_all ? batch_rounded_rows(b->rows) : b->wanted ? batch_rounded_rows(b->wanted) : 0;
    b->rows = b->sequences = batch_rounded_rows(b->rows);
}

/* Pads a prompt by itself, whose step is recorded as well. If all of its rows are wanted, none may be added. A planned
 * step takes long to record, and hardly longer with a few more rows: it has fewer sizes. */
static void round_prompt(batch *b) {
    enum { PLAN_STEP = 16 };
    int32_t rows = batch_rounded_rows(b->rows);
    bool whole = b->plan_rows == b->rows;
    if (!b->fills || b->sequences > 1 || b->max_rows <= 1 || b->wants_all || b->tolerance > 0) return;
    if (whole) rows = (rows + PLAN_STEP - 1) / PLAN_STEP * PLAN_STEP;
    if (rows > b->prompt_room) return;
    b->rows = b->padded_max_rows = rows;
    if (whole) b->plan_rows = rows;
}

/* Without a cache (training), the number of sequences depends on where documents end. */
static void round_sequences(batch *b) {
    int32_t rounded = 1;
    while (rounded < b->sequences) rounded *= 2;
    if (b->plan_sequences == b->sequences) b->plan_sequences = rounded;
    b->sequences = rounded;
    b->padded_max_rows = rounded_up(b->max_rows);
}

/* Views cover the rows of this call; their addresses do not change. */
static void set_shapes(batch *b) {
    b->ids.rows = b->from.rows = b->positions.rows = b->sink_positions.rows = b->lengths.rows = b->rows;
    b->wanted_rows.rows = b->labels.rows = b->wanted;
    b->nearby.rows = LOOP_START_TOKENS * b->rows;
    for (int g = 0; g < KV_MAX_GROUPS; g++) {
        batch_group *group = &b->groups[g];
        group->sequences.rows = group->wanted_sequences.rows = group->table.rows = b->sequences;
        group->destination.rows = b->rows;
        group->host = host_of(b, group->sequences);
        group->host_wanted = host_of(b, group->wanted_sequences);
        group->max_past = group->plan_max_past = 0;
    }
}

static void fill_rows(batch *b, const kv_cache *cache, const batch_entry *e, int32_t row, int32_t *wanted) {
    int32_t *ids = host_of(b, b->ids), *labels = host_of(b, b->labels), *rows = host_of(b, b->wanted_rows);
    int64_t *positions = host_of(b, b->positions), start = cache ? kv_cache_position(cache, e->cache_id) : 0;
    int32_t *from = host_of(b, b->from);
    for (int32_t j = 0; j < e->rows; j++) from[row + j] = e->chosen - 1;
    if (!e->chosen) memcpy(ids + row, e->ids, (size_t)e->rows * sizeof *ids);
    for (int32_t j = 0; j < e->rows; j++) positions[row + j] = start + j;
    for (int32_t j = e->rows - e->wanted; j < e->rows; j++) {
        labels[*wanted] = e->labels ? e->labels[j] : -1;
        rows[(*wanted)++] = row + j;
    }
}

/* A learned start sees the tokens of its call alone. Pieces of a prompt are a function of the prompt, and so is the
 * result. */
static void fill_nearby(batch *b, int32_t row, int32_t rows) {
    int32_t *nearby = host_of(b, b->nearby), piece = b->piece_rows ? b->piece_rows : rows;
    for (int32_t j = 0; j < rows; j++)
        for (int32_t back = 0; back < LOOP_START_TOKENS; back++)
            nearby[LOOP_START_TOKENS * (row + j) + back] = back <= j % piece ? row + j - back : -1;
}

/* Sequence i of group g: its rows, its past and its new keys. `wanted`: wanted rows before it. */
static void fill_sequence(batch *b, const kv_cache *cache, int g, const batch_entry *e, int i, int32_t row,
                          int32_t wanted) {
    batch_group *group = &b->groups[g];
    attention_sequence s = {.q_row = row, .q_rows = e->rows, .kv_row = row, .kv_rows = e->rows};
    if (cache) {
        int32_t *table = host_of(b, group->table);
        int64_t *destination = host_of(b, group->destination);
        kv_cache_place(cache, g, e->cache_id, &s, table + i * group->table.cols, destination + row);
    }
    ((attention_sequence *)host_of(b, group->sequences))[i] = s;
    if (s.past > group->max_past) group->max_past = s.past;
    if (e->planned && s.past > group->plan_max_past) group->plan_max_past = s.past;
    s.q_row = wanted;
    s.q_rows = e->wanted;
    s.q_offset = e->rows - e->wanted;
    ((attention_sequence *)host_of(b, group->wanted_sequences))[i] = s;
}

/* Sequence i is padding. */
static void leave_empty(batch *b, int i) {
    for (int g = 0; g < b->group_count; g++) {
        ((attention_sequence *)host_of(b, b->groups[g].sequences))[i] = (attention_sequence){0};
        ((attention_sequence *)host_of(b, b->groups[g].wanted_sequences))[i] = (attention_sequence){0};
    }
}

/* Wanted row i is padding, whose results nobody reads: it is a padding row, or a copy of row 0. */
static void leave_wanted(batch *b, int32_t i) {
    ((int32_t *)host_of(b, b->labels))[i] = -1;
    ((int32_t *)host_of(b, b->wanted_rows))[i] = b->wants_all ? i : 0;
}

/* A padding row. */
static void leave_dead(batch *b, int32_t row) {
    ((int32_t *)host_of(b, b->ids))[row] = 0;
    ((int32_t *)host_of(b, b->from))[row] = -1;
    ((int64_t *)host_of(b, b->positions))[row] = 0;
    ((int64_t *)host_of(b, b->sink_positions))[row] = 0;
    ((int64_t *)host_of(b, b->lengths))[row] = 1;
    fill_nearby(b, row, 1);
    for (int g = 0; g < b->group_count; g++) ((int64_t *)host_of(b, b->groups[g].destination))[row] = -1;
}

/* In a sink cache, the position of a row is its index in the sequence's list of keys, which group 0 knows. */
static void fill_sink_positions(batch *b, int32_t row, int32_t rows, int i) {
    int64_t *positions = host_of(b, b->sink_positions);
    for (int32_t j = 0; j < rows; j++) positions[row + j] = b->groups[0].host[i].past + j;
}

/* All rows of an entry have the same length, as in transformers, where it follows from the last position of a call. */
static void fill_lengths(batch *b, const kv_cache *cache, const batch_entry *e, int32_t row) {
    bool streams = cache && kv_cache_has_sinks(cache);
    int32_t last = row + e->rows - 1;
    const int64_t *positions = host_of(b, streams ? b->sink_positions : b->positions);
    int64_t *lengths = host_of(b, b->lengths), length = positions[last] + 1;
    if (!streams && e->length > length) length = e->length;
    for (int32_t j = 0; j < e->rows; j++) lengths[row + j] = length;
}

/* The next power of two, at least 256. */
static int32_t rounded_past(int32_t past) {
    int64_t rounded = 256;
    while (rounded < past) rounded *= 2;
    return !past ? 0 : rounded < INT32_MAX ? (int32_t)rounded : INT32_MAX;
}

static void round_pasts(batch *b) {
    if (!b->rounds) return;
    for (int g = 0; g < b->group_count; g++) {
        b->groups[g].max_past = rounded_past(b->groups[g].max_past);
        b->groups[g].plan_max_past = rounded_past(b->groups[g].plan_max_past);
    }
}

static int prepare_cache(kv_cache *cache, const batch_entry *entries, int count) {
    int status = LCKV_OK;
    for (int i = 0; i < count && status >= 0; i++)
        status = kv_cache_prepare(cache, entries[i].cache_id, entries[i].rows);
    if (status < 0) kv_cache_rollback(cache);
    return status;
}

static int lay_and_send(batch *b, kv_cache *cache, const batch_entry *entries, int count) {
    TRY(batch_reserve(b, (batch_limits){b->rows, b->sequences, cache ? kv_cache_table_pages(cache) : 0}));
    set_shapes(b);
    int32_t row = 0, wanted = 0;
    for (int i = 0; i < count; i++) {
        const batch_entry *e = &entries[i];
        for (int g = 0; g < b->group_count; g++) fill_sequence(b, cache, g, e, i, row, wanted);
        fill_rows(b, cache, e, row, &wanted);
        fill_sink_positions(b, row, e->rows, i);
        fill_lengths(b, cache, e, row);
        fill_nearby(b, row, e->rows);
        row += e->rows;
    }
    for (int i = count; i < b->sequences; i++) leave_empty(b, i);
    for (; row < b->rows; row++) leave_dead(b, row);
    for (; wanted < b->wanted; wanted++) leave_wanted(b, wanted);
    round_pasts(b);
    return b->device->memory.copy_in(b->device, b->memory, b->staging, b->bytes);
}

int batch_fill(batch *b, kv_cache *cache, const batch_entry *entries, int count) {
    TRY(check_entries(entries, count, cache != NULL));
    count_rows(b, entries, count);
    b->group_count = cache ? kv_cache_groups(cache) : 1;
    if (cache) TRY(prepare_cache(cache, entries, count));
    if (cache && b->rounds) round_decoding(b);
    if (cache && b->rounds) round_prompt(b);
    if (!cache && b->rounds) round_sequences(b);
    int status = lay_and_send(b, cache, entries, count);
    if (status < 0 && cache) kv_cache_rollback(cache);
    return status;
}

/* ---------------------------------------------------------------- packing */

/* The numbers of a filled batch. The contents of its views follow, as many rows of each as are used. */
typedef struct packed_batch {
    batch_limits limits;
    int32_t rows, sequences, plan_rows, plan_sequences, wanted, max_rows, padded_max_rows, piece_rows, group_count;
    int32_t max_past[KV_MAX_GROUPS], plan_max_past[KV_MAX_GROUPS];
    bool wants_all, reads_previous;
    double tolerance;
} packed_batch;

static packed_batch numbers_of(const batch *b) {
    packed_batch p = {.limits = b->limits,
                      .rows = b->rows,
                      .sequences = b->sequences,
                      .plan_rows = b->plan_rows,
                      .plan_sequences = b->plan_sequences,
                      .wanted = b->wanted,
                      .max_rows = b->max_rows,
                      .padded_max_rows = b->padded_max_rows,
                      .piece_rows = b->piece_rows,
                      .group_count = b->group_count,
                      .wants_all = b->wants_all,
                      .reads_previous = b->reads_previous,
                      .tolerance = b->tolerance};
    for (int g = 0; g < b->group_count; g++) {
        p.max_past[g] = b->groups[g].max_past;
        p.plan_max_past[g] = b->groups[g].plan_max_past;
    }
    return p;
}

static void set_numbers(batch *b, const packed_batch *p) {
    b->rows = p->rows;
    b->sequences = p->sequences;
    b->plan_rows = p->plan_rows;
    b->plan_sequences = p->plan_sequences;
    b->wanted = p->wanted;
    b->max_rows = p->max_rows;
    b->padded_max_rows = p->padded_max_rows;
    b->piece_rows = p->piece_rows;
    b->group_count = p->group_count;
    b->wants_all = p->wants_all;
    b->reads_previous = p->reads_previous;
    b->tolerance = p->tolerance;
    set_shapes(b);
    for (int g = 0; g < p->group_count; g++) {
        b->groups[g].max_past = p->max_past[g];
        b->groups[g].plan_max_past = p->plan_max_past[g];
    }
}

size_t batch_packed_bytes(const batch *b) {
    view *views[FIELDS + KV_MAX_GROUPS * GROUP_FIELDS];
    size_t bytes = sizeof(packed_batch);
    list_views((batch *)(uintptr_t)b, views);
    for (int i = 0; views[i]; i++) bytes += view_bytes(*views[i]);
    return bytes;
}

void batch_pack(const batch *b, void *out) {
    view *views[FIELDS + KV_MAX_GROUPS * GROUP_FIELDS];
    packed_batch p = numbers_of(b);
    char *at = out;
    memcpy(at, &p, sizeof p);
    at += sizeof p;
    list_views((batch *)(uintptr_t)b, views);
    for (int i = 0; views[i]; at += view_bytes(*views[i++])) memcpy(at, host_of(b, *views[i]), view_bytes(*views[i]));
}

int batch_unpack(batch *b, const void *packed, size_t bytes) {
    view *views[FIELDS + KV_MAX_GROUPS * GROUP_FIELDS];
    packed_batch p;
    const char *at = packed;
    memcpy(&p, at, sizeof p);
    at += sizeof p;
    if (memcmp(&p.limits, &b->limits, sizeof p.limits)) TRY(allocate(b, p.limits));
    set_numbers(b, &p);
    REQUIRE(bytes == batch_packed_bytes(b), LCKV_ERROR_FORMAT, "expected a batch of %zu bytes, found %zu",
            batch_packed_bytes(b), bytes);
    list_views(b, views);
    for (int i = 0; views[i]; at += view_bytes(*views[i++])) memcpy(host_of(b, *views[i]), at, view_bytes(*views[i]));
    return b->device->memory.copy_in(b->device, b->memory, b->staging, b->bytes);
}
