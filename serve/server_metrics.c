/* /metrics, see server_metrics.h. */
#include "server_metrics.h"

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

static void real(bytes *out, const char *name, const char *help, double value) {
    head(out, name, "counter", help);
    add(out, "lckv_%s %.6f\n", name, value);
}

static void seconds(bytes *out, const char *name, const char *help, const histogram *h) {
    int64_t cumulative = 0;
    head(out, name, "histogram", help);
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        cumulative += h->counts[i];
        add(out, "lckv_%s_bucket{le=\"%g\"} %" PRId64 "\n", name, BOUNDS[i], cumulative);
    }
    add(out, "lckv_%s_bucket{le=\"+Inf\"} %" PRId64 "\nlckv_%s_sum %.6f\nlckv_%s_count %" PRId64 "\n", name, h->count,
        name, h->sum, name, h->count);
}

static void slot_bytes(bytes *out, const lckv_slot_usage *slots, int count) {
    head(out, "kv_slot_bytes_used", "gauge", "KV cache bytes in use, by KV slot and the layer that writes it.");
    for (int i = 0; i < count; i++)
        add(out, "lckv_kv_slot_bytes_used{slot=\"%d\",layer=\"%d\"} %" PRId64 "\n", i, slots[i].layer,
            slots[i].bytes_used);
}

void metrics_write(const metrics *m, const lckv_engine_stats *e, const lckv_slot_usage *slots, int slot_count,
                   int64_t body_bytes, bytes *out) {
    number(out, "requests_total", "counter", "Requests for completions.", m->requests);
    number(out, "requests_refused_total", "counter",
           "Requests that the engine rejected: too long, or the queue was full.", m->rejected);
    number(out, "requests_failed_total", "counter", "Requests that ended with an error.", m->failed);
    number(out, "requests_abandoned_total", "counter", "Requests cancelled because the client disconnected.",
           m->abandoned);
    number(out, "requests_finished_total", "counter", "Requests that completed.", m->finished);
    number(out, "prompt_tokens_total", "counter", "Prompt tokens of accepted requests.", m->prompt_tokens);
    number(out, "cached_tokens_total", "counter", "Prompt tokens found in the prefix cache.", m->cached_tokens);
    number(out, "sequential_tokens_total", "counter",
           "Prompt tokens that were processed one at a time, in the exact form.", e->sequential_tokens);
    number(out, "prefill_tokens_total", "counter", "Prompt tokens that were processed.", e->prompt_tokens);
    real(out, "prefill_seconds_total", "Seconds of engine steps with prompt tokens.", e->prompt_seconds);
    real(out, "decode_seconds_total", "Seconds of the other engine steps.", e->decode_seconds);
    number(out, "new_tokens_total", "counter", "Generated tokens.", m->new_tokens);
    number(out, "body_bytes", "gauge", "Memory of large request bodies, in bytes.", body_bytes);
    number(out, "samples_running", "gauge", "Samples that are running.", e->running);
    number(out, "samples_waiting", "gauge", "Samples that wait for KV cache memory or for another sample to end.",
           e->waiting);
    number(out, "steps_total", "counter", "Engine steps.", e->steps);
    number(out, "kv_pages", "gauge", "Pages of the KV cache.", e->kv_pages);
    number(out, "kv_pages_used", "gauge", "KV cache pages in use.", e->kv_pages_used);
    number(out, "kv_pages_shared", "gauge", "KV cache pages used by more than one sample.", e->kv_pages_shared);
    number(out, "kv_pages_kept", "gauge", "KV cache pages held only by the prefix cache.", e->kv_pages_kept);
    number(out, "kv_bytes", "gauge", "Size of the KV cache, in bytes.", e->kv_bytes);
    number(out, "kv_bytes_used", "gauge", "KV cache bytes in use.", e->kv_bytes_used);
    slot_bytes(out, slots, slot_count);
    number(out, "kv_bytes_plain", "gauge",
           "KV cache bytes that plain attention would use for the running samples: every layer stores all tokens, "
           "nothing is shared.",
           e->kv_bytes_plain);
    seconds(out, "time_to_first_token_seconds", "Time from the arrival of a request to its first token.",
            &m->time_to_first_token);
    seconds(out, "time_between_tokens_seconds", "Time between successive tokens of a request.",
            &m->inter_token_latency);
    seconds(out, "request_seconds", "Time from the arrival of a request to its end.", &m->request_latency);
}
