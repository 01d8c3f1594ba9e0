/* Logits of GGUF models, compared with those of transformers for the dequantized weights (tests/gguf/make_mixed.py).
 *
 * docs/file-formats.md has the differences for larger models in each format. */
#include "folder_fixture.h"

#include <math.h>

enum { TOKENS = 20, VOCAB = 16, MANY = 40 /* rows: no product of few rows, in any build */ };

static void read_expected(float *out) {
    size_t bytes;
    char *file = get(SOURCE_DIR "/tests/gguf/mixed_logits.bin", &bytes);
    assert_int_equal(bytes, TOKENS * VOCAB * sizeof *out);
    memcpy(out, file, bytes);
    free(file);
}

/* The largest difference of the logits of the first TOKENS of `count` tokens: later ones do not change them. */
static double difference(const char *path, const lckv_model_options *options, int count) {
    lckv_device *d;
    lckv_model *m;
    int32_t ids[MANY];
    float expected[TOKENS * VOCAB], logits[MANY * VOCAB], logprobs[MANY];
    lckv_score_options score = lckv_score_defaults();
    score.logits = logits;
    read_expected(expected);
    for (int i = 0; i < MANY; i++) ids[i] = i * 7 % VOCAB;
    OK(lckv_device_open("cpu", 1, &d));
    OK(lckv_model_open(d, path, options, &m));
    OK(lckv_score(m, ids, count, &score, logprobs));
    double most = 0;
    for (int i = 0; i < count * VOCAB && i < TOKENS * VOCAB; i++)
        most = fmax(most, fabs((double)logits[i] - expected[i]));
    lckv_model_free(m);
    lckv_device_close(d);
    return most;
}

/* The logits are up to 11. Sums over 256 columns in f32 differ by some 2^-24 * 16 of this. Products of up to 16 rows,
 * or 32 without oneDNN, with integers round their input to 2^-15 of the largest value of a group. */
static void logits_are_those_of_transformers(void **state) {
    static const struct {
        const char *torch_dtype, *weight_dtype;
        int count, files;
        double limit;
    } cases[] = {
        {"float32", "float", MANY, 3, 5e-5}, /* all dequantized, also after conversion */
        {"float32", "auto", MANY, 1, 5e-5},  /* int8 and int4 have the same values */
        {"float32", "auto", 8, 1, 3e-3},     /* products of few rows with integers */
        {"auto", "auto", MANY, 1, 0.2},      /* q4_1, q4_K and q6_K are rounded to bf16 */
    };
    lckv_model_options options = lckv_model_defaults();
    const folder *f = *state;
    const char *file = SOURCE_DIR "/tests/gguf/mixed.gguf";
    lckv_convert_options convert = lckv_convert_defaults();
    convert.model_name_or_path = file;
    convert.torch_dtype = "float32";
    convert.output_dir = in(f, "folder");
    OK(lckv_convert(&convert));
    convert.model_name_or_path = in(f, "folder");
    convert.output_dir = NULL;
    convert.gguf_file = in(f, "again.gguf");
    OK(lckv_convert(&convert));
    const char *paths[] = {file, in(f, "folder"), in(f, "again.gguf")};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int p = 0; p < cases[i].files; p++) {
            options.torch_dtype = cases[i].torch_dtype;
            options.weight_dtype = cases[i].weight_dtype;
            double most = difference(paths[p], &options, cases[i].count);
            if (!(most < cases[i].limit)) fail_msg("case %d, %s: %g", (int)i, paths[p], most);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(logits_are_those_of_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
