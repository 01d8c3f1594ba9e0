/* Small training runs through lckv.h on ids that follow a rule. Tests change the options that they are about. */
#ifndef TESTS_TRAIN_RUN_FIXTURE_H
#define TESTS_TRAIN_RUN_FIXTURE_H

#include "base/rng.h"
#include "io/tensors/safetensors.h"
#include "lckv.h"

#include "folder_fixture.h"

static const char RUN_CONFIG[] =
    "{\"model_type\":\"lckv-llama\",\"hidden_size\":24,\"intermediate_size\":36,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"num_hidden_layers\":4,\"vocab_size\":37,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.2,\"layer_types\":\"0_2_2_3\","
    "\"forward_passes\":3,\"backward_passes\":2,\"unknown_key\":[1]}";
enum { VOCAB = 37, MAX_STEPS = 64 };

/* What the callback has recorded of a run. */
typedef struct story {
    lckv_train_progress steps[MAX_STEPS];
    int count, evaluations;
    int64_t stop_after; /* 0: never */
} story;

static inline bool listen(void *user, const lckv_train_progress *p) {
    story *s = user;
    if (p->phase == LCKV_TRAIN_EVALUATING) s->evaluations++;
    if (p->phase != LCKV_TRAIN_STEPPING) return true;
    if (s->count < MAX_STEPS) s->steps[s->count++] = *p;
    return p->step != s->stop_after;
}

typedef struct run {
    folder *folder;
    lckv_train_options options;
    const char *train, *validation;
    story story;
    lckv_train_result result;
    lckv_train_summary summary;
} run;

/* A row of ids that mostly follow a simple rule. */
static void row_ids(int row, int length, int32_t *ids) {
    int id = row % VOCAB;
    for (int i = 0; i < length; i++) {
        ids[i] = id;
        bool jump = rng_uniform(9, (uint64_t)row, (uint64_t)i) < 0.2;
        id = (id * (jump ? 5 : 2) + 1) % VOCAB;
    }
}

static const char *write_ids(folder *r, const char *name, int rows, int length) {
    char *text = malloc((size_t)rows * ((size_t)length * 4 + 32));
    int32_t *ids = malloc((size_t)length * sizeof *ids);
    size_t at = 0;
    for (int row = 0; row < rows; row++) {
        row_ids(row, length, ids);
        at += (size_t)sprintf(text + at, "{\"input_ids\":[");
        for (int i = 0; i < length; i++) at += (size_t)sprintf(text + at, i ? ",%d" : "%d", ids[i]);
        at += (size_t)sprintf(text + at, "]}\n");
    }
    const char *path = put_in(r, name, text, at);
    free(text);
    free(ids);
    return path;
}

static inline void run_begin(run *t, void **state) {
    *t = (run){.folder = *state, .options = lckv_train_defaults()};
    lckv_train_options *o = &t->options;
    o->config_name = put_text_in(t->folder, "tiny.json", RUN_CONFIG);
    t->train = write_ids(t->folder, "train.jsonl", 12, 16);
    o->train_files = &t->train;
    o->train_file_count = 1;
    o->output_dir = in(t->folder, "out");
    o->block_size = 16;
    o->per_device_train_batch_size = 4;
    o->max_steps = 6;
    o->learning_rate = 0.01;
    o->lr_scheduler_type = LCKV_SCHEDULE_CONSTANT;
    o->logging_steps = 1;
    o->threads = 1;
    o->device = "cpu"; /* tests depend on its threads and write to its memory */
}

/* Adds validation data: `rows` rows of 16 ids. */
static inline void use_validation(run *t, int rows) {
    t->validation = write_ids(t->folder, "validation.jsonl", rows, 16);
    t->options.validation_files = &t->validation;
    t->options.validation_file_count = 1;
}

static inline int run_go(run *t) {
    lckv_trainer *trainer;
    t->story = (story){.stop_after = t->story.stop_after};
    t->options.callback = listen;
    t->options.user = &t->story;
    int status = lckv_trainer_create(&t->options, &trainer);
    if (status < 0) return status;
    t->summary = lckv_trainer_summary(trainer);
    status = lckv_trainer_run(trainer, &t->result);
    lckv_trainer_free(trainer);
    return status;
}

static inline void use_output(run *t, const char *name) {
    t->options.output_dir = in(t->folder, name);
}

static inline void open_weights(const run *t, safetensors_file *file) {
    char *path;
    OK(path_join(t->options.output_dir, "model.safetensors", &path));
    OK(safetensors_open(path, file));
    free(path);
}

static inline bool output_has(const run *t, const char *name) {
    char *path;
    OK(path_join(t->options.output_dir, name, &path));
    bool there = file_exists(path);
    free(path);
    return there;
}

/* The largest difference between the weights that two runs wrote. */
static inline double weights_differ(const run *a, const run *b) {
    safetensors_file x, y;
    double largest = 0;
    open_weights(a, &x);
    open_weights(b, &y);
    assert_int_equal(x.count, y.count);
    for (int i = 0; i < x.count; i++) {
        assert_string_equal(x.entries[i].name, y.entries[i].name);
        for (int64_t k = 0; k < x.entries[i].elements; k++) {
            float u, v;
            memcpy(&u, x.entries[i].data + k * 4, 4);
            memcpy(&v, y.entries[i].data + k * 4, 4);
            largest = fmax(largest, fabs((double)u - (double)v));
        }
    }
    safetensors_close(&x);
    safetensors_close(&y);
    return largest;
}

static inline void expect_same_bytes(const char *left, const char *right) {
    char *a, *b;
    size_t x, y;
    OK(file_read(left, &a, &x));
    OK(file_read(right, &b, &y));
    if (x != y || memcmp(a, b, x)) fail_msg("%s and %s differ", left, right);
    free(a);
    free(b);
}

/* Two files in the run's folder. */
static inline void expect_same_file(const run *t, const char *left, const char *right) {
    expect_same_bytes(in(t->folder, left), in(t->folder, right));
}

/* The files of this name in the output folders of two runs. */
static inline void expect_same_output(const run *a, const run *b, const char *name) {
    char left[2 * PATH_BYTES], right[2 * PATH_BYTES];
    snprintf(left, sizeof left, "%s/%s", a->options.output_dir, name);
    snprintf(right, sizeof right, "%s/%s", b->options.output_dir, name);
    expect_same_bytes(left, right);
}

#endif
