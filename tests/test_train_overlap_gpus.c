/* Steps on several GPUs, one process each: communication that overlaps with computation gives the bits of communication
 * that waits for everything, also where steps are recorded. Run it with tests/with_ranks.sh 2; a single process
 * skips. */
#include "data/blocks.h"
#include "train/step/step.h"

#include "fixture.h"

enum { BATCH = 2, BLOCK = 512, BLOCKS = 40, STEPS = 6, VOCAB = 2000 };

static lckv_processes *host;
static device *gpu;
static collectives *ranks; /* NCCL; NULL: a single process, or no GPU */

/* ---------------------------------------------------------------- communication that waits */

static struct collectives_ops overlapping;

static int begin_and_wait(const collectives *c, int number) {
    TRY(gpu->memory.wait(gpu));
    return overlapping.begin_aside(c, number);
}

static int end_and_join(const collectives *c, int number) {
    TRY(overlapping.end_aside(c, number));
    TRY(overlapping.join_aside(c, number));
    return gpu->memory.wait(gpu);
}

static collectives waiting_ranks(void) {
    collectives c = *ranks;
    overlapping = c.ops;
    c.ops.begin_aside = begin_and_wait;
    c.ops.end_aside = end_and_join;
    return c;
}

/* ---------------------------------------------------------------- steps */

typedef struct form {
    const char *config;
    bool exact, checkpointing, regathers;
} form;

static void open_model(const form *how, const collectives *c, int zero, model **out) {
    char text[1024];
    json_t *tree;
    model_config *config;
    params *p;
    snprintf(text, sizeof text,
             "{\"model_type\":\"lckv-llama\",\"hidden_size\":512,\"intermediate_size\":1536,\"num_attention_heads\":8,"
             "\"num_key_value_heads\":4,\"head_dim\":64,\"num_hidden_layers\":6,\"vocab_size\":%d,"
             "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.02"
             "%s}",
             VOCAB, how->config);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &config));
    json_decref(tree);
    OK(params_create(config, NULL, NULL, &p));
    if (zero == 3) OK(params_divide(p, c));
    OK(params_allocate(p, gpu, DTYPE_F32));
    OK(params_randomize(p, config, 7));
    OK(model_create(gpu, config, p, out));
}

static void train(const form *how, const collectives *c, int zero, int count, step_result results[STEPS]) {
    static int32_t ids[BLOCKS * BLOCK];
    int64_t chosen[BLOCKS];
    stepper *s;
    model *m;
    blocks data = blocks_of_ids(ids, BLOCK, BLOCKS);
    for (int i = 0; i < BLOCKS * BLOCK; i++) ids[i] = (int32_t)(rng_uniform(3, 1, (uint64_t)i) * VOCAB);
    open_model(how, c, zero, &m);
    stepper_options options = {
        .compute = DTYPE_BF16,
        .batch_size = BATCH,
        .block_size = BLOCK,
        .exact = how->exact,
        .fill_size = BATCH,
        .gradient_checkpointing = how->checkpointing,
        .regather_loops = how->regathers,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .max_grad_norm = 1, .collectives = c},
    };
    OK(stepper_create(m, &options, &s));
    for (int i = 0; i < STEPS; i++) {
        for (int k = 0; k < count; k++) chosen[k] = (i * count + k) % BLOCKS;
        OK(stepper_begin(s, &data.examples, chosen, count, 1e-3));
        if (i) OK(stepper_end(s, &results[i - 1]));
    }
    OK(stepper_end(s, &results[STEPS - 1]));
    stepper_free(s);
    model_free(m);
}

static void overlap_changes_no_bit(void **state) {
    (void)state;
    static const char LOOP[] = ",\"layer_types\":\"0_4_4_4_4_5\",\"forward_passes\":2,\"backward_passes\":2";
    const form forms[] = {
        {""},
        {",\"tie_word_embeddings\":true", .checkpointing = true},
        {LOOP},
        {LOOP, .regathers = true},
        {LOOP, .exact = true},
    };
    if (!ranks) SKIP("needs several GPUs, one process each (tests/with_ranks.sh 2)");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        for (int zero = 1; zero <= 3; zero += 2) {
            /* one micro-batch, and several, of which the last one is smaller */
            for (int more = 0; more < 2; more++) {
                step_result one[STEPS], other[STEPS];
                int count = ranks->ranks * (more ? 2 * BATCH + 1 : BATCH);
                collectives waiting = waiting_ranks();
                train(&forms[i], ranks, zero, count, one);
                train(&forms[i], &waiting, zero, count, other);
                for (int s = 0; s < STEPS; s++)
                    if (!one[s].finite || one[s].loss != other[s].loss || one[s].grad_norm != other[s].grad_norm)
                        fail_msg("form %zu, ZeRO %d, %d examples, step %d: loss %a and %a, norm %a and %a", i, zero,
                                 count, s, one[s].loss, other[s].loss, one[s].grad_norm, other[s].grad_norm);
            }
        }
    }
}

static int open_gpus(void **state) {
    (void)state;
    if (lckv_processes_open(60, &host) < 0) return -1;
    if (host->ranks == 1 || !device_gpus()) return 0;
    if (collectives_device_open(host, "cuda", 0, &gpu) < 0) return -1;
    return collectives_on_device(host, gpu, &ranks) < 0 ? -1 : 0;
}

static int close_gpus(void **state) {
    (void)state;
    collectives_close(ranks);
    device_close(gpu);
    lckv_processes_close(host);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(overlap_changes_no_bit)};
    return cmocka_run_group_tests(tests, open_gpus, close_gpus);
}
