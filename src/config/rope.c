/* RoPE (Su et al., RoFormer, arXiv 2104.09864) with linear and Llama-3 scaling; see rope.h. */
#include "config/rope.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    rope_type type;
} rope_types[] = {{"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"llama3", ROPE_LLAMA3}};

enum { ROPE_TYPES = sizeof rope_types / sizeof *rope_types };

/* Older files say `type`, newer ones `rope_type`, some both. */
static int read_type(const json_t *scaling, const char *where, rope_type *out) {
    const char *type, *older;
    TRY(json_get_string(scaling, where, "type", NULL, &older));
    TRY(json_get_string(scaling, where, "rope_type", older, &type));
    REQUIRE(type, LCKV_ERROR_FORMAT, "%s: expected 'rope_type', found none", where);
    REQUIRE(!older || !strcmp(type, older), LCKV_ERROR_FORMAT, "%s: rope_type '%.40s' and type '%.40s' differ", where,
            type, older);
    for (int i = 0; i < ROPE_TYPES; i++) {
        if (strcmp(type, rope_types[i].name) != 0) continue;
        *out = rope_types[i].type;
        return LCKV_OK;
    }
    return fail(LCKV_ERROR_UNSUPPORTED, "%s: rope_type '%.60s' is not supported, only default, linear and llama3",
                where, type);
}

/* RoPE's parameters all change the computation, so an unknown one is refused. */
static int check_keys(const json_t *scaling, const char *where) {
    static const char *const known[] = {
        "rope_type", "type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)scaling, key, value) {
        bool fine = json_is_null(value) || (!strcmp(key, "partial_rotary_factor") && json_number_value(value) == 1);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) fine = fine || !strcmp(key, known[i]);
        REQUIRE(fine, LCKV_ERROR_UNSUPPORTED, "%s: '%.60s' is not supported", where, key);
    }
    return LCKV_OK;
}

static int read_positive(const json_t *tree, const char *name, const char *key, double fallback, double *out) {
    TRY(json_get_number(tree, name, key, fallback, out));
    REQUIRE(*out >= 1e-3 && *out <= 1e30, LCKV_ERROR_FORMAT, "%s: '%s' should be a number from 0.001 to 1e30, found %s",
            name, key, json_object_get(tree, key) ? "one outside" : "none");
    return LCKV_OK;
}

static int read_scaling(const json_t *scaling, const char *where, rope_scaling *out) {
    TRY(read_type(scaling, where, &out->type));
    TRY(check_keys(scaling, where));
    if (out->type == ROPE_DEFAULT) return LCKV_OK;
    TRY(read_positive(scaling, where, "factor", 0, &out->factor));
    if (out->type == ROPE_LINEAR) return LCKV_OK;
    TRY(read_positive(scaling, where, "low_freq_factor", 0, &out->low_freq_factor));
    TRY(read_positive(scaling, where, "high_freq_factor", 0, &out->high_freq_factor));
    REQUIRE(out->low_freq_factor < out->high_freq_factor, LCKV_ERROR_FORMAT,
            "%s: low_freq_factor %g should be below high_freq_factor %g", where, out->low_freq_factor,
            out->high_freq_factor);
    const char *key = "original_max_position_embeddings";
    TRY(json_get_int(scaling, where, key, 0, &out->original_max_position_embeddings));
    REQUIRE(out->original_max_position_embeddings >= 1 && out->original_max_position_embeddings <= INT64_C(1) << 40,
            LCKV_ERROR_FORMAT, "%s: '%s' should be a positive number of tokens", where, key);
    return LCKV_OK;
}

int rope_read(const json_t *tree, const char *name, model_config *config) {
    TRY(read_positive(tree, name, "rope_theta", 10000.0, &config->rope_theta));
    const json_t *scaling = json_object_get(tree, "rope_scaling");
    if (!scaling || json_is_null(scaling)) return LCKV_OK;
    REQUIRE(json_is_object(scaling), LCKV_ERROR_FORMAT, "%s: 'rope_scaling' should be an object or null", name);
    int status = read_scaling(scaling, "rope_scaling", &config->rope_scaling);
    return status < 0 ? fail_within(status, "%s", name) : LCKV_OK;
}

/* Llama 3.1 (transformers: _compute_llama3_parameters): low frequencies are divided by `factor`, high ones stay, those
 * between are blended by where they lie. */
static double llama3_frequency(double inverse, const rope_scaling *s) {
    double old = (double)s->original_max_position_embeddings, wavelength = 2 * 3.14159265358979323846 / inverse;
    if (wavelength > old / s->low_freq_factor) return inverse / s->factor;
    if (wavelength < old / s->high_freq_factor) return inverse;
    double smooth = (old / wavelength - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (1 - smooth) * inverse / s->factor + smooth * inverse;
}

void config_inverse_frequencies(const model_config *config, double *out) {
    const rope_scaling *s = &config->rope_scaling;
    for (int j = 0; j < config->head_dim / 2; j++) {
        double inverse = 1.0 / pow(config->rope_theta, 2.0 * j / config->head_dim);
        if (s->type == ROPE_LINEAR) inverse /= s->factor;
        if (s->type == ROPE_LLAMA3) inverse = llama3_frequency(inverse, s);
        out[j] = inverse;
    }
}
