/* lckv bench --measure load: latency of a running server under a Poisson process of requests: time to first token, and
 * time between tokens. See bench.h.
 *
 * The client uses the OpenAI-compatible API with streaming (server-sent events) over libcurl. All requests run on one
 * thread, so that times are those when bytes arrive. Requests are sent when they are due, whether or not earlier ones
 * have finished, so that an overloaded server shows in the results. */
#include "cli/bench/bench.h"

#include "cli/api_key.h"
#include "cli/output/output.h"
#include "cli/output/timer.h"

#ifdef LCKV_CURL

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const table_column COLUMNS[] = {
    {.key = "request_rate", .title = "request rate, 1/s", .decimals = 2},
    {.key = "requests_per_second", .title = "completed, 1/s", .decimals = 2},
    {.key = "failed", .title = "failed"},
    {.key = "tokens_per_second", .title = "tokens/s", .decimals = 1},
    {.key = "first_p50_ms", .title = "first token p50, ms", .decimals = 1},
    {.key = "first_p99_ms", .title = "p99", .decimals = 1},
    {.key = "between_mean_ms", .title = "between tokens, ms", .decimals = 2},
    {.key = "between_p50_ms", .title = "p50", .decimals = 2},
    {.key = "between_p99_ms", .title = "p99", .decimals = 2},
    {0},
};

typedef struct load_test load_test;

/* A request, from when it is due until its last byte. */
typedef struct client {
    load_test *test;
    CURL *handle;
    char *body;
    double due;     /* time at which to send the request, in seconds */
    double last;    /* time of the last token in seconds; 0: none yet */
    int64_t tokens; /* tokens so far */
    char line[16];  /* start of the current line of the response */
    size_t line_bytes;
} client;

struct load_test {
    const bench_options *o;
    char *url;
    struct curl_slist *headers;
    CURLM *multi;
    client *clients;             /* [o->num_requests] */
    bench_sample first, between; /* milliseconds to the first token of a request, and between its tokens */
    int64_t tokens, failed;      /* tokens of completed requests; number of failed requests */
    char message[160];           /* error of the first failed request */
};

/* ---------------------------------------------------------------- responses */

/* Handles a line of the response. Each event is a line "data: {..}" with one token; the last event is [DONE]. */
static void end_line(client *c) {
    double now = timer_seconds();
    if (c->line_bytes < 7 || memcmp(c->line, "data: {", 7)) return;
    bench_sample_add(c->last > 0 ? &c->test->between : &c->test->first, 1e3 * (now - (c->last > 0 ? c->last : c->due)));
    c->last = now;
    c->tokens++;
}

static size_t receive(char *data, size_t size, size_t count, void *user) {
    client *c = user;
    for (size_t i = 0; i < size * count; i++) {
        if (data[i] == '\n') {
            end_line(c);
            c->line_bytes = 0;
        } else if (c->line_bytes < sizeof c->line) {
            c->line[c->line_bytes++] = data[i];
        }
    }
    return size * count;
}

static void note_failure(load_test *t, const char *reason) {
    t->failed++;
    if (t->message[0]) return;
    snprintf(t->message, sizeof t->message, "%s", reason);
}

static void end_client(load_test *t, const CURLMsg *message) {
    client *c;
    long status = 0;
    char reason[64];
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &c);
    curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
    snprintf(reason, sizeof reason, "the server responded with status %ld", status);
    if (message->data.result != CURLE_OK)
        note_failure(t, curl_easy_strerror(message->data.result));
    else if (status != 200)
        note_failure(t, reason);
    t->tokens += c->tokens;
    curl_multi_remove_handle(t->multi, c->handle);
    curl_easy_cleanup(c->handle);
    c->handle = NULL;
}

/* ---------------------------------------------------------------- requests */

/* Uses token ids that every model has. Log-probabilities are requested because every token then has its own event;
 * without them, the server delays tokens that end inside a character. Prompts start differently, so that the prefix
 * cache does not apply. */
static char *make_body(const bench_lengths *l, uint64_t number) {
    enum { MAX_ID = 200, MIN_ID = 3 };
    json_t *ids = json_array();
    uint64_t x = number * 0x9e3779b97f4a7c15 + 1;
    for (int64_t i = 0; i < l->prompt; i++) {
        x = x * 6364136223846793005 + 1442695040888963407; /* Knuth's MMIX generator */
        json_array_append_new(ids, json_integer(MIN_ID + (json_int_t)((x >> 33) % (MAX_ID - MIN_ID))));
    }
    json_t *request =
        json_pack("{s:o, s:I, s:b, s:b, s:i, s:i}", "prompt", ids, "max_tokens", (json_int_t)l->new_tokens, "stream", 1,
                  "ignore_eos", 1, "temperature", 0, "logprobs", 0);
    char *body = need(json_dumps(request, JSON_COMPACT));
    json_decref(request);
    return body;
}

static void start_client(load_test *t, client *c) {
    c->handle = need(curl_easy_init());
    curl_easy_setopt(c->handle, CURLOPT_URL, t->url);
    curl_easy_setopt(c->handle, CURLOPT_POSTFIELDS, c->body);
    curl_easy_setopt(c->handle, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(c->handle, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(c->handle, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->handle, CURLOPT_PRIVATE, c);
    curl_easy_setopt(c->handle, CURLOPT_NOSIGNAL, 1L);
    curl_multi_add_handle(t->multi, c->handle);
}

/* The time to the next request in seconds: exponentially distributed, as in a Poisson process. The seed is fixed. */
static double next_gap(uint64_t number, double rate) {
    uint64_t x = (number + 1) * 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x ^= x >> 27;
    double uniform = ((double)(x >> 11) + 0.5) / 9007199254740992.0;
    return rate > 0 ? -log(uniform) / rate : 0;
}

static void prepare(load_test *t, const bench_lengths *l, double rate, uint64_t seed) {
    double due = timer_seconds();
    int64_t count = t->o->num_requests;
    t->clients = need(calloc((size_t)count, sizeof *t->clients));
    for (int64_t i = 0; i < count; i++) {
        uint64_t number = (seed << 32) + (uint64_t)i;
        t->clients[i] = (client){.test = t, .body = make_body(l, number)};
        if (i) due += next_gap(number, rate);
        t->clients[i].due = due;
    }
}

/* ---------------------------------------------------------------- one rate */

static void end_clients(load_test *t) {
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(t->multi, &left));)
        if (m->msg == CURLMSG_DONE) end_client(t, m);
}

static int run(load_test *t, double *seconds) {
    int64_t started = 0, count = t->o->num_requests;
    int running = 0;
    char requests[48];
    double start = timer_seconds();
    while ((started < count || running) && !interrupted()) {
        while (started < count && t->clients[started].due <= timer_seconds()) {
            start_client(t, &t->clients[started++]);
            running++;
        }
        int wait = 100;
        if (started < count) wait = (int)fmin(wait, fmax(0, 1e3 * (t->clients[started].due - timer_seconds())));
        curl_multi_poll(t->multi, NULL, 0, wait, NULL);
        curl_multi_perform(t->multi, &running);
        end_clients(t);
        if (progress_due())
            progress((double)(started - running) / (double)count, "%lld of %s sent, %d running", (long long)started,
                     human_quantity(count, "request", requests), running);
    }
    *seconds = timer_seconds() - start;
    progress_end();
    return interrupted() ? library_error("bench", LCKV_ERROR_INTERRUPTED) : EXIT_FINE;
}

static void finish(load_test *t) {
    for (int64_t i = 0; t->clients && i < t->o->num_requests; i++) {
        client *c = &t->clients[i];
        if (c->handle) curl_multi_remove_handle(t->multi, c->handle);
        curl_easy_cleanup(c->handle);
        free(c->body);
    }
    free(t->clients);
    t->clients = NULL;
    bench_sample_free(&t->first);
    bench_sample_free(&t->between);
    curl_multi_cleanup(t->multi);
}

static json_t *make_row(const load_test *t, double rate, double seconds) {
    int64_t completed = t->o->num_requests - t->failed;
    json_t *row =
        json_pack("{s:f, s:f, s:I, s:I, s:I, s:f}", "request_rate", rate, "requests_per_second",
                  (double)completed / seconds, "answered", (json_int_t)completed, "failed", (json_int_t)t->failed,
                  "tokens", (json_int_t)t->tokens, "tokens_per_second", (double)t->tokens / seconds);
    if (t->between.count) json_object_set_new(row, "between_mean_ms", json_real(bench_mean(&t->between)));
    static const struct {
        const char *key;
        double share;
    } SHARES[] = {{"p50_ms", 0.5}, {"p99_ms", 0.99}};
    for (int i = 0; i < 2; i++) {
        char key[32];
        snprintf(key, sizeof key, "first_%s", SHARES[i].key);
        if (t->first.count) json_object_set_new(row, key, json_real(bench_quantile(&t->first, SHARES[i].share)));
        snprintf(key, sizeof key, "between_%s", SHARES[i].key);
        if (t->between.count) json_object_set_new(row, key, json_real(bench_quantile(&t->between, SHARES[i].share)));
    }
    return row;
}

static int run_rate(load_test *t, const bench_lengths *l, double rate, uint64_t seed, json_t *rows) {
    double seconds;
    t->tokens = t->failed = 0;
    t->multi = need(curl_multi_init());
    prepare(t, l, rate, seed);
    int code = run(t, &seconds);
    if (!code && t->failed == t->o->num_requests)
        code = failure("bench", "all requests to %s failed: %s", t->url, t->message);
    char failed[48];
    if (!code && t->failed) notice("%s failed: %s", human_quantity(t->failed, "request", failed), t->message);
    if (!code) json_array_append_new(rows, make_row(t, rate, seconds));
    finish(t);
    return code;
}

/* ---------------------------------------------------------------- measurement */

enum { TIMES = 4 };
static const char *const TIME_KEYS[TIMES] = {"first_p50_ms", "first_p99_ms", "between_p50_ms", "between_p99_ms"};
static const char *const TIME_NAMES[TIMES] = {"first token, p50", "first token, p99", "between tokens, p50",
                                              "between tokens, p99"};

static double value_of(const json_t *rows, size_t i, const char *key) {
    const json_t *value = json_object_get(json_array_get(rows, i), key);
    return value ? json_number_value(value) : NAN;
}

static char *draw_lines(const json_t *rows, size_t count) {
    chart_series series[TIMES];
    chart_point *points = need(calloc(TIMES * count, sizeof *points));
    for (int k = 0; k < TIMES; k++) {
        for (size_t i = 0; i < count; i++) {
            double rate = value_of(rows, i, "request_rate");
            points[(size_t)k * count + i] = (chart_point){rate > 0 ? rate : NAN, value_of(rows, i, TIME_KEYS[k]), 0};
        }
        series[k] = (chart_series){TIME_NAMES[k], points + (size_t)k * count, (int)count};
    }
    const chart_lines c = {.title = "Latency under load",
                           .x_title = "requests/s",
                           .y_title = "ms",
                           .series = series,
                           .count = TIMES,
                           .log_y = true,
                           .level = NAN};
    char *svg = chart_lines_svg(&c);
    free(points);
    return svg;
}

/* Used if no line can be drawn: for a single rate, or if all requests are sent at once. */
static char *draw_bars(const json_t *rows, size_t count) {
    chart_group *groups = need(calloc(count, sizeof *groups));
    chart_row *bars = need(calloc(TIMES * count, sizeof *bars));
    char(*names)[64] = need(calloc(count, sizeof *names));
    for (size_t i = 0; i < count; i++) {
        double rate = value_of(rows, i, "request_rate");
        snprintf(names[i], sizeof names[i], "all requests at once");
        if (rate > 0) snprintf(names[i], sizeof names[i], "%g requests/s", rate);
        groups[i] = (chart_group){names[i], bars + TIMES * i, TIMES};
        for (int k = 0; k < TIMES; k++)
            bars[TIMES * i + (size_t)k] = (chart_row){TIME_NAMES[k], value_of(rows, i, TIME_KEYS[k]), 0, k};
    }
    const chart_rows c = {.title = "Latency under load",
                          .value_title = "ms",
                          .groups = groups,
                          .count = (int)count,
                          .bars = true,
                          .decimals = 1,
                          .level = NAN};
    char *svg = chart_rows_svg(&c);
    free(names);
    free(bars);
    free(groups);
    return svg;
}

static char *draw(const json_t *rows) {
    size_t count = json_array_size(rows), rates = 0;
    for (size_t i = 0; i < count; i++) rates += value_of(rows, i, "request_rate") > 0;
    return rates == count && rates > 1 ? draw_lines(rows, count) : draw_bars(rows, count);
}

static int read_rates(const bench_options *o, double *rates) {
    if (o->rates.count > BENCH_MAX_LENGTHS)
        return usage_error("bench", "--request_rates: expected at most %d, found %d", BENCH_MAX_LENGTHS,
                           o->rates.count);
    for (int i = 0; i < o->rates.count; i++) {
        char *end;
        rates[i] = strtod(o->rates.items[i], &end);
        if (*end || !(rates[i] >= 0) || rates[i] > 1e6)
            return usage_error("bench", "--request_rates: expected numbers >= 0, found \"%s\"", o->rates.items[i]);
    }
    return EXIT_FINE;
}

static int set_headers(load_test *t) {
    char *key;
    int code = read_api_key("bench", t->o->api_key, t->o->api_key_file, &key);
    t->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (!key) return code;
    size_t bytes = strlen(key) + 32;
    char *header = need(malloc(bytes));
    snprintf(header, bytes, "Authorization: Bearer %s", key);
    t->headers = curl_slist_append(t->headers, header);
    free(header);
    free(key);
    return code;
}

int bench_load(const bench_options *o, bench_result *out) {
    double rates[BENCH_MAX_LENGTHS];
    static bench_lengths lengths[BENCH_MAX_LENGTHS];
    int count, code = bench_read_lengths(o, lengths, &count);
    if (!code) code = read_rates(o, rates);
    if (code) return code;
    load_test t = {.o = o, .url = need(malloc(strlen(o->url) + 32))};
    sprintf(t.url, "%s/v1/completions", o->url);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    code = set_headers(&t);
    for (int i = 0; i < o->rates.count && !code; i++)
        code = run_rate(&t, &lengths[0], rates[i], (uint64_t)i + 1, out->rows);
    curl_slist_free_all(t.headers);
    free(t.url);
    out->columns = COLUMNS;
    if (!code && o->svg) out->svg = draw(out->rows);
    return code;
}

#else

int bench_load(const bench_options *o, bench_result *out) {
    (void)o, (void)out;
    return failure("bench", "this lckv was built without libcurl, which --measure load requires");
}

#endif
