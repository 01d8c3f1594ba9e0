/* Sampling, limits and stops, see sampling.h. */
#include "sampling.h"

#include <sys/random.h>

enum { STOPS_MOST = 16, CHOICES_MOST = 128 };

void model_read(fields *f, const server *s) {
    const char *name = field_text(f, "model");
    char given[STRING_SHORT_BYTES], served[STRING_SHORT_BYTES];
    if (f->wrong || !name || server_has_model(s, name)) return;
    f->unknown_model = true;
    fields_wrong(f, "model", "model \"%s\" not found; this server serves \"%s\"", string_short(given, name),
                 string_short(served, s->options->model_name));
}

int prompt_encode(const server *s, const char *text, size_t length, bool special, int32_t **ids, size_t *count) {
    worker_view view;
    worker_look(s->worker, &view);
    size_t most = view.engine.max_model_len < INT32_MAX ? (size_t)view.engine.max_model_len : 0;
    return lckv_tokenizer_encode_at_most(s->tokenizer, text, length, special, most, ids, count);
}

static bool add_stop(fields *f, job *j, const json_t *text) {
    if (!json_is_string(text) || !json_string_length(text))
        return fields_wrong(f, "stop", "'stop' must be a string that is not empty, or a list of at most %d",
                            STOPS_MOST);
    if (strlen(json_string_value(text)) != json_string_length(text))
        return fields_wrong(f, "stop", "'stop' must not contain NUL (\\u0000)");
    char *copy = strdup(json_string_value(text));
    if (!copy) return fields_no_memory(f, "stop");
    j->stops[j->request.stop_count++] = copy;
    return true;
}

static void read_stops(fields *f, job *j) {
    const json_t *stop = field_any(f, "stop");
    size_t count = json_is_array(stop) ? json_array_size(stop) : stop ? 1 : 0;
    if (count == 0) return;
    if (count > STOPS_MOST) {
        fields_wrong(f, "stop", "'stop' must have at most %d strings", STOPS_MOST);
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
        return fields_wrong(f, "logit_bias", "'logit_bias' must have numbers from -100 to 100 by token ids, not '%s'",
                            string_short(given, key));
    j->bias_ids[j->request.bias_count] = (int32_t)id;
    j->bias_values[j->request.bias_count++] = (float)bias;
    return true;
}

static void read_biases(fields *f, job *j) {
    const json_t *biases = field_any(f, "logit_bias");
    const char *key;
    json_t *value;
    if (!biases) return;
    if (!json_is_object(biases)) {
        fields_wrong(f, "logit_bias", "'logit_bias' must be an object");
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
    const json_t *options = field_any(f, "stream_options");
    if (!options) return;
    if (!json_is_object(options) || !*stream) {
        fields_wrong(f, "stream_options", "'stream_options' must be an object, and is for streams alone");
        return;
    }
    fields inner = {.object = options};
    *include_usage = field_bool(&inner, "include_usage", false);
    field_ignored(&inner, "include_obfuscation");
    if (!fields_end(&inner)) fields_wrong(f, "stream_options", "stream_options: %s", inner.message);
}

/* Without a seed no two answers are alike. */
static int64_t any_seed(void) {
    int64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = 0;
    return seed;
}

void sampling_read(fields *f, job *j, bool *stream, bool *include_usage) {
    lckv_request *r = &j->request;
    r->n = (int)field_int(f, "n", 1, 1, CHOICES_MOST);
    r->temperature = field_number(f, "temperature", 1, 0, 100);
    r->top_p = field_number(f, "top_p", 1, 0, 1);
    r->top_k = field_int(f, "top_k", 0, -1, INT32_MAX);
    if (r->top_k < 0) r->top_k = 0;
    r->min_p = field_number(f, "min_p", 0, 0, 1);
    r->repetition_penalty = field_number(f, "repetition_penalty", 1, 1e-3, 1e3);
    r->ignore_eos = field_bool(f, "ignore_eos", false);
    r->seed = (uint64_t)field_int(f, "seed", any_seed(), INT64_MIN, INT64_MAX);
    read_stops(f, j);
    read_stream(f, stream, include_usage);
    r->presence_penalty = field_number(f, "presence_penalty", 0, -2, 2);
    r->frequency_penalty = field_number(f, "frequency_penalty", 0, -2, 2);
    read_biases(f, j);
    field_ignored(f, "user");
}
