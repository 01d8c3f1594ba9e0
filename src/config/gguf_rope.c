/* RoPE of a GGUF file, see gguf_rope.h. */
#include "config/gguf_rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

enum { KEY_BYTES = 96, MAX_HEAD_DIM = 4096 };

static void full_key(const gguf_model *m, const char *key, char out[KEY_BYTES]) {
    snprintf(out, KEY_BYTES, "%s.%s", m->architecture, key);
}

int gguf_model_int(const gguf_model *m, const char *key, int64_t fallback, int64_t *out) {
    char name[KEY_BYTES];
    full_key(m, key, name);
    return gguf_get_int(m->file, name, fallback, 1, INT64_C(1) << 40, out);
}

/* 9.99999974e-06, a float, is 1e-05. */
static double shortest(double value) {
    char text[40];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value) return strtod(text, NULL);
    }
    return value;
}

int gguf_model_number(const gguf_model *m, const char *key, double fallback, double *out) {
    char name[KEY_BYTES];
    full_key(m, key, name);
    TRY(gguf_get_number(m->file, name, fallback, out));
    REQUIRE(isfinite(*out) && fabs(*out) < 1e30, LCKV_ERROR_FORMAT, "%s: key '%s': expected a finite number",
            m->file->path, name);
    *out = shortest(*out);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- factors per frequency */

/* Frees the list if it could not be made. */
static int checked(const gguf_model *m, json_t *scaling) {
    REQUIRE(scaling, LCKV_ERROR_MEMORY, "%s: no memory for its RoPE", m->file->path);
    REQUIRE(json_object_set_new(m->config, "rope_scaling", scaling) == 0, LCKV_ERROR_MEMORY,
            "%s: no memory for its RoPE", m->file->path);
    return LCKV_OK;
}

/* The factors of a tensor [head_dim / 2]; *out is NULL if there is none. */
static int read_factors(const gguf_model *m, const char *name, float **out) {
    const gguf_tensor *t = gguf_find_tensor(m->file, name);
    *out = NULL;
    if (!t) return LCKV_OK;
    REQUIRE(m->head_dim <= MAX_HEAD_DIM && t->elements == m->head_dim / 2, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected %lld numbers (half of the head), found %lld", m->file->path, name,
            (long long)m->head_dim / 2, (long long)t->elements);
    float *factors = malloc((size_t)t->elements * sizeof *factors);
    REQUIRE(factors, LCKV_ERROR_MEMORY, "%s: no memory for %s", m->file->path, name);
    gguf_decode(t->format, t->data, t->elements, factors);
    bool fine = true;
    for (int64_t i = 0; i < t->elements; i++) fine = fine && factors[i] >= 1e-6f && factors[i] <= 1e12f;
    if (!fine) {
        free(factors);
        return fail(LCKV_ERROR_FORMAT, "%s: tensor %s: expected numbers from 1e-6 to 1e12", m->file->path, name);
    }
    *out = factors;
    return LCKV_OK;
}

/* NULL if memory ran out. */
static json_t *list_of(const float *factors, int64_t count) {
    json_t *list = json_array();
    int failed = 0;
    for (int64_t i = 0; i < count; i++) failed += json_array_append_new(list, json_real(shortest(factors[i])));
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

/* The parameters of Llama 3.1 and 3.2, but for the factor, which low frequencies have unchanged. */
enum { LLAMA3_LENGTH = 8192, LLAMA3_LOW = 1, LLAMA3_HIGH = 4 };

static double llama3_factor(double frequency, double factor) {
    double turns = LLAMA3_LENGTH * frequency / (2 * PI); /* within the length of pretraining */
    if (turns < LLAMA3_LOW) return factor;
    if (turns > LLAMA3_HIGH) return 1;
    double smooth = (turns - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW);
    return 1 / ((1 - smooth) / factor + smooth);
}

/* Whether the factors are those of rope_type llama3. */
static bool is_llama3(const float *factors, int64_t count, double theta) {
    double factor = factors[count - 1];
    bool is = factor > 1;
    for (int64_t i = 0; is && i < count; i++) {
        double expected = llama3_factor(pow(theta, -(double)i / (double)count), factor);
        is = fabs(factors[i] - expected) <= 1e-5 * expected;
    }
    return is;
}

static int set_llama3(const gguf_model *m, double factor) {
    return checked(m, json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", factor, "low_freq_factor",
                                (double)LLAMA3_LOW, "high_freq_factor", (double)LLAMA3_HIGH,
                                "original_max_position_embeddings", LLAMA3_LENGTH));
}

/* Longrope divides each frequency by a factor of its own: `near` up to `original` tokens, `far` beyond. */
static int set_longrope(const gguf_model *m, const float *near, const float *far, int64_t original, double attention) {
    int64_t count = m->head_dim / 2;
    return checked(m,
                   json_pack("{s:s, s:o, s:o, s:f, s:f, s:I}", "rope_type", "longrope", "short_factor",
                             list_of(near, count), "long_factor", list_of(far, count), "factor", 1.0,
                             "attention_factor", attention, "original_max_position_embeddings", (json_int_t)original));
}

/* rope_freqs.weight: how llama.cpp stores rope_type llama3, whose parameters are in no key. Other factors become those
 * of a longrope that has them for all lengths. */
static int read_frequencies(const gguf_model *m, double theta) {
    float *factors;
    int64_t length;
    TRY(read_factors(m, "rope_freqs.weight", &factors));
    if (!factors) return checked(m, json_null());
    int status = gguf_model_int(m, "context_length", 0, &length);
    if (status >= 0)
        status = is_llama3(factors, m->head_dim / 2, theta) ? set_llama3(m, factors[m->head_dim / 2 - 1])
                                                            : set_longrope(m, factors, factors, length, 1);
    free(factors);
    return status;
}

static int read_longrope(const gguf_model *m, double attention) {
    float *near = NULL, *far = NULL;
    int64_t length, original;
    TRY(gguf_model_int(m, "context_length", 0, &length));
    TRY(gguf_model_int(m, "rope.scaling.original_context_length", length, &original));
    int status = read_factors(m, "rope_factors_short.weight", &near);
    if (status >= 0) status = read_factors(m, "rope_factors_long.weight", &far);
    if (status >= 0)
        status = near && far ? set_longrope(m, near, far, original, attention)
                             : fail(LCKV_ERROR_FORMAT,
                                    "%s: longrope needs the tensors rope_factors_short.weight and "
                                    "rope_factors_long.weight",
                                    m->file->path);
    free(near);
    free(far);
    return status;
}

/* ---------------------------------------------------------------- keys */

/* Values with which llama.cpp computes YaRN as transformers does. -1 means that the file does not say. */
static int check_yarn(const gguf_model *m) {
    static const char *const keys[] = {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"};
    for (int i = 0; i < 2; i++) {
        double value;
        TRY(gguf_model_number(m, keys[i], 1, &value));
        REQUIRE(value == 1 || value == -1, LCKV_ERROR_UNSUPPORTED, "%s: key '%s.%s' is %g, which lckv does not support",
                m->file->path, m->architecture, keys[i], value);
    }
    return LCKV_OK;
}

static int read_yarn(const gguf_model *m, double factor, double attention) {
    int64_t length, original;
    double fast, slow;
    TRY(check_yarn(m));
    TRY(gguf_model_int(m, "context_length", 0, &length));
    TRY(gguf_model_int(m, "rope.scaling.original_context_length", length, &original));
    TRY(gguf_model_number(m, "rope.scaling.yarn_beta_fast", 32, &fast));
    TRY(gguf_model_number(m, "rope.scaling.yarn_beta_slow", 1, &slow));
    double implied = factor <= 1 ? 1 : 0.1 * log(factor) + 1;
    return checked(m, json_pack("{s:s, s:f, s:I, s:f, s:f, s:f}", "rope_type", "yarn", "factor", factor,
                                "original_max_position_embeddings", (json_int_t)original, "beta_fast", fast,
                                "beta_slow", slow, "attention_factor", implied * attention));
}

/* Older files have rope.scale_linear. Without a type, a factor is that of linear scaling. */
static int read_scaling(const gguf_model *m, double theta) {
    char key[KEY_BYTES];
    gguf_text type;
    double factor, attention;
    full_key(m, "rope.scaling.type", key);
    TRY(gguf_get_string(m->file, key, &type));
    TRY(gguf_model_number(m, "rope.scale_linear", 1, &factor));
    TRY(gguf_model_number(m, "rope.scaling.factor", factor, &factor));
    TRY(gguf_model_number(m, "rope.scaling.attn_factor", 1, &attention));
    bool linear = !type.data || gguf_text_is(type, "linear"), plain = factor == 0 || factor == 1;
    if (gguf_text_is(type, "yarn")) return read_yarn(m, factor, attention);
    if (gguf_text_is(type, "longrope")) return read_longrope(m, attention);
    REQUIRE(linear || gguf_text_is(type, "none"), LCKV_ERROR_UNSUPPORTED,
            "%s: key '%s' is '%.*s', expected none, linear, yarn or longrope", m->file->path, key,
            (int)(type.bytes < 40 ? type.bytes : 40), type.data);
    REQUIRE(attention == 1, LCKV_ERROR_UNSUPPORTED,
            "%s: key '%s.rope.scaling.attn_factor' is %g, which lckv supports only with yarn and longrope",
            m->file->path, m->architecture, attention);
    if (!linear || plain) return read_frequencies(m, theta);
    return checked(m, json_pack("{s:s, s:f}", "rope_type", "linear", "factor", factor));
}

int gguf_rope_read(const gguf_model *m) {
    double theta;
    TRY(gguf_model_number(m, "rope.freq_base", 10000, &theta));
    REQUIRE(json_object_set_new(m->config, "rope_theta", json_real(theta)) == 0, LCKV_ERROR_MEMORY,
            "%s: no memory for its RoPE", m->file->path);
    return read_scaling(m, theta);
}
