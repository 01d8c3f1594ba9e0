#include "generate/sampler.h"

#include <stdlib.h>
#include <string.h>

/* Device memory for `capacity` rows: how, seen, bias, ids, logprob. `seen` and `bias` are the largest by far and there
 * only once a row asks for them. */
struct sampler {
    device *device;
    int64_t vocab_size;
    int capacity;
    sample_row *how; /* host, what is sent */
    uint64_t *owner; /* [capacity] whose marks row i of `seen` holds; 0: nobody's */
    uint64_t *bias_owner;
    view how_view, ids, logprob, seen, bias;
    int count;     /* rows that were sent */
    bool penalty;  /* one of them has a penalty, */
    bool biased;   /* a bias */
    int64_t moves; /* see sampler_moves() */
};

int sampler_create(device *d, int64_t vocab_size, sampler **out) {
    *out = calloc(1, sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a sampler");
    **out = (sampler){.device = d, .vocab_size = vocab_size};
    return LCKV_OK;
}

static void release_rows(sampler *s) {
    device *d = s->device;
    view *views[] = {&s->how_view, &s->ids, &s->logprob, &s->seen, &s->bias};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        d->memory.release(d, views[i]->data);
        views[i]->data = NULL;
    }
    free(s->how);
    free(s->owner);
    free(s->bias_owner);
    s->how = NULL;
    s->owner = s->bias_owner = NULL;
    s->capacity = 0;
}

void sampler_free(sampler *s) {
    if (!s) return;
    release_rows(s);
    free(s);
}

static int take(device *d, int64_t rows, int64_t cols, dtype type, view *out) {
    *out = (view){NULL, rows, cols, type};
    return d->memory.alloc(d, view_bytes(*out), &out->data);
}

static int make_rows(sampler *s, int capacity) {
    s->how = calloc((size_t)capacity, sizeof *s->how);
    s->owner = calloc((size_t)capacity, sizeof *s->owner);
    s->bias_owner = calloc((size_t)capacity, sizeof *s->bias_owner);
    REQUIRE(s->how && s->owner && s->bias_owner, LCKV_ERROR_MEMORY, "no memory to sample %d rows", capacity);
    TRY(take(s->device, capacity, (int64_t)sizeof *s->how, DTYPE_U8, &s->how_view));
    TRY(take(s->device, capacity, 1, DTYPE_I32, &s->ids));
    TRY(take(s->device, capacity, 1, DTYPE_F32, &s->logprob));
    s->capacity = capacity;
    s->moves++;
    return LCKV_OK;
}

static int make_room(sampler *s, int count) {
    if (count <= s->capacity) return LCKV_OK;
    int capacity = 8;
    while (capacity < count) capacity *= 2;
    release_rows(s);
    int status = make_rows(s, capacity);
    if (status < 0) release_rows(s);
    return status;
}

/* Sends the marks of rows whose owner has changed. Rows that are out of use are forgotten: their owner may be sampled
 * elsewhere before it comes back. */
static int send_seen(sampler *s, const sampler_row *rows, int count) {
    device *d = s->device;
    if (!s->seen.data) {
        TRY(take(d, s->capacity, s->vocab_size, DTYPE_U8, &s->seen));
        s->moves++;
    }
    for (int i = 0; i < s->capacity; i++) {
        uint64_t owner = i < count && rows[i].how.repetition_penalty != 1 ? rows[i].owner : 0;
        bool stays = owner == s->owner[i];
        s->owner[i] = owner;
        if (!owner || stays) continue;
        uint8_t *to = (uint8_t *)s->seen.data + (size_t)i * (size_t)s->vocab_size;
        TRY(d->memory.copy_in(d, to, rows[i].seen, (size_t)s->vocab_size));
    }
    return LCKV_OK;
}

/* The same for biases, of which one element may have changed since. */
static int send_bias(sampler *s, const sampler_row *rows, int count) {
    device *d = s->device;
    if (!s->bias.data) {
        TRY(take(d, s->capacity, s->vocab_size, DTYPE_F32, &s->bias));
        s->moves++;
    }
    for (int i = 0; i < s->capacity; i++) {
        uint64_t owner = i < count && rows[i].how.biased ? rows[i].owner : 0;
        bool stays = owner == s->bias_owner[i];
        int32_t id = stays && owner ? rows[i].changed : 0;
        s->bias_owner[i] = owner;
        if (!owner || id < 0) continue;
        float *to = (float *)s->bias.data + (int64_t)i * s->vocab_size + id;
        TRY(d->memory.copy_in(d, to, rows[i].bias + id, (stays ? 1 : (size_t)s->vocab_size) * sizeof *to));
    }
    return LCKV_OK;
}

static view first_rows(view v, int rows) {
    v.rows = rows;
    return v;
}

int sampler_send(sampler *s, const sampler_row *rows, int count) {
    device *d = s->device;
    TRY(make_room(s, count));
    s->count = count;
    bool penalty = false, biased = false;
    for (int i = 0; i < count; i++) {
        s->how[i] = rows[i].how;
        penalty |= rows[i].how.repetition_penalty != 1;
        biased |= rows[i].how.biased != 0;
    }
    if (penalty != s->penalty || biased != s->biased) s->moves++;
    s->penalty = penalty;
    s->biased = biased;
    if (penalty) TRY(send_seen(s, rows, count));
    if (biased) TRY(send_bias(s, rows, count));
    return d->memory.copy_in(d, s->how_view.data, s->how, (size_t)count * sizeof *s->how);
}

int sampler_choose(sampler *s, view logits) {
    struct op_sample sample = {.logits = logits,
                               .how = first_rows(s->how_view, s->count),
                               .ids = first_rows(s->ids, s->count),
                               .logprob = first_rows(s->logprob, s->count)};
    if (s->penalty) sample.seen = first_rows(s->seen, s->count);
    if (s->biased) sample.bias = first_rows(s->bias, s->count);
    return DEVICE_RUN(s->device, sample, &sample);
}

int sampler_fetch(sampler *s, int32_t *ids, float *logprobs) {
    device *d = s->device;
    TRY(d->memory.copy_out(d, ids, s->ids.data, (size_t)s->count * sizeof *ids));
    TRY(d->memory.copy_out(d, logprobs, s->logprob.data, (size_t)s->count * sizeof *logprobs));
    return d->memory.wait(d);
}

int64_t sampler_moves(const sampler *s) {
    return s->moves;
}
