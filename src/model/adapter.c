/* LoRA adapters; see adapter.h. */
#include "model/adapter.h"

#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const KINDS[ADAPTER_KINDS] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "gate_proj", "up_proj", "down_proj"};
static const uint64_t ADAPTER_STREAM = 0x6c6f726100000000; /* "lora": a stream apart from those of new weights */

/* ---------------------------------------------------------------- names */

const char *adapter_target_name(int bit) {
    return KINDS[bit];
}

/* The bits of one name; 0 if it is unknown. */
static unsigned bits_of(const char *name, size_t length) {
    for (int i = 0; i < ADAPTER_KINDS; i++)
        if (strlen(KINDS[i]) == length && strncmp(KINDS[i], name, length) == 0) return 1u << i;
    return length == strlen("all-linear") && strncmp(name, "all-linear", length) == 0 ? ADAPTER_ALL : 0;
}

int adapter_targets(const char *const *names, int count, unsigned *out) {
    *out = count ? 0 : bits_of("q_proj", 6) | bits_of("v_proj", 6);
    for (int i = 0; i < count; i++) {
        unsigned bits = bits_of(names[i], strlen(names[i]));
        REQUIRE(bits, LCKV_ERROR_ARGUMENT,
                "lora_target_modules: expected q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj or "
                "all-linear, found '%.60s'",
                names[i]);
        *out |= bits;
    }
    return LCKV_OK;
}

/* Splits "model.layers.0.self_attn.q_proj.weight" before ".weight": the number of bytes, and the bit of the matrix.
 * False if the matrix cannot be adapted. */
static bool split_name(const char *weight_name, int *length, unsigned *bit) {
    static const char END[] = ".weight";
    size_t all = strlen(weight_name), end = sizeof END - 1;
    if (all <= end || strcmp(weight_name + all - end, END)) return false;
    size_t last = all - end;
    while (last > 0 && weight_name[last - 1] != '.') last--;
    *length = (int)(all - end);
    *bit = bits_of(weight_name + last, all - end - last);
    return *bit != 0;
}

bool adapter_name(const char *weight_name, char a_or_b, char out[ADAPTER_NAME_BYTES]) {
    int length;
    unsigned bit;
    if (!split_name(weight_name, &length, &bit)) return false;
    int bytes = snprintf(out, ADAPTER_NAME_BYTES, "base_model.model.%.*s.lora_%c.weight", length, weight_name, a_or_b);
    return bytes < ADAPTER_NAME_BYTES;
}

/* ---------------------------------------------------------------- the table */

static bool is_adapted(const weight *w, unsigned targets) {
    int length;
    unsigned bit;
    return split_name(w->name, &length, &bit) && (bit & targets);
}

/* Rank and factor of each matrix. */
typedef struct shapes {
    adapter_shape *of;
    void *user;
} shapes;

static int count_adapted(const params *base, const shapes *s, int *count) {
    adapter_pair pair;
    *count = 0;
    for (int i = 0; i < base->count; i++) {
        TRY(s->of(s->user, &base->table[i], &pair));
        *count += pair.rank > 0;
    }
    return LCKV_OK;
}

/* If a rank has a part of the matrix, A has the same columns, and B the same rows. */
static tensor *add_a(params *p, const weight *of, int64_t rank) {
    weight *w = params_add(p, rank, of->cols, 2);
    w->all_cols = of->all_cols;
    w->first_col = of->first_col;
    adapter_name(of->name, 'A', w->name);
    return &w->tensor;
}

static tensor *add_b(params *p, const weight *of, int64_t rank) {
    weight *w = params_add(p, of->rows, rank, 2);
    w->all_rows = of->all_rows;
    w->first_row = of->first_row;
    adapter_name(of->name, 'B', w->name);
    return &w->tensor;
}

/* Tensors of the model point to their pairs from here on. */
static int fill_table(adapter *a, params *base, const shapes *s) {
    for (int i = 0; i < base->count; i++) {
        weight *w = &base->table[i];
        adapter_pair shape;
        TRY(s->of(s->user, w, &shape));
        if (!shape.rank) continue;
        low_rank *pair = &a->pairs[a->count++];
        pair->a = add_a(a->weights, w, shape.rank);
        pair->b = add_b(a->weights, w, shape.rank);
        pair->scale = shape.scale;
        pair->dropout = a->options.dropout;
        w->tensor.plus = pair;
    }
    return LCKV_OK;
}

static int make(adapter *a, params *base, const shapes *s) {
    int count;
    TRY(count_adapted(base, s, &count));
    a->weights = calloc(1, sizeof *a->weights);
    a->pairs = calloc((size_t)count + 1, sizeof *a->pairs);
    if (a->weights) a->weights->table = calloc(2 * (size_t)count + 1, sizeof *a->weights->table);
    REQUIRE(a->weights && a->weights->table && a->pairs, LCKV_ERROR_MEMORY, "no memory for an adapter of %d matrices",
            count);
    REQUIRE(count, LCKV_ERROR_ARGUMENT, "lora_target_modules name no matrix that this model has");
    TRY(fill_table(a, base, s));
    return params_allocate(a->weights, base->device, DTYPE_F32);
}

static int check(const adapter_options *o) {
    REQUIRE(o->rank >= 1 && o->rank <= 1 << 20, LCKV_ERROR_ARGUMENT, "lora_r should be 1 to %d, found %lld", 1 << 20,
            (long long)o->rank);
    REQUIRE(isfinite(o->alpha) && o->alpha > 0, LCKV_ERROR_ARGUMENT, "lora_alpha should be above 0, found %g",
            o->alpha);
    REQUIRE(o->dropout >= 0 && o->dropout < 1, LCKV_ERROR_ARGUMENT,
            "lora_dropout should be at least 0 and below 1, found %g", o->dropout);
    return LCKV_OK;
}

static void detach(const adapter *a, params *base) {
    for (int i = 0; i < base->count; i++) {
        const low_rank *plus = base->table[i].tensor.plus;
        if (plus >= a->pairs && plus < a->pairs + a->count) base->table[i].tensor.plus = NULL;
    }
}

static int create(params *base, const adapter_options *options, const shapes *s, adapter **out) {
    adapter *a = calloc(1, sizeof *a);
    REQUIRE(a, LCKV_ERROR_MEMORY, "no memory for an adapter");
    a->options = *options;
    int status = make(a, base, s);
    if (status < 0) {
        if (a->count) detach(a, base);
        adapter_free(a);
    } else {
        *out = a;
    }
    return status;
}

static int shape_by_options(void *user, const weight *w, adapter_pair *out) {
    const adapter_options *o = user;
    bool adapted = is_adapted(w, o->targets);
    *out = (adapter_pair){adapted ? o->rank : 0, (float)(o->alpha / (double)o->rank)};
    return LCKV_OK;
}

int adapter_create(params *base, const adapter_options *options, adapter **out) {
    shapes s = {shape_by_options, (void *)(uintptr_t)options};
    *out = NULL;
    TRY(check(options));
    return create(base, options, &s, out);
}

int adapter_create_shaped(params *base, adapter_shape *shape, void *user, adapter **out) {
    const adapter_options none = {0};
    shapes s = {shape, user};
    *out = NULL;
    return create(base, &none, &s, out);
}

void adapter_free(adapter *a) {
    if (!a) return;
    params_free(a->weights);
    free(a->pairs);
    free(a);
}

/* ---------------------------------------------------------------- fresh values */

static int fill(params *p, int i, uint64_t seed) {
    const weight *w = &p->table[i];
    int64_t elements = w->rows * w->cols;
    bool is_b = i % 2;
    double bound = 1 / sqrt((double)w->cols);
    float *values = calloc((size_t)elements, sizeof *values);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)elements, w->name);
    for (int64_t k = 0; k < elements && !is_b; k++)
        values[k] = (float)(bound * (2 * rng_uniform(seed, ADAPTER_STREAM + (uint64_t)i, (uint64_t)k) - 1));
    int status = params_set(p, i, values, DTYPE_F32);
    free(values);
    return status;
}

int adapter_randomize(adapter *a, uint64_t seed) {
    for (int i = 0; i < a->weights->count; i++) TRY(fill(a->weights, i, seed));
    return LCKV_OK;
}
