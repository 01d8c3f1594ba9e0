/* Memory and FLOPs of training on the counting device, see training_cost.h. */
#include "train/cost/training_cost.h"

#include "base/options.h"
#include "data/blocks.h"
#include "model/model.h"
#include "train/step/lora.h"
#include "train/step/step.h"

#include <stdlib.h>

enum { MAX_COUNTED_RANKS = 4096 };

/* ---------------------------------------------------------------- a model on the counting device */

typedef struct counted_model {
    device *device;
    model *model;
} counted_model;

static void counted_model_close(counted_model *c) {
    model_free(c->model);
    device_close(c->device);
}

/* Trained weights are counted as f32 when the run begins. Frozen ones are loaded as they are computed with; beside
 * quantized matrices, vectors are loaded as they are stored: as the config says. */
static dtype loaded_type(const model_config *config, const counted_parts *parts, dtype compute) {
    if (!parts->lora) return DTYPE_F32;
    if (config->weight_format == WEIGHT_FLOAT) return compute;
    return config->torch_dtype == CONFIG_DTYPE_F32    ? DTYPE_F32
           : config->torch_dtype == CONFIG_DTYPE_BF16 ? DTYPE_BF16
                                                      : DTYPE_F16;
}

static int make_model(const model_config *config, const counted_parts *parts, dtype compute, counted_model *c) {
    model_config *copy = NULL;
    params *weights = NULL;
    int status = config_copy(config, &copy);
    if (status >= 0) status = params_create(copy, NULL, NULL, &weights);
    if (status >= 0 && parts->divide) status = params_divide(weights, parts->divide);
    if (status >= 0) params_choose_types(weights, loaded_type(config, parts, compute), copy->weight_format);
    if (status >= 0 && parts->divide && params_quantized(weights))
        status =
            fail(LCKV_ERROR_UNSUPPORTED, "quantized weights (int8, int4) are not divided between processes that train");
    if (status >= 0) status = params_allocate_as_typed(weights, c->device);
    if (status >= 0) return model_create(c->device, copy, weights, &c->model);
    params_free(weights);
    config_free(copy);
    return status;
}

/* A model without values, with the adapter and the learned start that `parts` names. On failure nothing is open. */
static int counted_model_open(const model_config *config, const counted_parts *parts, dtype compute,
                              counted_model *out) {
    *out = (counted_model){0};
    TRY(device_open("count", 0, &out->device));
    int status = make_model(config, parts, compute, out);
    if (status >= 0) status = lora_add(out->model, parts->lora);
    if (status >= 0 && parts->loop_start_width)
        status = loop_start_attach(out->model->params, config, parts->loop_start_width, &out->model->loop_start);
    if (status < 0) counted_model_close(out);
    return status;
}

/* FLOPs of one step over `count` blocks of zeros; the cost does not depend on the token ids. */
static int count_step(stepper *s, int64_t count, double *flops) {
    int32_t *ids = calloc((size_t)count * (size_t)s->block_size, sizeof *ids);
    int64_t *chosen = calloc((size_t)count, sizeof *chosen);
    blocks data = blocks_of_ids(ids, s->block_size, count);
    device *d = s->model->device;
    double before = d->counts.flops;
    step_result ignored;
    int status = ids && chosen ? stepper_step(s, &data.examples, chosen, count, 0, &ignored)
                               : fail(LCKV_ERROR_MEMORY, "no memory for %lld blocks of %d tokens", (long long)count,
                                      s->block_size);
    *flops = d->counts.flops - before;
    free(ids);
    free(chosen);
    return status;
}

/* The mean over the steps of a run, some of which may run by the plan. */
static int count_mean_step(stepper *s, int64_t count, double *flops) {
    double share = s->plan_share, planned;
    s->plan_share = 0;
    TRY(count_step(s, count, flops));
    if (!(share > 0)) return LCKV_OK;
    s->plan_share = 1;
    TRY(count_step(s, count, &planned));
    s->plan_share = share;
    *flops += share * (planned - *flops);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- FLOPs */

/* A step of one block and a step of two have the same work in the optimizer; the difference is one block. */
static int count_blocks(stepper *s, double *flops) {
    double one, two;
    TRY(count_mean_step(s, 1, &one));
    TRY(count_mean_step(s, 2, &two));
    *flops = two - one;
    return LCKV_OK;
}

int training_flops_per_example(const model_config *config, const counted_parts *parts, const stepper_options *like,
                               double *flops) {
    const stepper_options options = {.compute = like->compute,
                                     .batch_size = 1,
                                     .block_size = like->block_size,
                                     .exact = like->exact,
                                     .plan_share = like->plan_share,
                                     .iteration_weight = like->iteration_weight,
                                     .optimizer = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8}};
    counted_model c;
    stepper *s = NULL;
    *flops = 0;
    TRY(counted_model_open(config, parts, options.compute, &c));
    int status = stepper_create(c.model, &options, &s);
    if (status >= 0) status = count_blocks(s, flops);
    stepper_free(s);
    counted_model_close(&c);
    return status;
}

/* ---------------------------------------------------------------- memory */

static int64_t bytes_of_values(const params *p) {
    int64_t bytes = 0;
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        bytes += (int64_t)view_all_bytes(w->part.rows ? w->part : w->tensor.value);
    }
    return bytes;
}

static int64_t bytes_of_gradients(const params *p) {
    int64_t bytes = 0;
    const shards *s = p->shards;
    for (int i = 0; s && i < s->count; i++) bytes += (int64_t)view_bytes(s->units[i].gradient);
    for (int i = 0; !s && i < p->count; i++) bytes += (int64_t)view_bytes(p->table[i].tensor.grad);
    return bytes;
}

/* Counts steps until one needs no more memory than those before it: later steps find buffers and the pool as the first
 * one has left them. */
static int count_peak(stepper *s, int64_t count, double *flops) {
    enum { MOST_STEPS = 5 };
    size_t before = 0;
    double again;
    device *d = s->model->device;
    TRY(count_mean_step(s, count, flops));
    for (int i = 1; i < MOST_STEPS && d->counts.peak > before; i++) {
        before = d->counts.peak;
        TRY(count_mean_step(s, count, &again));
    }
    return LCKV_OK;
}

static int count_training(const counted_model *c, const stepper_options *options, lckv_memory *out) {
    const device *d = c->device;
    const model *m = c->model;
    stepper *s;
    TRY(stepper_create(c->model, options, &s));
    int64_t before_step = (int64_t)d->counts.memory;
    out->weights = bytes_of_values(m->params) + (m->adapter ? bytes_of_values(m->adapter->weights) : 0);
    out->gradients = bytes_of_gradients(model_trainable(m));
    out->optimizer = before_step - out->weights - out->gradients;
    int count = s->group ? s->group->size : s->batch_size; /* filling a whole group takes the most memory */
    int status = count_peak(s, (int64_t)count * s->optimizer->collectives->ranks, &out->flops);
    out->flops *= (double)s->batch_size / count;
    out->total = (int64_t)d->counts.peak;
    out->activations = out->total - before_step;
    stepper_free(s);
    return status;
}

void lckv_training_shape_init(lckv_training_shape *shape, size_t struct_size) {
    const lckv_training_shape defaults = {.struct_size = sizeof defaults};
    options_give(shape, struct_size, &defaults, sizeof defaults);
}

static int check_loop_form(const lckv_training_shape *shape) {
    int64_t most = INT32_MAX / 2 / shape->block_size;
    REQUIRE(shape->loop_form >= LCKV_LOOP_PLAN && shape->loop_form <= LCKV_LOOP_SEQUENTIAL, LCKV_ERROR_ARGUMENT,
            "loop_form: expected 0 to 2, found %d", (int)shape->loop_form);
    REQUIRE(shape->loop_group_size >= 0 && shape->loop_group_size <= most, LCKV_ERROR_ARGUMENT,
            "loop_group_size: expected 0 to %lld, found %lld", (long long)most, (long long)shape->loop_group_size);
    return LCKV_OK;
}

static int check_exact(const lckv_training_shape *shape) {
    double share = shape->loop_plan_share, regression = shape->loop_iteration_weight;
    REQUIRE(share >= 0 && share < 1, LCKV_ERROR_ARGUMENT,
            "loop_plan_share: expected a number of at least 0 and below 1, found %g", share);
    REQUIRE(regression >= 0 && regression <= 1e9, LCKV_ERROR_ARGUMENT,
            "loop_iteration_weight: expected 0 to 1e9, found %g", regression);
    return LCKV_OK;
}

static int check_zero(const lckv_training_shape *shape) {
    REQUIRE(shape->zero == 0 || shape->zero == 1 || shape->zero == 3, LCKV_ERROR_ARGUMENT,
            "zero: expected 0, 1 or 3, found %lld", (long long)shape->zero);
    REQUIRE(shape->zero == 3 || !shape->zero_regather_loops, LCKV_ERROR_ARGUMENT, "zero_regather_loops needs zero 3");
    REQUIRE(!shape->bf16_gradients || (shape->zero == 3 && shape->bf16_weights), LCKV_ERROR_ARGUMENT,
            "bf16_gradients needs zero 3 and bf16_weights");
    return LCKV_OK;
}

/* One of `ranks` ranks, whose collectives do nothing. The last rank has the largest share of the optimizer state. */
static collectives counted_rank(int64_t ranks) {
    collectives c = *collectives_single();
    c.ranks = ranks > 0 ? (int)ranks : 1;
    c.rank = c.ranks - 1;
    return c;
}

int lckv_memory_for_training(const lckv_config *config, const lckv_training_shape *given, lckv_memory *out) {
    lckv_training_shape taken;
    lckv_lora lora;
    const lckv_training_shape *shape = &taken;
    counted_model c;
    *out = (lckv_memory){0};
    TRY(OPTIONS_TAKE(&taken, given, lckv_training_shape_defaults));
    TRY(OPTIONS_TAKE(&lora, taken.lora, lckv_lora_defaults));
    REQUIRE(
        shape->batch_size >= 1 && shape->block_size >= 2 && shape->batch_size <= INT32_MAX / 2 / shape->block_size,
        LCKV_ERROR_ARGUMENT,
        "expected a batch of blocks of at least 2 tokens with at most %d tokens in total, found %lld block%s of %lld "
        "tokens",
        INT32_MAX / 2, (long long)shape->batch_size, plural(shape->batch_size), (long long)shape->block_size);
    TRY(check_loop_form(shape));
    TRY(check_exact(shape));
    REQUIRE(shape->bf16 || !shape->bf16_weights, LCKV_ERROR_ARGUMENT, "bf16_weights needs bf16");
    REQUIRE(shape->num_processes >= 0 && shape->num_processes <= MAX_COUNTED_RANKS, LCKV_ERROR_ARGUMENT,
            "num_processes: expected 0 to %d, found %lld", MAX_COUNTED_RANKS, (long long)shape->num_processes);
    TRY(check_zero(shape));
    collectives rank = counted_rank(shape->num_processes);
    const stepper_options options = {
        .compute = shape->bf16 ? DTYPE_BF16 : DTYPE_F32,
        .bf16_weights = shape->bf16_weights,
        .batch_size = (int)shape->batch_size,
        .block_size = (int32_t)shape->block_size,
        .gradient_checkpointing = shape->gradient_checkpointing,
        .exact = shape->loop_form == LCKV_LOOP_EXACT,
        .fill_size = (int)shape->loop_group_size,
        .plan_share = shape->loop_plan_share,
        .iteration_weight = shape->loop_iteration_weight,
        .regather_loops = shape->zero_regather_loops,
        .bf16_gradients = shape->bf16_gradients,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .max_grad_norm = 1, .collectives = &rank},
    };
    const counted_parts parts = {.lora = shape->lora ? &lora : NULL,
                                 .loop_start_width = shape->loop_start ? loop_start_default_width(config) : 0,
                                 .divide = shape->zero == 3 ? &rank : NULL};
    TRY(counted_model_open(config, &parts, options.compute, &c));
    int status = count_training(&c, &options, out);
    counted_model_close(&c);
    return status;
}
