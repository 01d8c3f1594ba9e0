/* Models that are divided between ranks (tensor parallelism) against the same models in one process: logits, requests
 * to an engine, scheduling that depends on the KV cache, and what is refused. The program runs as a single rank, with
 * 2, 3 and 4 ranks over TCP, and under mpirun (tests/CMakeLists.txt).
 *
 * All ranks run the same tests. Rank 0 has the assertions; the others follow it. */
#define _GNU_SOURCE /* memmem */
#include "collectives/collectives.h"
#include "generate/batcher/batcher.h"
#include "generate/batcher/sampler.h"
#include "generate/score/score.h"
#include "io/adapter/adapter_save.h"
#include "io/loop_start_file.h"
#include "model/ranks/rank_group.h"
#include "model/ranks/rank_part.h"

#include "model_fixture.h"

#include <math.h>

enum { VOCAB = 31, TOKENS = 24, LAYERS = 4, START_WIDTH = 6, REQUESTS = 7, LONGEST = 64 };

/* Logits are sums of at most a few thousand f32 products of values around 1, over at most about twenty layer
 * executions: 2^-23 * sqrt(16 * 40 * 20) is 1.4e-5, and ten times that leaves room for the softmax. Ranks change only
 * the order of the sums. */
#define CLOSE 2e-4

typedef struct layout {
    const char *type, *more;
} layout;

#define SIZES(heads, kv, columns)                                                                                      \
    ",\"num_attention_heads\":" heads ",\"num_key_value_heads\":" kv ",\"head_dim\":4,\"intermediate_size\":" columns
#define HEADS(heads, kv) SIZES(heads, kv, "20")
#define MAP(types) ",\"layer_types\":\"" types "\",\"forward_passes\":2,\"backward_passes\":2"
/* Layer maps, parts of layers, and heads that 2, 3 and 4 ranks divide evenly, unevenly, or share. */
static const layout LAYOUTS[] = {
    {"llama", SIZES("4", "4", "40")},
    {"lckv-llama", HEADS("4", "2") MAP("0_2_2_3")},
    {"lckv-llama", HEADS("4", "1") MAP("0_2_2_3")},
    {"lckv-llama", HEADS("6", "3") MAP("3_3_3_3")},
    {"lckv-llama", HEADS("6", "2") MAP("0_1_1_1")},
    {"lckv-llama", HEADS("4", "4") MAP("0_0_2_2")},
    {"lckv-llama", HEADS("8", "8") MAP("0s_1s_1_1") ",\"sliding_window\":5"},
    {"lckv-llama", HEADS("4", "2") MAP("1_2s_0_3s") ",\"sliding_window\":5,\"attention_bias\":true,\"mlp_bias\":true"},
    {"qwen2", HEADS("4", "2")},
    {"qwen3", HEADS("4", "2") ",\"tie_word_embeddings\":true"},
};
enum { LAYOUT_COUNT = sizeof LAYOUTS / sizeof *LAYOUTS };

static lckv_processes *ranks;
static folder shared; /* of rank 0; all ranks read it */

static bool leads(void) {
    return ranks->rank == 0;
}

static int open_ranks(void **state) {
    (void)state;
    if (lckv_processes_open(60, &ranks) < 0) return -1;
    if (leads() && !temp_folder_create(shared.path)) return -1;
    return collectives_broadcast_host(ranks, shared.path, sizeof shared.path) == LCKV_OK ? 0 : -1;
}

static int close_ranks(void **state) {
    (void)state;
    bool removes = leads();
    lckv_processes_close(ranks);
    if (removes) remove_tree(shared.path);
    return 0;
}

/* Processes of MPI run fewer layouts: only the transport differs. */
static int layout_count(void) {
    return ranks->watched ? LAYOUT_COUNT : 2;
}

static void need_ranks(void) {
    if (ranks->ranks == 1) SKIP("one process: the tests with several ranks run it");
}

/* ---------------------------------------------------------------- models */

static device *one_thread(void) {
    device *d;
    OK(device_open("cpu", 1, &d));
    return d;
}

/* `more`: sizes and other keys of config.json, starting with a comma. */
static model_config *make_config(const char *type, int layers, const char *more) {
    char text[1024];
    json_t *tree;
    model_config *c;
    snprintf(text, sizeof text,
             "{\"model_type\":\"%s\",\"hidden_size\":16,\"vocab_size\":%d,\"num_hidden_layers\":%d%s}", type, VOCAB,
             layers, more);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

/* Random weights that are large enough that each part of each layer matters. Biases would be zero. */
static model *make_whole(device *d, const layout *l) {
    char more[512];
    snprintf(more, sizeof more, "%s,\"initializer_range\":0.3,\"max_position_embeddings\":256,\"eos_token_id\":3",
             l->more);
    model *m;
    OK(model_create_random(d, make_config(l->type, LAYERS, more), DTYPE_F32, 5, &m));
    for (int i = 0; i < m->params->count; i++)
        if (strstr(m->params->table[i].name, ".bias")) OK(params_fill_normal(m->params, i, 0.3, 9));
    return m;
}

/* Two models on rank 0: a whole one, and the parts of the same one. On the other ranks, opens their part and follows
 * rank 0; returns false when rank 0 has freed it. */
typedef struct pair {
    device *d;
    model *whole, *divided;
} pair;

static int open_divided(device *d, const char *path, const char *lora, model **out) {
    lckv_model_options options = lckv_model_defaults();
    options.processes = ranks;
    options.adapter = lora;
    return lckv_model_open(d, path, &options, out);
}

static bool follow(const char *path, const char *lora) {
    device *d = one_thread();
    model *m;
    OK(open_divided(d, path, lora, &m));
    OK(lckv_model_follow(m));
    lckv_model_free(m);
    device_close(d);
    return false;
}

static bool open_saved(const char *path, const char *lora, pair *p) {
    lckv_model_options options = lckv_model_defaults();
    OK(collectives_barrier(ranks)); /* the folder is complete */
    if (!leads()) return follow(path, lora);
    options.adapter = lora;
    p->d = one_thread();
    OK(lckv_model_open(p->d, path, &options, &p->whole));
    OK(open_divided(p->d, path, lora, &p->divided));
    return true;
}

static const char *model_path(void) {
    return in(&shared, "model");
}

static bool open_layout(const layout *l, pair *p) {
    if (leads()) {
        device *d = one_thread();
        model *m = make_whole(d, l);
        remove_tree(model_path());
        save_model(m, model_path(), 0);
        model_free(m);
        device_close(d);
    }
    return open_saved(model_path(), NULL, p);
}

static void close_pair(pair *p) {
    model_free(p->divided);
    model_free(p->whole);
    device_close(p->d);
}

static int32_t id_of(int stream, int i) {
    return (int32_t)((stream * 7919 + i * 104729 + i * i * 31) % VOCAB);
}

/* ---------------------------------------------------------------- logits */

static void score(const model *m, score_options o, int count, float *logits) {
    int32_t ids[TOKENS];
    float logprobs[TOKENS];
    for (int i = 0; i < count; i++) ids[i] = id_of(1, i);
    OK(score_ids(m, ids, count, &o, logprobs, logits));
}

static void compare_logits(const pair *p, score_options o, double tolerance) {
    static float a[TOKENS * VOCAB], b[TOKENS * VOCAB];
    score(p->whole, o, TOKENS, a);
    score(p->divided, o, TOKENS, b);
    for (int i = 0; i < TOKENS * VOCAB; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance))
            fail_msg("logit %d of token %d: %g in one process, %g divided", i % VOCAB, i / VOCAB, (double)a[i],
                     (double)b[i]);
}

static void test_logits_of_every_layout(void **state) {
    (void)state;
    need_ranks();
    for (int i = 0; i < layout_count(); i++) {
        pair p;
        if (!open_layout(&LAYOUTS[i], &p)) continue;
        assert_int_equal(p.divided->whole->heads, p.whole->config->heads);
        assert_true(p.divided->config->heads < p.whole->config->heads);
        assert_int_equal(lckv_model_parameters(p.divided), lckv_model_parameters(p.whole));
        compare_logits(&p, (score_options){.encoding = LCKV_ENCODING_PLAN}, CLOSE);
        compare_logits(&p, (score_options){.encoding = LCKV_ENCODING_SEQUENTIAL}, CLOSE);
        compare_logits(&p, (score_options){.window_length = 8, .sinks = 2}, CLOSE);
        close_pair(&p);
    }
}

/* The loop stops after the same iteration: another number of iterations changes logits by much more. */
static void test_a_tolerance_sees_all_ranks(void **state) {
    (void)state;
    need_ranks();
    for (int i = 1; i < 4 && i < layout_count(); i++) {
        pair p;
        if (!open_layout(&LAYOUTS[i], &p)) continue;
        for (double tolerance = 0.3; tolerance > 1e-3; tolerance /= 3)
            compare_logits(
                &p, (score_options){.encoding = LCKV_ENCODING_PLAN, .iterations = 30, .tolerance = tolerance}, CLOSE);
        close_pair(&p);
    }
}

static void test_a_learned_start_is_divided(void **state) {
    (void)state;
    pair p;
    need_ranks();
    if (leads()) {
        device *d = one_thread();
        model *m = make_whole(d, &LAYOUTS[1]);
        OK(loop_start_create(d, m->config, START_WIDTH, &m->loop_start));
        params *w = m->loop_start->weights;
        OK(params_allocate(w, d, DTYPE_F32));
        for (int i = 0; i < w->count; i++) OK(params_fill_normal(w, i, 0.5, 3));
        checkpoint_save_options options = {.type = DTYPE_COUNT, .loop_start = m->loop_start};
        OK(checkpoint_save(m->config, m->params, &options, in(&shared, "start")));
        model_free(m);
        device_close(d);
    }
    if (!open_saved(in(&shared, "start"), NULL, &p)) return;
    assert_non_null(p.divided->loop_start);
    compare_logits(&p, (score_options){.encoding = LCKV_ENCODING_PLAN, .iterations = 1}, CLOSE);
    close_pair(&p);
}

static int adapter_value(void *user, int entry, element_range range, dtype type, void *host) {
    return params_read_range(user, entry, range, type, host);
}

static void test_an_adapter_is_merged_and_divided(void **state) {
    (void)state;
    pair p;
    need_ranks();
    if (leads()) {
        device *d = one_thread();
        model *m = make_whole(d, &LAYOUTS[1]);
        save_model(m, in(&shared, "base"), 0);
        const adapter_options o = {.rank = 2, .alpha = 3, .targets = ADAPTER_ALL};
        OK(adapter_create(m->params, &o, &m->adapter));
        params *w = m->adapter->weights;
        for (int i = 0; i < w->count; i++) OK(params_fill_normal(w, i, 0.3, 4));
        const adapter_save_options save = {.type = DTYPE_F32, .values = adapter_value, .user = w};
        OK(adapter_save(m->adapter, &save, in(&shared, "adapter")));
        model_free(m);
        device_close(d);
    }
    if (!open_saved(in(&shared, "base"), in(&shared, "adapter"), &p)) return;
    compare_logits(&p, (score_options){.encoding = LCKV_ENCODING_PLAN}, CLOSE);
    close_pair(&p);
}

/* bf16 has 8 bits: 2^-8 * sqrt(16 * 4) layers' worth of rounding of values around 1. */
static void test_bf16(void **state) {
    (void)state;
    pair p;
    need_ranks();
    if (!open_layout(&LAYOUTS[0], &p)) return;
    compare_logits(&p, (score_options){.compute = DTYPE_BF16, .encoding = LCKV_ENCODING_PLAN}, 0.3);
    close_pair(&p);
}

/* ---------------------------------------------------------------- requests */

typedef struct heard {
    int32_t ids[REQUESTS + 1][2][LONGEST];
    int count[REQUESTS + 1][2];
    int prompt_scores[REQUESTS + 1];
} heard;

static void listen(void *user, const lckv_event *e) {
    heard *h = user;
    assert_in_range(e->request, 1, REQUESTS);
    if (e->of_prompt) {
        h->prompt_scores[e->request]++;
        return;
    }
    assert_true(e->token >= 0);
    h->ids[e->request][e->sample][h->count[e->request][e->sample]++] = e->token;
}

/* Request i: 1 or 2 greedy or sampled answers to a prompt of 1 to 41 tokens, some of them with prefixes in common. */
static void submit(lckv_engine *e, int i) {
    int32_t ids[LONGEST];
    uint64_t id;
    lckv_request r = lckv_request_defaults();
    r.prompt = (lckv_prompt){ids, 1 + i * 13 % 41};
    for (int j = 0; j < r.prompt.count; j++) ids[j] = id_of(j < 16 ? i % 2 : i, j);
    r.n = 1 + i % 2;
    r.max_new_tokens = 3 + i * 5 % 17;
    r.temperature = i % 3 ? 0 : 1;
    r.seed = (uint64_t)i;
    r.prompt_logprobs = i == 2;
    r.top_logprobs = i == 4 ? 3 : 0;
    OK(lckv_engine_submit(e, &r, &id));
}

static void run_requests(model *m, lckv_engine_options o, heard *h) {
    lckv_engine *e;
    memset(h, 0, sizeof *h);
    o.callback = listen;
    o.user = h;
    OK(lckv_engine_create(m, NULL, &o, &e));
    for (int step = 0, i = 1; i <= REQUESTS || !lckv_engine_idle(e); step++) {
        if (i <= REQUESTS && step % 2 == 0) submit(e, i++);
        if (step == 5) lckv_engine_cancel(e, 3);
        OK(lckv_engine_step(e));
        assert_true(step < 1000);
    }
    assert_int_equal(lckv_engine_describe(e).kv_pages_used, 0);
    lckv_engine_free(e);
}

static void test_requests_get_the_same_tokens(void **state) {
    (void)state;
    static heard a, b;
    need_ranks();
    for (int i = 0; i < layout_count(); i++) {
        pair p;
        if (!open_layout(&LAYOUTS[i], &p)) continue;
        lckv_engine_options o = lckv_engine_defaults();
        o.max_num_seqs = 4;
        o.max_model_len = LONGEST;
        o.prefill_chunk_size = 16;
        o.encoding_tolerance = i % 3 == 1 ? 0.01 : 0;
        run_requests(p.whole, o, &a);
        run_requests(p.divided, o, &b);
        assert_memory_equal(&a, &b, sizeof a);
        o.encoding_tolerance = 0;
        o.window_length = 48;
        o.num_sink_tokens = 2;
        run_requests(p.whole, o, &a);
        run_requests(p.divided, o, &b);
        assert_memory_equal(&a, &b, sizeof a);
        close_pair(&p);
    }
}

/* ---------------------------------------------------------------- the batcher */

/* Greedy tokens of sequences whose KV cache starts with one page and grows. With `overlap`, the ids of a step come from
 * the device. */
static void run_batcher(const model *m, int overlap, int32_t *out, int *count) {
    enum { SEQUENCES = 3, PROMPT = 21, LENGTH = 60 };
    const sample_row greedy = sampler_greedy();
    batcher_options o = {.sequences = SEQUENCES, .rows = 1, .overlap = overlap};
    sequence *all[SEQUENCES];
    batcher *b;
    *count = 0;
    OK(batcher_create(m, &o, &b));
    for (int s = 0; s < SEQUENCES; s++) {
        int32_t ids[PROMPT];
        for (int j = 0; j < PROMPT; j++) ids[j] = id_of(s, j);
        OK(sequence_create(ids, PROMPT, VOCAB, &greedy, &all[s]));
        all[s]->max_count = LENGTH;
        all[s]->ignore_eos = true;
        OK(batcher_add(b, all[s]));
    }
    while (!batcher_idle(b)) OK(batcher_step(b));
    for (int s = 0; s < SEQUENCES; s++) {
        for (int64_t j = PROMPT; j < all[s]->count; j++) out[(*count)++] = all[s]->ids[j];
        sequence_free(all[s]);
    }
    batcher_free(b);
}

static void test_the_cache_grows_and_steps_overlap(void **state) {
    (void)state;
    pair p;
    int32_t a[200], b[200];
    int count, divided;
    need_ranks();
    if (!open_layout(&LAYOUTS[1], &p)) return;
    run_batcher(p.whole, -1, a, &count);
    for (int overlap = -1; overlap <= 1; overlap += 2) {
        run_batcher(p.divided, overlap, b, &divided);
        assert_int_equal(divided, count);
        assert_memory_equal(a, b, (size_t)count * sizeof *a);
    }
    close_pair(&p);
}

/* ---------------------------------------------------------------- what is refused */

static void test_a_random_model_is_divided(void **state) {
    (void)state;
    need_ranks();
    device *d = one_thread();
    model_config *c = make_config("llama", 2, HEADS("4", "4"));
    lckv_model_options options = lckv_model_defaults();
    options.processes = ranks;
    model *m;
    OK(lckv_model_create_with(d, c, &options, 1, &m));
    if (leads()) {
        float logits[TOKENS * VOCAB];
        score(m, (score_options){0}, TOKENS, logits);
        for (int i = 0; i < TOKENS * VOCAB; i++) assert_true(isfinite(logits[i]));
        FAILS(lckv_model_save(m, in(&shared, "saved"), NULL), LCKV_ERROR_UNSUPPORTED,
              "saving a model is not possible with tensor_parallel: the model is divided between ");
        FAILS(lckv_model_follow(m), LCKV_ERROR_ARGUMENT, "on a rank other than 0");
    } else {
        OK(lckv_model_follow(m));
    }
    lckv_model_free(m);
    config_free(c);
    device_close(d);
}

static void test_a_failure_to_load_is_that_of_all(void **state) {
    (void)state;
    model *m;
    need_ranks();
    device *d = one_thread();
    FAILS(open_divided(d, leads() ? "/nonexistent/model" : "/nonexistent/other", NULL, &m), LCKV_ERROR_FILE,
          "/nonexistent/");
    device_close(d);
}

/* ---------------------------------------------------------------- division */

/* Every head, KV head and column belongs to some rank; rank 0 has the most; KV heads serve the queries of their rank.
 * */
static void check_division(const model_config *c, int count) {
    const layer_description *whole = &c->map.layer[0];
    int64_t heads = 0, columns = 0, kv = 0;
    int most = 0;
    for (int r = 0; r < count; r++) {
        model_config *part;
        OK(rank_part_config(c, r, count, &part));
        const layer_description *l = &part->map.layer[0];
        int group = whole->heads / whole->kv_heads;
        assert_int_equal(l->first_head, heads);
        assert_int_equal(l->first_intermediate, columns);
        assert_int_equal(l->first_kv_head, l->copies_kv ? kv - 1 : kv);
        assert_true(l->heads > 0 && l->kv_heads > 0 && l->intermediate_size > 0 && l->heads % l->kv_heads == 0);
        assert_int_equal(l->first_head / group, l->first_kv_head);
        assert_int_equal((l->first_head + l->heads - 1) / group, l->first_kv_head + l->kv_heads - 1);
        if (r == 0) most = l->heads;
        assert_true(l->heads <= most);
        heads += l->heads;
        columns += l->intermediate_size;
        kv += l->copies_kv ? 0 : l->kv_heads;
        config_free(part);
    }
    assert_int_equal(heads, whole->heads);
    assert_int_equal(kv, whole->kv_heads);
    assert_int_equal(columns, whole->intermediate_size);
}

static void test_division(void **state) {
    (void)state;
    static const int KV[] = {1, 2, 3, 4, 6};
    for (size_t i = 0; i < sizeof KV / sizeof *KV; i++) {
        for (int group = 1; group <= 4; group++) {
            char more[128];
            model_config *part;
            snprintf(more, sizeof more, SIZES("%d", "%d", "20"), KV[i] * group, KV[i]);
            model_config *c = make_config("llama", 1, more);
            for (int count = 1; count <= KV[i] * group && count <= 20; count++) check_division(c, count);
            if (KV[i] * group < 20)
                FAILS(rank_part_config(c, 0, KV[i] * group + 1, &part), LCKV_ERROR_ARGUMENT,
                      "attention heads: every rank needs one");
            config_free(c);
        }
    }
}

static void test_division_of_the_mlp(void **state) {
    (void)state;
    model_config *part, *c = make_config("llama", 1, SIZES("64", "64", "88"));
    OK(rank_part_config(c, 1, 4, &part));
    assert_int_equal(part->map.layer[0].first_intermediate, 24); /* 11 units of 8: 3, 3, 3, 2 */
    assert_int_equal(part->map.layer[0].intermediate_size, 24);
    config_free(part);
    config_free(c);
    c = make_config("llama", 1, HEADS("64", "64"));
    FAILS(rank_part_config(c, 0, 32, &part), LCKV_ERROR_ARGUMENT,
          "the MLP of layer 0 has 20 columns: every rank needs one");
    config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_division),
        cmocka_unit_test(test_division_of_the_mlp),
        cmocka_unit_test(test_logits_of_every_layout),
        cmocka_unit_test(test_a_tolerance_sees_all_ranks),
        cmocka_unit_test(test_a_learned_start_is_divided),
        cmocka_unit_test(test_an_adapter_is_merged_and_divided),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_requests_get_the_same_tokens),
        cmocka_unit_test(test_the_cache_grows_and_steps_overlap),
        cmocka_unit_test(test_a_random_model_is_divided),
        cmocka_unit_test(test_a_failure_to_load_is_that_of_all),
    };
    return cmocka_run_group_tests(tests, open_ranks, close_ranks);
}
