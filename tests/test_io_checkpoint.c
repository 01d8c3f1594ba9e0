/* Saving and loading models: exact values, shards, copied files, and no incomplete checkpoints. */
#define _GNU_SOURCE /* memmem */
#include "model_fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---------------------------------------------------------------- round trips */

static void round_trip(const folder *f, dtype type, int64_t shard_bytes, int files) {
    device *d = cpu();
    const char *path = in(f, "model");
    model *m = small_model(d, "lckv-llama", 4, ",\"layer_types\":\"0_2_2_3\",\"attention_bias\":true", type, 1);
    save_model(m, path, shard_bytes);
    assert_int_equal(files_in(path), files);
    model *again = load_model(d, path, DTYPE_COUNT);
    assert_true(same_weights(m, again));
    assert_int_equal((int)again->config->torch_dtype, (int)type); /* both lists begin with f32, bf16, f16 */
    model_free(again);
    model_free(m);
    device_close(d);
}

static void bits_come_back(void **state) {
    round_trip(*state, DTYPE_F32, 0, 2);
    round_trip(*state, DTYPE_BF16, 0, 2);
    round_trip(*state, DTYPE_F16, 0, 2);
}

static void bits_come_back_from_shards(void **state) {
    round_trip(*state, DTYPE_F32, 8192, 2 + 5);
    round_trip(*state, DTYPE_BF16, 4096, 2 + 5);
    round_trip(*state, DTYPE_F16, 0, 2);      /* the shards are gone */
    round_trip(*state, DTYPE_F32, 1, 2 + 51); /* one tensor per shard */
    round_trip(*state, DTYPE_F32, 0, 2);
}

/* Numbers of config.json are written with as few digits as read back equal. */
static void numbers_are_short_and_exact(void **state) {
    static const char *const numbers[][2] = {{"1e-5", "\"rms_norm_eps\": 1e-5"},
                                             {"0.0123456789012345678", "\"rms_norm_eps\": 0.012345678901234568"}};
    device *d = cpu();
    for (int i = 0; i < 2; i++) {
        char more[100];
        const char *path = in(*state, "model");
        snprintf(more, sizeof more, ",\"rms_norm_eps\":%s", numbers[i][0]);
        model *m = small_model(d, "llama", 1, more, DTYPE_F32, 1);
        save_model(m, path, 0);
        assert_file_says(in(*state, "model/config.json"), numbers[i][1]);
        model *again = load_model(d, path, DTYPE_COUNT);
        assert_true(again->config->rms_norm_eps == m->config->rms_norm_eps);
        model_free(again);
        model_free(m);
    }
    device_close(d);
}

static void shards_are_as_small_as_asked(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model *m = small_model(d, "llama", 3, "", DTYPE_F32, 1);
    save_model(m, path, 6000);
    checkpoint_files files;
    json_t *index;
    OK(checkpoint_files_open(path, &files));
    OK(json_read_file(in(*state, "model/model.safetensors.index.json"), &index));
    size_t total = 0;
    for (int i = 0; i < files.file_count; i++) {
        size_t bytes = 0;
        for (int k = 0; k < files.files[i].count; k++) bytes += files.files[i].entries[k].bytes;
        assert_true(bytes <= 6000 || files.files[i].count == 1);
        total += bytes;
    }
    assert_int_equal(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")), total);
    assert_int_equal(total, params_elements(m->params) * 4);
    assert_int_equal(json_object_size(json_object_get(index, "weight_map")), m->params->count);
    json_decref(index);
    checkpoint_files_close(&files);
    checkpoint_save_options negative = {.type = DTYPE_COUNT, .shard_bytes = -1};
    FAILS(checkpoint_save(m->config, m->params, &negative, path), LCKV_ERROR_ARGUMENT, "shard size");
    model_free(m);
    device_close(d);
}

static bool lies_in_files(const model *m, const void *data) {
    for (int i = 0; i < m->file_count; i++) {
        const unsigned char *first = m->files[i].data;
        if ((const unsigned char *)data >= first && (const unsigned char *)data < first + m->files[i].bytes)
            return true;
    }
    return false;
}

static void weights_stay_in_the_file(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model *m = small_model(d, "llama", 2, "", DTYPE_BF16, 1);
    save_model(m, path, 5000);
    model *mapped = load_model(d, path, DTYPE_COUNT);
    for (int i = 0; i < mapped->params->count; i++)
        assert_true(lies_in_files(mapped, mapped->params->table[i].tensor.value.data));
    assert_null(mapped->params->memory);
    model_free(mapped);
    model *wide = load_model(d, path, DTYPE_F32);
    assert_int_equal(wide->config->torch_dtype, CONFIG_DTYPE_F32);
    assert_int_equal(wide->file_count, 0);
    for (int i = 0; i < wide->params->count; i++) {
        const weight *w = &wide->params->table[i];
        const float *x = w->tensor.value.data;
        const uint16_t *narrow = m->params->table[i].tensor.value.data;
        for (int64_t k = 0; k < w->rows * w->cols; k++) {
            uint32_t bits;
            memcpy(&bits, &x[k], sizeof bits);
            assert_int_equal(bits, (uint32_t)narrow[k] << 16);
        }
    }
    model_free(wide);
    model_free(m);
    device_close(d);
}

/* Without padding of the header, as in old files, the data is not aligned and is copied. */
static void unaligned_files_are_copied(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model"), *file = in(*state, "model/model.safetensors");
    model *m = small_model(d, "llama", 1, "", DTYPE_F32, 1);
    save_model(m, path, 0);
    size_t count;
    char *bytes = get(file, &count), *shifted = malloc(count + 1);
    assert_non_null(shifted);
    uint64_t length;
    memcpy(&length, bytes, 8);
    memcpy(shifted, bytes, 8 + length);
    shifted[8 + length] = ' ';
    memcpy(shifted + 8 + length + 1, bytes + 8 + length, count - 8 - length);
    length++;
    memcpy(shifted, &length, 8);
    put(file, shifted, count + 1);
    model *again = load_model(d, path, DTYPE_COUNT);
    assert_int_equal(again->file_count, 0);
    assert_true(same_weights(m, again));
    free(bytes);
    free(shifted);
    model_free(again);
    model_free(m);
    device_close(d);
}

/* Norms in f32, the rest in bf16: "auto" keeps both. */
static void types_may_be_mixed(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model_config *c = small_config("llama", 2, "");
    params *p;
    model *m;
    OK(params_create(c, NULL, NULL, &p));
    for (int i = 0; i < p->count; i++)
        p->table[i].tensor.value.type = p->table[i].dimensions == 1 ? DTYPE_F32 : DTYPE_BF16;
    OK(params_allocate_as_typed(p, d));
    OK(params_randomize(p, c, 1));
    OK(model_create(d, c, p, &m));
    save_model(m, path, 0);
    model *again = load_model(d, path, DTYPE_COUNT);
    assert_true(same_weights(m, again));
    assert_int_equal(again->params->norm->value.type, DTYPE_F32);
    assert_int_equal(again->params->embed->value.type, DTYPE_BF16);
    model_free(again);
    model_free(m);
    device_close(d);
}

static void masters_are_what_is_saved(void **state) {
    device *d = cpu();
    model *m = small_model(d, "llama", 1, "", DTYPE_F32, 1);
    save_model(m, in(*state, "before"), 0);
    OK(params_enable_masters(m->params, DTYPE_BF16, NULL));
    save_model(m, in(*state, "after"), 0);
    assert_same_bytes(in(*state, "before/model.safetensors"), in(*state, "after/model.safetensors"));
    assert_same_bytes(in(*state, "before/config.json"), in(*state, "after/config.json"));
    checkpoint_save_options narrow = {.type = DTYPE_BF16};
    OK(checkpoint_save(m->config, m->params, &narrow, in(*state, "narrow")));
    assert_file_says(in(*state, "narrow/config.json"), "\"torch_dtype\": \"bfloat16\"");
    model *again = load_model(d, in(*state, "narrow"), DTYPE_COUNT);
    assert_memory_equal(again->params->embed->value.data, m->params->embed->value.data, 31 * 16 * 2);
    model_free(again);
    model_free(m);
    device_close(d);
}

/* The counting device counts the size of the weights and reads nothing. */
static void the_counting_device_loads_too(void **state) {
    device *real = cpu(), *d;
    model *m = small_model(real, "llama", 2, "", DTYPE_F32, 1);
    save_model(m, in(*state, "model"), 0);
    OK(device_open("count", 0, &d));
    model *counted = load_model(d, in(*state, "model"), DTYPE_BF16);
    assert_true(d->counts.memory >= (size_t)params_elements(m->params) * 2);
    assert_true(d->counts.memory <= (size_t)params_elements(m->params) * 2 + 256 * ((size_t)m->params->count + 1));
    model_free(counted);
    assert_int_equal(d->counts.memory, 0);
    model_free(m);
    device_close(d);
    device_close(real);
}

/* ---------------------------------------------------------------- shared checkpoints */

static void folder_loads(device *d, const char *path) {
    model *m = load_model(d, path, DTYPE_COUNT);
    checkpoint_files files;
    OK(checkpoint_files_open(path, &files));
    for (int i = 0; i < m->params->count; i++) {
        const weight *w = &m->params->table[i];
        const safetensors_entry *e = checkpoint_files_find(&files, w->name)->entry;
        assert_int_equal(view_bytes(w->tensor.value), e->bytes);
        assert_memory_equal(w->tensor.value.data, e->data, e->bytes);
    }
    assert_int_equal(files.count, m->params->count);
    checkpoint_files_close(&files);
    model_free(m);
}

static void shared_checkpoints_load(void **state) {
    (void)state;
    static const char *const places[] = {SHARED_DIR "/goldens", SHARED_DIR "/data/models"};
    device *d = cpu();
    int loaded = 0;
    for (int i = 0; i < 2; i++) {
        DIR *dir = opendir(places[i]);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            char path[PATH_BYTES], config[2 * PATH_BYTES];
            snprintf(path, sizeof path, "%s/%s", places[i], e->d_name);
            snprintf(config, sizeof config, "%s/config.json", path);
            if (!file_exists(config)) continue;
            folder_loads(d, path);
            loaded++;
        }
        if (dir) closedir(dir);
    }
    device_close(d);
    if (!loaded) {
        print_message("skipped: %s is not here\n", SHARED_DIR);
        skip();
    }
}

/* ---------------------------------------------------------------- copied files */

static void companions_travel(void **state) {
    device *d = cpu();
    mkdir(in(*state, "from"), 0777);
    put_text(in(*state, "from/generation_config.json"), "{\"eos_token_id\": [2, 5]}");
    put_text(in(*state, "from/tokenizer.json"), "tokenizer");
    put_text(in(*state, "from/tokenizer_config.json"), "{}");
    put_text(in(*state, "from/modeling_x.py"), "import torch\n  from .layers import Layer\nfrom .gone import y\n");
    put_text(in(*state, "from/configuration_x.py"), "from .modeling_x import X\nfrom . import layers\n");
    put_text(in(*state, "from/layers.py"), "from ..secret import z\nfrom .modeling_x import X");
    put_text(in(*state, "from/unused.py"), "");
    put_text(in(*state, "secret.py"), "");
    model *m = small_model(d, "lckv-llama", 1,
                           ",\"my_key\":{\"a\":[1,2]},\"auto_map\":{\"AutoConfig\":\"configuration_x.C\","
                           "\"AutoModel\":[\"org/name--there.C\",null,\"modeling_x.X\"],\"A\":\"../secret.C\",\"B\":7,"
                           "\"C\":\"/etc/passwd.C\"}",
                           DTYPE_F32, 1);
    checkpoint_save_options options = {
        .type = DTYPE_COUNT, .source = in(*state, "from"), .tokenizer = in(*state, "from")};
    capture_log(LCKV_LOG_INFO);
    OK(checkpoint_save(m->config, m->params, &options, in(*state, "to")));
    end_capture();
    static const char *const copied[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                         "modeling_x.py",          "layers.py",      "configuration_x.py"};
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        char from[64], to[64];
        snprintf(from, sizeof from, "from/%s", copied[i]);
        snprintf(to, sizeof to, "to/%s", copied[i]);
        assert_same_bytes(in(*state, from), in(*state, to));
    }
    assert_int_equal(files_in(in(*state, "to")), 2 + 6);
    assert_file_says(in(*state, "to/config.json"), "\"my_key\"");
    assert_non_null(strstr(logged, "gone.py: file not found, although the model's code (auto_map) refers to it"));
    assert_non_null(strstr(logged, "ignoring '../secret.C' in auto_map"));
    assert_non_null(strstr(logged, "ignoring '/etc/passwd.C' in auto_map"));
    assert_null(strstr(logged, "there.py"));
    OK(checkpoint_save(m->config, m->params, &options, in(*state, "from"))); /* onto itself */
    assert_file_says(in(*state, "from/tokenizer.json"), "tokenizer");
    model_free(m);
    device_close(d);
}

/* ---------------------------------------------------------------- failures and crashes */

static void a_failed_save_leaves_the_old(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model *old = small_model(d, "llama", 2, "", DTYPE_F32, 1), *new = small_model(d, "llama", 3, "", DTYPE_F32, 2);
    checkpoint_save_options options = {.type = DTYPE_COUNT};
    save_model(old, path, 6000);
    int files = files_in(path);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 20000; /* a limit on file sizes simulates a full disk */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int status = checkpoint_save(new->config, new->params, &options, path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, LCKV_ERROR_FILE);
    assert_non_null(strstr(lckv_last_error(), "model.safetensors"));
    assert_int_equal(files_in(path), files);
    model *again = load_model(d, path, DTYPE_COUNT);
    assert_true(same_weights(old, again));
    model_free(again);
    model_free(old);
    model_free(new);
    device_close(d);
}

static int values_that_fail(void *user, int entry, element_range range, dtype type, void *host) {
    (void)user, (void)range, (void)type, (void)host;
    return entry < 5 ? LCKV_OK : (fail_message("no values today"), LCKV_ERROR_DEVICE);
}

static void a_save_that_cannot_be_leaves_nothing(void **state) {
    device *d = cpu();
    model *m = small_model(d, "llama", 1, "", DTYPE_F32, 1);
    checkpoint_save_options options = {.type = DTYPE_COUNT, .values = values_that_fail};
    FAILS(checkpoint_save(m->config, m->params, &options, in(*state, "model")), LCKV_ERROR_DEVICE, "no values today");
    assert_int_equal(files_in(in(*state, "model")), 0);
    put_text(in(*state, "file"), "");
    FAILS(checkpoint_save(m->config, m->params, &options, in(*state, "file/model")), LCKV_ERROR_FILE, "file");
    model_free(m);
    device_close(d);
}

/* A child process overwrites checkpoints, in one file and in shards, until it is killed. */
static void write_in_turns(model *a, model *b, const char *path) {
    static const int64_t shard_bytes[] = {0, 6000, 6000, 0, 9000, 6000};
    for (int i = 0;; i++) {
        checkpoint_save_options options = {.type = DTYPE_COUNT, .shard_bytes = shard_bytes[i % 6]};
        model *m = i % 2 ? a : b;
        if (checkpoint_save(m->config, m->params, &options, path) < 0) _exit(1);
    }
}

static void a_killed_save_leaves_no_mixture(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model *a = small_model(d, "llama", 2, ",\"rope_theta\":10000.0", DTYPE_F32, 1);
    model *b = small_model(d, "llama", 2, ",\"rope_theta\":20000.0", DTYPE_F32, 2);
    save_model(a, path, 0);
    int found = 0;
    for (int round = 0; round < 12; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) write_in_turns(a, b, path);
        usleep((useconds_t)(20000 + round * 7001));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        checkpoint_load_options options = {.type = DTYPE_COUNT};
        model *m;
        int status = checkpoint_load(d, path, &options, &m);
        if (status < 0) {
            assert_int_equal(status, LCKV_ERROR_FILE);
            assert_non_null(strstr(lckv_last_error(), "expected model.safetensors or"));
            continue;
        }
        bool is_a = m->config->rope_theta == 10000;
        assert_true(same_weights(is_a ? a : b, m));
        model_free(m);
        found++;
    }
    assert_true(found > 0);
    model_free(a);
    model_free(b);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(bits_come_back),
        IN_FOLDER(bits_come_back_from_shards),
        IN_FOLDER(numbers_are_short_and_exact),
        IN_FOLDER(shards_are_as_small_as_asked),
        IN_FOLDER(weights_stay_in_the_file),
        IN_FOLDER(unaligned_files_are_copied),
        IN_FOLDER(types_may_be_mixed),
        IN_FOLDER(masters_are_what_is_saved),
        IN_FOLDER(the_counting_device_loads_too),
        cmocka_unit_test(shared_checkpoints_load),
        IN_FOLDER(companions_travel),
        IN_FOLDER(a_failed_save_leaves_the_old),
        IN_FOLDER(a_save_that_cannot_be_leaves_nothing),
        IN_FOLDER(a_killed_save_leaves_no_mixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
