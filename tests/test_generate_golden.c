/* Golden and trained models through the commands: the output of generate and score equals that of the oracle and
 * transformers. The golden runner tests the library; this tests the program. */
#include "io/tensors/safetensors.h"

#include "program.h"

#include <math.h>

#define GOLDENS SHARED_DIR "/goldens"
#define MODELS SHARED_DIR "/data/models"

static bool shared_is_there(const char *path) {
    if (folder_exists(path)) return true;
    print_message("skipped: there is no %s\n", path);
    return false;
}

/* The first `count` ids as "1,15,7"; release with free(). */
static char *join_ids(const int32_t *ids, size_t count) {
    char *text = malloc(count * 12 + 1), *at = text;
    assert_non_null(text);
    for (size_t i = 0; i < count; i++) at += sprintf(at, "%s%d", i ? "," : "", (int)ids[i]);
    return text;
}

static const int32_t *ids_in(const safetensors_file *file, const char *name, size_t count) {
    const safetensors_entry *e = safetensors_find(file, name);
    assert_non_null(e);
    assert_true(e->type == DTYPE_I32 && (size_t)e->elements == count);
    int32_t *ids = malloc(e->bytes);
    assert_non_null(ids);
    memcpy(ids, e->data, e->bytes);
    return ids;
}

static void assert_same_ids(const char *what, const json_t *ids, const int32_t *expected, size_t count) {
    if (json_array_size(ids) != count) fail_msg("%s: %zu ids, expected %zu", what, json_array_size(ids), count);
    for (size_t i = 0; i < count; i++)
        if (json_integer_value(json_array_get(ids, i)) != expected[i])
            fail_msg("%s: id %zu is %d, expected %d", what, i, (int)json_integer_value(json_array_get(ids, i)),
                     (int)expected[i]);
}

static const json_t *first_sequence(const json_t *result) {
    return json_array_get(json_object_get(result, "sequences"), 0);
}

/* ---------------------------------------------------------------- golden models */

/* reference/README.md: ten times the oracle's own error in f32, or 1e-5. */
static double tolerance(const safetensors_file *expected, const char *group) {
    char key[64];
    snprintf(key, sizeof key, "f32_error.%s.logits", group);
    const char *error = safetensors_metadata(expected, key);
    assert_non_null(error);
    return fmax(10 * strtod(error, NULL), 1e-5);
}

/* Compares the logits in the file `got` with the oracle's, and log-probabilities with those of the oracle's logits. */
static void compare_logits(const char *what, const char *got, const safetensors_file *expected, const char *group,
                           const json_t *score, const int32_t *ids) {
    char name[64];
    safetensors_file file;
    snprintf(name, sizeof name, "%s.logits", group);
    OK(safetensors_open(got, &file));
    const safetensors_entry *a = safetensors_find(&file, "logits"), *b = safetensors_find(expected, name);
    double allowed = tolerance(expected, group);
    assert_true(a && b && a->type == DTYPE_F32 && a->bytes == b->bytes && a->shape[0] == b->shape[0]);
    int64_t tokens = a->shape[0], vocab_size = a->shape[1];
    for (int64_t t = 0; t < tokens; t++) {
        double sum = 0, logit = 0;
        for (int64_t v = 0; v < vocab_size; v++) {
            float x, y;
            memcpy(&x, a->data + (t * vocab_size + v) * 4, 4);
            memcpy(&y, b->data + (t * vocab_size + v) * 4, 4);
            if (!(fabs((double)x - (double)y) <= allowed))
                fail_msg("%s, %s: logit %d of token %d is %g, expected %g", what, group, (int)v, (int)t, (double)x,
                         (double)y);
            sum += exp((double)y);
            if (t + 1 < tokens && v == ids[t + 1]) logit = (double)y;
        }
        double logprob = json_real_value(json_array_get(json_object_get(score, "logprobs"), (size_t)t));
        if (t + 1 < tokens && !(fabs(logprob - (logit - log(sum))) <= 2 * allowed))
            fail_msg("%s, %s: log-probability %d is %g, expected %g", what, group, (int)t, logprob, logit - log(sum));
    }
    safetensors_close(&file);
}

static void check_scores(const folder *f, const char *model, const safetensors_file *expected, const int32_t *ids) {
    char *all = join_ids(ids, 40);
    const char *logits = in(f, "logits.safetensors");
    json_t *plan = RUN_JSON(f, "score", "--model_name_or_path", model, "--prompt_ids", all, "--logits", logits,
                            "--encoding", "plan");
    compare_logits(model, logits, expected, "plan", plan, ids);
    json_t *exact = RUN_JSON(f, "score", "--model_name_or_path", model, "--prompt_ids", all, "--logits", logits,
                             "--encoding", "sequential");
    compare_logits(model, logits, expected, "sequential", exact, ids);
    json_t *sinks = RUN_JSON(f, "score", "--model_name_or_path", model, "--prompt_ids", all, "--logits", logits,
                             "--sink_cache", "--window_length", "12", "--num_sink_tokens", "3");
    compare_logits(model, logits, expected, "streaming", sinks, ids);
    json_decref(plan);
    json_decref(exact);
    json_decref(sinks);
    free(all);
}

static void check_generation(const folder *f, const char *model, const safetensors_file *expected, const int32_t *ids) {
    static const char *const names[] = {"generate.short.tokens", "generate.long.tokens"};
    char *prompts[2] = {join_ids(ids, 5), join_ids(ids, 24)};
    json_t *r =
        RUN_JSON(f, "generate", "--model_name_or_path", model, "--prompt_ids", prompts[0], "--prompt_ids", prompts[1],
                 "--length", "16", "--temperature", "0", "--ignore_eos"); /* both prompts together */
    for (size_t i = 0; i < 2; i++) {
        const int32_t *tokens = ids_in(expected, names[i], 16);
        const json_t *s = json_array_get(json_object_get(r, "sequences"), i);
        assert_same_ids(model, json_object_get(s, "ids"), tokens, 16);
        free((void *)(uintptr_t)tokens);
        free(prompts[i]);
    }
    json_decref(r);
}

static void golden_models(void **state) {
    const folder *f = *state;
    if (!shared_is_there(GOLDENS)) skip();
    DIR *dir = opendir(GOLDENS);
    int checked = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char model[PATH_BYTES], path[PATH_BYTES + 32];
        safetensors_file expected;
        snprintf(model, sizeof model, "%s/%.200s", GOLDENS, e->d_name);
        snprintf(path, sizeof path, "%s/expected.safetensors", model);
        if (e->d_name[0] == '.' || !file_exists(path)) continue;
        OK(safetensors_open(path, &expected));
        const int32_t *ids = ids_in(&expected, "ids", 40);
        check_generation(f, model, &expected, ids);
        check_scores(f, model, &expected, ids);
        free((void *)(uintptr_t)ids);
        safetensors_close(&expected);
        checked++;
    }
    closedir(dir);
    print_message("%d golden models\n", checked);
    assert_true(checked > 0);
}

/* ---------------------------------------------------------------- trained models */

static int32_t *ids_of(const json_t *array) {
    int32_t *ids = calloc(json_array_size(array) + 1, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < json_array_size(array); i++) ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

/* The first 512 tokens of a text, as `score` reads them. */
static char *first_tokens(const char *model, const char *text, size_t bytes, bool special) {
    enum { TOKENS = 512 };
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count;
    OK(lckv_tokenizer_open(model, &t));
    OK(lckv_tokenizer_encode(t, text, bytes, special, &ids, &count));
    assert_true(count >= TOKENS);
    char *joined = join_ids(ids, TOKENS);
    lckv_free(ids);
    lckv_tokenizer_free(t);
    return joined;
}

static void assert_nll(const folder *f, const char *model, const char *ids, const char *encoding, const char *window,
                       double expected) {
    json_t *r = window
                    ? RUN_JSON(f, "score", "--model_name_or_path", model, "--prompt_ids", ids, "--sink_cache",
                               "--num_sink_tokens", "4", "--window_length", window)
                    : RUN_JSON(f, "score", "--model_name_or_path", model, "--prompt_ids", ids, "--encoding", encoding);
    double nll = json_real_value(json_object_get(r, "mean_nll"));
    if (!(fabs(nll - expected) < 1e-5)) fail_msg("%s, %s: %.7f, expected %.7f", model, encoding, nll, expected);
    json_decref(r);
}

static json_t *expectations(const char *model) {
    char path[PATH_BYTES];
    json_t *expected;
    snprintf(path, sizeof path, "%s/expected.json", model);
    OK(json_read_file(path, &expected));
    return expected;
}

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_real(value));
    return json_real_value(value);
}

/* The text with line breaks as one character, as when the expected numbers were computed. */
static size_t join_line_breaks(char *text, size_t bytes) {
    size_t kept = 0;
    for (size_t i = 0; i < bytes; i++)
        if (text[i] != '\r') text[kept++] = text[i];
    return kept;
}

static void a_trained_lckv_model(void **state) {
    const folder *f = *state;
    const char *model = MODELS "/lckv-3m";
    if (!shared_is_there(model)) skip();
    json_t *expected = expectations(model);
    const json_t *greedy = json_object_get(expected, "greedy"), *range = json_object_get(expected, "text_bytes");
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        const json_t *g = json_array_get(greedy, i), *ids = json_object_get(g, "greedy_ids");
        char length[16];
        snprintf(length, sizeof length, "%zu", json_array_size(ids));
        const char *prompt = json_string_value(json_object_get(g, "prompt"));
        const char *text = json_string_value(json_object_get(g, "greedy_text"));
        const char *const words[] = {"generate", "--model_name_or_path", model, "--prompt", prompt, "--length",
                                     length,     "--temperature",        "0",   "--json",   NULL};
        json_t *r = program_json(f, words);
        int32_t *wanted = ids_of(ids), *wanted_prompt = ids_of(json_object_get(g, "prompt_ids"));
        assert_same_ids("lckv-3m", json_object_get(first_sequence(r), "ids"), wanted, json_array_size(ids));
        assert_same_ids("lckv-3m's prompt", json_object_get(first_sequence(r), "prompt_ids"), wanted_prompt,
                        json_array_size(json_object_get(g, "prompt_ids")));
        json_decref(r);
        outcome o = RUN(f, "generate", "--model_name_or_path", model, "--prompt", prompt, "--length", length,
                        "--temperature", "0");
        assert_true(!strncmp(o.output, text, strlen(text)) && !strcmp(o.output + strlen(text), "\n"));
        outcome_free(&o);
        free(wanted);
        free(wanted_prompt);
    }
    size_t bytes, first = (size_t)json_integer_value(json_array_get(range, 0));
    size_t end = (size_t)json_integer_value(json_array_get(range, 1));
    char *text = get(SHARED_DIR "/data/text/northanger_abbey.txt", &bytes);
    bytes = join_line_breaks(text, bytes);
    assert_true(end <= bytes);
    char *ids = first_tokens(model, text + first, end - first, false);
    assert_nll(f, model, ids, "auto", NULL, number(expected, "mean_nll_plan"));
    assert_nll(f, model, ids, "sequential", NULL, number(expected, "mean_nll_sequential"));
    assert_nll(f, model, ids, "sinks", "128", number(expected, "mean_nll_streaming_window128_sinks4"));
    free(ids);
    free(text);
    json_decref(expected);
}

static void a_trained_llama_model(void **state) {
    const folder *f = *state;
    const char *model = MODELS "/stories260k";
    if (!shared_is_there(model)) skip();
    json_t *expected = expectations(model);
    const char *prompt = json_string_value(json_object_get(expected, "prompt"));
    const json_t *all = json_object_get(expected, "greedy_ids");
    json_t *r = RUN_JSON(f, "generate", "--model_name_or_path", model, "--prompt", prompt, "--length", "64",
                         "--temperature", "0");
    int32_t *wanted = ids_of(all);
    size_t given = json_array_size(json_object_get(first_sequence(r), "prompt_ids"));
    assert_true(json_array_size(all) >= given + 64);
    assert_same_ids("stories260k's prompt", json_object_get(first_sequence(r), "prompt_ids"), wanted, given);
    assert_same_ids("stories260k", json_object_get(first_sequence(r), "ids"), wanted + given, 64);
    json_decref(r);
    size_t bytes;
    char *text = get(SHARED_DIR "/data/text/tinyshakespeare.txt", &bytes);
    char *ids = first_tokens(model, text, 4000, true);
    assert_nll(f, model, ids, "plan", NULL, number(expected, "shakespeare_first_512_tokens_mean_nll"));
    free(ids);
    free(text);
    free(wanted);
    json_decref(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(golden_models),
        IN_FOLDER(a_trained_lckv_model),
        IN_FOLDER(a_trained_llama_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
