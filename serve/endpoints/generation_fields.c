/* Model, sampling, stop strings and streaming, see generation_fields.h. */
#include "generation_fields.h"

#include "src/generate/sampling_parameters.h"

#include <sys/random.h>

enum { MAX_STOPS = 16, MAX_CHOICES = 128 };

void model_field_read(fields *f, const server *s) {
    const char *name = field_string(f, "model");
    char given[STRING_SHORT_BYTES], served[STRING_SHORT_BYTES];
    if (f->failed || !name || server_has_model(s, name)) return;
    f->unknown_model = true;
    fields_error(f, "model", "model \"%s\" not found; this server serves \"%s\"", string_short(given, name),
                 string_short(served, s->options->model_name));
}

int prompt_encode(const server *s, const char *text, size_t length, bool special, int32_t **ids, size_t *count) {
    worker_status view;
    worker_get_status(s->worker, &view);
    size_t limit = view.engine.max_model_len < INT32_MAX ? (size_t)view.engine.max_model_len : 0;
    return lckv_tokenizer_encode_at_most(s->tokenizer, text, length, special, limit, ids, count);
}

static bool add_stop(fields *f, job *j, const json_t *text) {
    if (!json_is_string(text) || !json_string_length(text))
        return fields_error(f, "stop", "'stop' must be a non-empty string or a list of at most %d of them", MAX_STOPS);
    if (strlen(json_string_value(text)) != json_string_length(text))
        return fields_error(f, "stop", "'stop' must not contain NUL (\\u0000)");
    char *copy = strdup(json_string_value(text));
    if (!copy) return fields_no_memory(f, "stop");
    j->stops[j->request.stop_count++] = copy;
    return true;
}

static void read_stops(fields *f, job *j) {
    const json_t *stop = field_value(f, "stop");
    size_t count = json_is_array(stop) ? json_array_size(stop) : stop ? 1 : 0;
    if (count == 0) return;
    if (count > MAX_STOPS) {
        fields_error(f, "stop", "'stop' must have at most %d strings", MAX_STOPS);
        return;
    }
    j->stops = calloc(count, sizeof *j->stops);
    if (!j->stops) {
        fields_no_memory(f, "stop");
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (!add_stop(f, j, json_is_array(stop) ? json_array_get(stop, i) : stop)) return;
    j->request.stop = (const char *const *)j->stops;
}

/* {"token id": number, ..} */
static bool add_bias(fields *f, job *j, const char *key, const json_t *value) {
    char *end;
    long id = strtol(key, &end, 10);
    double bias = json_number_value(value);
    char given[STRING_SHORT_BYTES];
    if (*key < '0' || *key > '9' || *end || id > INT32_MAX || !json_is_number(value) || !(bias >= -100 && bias <= 100))
        return fields_error(f, "logit_bias",
                            "'logit_bias' must map token ids to numbers from -100 to 100; entry '%s' does not",
                            string_short(given, key));
    j->bias_ids[j->request.bias_count] = (int32_t)id;
    j->bias_values[j->request.bias_count++] = (float)bias;
    return true;
}

static void read_biases(fields *f, job *j) {
    const json_t *biases = field_value(f, "logit_bias");
    const char *key;
    json_t *value;
    if (!biases) return;
    if (!json_is_object(biases)) {
        fields_error(f, "logit_bias", "'logit_bias' must be an object");
        return;
    }
    j->bias_ids = malloc((json_object_size(biases) + 1) * sizeof *j->bias_ids);
    j->bias_values = malloc((json_object_size(biases) + 1) * sizeof *j->bias_values);
    if (!j->bias_ids || !j->bias_values) {
        fields_no_memory(f, "logit_bias");
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)biases, key, value) if (!add_bias(f, j, key, value)) return;
    j->request.bias_ids = j->bias_ids;
    j->request.bias_values = j->bias_values;
}

static void read_stream(fields *f, bool *stream, bool *include_usage) {
    *stream = field_bool(f, "stream", false);
    *include_usage = false;
    const json_t *options = field_value(f, "stream_options");
    if (!options) return;
    if (!json_is_object(options) || !*stream) {
        fields_error(f, "stream_options", "'stream_options' must be an object and requires 'stream': true");
        return;
    }
    fields inner = {.object = options};
    *include_usage = field_bool(&inner, "include_usage", false);
    field_ignore(&inner, "include_obfuscation");
    if (!fields_finish(&inner)) fields_error(f, "stream_options", "stream_options: %s", inner.message);
}

/* Default seed: random, so that responses differ. */
static int64_t random_seed(void) {
    int64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = 0;
    return seed;
}

#define FIELD_INT field_int
#define FIELD_NUMBER field_number
#define READ(name, KIND, in_request, min, max) r->name = FIELD_##KIND(f, #name, in_request, min, max);
#define READ_SAMPLING(name, KIND, in_request, in_generate, in_chat, valid_min, valid_max, valid, min, max, ...)        \
    READ(name, KIND, in_request, min, max)
#define READ_PENALTY(name, KIND, in_request, valid_min, valid_max, valid, min, max)                                    \
    READ(name, KIND, in_request, min, max)

void generation_fields_read(fields *f, job *j, bool *stream, bool *include_usage) {
    lckv_request *r = &j->request;
    r->n = (int)field_int(f, "n", 1, 1, MAX_CHOICES);
    SAMPLING_PARAMETERS(READ_SAMPLING)
    PENALTY_PARAMETERS(READ_PENALTY)
    if (r->top_k < 0) r->top_k = 0; /* -1 is off in vLLM and transformers */
    r->ignore_eos = field_bool(f, "ignore_eos", false);
    r->seed = (uint64_t)field_int(f, "seed", random_seed(), INT64_MIN, INT64_MAX);
    read_stops(f, j);
    read_stream(f, stream, include_usage);
    read_biases(f, j);
    field_ignore(f, "user");
}
