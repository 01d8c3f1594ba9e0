/* Adding an adapter beside weights, see adapter_attach.h. */
#include "io/adapter/adapter_attach.h"

#include "io/tensors/tensor_part.h"

static int shape_of(void *user, const weight *w, adapter_pair *out) {
    const adapter_file *f = user;
    const safetensors_entry *a = adapter_file_tensor(f, w->name, 'A');
    *out = (adapter_pair){0};
    if (!a) return LCKV_OK;
    out->rank = a->shape[0];
    return adapter_file_scale(f, w->name, out->rank, &out->scale);
}

static int set_values(const adapter_file *f, params *p) {
    for (int i = 0; i < p->count && !p->device->counts_only; i++) {
        const safetensors_entry *e = safetensors_find(&f->tensors, p->table[i].name);
        TRY(tensor_part_set(p, i, e->data, e->type));
    }
    return LCKV_OK;
}

int adapter_attach(const adapter_file *f, params *base, adapter **out) {
    TRY(adapter_create_shaped(base, shape_of, (void *)(uintptr_t)f, out));
    int status = set_values(f, (*out)->weights);
    if (status >= 0) return LCKV_OK;
    adapter_free(*out);
    *out = NULL;
    return status;
}
