/* The table of weights of a learned start, see loop_start.h. The forward pass is in loop_start_forward.c. */
#include "model/loop_start.h"

#include "model/exact.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256 };

int64_t loop_start_default_width(const model_config *c) {
    return 2 * c->hidden_size;
}

/* ---------------------------------------------------------------- the table */

static tensor *add(params *p, int64_t rows, int64_t cols, int dimensions, const char *format, int loop, int layer) {
    weight *w = &p->table[p->count++];
    *w = (weight){.rows = rows, .cols = cols, .dimensions = dimensions};
    w->tensor = (tensor){.value = {NULL, rows, cols, DTYPE_F32}, .weight = true};
    snprintf(w->name, sizeof w->name, format, loop, layer);
    return &w->tensor;
}

static void add_slot(loop_start *s, const layer_map *map, int slot, int loop) {
    int64_t k = exact_keys_width(map, slot), v = exact_values_width(map, slot);
    int layer = map->slot[slot].layer;
    loop_start_net *net = &s->nets[loop];
    loop_start_slot *out = &net->slots[net->slot_count++];
    *out = (loop_start_slot){.slot = slot};
    if (k) {
        out->k = add(s->weights, k, s->width, 2, "loops.%d.slots.%d.k_proj.weight", loop, layer);
        out->k_bias = add(s->weights, 1, k, 1, "loops.%d.slots.%d.k_proj.bias", loop, layer);
    }
    if (v) {
        out->v = add(s->weights, v, s->width, 2, "loops.%d.slots.%d.v_proj.weight", loop, layer);
        out->v_bias = add(s->weights, 1, v, 1, "loops.%d.slots.%d.v_proj.bias", loop, layer);
    }
}

/* The net of the loop that `step` runs. Its slots follow those of the loops before it. */
static void add_net(loop_start *s, const model_config *c, const plan_step *step, loop_start_slot *slots) {
    int loop = s->net_count++;
    if (s->shared) s->weights->unit_first[s->weights->unit_count++] = s->weights->count;
    int64_t inputs = LOOP_START_TOKENS * c->hidden_size;
    loop_start_net *net = &s->nets[loop];
    *net = (loop_start_net){.first_layer = step->first, .slots = slots};
    net->gate = add(s->weights, s->width, inputs, 2, "loops.%d.gate_proj.weight", loop, 0);
    net->gate_bias = add(s->weights, 1, s->width, 1, "loops.%d.gate_proj.bias", loop, 0);
    net->up = add(s->weights, s->width, inputs, 2, "loops.%d.up_proj.weight", loop, 0);
    for (int slot = 0; slot < c->map.slots; slot++) {
        int owner = c->map.slot[slot].layer;
        bool looked_up = exact_keys_width(&c->map, slot) || exact_values_width(&c->map, slot);
        if (looked_up && owner >= step->first && owner <= step->last) add_slot(s, &c->map, slot, loop);
    }
}

static int fill_table(loop_start *s, const model_config *c) {
    plan steps;
    TRY(plan_make(&c->map, 0, 1, &steps)); /* one step per loop */
    loop_start_slot *slots = s->slots;
    for (int i = 0; i < steps.count; i++) {
        if (!steps.steps[i].in_loop) continue;
        add_net(s, c, &steps.steps[i], slots);
        slots += s->nets[s->net_count - 1].slot_count;
    }
    plan_free(&steps);
    return LCKV_OK;
}

static int make_unit(loop_start *s, int64_t hidden_size) {
    view *v = &s->unit.value;
    *v = (view){NULL, 1, hidden_size, DTYPE_F32};
    s->unit.weight = true;
    float *ones = malloc(view_bytes(*v));
    REQUIRE(ones, LCKV_ERROR_MEMORY, "no memory for a learned start");
    for (int64_t i = 0; i < hidden_size; i++) ones[i] = 1;
    int status = s->device->memory.alloc(s->device, view_bytes(*v), &v->data);
    if (status >= 0) status = s->device->memory.copy_in(s->device, v->data, ones, view_bytes(*v));
    if (status >= 0) status = s->device->memory.wait(s->device);
    free(ones);
    return status;
}

static int make_table(loop_start *s, const model_config *c) {
    params *p = s->weights = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for a learned start");
    p->device = s->device;
    p->capacity = c->map.loops * PARAMS_PER_LOOP + c->map.slots * PARAMS_PER_SLOT;
    p->table = calloc((size_t)p->capacity, sizeof *p->table);
    REQUIRE(p->table, LCKV_ERROR_MEMORY, "no memory for a learned start");
    return LCKV_OK;
}

static int make(loop_start *s, const model_config *c) {
    size_t loops = (size_t)c->map.loops, slots = (size_t)c->map.slots;
    REQUIRE(loops, LCKV_ERROR_UNSUPPORTED, "%s: a learned start requires a model with loops (layer_types)", c->name);
    s->nets = calloc(loops, sizeof *s->nets);
    s->slots = calloc(slots, sizeof *s->slots);
    REQUIRE(s->nets && s->slots, LCKV_ERROR_MEMORY, "no memory for a learned start");
    if (!s->shared) TRY(make_table(s, c));
    s->first = s->weights->count;
    TRY(fill_table(s, c));
    s->count = s->weights->count - s->first;
    return make_unit(s, c->hidden_size);
}

static int created(loop_start *s, int status, loop_start **out) {
    if (status < 0)
        loop_start_free(s);
    else
        *out = s;
    return status;
}

int loop_start_create(device *d, const model_config *c, int64_t width, loop_start **out) {
    *out = NULL;
    loop_start *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for a learned start");
    *s = (loop_start){.device = d, .width = width};
    return created(s, make(s, c), out);
}

static size_t aligned_bytes(const weight *w) {
    size_t bytes = view_bytes(w->tensor.value);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* The table's memory is one allocation, which the trainer makes anew because these values are elsewhere. */
static int place_initial(loop_start *s) {
    size_t bytes = 0;
    weight *mine = s->weights->table + s->first;
    for (int i = 0; i < s->count; i++) bytes += aligned_bytes(&mine[i]);
    TRY(s->device->memory.alloc(s->device, bytes, &s->initial));
    char *at = s->initial;
    for (int i = 0; i < s->count; i++) {
        mine[i].tensor.value.data = at;
        at += aligned_bytes(&mine[i]);
    }
    s->weights->adopted = true;
    return LCKV_OK;
}

int loop_start_attach(params *base, const model_config *c, int64_t width, loop_start **out) {
    *out = NULL;
    loop_start *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for a learned start");
    *s = (loop_start){.device = base->device, .weights = base, .shared = true, .width = width};
    int status = make(s, c);
    if (status >= 0) status = place_initial(s);
    return created(s, status, out);
}

void loop_start_drop_initial(loop_start *s) {
    if (s->initial) s->device->memory.release(s->device, s->initial);
    s->initial = NULL;
}

void loop_start_free(loop_start *s) {
    if (!s) return;
    if (s->unit.value.data) s->device->memory.release(s->device, s->unit.value.data);
    if (!s->shared) params_free(s->weights);
    loop_start_drop_initial(s);
    free(s->nets);
    free(s->slots);
    free(s);
}

/* ---------------------------------------------------------------- initial values */

static bool is_output(const loop_start *s, const tensor *t) {
    for (int i = 0; i < s->net_count; i++)
        if (t == s->nets[i].gate || t == s->nets[i].up) return false;
    return true;
}

int loop_start_randomize(loop_start *s, uint64_t seed) {
    params *p = s->weights;
    for (int i = s->first; i < s->first + s->count; i++) {
        const weight *w = &p->table[i];
        bool zeros = w->dimensions == 1 || is_output(s, &w->tensor);
        TRY(params_fill_normal(p, i, zeros ? 0 : 1 / sqrt((double)w->cols), seed));
    }
    return p->device->memory.wait(p->device);
}

/* ---------------------------------------------------------------- iterations */

int loop_start_iterations(const loop_start *s, int iterations) {
    const loop_start_kl *kl = &s->kl;
    if (iterations > kl->count) return iterations;
    for (int i = 0; i < iterations; i++)
        if (kl->start[i] <= kl->zeros[iterations - 1]) return i + 1;
    return iterations;
}
