/* What is checked before an op is called: which formats its operands may have. An op must not be called with others: it
 * would read the bytes as something else. Listed are the operands that come from outside the graph, that is weights,
 * masters and KV pages, and those of conversions; activations are made by the graph in types that the ops know. */
#include "device/device.h"

#include <stddef.h>

typedef struct operand {
    size_t at; /* offset of the view in the op's struct */
    const char *name;
    unsigned formats;
    bool weight; /* a matrix, for which a device may know further formats (device_formats) */
} operand;

#define TRAINED (DTYPE_BIT(DTYPE_F32) | DTYPE_BIT(DTYPE_BF16))
#define F32_ONLY DTYPE_BIT(DTYPE_F32)
#define WEIGHT(op, field)                                                                                              \
    { offsetof(struct op_##op, field), #field, DTYPE_FLOATS, true }
#define VALUES(op, field, set)                                                                                         \
    { offsetof(struct op_##op, field), #field, set, false }
#define VECTOR(op, field) VALUES(op, field, DTYPE_FLOATS) /* norms and biases */

enum { MAX_OPERANDS = 9 };

static const operand operands[DEVICE_OP_COUNT][MAX_OPERANDS] = {
    [DEVICE_embed] = {WEIGHT(embed, table)},
    [DEVICE_embed_backward] = {VALUES(embed, dtable, F32_ONLY)},
    [DEVICE_scatter_rows] = {VALUES(scatter_rows, src, TRAINED), VALUES(scatter_rows, dst, TRAINED)},
    [DEVICE_rms_norm] = {VECTOR(rms_norm, weight)},
    [DEVICE_rms_norm_backward] = {VECTOR(rms_norm, weight)},
    [DEVICE_accumulate] = {VALUES(accumulate, src, DTYPE_FLOATS), VALUES(accumulate, dst, TRAINED)},
    [DEVICE_cast] = {VALUES(cast, src, DTYPE_FLOATS), VALUES(cast, dst, DTYPE_FLOATS)},
    [DEVICE_linear] = {WEIGHT(linear, weight), VECTOR(linear, bias)},
    [DEVICE_linear_backward] = {WEIGHT(linear, weight)},
    [DEVICE_linear_cross_entropy] = {WEIGHT(linear_cross_entropy, weight)},
    [DEVICE_attention] = {VALUES(attention, past.k, TRAINED), VALUES(attention, past.v, TRAINED)},
    [DEVICE_adamw] = {VALUES(adamw, master, TRAINED), VALUES(adamw, weight, DTYPE_FLOATS), VALUES(adamw, m, TRAINED),
                      VALUES(adamw, v, TRAINED)},
    [DEVICE_fill_normal] = {VALUES(fill_normal, dst, DTYPE_FLOATS)},
    [DEVICE_project] = {VECTOR(project, norm), WEIGHT(project, part[0].weight), VECTOR(project, part[0].bias),
                        WEIGHT(project, part[1].weight), VECTOR(project, part[1].bias), WEIGHT(project, part[2].weight),
                        VECTOR(project, part[2].bias)},
    [DEVICE_linear_add] = {WEIGHT(linear_add, product.weight), VECTOR(linear_add, product.bias)},
    [DEVICE_rope_append] = {VALUES(rope_append, pages_k, TRAINED), VALUES(rope_append, pages_v, TRAINED)},
    [DEVICE_heads] = {VECTOR(heads, project.norm), WEIGHT(heads, project.part[0].weight),
                      VECTOR(heads, project.part[0].bias), WEIGHT(heads, project.part[1].weight),
                      VECTOR(heads, project.part[1].bias), WEIGHT(heads, project.part[2].weight),
                      VECTOR(heads, project.part[2].bias), VALUES(heads, append.pages_k, TRAINED),
                      VALUES(heads, append.pages_v, TRAINED)},
};

static const char *const names[DEVICE_OP_COUNT] = {
#define ENTRY(name, arguments) #name,
    DEVICE_OPS(ENTRY) DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
};

const char *device_op_name(device_op op) {
    return names[op];
}

int device_lacks(const device *d, device_op op) {
    return fail(LCKV_ERROR_UNSUPPORTED, "device %s has no %s", d->name, names[op]);
}

static int refuse(const device *d, device_op op, const operand *o, unsigned known, dtype type) {
    char list[128];
    dtype_list(known, list, sizeof list);
    return fail(LCKV_ERROR_UNSUPPORTED, "device %s: %s does not know the format %s of its %s, only %s", d->name,
                names[op], dtype_name(type), o->name, list);
}

int device_check_formats(const device *d, device_op op, unsigned accepted, const void *arguments) {
    for (const operand *o = operands[op]; o < operands[op] + MAX_OPERANDS && o->name; o++) {
        const view *v = (const view *)(const void *)((const char *)arguments + o->at);
        unsigned known = o->formats | (o->weight ? accepted : 0);
        if (v->data && !(known & DTYPE_BIT(v->type))) return refuse(d, op, o, known, v->type);
    }
    return LCKV_OK;
}
