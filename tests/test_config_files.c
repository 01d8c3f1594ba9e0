/* Config files: golden folders, sample configs, names of models in the Hugging Face cache, generation_config.json. */
#include "base/files/mapped_file.h"
#include "config/model_config.h"
#include "config/model_size.h"
#include "expect.h"
#include "hub/model_path.h"

#include <dirent.h>

static char folder[64];

static int enter(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/lckv-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int leave(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    char *path = strdup(in_folder(name));
    *strrchr(path, '/') = 0;
    OK(folder_create(path));
    free(path);
    OK(file_replace(in_folder(name), text, strlen(text)));
}

/* ---------------------------------------------------------------- the goldens */

/* The number of values in a safetensors file: eight bytes with the length of the header, then JSON with the shapes. */
static int64_t count_values(const char *path) {
    mapped_file file;
    json_t *header, *entry;
    const char *key;
    uint64_t length;
    int64_t total = 0;
    OK(file_map(path, &file));
    memcpy(&length, file.data, sizeof length);
    OK(json_parse((const char *)file.data + 8, (size_t)length, path, &header));
    file_unmap(&file);
    json_object_foreach(header, key, entry) {
        json_t *shape = json_object_get(entry, "shape");
        int64_t count = shape != NULL;
        for (size_t i = 0; i < json_array_size(shape); i++) count *= json_integer_value(json_array_get(shape, i));
        total += count;
    }
    json_decref(header);
    return total;
}

/* Every checkpoint under `parent` loads and has the number of parameters that its config implies. */
static int check_checkpoints(const char *parent) {
    DIR *dir = opendir(parent);
    if (!dir) return 0;
    int count = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char path[1024], weights[1100];
        snprintf(path, sizeof path, "%s/%s", parent, e->d_name);
        snprintf(weights, sizeof weights, "%s/model.safetensors", path);
        if (e->d_name[0] == '.' || !file_exists(weights)) continue;
        model_config *c;
        OK(config_read(path, NULL, &c));
        if (model_parameters(c) != count_values(weights))
            fail_msg("%s: counted %lld parameters, the file has %lld", path, (long long)model_parameters(c),
                     (long long)count_values(weights));
        config_free(c);
        count++;
    }
    closedir(dir);
    return count;
}

static void checkpoints(void **state) {
    (void)state;
    if (!folder_exists(SHARED_DIR "/goldens")) {
        print_message("skipped: %s is absent\n", SHARED_DIR "/goldens");
        skip();
    }
    assert_true(check_checkpoints(SHARED_DIR "/goldens") >= 16);
    assert_true(check_checkpoints(SHARED_DIR "/data/models") >= 2);
}

/* ---------------------------------------------------------------- the samples */

static void samples(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters;
        int layers;
    } cases[] = {
        /* embeddings, head and final norm, then each layer: 64000 H + H + L (2 H + 2 H^2 + 2 H G D + 3 H I) */
        {"50m", INT64_C(51651072), 8},     {"110m", INT64_C(127027968), 12},
        {"1.1b", INT64_C(1100048384), 22}, /* TinyLlama's number */
        {"7b", INT64_C(6738415616), 32},   /* Llama 2's number */
        {"30b", INT64_C(32528943616), 60}, /* the first Llama's number */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[256];
        model_config *plain, *lckv;
        snprintf(name, sizeof name, SOURCE_DIR "/configs/llama-%s.json", cases[i].name);
        OK(config_read(name, NULL, &plain));
        snprintf(name, sizeof name, SOURCE_DIR "/configs/lckv-%s.json", cases[i].name);
        OK(config_read(name, NULL, &lckv));
        assert_int_equal(model_parameters(plain), cases[i].parameters);
        assert_int_equal(plain->layers, cases[i].layers);
        assert_int_equal(plain->map.slots, plain->layers);
        assert_int_equal(lckv->map.slots, 3); /* the lowest layer, the loop's top, the highest layer */
        assert_int_equal(lckv->map.loops, 1);
        int64_t saved = 2 * (int64_t)plain->kv_heads * plain->head_dim * plain->hidden_size * (plain->layers - 3);
        assert_int_equal(model_parameters(lckv), cases[i].parameters - saved);
        assert_int_equal(2 * model_kv_per_token(lckv).values, 3 * 2 * 2 * plain->kv_heads * plain->head_dim);
        assert_int_equal(2 * model_kv_per_token_unshared(lckv).values, 2 * model_kv_per_token(plain).values);
        config_free(plain);
        config_free(lckv);
    }
}

/* ---------------------------------------------------------------- names */

static const char smallest[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":1,\"vocab_size\":9,\"eos_token_id\":2}";

static void loads(const char *name) {
    model_config *c;
    OK(config_read(name, NULL, &c));
    assert_int_equal(c->vocab_size, 9);
    config_free(c);
}

static void forget_environment(void) {
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", folder, 1);
}

static void folders_and_files(void **state) {
    (void)state;
    model_config *c;
    write_file("model/config.json", smallest);
    write_file("other.json", smallest);
    loads(in_folder("model"));
    loads(in_folder("model/"));
    loads(in_folder("model/config.json"));
    loads(in_folder("other.json"));
    FAILS(config_read(in_folder("none"), NULL, &c), LCKV_ERROR_FILE, "/none' is neither a folder nor");
    FAILS(config_read(in_folder("none.json"), NULL, &c), LCKV_ERROR_FILE, "none.json");
    FAILS(config_read("", NULL, &c), LCKV_ERROR_FILE, "neither a folder");
    OK(folder_create(in_folder("empty")));
    FAILS(config_read(in_folder("empty"), NULL, &c), LCKV_ERROR_FILE, "empty/config.json");
    write_file("broken.json", "{\"model_type\":");
    FAILS(config_read(in_folder("broken.json"), NULL, &c), LCKV_ERROR_FORMAT, "broken.json: line 1");
    assert_null(c);
}

static void cache_names(void **state) {
    (void)state;
    model_config *c;
    forget_environment();
    FAILS(config_read("org/some-model", NULL, &c), LCKV_ERROR_FILE, "lckv fetch org/some-model");
    write_file(".cache/huggingface/hub/models--org--some-model/refs/main", "0123abcd");
    FAILS(config_read("org/some-model", NULL, &c), LCKV_ERROR_FILE, "lckv fetch org/some-model"); /* no snapshot */
    write_file(".cache/huggingface/hub/models--org--some-model/snapshots/0123abcd/config.json", smallest);
    loads("org/some-model");
    write_file("home/hub/models--org--other/refs/main", "ff\n");
    write_file("home/hub/models--org--other/snapshots/ff/config.json", smallest);
    setenv("HF_HOME", in_folder("home"), 1);
    loads("org/other");
    FAILS(config_read("org/some-model", NULL, &c), LCKV_ERROR_FILE, "home/hub");
    setenv("HF_HUB_CACHE", in_folder(".cache/huggingface/hub"), 1);
    loads("org/some-model");
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    setenv("XDG_CACHE_HOME", in_folder(".cache"), 1);
    loads("org/some-model");
    forget_environment();
}

/* A commit hash or name that would lead out of the cache is ignored. */
static void cache_is_not_left(void **state) {
    (void)state;
    model_config *c;
    char *path = (char *)1;
    forget_environment();
    write_file("outside/config.json", smallest);
    write_file(".cache/huggingface/hub/models--org--m/refs/main", "../../../../../outside");
    OK(folder_create(in_folder(".cache/huggingface/hub/models--org--m/snapshots")));
    FAILS(config_read("org/m", NULL, &c), LCKV_ERROR_FILE, "fetch");
    static const char *const names[] = {"../m", "org/..", "org/m/x", "/m", "org/", "org/a b", "org", "o\xc3\xa4/m"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (folder_exists(names[i])) continue;
        FAILS(model_path_resolve(names[i], &path), LCKV_ERROR_FILE, "neither a folder nor of the form ORG/NAME");
        assert_null(path);
    }
}

/* Things that users pass instead of a folder: the message says what they are. */
static void other_things(void **state) {
    (void)state;
    char *path;
    forget_environment();
    write_file("files/x.gguf", "GGML");
    write_file("files/model.safetensors", "");
    write_file("files/weights", "");
    static const struct {
        const char *name, *part;
        int code;
    } cases[] = {
        {"files/x.gguf", "x.gguf: a GGUF file begins with 'GGUF'", LCKV_ERROR_FORMAT},
        {"files/none.gguf", "none.gguf' does not exist; expected a GGUF file, a folder, or", LCKV_ERROR_FILE},
        {"files/model.safetensors", "is a file of a model, expected its folder '", LCKV_ERROR_FILE},
        {"files/weights", "is a file, expected a folder with config.json", LCKV_ERROR_FILE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FAILS(model_path_resolve(in_folder(cases[i].name), &path), cases[i].code, cases[i].part);
        assert_null(path);
    }
    FAILS(model_path_resolve("org/x.gguf", &path), LCKV_ERROR_FILE, "'org/x.gguf' does not exist");
    FAILS(model_path_resolve("org/m", &path), LCKV_ERROR_FILE, "fetch it with: lckv fetch org/m");
    FAILS(model_path_resolve("m", &path), LCKV_ERROR_FILE, "lckv fetch ORG/NAME");
    FAILS(model_path_resolve("https://huggingface.co/org/m", &path), LCKV_ERROR_FILE,
          "is an address, expected ORG/NAME");
    FAILS(dataset_path_resolve("wikitext", &path), LCKV_ERROR_FILE,
          "lckv fetch --repo_type dataset Salesforce/wikitext");
    FAILS(dataset_path_resolve("imdb", &path), LCKV_ERROR_FILE, "lckv fetch --repo_type dataset ORG/NAME");
}

static void generation_config(void **state) {
    (void)state;
    model_config *c;
    write_file("m/config.json", smallest);
    write_file("m/generation_config.json", "{\"eos_token_id\":[5,2,7],\"temperature\":0.6}");
    OK(config_read(in_folder("m"), NULL, &c));
    const int32_t expected[] = {2, 5, 7};
    assert_int_equal(c->eos_count, 3);
    assert_memory_equal(c->eos_token_ids, expected, sizeof expected);
    config_free(c);
    write_file("m/generation_config.json", "{\"eos_token_id\":\"x\"}");
    FAILS(config_read(in_folder("m"), NULL, &c), LCKV_ERROR_FORMAT, "generation_config.json: 'eos_token_id'");
    write_file("m/generation_config.json", "{");
    FAILS(config_read(in_folder("m"), NULL, &c), LCKV_ERROR_FORMAT, "generation_config.json: line 1");
    assert_null(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoints),
        cmocka_unit_test(samples),
        cmocka_unit_test_setup_teardown(folders_and_files, enter, leave),
        cmocka_unit_test_setup_teardown(cache_names, enter, leave),
        cmocka_unit_test_setup_teardown(cache_is_not_left, enter, leave),
        cmocka_unit_test_setup_teardown(other_things, enter, leave),
        cmocka_unit_test_setup_teardown(generation_config, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
