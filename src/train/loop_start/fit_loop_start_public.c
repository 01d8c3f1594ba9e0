/* lckv_fit_loop_start(), see lckv.h: reads the text, fits the start and writes its file. */
#include "base/files/file.h"
#include "base/options.h"
#include "data/blocks.h"
#include "hub/model_path.h"
#include "io/loop_start_file.h"
#include "train/initial_model.h"
#include "train/loop_start/fit_loop_start.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)LCKV_FIT_ITERATIONS == (int)LOOP_START_COLUMNS, "the result has room for what is measured");

void lckv_fit_options_init(lckv_fit_options *options, size_t struct_size) {
    const lckv_fit_options defaults = {.learning_rate = 3e-3, .seed = 42};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* The ids of all files, one after another. */
typedef struct text_ids {
    int32_t *ids;
    size_t count;
} text_ids;

static int append_ids(text_ids *all, const int32_t *ids, size_t count) {
    int32_t *more = realloc(all->ids, (all->count + count + 1) * sizeof *more);
    REQUIRE(more, LCKV_ERROR_MEMORY, "no memory for %zu tokens", all->count + count);
    if (count) memcpy(more + all->count, ids, count * sizeof *ids);
    all->ids = more;
    all->count += count;
    return LCKV_OK;
}

static int read_file(lckv_tokenizer *t, const char *path, text_ids *all) {
    char *text;
    int32_t *ids;
    size_t bytes, count;
    TRY(file_read(path, &text, &bytes));
    int status = lckv_tokenizer_encode(t, text, bytes, true, &ids, &count);
    free(text);
    TRY(status);
    status = append_ids(all, ids, count);
    lckv_free(ids);
    return status;
}

static int read_text(const lckv_fit_options *o, const char *model_folder, text_ids *all) {
    lckv_tokenizer *t;
    char *folder = NULL;
    if (o->tokenizer_name) TRY(model_path_resolve(o->tokenizer_name, &folder));
    int status = lckv_tokenizer_open(folder ? folder : model_folder, &t);
    free(folder);
    TRY(status);
    for (int i = 0; i < o->file_count && status >= 0; i++) status = read_file(t, o->files[i], all);
    lckv_tokenizer_free(t);
    return status;
}

static int check_ids(const text_ids *all, int64_t vocab_size) {
    for (size_t i = 0; i < all->count; i++)
        REQUIRE(all->ids[i] < vocab_size, LCKV_ERROR_ARGUMENT,
                "the text has token %d, but the model %lld tokens: the tokenizer does not belong to this model",
                (int)all->ids[i], (long long)vocab_size);
    return LCKV_OK;
}

static void describe(const model *m, const fit_result *f, lckv_fit_result *out) {
    const loop_start_kl *kl = &m->loop_start->kl;
    *out = (lckv_fit_result){.tokens = f->tokens,
                             .held_out_tokens = f->held_out,
                             .parameters = params_elements(m->loop_start->weights),
                             .steps = f->steps,
                             .relative_error = f->relative_error,
                             .plan_iterations = m->config->forward_passes + m->config->backward_passes,
                             .default_iterations = model_default_iterations(m),
                             .measured = kl->count};
    memcpy(out->kl_zeros, kl->zeros, sizeof kl->zeros);
    memcpy(out->kl_start, kl->start, sizeof kl->start);
}

static int fit_and_write(model *m, const lckv_fit_options *o, const text_ids *all, lckv_fit_result *out) {
    int64_t positions = m->config->positions, size = o->block_size ? o->block_size : 512;
    if (size > positions) size = positions;
    const blocks b = blocks_of_ids(all->ids, (int32_t)size, (int64_t)all->count / size);
    const fit_options fit = {.compute = o->bf16 ? DTYPE_BF16 : DTYPE_F32,
                             .width = o->width,
                             .steps = o->steps,
                             .learning_rate = o->learning_rate,
                             .seed = o->seed,
                             .go_on = o->go_on,
                             .user = o->user};
    fit_result result;
    TRY(fit_loop_start(m, &b.examples, &fit, &result));
    describe(m, &result, out);
    const loop_start_save save = {.start = m->loop_start, .type = params_float_type(m->params)};
    return loop_start_write(&save, o->output_dir);
}

static int run(device *d, const lckv_fit_options *o, const char *folder, lckv_fit_result *out) {
    model *m;
    text_ids all = {0};
    TRY(initial_model_load(d, folder, NULL, DTYPE_COUNT, WEIGHT_AUTO, NULL, NULL, &m));
    int status = read_text(o, folder, &all);
    if (status >= 0) status = check_ids(&all, m->config->vocab_size);
    if (status >= 0) status = fit_and_write(m, o, &all, out);
    free(all.ids);
    model_free(m);
    return status;
}

static int check(const lckv_fit_options *o) {
    REQUIRE(o->model_name_or_path && o->output_dir, LCKV_ERROR_ARGUMENT, "expected model_name_or_path and output_dir");
    REQUIRE(o->files && o->file_count > 0, LCKV_ERROR_ARGUMENT, "expected a text file to fit a start to, found none");
    REQUIRE(!o->block_size || (o->block_size >= 2 && o->block_size <= 1 << 20), LCKV_ERROR_ARGUMENT,
            "block_size: expected 0 (automatic) or 2 to %d, found %lld", 1 << 20, (long long)o->block_size);
    REQUIRE(o->width >= 0 && o->width <= 1 << 20, LCKV_ERROR_ARGUMENT,
            "width: expected 0 (automatic) to %d, found %lld", 1 << 20, (long long)o->width);
    REQUIRE(o->steps >= 0, LCKV_ERROR_ARGUMENT, "steps: expected 0 (automatic) or more, found %lld",
            (long long)o->steps);
    REQUIRE(o->learning_rate > 0 && o->learning_rate < 1, LCKV_ERROR_ARGUMENT,
            "learning_rate: expected a number above 0 and below 1, found %g", o->learning_rate);
    return LCKV_OK;
}

int lckv_fit_loop_start(lckv_device *d, const lckv_fit_options *options, lckv_fit_result *result) {
    lckv_fit_options o;
    char *folder;
    *result = (lckv_fit_result){0};
    TRY(OPTIONS_TAKE(&o, options, lckv_fit_defaults));
    TRY(check(&o));
    TRY(model_path_resolve(o.model_name_or_path, &folder));
    int status = run(d, &o, folder, result);
    free(folder);
    return status;
}
