/* Loss, logits and the gradient of every weight, with the plan and token by token; four training steps. */
#include "golden.h"
#include "train/step/optimizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN_STEPS = 4, TRAIN_LENGTH = 20 }; /* as in reference/goldens.py */

/* Ids as a batch of sequences of `length`; the label of a token is the next one. */
static int fill(golden *g, batch *b, int32_t length) {
    int32_t count = g->length / length, *labels = malloc((size_t)g->length * sizeof *labels);
    batch_entry *entries = calloc((size_t)count, sizeof *entries);
    for (int32_t i = 0; i < count; i++) {
        int32_t *own = labels + i * length;
        memcpy(own, g->ids + i * length + 1, ((size_t)length - 1) * sizeof *own);
        own[length - 1] = -1;
        entries[i] = (batch_entry){.ids = g->ids + i * length,
                                   .labels = own,
                                   .rows = length,
                                   .wanted = length,
                                   .cache_id = -1,
                                   .planned = true};
    }
    int status = batch_fill(b, NULL, entries, count);
    free(entries);
    free(labels);
    return status;
}

/* Two scalars on the device: 1 / labels, and the loss. */
typedef struct numbers {
    void *memory;
    view scale, loss;
} numbers;

static int set_numbers(golden *g, const batch *b, numbers *n) {
    device *d = g->device;
    float scale = 1.0f / (float)b->labels_counted;
    if (!n->memory) TRY(d->memory.alloc(d, 512, &n->memory));
    n->scale = (view){n->memory, 1, 1, DTYPE_F32};
    n->loss = (view){(char *)n->memory + 256, 1, 1, DTYPE_F64};
    TRY(d->memory.zero(d, n->memory, 512));
    TRY(d->memory.copy_in(d, n->memory, &scale, sizeof scale));
    return d->memory.wait(d);
}

/* Forward, loss and, if the weights are not quantized, backward; gradients are added to the weights'. logits may be
 * NULL. */
static int differentiate(golden *g, const batch *b, bool sequential, const numbers *n, float *logits, double *loss) {
    device *d = g->device;
    tensor *hidden, *out;
    view none = {0};
    bool recording = g->weights == GOLDEN_STORED; /* quantized weights have no gradients */
    g->graph->recording = recording;
    if (sequential)
        TRY(decoder_forward_sequential(g->model, g->graph, b, &hidden));
    else
        TRY(decoder_forward(g->model, g->graph, b, NULL, &hidden));
    if (logits) {
        g->graph->recording = false;
        TRY(decoder_logits(g->model, g->graph, hidden, &out));
        TRY(golden_read(g, out->value, logits));
        g->graph->recording = recording;
    }
    TRY(decoder_loss(g->model, g->graph, b, hidden, n->scale, n->loss, none, none));
    if (recording) TRY(graph_backward(g->graph));
    TRY(d->memory.copy_out(d, loss, n->loss.data, sizeof *loss));
    return d->memory.wait(d);
}

/* Compares the gradient of each weight with PREFIX.NAME, and sets it to zero. */
static int compare_gradients(golden *g, const char *prefix) {
    params *p = g->model->params;
    for (int i = 0; i < p->count; i++) {
        weight *w = &p->table[i];
        char name[128];
        float *found = malloc(view_bytes(w->tensor.grad));
        int status = golden_read(g, w->tensor.grad, found);
        snprintf(name, sizeof name, "%s.%s", prefix, w->name);
        if (status >= 0) golden_compare(g, name, found, w->rows * w->cols);
        free(found);
        TRY(status);
        TRY(g->device->memory.zero(g->device, w->tensor.grad.data, view_bytes(w->tensor.grad)));
    }
    return LCKV_OK;
}

static int check_plan(golden *g, batch *b, numbers *n, float *logits) {
    double loss;
    TRY(fill(g, b, g->length));
    TRY(set_numbers(g, b, n));
    TRY(differentiate(g, b, false, n, logits, &loss));
    TRY(graph_reset(g->graph));
    float single = (float)loss;
    golden_compare(g, "plan.logits", logits, g->length * g->model->config->vocab_size);
    golden_compare(g, "plan.loss", &single, 1);
    if (golden_is_exact(g)) TRY(compare_gradients(g, "plan.grad"));
    if (!golden_is_exact(g) || golden_lacks(g, "sequential.grad")) return LCKV_OK;
    TRY(set_numbers(g, b, n));
    TRY(differentiate(g, b, true, n, NULL, &loss));
    TRY(graph_reset(g->graph));
    return compare_gradients(g, "sequential.grad");
}

int golden_plan(golden *g) {
    batch *b = NULL;
    numbers n = {0};
    float *logits = calloc((size_t)(g->length * g->model->config->vocab_size), sizeof *logits);
    int status = batch_create(g->device, (batch_limits){g->length, 1, 0}, &b);
    if (status >= 0) status = check_plan(g, b, &n, logits);
    batch_free(b);
    if (n.memory) g->device->memory.release(g->device, n.memory);
    free(logits);
    return status;
}

/* ---------------------------------------------------------------- training */

static int read_norm(golden *g, const optimizer *o, float *norm) {
    step_state state;
    TRY(g->device->memory.copy_out(g->device, &state, o->state.data, sizeof state));
    TRY(g->device->memory.wait(g->device));
    *norm = (float)state.grad_norm;
    return LCKV_OK;
}

static int compare_weights(golden *g) {
    params *p = g->model->params;
    if (golden_lacks(g, "train.final")) return LCKV_OK;
    for (int i = 0; i < p->count; i++) {
        char name[128];
        float *found = malloc((size_t)(p->table[i].rows * p->table[i].cols) * sizeof *found);
        int status = params_get(p, i, found);
        snprintf(name, sizeof name, "train.final.%s", p->table[i].name);
        if (status >= 0) golden_compare(g, name, found, p->table[i].rows * p->table[i].cols);
        free(found);
        TRY(status);
    }
    return LCKV_OK;
}

static int train(golden *g, batch *b, numbers *n, optimizer *o) {
    float losses[TRAIN_STEPS], norms[TRAIN_STEPS];
    for (int step = 0; step < TRAIN_STEPS; step++) {
        double loss;
        TRY(fill(g, b, TRAIN_LENGTH));
        TRY(set_numbers(g, b, n));
        TRY(differentiate(g, b, false, n, NULL, &loss));
        TRY(graph_reset(g->graph));
        TRY(optimizer_send(o, 1e-2));
        TRY(optimizer_update(o, n->loss));
        TRY(read_norm(g, o, &norms[step]));
        losses[step] = (float)loss;
    }
    golden_compare(g, "train.losses", losses, TRAIN_STEPS);
    golden_compare(g, "train.grad_norms", norms, TRAIN_STEPS);
    return compare_weights(g);
}

int golden_train(golden *g) {
    const optimizer_options options = {
        .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .max_grad_norm = 1};
    batch *b = NULL;
    numbers n = {0};
    optimizer *o = NULL;
    if (!golden_is_exact(g)) return LCKV_OK;
    int status = batch_create(g->device, (batch_limits){g->length, 2, 0}, &b);
    if (status >= 0) status = optimizer_create(g->model->params, &options, &o);
    if (status >= 0) status = train(g, b, &n, o);
    optimizer_free(o);
    batch_free(b);
    if (n.memory) g->device->memory.release(g->device, n.memory);
    return status;
}
