/* Communication that overlaps with a step, with collectives of the test's own that see when operations may begin and
 * finish. Stage 1: a gradient is complete at its point, and not earlier than it has to be. Stage 3: values are not read
 * before they have arrived, and no more units are gathered than two. There is one process; it is the last of two ranks,
 * and the other one adds nothing to sums. */
#include "data/blocks.h"
#include "train/step/step.h"

#include "fixture.h"

enum { BATCH = 2, BLOCK = 11, BLOCKS = 8, MAX_UNITS = 16, LAYERS = 4 };

typedef struct form {
    const char *config;
    int examples; /* per step, of which this rank has half */
    bool exact, checkpointing, regathers;
    int live; /* stage 3: units whose values are there at the same time, at most */
} form;

/* The two layers of the loop are gathered together unless it regathers, and the unit after it. Exact slots are filled
 * with the embedding and the layers up to the top of the loop. */
static const form FORMS[] = {
    {"", 4, .live = 2},
    {",\"tie_word_embeddings\":true,\"attention_bias\":true", 4, .live = 2},
    {"", 4, .checkpointing = true, .live = 2},
    {",\"layer_types\":\"0_2_2_3\",\"forward_passes\":1,\"backward_passes\":2", 4, .live = 3},
    {",\"layer_types\":\"0_2_2_3\",\"forward_passes\":1,\"backward_passes\":3", 4, .checkpointing = true, .live = 3},
    {",\"layer_types\":\"0_2_2_3\",\"forward_passes\":1,\"backward_passes\":2", 4, .regathers = true, .live = 2},
    {",\"layer_types\":\"0_2_2_3\",\"backward_passes\":3", 4, .exact = true, .live = 4},
    {",\"layer_types\":\"0_2_2_3\",\"backward_passes\":3,\"tie_word_embeddings\":true", 4, .exact = true,
     .checkpointing = true, .live = 4},
    {",\"layer_types\":\"0_2_2_3\",\"backward_passes\":3", 4, .exact = true, .regathers = true, .live = 4},
    {",\"layer_types\":\"0_2_2_3\",\"use_sequential\":true", 4, .live = 4},
};
enum { FORM_COUNT = sizeof FORMS / sizeof *FORMS };

/* ---------------------------------------------------------------- the other rank */

static struct world {
    stepper *stepper;
    const float *whole[64]; /* stage 3: values of all entries */
    float *seen[MAX_UNITS]; /* stage 1: gradients of all layers at the point of each unit */
    int points, sums;
    bool learns; /* this rank has examples */
    struct operation {
        int unit; /* -1: none under way */
        double sum;
    } aside[2 * MAX_UNITS];
    int number, live, most; /* of the operation that begins; units with values */
} world;

static const params *weights(void) {
    return world.stepper->model->params;
}

static const shards *division(void) {
    return world.stepper->optimizer->shards;
}

static size_t gradient_bytes(const shard_unit *u) {
    return (size_t)shards_unit_elements(division(), u, DTYPE_F32) * sizeof(float);
}

static const void *gradient_of(const shard_unit *u) {
    return division()->divides_weights ? u->gradients : weights()->table[u->first].tensor.grad.data;
}

/* A sum that changes with any element. */
static double digest(const float *values, size_t bytes) {
    double sum = 0;
    for (size_t i = 0; i < bytes / sizeof *values; i++) sum += (double)values[i] * (double)(1 + i % 1009);
    return sum;
}

static int one_point(const collectives *c, int number) {
    const shards *s = division();
    (void)c;
    world.number = number;
    if (s->divides_weights || number >= s->count) return LCKV_OK;
    if (number == shards_backward_unit(s, 0)) world.points = 0;
    assert_int_equal(number, shards_backward_unit(s, world.points++));
    const shard_unit *u = &s->units[number];
    world.seen[number] = realloc(world.seen[number], 2 * gradient_bytes(u));
    memcpy(world.seen[number], gradient_of(u), gradient_bytes(u));
    /* The point is at the attention of the layer below, unless that sees nothing. The one below it is not complete. */
    if (number > 2) world.aside[number - 2].sum = digest(gradient_of(u - 2), gradient_bytes(u - 2));
    return LCKV_OK;
}

static int begin_aside(const collectives *c, int number) {
    (void)c;
    world.number = number;
    return LCKV_OK;
}

static int end_aside(const collectives *c, int number) {
    (void)c, (void)number;
    return LCKV_OK;
}

/* Stage 1: nothing has been added since the point. Stage 3: nothing may be until the sum is joined. */
static int reduce_scatter(const collectives *c, collectives_parts parts) {
    const shards *s = division();
    int unit = world.number % s->count;
    const shard_unit *u = &s->units[unit];
    (void)c;
    world.sums++;
    assert_ptr_equal(parts.data, gradient_of(u));
    if (s->divides_weights) {
        world.aside[world.number] = (struct operation){unit, digest(parts.data, gradient_bytes(u))};
        return LCKV_OK;
    }
    assert_memory_equal(parts.data, world.seen[unit], gradient_bytes(u));
    if (world.learns && unit >= 1 && unit < LAYERS - 1) /* at the point of the layer two above */
        assert_true(world.aside[unit].sum != digest(parts.data, gradient_bytes(u)));
    return LCKV_OK;
}

/* The other rank's part arrives when the operation is joined. */
static int all_gather(const collectives *c, collectives_parts parts) {
    const shards *s = division();
    float *values = parts.data;
    if (!s->divides_weights) return LCKV_OK;
    int unit = world.number, live = 0;
    assert_ptr_equal(parts.data, s->units[unit].values);
    for (int64_t i = parts.begin[0]; i < parts.begin[c->rank]; i++) values[i] = NAN;
    for (int i = 0; i < s->count; i++) live += s->units[i].values != NULL;
    if (live > world.most) world.most = live;
    world.aside[unit].unit = unit;
    return LCKV_OK;
}

static int join_aside(const collectives *c, int number) {
    const shards *s = division();
    (void)c;
    if (!s->divides_weights || world.aside[number].unit < 0) return LCKV_OK;
    const shard_unit *u = &s->units[world.aside[number].unit];
    world.aside[number].unit = -1;
    if (number >= s->count) {
        assert_true(world.aside[number].sum == digest(u->gradients, gradient_bytes(u)));
        return LCKV_OK;
    }
    for (int i = u->first; i < u->first + u->count; i++) {
        int64_t first, count = shards_part(s, i, 0, &first);
        float *at = (float *)u->values + shards_place(s, i, DTYPE_F32);
        if (count) memcpy(at + first, world.whole[i] + first, (size_t)count * sizeof *at);
    }
    return LCKV_OK;
}

static collectives last_of_two(void) {
    collectives c = *collectives_single();
    c.rank = 1;
    c.ranks = 2;
    c.ops.point = one_point;
    c.ops.begin_aside = begin_aside;
    c.ops.end_aside = end_aside;
    c.ops.join_aside = join_aside;
    c.ops.reduce_scatter = reduce_scatter;
    c.ops.all_gather = all_gather;
    return c;
}

/* ---------------------------------------------------------------- steps */

/* The model's weights divided between the two ranks, from a copy that stays whole. */
static void divide(fixture *f, const collectives *ranks) {
    params *p = f->model->params;
    for (int i = 0; i < p->count; i++) {
        float *copy = malloc((size_t)(p->table[i].rows * p->table[i].cols) * sizeof *copy);
        OK(params_get(p, i, copy));
        world.whole[i] = copy;
    }
    model_config *c;
    params *divided;
    OK(config_copy(f->model->config, &c));
    OK(params_create(c, NULL, NULL, &divided));
    OK(params_divide(divided, ranks));
    OK(params_allocate(divided, f->device, DTYPE_F32));
    for (int i = 0; i < divided->count; i++) OK(params_set(divided, i, world.whole[i], DTYPE_F32));
    model_free(f->model);
    OK(model_create(f->device, c, divided, &f->model));
}

static void close_world(fixture *f) {
    int entries = f->model->params->count;
    stepper_free(world.stepper);
    for (int i = 0; i < entries; i++) free((void *)(uintptr_t)world.whole[i]);
    for (int i = 0; i < MAX_UNITS; i++) free(world.seen[i]);
    world = (struct world){0};
    fixture_close(f);
}

/* Steps without a learning rate, because the other rank's weights do not change. */
static void run_steps(const form *how, int zero, step_result results[2]) {
    int32_t ids[BLOCKS * BLOCK];
    int64_t chosen[BLOCKS];
    fixture f;
    collectives ranks = last_of_two();
    blocks data = blocks_of_ids(ids, BLOCK, BLOCKS);
    world.learns = how->examples > 1;
    for (int i = 0; i < 2 * MAX_UNITS; i++) world.aside[i].unit = -1;
    fixture_ids(ids, BLOCKS * BLOCK, 5);
    for (int i = 0; i < BLOCKS; i++) chosen[i] = i;
    fixture_open(&f, LAYERS, how->config, DTYPE_F32, false);
    if (zero == 3) divide(&f, &ranks);
    stepper_options options = {
        .compute = DTYPE_F32,
        .batch_size = BATCH,
        .block_size = BLOCK,
        .exact = how->exact,
        .fill_size = BATCH,
        .gradient_checkpointing = how->checkpointing,
        .regather_loops = how->regathers,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .max_grad_norm = 1, .collectives = &ranks},
    };
    OK(stepper_create(f.model, &options, &world.stepper));
    for (int i = 0; i < 2; i++) {
        world.sums = 0;
        OK(stepper_step(world.stepper, &data.examples, chosen + i, how->examples, 0, &results[i]));
        assert_true(results[i].finite);
        assert_true(world.sums >= division()->count);
    }
    if (zero == 3) assert_int_equal(world.most, how->live);
    close_world(&f);
}

static void gradients_are_complete_at_their_points(void **state) {
    (void)state;
    step_result results[2];
    for (int i = 0; i < FORM_COUNT; i++) {
        form several = FORMS[i], none = FORMS[i];
        run_steps(&FORMS[i], 1, results);
        assert_true(results[0].loss > 0.5 && results[0].grad_norm > 0);
        several.examples = 7; /* two micro-batches, of 2 and 1 */
        run_steps(&several, 1, results);
        none.examples = 1; /* of the other rank */
        run_steps(&none, 1, results);
        assert_true(results[0].grad_norm == 0);
    }
}

static void values_arrive_before_they_are_read(void **state) {
    (void)state;
    for (int i = 0; i < FORM_COUNT; i++) {
        step_result one[2], three[2];
        run_steps(&FORMS[i], 1, one);
        run_steps(&FORMS[i], 3, three);
        for (int s = 0; s < 2; s++) {
            assert_true(one[s].loss == three[s].loss);
            double difference = fabs(one[s].grad_norm - three[s].grad_norm); /* regathering sums in another order */
            assert_true(difference <= (FORMS[i].regathers ? 1e-6 * one[s].grad_norm : 0));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_complete_at_their_points),
        cmocka_unit_test(values_arrive_before_they_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
