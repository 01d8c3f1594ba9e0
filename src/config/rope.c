/* RoPE (Su et al., RoFormer, arXiv 2104.09864) and its scaling types, as in transformers 5.24; see rope.h. */
#include "config/rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PI 3.14159265358979323846
#define MAX_TOKENS (INT64_C(1) << 40)

/* The parameters of each type. */
static const struct {
    const char *name;
    rope_type type;
    const char *keys; /* separated by spaces */
} rope_types[] = {
    {"default", ROPE_DEFAULT, " "},
    {"linear", ROPE_LINEAR, " "},
    {"dynamic", ROPE_DYNAMIC, " "},
    {"yarn", ROPE_YARN, " attention_factor beta_fast beta_slow mscale mscale_all_dim truncate "},
    {"longrope", ROPE_LONGROPE, " attention_factor short_factor long_factor "},
    {"llama3", ROPE_LLAMA3, " "},
};

/* Parameters that every type may have: many tools write them where they have no meaning. */
static const char common_keys[] =
    " rope_type type factor low_freq_factor high_freq_factor original_max_position_embeddings ";

enum { ROPE_TYPES = sizeof rope_types / sizeof *rope_types };

/* Older files have `type`, newer ones `rope_type`, some both. */
static int read_type(const json_t *scaling, const char *where, int *out) {
    const char *type, *older;
    TRY(json_get_string(scaling, where, "type", NULL, &older));
    TRY(json_get_string(scaling, where, "rope_type", older, &type));
    REQUIRE(type, LCKV_ERROR_FORMAT, "%s: expected 'rope_type', found none", where);
    REQUIRE(!older || !strcmp(type, older), LCKV_ERROR_FORMAT, "%s: rope_type '%.40s' and type '%.40s' differ", where,
            type, older);
    for (*out = 0; *out < ROPE_TYPES; ++*out)
        if (!strcmp(type, rope_types[*out].name)) return LCKV_OK;
    return fail(LCKV_ERROR_UNSUPPORTED,
                "%s: rope_type '%.60s' is not supported, only default, linear, dynamic, yarn, longrope and llama3",
                where, type);
}

static bool is_listed(const char *list, const char *key) {
    char word[48];
    int length = snprintf(word, sizeof word, " %s ", key);
    return !strchr(key, ' ') && length < (int)sizeof word && strstr(list, word);
}

/* Every RoPE parameter changes the computation, so an unknown one is rejected. */
static int check_keys(const json_t *scaling, const char *where, const char *own) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)scaling, key, value) {
        bool fine = json_is_null(value) || (!strcmp(key, "partial_rotary_factor") && json_number_value(value) == 1);
        fine = fine || is_listed(common_keys, key) || is_listed(own, key);
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

/* ---------------------------------------------------------------- each type's parameters */

/* The length of pretraining: the config's own key, else the one of the scaling, else max_position_embeddings. */
static int read_original(const json_t *tree, const json_t *scaling, const char *where, model_config *c) {
    static const char key[] = "original_max_position_embeddings";
    int64_t original;
    TRY(json_get_int(scaling, where, key, c->max_position_embeddings, &original));
    TRY(json_get_int(tree, "config", key, original, &original));
    REQUIRE(original >= 1 && original <= MAX_TOKENS, LCKV_ERROR_FORMAT,
            "%s: '%s' should be a positive number of tokens", where, key);
    c->rope_scaling.original_max_position_embeddings = original;
    return LCKV_OK;
}

/* `factor`. If it is null (or, with `or_ratio`, absent), the ratio by which the model was extended. */
static int read_factor(const json_t *scaling, const char *where, bool or_ratio, model_config *c) {
    rope_scaling *s = &c->rope_scaling;
    const json_t *given = json_object_get(scaling, "factor");
    bool ratio = given ? json_is_null(given) : or_ratio;
    double extended = (double)c->max_position_embeddings / (double)s->original_max_position_embeddings;
    return read_positive(scaling, where, "factor", ratio ? extended : 0, &s->factor);
}

/* The factor of queries and keys; `implied` if it is not given. */
static int read_attention_factor(const json_t *scaling, const char *where, double implied, double *out) {
    TRY(json_get_number(scaling, where, "attention_factor", implied, out));
    REQUIRE(*out >= 1e-6 && *out <= 1e6, LCKV_ERROR_FORMAT,
            "%s: 'attention_factor' should be from 1e-6 to 1e6, found %g%s", where, *out,
            json_object_get(scaling, "attention_factor") ? "" : " (from the other parameters)");
    return LCKV_OK;
}

static double mscale_of(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* YaRN (Peng et al., arXiv 2309.00071). 0 and null select the defaults, like Python's `or`. */
static int read_yarn(const json_t *scaling, const char *where, model_config *c) {
    rope_scaling *s = &c->rope_scaling;
    double mscale, all;
    TRY(read_factor(scaling, where, false, c));
    TRY(json_get_number(scaling, where, "mscale", 0, &mscale));
    TRY(json_get_number(scaling, where, "mscale_all_dim", 0, &all));
    double implied =
        mscale != 0 && all != 0 ? mscale_of(s->factor, mscale) / mscale_of(s->factor, all) : mscale_of(s->factor, 1);
    TRY(read_attention_factor(scaling, where, implied, &s->attention_factor));
    TRY(json_get_number(scaling, where, "beta_fast", 0, &s->beta_fast));
    TRY(json_get_number(scaling, where, "beta_slow", 0, &s->beta_slow));
    if (s->beta_fast == 0) s->beta_fast = 32;
    if (s->beta_slow == 0) s->beta_slow = 1;
    REQUIRE(s->beta_slow > 0 && s->beta_fast > 0, LCKV_ERROR_FORMAT,
            "%s: beta_fast %g and beta_slow %g should be positive", where, s->beta_fast, s->beta_slow);
    REQUIRE(c->rope_theta > 1, LCKV_ERROR_FORMAT, "%s: yarn needs a rope_theta above 1, found %g", where,
            c->rope_theta);
    return json_get_bool(scaling, where, "truncate", true, &s->truncate);
}

static int check_factors(const json_t *scaling, const char *where, const char *key, int pairs) {
    const json_t *list = json_object_get(scaling, key);
    REQUIRE(json_is_array(list) && json_array_size(list) == (size_t)pairs, LCKV_ERROR_FORMAT,
            "%s: '%s' should be a list of %d numbers (head_dim / 2), found %s", where, key, pairs,
            json_is_array(list) ? "another length" : "none");
    for (int j = 0; j < pairs; j++) {
        double x = json_number_value(json_array_get(list, (size_t)j));
        REQUIRE(x >= 1e-6 && x <= 1e12, LCKV_ERROR_FORMAT, "%s: '%s': entry %d should be a number from 1e-6 to 1e12",
                where, key, j);
    }
    return LCKV_OK;
}

/* LongRoPE (Ding et al., arXiv 2402.13753). */
static int read_longrope(const json_t *scaling, const char *where, model_config *c) {
    rope_scaling *s = &c->rope_scaling;
    TRY(read_factor(scaling, where, true, c));
    TRY(check_factors(scaling, where, "short_factor", c->head_dim / 2));
    TRY(check_factors(scaling, where, "long_factor", c->head_dim / 2));
    double original = (double)s->original_max_position_embeddings;
    double implied = s->factor <= 1 ? 1 : original > 1 ? sqrt(1 + log(s->factor) / log(original)) : 0;
    return read_attention_factor(scaling, where, implied, &s->attention_factor);
}

static int read_llama3(const json_t *scaling, const char *where, model_config *c) {
    rope_scaling *s = &c->rope_scaling;
    TRY(read_positive(scaling, where, "factor", 0, &s->factor));
    TRY(read_positive(scaling, where, "low_freq_factor", 0, &s->low_freq_factor));
    TRY(read_positive(scaling, where, "high_freq_factor", 0, &s->high_freq_factor));
    REQUIRE(s->low_freq_factor < s->high_freq_factor, LCKV_ERROR_FORMAT,
            "%s: low_freq_factor %g should be below high_freq_factor %g", where, s->low_freq_factor,
            s->high_freq_factor);
    return LCKV_OK;
}

/* Dynamic NTK scaling widens rope_theta by a power of dim / (dim - 2). */
static int read_dynamic(const json_t *scaling, const char *where, model_config *c) {
    TRY(read_positive(scaling, where, "factor", 0, &c->rope_scaling.factor));
    REQUIRE(c->rope_scaling.factor >= 1, LCKV_ERROR_FORMAT, "%s: dynamic needs a factor from 1 on, found %g", where,
            c->rope_scaling.factor);
    REQUIRE(c->head_dim > 2, LCKV_ERROR_UNSUPPORTED, "%s: dynamic needs a head_dim above 2, found %d", where,
            c->head_dim);
    return LCKV_OK;
}

static int read_scaling(const json_t *tree, const json_t *scaling, model_config *c) {
    static const char where[] = "rope_scaling";
    int type;
    TRY(read_type(scaling, where, &type));
    TRY(check_keys(scaling, where, rope_types[type].keys));
    c->rope_scaling.type = rope_types[type].type;
    TRY(read_original(tree, scaling, where, c));
    switch (c->rope_scaling.type) {
    case ROPE_DEFAULT:
        return LCKV_OK;
    case ROPE_LINEAR:
        return read_positive(scaling, where, "factor", 0, &c->rope_scaling.factor);
    case ROPE_DYNAMIC:
        return read_dynamic(scaling, where, c);
    case ROPE_YARN:
        return read_yarn(scaling, where, c);
    case ROPE_LONGROPE:
        return read_longrope(scaling, where, c);
    case ROPE_LLAMA3:
        return read_llama3(scaling, where, c);
    }
    return LCKV_OK;
}

int rope_read(const json_t *tree, const char *name, model_config *config) {
    config->rope_scaling.attention_factor = 1;
    config->positions = config->max_position_embeddings;
    TRY(read_positive(tree, name, "rope_theta", 10000.0, &config->rope_theta));
    const json_t *scaling = json_object_get(tree, "rope_scaling");
    if (!scaling || json_is_null(scaling)) return LCKV_OK;
    if (!json_is_object(scaling)) return json_wrong_type(name, "rope_scaling", "an object or null", scaling);
    int status = read_scaling(tree, scaling, config);
    if (status < 0) return fail_within(status, "%s", name);
    double reach = config->rope_scaling.type == ROPE_DYNAMIC ? config->rope_scaling.factor : 1;
    config->positions = (int64_t)fmin((double)config->max_position_embeddings * reach, (double)MAX_TOKENS);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- frequencies */

/* Llama 3.1 (transformers: _compute_llama3_parameters): low frequencies are divided by `factor`, high ones are kept,
 * those between are interpolated. */
static double llama3_frequency(double inverse, const rope_scaling *s) {
    double old = (double)s->original_max_position_embeddings, wavelength = 2 * PI / inverse;
    if (wavelength > old / s->low_freq_factor) return inverse / s->factor;
    if (wavelength < old / s->high_freq_factor) return inverse;
    double smooth = (old / wavelength - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (1 - smooth) * inverse / s->factor + smooth * inverse;
}

/* The index, a real number, of the pair that rotates `rotations` times over the length of pretraining. */
static double yarn_pair(const model_config *c, double rotations) {
    double old = (double)c->rope_scaling.original_max_position_embeddings;
    return c->head_dim * log(old / (rotations * 2 * PI)) / (2 * log(c->rope_theta));
}

/* YaRN (transformers: _compute_yarn_parameters): pairs below the range keep their frequency, those above it are
 * divided by `factor`, those inside are blended along a ramp. */
static double yarn_frequency(const model_config *c, int pair, double inverse) {
    const rope_scaling *s = &c->rope_scaling;
    double low = yarn_pair(c, s->beta_fast), high = yarn_pair(c, s->beta_slow);
    if (s->truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, c->head_dim - 1);
    if (low == high) high += 0.001; /* as in transformers */
    double divided = fmin(fmax((pair - low) / (high - low), 0), 1);
    return inverse / s->factor * divided + inverse * (1 - divided);
}

/* Entry `pair` of longrope's short or long factors, which rope_read() has checked. */
static double long_factor(const model_config *c, int set, int pair) {
    const json_t *scaling = json_object_get(c->raw, "rope_scaling");
    return json_number_value(
        json_array_get(json_object_get(scaling, set ? "long_factor" : "short_factor"), (size_t)pair));
}

static double frequency(const model_config *c, int set, int pair) {
    const rope_scaling *s = &c->rope_scaling;
    double inverse = 1.0 / pow(c->rope_theta, 2.0 * pair / c->head_dim);
    switch (s->type) {
    case ROPE_DEFAULT:
    case ROPE_DYNAMIC:
        break;
    case ROPE_LINEAR:
        return inverse / s->factor;
    case ROPE_YARN:
        return yarn_frequency(c, pair, inverse);
    case ROPE_LONGROPE:
        return inverse / long_factor(c, set, pair);
    case ROPE_LLAMA3:
        return llama3_frequency(inverse, s);
    }
    return inverse;
}

void config_inverse_frequencies(const model_config *config, double *out) {
    int pairs = config->head_dim / 2;
    for (int i = 0; i < config_frequency_sets(config) * pairs; i++) out[i] = frequency(config, i / pairs, i % pairs);
}

int config_frequency_sets(const model_config *config) {
    return config->rope_scaling.type == ROPE_LONGROPE ? 2 : 1;
}

int64_t config_plain_length(const model_config *config) {
    if (config->rope_scaling.type == ROPE_DYNAMIC) return config->max_position_embeddings;
    if (config->rope_scaling.type == ROPE_LONGROPE) return config->rope_scaling.original_max_position_embeddings;
    return 0;
}

bool config_same_rope(const model_config *a, const model_config *b) {
    const rope_scaling *s = &a->rope_scaling, *t = &b->rope_scaling;
    bool same =
        a->head_dim == b->head_dim && s->attention_factor == t->attention_factor &&
        config_frequency_sets(a) == config_frequency_sets(b) && config_plain_length(a) == config_plain_length(b) &&
        (s->type == ROPE_DYNAMIC) == (t->type == ROPE_DYNAMIC) && (s->type != ROPE_DYNAMIC || s->factor == t->factor);
    int pairs = a->head_dim / 2, count = config_frequency_sets(a) * pairs;
    for (int i = 0; same && i < count; i++)
        same = frequency(a, i / pairs, i % pairs) == frequency(b, i / pairs, i % pairs);
    return same;
}

int64_t config_length_class(const model_config *config, int64_t length) {
    int64_t plain = config_plain_length(config);
    if (plain == 0 || length <= plain) return 0;
    return config->rope_scaling.type == ROPE_DYNAMIC ? length : 1;
}
