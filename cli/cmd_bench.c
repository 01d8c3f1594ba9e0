/* lckv bench: its flags, and how what was measured is printed. The measures are in bench_*.c. */
#include "api_key.h"
#include "cli/bench/bench.h"
#include "commands.h"
#include "model.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>

#define OWN(member) FLAG_INTO(bench_options, member)

static const flag FLAGS[] = {
    {"measure", FLAG_CHOICE, "speed", "What is measured",
     "speed: prompts and decoding apart, in tokens/s; batch: the largest batch that memory holds, and its throughput; "
     "stream: the time of a token over its position; runs: how near a loop's runs come to the exact form; load: a "
     "running server",
     OWN(measure), .choices = "speed|batch|stream|runs|load"},

    {"config_name", FLAG_FILES, NULL, "Models",
     "configs, each a folder, .json file or ORG/NAME; weights are random. Ratios are to the first", OWN(configs),
     .value = "NAME,..."},
    {"model_name_or_path", FLAG_FILES, NULL, "Models", "runs: checkpoints instead, each a folder or ORG/NAME",
     OWN(models), .value = "NAME,..."},
    {"config_overrides", FLAG_TEXT, NULL, "Models", "changes to all of them, such as forward_passes=3", OWN(overrides),
     .value = "K=V,..."},
    {"torch_dtype", FLAG_CHOICE, "auto", "Models", "type of the weights in memory; auto: as the config says",
     OWN(torch_dtype), .choices = TORCH_DTYPES},
    {"bf16", FLAG_SWITCH, NULL, "Models", "compute in bfloat16: products, attention, KV cache; else in float32",
     OWN(bf16)},

    {"prompt_lengths", FLAG_LIST, "512", "Speed", "tokens of prompts (pp512)", OWN(prompt_lengths), .value = "N,..."},
    {"new_lengths", FLAG_LIST, "128", "Speed", "new tokens (tg128)", OWN(new_lengths), .value = "N,..."},
    {"depths", FLAG_LIST, "0", "Speed", "tokens that are in the cache before (@ d1024)", OWN(depths), .value = "N,..."},
    {"num_sequences", FLAG_INT, "1", "Speed", "sequences at a time", OWN(num_sequences), .min = 1, .max = 1 << 16},
    {"repetitions", FLAG_INT, "5", "Speed", "runs that are counted, behind one that is not; also of --measure batch",
     OWN(repetitions), .min = 1, .max = 1 << 20},

    {"lengths", FLAG_LIST, "512+128", "Batch and load", "tokens of prompts + new tokens; load takes the first pair",
     OWN(lengths), .value = "P+N,..."},
    {"search", FLAG_CHOICE, "plan", "Batch and load",
     "how the largest batch is found, by doubling and bisection: plan, from what the counting device says a batch "
     "takes, "
     "without trying; try: by running each",
     OWN(search), .choices = "plan|try"},
    {"memory_limit", FLAG_INT, "0", "Batch and load", "bytes of the device to fill; 0: those that are free",
     OWN(memory_limit), .max = 1e15},
    {"plan_only", FLAG_SWITCH, NULL, "Batch and load", "only say which batch fits: nothing is run", OWN(plan_only)},
    {"url", FLAG_TEXT, "http://127.0.0.1:8000", "Batch and load", "the server (lckv serve, or another of its kind)",
     OWN(url)},
    {"api_key", FLAG_TEXT, NULL, "Batch and load",
     "what the server wants to hear; else --api_key_file, else the environment variable LCKV_API_KEY", OWN(api_key),
     .value = "KEY"},
    FLAG_API_KEY_FILE(bench_options, "Batch and load", api_key_file),
    {"request_rates", FLAG_LIST, "1,2,4", "Batch and load",
     "requests a second, at random times (a Poisson process); 0: all at once", OWN(rates), .value = "X,..."},
    {"num_requests", FLAG_INT, "32", "Batch and load", "requests at each rate", OWN(num_requests), .min = 1,
     .max = 1 << 20},

    {"num_tokens", FLAG_INT, "4096", "Stream", "tokens of the text", OWN(num_tokens), .min = 2, .max = 1e12},
    {"window_length", FLAG_INT, "256", "Stream", "tokens that the sink cache keeps; 0: all are kept",
     OWN(window_length), .max = 1 << 30},
    {"num_sink_tokens", FLAG_INT, "2", "Stream", "of which so many are the first ones", OWN(num_sink_tokens),
     .max = 1 << 30},

    {"file", FLAG_TEXT, NULL, "Runs", "text that is read, whole and as it is", OWN(file), .value = "FILE"},
    {"block_size", FLAG_INT, "256", "Runs", "tokens of a block of it, which is read by itself", OWN(block_size),
     .min = 2, .max = 1 << 24},
    {"num_blocks", FLAG_INT, "4", "Runs", "blocks, the first ones", OWN(num_blocks), .min = 1, .max = 1 << 20},
    {"most_runs", FLAG_INT, "12", "Runs", "runs of a loop, from 1 to so many", OWN(most_runs), .min = 1,
     .max = 1 << 12},

    {"csv", FLAG_SWITCH, NULL, "Output", "print comma-separated values", OWN(csv)},
    {"md", FLAG_SWITCH, NULL, "Output", "print a Markdown table", OWN(md)},
    {"svg", FLAG_TEXT, NULL, "Output", "write a chart there", OWN(svg), .value = "FILE"},
    FLAG_JSON(bench_options, json),
    FLAG_DEVICE(bench_options, device),
    FLAG_THREADS(bench_options, threads),
    {0},
};

static const char *const EXAMPLES[] = {
    "speed of prompts and of decoding, plain and shared keys and values",
    "lckv bench --config_name configs/llama-50m.json,configs/lckv-50m.json --prompt_lengths 128 --new_lengths 32",
    "the largest batch that 2 GB hold; nothing is run",
    "lckv bench --measure batch --plan_only --memory_limit 2e9 --config_name configs/lckv-50m.json --lengths 512+512",
    "a running server",
    "lckv bench --measure load --url http://127.0.0.1:8000 --request_rates 1,2,4",
    NULL,
};

static const flag_table TABLE = {
    "bench",
    "Measures models of random weights side by side, such as a plain config and one whose layers share keys and "
    "values,\nhow near the runs of a loop come to the exact form, or a running server.",
    "--config_name NAME,... [--measure speed|batch|stream|runs|load]",
    FLAGS,
    .words = "config_name",
    .examples = EXAMPLES,
};

static int check(const bench_options *o) {
    bool takes_configs = o->measure != BENCH_LOAD && o->measure != BENCH_RUNS;
    if (o->measure == BENCH_RUNS && (!o->models.count || !o->file))
        return usage_error("bench", "--model_name_or_path and --file say whose runs are measured, and over which text");
    if (takes_configs && !o->configs.count) return usage_error("bench", "--config_name says which models are measured");
    if (o->json + o->csv + o->md > 1) return usage_error("bench", "--json, --csv and --md: one of them");
    return EXIT_FINE;
}

/* With what was asked, so that the figures stand alone. */
static void print_result_json(const bench_options *o, const bench_result *r) {
    static const char *const MEASURES[] = {"speed", "batch", "stream", "runs", "load"};
    json_t *whole = json_pack("{s:s, s:s}", "measure", MEASURES[o->measure], "version", lckv_version());
    if (o->measure != BENCH_LOAD) { /* of a server that is not known */
        json_object_set_new(whole, "device", json_string(r->device));
        json_object_set_new(whole, "compute", json_string(o->bf16 ? "bfloat16" : "float32"));
    }
    json_object_set(whole, "rows", r->rows);
    print_json(whole);
    json_decref(whole);
}

static void print_result(const bench_options *o, const bench_result *r) {
    if (o->json) {
        print_result_json(o, r);
        return;
    }
    char *text = table_text(o->csv ? TABLE_CSV : o->md ? TABLE_MARKDOWN : TABLE_TEXT, r->columns, r->rows);
    print_bytes(text, strlen(text));
    free(text);
}

/* "auto" is one of them. */
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
    static int (*const MEASURES[])(const bench_options *, bench_result *) = {bench_speed, bench_batch, bench_stream,
                                                                             bench_runs, bench_load};
    bench_result r = {.rows = json_array()};
    int code = check(o);
    if (!code && o->measure != BENCH_LOAD) code = name_device(o, &r);
    if (!code) code = MEASURES[o->measure](o, &r);
    if (!code && r.svg) code = write_file("bench", o->svg, r.svg);
    if (!code) print_result(o, &r);
    free(r.svg);
    json_decref(r.rows);
    return code;
}

int cmd_bench(int argc, char **argv) {
    bench_options options = {0};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = bench(&options);
    flags_free(&TABLE, &options);
    return code;
}
