/* Models that are divided between ranks (tensor parallelism) against the same models in one process: logits, quantized
 * weights, requests to an engine, scheduling that depends on the KV cache, and what is refused. The program runs as a
 * single rank, with 2, 3 and 4 ranks over TCP, and under mpirun (tests/CMakeLists.txt).
 *
 * All ranks run the same tests. Rank 0 has the assertions; the others follow it. */
#define _GNU_SOURCE /* memmem */
#include "collectives/collectives.h"
#include "generate/batcher/batcher.h"
#include "generate/batcher/sampler.h"
#include "generate/score/score.h"
#include "io/adapter/adapter_save.h"
#include "io/convert.h"
#include "io/loop_start_file.h"
#include "model/ranks/rank_group.h"

#include "model_fixture.h"

#include <math.h>

enum { VOCAB = 31, TOKENS = 24, LAYERS = 4, START_WIDTH = 6, REQUESTS = 7, LONGEST = 64 };

/* Logits are sums of at most a few thousand f32 products of values around 1, over at most about twenty layer
 * executions: 2^-23 * sqrt(32 * 40 * 20) is 1.9e-5, and ten times that leaves room for the softmax. Ranks change only
 * the order of the sums. */
#define CLOSE 2e-4
/* Products of few rows with quantized weights, of up to 32 without oneDNN, round their input to 15 bits
 * (device/cpu/few_groups.c). A sum in another order can round to the next integer: 2^-15 of values around 1, in a few
 * of about 100 columns, over the layers. */
#define CLOSE_FEW 4e-3

typedef struct layout {
    const char *type, *more;
} layout;

/* Random weights are large enough that each part of each layer matters. */
#define LAYER(heads, kv, width, columns)                                                                               \
    ",\"num_attention_heads\":" heads ",\"num_key_value_heads\":" kv ",\"head_dim\":" width                            \
    ",\"intermediate_size\":" columns
#define SIZES(heads, kv, columns) ",\"hidden_size\":16,\"initializer_range\":0.3" LAYER(heads, kv, "4", columns)
#define WIDE(heads, kv, width, columns)                                                                                \
    ",\"hidden_size\":32,\"initializer_range\":0.15" LAYER(heads, kv, width, columns)
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

/* The same for quantized weights: whole groups of columns, incomplete ones at the end, heads that are parts of groups.
 * The last one has two groups, for two ranks. */
static const layout GROUPED[] = {
    {"llama", WIDE("4", "4", "32", "128")},
    {"lckv-llama", WIDE("8", "4", "16", "100") MAP("0_2_2_3")},
    {"qwen2", WIDE("8", "2", "32", "130")},
    {"llama", WIDE("8", "8", "8", "160") ",\"attention_bias\":true"},
};
enum { GROUPED_COUNT = sizeof GROUPED / sizeof *GROUPED };

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
    snprintf(text, sizeof text, "{\"model_type\":\"%s\",\"vocab_size\":%d,\"num_hidden_layers\":%d%s}", type, VOCAB,
             layers, more);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

/* Biases would be zero. */
static model *make_whole(device *d, const layout *l) {
    char more[512];
    snprintf(more, sizeof more, "%s,\"max_position_embeddings\":256,\"eos_token_id\":3", l->more);
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

/* A folder or file and how it is opened; NULL: the default. */
typedef struct opening {
    const char *path, *lora, *weight_dtype;
} opening;

static int open_by(device *d, const opening *o, lckv_processes *processes, model **out) {
    lckv_model_options options = lckv_model_defaults();
    options.processes = processes;
    options.adapter = o->lora;
    options.weight_dtype = o->weight_dtype;
    return lckv_model_open(d, o->path, &options, out);
}

static bool follow(const opening *o) {
    device *d = one_thread();
    model *m;
    OK(open_by(d, o, ranks, &m));
    OK(lckv_model_follow(m));
    lckv_model_free(m);
    device_close(d);
    return false;
}

static bool open_saved(const opening *o, pair *p) {
    OK(collectives_barrier(ranks)); /* the folder is complete */
    if (!leads()) return follow(o);
    p->d = one_thread();
    OK(open_by(p->d, o, NULL, &p->whole));
    OK(open_by(p->d, o, ranks, &p->divided));
    return true;
}

static const char *model_path(void) {
    return in(&shared, "model");
}

static void save_layout(const layout *l, weight_format format) {
    const checkpoint_save_options options = {.type = DTYPE_COUNT, .format = format};
    device *d = one_thread();
    model *m = make_whole(d, l);
    remove_tree(model_path());
    OK(checkpoint_save(m->config, m->params, &options, model_path()));
    model_free(m);
    device_close(d);
}

static bool open_layout(const layout *l, pair *p) {
    if (leads()) save_layout(l, WEIGHT_AUTO);
    return open_saved(&(opening){.path = model_path()}, p);
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
    if (!open_saved(&(opening){in(&shared, "start"), NULL, NULL}, &p)) return;
    assert_non_null(p.divided->loop_start);
    compare_logits(&p, (score_options){.encoding = LCKV_ENCODING_PLAN, .iterations = 1}, CLOSE);
    close_pair(&p);
}

static int adapter_value(void *user, int entry, element_range range, dtype type, void *host) {
    return params_read_range(user, entry, range, type, host);
}

static void save_adapter(model *m, const char *path) {
    const adapter_options o = {.rank = 2, .alpha = 3, .targets = ADAPTER_ALL};
    OK(adapter_create(m->params, &o, &m->adapter));
    params *w = m->adapter->weights;
    for (int i = 0; i < w->count; i++) OK(params_fill_normal(w, i, 0.3, 4));
    const adapter_save_options save = {.type = DTYPE_F32, .values = adapter_value, .user = w};
    OK(adapter_save(m->adapter, &save, path));
}

static void save_with_adapter(const layout *l, weight_format format, const char *adapter_path) {
    device *d = one_thread();
    model *m = make_whole(d, l);
    save_layout(l, format);
    save_adapter(m, adapter_path);
    model_free(m);
    device_close(d);
}

static void test_an_adapter_is_merged_and_divided(void **state) {
    (void)state;
    pair p;
    need_ranks();
    const opening o = {model_path(), in(&shared, "adapter"), NULL};
    if (leads()) save_with_adapter(&LAYOUTS[1], WEIGHT_AUTO, o.lora);
    if (!open_saved(&o, &p)) return;
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

/* ---------------------------------------------------------------- quantized weights */

static void expect_quantized(const pair *p, weight_format format) {
    assert_int_equal(p->whole->config->weight_format, format);
    assert_int_equal(p->divided->config->weight_format, format);
}

/* The parts have the integers and scales of the whole, so that only the order of sums differs. */
static void compare_quantized(const opening *o, weight_format format) {
    pair p;
    if (!open_saved(o, &p)) return;
    expect_quantized(&p, format);
    double tolerance = format == WEIGHT_FLOAT ? CLOSE : CLOSE_FEW;
    compare_logits(&p, (score_options){.encoding = LCKV_ENCODING_PLAN}, tolerance);
    compare_logits(&p, (score_options){.encoding = LCKV_ENCODING_SEQUENTIAL}, tolerance);
    close_pair(&p);
}

static void compare_requests(const opening *o) {
    static heard a, b;
    pair p;
    if (!open_saved(o, &p)) return;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = 4;
    options.max_model_len = LONGEST;
    run_requests(p.whole, options, &a);
    run_requests(p.divided, options, &b);
    assert_memory_equal(&a, &b, sizeof a);
    close_pair(&p);
}

static int grouped_count(void) {
    return ranks->ranks == 2 ? GROUPED_COUNT : GROUPED_COUNT - 1;
}

static void test_quantized_folders(void **state) {
    (void)state;
    need_ranks();
    for (int i = 0; i < grouped_count(); i++)
        for (weight_format format = WEIGHT_INT8; format <= WEIGHT_INT4; format++) {
            if (leads()) save_layout(&GROUPED[i], format);
            compare_quantized(&(opening){model_path(), NULL, NULL}, format);
            compare_requests(&(opening){model_path(), NULL, NULL});
        }
}

/* Integers that are found at load are those of the whole weight. A quantized folder becomes float or the other
 * format. */
static void test_quantized_at_load(void **state) {
    (void)state;
    need_ranks();
    for (int i = 0; i < grouped_count(); i++)
        for (weight_format format = WEIGHT_FLOAT; format <= WEIGHT_INT4; format++) {
            if (leads()) save_layout(&GROUPED[i], format == WEIGHT_INT8 ? WEIGHT_AUTO : WEIGHT_INT8);
            compare_quantized(&(opening){model_path(), NULL, weight_format_name(format)}, format);
        }
}

static void write_gguf(const char *path, const char *type) {
    model_config *c;
    device *d = one_thread();
    OK(config_read(model_path(), NULL, &c));
    const convert_options options = {
        .source = model_path(), .config = c, .type = DTYPE_COUNT, .gguf_file = path, .gguf_dtype = type};
    OK(checkpoint_convert(d, &options));
    config_free(c);
    device_close(d);
}

/* Rows of q and k have another order in the file. */
static void test_quantized_gguf_files(void **state) {
    (void)state;
    static const char *const types[] = {"q8_0", "q4_0"};
    need_ranks();
    for (int i = 0; i < 2; i++) {
        const char *path = in(&shared, "model.gguf");
        if (leads()) save_layout(&GROUPED[0], WEIGHT_AUTO);
        if (leads()) write_gguf(path, types[i]);
        compare_quantized(&(opening){path, NULL, NULL}, i ? WEIGHT_INT4 : WEIGHT_INT8);
        compare_quantized(&(opening){path, NULL, "int8"}, WEIGHT_INT8);
        compare_quantized(&(opening){path, NULL, "float"}, WEIGHT_FLOAT);
    }
}

/* Rank 0 has all of A or all of B, and a part of the other. */
static void expect_parts_of_adapter(const opening *o) {
    pair p;
    if (!open_saved(o, &p)) return;
    const adapter *whole = p.whole->adapter, *part = p.divided->adapter;
    assert_true(whole && part && part->count == whole->count);
    for (int i = 0; i < part->count; i++) {
        const low_rank *a = &whole->pairs[i], *b = &part->pairs[i];
        bool all_a = b->a->value.cols == a->a->value.cols, all_b = b->b->value.rows == a->b->value.rows;
        assert_true(all_a != all_b);
    }
    close_pair(&p);
}

/* An adapter stays beside quantized weights, and is merged into weights that are dequantized. */
static void test_an_adapter_of_quantized_weights(void **state) {
    (void)state;
    need_ranks();
    const opening o = {model_path(), in(&shared, "wide_adapter"), NULL};
    for (int i = 0; i < grouped_count(); i++)
        for (weight_format format = WEIGHT_INT8; format <= WEIGHT_INT4; format++) {
            if (leads()) save_with_adapter(&GROUPED[i], format, o.lora);
            expect_parts_of_adapter(&o);
            compare_quantized(&o, format);
            compare_requests(&o);
            compare_quantized(&(opening){o.path, o.lora, "float"}, WEIGHT_FLOAT);
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
    const opening o = {leads() ? "/nonexistent/model" : "/nonexistent/other", NULL, NULL};
    FAILS(open_by(d, &o, ranks, &m), LCKV_ERROR_FILE, "/nonexistent/");
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_of_every_layout),
        cmocka_unit_test(test_a_tolerance_sees_all_ranks),
        cmocka_unit_test(test_a_learned_start_is_divided),
        cmocka_unit_test(test_an_adapter_is_merged_and_divided),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_requests_get_the_same_tokens),
        cmocka_unit_test(test_quantized_folders),
        cmocka_unit_test(test_quantized_at_load),
        cmocka_unit_test(test_quantized_gguf_files),
        cmocka_unit_test(test_an_adapter_of_quantized_weights),
        cmocka_unit_test(test_the_cache_grows_and_steps_overlap),
        cmocka_unit_test(test_a_random_model_is_divided),
        cmocka_unit_test(test_a_failure_to_load_is_that_of_all),
    };
    return cmocka_run_group_tests(tests, open_ranks, close_ranks);
}
