/* Models with random weights, and requests run through an engine. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/open_model.h"
#include "cli/output/output.h"
#include "cli/output/timer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- models */

const char *bench_name(const char *config, char out[64]) {
    size_t length = strlen(config);
    while (length > 1 && config[length - 1] == '/') length--;
    size_t begin = length;
    while (begin && config[begin - 1] != '/') begin--;
    snprintf(out, 64, "%.*s", (int)(length - begin), config + begin);
    char *ending = strstr(out, ".json");
    if (ending) *ending = '\0';
    return out;
}

/* Loads the config. Raises max_position_embeddings if needed, which does not change the speed of a random model. */
static int load_config(const bench_options *o, const char *name, int64_t positions, lckv_config **out) {
    added_overrides added = {.torch_dtype = o->torch_dtype, .weight_dtype = o->weight_dtype};
    char *overrides = add_overrides(o->overrides, &added);
    int status = lckv_config_load(name, overrides, out);
    if (status >= 0 && lckv_config_describe(*out).max_position_embeddings < positions) {
        lckv_config_free(*out);
        free(overrides);
        added.positions = positions;
        overrides = add_overrides(o->overrides, &added);
        status = lckv_config_load(name, overrides, out);
    }
    free(overrides);
    return status;
}

int bench_model_open(const bench_options *o, const char *config, const char *device, int64_t positions,
                     bench_model *out) {
    *out = (bench_model){0};
    progress(-1, "creating a model of %s", config);
    bool counts = !strcmp(device, "count");
    lckv_processes *processes = counts ? NULL : ranks_processes(&o->ranks);
    int status = lckv_processes_device(processes, device, (int)o->threads, &out->device);
    if (status >= 0 && !counts && o->measure == BENCH_SPEED && o->memory_limit)
        status = lckv_device_limit(out->device, o->memory_limit);
    if (status >= 0) status = load_config(o, config, positions, &out->config);
    if (status >= 0) {
        lckv_model_options options = lckv_model_defaults();
        options.torch_dtype = torch_dtype_name(1 + (int)lckv_config_describe(out->config).dtype);
        options.processes = processes;
        status = lckv_model_create_with(out->device, out->config, &options, 1, &out->model);
    }
    if (status < 0)
        bench_model_close(out);
    else if (!counts)
        ranks_opened(&o->ranks);
    return status;
}

/* If opening fails, it fails on rank 0, too, which reports it. */
int bench_follow(const bench_options *o) {
    int code = EXIT_FINE, status = LCKV_OK;
    for (int i = 0; i < o->configs.count && !code && status >= 0; i++) {
        bench_model m;
        status = bench_model_open(o, o->configs.items[i], o->device, 0, &m);
        if (status >= 0) code = ranks_follow("bench", &o->ranks, m.model);
        if (status >= 0) bench_model_close(&m);
    }
    return code;
}

void bench_model_close(bench_model *m) {
    lckv_model_free(m->model);
    lckv_config_free(m->config);
    lckv_device_close(m->device);
    *m = (bench_model){0};
}

int64_t bench_kv_bytes(const bench_options *o, const bench_model *m) {
    return lckv_config_kv_bytes_per_token(m->config, kv_dtype_of(o->kv_dtype, o->bf16));
}

/* ---------------------------------------------------------------- engines */

static void on_event(void *user, const lckv_event *event) {
    bench_engine *e = user;
    if (event->token < 0) e->failed = true;
    if (event->new_tokens == 1) e->cached_tokens += event->cached_tokens;
}

int bench_engine_open(const bench_options *o, const bench_model *m, int64_t sequences, int64_t length,
                      int64_t kv_cache_memory, bench_engine *e) {
    *e = (bench_engine){.vocab_size = lckv_config_describe(m->config).vocab_size,
                        .encoding = (lckv_encoding)o->encoding};
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = (int)sequences;
    options.max_queue = (int)sequences;
    options.max_model_len = length;
    options.kv_cache_memory = kv_cache_memory;
    /* The device would change this default, and the memory plan would not match the run. */
    if (o->measure == BENCH_BATCH) options.max_num_batched_tokens = 2048;
    options.bf16 = o->bf16;
    options.kv_dtype = kv_dtype_name(o->kv_dtype);
    options.callback = on_event;
    options.user = e;
    char *path = cost_table_path(o->cost_table);
    options.cost_table = path;
    int status = lckv_engine_create(m->model, NULL, &options, &e->engine);
    free(path);
    return status;
}

void bench_engine_close(bench_engine *e) {
    lckv_engine_free(e->engine);
    *e = (bench_engine){0};
}

/* Splitmix64 (Steele et al. 2014); nearly uniform. */
static int32_t random_id(uint64_t seed, uint64_t prompt, uint64_t position, int64_t vocab_size) {
    uint64_t x = (seed << 40) + (prompt << 20) + position + 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return (int32_t)((x ^ (x >> 31)) % (uint64_t)vocab_size);
}

static int submit(bench_engine *e, const bench_requests *r, uint64_t number, int32_t *ids) {
    for (int64_t i = 0; i < r->prompt_length; i++)
        ids[i] = i < r->prefix ? random_id(0, 0, (uint64_t)i, e->vocab_size)
                               : random_id(r->seed + 1, number + 1, (uint64_t)i, e->vocab_size);
    lckv_request request = lckv_request_defaults();
    uint64_t id;
    request.prompt = (lckv_prompt){ids, r->prompt_length};
    request.max_new_tokens = r->new_tokens;
    request.temperature = 0;
    request.ignore_eos = true;
    request.encoding = e->encoding;
    return lckv_engine_submit(e->engine, &request, &id);
}

/* Shows the fraction of all prompt and new tokens that are processed. With stop_early, a request has one new token. */
static void show_run(const bench_requests *r, const lckv_engine_stats *before, const lckv_engine_stats *now) {
    int64_t all = r->count * (r->prompt_length + (r->stop_early ? 1 : r->new_tokens));
    int64_t done = now->prompt_tokens - before->prompt_tokens + now->decode_tokens - before->decode_tokens;
    if (!r->label || !progress_due()) return;
    if (r->share > 0)
        progress(r->progress + r->share * (double)done / (double)all, "%s", r->label);
    else
        progress(-1, "%s", r->label);
}

int bench_engine_run(bench_engine *e, const bench_requests *r, bench_times *out) {
    int32_t *ids = need(malloc((size_t)r->prompt_length * sizeof *ids));
    lckv_engine_stats before = lckv_engine_describe(e->engine), after = before;
    int status = LCKV_OK;
    double start = timer_seconds();
    e->cached_tokens = 0;
    for (int64_t i = 0; i < r->count && status >= 0; i++) status = submit(e, r, (uint64_t)i, ids);
    while (status >= 0 && !lckv_engine_idle(e->engine)) {
        status = interrupted() ? LCKV_ERROR_INTERRUPTED : lckv_engine_step(e->engine);
        after = lckv_engine_describe(e->engine);
        show_run(r, &before, &after);
        if (r->stop_early && after.decode_tokens > before.decode_tokens) break;
    }
    *out = (bench_times){.seconds = timer_seconds() - start,
                         .prompt_seconds = after.prompt_seconds - before.prompt_seconds,
                         .decode_seconds = after.decode_seconds - before.decode_seconds,
                         .cached_tokens = e->cached_tokens,
                         .decode_tokens = after.decode_tokens - before.decode_tokens,
                         .decode_bytes = after.decode_bytes - before.decode_bytes,
                         .sequential = 2 * (after.sequential_tokens - before.sequential_tokens) >
                                       after.prompt_tokens - before.prompt_tokens};
    free(ids);
    return status;
}

int bench_engine_repeat(bench_engine *e, const bench_requests *r, int64_t warmup_new_tokens, int64_t count,
                        bench_times *times) {
    bench_times warmup;
    bench_requests run = *r;
    int status = LCKV_OK;
    run.share = r->share / (double)(count + 1);
    for (int64_t i = 0; i <= count && status >= 0; i++) {
        run.seed = (uint64_t)i;
        run.new_tokens = i ? r->new_tokens : warmup_new_tokens;
        run.progress = r->progress + (double)i * run.share;
        status = bench_engine_run(e, &run, i ? &times[i - 1] : &warmup);
        if (e->failed) break;
    }
    return status;
}

int bench_outcome(const bench_engine *e, int status) {
    if (status < 0) return library_error("bench", status);
    if (e->failed) return failure("bench", "the logits are NaN; lckv cannot measure this model");
    return EXIT_FINE;
}
