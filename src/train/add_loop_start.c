/* The learned start of a run, see add_loop_start.h. */
#include "train/add_loop_start.h"

#include "base/files/file.h"
#include "io/loop_start_file.h"

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
    return status;
}
