/* The learned start of a run, see add_loop_start.h. */
#include "train/add_loop_start.h"

#include "base/files/file.h"
#include "base/log.h"
#include "io/loop_start_file.h"
#include "train/loop_start/loop_start_kl.h"

#include <stdlib.h>

static int check_resumed(const lckv_trainer *t, bool wanted) {
    char *path;
    if (!t->resumed_from) return LCKV_OK;
    TRY(path_join(t->resumed_from, LOOP_START_FILE, &path));
    bool there = file_exists(path);
    free(path);
    REQUIRE(there == wanted, LCKV_ERROR_ARGUMENT,
            "'%s' is a checkpoint of a run %s loop_start; choose another output_dir, or set overwrite_output_dir",
            t->resumed_from, there ? "with" : "without");
    return LCKV_OK;
}

/* A conversion to another config leaves the start behind, because it belongs to the old layer map. */
static const char *folder_of_old(const lckv_trainer *t, const lckv_train_options *o) {
    if (t->resumed_from) return t->resumed_from;
    return o->model_name_or_path && !o->config_name ? t->origin.source_folder : NULL;
}

static int copy_values(loop_start *to, loop_start *from) {
    for (int i = 0; i < from->count; i++) {
        const weight *w = &from->weights->table[from->first + i];
        float *values = malloc((size_t)(w->rows * w->cols) * sizeof *values);
        REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the values of %s", w->name);
        int status = params_get(from->weights, from->first + i, values);
        if (status >= 0) status = params_set(to->weights, to->first + i, values, DTYPE_F32);
        free(values);
        TRY(status);
    }
    return LCKV_OK;
}

/* Whether the model's loss has iterations that begin with the start. Exact training has none by itself. */
static bool model_sees_start(const lckv_train_options *o) {
    return o->loop_form != LCKV_LOOP_EXACT || o->loop_plan_share > 0 || o->loop_iteration_weight > 0;
}

int trainer_add_loop_start(lckv_trainer *t, const lckv_train_options *o) {
    model *m = t->model;
    const char *folder = folder_of_old(t, o);
    loop_start *old = NULL;
    TRY(check_resumed(t, o->loop_start));
    if (!o->loop_start) return LCKV_OK;
    if (folder) TRY(loop_start_read(t->device, folder, m->config, DTYPE_F32, &old));
    int64_t width = old ? old->width : o->loop_start_width ? o->loop_start_width : loop_start_default_width(m->config);
    int status = loop_start_attach(m->params, m->config, width, &m->loop_start);
    if (status >= 0) status = old ? copy_values(m->loop_start, old) : loop_start_randomize(m->loop_start, t->seed);
    loop_start_free(old);
    if (status >= 0) m->loop_start->kl.trained = model_sees_start(o);
    return status;
}

static int measure(lckv_trainer *t, int count) {
    const kl_options options = {.compute = t->stepper->graph->compute};
    int64_t *chosen = malloc((size_t)count * sizeof *chosen);
    REQUIRE(chosen, LCKV_ERROR_MEMORY, "no memory for %d examples", count);
    for (int i = 0; i < count; i++) chosen[i] = i;
    int status = measure_loop_start(t->model, t->validation, chosen, count, &options);
    free(chosen);
    return status;
}

int trainer_measure_loop_start(lckv_trainer *t) {
    enum { TOKENS = 4096 };
    const loop_start *s = t->model->loop_start;
    int64_t all = t->validation->count;
    if (!s || !all) return LCKV_OK;
    int64_t count = TOKENS / t->validation->block_size;
    count = count < 1 ? 1 : count < all ? count : all;
    int status = collectives_agree(t->collectives, measure(t, (int)count));
    if (status == LCKV_ERROR_NUMERIC) { /* of a model that has diverged */
        log_message(LCKV_LOG_WARNING, "the learned start is not measured: %s", lckv_last_error());
        return LCKV_OK;
    }
    if (status < 0) return fail_within(status, "the model is trained and saved, but its learned start is not measured");
    log_message(LCKV_LOG_INFO, "after %d iterations from the learned start, the KL from the exact form is %.3g",
                s->kl.count, s->kl.start[s->kl.count - 1]);
    return LCKV_OK;
}
