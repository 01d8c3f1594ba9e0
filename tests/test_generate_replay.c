/* Decoding on a device that records, a GPU or a CPU that keeps its rules (fresh_device.h): captured steps that are
 * replayed with new ids, positions and page tables choose the same tokens and give the same probabilities, bit for bit,
 * as steps that are not captured, while sequences grow, end, and have penalties. The same holds for the steps of a
 * single prompt, and for each type of keys and values. */
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

/* Quantized weights have rows of whole copies of the kernels for few rows. Keys and values in int8 have heads for
 * tensor cores. */
static const char *sizes_of(weight_format format, dtype kv_type) {
    bool plain = format == WEIGHT_FLOAT && kv_type != DTYPE_KV_INT8;
    return plain ? "" : ",\"hidden_size\":128,\"intermediate_size\":192,\"head_dim\":32";
}

typedef struct setting {
    const char *device, *layout;
    dtype compute;
    weight_format format;
    dtype kv_type;    /* DTYPE_F32: that of the computation */
    double tolerance; /* of the prompts' iterations */
} setting;

static void generate(const setting *as, sample_row how, bool records, output *out) {
    fixture f;
    batcher *b;
    char extra[256];
    dtype compute = as->compute;
    snprintf(extra, sizeof extra, ",\"layer_types\":\"%s\",\"sliding_window\":5%s", as->layout,
             sizes_of(as->format, as->kv_type));
    fixture_open_as(&f, as->device, 4, extra, compute, as->format, false);
    batcher_options options = {.compute = compute, .kv_type = as->kv_type, .sequences = TOGETHER, .rows = 64};
    options.encoding_tolerance = as->tolerance;
    OK(batcher_create(f.model, &options, &b)); /* pasts are rounded up in both, so that their kernels are the same */
    if (!records) f.device->recording = (struct device_recording){0};
    run(b, 0, TOGETHER, how, out);
    for (int i = TOGETHER; i < SEQUENCES; i++) run(b, i, i + 1, how, out);
    batcher_free(b);
    fixture_close(&f);
}

static void expect_same(const setting *as, sample_row how) {
    output *plain = calloc(1, sizeof *plain), *replayed = calloc(1, sizeof *replayed);
    assert_true(plain && replayed);
    generate(as, how, false, plain);
    generate(as, how, true, replayed);
    assert_memory_equal(plain, replayed, sizeof *plain);
    free(plain), free(replayed);
}

static void compare(const char *device_name) {
    static const char *const layouts[] = {"0_1_2_3", "0_2_2_3", "0s_1s_1_1"};
    const sample_row ways[] = {{.repetition_penalty = 1, .top_p = 1},
                               {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1.3f, .seed = 5}};
    for (int i = 0; i < 3; i++)
        for (int w = 0; w < 2; w++)
            for (int t = 0; t < 4; t++) {
                dtype compute = t % 2 ? DTYPE_BF16 : DTYPE_F32, kv_type = t / 2 ? DTYPE_KV_INT8 : DTYPE_F32;
                setting as = {device_name, layouts[i], compute, WEIGHT_FLOAT, kv_type, w ? 0.05 : 0};
                expect_same(&as, ways[w]);
            }
    for (int format = WEIGHT_INT8; format <= WEIGHT_INT4; format++)
        for (int compute = DTYPE_F32; compute <= DTYPE_BF16; compute++)
            expect_same(&(setting){device_name, layouts[0], (dtype)compute, (weight_format)format, DTYPE_F32, 0},
                        ways[0]);
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
