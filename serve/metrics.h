/* What is counted for /metrics (Prometheus' text format, version 0.0.4). Kept by the worker, under its lock. */
#ifndef SERVE_METRICS_H
#define SERVE_METRICS_H

#include "bytes.h"
#include "lckv.h"

enum { HISTOGRAM_BOUNDS = 14 };

typedef struct histogram {
    int64_t
        counts[HISTOGRAM_BOUNDS + 1]; /* each of those up to its bound and above the one before; the last: above all */
    int64_t count;
    double sum;
} histogram;

typedef struct metrics {
    int64_t requests, refused, failed, abandoned, finished; /* jobs */
    int64_t prompt_tokens, cached_tokens, new_tokens;
    histogram first_token; /* seconds from a request's coming to its first token */
    histogram between;     /* seconds from a token to the next one of the same request */
    histogram whole;       /* seconds from a request's coming to its end */
} metrics;

void histogram_add(histogram *h, double seconds);

/* Appends the whole page. slots [slot_count]; body_bytes: of large request bodies that are held now. */
void metrics_write(const metrics *m, const lckv_engine_stats *engine, const lckv_slot_usage *slots, int slot_count,
                   int64_t body_bytes, bytes *out);

#endif
