/* Loading a checkpoint with rows behind those of its embedding (io/added_rows.h): their values, those of ranks that
 * divide the weights, and the memory that such a rank needs. */
#define _GNU_SOURCE /* memmem */
#include "io/convert.h"
#include "model/shards/shards.h"

#include "model_fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>

enum { OLD_ROWS = 31, ROWS = 40, SEED = 3, MEBI = 1 << 20 };

static collectives rank_of(int rank, int ranks) {
    collectives c = *collectives_single();
    c.rank = rank;
    c.ranks = ranks;
    return c;
}

static void write_gguf(device *d, const char *source, const char *path, const char *format) {
    model_config *c;
    OK(config_read(source, NULL, &c));
    const convert_options options = {
        .source = source, .config = c, .type = DTYPE_COUNT, .gguf_file = path, .gguf_dtype = format};
    OK(checkpoint_convert(d, &options));
    config_free(c);
}

/* ---------------------------------------------------------------- values */

/* Loads a folder or file, or converts it to `config`, if there is one. */
typedef struct origin {
    const char *path;
    const model_config *config;
} origin;

static model *load_with(device *d, const origin *o, dtype type, int64_t rows, const collectives *divide) {
    model *m;
    const added_rows added = {rows, SEED};
    const checkpoint_load_options options = {.type = type, .format = WEIGHT_FLOAT, .divide = divide, .added = added};
    if (o->config)
        OK(checkpoint_load_converted(d, o->path, o->config, KV_AVERAGE, type, divide, &added, &m));
    else
        OK(checkpoint_load(d, o->path, &options, &m));
    assert_int_equal(m->config->vocab_size, rows ? rows : OLD_ROWS);
    return m;
}

static float *values_of(model *m, int i) {
    const weight *w = &m->params->table[i];
    float *values = malloc((size_t)(w->rows * w->cols) * sizeof *values);
    OK(params_get(m->params, i, values));
    return values;
}

/* Entries that get rows have the values of the checkpoint as f32, the others those of their type. New rows are not
 * zero, and differ between embedding and head. */
static void expect_added(model *as_stored, model *as_f32, model *wide) {
    float first_new = 0;
    for (int i = 0; i < wide->params->count; i++) {
        bool outer = params_is_outer(wide->params, i);
        model *old = outer ? as_f32 : as_stored;
        const weight *w = &wide->params->table[i], *of = &old->params->table[i];
        float *a = values_of(old, i), *b = values_of(wide, i);
        assert_string_equal(w->name, of->name);
        assert_int_equal(w->rows, outer ? ROWS : of->rows);
        assert_int_equal(params_type(wide->params, i), params_type(old->params, i));
        assert_memory_equal(a, b, (size_t)(of->rows * of->cols) * sizeof *a);
        for (int64_t k = of->rows * of->cols; k < w->rows * w->cols; k++) assert_true(b[k] != 0 && isfinite(b[k]));
        if (outer) assert_true(b[of->rows * of->cols] != first_new);
        if (outer) first_new = b[of->rows * of->cols];
        free(a);
        free(b);
    }
}

static void expect_part(model *whole, model *part) {
    for (int i = 0; i < part->params->count; i++) {
        const weight *w = &part->params->table[i];
        dtype type = params_type(whole->params, i);
        size_t bytes = dtype_element_bytes(type);
        char *all = malloc((size_t)(w->rows * w->cols) * bytes);
        assert_int_equal(w->part.type, type);
        OK(params_read(whole->params, i, type, all));
        if (w->part.cols) assert_memory_equal(w->part.data, all + (size_t)w->part_first * bytes, view_bytes(w->part));
        free(all);
    }
}

static void expect_rows(device *d, const origin *o) {
    enum { RANKS = 3 };
    model *as_stored = load_with(d, o, DTYPE_COUNT, 0, NULL), *as_f32 = load_with(d, o, DTYPE_F32, 0, NULL);
    model *wide = load_with(d, o, DTYPE_COUNT, ROWS, NULL);
    expect_added(as_stored, as_f32, wide);
    for (int r = 0; r < RANKS; r++) {
        const collectives mine = rank_of(r, RANKS);
        model *part = load_with(d, o, DTYPE_COUNT, ROWS, &mine);
        expect_part(wide, part);
        model_free(part);
    }
    model_free(wide);
    model_free(as_f32);
    model_free(as_stored);
}

/* Rows of whole blocks. */
static model_config *config_of(bool tied) {
    char text[512];
    json_t *tree;
    model_config *c;
    snprintf(text, sizeof text,
             "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,\"num_attention_heads\":4,"
             "\"num_key_value_heads\":2,\"vocab_size\":%d,\"num_hidden_layers\":2,\"tie_word_embeddings\":%s}",
             OLD_ROWS, tied ? "true" : "false");
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

static void rows_are_added_to_every_kind_of_checkpoint(void **state) {
    const folder *f = *state;
    device *d = cpu();
    for (int tied = 0; tied < 2; tied++) {
        model *m;
        model_config *same = config_of(tied);
        OK(model_create_random(d, config_of(tied), DTYPE_BF16, 1, &m));
        remove_tree(in(f, "plain"));
        save_model(m, in(f, "plain"), 0);
        write_gguf(d, in(f, "plain"), in(f, "q8_0.gguf"), "q8_0");
        write_gguf(d, in(f, "plain"), in(f, "f16.gguf"), "f16");
        const origin origins[] = {
            {in(f, "plain"), NULL}, {in(f, "q8_0.gguf"), NULL}, {in(f, "f16.gguf"), NULL}, {in(f, "plain"), same}};
        for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) expect_rows(d, &origins[i]);
        config_free(same);
        model_free(m);
    }
    device_close(d);
}

/* ---------------------------------------------------------------- memory */

/* 19 million parameters. The largest tensors are the embedding and the head. */
static const char LARGE[] = "{\"model_type\":\"llama\",\"hidden_size\":512,\"intermediate_size\":2048,"
                            "\"num_attention_heads\":8,\"num_hidden_layers\":4,\"vocab_size\":2000}";
enum { LARGE_RANKS = 16, LARGE_ROWS = 2300, LARGE_COLS = 512 };

/* The most that has been resident. */
static double resident(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return 1024.0 * (double)used.ru_maxrss;
}

/* In a process of its own, whose peak is that of `work`: returns how many bytes it rose by. */
static double measure(void (*work)(const folder *f, double *risen), const folder *f) {
    double risen = -1;
    int ends[2], code;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        work(f, &risen);
        _exit(write(ends[1], &risen, sizeof risen) != sizeof risen);
    }
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
    assert_int_equal(read(ends[0], &risen, sizeof risen), sizeof risen);
    close(ends[0]);
    close(ends[1]);
    return risen;
}

static void write_large(const folder *f, double *risen) {
    device *d = cpu();
    model *m;
    model_config *c;
    (void)risen;
    put_text(in(f, "large.json"), LARGE);
    OK(config_read(in(f, "large.json"), NULL, &c));
    OK(model_create_random(d, c, DTYPE_F32, 1, &m));
    save_model(m, in(f, "large"), 0);
    write_gguf(d, in(f, "large"), in(f, "large.gguf"), "q8_0");
}

static void load_a_part(const folder *f, double *risen) {
    device *d = cpu();
    const collectives mine = rank_of(1, LARGE_RANKS);
    const checkpoint_load_options options = {
        .type = DTYPE_COUNT, .format = WEIGHT_FLOAT, .divide = &mine, .added = {LARGE_ROWS, SEED}};
    model *m;
    double before = resident();
    OK(checkpoint_load(d, in(f, "large.gguf"), &options, &m));
    *risen = resident() - before;
}

static void a_rank_needs_its_part_and_the_largest_tensor(void **state) {
#ifdef SANITIZED
    SKIP("sanitizers need memory of their own");
#endif
    const folder *f = *state;
    const double layers = 2.0 * 4 * (4 * 512 + 3 * 2048) * 512, outer = 4.0 * LARGE_ROWS * LARGE_COLS;
    const double part = (layers + 2 * outer) / LARGE_RANKS;
    const double others = 6.0 * MEBI; /* blocks that are decoded at a time, pages of the file, what malloc() keeps */
    measure(write_large, f);
    double risen = measure(load_a_part, f);
    print_message("part %.1f MiB, largest tensor %.1f MiB, layers %.1f MiB; resident %.1f MiB\n", part / MEBI,
                  outer / MEBI, layers / MEBI, risen / MEBI);
    assert_true(risen <= part + outer + others);
    assert_true(part + outer + others < layers / 2); /* the limit is far below the whole */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_rank_needs_its_part_and_the_largest_tensor), /* first: it forks, before there are threads */
        IN_FOLDER(rows_are_added_to_every_kind_of_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
