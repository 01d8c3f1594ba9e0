/* Counters and histograms for /metrics (Prometheus text format 0.0.4). The worker updates them under its lock. */
#ifndef SERVE_SERVER_METRICS_H
#define SERVE_SERVER_METRICS_H

#include "lckv.h"
#include "serve/endpoints/bytes.h"

enum { HISTOGRAM_BOUNDS = 14 };

typedef struct histogram {
    int64_t counts[HISTOGRAM_BOUNDS + 1]; /* per bucket, not cumulative; the last one is above all bounds */
    int64_t count;
    double sum;
} histogram;

typedef struct metrics {
    int64_t requests, rejected, failed, abandoned, finished; /* jobs */
    int64_t prompt_tokens, cached_tokens, new_tokens;
    histogram time_to_first_token; /* seconds */
    histogram inter_token_latency; /* seconds between successive tokens of a request */
    histogram request_latency;     /* seconds from the arrival of a request to its end */
} metrics;

void histogram_add(histogram *h, double seconds);

/* Appends the response of /metrics. slots: [slot_count]; body_bytes: memory that large request bodies take now. */
void metrics_write(const metrics *m, const lckv_engine_stats *engine, const lckv_slot_usage *slots, int slot_count,
                   int64_t body_bytes, bytes *out);

#endif
