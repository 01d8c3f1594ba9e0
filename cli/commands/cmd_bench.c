/* lckv bench: flags and output. The measurements are in cli/bench/. */
#include "cli/api_key.h"
#include "cli/bench/bench.h"
#include "cli/open_model.h"
#include "cli/output/output.h"
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#define OWN(member) FLAG_INTO(bench_options, member)

static const flag FLAGS[] = {
    {"measure", FLAG_CHOICE, "speed", "Measurement",
     "measurement: speed is the throughput of prefill and decode in tokens/s; batch the largest batch that fits into "
     "memory, and its throughput; stream the time per token by position; iterations the error of the parallel form by "
     "number of iterations; load the latency of a running server; costs the duration of steps by rows and depth, which "
     "--cost_table keeps",
     OWN(measure), .choices = "speed|batch|stream|iterations|load|costs", .former_choice = "runs=iterations"},

    {"config_name", FLAG_FILES, NULL, "Models",
     "configs of the models to compare, with random weights: folders, .json files or ORG/NAME; ratios are relative to "
     "the first one",
     OWN(configs), .value = "NAME,..."},
    {"model_name_or_path", FLAG_FILES, NULL, "Models", "checkpoints for --measure iterations: folders or ORG/NAME",
     OWN(models), .value = "NAME,..."},
    {"no_loop_start", FLAG_SWITCH, NULL, "Models",
     "with --measure iterations, start loops from zeros instead of the learned start of a checkpoint",
     OWN(no_loop_start)},
    {"config_overrides", FLAG_TEXT, NULL, "Models", "changes to all configs, such as forward_passes=3", OWN(overrides),
     .value = "K=V,..."},
    {"torch_dtype", FLAG_CHOICE, "auto", "Models",
     "data type of the weights in memory; auto uses the type in the config", OWN(torch_dtype), .choices = TORCH_DTYPES},
    FLAG_WEIGHT_DTYPE(bench_options, weight_dtype, "Models"),
    {"bf16", FLAG_SWITCH, NULL, "Models",
     "compute in bfloat16 (matrix products, attention, KV cache) instead of float32", OWN(bf16)},
    FLAG_KV_DTYPE(bench_options, kv_dtype, "Models"),

    {"encoding", FLAG_CHOICE, "auto", "Models",
     "prefill of models with loops: plan, sequential (token by token, exact), or auto, which chooses between them",
     OWN(encoding), .choices = "auto|plan|sequential"},
    FLAG_COST_TABLE(bench_options, cost_table, "Models"),

    {"prompt_lengths", FLAG_LIST, "512", "Speed", "prompt lengths in tokens (pp512)", OWN(prompt_lengths),
     .value = "N,..."},
    {"new_lengths", FLAG_LIST, "128", "Speed", "numbers of new tokens (tg128)", OWN(new_lengths), .value = "N,..."},
    {"depths", FLAG_LIST, "0", "Speed", "numbers of tokens already in the KV cache (@ d1024)", OWN(depths),
     .value = "N,..."},
    {"num_sequences", FLAG_INT, "1", "Speed", "batch size in sequences", OWN(num_sequences), .min = 1, .max = 1 << 16},
    {"repetitions", FLAG_INT, "5", "Speed",
     "number of measured repetitions, after one warmup; also for --measure batch", OWN(repetitions), .min = 1,
     .max = 1 << 20},

    {"lengths", FLAG_LIST, "512+128", "Batch and load",
     "prompt length + new tokens; --measure load uses the first pair", OWN(lengths), .value = "P+N,..."},
    {"search", FLAG_CHOICE, "plan", "Batch and load",
     "search for the largest batch: plan computes the memory of each batch without running it, try runs each batch",
     OWN(search), .choices = "plan|try"},
    {"memory_limit", FLAG_INT, "0", "Batch and load",
     "memory limit in bytes, with --measure speed of each process; 0 uses the free memory of the device",
     OWN(memory_limit), .max = 1e15},
    {"plan_only", FLAG_SWITCH, NULL, "Batch and load", "print only the largest batch; run nothing", OWN(plan_only)},
    {"url", FLAG_TEXT, "http://127.0.0.1:8000", "Batch and load",
     "URL of the server (lckv serve or another OpenAI-compatible server)", OWN(url)},
    {"api_key", FLAG_TEXT, NULL, "Batch and load",
     "API key to send; by default from --api_key_file or the environment variable LCKV_API_KEY", OWN(api_key),
     .value = "KEY"},
    FLAG_API_KEY_FILE(bench_options, "Batch and load", api_key_file),
    {"request_rates", FLAG_LIST, "1,2,4", "Batch and load",
     "request rates in requests/s, at random times (a Poisson process); 0 sends all requests at once", OWN(rates),
     .value = "X,..."},
    {"num_requests", FLAG_INT, "32", "Batch and load", "number of requests per rate", OWN(num_requests), .min = 1,
     .max = 1 << 20},

    {"num_tokens", FLAG_INT, "4096", "Stream", "number of tokens to generate", OWN(num_tokens), .min = 2, .max = 1e12},
    {"window_length", FLAG_INT, "256", "Stream", "size of the sink cache in tokens; 0 keeps all tokens",
     OWN(window_length), .max = 1 << 30},
    {"num_sink_tokens", FLAG_INT, "2", "Stream", "number of those tokens that are the first ones of the sequence",
     OWN(num_sink_tokens), .max = 1 << 30},

    {"file", FLAG_TEXT, NULL, "Iterations", "text file to measure on", OWN(file), .value = "FILE"},
    {"block_size", FLAG_INT, "256", "Iterations", "block size in tokens; blocks are processed independently",
     OWN(block_size), .min = 2, .max = 1 << 24},
    {"num_blocks", FLAG_INT, "4", "Iterations", "maximum number of blocks", OWN(num_blocks), .min = 1, .max = 1 << 20},
    {"max_iterations", FLAG_INT, "12", "Iterations", "maximum number of iterations; all from 1 to this are measured",
     .former = "most_runs", OWN(max_iterations), .min = 1, .max = 1 << 12},

    {"csv", FLAG_SWITCH, NULL, "Output", "print comma-separated values", OWN(csv)},
    {"md", FLAG_SWITCH, NULL, "Output", "print a Markdown table", OWN(md)},
    {"profile", FLAG_TEXT, NULL, "Output",
     "with --measure speed, run each test once more with a profile, print the time by op, and write a Chrome trace to "
     "this file",
     OWN(profile), .value = "FILE"},
    {"svg", FLAG_TEXT, NULL, "Output", "SVG file for a chart", OWN(svg), .value = "FILE"},
    FLAGS_RANKS(bench_options, ranks),

    FLAG_JSON(bench_options, json),
    FLAG_DEVICE(bench_options, device),
    FLAG_THREADS(bench_options, threads),
    {0},
};

static const char *const EXAMPLES[] = {
    "prefill and decode throughput, with plain and with shared keys and values",
    "lckv bench --config_name configs/llama-50m.json,configs/lckv-50m.json --prompt_lengths 128 --new_lengths 32",
    "the largest batch that fits into 2 GB, without running it",
    "lckv bench --measure batch --plan_only --memory_limit 2e9 --config_name configs/lckv-50m.json --lengths 512+512",
    "a running server",
    "lckv bench --measure load --url http://127.0.0.1:8000 --request_rates 1,2,4",
    NULL,
};

static const flag_table TABLE = {
    "bench",
    "Compares the speed of models with random weights, such as a plain model and one whose layers share keys and "
    "values. Also measures the error of the parallel form by number of iterations, and the latency of a running "
    "server.",
    "--config_name NAME,... [--measure speed|batch|stream|iterations|load|costs]",
    FLAGS,
    .positional = "config_name",
    .examples = EXAMPLES,
};

static int check(const bench_options *o) {
    bool needs_configs = o->measure != BENCH_LOAD && o->measure != BENCH_ITERATIONS;
    if (o->measure == BENCH_ITERATIONS && (!o->models.count || !o->file))
        return usage_error("bench", "--measure iterations requires --model_name_or_path and --file");
    if (needs_configs && !o->configs.count) return usage_error("bench", "--config_name is required");
    if (o->ranks.tensor_parallel > 1 && (!needs_configs || o->measure == BENCH_BATCH))
        return usage_error("bench", "--tensor_parallel requires --measure speed, stream or costs");
    if (o->json + o->csv + o->md > 1) return usage_error("bench", "--json, --csv and --md cannot be combined");
    if (!o->profile) return EXIT_FINE;
    if (o->measure != BENCH_SPEED) return usage_error("bench", "--profile requires --measure speed");
    if (o->csv) return usage_error("bench", "--profile and --csv cannot be combined; use --md or --json");
    int code = check_target("bench", o->profile);
    return code ? code : make_parent_folders("bench", o->profile);
}

static json_t *speeds_json(const lckv_device_speeds *s) {
    return json_pack("{s:f, s:f, s:f}", "product_flops_per_second", s->product_flops, "copy_bytes_per_second",
                     s->copy_bytes, "read_bytes_per_second", s->read_bytes);
}

/* Includes the settings, so that the output is complete on its own. */
static void print_result_json(const bench_options *o, const bench_result *r) {
    static const char *const MEASURES[] = {"speed", "batch", "stream", "iterations", "load", "costs"};
    json_t *whole = json_pack("{s:s, s:s}", "measure", MEASURES[o->measure], "version", lckv_version());
    if (o->measure != BENCH_LOAD) { /* unknown for a remote server */
        json_object_set_new(whole, "device", json_string(r->device));
        json_object_set_new(whole, "compute", json_string(o->bf16 ? "bfloat16" : "float32"));
        if (o->kv_dtype) json_object_set_new(whole, "kv_dtype", json_string(kv_dtype_name(o->kv_dtype)));
    }
    if (r->speeds.product_flops > 0) json_object_set_new(whole, "reference", speeds_json(&r->speeds));
    json_object_set(whole, "rows", r->rows);
    if (r->ops) json_object_set(whole, "ops", r->ops);
    print_json(whole);
    json_decref(whole);
}

static void print_table(table_form form, const table_column *columns, const json_t *rows) {
    char *text = table_text(form, columns, rows);
    print_bytes(text, strlen(text));
    free(text);
}

static void print_result(const bench_options *o, const bench_result *r) {
    if (o->json) {
        print_result_json(o, r);
        return;
    }
    table_form form = o->csv ? TABLE_CSV : o->md ? TABLE_MARKDOWN : TABLE_TEXT;
    print_table(form, r->columns, r->rows);
    if (!r->ops) return;
    print_bytes("\n", 1);
    print_table(form, BENCH_PROFILE_COLUMNS, r->ops);
}

/* Stores the name of the device, which for "auto" is the device that is used. */
static int name_device(const bench_options *o, bench_result *r) {
    lckv_device *device;
    lckv_device_info info = {0};
    int status = lckv_device_open(o->device, (int)o->threads, &device);
    if (status >= 0) status = lckv_device_describe(device, &info);
    memcpy(r->device, info.name, sizeof r->device);
    lckv_device_close(device);
    return status < 0 ? library_error("bench", status) : EXIT_FINE;
}

static int bench(const bench_options *o) {
    static int (*const MEASURES[])(const bench_options *, bench_result *) = {
        bench_speed, bench_batch, bench_stream, bench_iterations, bench_load, bench_costs};
    bench_result r = {.rows = json_array()};
    int code = o->measure == BENCH_LOAD ? EXIT_FINE : name_device(o, &r);
    if (!code) code = MEASURES[o->measure](o, &r);
    if (!code && r.svg) code = write_file("bench", o->svg, r.svg);
    if (!code) print_result(o, &r);
    if (!code && r.trace) code = write_file("bench", o->profile, r.trace);
    free(r.svg);
    free(r.trace);
    json_decref(r.ops);
    json_decref(r.rows);
    return code;
}

static int lead(void *user) {
    return bench(user);
}

static int follow(void *user) {
    return bench_follow(user);
}

int cmd_bench(int argc, char **argv) {
    bench_options options = {0};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = check(&options);
    if (!code) code = ranks_run("bench", argv, &options.ranks, options.configs.count, lead, follow, &options);
    flags_free(&TABLE, &options);
    return code;
}
