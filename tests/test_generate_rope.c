/* RoPE types against transformers 5.24.0: frequencies, the factor of cosines and sines, and the results of a small
 * Llama for 20 and 40 tokens and ten decoded ones. Its weights are defined by a formula, so that both programs create
 * the same model: element i of a tensor is 0.3 sin(0.37 i + s), where s is the sum of the bytes of its name modulo 97;
 * norms are 1 larger. transformers 4.57.6 has the same numbers for the configs that it accepts, except for longrope
 * with a factor above the original length, where it keeps the short factors. */
#include "engine_fixture.h"
#include "generate/score/score.h"

enum { PAIRS = 8, SHORT = 20, LONG = 40, DECODED = 10 };

static const struct {
    const char *name;
    int positions;
    const char *keys;
    double scale, frequencies[PAIRS], of_long[PAIRS]; /* of_long: the second set */
    double nll[2];                                    /* mean over 20 tokens, and over 40 */
    double decoded;                                   /* mean log-probability of 4, 30, 4, 30 and so on */
} cases[] = {
    {"yarn",
     128,
     "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":32}",
     1.13862944,
     {1, 0.42175597, 0.158113882, 0.0444569848, 0.0250000004, 0.0140585322, 0.00790569466, 0.00444569858},
     {0},
     {3.49840128, 3.51238650},
     -3.00369429},
    {"yarn, no original",
     48,
     "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0}",
     1.13862944,
     {1, 0.456902325, 0.197642356, 0.0777997226, 0.0250000004, 0.0140585322, 0.00790569466, 0.00444569858},
     {0},
     {3.49830385, 3.51233847},
     -3.00220921},
    {"yarn, all keys",
     128,
     "\"rope_parameters\":{\"rope_theta\":100.0,\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_"
     "embeddings\":32,\"beta_fast\":8,\"beta_slow\":2,\"mscale\":0.8,\"mscale_all_dim\":0.4,\"truncate\":false}",
     1.05253843,
     {1, 0.302601039, 0.079056941, 0.0444569848, 0.0250000004, 0.0140585322, 0.00790569466, 0.00444569858},
     {0},
     {3.50056876, 3.51334949},
     -3.00453173},
    {"yarn, attention_factor",
     128,
     "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":32,\"attention_"
     "factor\":1.25}",
     1.25,
     {1, 0.42175597, 0.158113882, 0.0444569848, 0.0250000004, 0.0140585322, 0.00790569466, 0.00444569858},
     {0},
     {3.49692128, 3.51145883},
     -3.00648261},
    {"dynamic",
     24,
     "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2.0}",
     1,
     {1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0316227786, 0.0177827943},
     {0},
     {3.50092663, 3.51368218},
     -2.99412221},
    {"longrope",
     96,
     "\"rope_parameters\":{\"rope_theta\":100.0,\"rope_type\":\"longrope\",\"short_factor\":[1.0,1.1,1.25,1.5,2.0,2.5,"
     "3.0,4.0],\"long_factor\":[1.0,2.0,3.0,4.0,6.0,9.0,12.0,16.0],\"original_max_position_embeddings\":24}",
     1.1984192,
     {1, 0.511219382, 0.252982229, 0.118551962, 0.0500000007, 0.022493653, 0.010540925, 0.00444569858},
     {1, 0.281170666, 0.10540925, 0.0444569848, 0.0166666675, 0.00624823663, 0.00263523124, 0.00111142464},
     {3.49802278, 3.51212007},
     -3.00127116},
    {"longrope, factors",
     96,
     "\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1.0,1.1,1.25,1.5,2.0,2.5,3.0,4.0],\"long_factor\":"
     "[1.0,2.0,3.0,4.0,6.0,9.0,12.0,16.0],\"factor\":2.0,\"attention_factor\":1.1,\"original_max_position_embeddings\":"
     "24}",
     1.1,
     {1, 0.511219382, 0.252982229, 0.118551962, 0.0500000007, 0.022493653, 0.010540925, 0.00444569858},
     {1, 0.281170666, 0.10540925, 0.0444569848, 0.0166666675, 0.00624823663, 0.00263523124, 0.00111142464},
     {3.49903490, 3.51287520},
     -2.99896445},
    {"longrope, factor",
     96,
     "\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1.0,1.1,1.25,1.5,2.0,2.5,3.0,4.0],\"long_factor\":"
     "[1.0,2.0,3.0,4.0,6.0,9.0,12.0,16.0],\"factor\":2.0,\"original_max_position_embeddings\":24}",
     1.10367762,
     {1, 0.511219382, 0.252982229, 0.118551962, 0.0500000007, 0.022493653, 0.010540925, 0.00444569858},
     {1, 0.281170666, 0.10540925, 0.0444569848, 0.0166666675, 0.00624823663, 0.00263523124, 0.00111142464},
     {3.49899511, 3.51284723},
     -2.99904863},
    {"longrope, config's original",
     96,
     "\"original_max_position_embeddings\":24,\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1.0,1.1,1."
     "25,1.5,2.0,2.5,3.0,4.0],\"long_factor\":[1.0,2.0,3.0,4.0,6.0,9.0,12.0,16.0]}",
     1.1984192,
     {1, 0.511219382, 0.252982229, 0.118551962, 0.0500000007, 0.022493653, 0.010540925, 0.00444569858},
     {1, 0.281170666, 0.10540925, 0.0444569848, 0.0166666675, 0.00624823663, 0.00263523124, 0.00111142464},
     {3.49802278, 3.51212007},
     -3.00127116},
    {"llama3, no original",
     96,
     "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0}",
     1,
     {1, 0.562341332, 0.316227764, 0.111283809, 0.0278967191, 0.0070292661, 0.00395284733, 0.00222284929},
     {0},
     {3.50010755, 3.51354552},
     -2.99763330},
};
enum { CASES = sizeof cases / sizeof *cases };

static void write_weights(params *p) {
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        float *values = w->tensor.value.data;
        int sum = 0;
        for (const char *c = w->name; *c; c++) sum += *c;
        for (int64_t k = 0; k < w->rows * w->cols; k++)
            values[k] = (float)(0.3 * sin(0.37 * (double)k + sum % 97) + (strstr(w->name, "norm") ? 1 : 0));
    }
}

static void open_case(fixture *f, int i) {
    char text[1024];
    json_t *tree;
    model_config *c;
    params *p;
    *f = (fixture){0};
    snprintf(
        text, sizeof text,
        "{\"model_type\":\"llama\",\"hidden_size\":16,\"intermediate_size\":24,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":16,\"vocab_size\":31,\"rope_theta\":100.0,"
        "\"rms_norm_eps\":1e-5,\"eos_token_id\":null,\"max_position_embeddings\":%d,%s}",
        cases[i].positions, cases[i].keys);
    OK(json_parse(text, strlen(text), cases[i].name, &tree));
    OK(config_from_json(tree, cases[i].name, NULL, &c));
    json_decref(tree);
    OK(device_open("cpu", 1, &f->device));
    OK(params_create(c, NULL, NULL, &p));
    OK(params_allocate(p, f->device, DTYPE_F32));
    write_weights(p);
    OK(model_create(f->device, c, p, &f->model));
}

static void close_case(fixture *f) {
    model_free(f->model);
    device_close(f->device);
}

static void near(const char *name, const char *what, double found, double want, double relative) {
    if (!(fabs(found - want) <= relative * fabs(want)))
        fail_msg("%s: %s: expected %.9g, found %.9g", name, what, want, found);
}

static void make_ids(int32_t *ids) {
    for (int i = 0; i < LONG; i++) ids[i] = (7 * i * i + 3 * i + 1) % 31;
}

/* transformers' frequencies are f32. */
static void frequencies(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        fixture f;
        double found[2 * PAIRS];
        open_case(&f, i);
        const model_config *c = f.model->config;
        bool two = cases[i].of_long[0] > 0;
        near(cases[i].name, "attention scaling", c->rope_scaling.attention_factor, cases[i].scale, 1e-7);
        assert_int_equal(config_frequency_sets(c), two ? 2 : 1);
        config_inverse_frequencies(c, found);
        for (int j = 0; j < PAIRS; j++) near(cases[i].name, "frequency", found[j], cases[i].frequencies[j], 3e-7);
        for (int j = 0; j < PAIRS && two; j++)
            near(cases[i].name, "long frequency", found[PAIRS + j], cases[i].of_long[j], 3e-7);
        close_case(&f);
    }
}

static double mean_nll(const fixture *f, int count, lckv_encoding encoding) {
    const score_options options = {.compute = DTYPE_F32, .encoding = encoding};
    int32_t ids[LONG];
    float logprobs[LONG];
    double sum = 0;
    make_ids(ids);
    OK(score_ids(f->model, ids, count, &options, logprobs, NULL));
    for (int i = 0; i + 1 < count; i++) sum -= (double)logprobs[i];
    return sum / (count - 1);
}

/* The rotation of a text depends on its length, also if it is processed token by token. */
static void texts(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        fixture f;
        open_case(&f, i);
        for (int length = 0; length < 2; length++) {
            near(cases[i].name, "nll", mean_nll(&f, length ? LONG : SHORT, LCKV_ENCODING_AUTO), cases[i].nll[length],
                 2e-6);
            near(cases[i].name, "nll, token by token", mean_nll(&f, length ? LONG : SHORT, LCKV_ENCODING_SEQUENTIAL),
                 cases[i].nll[length], 2e-6);
        }
        close_case(&f);
    }
}

/* Cached keys keep their rotation; each new token is rotated for the length that it results in. */
static void decoded(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        fixture f;
        int32_t ids[LONG];
        open_case(&f, i);
        make_ids(ids);
        lckv_request r = lckv_request_defaults();
        r.prompt = (lckv_prompt){ids, SHORT};
        r.max_new_tokens = DECODED;
        r.temperature = 0;
        heard_sample s = run_one(&f, lckv_engine_defaults(), &r, 0);
        assert_int_equal(s.count, DECODED);
        for (int k = 0; k < DECODED; k++) assert_int_equal(s.ids[k], k % 2 ? 30 : 4);
        near(cases[i].name, "decoded", s.logprob / DECODED, cases[i].decoded, 2e-6);
        close_case(&f);
    }
}

/* A prompt is rotated for its whole length, however it is split. A prompt longer than the original length does not
 * reuse cached keys of a shorter one. */
static void prompts_in_pieces(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        fixture f;
        int32_t ids[LONG];
        heard h;
        open_case(&f, i);
        make_ids(ids);
        lckv_request r = lckv_request_defaults();
        lckv_engine_options options = lckv_engine_defaults();
        r.prompt = (lckv_prompt){ids, LONG};
        r.max_new_tokens = 1;
        r.temperature = 0;
        double whole = run_one(&f, options, &r, 0).logprob;
        options.prefill_chunk_size = options.max_num_batched_tokens = 8;
        lckv_engine *e = open_engine(&f, options, &h);
        uint64_t id;
        for (int k = 0; k < 3; k++) { /* the second shares a prefix with the first, the third equals the second */
            r.prompt.count = k ? LONG : SHORT;
            OK(lckv_engine_submit(e, &r, &id));
            finish(e);
        }
        lckv_engine_free(e);
        near(cases[i].name, "in pieces", h.samples[2][0].logprob, whole, 1e-5);
        near(cases[i].name, "again", h.samples[3][0].logprob, whole, 1e-5);
        close_case(&f);
    }
}

/* Dynamic scaling applies to texts longer than the model's original length. */
static void dynamic_reaches_further(void **state) {
    (void)state;
    fixture f;
    open_case(&f, 4);
    assert_int_equal(f.model->config->max_position_embeddings, 24);
    assert_int_equal(f.model->config->positions, 48);
    assert_int_equal(config_length_class(f.model->config, 24), 0);
    assert_int_equal(config_length_class(f.model->config, 25), 25);
    close_case(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies),
        cmocka_unit_test(texts),
        cmocka_unit_test(decoded),
        cmocka_unit_test(prompts_in_pieces),
        cmocka_unit_test(dynamic_reaches_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
