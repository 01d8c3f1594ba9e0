/* KV memory as reported by `lckv inspect`, `lckv bench --plan_only` and a running server (/state and /metrics): the
 * same numbers for every layout. test_eval_kv.c has lengths, windows and sink caches. */
#include "served.h"

#include <dirent.h>

enum { PROMPT = 150, SEQUENCES = 2 };

static const char CONFIG[] =
    "{\"model_type\":\"lckv-llama\",\"hidden_size\":24,\"intermediate_size\":36,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"num_hidden_layers\":8,\"layer_types\":\"%s\",\"sliding_window\":64,"
    "\"forward_passes\":2,\"backward_passes\":1,\"vocab_size\":277,\"max_position_embeddings\":20000,"
    "\"rms_norm_eps\":1e-5,\"torch_dtype\":\"float32\"}";

/* Plain, LCKV, CLA, YOCO, MixAttention. */
static const char *const LAYOUTS[] = {"0_1_2_3_4_5_6_7", "0_6_6_6_6_6_6_7", "0_0_2_2_4_4_6_6", "0s_1s_2s_3s_4_4_4_4",
                                      "0_1s_1s_0_4s_4s_0_7s"};

static int64_t whole(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) fail_msg("there is no whole number '%s'", key);
    return json_integer_value(value);
}

/* Additional arguments of a command, or none. */
#define BF16(bf16) (bf16) ? "--bf16" : NULL

static json_t *inspected(const folder *f, int64_t length, int sequences, bool bf16) {
    char tokens[32], count[32];
    snprintf(tokens, sizeof tokens, "%lld", (long long)length);
    snprintf(count, sizeof count, "%d", sequences);
    const char *words[] = {"inspect",
                           "--config_name",
                           in(f, "model"),
                           "--config_overrides",
                           "max_position_embeddings=20000",
                           "--length",
                           tokens,
                           "--num_sequences",
                           count,
                           "--json",
                           BF16(bf16),
                           NULL};
    outcome o = program_run(f, words);
    json_t *json;
    assert_int_equal(o.code, 0);
    OK(json_parse(o.output, strlen(o.output), "inspect", &json));
    outcome_free(&o);
    return json;
}

static const json_t *serving_of(const json_t *inspect) {
    return json_object_get(json_object_get(inspect, "memory"), "serving");
}

/* A batch consists of sequences of one length: the plan's bytes equal those of inspect for this number of sequences. */
static void assert_bench_agrees(const folder *f, bool bf16) {
    const char *words[] = {"bench",        "--measure", "batch",  "--plan_only",    "--config_name",
                           in(f, "model"), "--lengths", "120+30", "--memory_limit", "20000000",
                           "--device",     "cpu",       "--json", BF16(bf16),       NULL};
    outcome o = program_run(f, words);
    json_t *json;
    assert_int_equal(o.code, 0);
    OK(json_parse(o.output, strlen(o.output), "bench", &json));
    const json_t *row = json_array_get(json_object_get(json, "rows"), 0);
    json_t *inspect = inspected(f, PROMPT, (int)whole(row, "batch"), bf16);
    assert_true(whole(row, "batch") > 1);
    assert_int_equal(whole(row, "kv_bytes"), whole(serving_of(inspect), "kv_cache"));
    assert_int_equal(whole(row, "kv_bytes_reserved"), whole(serving_of(inspect), "kv_cache_reserved"));
    assert_int_equal(whole(row, "kv_bytes_per_token"), whole(inspect, "kv_bytes_per_token"));
    json_decref(inspect);
    json_decref(json);
    outcome_free(&o);
}

static json_t *state_of(const served *s) {
    http_answer a = http_do(s->port, "GET", "/state", "", "");
    assert_int_equal(a.status, 200);
    return json_of(&a);
}

/* Tokens are generated meanwhile, so that the newest one may or may not count. */
static void assert_state_agrees(const served *s, bool bf16) {
    json_t *state = state_of(s);
    while (!whole(state, "new_tokens")) {
        json_decref(state);
        state = state_of(s);
    }
    int64_t seen = whole(state, "prompt_tokens") + whole(state, "new_tokens"), used = whole(state, "kv_bytes_used");
    bool found = false;
    for (int64_t length = seen - 2; length <= seen && !found; length++) {
        json_t *inspect = inspected(s->f, length, 1, bf16);
        found = whole(serving_of(inspect), "kv_cache") == used &&
                whole(serving_of(inspect), "kv_cache_plain") == whole(state, "kv_bytes_plain");
        json_decref(inspect);
    }
    if (!found) fail_msg("%lld bytes of keys and values after %lld tokens", (long long)used, (long long)seen);
    json_decref(state);
}

static void assert_server_agrees(void **state, bool bf16) {
    char body[2048] = "{\"prompt\":[", *at = body + strlen(body);
    served s = SERVE(state, "--max_model_len", "19000", "--max_num_seqs", "2", bf16 ? "--bf16" : NULL);
    json_t *inspect = inspected(*state, 19000, SEQUENCES, bf16);
    assert_true(metric(&s, "kv_bytes") == (double)whole(serving_of(inspect), "kv_cache_reserved"));
    json_decref(inspect);
    for (int i = 0; i < PROMPT; i++) at += sprintf(at, "%d,", 3 + i % 50);
    sprintf(at - 1, "],\"max_tokens\":18000,\"ignore_eos\":true,\"stream\":true,\"temperature\":0}");
    int streaming = http_connect(s.port);
    assert_true(
        http_ask(streaming, "POST", "/v1/completions", "Content-Type: application/json\r\n", body, strlen(body)));
    assert_state_agrees(&s, bf16);
    close(streaming);
    stop(&s);
}

static void assert_all_agree(void **state, bool bf16) {
    assert_bench_agrees(*state, bf16);
    assert_server_agrees(state, bf16);
}

static void make_model(const folder *f, const char *layout) {
    char text[1024];
    lckv_device *d;
    lckv_config *c;
    lckv_model *m;
    snprintf(text, sizeof text, CONFIG, layout);
    put_text(in(f, "config.json"), text);
    OK(lckv_device_open("cpu", 2, &d));
    OK(lckv_config_load(in(f, "config.json"), NULL, &c));
    OK(lckv_model_create(d, c, NULL, 1, &m));
    OK(lckv_model_save(m, in(f, "model"), NULL));
    lckv_model_free(m);
    lckv_config_free(c);
    lckv_device_close(d);
}

static void usual_layouts(void **state) {
    for (size_t i = 0; i < sizeof LAYOUTS / sizeof *LAYOUTS; i++) {
        make_model(*state, LAYOUTS[i]);
        assert_all_agree(state, false);
        assert_all_agree(state, true);
    }
}

static void golden_layouts(void **state) {
    struct dirent **entries;
    int count = scandir(SHARED_DIR "/goldens", &entries, NULL, alphasort), read = 0;
    for (int i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof path, SHARED_DIR "/goldens/%s", entries[i]->d_name);
        free(entries[i]);
        char config[600];
        snprintf(config, sizeof config, "%s/config.json", path);
        if (!file_exists(config)) continue;
        unlink(in(*state, "model"));
        assert_int_equal(symlink(path, in(*state, "model")), 0);
        assert_all_agree(state, read % 2); /* servers start slowly: each layout with only one of the types */
        read++;
    }
    if (count >= 0) free(entries);
    if (!read) printf("skipped: %s is absent\n", SHARED_DIR "/goldens"), skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(usual_layouts, folder_open, folder_close),
        cmocka_unit_test_setup_teardown(golden_layouts, folder_open, folder_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
