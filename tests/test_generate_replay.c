/* Decoding on a device that records, a GPU or a CPU that keeps its rules (fresh_device.h): captured steps that are
 * replayed with new ids, positions and page tables choose the same tokens and give the same probabilities, bit for bit,
 * as steps that are not captured, while sequences grow, end, and have penalties. The same holds for the steps of a
 * single prompt. */
#include "fresh_device.h" /* before cmocka's fail() */

#include "generate/batcher/batcher.h"

#include "fixture.h"

/* The last sequences run alone, one after the other, with prompts of one length: the first is computed, the second
 * recorded, the others are replayed. */
enum { TOGETHER = 3, ALONE = 4, SEQUENCES = TOGETHER + ALONE, PROMPT = 23, NEW = 150 };

typedef struct output {
    int32_t ids[SEQUENCES][PROMPT + NEW];
    float logprobs[SEQUENCES][PROMPT + NEW];
    int64_t counts[SEQUENCES];
} output;

static sequence *make_sequence(int i, sample_row how) {
    int32_t ids[PROMPT];
    sequence *s;
    int count = i < TOGETHER ? PROMPT - i : PROMPT;
    fixture_ids(ids, count, (uint64_t)i);
    how.stream = (uint64_t)i;
    OK(sequence_create(ids, count, FIXTURE_VOCAB, &how, &s));
    s->max_count = i < TOGETHER ? PROMPT + NEW - 40 * i : PROMPT + 4; /* they end one after another */
    s->ignore_eos = true;
    return s;
}

/* Runs sequences [first, end) until they have ended. */
static void run(batcher *b, int first, int end, sample_row how, output *out) {
    sequence *s[SEQUENCES];
    for (int i = first; i < end; i++) OK(batcher_add(b, s[i] = make_sequence(i, how)));
    while (!batcher_idle(b)) {
        OK(batcher_step(b));
        for (int i = first; i < end; i++)
            if (s[i]->updated) out->logprobs[i][s[i]->count - 1] = s[i]->logprob;
    }
    for (int i = first; i < end; i++) {
        out->counts[i] = s[i]->count;
        memcpy(out->ids[i], s[i]->ids, (size_t)s[i]->count * sizeof(int32_t));
        sequence_free(s[i]);
    }
}

static void generate(const char *device_name, const char *layout, dtype compute, sample_row how, double tolerance,
                     bool records, output *out) {
    fixture f;
    batcher *b;
    char extra[256];
    snprintf(extra, sizeof extra, ",\"layer_types\":\"%s\",\"sliding_window\":5", layout);
    fixture_open_on(&f, device_name, 4, extra, compute, false);
    batcher_options options = {.compute = compute, .sequences = TOGETHER, .rows = 64, .encoding_tolerance = tolerance};
    OK(batcher_create(f.model, &options, &b)); /* pasts are rounded up in both, so that their kernels are the same */
    if (!records) f.device->recording = (struct device_recording){0};
    run(b, 0, TOGETHER, how, out);
    for (int i = TOGETHER; i < SEQUENCES; i++) run(b, i, i + 1, how, out);
    batcher_free(b);
    fixture_close(&f);
}

static void compare(const char *device_name) {
    static const char *const layouts[] = {"0_1_2_3", "0_2_2_3", "0s_1s_1_1"};
    const sample_row ways[] = {{.repetition_penalty = 1, .top_p = 1},
                               {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1.3f, .seed = 5}};
    for (int i = 0; i < 3; i++)
        for (int w = 0; w < 2; w++)
            for (int compute = DTYPE_F32; compute <= DTYPE_BF16; compute++) {
                double tolerance = w ? 0.05 : 0; /* of the prompts' iterations */
                output *plain = calloc(1, sizeof *plain), *replayed = calloc(1, sizeof *replayed);
                assert_true(plain && replayed);
                generate(device_name, layouts[i], (dtype)compute, ways[w], tolerance, false, plain);
                generate(device_name, layouts[i], (dtype)compute, ways[w], tolerance, true, replayed);
                assert_memory_equal(plain, replayed, sizeof *plain);
                free(plain), free(replayed);
            }
}

static void recorded_decoding_is_the_same(void **state) {
    (void)state;
    fresh_want(true);
    compare("cpu");
    assert_true(fresh.replays > 0);
    fresh_want(false);
}

static void recorded_decoding_on_a_gpu_is_the_same(void **state) {
    (void)state;
    if (!fixture_has_gpu()) skip();
    compare("cuda");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(recorded_decoding_is_the_same),
                                       cmocka_unit_test(recorded_decoding_on_a_gpu_is_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
