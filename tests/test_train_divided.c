/* Weights that are divided between ranks: the division itself, for numbers of ranks that are not there, what a rank
 * allocates against the memory plan, and ranks that fail or are late within a step. The program runs as a single rank
 * and over TCP with 2 and 3 ranks (tests/CMakeLists.txt). */
#include "base/clock.h"
#include "data/blocks.h"
#include "model/shards/shards.h"
#include "train/step/step.h"

static int damaged_block(int64_t i) {
    return fail(LCKV_ERROR_FORMAT, "block %d is damaged", (int)i);
}

#include "fixture.h"

#include <math.h>
#include <unistd.h>

/* ---------------------------------------------------------------- division */

static const char *const MODELS[] = {
    "",
    ",\"tie_word_embeddings\":true,\"attention_bias\":true",
    ",\"layer_types\":\"0_2_2_3\",\"hidden_size\":64,\"head_dim\":16",
};

static params *table_of(const char *extra, model_config **c) {
    char text[1024];
    json_t *tree;
    params *p;
    snprintf(text, sizeof text,
             "{\"model_type\":\"lckv-llama\",\"hidden_size\":24,\"intermediate_size\":36,\"num_attention_heads\":4,"
             "\"num_key_value_heads\":2,\"num_hidden_layers\":4,\"vocab_size\":37,\"max_position_embeddings\":64,"
             "\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.2%s}",
             extra);
    char *last = strstr(text, ",\"hidden_size\":64"); /* replaces the first one */
    if (last) memcpy(strstr(text, "\"hidden_size\":24"), "\"hidden_size\":64", 16), memset(last, ' ', 17);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, c));
    json_decref(tree);
    OK(params_create(*c, NULL, NULL, &p));
    return p;
}

static collectives rank_of(int rank, int ranks) {
    collectives c = *collectives_single();
    c.rank = rank;
    c.ranks = ranks;
    return c;
}

/* The parts of an entry follow each other in the order of ranks. In the memory of a unit, the part of rank r is within
 * its range of values, and of gradients. */
static void check_entry(const shards *s, int entry) {
    const weight *w = &s->params->table[entry];
    const shard_unit *u = &s->units[s->unit_of[entry]];
    int64_t next = 0;
    for (int r = 0; r < s->collectives->ranks; r++) {
        int64_t first, count = shards_part(s, entry, r, &first);
        if (!count) continue;
        assert_int_equal(first, next);
        next = first + count;
        static const dtype TYPES[] = {DTYPE_F32, DTYPE_BF16};
        for (int t = 0; t < 2; t++) {
            const int64_t *begin = shards_value_parts(s, u, TYPES[t]);
            int64_t at = shards_place(s, entry, TYPES[t]) + first;
            assert_true(at >= begin[r] && at + count <= begin[r + 1]);
        }
        const int64_t *begin = shards_gradient_parts(s, u);
        int64_t at = shards_place(s, entry, DTYPE_F32) + first;
        assert_true(at >= begin[r] && at + count <= begin[r + 1]);
    }
    assert_int_equal(next, w->rows * w->cols);
}

static void every_element_belongs_to_one_rank(void **state) {
    (void)state;
    static const int RANKS[] = {1, 2, 3, 4, 7, 64};
    for (size_t m = 0; m < sizeof MODELS / sizeof *MODELS; m++) {
        for (size_t n = 0; n < sizeof RANKS / sizeof *RANKS; n++) {
            model_config *c;
            params *p = table_of(MODELS[m], &c);
            collectives first = rank_of(0, RANKS[n]);
            shards *s;
            OK(shards_create(p, &first, &s));
            assert_int_equal(s->count, RANKS[n] == 1 ? 1 : 4 + 2 + !c->tie_word_embeddings);
            for (int i = 0; i < p->count; i++) check_entry(s, i);
            shards_free(s);
            params_free(p);
            config_free(c);
        }
    }
}

/* Values that are set, drawn and converted in parts are those of the whole table. */
static void parts_have_the_values_of_the_whole(void **state) {
    (void)state;
    enum { RANKS = 3 };
    device *d;
    OK(device_open("cpu", 1, &d));
    for (size_t m = 0; m < sizeof MODELS / sizeof *MODELS; m++) {
        model_config *c, *other;
        params *whole = table_of(MODELS[m], &c);
        OK(params_allocate(whole, d, DTYPE_F32));
        OK(params_randomize(whole, c, 5));
        for (int r = 0; r < RANKS; r++) {
            collectives mine = rank_of(r, RANKS);
            params *p = table_of(MODELS[m], &other);
            OK(params_divide(p, &mine));
            OK(params_allocate(p, d, DTYPE_F32));
            OK(params_randomize(p, other, 5));
            for (int i = 0; i < p->count; i++) {
                const weight *w = &p->table[i];
                const float *value = whole->table[i].tensor.value.data;
                float *again = malloc((size_t)(w->rows * w->cols) * sizeof *again);
                assert_true(params_has_value(p, i));
                assert_memory_equal(w->part.data, value + w->part_first, view_bytes(w->part));
                for (int64_t k = 0; k < w->rows * w->cols; k++) again[k] = -value[k];
                OK(params_set(p, i, again, DTYPE_F32));
                assert_memory_equal(w->part.data, again + w->part_first, view_bytes(w->part));
                FAILS(params_get(p, i, again), LCKV_ERROR_UNSUPPORTED, "is divided between ranks");
                free(again);
            }
            OK(params_enable_masters(p, DTYPE_BF16, NULL)); /* the part is the master */
            assert_int_equal(params_type(p, 0), DTYPE_F32);
            assert_int_equal(p->table[0].tensor.value.type, DTYPE_BF16);
            OK(params_enable_values(p, DTYPE_BF16));
            assert_int_equal(params_type(p, 0), DTYPE_BF16);
            params_free(p);
            config_free(other);
        }
        params_free(whole);
        config_free(c);
    }
    device_close(d);
}

/* With the optimizer state alone divided, a rank has all rounded values, and the masters of its part. */
static void masters_are_divided(void **state) {
    (void)state;
    enum { RANKS = 3 };
    device *d;
    model_config *c;
    params *whole = table_of(MODELS[0], &c);
    int64_t masters[RANKS] = {0}, elements = 0;
    OK(device_open("cpu", 1, &d));
    OK(params_allocate(whole, d, DTYPE_F32));
    OK(params_enable_masters(whole, DTYPE_BF16, NULL));
    for (int r = 0; r < RANKS; r++) {
        collectives mine = rank_of(r, RANKS);
        model_config *other;
        params *p = table_of(MODELS[0], &other);
        OK(params_randomize(whole, c, 5));
        OK(params_allocate(p, d, DTYPE_F32));
        OK(params_randomize(p, other, 5));
        OK(params_enable_masters(p, DTYPE_BF16, &mine));
        for (int i = 0; i < p->count; i++) {
            const weight *w = &p->table[i], *all = &whole->table[i];
            int64_t count = w->master.rows * w->master.cols, n = w->rows * w->cols;
            float *again = malloc((size_t)n * sizeof *again);
            for (int set = 0; set < 2; set++) {
                assert_memory_equal(w->tensor.value.data, all->tensor.value.data, view_bytes(w->tensor.value));
                if (count)
                    assert_memory_equal(w->master.data, (float *)all->master.data + w->part_first, 4 * (size_t)count);
                for (int64_t k = 0; k < n; k++) again[k] = -1.0f / (float)(k + r + 3);
                OK(params_set(p, i, again, DTYPE_F32));
                OK(params_set(whole, i, again, DTYPE_F32));
            }
            masters[r] += count;
            elements += r ? 0 : n;
            free(again);
        }
        params_free(p);
        config_free(other);
    }
    int64_t sum = 0;
    for (int r = 0; r < RANKS; r++) {
        assert_true(masters[r] < elements * 2 / RANKS);
        sum += masters[r];
    }
    assert_int_equal(sum, elements);
    params_free(whole);
    config_free(c);
    device_close(d);
}

/* ---------------------------------------------------------------- memory */

/* Allocations of a device, by its own functions. */
static struct {
    struct device_memory own;
    struct {
        void *memory;
        size_t bytes;
    } list[1024];
    size_t now, peak;
} allocations;

static int alloc_noted(device *d, size_t bytes, void **out) {
    size_t i = 0;
    TRY(allocations.own.alloc(d, bytes, out));
    while (allocations.list[i].memory) i++;
    allocations.list[i].memory = *out;
    allocations.list[i].bytes = bytes;
    allocations.now += bytes;
    if (allocations.now > allocations.peak) allocations.peak = allocations.now;
    return LCKV_OK;
}

static void release_noted(device *d, void *memory) {
    size_t i = 0;
    while (memory && allocations.list[i].memory != memory) i++;
    if (memory) {
        allocations.list[i].memory = NULL;
        allocations.now -= allocations.list[i].bytes;
    }
    allocations.own.release(d, memory);
}

enum { PLANNED_BLOCK = 24, PLANNED_BATCH = 2 };

/* The peak of a step of whole micro-batches on this rank. */
static size_t peak_of_a_step(const collectives *ranks, int zero, const stepper_options *options, lckv_config *config) {
    device *d;
    model *m;
    stepper *s;
    step_result result;
    params *p;
    model_config *c;
    int32_t ids[PLANNED_BLOCK * PLANNED_BATCH * 8];
    int64_t chosen[PLANNED_BATCH * 8], count = (int64_t)PLANNED_BATCH * ranks->ranks;
    blocks data = blocks_of_ids(ids, PLANNED_BLOCK, count);
    fixture_ids(ids, (int)(PLANNED_BLOCK * count), 3);
    for (int i = 0; i < count; i++) chosen[i] = i;
    OK(device_open("cpu", 1, &d));
    memset(&allocations, 0, sizeof allocations);
    allocations.own = d->memory;
    d->memory.alloc = alloc_noted;
    d->memory.release = release_noted;
    OK(config_copy(config, &c));
    OK(params_create(c, NULL, NULL, &p));
    if (zero == 3 && ranks->ranks > 1) OK(params_divide(p, ranks));
    OK(params_allocate(p, d, DTYPE_F32));
    OK(params_randomize(p, c, 7));
    OK(model_create(d, c, p, &m));
    OK(stepper_create(m, options, &s));
    OK(stepper_step(s, &data.examples, chosen, count, 0.01, &result));
    stepper_free(s);
    model_free(m);
    assert_int_equal(allocations.now, 0);
    device_close(d);
    return allocations.peak;
}

/* The last rank, which the plan describes, allocates what it says: both run the same code. */
static void a_rank_allocates_what_is_planned(void **state) {
    (void)state;
    lckv_processes *ranks;
    OK(lckv_processes_open(60, &ranks));
    assert_true(ranks->ranks <= 8);
    for (int form = 0; form < 8; form++) {
        model_config *config;
        lckv_memory planned;
        int zero = form & 1 ? 3 : 1;
        bool bf16 = form & 2, again = form & 4;
        params_free(table_of(",\"layer_types\":\"0_2_2_3\"", &config));
        lckv_training_shape shape = lckv_training_shape_defaults();
        shape.batch_size = PLANNED_BATCH;
        shape.block_size = PLANNED_BLOCK;
        shape.bf16 = bf16;
        shape.gradient_checkpointing = again;
        shape.num_processes = ranks->ranks;
        shape.zero = zero;
        OK(lckv_memory_for_training(config, &shape, &planned));
        const stepper_options options = {
            .compute = bf16 ? DTYPE_BF16 : DTYPE_F32,
            .batch_size = PLANNED_BATCH,
            .block_size = PLANNED_BLOCK,
            .gradient_checkpointing = again,
            .optimizer = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .max_grad_norm = 1, .collectives = ranks}};
        size_t peak = peak_of_a_step(ranks, zero, &options, config);
        if (ranks->rank == ranks->ranks - 1 && peak != (size_t)planned.total)
            fail_msg("zero %d, bf16 %d, checkpointing %d, %d processes: %zu bytes, planned %lld", zero, bf16, again,
                     ranks->ranks, peak, (long long)planned.total);
        config_free(config);
    }
    lckv_processes_close(ranks);
}

/* ---------------------------------------------------------------- a rank that fails */

enum { BLOCK = 8, BLOCKS = 12 };

/* Reads the examples of others, of which the last one is damaged or late. */
typedef struct troubled {
    examples examples;
    const examples *good;
    bool damaged;
    int milliseconds; /* late */
} troubled;

static int read_troubled(const examples *data, int64_t i, example *out) {
    const troubled *t = (const troubled *)(const void *)data;
    bool last = i == BLOCKS - 1;
    if (last && t->damaged) return damaged_block(i); /* after whole micro-batches with the others */
    if (last) usleep((useconds_t)t->milliseconds * 1000);
    return t->good->read(t->good, i, out);
}

static int count_good(const examples *data, int64_t i, int64_t *count) {
    const troubled *t = (const troubled *)(const void *)data;
    return t->good->count_labels(t->good, i, count);
}

static void make(fixture *f, const collectives *ranks, int zero, stepper **out) {
    model_config *c;
    params *p = table_of(MODELS[0], &c);
    *f = (fixture){0};
    OK(device_open("cpu", 1, &f->device));
    if (zero == 3) OK(params_divide(p, ranks));
    OK(params_allocate(p, f->device, DTYPE_F32));
    OK(params_randomize(p, c, 7));
    OK(model_create(f->device, c, p, &f->model));
    stepper_options options = {.compute = DTYPE_F32,
                               .batch_size = 1,
                               .block_size = BLOCK,
                               .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .collectives = ranks}};
    OK(stepper_create(f->model, &options, out));
}

/* The others wait in the middle of a micro-batch for what the failed rank does not send. */
static void a_failure_within_a_step_is_that_of_all(void **state) {
    (void)state;
    lckv_processes *ranks;
    OK(lckv_processes_open(60, &ranks));
    int last = ranks->ranks - 1;
    int32_t ids[BLOCK * BLOCKS];
    int64_t chosen[BLOCKS];
    fixture f;
    stepper *s;
    step_result result;
    blocks good = blocks_of_ids(ids, BLOCK, BLOCKS);
    troubled data = {.examples = good.examples, .good = &good.examples, .damaged = ranks->rank == last};
    data.examples.read = read_troubled;
    data.examples.count_labels = count_good;
    for (int i = 0; i < BLOCKS; i++) chosen[i] = i;
    fixture_ids(ids, BLOCK * BLOCKS, 3);
    make(&f, ranks, 3, &s);
    /* a rank may still be in this step when the last one fails in the next */
    int status = stepper_step(s, &good.examples, chosen, BLOCKS, 0.01, &result);
    if (ranks->rank == last) OK(status);
    if (status >= 0) assert_true(result.finite && result.loss > 1);
    char expected[80] = "is damaged";
    if (ranks->rank != last) snprintf(expected, sizeof expected, "process %d of %d: block", last, ranks->ranks);
    FAILS(stepper_step(s, &data.examples, chosen, BLOCKS, 0.01, &result),
          ranks->rank == last ? LCKV_ERROR_FORMAT : LCKV_ERROR_DEVICE, expected);
    stepper_free(s);
    model_free(f.model);
    device_close(f.device);
    lckv_processes_close(ranks);
}

/* ---------------------------------------------------------------- a rank that is late */

/* The wait of a step, which is at most its duration. */
static double wait_of_a_step(stepper *s, const examples *data, const int64_t *chosen) {
    step_result result;
    double begin = clock_seconds();
    OK(stepper_step(s, data, chosen, BLOCKS, 0.01, &result));
    double seconds = clock_seconds() - begin;
    if (s->optimizer->collectives->ranks > 1)
        assert_true(result.communication_wait > 0 && result.communication_wait <= seconds);
    else
        assert_true(isnan(result.communication_wait));
    return result.communication_wait;
}

/* The last rank is slow in a step, when it reads an example. */
static void the_others_wait_for_a_late_rank(void **state) {
    (void)state;
    lckv_processes *ranks;
    OK(lckv_processes_open(60, &ranks));
    int32_t ids[BLOCK * BLOCKS];
    int64_t chosen[BLOCKS];
    blocks good = blocks_of_ids(ids, BLOCK, BLOCKS);
    troubled data = {.examples = good.examples, .good = &good.examples};
    data.examples.read = read_troubled;
    data.examples.count_labels = count_good;
    for (int i = 0; i < BLOCKS; i++) chosen[i] = i;
    fixture_ids(ids, BLOCK * BLOCKS, 3);
    for (int zero = 1; zero <= 3; zero += 2) {
        fixture f;
        stepper *s;
        make(&f, ranks, zero, &s);
        double least = 1e9;
        for (int i = 0; i < 3; i++) {
            double waited = wait_of_a_step(s, &good.examples, chosen);
            least = waited < least ? waited : least;
        }
        data.milliseconds = 600;
        double waited = wait_of_a_step(s, &data.examples, chosen);
        if (ranks->rank < ranks->ranks - 1) assert_true(waited > 0.5 && waited > least + 0.3);
        stepper_free(s);
        model_free(f.model);
        device_close(f.device);
    }
    lckv_processes_close(ranks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_others_wait_for_a_late_rank),    cmocka_unit_test(every_element_belongs_to_one_rank),
        cmocka_unit_test(parts_have_the_values_of_the_whole), cmocka_unit_test(masters_are_divided),
        cmocka_unit_test(a_rank_allocates_what_is_planned),   cmocka_unit_test(a_failure_within_a_step_is_that_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
