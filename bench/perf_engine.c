/* Runs requests of random token ids through an engine, on a model of random weights. */
#include "perf.h"

#include "base/rng.h"

#include <string.h>

int perf_model_open(const perf_options *o, const char *overrides, perf_model *out) {
    model_config *c;
    *out = (perf_model){0};
    TRY(device_open(o->device, o->threads, &out->device));
    TRY(config_read(o->config, overrides, &c));
    return model_create_random(out->device, c, o->compute, 1, &out->model);
}

void perf_model_close(perf_model *m) {
    model_free(m->model);
    device_close(m->device);
    *m = (perf_model){0};
}

void perf_random_ids(const perf_model *m, uint64_t stream, int32_t *ids, int count) {
    for (int i = 0; i < count; i++)
        ids[i] = (int32_t)(rng_uniform(2, stream, (uint64_t)i) * (double)m->model->config->vocab_size);
}

/* Seconds, or GFLOP on the counting device. */
static double time_or_work(const device *d) {
    return strcmp(d->name, "count") ? clock_seconds() : 1e-9 * d->counts.flops;
}

int perf_engine_run(const perf_model *m, lckv_engine *e, const int32_t *ids, int prompt, int new_tokens, int count,
                    lckv_encoding encoding, double *seconds) {
    double begin = time_or_work(m->device);
    for (int i = 0; i < count; i++) {
        lckv_request r = lckv_request_defaults();
        uint64_t id;
        r.prompt = (lckv_prompt){ids + (int64_t)i * prompt, prompt};
        r.max_new_tokens = new_tokens;
        r.temperature = 0;
        r.ignore_eos = true;
        r.encoding = encoding;
        TRY(lckv_engine_submit(e, &r, &id));
    }
    while (!lckv_engine_idle(e)) TRY(lckv_engine_step(e));
    *seconds = time_or_work(m->device) - begin;
    return LCKV_OK;
}
