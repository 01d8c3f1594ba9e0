/* How many steps are recorded (graph/replay.h) while the number of clients changes: a few sizes stand for 1 to 256
 * clients, and once these are recorded nothing is recorded anew. The CPU does the work; its recording only counts, and
 * a replayed step leaves the tokens of an earlier one, which decide nothing here. */
#include "generate/batcher/batcher.h"

#include "fixture.h"

enum { CLIENTS = 256, PROMPT = 3 };

struct device_program {
    int unused;
};

static int recordings;

static int begin(device *d) {
    (void)d;
    recordings++;
    return LCKV_OK;
}

static int end(device *d, device_program **out) {
    (void)d;
    if (out) assert_non_null(*out = calloc(1, sizeof **out));
    return LCKV_OK;
}

static int replay_nothing(device *d, device_program *p) {
    (void)d;
    assert_non_null(p);
    return LCKV_OK;
}

static void release(device *d, device_program *p) {
    (void)d;
    free(p);
}

/* `count` clients send a request at the same time, each for `new_tokens` tokens. */
static void run_clients(batcher *b, int count, int new_tokens) {
    static sequence *s[CLIENTS];
    const sample_row greedy = {.top_p = 1, .repetition_penalty = 1};
    int32_t ids[PROMPT];
    for (int i = 0; i < count; i++) {
        fixture_ids(ids, PROMPT, (uint64_t)i);
        OK(sequence_create(ids, PROMPT, FIXTURE_VOCAB, &greedy, &s[i]));
        s[i]->max_count = PROMPT + new_tokens;
        s[i]->ignore_eos = true;
        OK(batcher_add(b, s[i]));
    }
    while (!batcher_idle(b)) OK(batcher_step(b));
    for (int i = 0; i < count; i++) sequence_free(s[i]);
}

static void changing_clients_record_nothing_new(void **state) {
    (void)state;
    fixture f;
    batcher *b;
    batcher_options options = {.compute = DTYPE_F32, .sequences = CLIENTS, .cache_bytes = 8 << 20};
    fixture_open(&f, 2, "", DTYPE_F32, false);
    f.device->recording = (struct device_recording){begin, end, replay_nothing, release};
    OK(batcher_create(f.model, &options, &b));
    for (int count = CLIENTS; count > 0; count--) run_clients(b, count, 5);
    for (int i = 0; i < 2; i++) run_clients(b, 1, 1); /* a prompt by itself is recorded too */
    /* 1 to 15, then eight sizes for each power of two below 256, and 256 */
    assert_in_range(recordings, 40, 15 + 8 * 4 + 1 + 2);
    int before = recordings;
    for (int i = 0; i < CLIENTS; i++) run_clients(b, 1 + i * 101 % CLIENTS, 2 + i % 9);
    assert_int_equal(recordings, before);
    batcher_free(b);
    fixture_close(&f);
}

/* Runs prompts of `lengths` tokens down to 2, one at a time, and counts the recordings after each of 4 rounds. */
static void run_lengths(const char *extra, int lengths, int recorded[4]) {
    const sample_row greedy = {.top_p = 1, .repetition_penalty = 1};
    int32_t *ids = malloc((size_t)lengths * sizeof *ids);
    fixture f;
    batcher *b;
    batcher_options options = {.compute = DTYPE_F32, .sequences = 1, .cache_bytes = 8 << 20};
    assert_non_null(ids);
    fixture_open(&f, 2, extra, DTYPE_F32, false);
    f.device->recording = (struct device_recording){begin, end, replay_nothing, release};
    OK(batcher_create(f.model, &options, &b));
    fixture_ids(ids, lengths, 1);
    recordings = 0;
    for (int i = 0; i < 4; i++) {
        for (int length = lengths; length > 1; length--) { /* the longest first, for which memory grows */
            sequence *s;
            OK(sequence_create(ids, length, FIXTURE_VOCAB, &greedy, &s));
            s->max_count = length + 1;
            OK(batcher_add(b, s));
            while (!batcher_idle(b)) OK(batcher_step(b));
            sequence_free(s);
        }
        recorded[i] = recordings;
    }
    batcher_free(b);
    fixture_close(&f);
    free(ids);
}

/* Prompts of all lengths, one at a time: a few sizes stand for them. */
static void lengths_of_prompts_record_nothing_new(void **state) {
    (void)state;
    int recorded[4];
    run_lengths("", 128, recorded);
    /* 2 to 15, then eight sizes for each power of two below 128, and 128; some anew, because memory grew */
    assert_in_range(recorded[2], 14 + 8 * 3 + 1, 14 + 8 * 3 + 20);
    assert_int_equal(recorded[3], recorded[2]);
}

/* The chunks of prompts with loops: 16 to 256 rows in steps of 16, without a past or with one of up to 256, 512 or
 * 1,024 tokens, wanted or not; and single tokens. */
static void lengths_of_planned_prompts_record_nothing_new(void **state) {
    (void)state;
    int recorded[4];
    run_lengths(",\"layer_types\":\"1_1\"", 700, recorded);
    assert_in_range(recorded[2], 20, 120);
    assert_int_equal(recorded[3], recorded[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(changing_clients_record_nothing_new),
                                       cmocka_unit_test(lengths_of_prompts_record_nothing_new),
                                       cmocka_unit_test(lengths_of_planned_prompts_record_nothing_new)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
