/* The batch of a run and its memory, see fit.h. */
#include "train/fit.h"

#include "base/log.h"

#include <string.h>

static const double GIB = 1 << 30;
/* What a device's libraries and the program take besides; measured: 2 to 4 % of what is counted. */
static const double BESIDES = 1.05;

typedef struct fitting {
    const model_config *config;
    lckv_training_shape shape;
    double room; /* bytes */
} fitting;

static int find_room(const lckv_trainer *t, const lckv_train_options *o, double *room) {
    size_t unused, total;
    TRY(t->device->memory.available(t->device, &unused, &total));
    *room = (double)(o->memory_limit ? (size_t)o->memory_limit : unused);
    return LCKV_OK;
}

static int needed(const fitting *f, int64_t batch_size, double *bytes) {
    lckv_training_shape shape = f->shape;
    lckv_memory m;
    shape.batch_size = batch_size;
    TRY(lckv_memory_for_training(f->config, &shape, &m));
    *bytes = BESIDES * (double)m.total;
    return LCKV_OK;
}

static int refuse(const fitting *f, int64_t batch_size, double bytes) {
    return fail(
        LCKV_ERROR_MEMORY,
        "training %lld blocks of %lld tokens at a time takes %.2f GiB, %.2f GiB more than the %.2f GiB that are "
        "free. Less is taken by a smaller per_device_train_batch_size or block_size, gradient_checkpointing, "
        "or bf16 with torch_dtype bfloat16",
        (long long)batch_size, (long long)f->shape.block_size, bytes / GIB, (bytes - f->room) / GIB, f->room / GIB);
}

static int check(const fitting *f, int64_t batch_size) {
    double bytes;
    TRY(needed(f, batch_size, &bytes));
    return bytes <= f->room ? LCKV_OK : refuse(f, batch_size, bytes);
}

static int fits(const fitting *f, int64_t batch_size, bool *out) {
    double bytes;
    *out = false;
    if (batch_size > INT32_MAX / 2 / f->shape.block_size) return LCKV_OK;
    TRY(needed(f, batch_size, &bytes));
    *out = bytes <= f->room;
    return LCKV_OK;
}

/* The largest batch up to `most` that fits; 1 where none does. More blocks take more memory, so that it is found by
 * doubling and halving, whatever `most` is, and nothing much larger than it is ever laid out. */
static int find_largest(const fitting *f, int64_t most, int64_t *out) {
    int64_t low = 1, high = 2; /* low fits (or is 1), high is to be tried */
    bool there = true;
    for (; there && high <= most; high *= 2) {
        TRY(fits(f, high, &there));
        if (there) low = high;
    }
    high = there ? most + 1 : high / 2;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        TRY(fits(f, middle, &there));
        if (there)
            low = middle;
        else
            high = middle;
    }
    *out = low;
    return LCKV_OK;
}

/* The largest divisor of a step's blocks that fits. */
static int find(const fitting *f, int64_t of_a_step, int64_t *batch_size) {
    TRY(find_largest(f, of_a_step, batch_size));
    while (of_a_step % *batch_size) --*batch_size;
    return check(f, *batch_size);
}

int fit_batch(lckv_trainer *t, const lckv_train_options *o, int64_t block_size) {
    int64_t asked = o->per_device_train_batch_size, of_a_step = asked * o->gradient_accumulation_steps;
    fitting f = {.config = t->config,
                 .shape = {.struct_size = sizeof(lckv_training_shape),
                           .block_size = block_size,
                           .bf16 = o->bf16,
                           .gradient_checkpointing = o->gradient_checkpointing,
                           .bf16_weights = o->torch_dtype && !strcmp(o->torch_dtype, "bfloat16"),
                           .lora = o->use_peft ? o->lora : NULL}};
    t->batch_size = asked;
    if (!o->do_train) return LCKV_OK;
    if (t->collectives->ranks > 1) {
        if (o->auto_find_batch_size)
            log_message(LCKV_LOG_INFO, "auto_find_batch_size: of several processes each runs what was asked for");
        return LCKV_OK;
    }
    TRY(find_room(t, o, &f.room));
    if (!o->auto_find_batch_size) return check(&f, asked);
    TRY(find(&f, of_a_step, &t->batch_size));
    log_message(LCKV_LOG_INFO, "auto_find_batch_size: %lld blocks at a time, %lld times a step",
                (long long)t->batch_size, (long long)(of_a_step / t->batch_size));
    return LCKV_OK;
}
