/* The JSON of a report, see report_data.h. */
#include "train/report/report_data.h"

#include "base/clock.h"
#include "base/text/json.h"
#include "base/text/text_buffer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---------------------------------------------------------------- logged steps */

/* The mean of the finite values. */
typedef struct mean {
    double sum;
    int64_t count;
} mean;

static void add_to_mean(mean *m, double value) {
    if (!isfinite(value)) return;
    m->sum += value;
    m->count++;
}

static json_t *mean_or_null(const mean *m) {
    return m->count ? json_real(m->sum / (double)m->count) : json_null();
}

enum { LOSS, GRAD_NORM, LEARNING_RATE, TOKENS_PER_SECOND, CURVES };
static const char *const CURVE_NAMES[CURVES] = {"loss", "grad_norm", "learning_rate", "tokens_per_second"};

/* Neighbouring steps that are drawn as one point. */
typedef struct group {
    mean means[CURVES];
    int64_t count, step;
    double epoch;
} group;

static void add_to_group(group *g, const history_entry *e) {
    const double values[CURVES] = {e->loss, e->grad_norm, e->learning_rate, e->tokens_per_second};
    for (int i = 0; i < CURVES; i++) add_to_mean(&g->means[i], values[i]);
    g->count++;
    g->step = e->step;
    g->epoch = e->epoch;
}

static void end_group(group *g, json_t *curves) {
    if (!g->count) return;
    json_array_append_new(json_object_get(curves, "step"), json_integer((json_int_t)g->step));
    json_array_append_new(json_object_get(curves, "epoch"), json_real(g->epoch));
    for (int i = 0; i < CURVES; i++)
        json_array_append_new(json_object_get(curves, CURVE_NAMES[i]), mean_or_null(&g->means[i]));
    *g = (group){.count = 0};
}

static json_t *train_curves(const history *h, int64_t steps_per_point) {
    group g = {.count = 0};
    json_t *curves = json_pack("{s[] s[]}", "step", "epoch");
    for (int i = 0; i < CURVES; i++) json_object_set_new(curves, CURVE_NAMES[i], json_array());
    for (int64_t i = 0; i < h->count; i++) {
        if (h->list[i].is_evaluation) continue;
        add_to_group(&g, &h->list[i]);
        if (g.count == steps_per_point) end_group(&g, curves);
    }
    end_group(&g, curves);
    return curves;
}

static int64_t steps_per_point(const history *h) {
    int64_t steps = 0;
    for (int64_t i = 0; i < h->count; i++) steps += !h->list[i].is_evaluation;
    return steps > REPORT_MAX_POINTS ? (steps + REPORT_MAX_POINTS - 1) / REPORT_MAX_POINTS : 1;
}

/* ---------------------------------------------------------------- evaluations */

static json_t *evaluation_curves(const history *h) {
    json_t *steps = json_array(), *epochs = json_array(), *losses = json_array(), *accuracies = json_array();
    for (int64_t i = 0; i < h->count; i++) {
        const history_entry *e = &h->list[i];
        if (!e->is_evaluation) continue;
        json_array_append_new(steps, json_integer((json_int_t)e->step));
        json_array_append_new(epochs, json_real(e->epoch));
        json_array_append_new(losses, json_number_or_null(e->evaluation.loss));
        json_array_append_new(accuracies, json_number_or_null(e->evaluation.accuracy));
    }
    return json_pack("{so so so so}", "step", steps, "epoch", epochs, "loss", losses, "accuracy", accuracies);
}

/* ---------------------------------------------------------------- the rest */

static json_t *local_time(void) {
    char text[32];
    struct tm parts;
    time_t now = time(NULL);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &parts));
    return json_string(text);
}

static json_t *about_run(const run_view *run, const report_labels *l) {
    return json_pack("{so ss so so sb sI sI ss sI sI sI}", "name", json_text_or_null(l->name), "version",
                     lckv_version(), "command", json_text_or_null(l->command), "written", local_time(), "finished",
                     l->finished, "parameters", (json_int_t)run->parameters, "block_size", (json_int_t)run->block_size,
                     "device", run->device, "threads", (json_int_t)run->threads, "processes", (json_int_t)run->ranks,
                     "tokens_per_step", (json_int_t)((double)run->examples_per_step * run->tokens_per_example));
}

static json_t *progress(const run_view *run) {
    double seconds = clock_seconds() - run->begin, here = (double)(run->step - run->first_step);
    double left = here > 0 ? seconds / here * (double)(run->steps - run->step) : NAN;
    if (here <= 0) seconds = NAN; /* nothing was trained in this time */
    return json_pack("{sI sI sf sI sI so so sf}", "step", (json_int_t)run->step, "steps", (json_int_t)run->steps,
                     "epoch", run_view_epoch(run, run->step), "tokens", (json_int_t)run->tokens, "skipped",
                     (json_int_t)run->skipped, "seconds", json_number_or_null(seconds), "seconds_left",
                     json_number_or_null(left), "flops", run->flops);
}

static json_t *describe(const run_view *run, const history *h, const report_labels *l) {
    int64_t group_steps = steps_per_point(h);
    json_t *all = about_run(run, l), *more = progress(run);
    bool failed = !all || !more || json_object_update(all, more) ||
                  json_object_set_new(all, "thinned", json_integer((json_int_t)group_steps)) ||
                  json_object_set_new(all, "train", train_curves(h, group_steps)) ||
                  json_object_set_new(all, "evaluation", evaluation_curves(h));
    json_decref(more);
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

/* In JSON, '<' occurs only in strings, where it can be escaped. */
static int without_tags(const char *json, char **out) {
    text_buffer b = {0};
    int status = LCKV_OK;
    while (*json && status >= 0) {
        size_t length = strcspn(json, "<");
        status = text_append(&b, json, length);
        json += length;
        if (*json != '<' || status < 0) continue;
        status = text_printf(&b, "\\u003c");
        json++;
    }
    if (status >= 0) return text_take(&b, out);
    text_free(&b);
    return status;
}

int report_data(const run_view *run, const history *h, const report_labels *labels, char **out) {
    json_t *all = describe(run, h, labels);
    char *text = all ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    *out = NULL;
    json_decref(all);
    REQUIRE(text, LCKV_ERROR_MEMORY, "no memory for the report of a run");
    int status = without_tags(text, out);
    free(text);
    return status;
}
