/* Compares results with expected values, with tolerances that are stated or derived. Prints a line per comparison. */
#include "golden.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const safetensors_entry *golden_expected(golden *g, const char *name) {
    const safetensors_entry *e = safetensors_find(&g->expected, name);
    if (e) g->checked[e - g->expected.entries] = true;
    return e;
}

static const char *run_name(const golden *g) {
    if (g->kv_type != DTYPE_F32) return "float32, KV int8";
    if (g->weights == GOLDEN_STORED) return dtype_name(g->compute);
    return g->weights == GOLDEN_INT8 ? "int8" : "int8 dequantized";
}

void golden_report(golden *g, const char *name, bool good, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (good)
        g->passed++;
    else
        g->failed++;
    printf("%-6s %s %s %s: ", good ? "ok" : "FAILED", g->folder, run_name(g), name);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

/* Length of the tensor's group name: the first two parts of its name. */
static int group_bytes(const char *name) {
    const char *dot = strchr(name, '.'), *end = dot ? strchr(dot + 1, '.') : NULL;
    return (int)(end ? end - name : (long)strlen(name));
}

static double stated_f32_error(golden *g, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "f32_error.%.*s", group_bytes(name), name);
    const char *text = safetensors_metadata(&g->expected, key);
    return text ? atof(text) : 0;
}

/* Whether expected.safetensors has no tensor of this group. Groups are optional. */
static bool lacks_group(const golden *g, const char *name) {
    int bytes = group_bytes(name);
    for (int i = 0; i < g->expected.count; i++) {
        const char *other = g->expected.entries[i].name;
        if (group_bytes(other) == bytes && !strncmp(other, name, (size_t)bytes)) return false;
    }
    return true;
}

/* Reports a missing group once. */
static void report_lacking(golden *g, const char *name) {
    int bytes = group_bytes(name);
    if (g->lacking_bytes == bytes && !strncmp(g->lacking, name, (size_t)bytes)) return;
    snprintf(g->lacking, sizeof g->lacking, "%.*s", bytes, name);
    g->lacking_bytes = bytes;
    g->lacked++;
    printf("%-6s %s %s %s: the folder has no such group\n", "lacks", g->folder, run_name(g), g->lacking);
}

bool golden_lacks(golden *g, const char *name) {
    bool lacks = lacks_group(g, name);
    if (lacks) report_lacking(g, name);
    return lacks;
}

int golden_layers(const golden *g) {
    int layers = 0;
    for (int i = 0; i < g->model->plan.count; i++)
        layers += g->model->plan.steps[i].last - g->model->plan.steps[i].first + 1;
    return layers;
}

/* bf16 has 8 bits, so that a rounding has a relative error of at most u = 2^-9. Each layer has eight successive
 * roundings (the outputs of two norms, a projection, RoPE, attention's probabilities and output, gate or up, their
 * product). They are independent, so that after n of them the error is about u sqrt(n). Twice that, and logits at most
 * as large as the largest one, give u * 2 * sqrt(8 * layers) * max |logit|. */
static double bf16_tolerance(const golden *g) {
    return 0x1p-9 * 4 * sqrt(8.0 * golden_layers(g)) * g->largest_logit;
}

/* A stored value in int8 has an error of at most u = 1 / 254 of the largest value of its head. Keys and values are two
 * such roundings in each layer; otherwise the same. The error of a score is a part of the score, which the attention
 * factor of RoPE scaling (YaRN, longrope) multiplies twice. */
static double int8_tolerance(const golden *g) {
    double factor = fmax(1, (double)g->model->rope.scale);
    return 1 / 254.0 * 4 * sqrt(2.0 * golden_layers(g)) * g->largest_logit * factor * factor;
}

static double tolerance(golden *g, const char *name) {
    if (g->kv_type == DTYPE_KV_INT8) return int8_tolerance(g);
    if (g->compute == DTYPE_BF16) return bf16_tolerance(g);
    if (!strcmp(name, "train.losses")) return 2e-4; /* reference/README.md */
    if (!strcmp(name, "train.grad_norms")) return 2e-3;
    if (!strncmp(name, "train.final.", 12)) return 1e-2;
    double stated = 10 * stated_f32_error(g, name), least = g->readme_tolerance > 0 ? g->readme_tolerance : 1e-5;
    return stated > least ? stated : least;
}

void golden_compare(golden *g, const char *name, const float *found, int64_t count) {
    if (g->weights != GOLDEN_STORED) {
        golden_compare_quantized(g, name, found, count);
        return;
    }
    const safetensors_entry *e = golden_expected(g, name);
    if (!e && golden_lacks(g, name)) return;
    if (!e || e->type != DTYPE_F32 || e->elements != count) {
        golden_report(g, name, false, "expected.safetensors has no such tensor of %lld floats", (long long)count);
        return;
    }
    double worst = 0, allowed = tolerance(g, name);
    bool finite = true;
    for (int64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, e->data + 4 * i, 4);
        double error = fabs((double)found[i] - (double)value);
        if (!isfinite(error))
            finite = false;
        else if (error > worst)
            worst = error;
    }
    golden_report(g, name, finite && worst <= allowed, "largest error %.2e, allowed %.2e%s", worst, allowed,
                  finite ? "" : ", and values that are not finite");
}

void golden_compare_ids(golden *g, const char *name, const int32_t *found, int64_t count) {
    const safetensors_entry *e = golden_expected(g, name);
    int64_t same = 0;
    if (!e && golden_lacks(g, name)) return;
    if (e && e->type == DTYPE_I32 && e->elements == count)
        while (same < count && !memcmp(&found[same], e->data + 4 * same, 4)) same++;
    golden_report(g, name, e && same == count, "%lld of %lld ids equal", (long long)same, (long long)count);
}
