/* The optimizer's moments in a file, see optimizer_file.h. Items 2i and 2i + 1 are the moments of entry i. */
#include "train/checkpoint/optimizer_file.h"

#include "io/tensors/safetensors.h"
#include "train/checkpoint/optimizer_state.h"

#include <stdlib.h>

enum { NAME_BYTES = 128 };

static optimizer_tensor what_of(int item) {
    return item % 2 ? OPTIMIZER_V : OPTIMIZER_M;
}

static void name_of(const optimizer *o, int item, char name[NAME_BYTES]) {
    snprintf(name, NAME_BYTES, "%s.%s", o->params->table[item / 2].name, item % 2 ? "exp_avg_sq" : "exp_avg");
}

/* ---------------------------------------------------------------- writing */

static int read_values(void *user, int item, element_range range, void *bytes) {
    optimizer *o = user;
    return optimizer_read(o, item / 2, what_of(item), range, o->state_type, bytes);
}

static int write_file(optimizer *o, safetensors_item *items, char (*names)[NAME_BYTES], const char *path) {
    int count = 2 * o->params->count;
    for (int i = 0; i < count; i++) {
        const weight *w = &o->params->table[i / 2];
        name_of(o, i, names[i]);
        items[i] = (safetensors_item){.name = names[i], .type = o->state_type, .dimensions = w->dimensions};
        items[i].shape[0] = w->dimensions == 2 ? w->rows : w->cols;
        items[i].shape[1] = w->cols;
    }
    new_file file;
    TRY(file_begin(path, &file));
    int status = safetensors_write(&file, items, count, read_values, o);
    if (status >= 0) return file_commit(&file);
    file_abandon(&file);
    return status;
}

int optimizer_save(optimizer *o, const char *path) {
    size_t count = 2 * (size_t)o->params->count;
    safetensors_item *items = calloc(count, sizeof *items);
    char(*names)[NAME_BYTES] = calloc(count, sizeof *names);
    int status = items && names ? write_file(o, items, names, path)
                                : fail(LCKV_ERROR_MEMORY, "no memory for a list of %zu tensors", count);
    free(items);
    free(names);
    return status;
}

/* ---------------------------------------------------------------- reading */

static int load_item(optimizer *o, const safetensors_file *file, int item) {
    char name[NAME_BYTES];
    const weight *w = &o->params->table[item / 2];
    name_of(o, item, name);
    const safetensors_entry *e = safetensors_find(file, name);
    REQUIRE(e, LCKV_ERROR_FORMAT, "'%s': tensor %s is missing: the checkpoint is of another model", file->path, name);
    bool typed = e->type == DTYPE_F32 || e->type == DTYPE_BF16;
    REQUIRE(typed && e->elements == w->rows * w->cols, LCKV_ERROR_FORMAT,
            "'%s': tensor %s: expected %lld elements of F32 or BF16, found %lld of %s", file->path, name,
            (long long)(w->rows * w->cols), (long long)e->elements, e->stored_type);
    TRY(optimizer_write(o, item / 2, what_of(item), e->data, e->type));
    safetensors_drop(e);
    return LCKV_OK;
}

int optimizer_load(optimizer *o, const char *path) {
    safetensors_file file;
    TRY(safetensors_open(path, &file));
    int status = LCKV_OK;
    for (int i = 0; i < 2 * o->params->count && status >= 0; i++) status = load_item(o, &file, i);
    safetensors_close(&file);
    return status;
}
