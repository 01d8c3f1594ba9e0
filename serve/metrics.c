/* /metrics, see metrics.h. */
#include "metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const double BOUNDS[HISTOGRAM_BOUNDS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                0.25,  0.5,    1,     2.5,  5,     10,   60};

void histogram_add(histogram *h, double seconds) {
    int i = 0;
    while (i < HISTOGRAM_BOUNDS && seconds > BOUNDS[i]) i++;
    h->counts[i]++;
    h->count++;
    h->sum += seconds;
}

__attribute__((format(printf, 2, 3))) static void add(bytes *out, const char *format, ...) {
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    bytes_add_text(out, line);
}

static void head(bytes *out, const char *name, const char *type, const char *help) {
    add(out, "# HELP lckv_%s %s\n# TYPE lckv_%s %s\n", name, help, name, type);
}

static void number(bytes *out, const char *name, const char *type, const char *help, int64_t value) {
    head(out, name, type, help);
    add(out, "lckv_%s %" PRId64 "\n", name, value);
}

static void seconds(bytes *out, const char *name, const char *help, const histogram *h) {
    int64_t so_far = 0;
    head(out, name, "histogram", help);
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        so_far += h->counts[i];
        add(out, "lckv_%s_bucket{le=\"%g\"} %" PRId64 "\n", name, BOUNDS[i], so_far);
    }
    add(out, "lckv_%s_bucket{le=\"+Inf\"} %" PRId64 "\nlckv_%s_sum %.6f\nlckv_%s_count %" PRId64 "\n", name, h->count,
        name, h->sum, name, h->count);
}

static void slot_bytes(bytes *out, const lckv_slot_usage *slots, int count) {
    head(out, "kv_slot_bytes_used", "gauge", "Bytes in use now, by KV slot and the layer that owns it.");
    for (int i = 0; i < count; i++)
        add(out, "lckv_kv_slot_bytes_used{slot=\"%d\",layer=\"%d\"} %" PRId64 "\n", i, slots[i].layer,
            slots[i].bytes_used);
}

void metrics_write(const metrics *m, const lckv_engine_stats *e, const lckv_slot_usage *slots, int slot_count,
                   int64_t body_bytes, bytes *out) {
    number(out, "requests_total", "counter", "Requests that came for the engine.", m->requests);
    number(out, "requests_refused_total", "counter", "Of these, refused: too long, or the queue was full.", m->refused);
    number(out, "requests_failed_total", "counter", "Of these, ended by an error.", m->failed);
    number(out, "requests_abandoned_total", "counter", "Of these, whose client went away.", m->abandoned);
    number(out, "requests_finished_total", "counter", "Of these, answered whole.", m->finished);
    number(out, "prompt_tokens_total", "counter", "Tokens of prompts that came.", m->prompt_tokens);
    number(out, "cached_tokens_total", "counter", "Of these, read before, for a prompt that begins alike.",
           m->cached_tokens);
    number(out, "new_tokens_total", "counter", "Tokens made.", m->new_tokens);
    number(out, "body_bytes", "gauge", "Bytes of large request bodies that are held now.", body_bytes);
    number(out, "samples_running", "gauge", "Samples that run now.", e->running);
    number(out, "samples_waiting", "gauge", "Samples that wait for room.", e->waiting);
    number(out, "steps_total", "counter", "Steps of the engine.", e->steps);
    number(out, "kv_pages", "gauge", "Pages of the KV cache.", e->kv_pages);
    number(out, "kv_pages_used", "gauge", "Of these, in use now.", e->kv_pages_used);
    number(out, "kv_pages_shared", "gauge", "Of the used ones, those of several samples.", e->kv_pages_shared);
    number(out, "kv_pages_kept", "gauge", "Not used, kept for prompts that begin alike.", e->kv_pages_kept);
    number(out, "kv_bytes", "gauge", "Bytes of the KV cache.", e->kv_bytes);
    number(out, "kv_bytes_used", "gauge", "Of these, in use now.", e->kv_bytes_used);
    slot_bytes(out, slots, slot_count);
    number(out, "kv_bytes_plain", "gauge",
           "Bytes that plain attention would use: all tokens in every layer, none shared.", e->kv_bytes_plain);
    seconds(out, "time_to_first_token_seconds", "From a request's coming to its first token.", &m->first_token);
    seconds(out, "time_between_tokens_seconds", "From a token to the next one of the same request.", &m->between);
    seconds(out, "request_seconds", "From a request's coming to its end.", &m->whole);
}
