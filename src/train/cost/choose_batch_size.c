/* The micro-batch size of a run, see choose_batch_size.h. */
#include "train/cost/choose_batch_size.h"

#include "base/log.h"

#include <string.h>

static const double GIB = 1 << 30, MIB = 1 << 20;
/* Factor for what the device's libraries and the program take; measured: 2 to 4 % of what is counted. */
static const double OVERHEAD = 1.05;

typedef struct memory_fit {
    const model_config *config;
    lckv_training_shape shape;
    bool of_group;    /* the size that varies is that of the group (shape.loop_group_size), not of the batch */
    double available; /* bytes */
} memory_fit;

/* Ranks on one host share its memory; a GPU belongs to one rank. memory_limit is that of a rank. The least of all ranks
 * counts, so that all choose the same. */
static int find_available(const lckv_trainer *t, const lckv_train_options *o, double *available) {
    const collectives *c = t->collectives;
    size_t free_bytes, total;
    int sharing;
    TRY(collectives_ranks_here(c, &sharing));
    TRY(collectives_agree(c, t->device->memory.available(t->device, &free_bytes, &total)));
    *available = (double)free_bytes / (t->device->host_memory ? sharing : 1);
    if (o->memory_limit) *available = (double)o->memory_limit;
    return collectives_smallest(c, available);
}

static int bytes_needed(const memory_fit *f, int64_t size, double *bytes) {
    lckv_training_shape shape = f->shape;
    lckv_memory m;
    *(f->of_group ? &shape.loop_group_size : &shape.batch_size) = size;
    TRY(lckv_memory_for_training(f->config, &shape, &m));
    *bytes = OVERHEAD * (double)m.total;
    return LCKV_OK;
}

static int check(const memory_fit *f, int64_t batch_size) {
    double bytes;
    TRY(bytes_needed(f, batch_size, &bytes));
    if (bytes <= f->available) return LCKV_OK;
    const char *name = bytes < GIB ? "MiB" : "GiB";
    double unit = bytes < GIB ? MIB : GIB;
    return fail(
        LCKV_ERROR_MEMORY,
        "training with micro-batches of %lld block%s of %lld tokens needs %.2f %s%s, %.2f %s more than the %.2f %s "
        "that are free; reduce per_device_train_batch_size or block_size, or set gradient_checkpointing, or bf16 with "
        "torch_dtype bfloat16%s",
        (long long)batch_size, plural(batch_size), (long long)f->shape.block_size, bytes / unit, name,
        f->shape.num_processes > 1 ? " in each process" : "", (bytes - f->available) / unit, name, f->available / unit,
        name, f->shape.num_processes > 1 && f->shape.zero != 3 ? ", or zero 3" : "");
}

static int fits(const memory_fit *f, int64_t size, bool *out) {
    double bytes;
    *out = false;
    if (size > INT32_MAX / 2 / f->shape.block_size) return LCKV_OK;
    TRY(bytes_needed(f, size, &bytes));
    *out = bytes <= f->available;
    return LCKV_OK;
}

/* The largest size up to `limit` that fits; 1 if none does. Doubles and then bisects, so that the number of sizes
 * that are tried, and the largest of them, depend on what fits and not on `limit`. */
static int find_largest(const memory_fit *f, int64_t limit, int64_t *out) {
    int64_t low = 1, high = 2; /* low fits (or is 1); high is tried next */
    bool fit = true;
    for (; fit && high <= limit; high *= 2) {
        TRY(fits(f, high, &fit));
        if (fit) low = high;
    }
    high = fit ? limit + 1 : high / 2;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        TRY(fits(f, middle, &fit));
        if (fit)
            low = middle;
        else
            high = middle;
    }
    *out = low;
    return LCKV_OK;
}

/* The largest divisor of a step's examples that fits. */
static int find_divisor(const memory_fit *f, int64_t examples_per_step, int64_t *batch_size) {
    TRY(find_largest(f, examples_per_step, batch_size));
    while (examples_per_step % *batch_size) --*batch_size;
    return check(f, *batch_size);
}

static int find_batch_size(const memory_fit *f, int64_t examples_per_step, int64_t *batch_size) {
    TRY(find_divisor(f, examples_per_step, batch_size));
    log_message(LCKV_LOG_INFO, "auto_find_batch_size: micro-batches of %lld block%s, %lld gradient accumulation step%s",
                (long long)*batch_size, plural(*batch_size), (long long)(examples_per_step / *batch_size),
                plural(examples_per_step / *batch_size));
    return LCKV_OK;
}

/* All examples of a step if they fit, else the largest group that does. */
static int find_group_size(const lckv_trainer *t, memory_fit *f, int64_t per_step, int64_t *size) {
    bool all;
    *size = per_step;
    f->of_group = true;
    f->shape.batch_size = t->batch_size;
    TRY(fits(f, per_step, &all));
    return all ? LCKV_OK : find_largest(f, per_step, size);
}

/* With zero 3, chooses to gather loops in each iteration if the smallest micro-batch does not fit otherwise. */
static int choose_regathering(lckv_trainer *t, memory_fit *f, int64_t least) {
    bool fit = true;
    if (f->shape.zero == 3 && f->shape.num_processes > 1 && f->config->map.loops && !t->regather_loops)
        TRY(fits(f, least, &fit));
    if (!fit) {
        f->shape.zero_regather_loops = true;
        TRY(fits(f, least, &fit));
        t->regather_loops = f->shape.zero_regather_loops = fit;
        if (fit)
            log_message(LCKV_LOG_INFO,
                        "zero 3: the weights of a loop do not fit into memory together; gathering them in "
                        "each iteration (zero_regather_loops)");
    }
    return LCKV_OK;
}

int trainer_choose_batch_size(lckv_trainer *t, const lckv_train_options *o) {
    int64_t given = o->per_device_train_batch_size, per_step = given * o->gradient_accumulation_steps;
    memory_fit f = {.config = t->config,
                    .shape = {.struct_size = sizeof(lckv_training_shape),
                              .block_size = t->block_size,
                              .bf16 = o->bf16,
                              .gradient_checkpointing = o->gradient_checkpointing,
                              .bf16_weights = o->torch_dtype && !strcmp(o->torch_dtype, "bfloat16"),
                              .loop_form = o->loop_form,
                              .loop_group_size = o->loop_group_size,
                              .loop_plan_share = o->loop_plan_share,
                              .loop_iteration_weight = o->loop_iteration_weight,
                              .lora = o->use_peft ? o->lora : NULL,
                              .loop_start = o->loop_start,
                              .num_processes = t->collectives->ranks,
                              .zero = o->zero,
                              .bf16_gradients = o->grad_accum_dtype && !strcmp(o->grad_accum_dtype, "bfloat16"),
                              .zero_regather_loops = o->zero_regather_loops}};
    t->batch_size = given;
    t->regather_loops = o->zero_regather_loops;
    t->loop_group_size = o->loop_group_size ? o->loop_group_size : per_step;
    if (!o->do_train) return LCKV_OK;
    TRY(find_available(t, o, &f.available));
    TRY(choose_regathering(t, &f, o->auto_find_batch_size ? 1 : given));
    TRY(o->auto_find_batch_size ? find_batch_size(&f, per_step, &t->batch_size) : check(&f, given));
    bool exact = o->loop_form == LCKV_LOOP_EXACT;
    return exact && !o->loop_group_size ? find_group_size(t, &f, per_step, &t->loop_group_size) : LCKV_OK;
}
