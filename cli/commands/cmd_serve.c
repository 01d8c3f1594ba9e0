/* lckv serve: flags of the HTTP server. The server itself is in serve/. */
#include "cli/api_key.h"
#include "cli/flags/flags.h"
#include "cli/open_model.h"
#include "cli/output/output.h"
#include "commands.h"
#include "serve/serve.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Values of the flags. */
struct options {
    struct model_flags model;
    serve_options serve;                /* set directly by most flags */
    int64_t port;                       /* 0: a free one */
    int64_t timeout;                    /* seconds */
    int64_t max_num_seqs, max_queue;    /* sequences; requests */
    int64_t encoding_iterations;        /* 0: the model's own number */
    int encoding;                       /* an lckv_encoding */
    const char *cost_table;             /* file, or "none"; NULL: the default */
    flag_list model_names;              /* names of the model in the API */
    flag_list hosts, origins;           /* allowed host names and web origins */
    const char *api_key, *api_key_file; /* key, or file with it; NULL: none */
    const char *access_log;             /* file, "-" or "none" */
    bool use_cpu;
};

#define SERVE(member) FLAG_INTO(struct options, serve.member)
#define OWN(member) FLAG_INTO(struct options, member)

static const flag FLAGS[] = {
    FLAGS_MODEL(struct options, model, ""),
    {"torch_dtype", FLAG_CHOICE, "auto", "Model",
     "data type in memory of weights that are not quantized; auto keeps the type of the checkpoint",
     FLAG_INTO(struct options, model.torch_dtype), .choices = TORCH_DTYPES},
    FLAG_WEIGHT_DTYPE(struct options, model.weight_dtype, "Model"),
    {"bf16", FLAG_SWITCH, NULL, "Model",
     "compute in bfloat16 (matrix products, attention, KV cache) instead of float32", SERVE(engine.bf16)},
    FLAG_KV_DTYPE(struct options, model.kv_dtype, "Model"),
    {"served_model_name", FLAG_LIST, NULL, "Model",
     "names of the model in the API; responses use the first one. By default ORG/NAME or the last part of the path. "
     "Clients can also use the value of --model_name_or_path",
     OWN(model_names), .value = "NAME"},

    {"chat_template", FLAG_TEXT, NULL, "Model", "file with the Jinja chat template; by default the checkpoint's own",
     SERVE(chat_template), .value = "FILE"},

    {"host", FLAG_TEXT, "127.0.0.1", "Server", "address to listen on; 0.0.0.0 listens on all interfaces", SERVE(host)},
    {"port", FLAG_INT, "8000", "Server", "port to listen on; 0 picks a free port", OWN(port), .max = 65535},
    {"api_key", FLAG_TEXT, NULL, "Server",
     "API key that clients must send (Authorization: Bearer KEY); by default from --api_key_file or the environment "
     "variable LCKV_API_KEY",
     OWN(api_key), .value = "KEY"},
    FLAG_API_KEY_FILE(struct options, "Server", api_key_file),
    {"allowed_hosts", FLAG_LIST, NULL, "Server",
     "host names of this server, such as example.org, to accept in the Host header, in addition to IP addresses, "
     "localhost and --host; * accepts all",
     OWN(hosts), .value = "NAME"},
    {"allowed_origins", FLAG_LIST, NULL, "Server",
     "web origins whose pages may use the API (CORS), such as https://example.org, in addition to the server's own; * "
     "allows all",
     OWN(origins)},
    {"access_log", FLAG_TEXT, "-", "Server",
     "file for the access log, one line per request; - is standard error, none disables the log", OWN(access_log),
     .value = "FILE"},
    {"max_body_bytes", FLAG_INT, "33554432", "Server", "maximum size of a request in bytes", SERVE(max_body),
     .min = 1024, .max = 1e12},
    {"max_bodies_bytes", FLAG_INT, "0", "Server",
     "maximum size in bytes of all requests being received; beyond it the server responds with 503. 0 uses 8 * "
     "max_body_bytes",
     SERVE(max_bodies), .max = 1e15},
    {"max_connections", FLAG_INT, "1024", "Server", "maximum number of connections", SERVE(max_connections), .min = 1,
     .max = 65536},
    {"timeout", FLAG_INT, "120", "Server",
     "seconds to wait for a complete request; idle connections are closed after the same time", OWN(timeout), .min = 1,
     .max = 86400},

    {"max_model_len", FLAG_INT, "0", "Engine",
     "maximum number of tokens per request, prompt and new tokens together; 0 uses the model's max_position_embeddings",
     SERVE(engine.max_model_len), .max = 1e15},
    {"max_num_seqs", FLAG_INT, "0", "Engine",
     "maximum number of sequences that run together; 0 uses 128 on a CPU, and on a GPU as many as its memory holds, up "
     "to 1024",
     OWN(max_num_seqs), .min = 0, .max = 65536},
    {"max_queue", FLAG_INT, "1024", "Engine",
     "maximum number of waiting requests; beyond it the server responds with 429", OWN(max_queue), .max = 1 << 24},
    {"max_num_batched_tokens", FLAG_INT, "0", "Engine",
     "maximum number of prompt tokens per step and chunk; 0 uses 2048, on a GPU 8192",
     SERVE(engine.max_num_batched_tokens), .min = 0, .max = 1 << 24},
    {"prefill_chunk_size", FLAG_INT, "0", "Engine",
     "size of a prefill chunk in tokens; 0 uses 256, on a GPU 1024; chunks end at multiples of it. In models with "
     "loops the result depends on it",
     SERVE(engine.prefill_chunk_size), .former = "prompt_piece", .min = 0, .max = 1 << 24},
    {"encoding", FLAG_CHOICE, "auto", "Engine",
     "prefill of models with loops: plan runs a prompt in one chunk, sequential one token of each prompt at a time, "
     "which "
     "is exact; auto chooses for each prompt when it starts",
     OWN(encoding), .choices = "auto|plan|sequential"},
    FLAG_COST_TABLE(struct options, cost_table, "Engine"),
    {"max_time_to_first_token", FLAG_NUMBER, "2", "Engine",
     "time to the first token, in seconds, up to which --encoding auto runs prompts one token at a time, unless the "
     "plan "
     "takes longer; 0 sets no limit",
     SERVE(engine.max_time_to_first_token), .min = 0, .max = 1e9},
    {"max_time_between_tokens", FLAG_NUMBER, "0", "Engine",
     "duration of a step, in seconds, up to which --encoding auto adds prompts to it one token at a time while other "
     "requests generate; 0 uses that of max_num_batched_tokens tokens by the plan",
     SERVE(engine.max_time_between_tokens), .min = 0, .max = 1e9},
    FLAGS_ENCODING_ITERATIONS(struct options, encoding_iterations, serve.engine.encoding_tolerance, "Engine"),
    {"batch_invariant", FLAG_SWITCH, NULL, "Engine",
     "make the response to a request independent, bit for bit, of the other requests in the batch; slower",
     SERVE(engine.batch_invariant)},
    {"kv_cache_memory", FLAG_INT, "0", "Engine",
     "size of the KV cache in bytes; 0 uses what max_num_seqs sequences need, at most half of the free memory",
     SERVE(engine.kv_cache_memory), .max = 1e15},

    FLAGS_RANKS(struct options, model.ranks),

    FLAG_DEVICE(struct options, model.device),
    FLAG_THREADS(struct options, model.threads),
    {"use_cpu", FLAG_SWITCH, NULL, "Common", "same as --device cpu", OWN(use_cpu)},
    {0},
};

static const char *const EXAMPLES[] = {
    "serve on this machine, with a chat page at http://127.0.0.1:8000/",
    "lckv serve --model_name_or_path demo-model",
    "serve other machines, with an API key",
    "lckv serve --model_name_or_path demo-model --host 0.0.0.0 --port 8080 --api_key SECRET",
    NULL,
};

static const flag_table TABLE = {
    "serve",
    "Serves a model over HTTP with an OpenAI-compatible API: /v1/completions, /v1/chat/completions, /v1/models,\n"
    "/tokenize, /health, /metrics. Requests run together (continuous batching). SIGTERM and Ctrl-C finish the running\n"
    "requests and stop the server.",
    "--model_name_or_path NAME [--port N]",
    FLAGS,
    .positional = "model_name_or_path",
    .examples = EXAMPLES,
};

#ifdef LCKV_SERVE
static bool stopping(void *user) {
    (void)user;
    return interrupted();
}

static void started(void *user, const char *host, int port) {
    const struct options *o = user;
    bool bare = strchr(host, ':') != NULL; /* an IPv6 address needs brackets in a URL */
    notice("serving '%s' on http://%s%s%s:%d", o->serve.model_name, bare ? "[" : "", host, bare ? "]" : "", port);
}

/* ORG/NAME in ".../models--ORG--NAME/snapshots/COMMIT" of the Hugging Face cache; NULL elsewhere. */
static char *name_in_cache(const char *path) {
    static const char BEGIN[] = "/models--", END[] = "/snapshots/";
    const char *begin = strstr(path, BEGIN), *end = begin ? strstr(begin, END) : NULL;
    if (!end || strchr(end + strlen(END), '/')) return NULL;
    char *name = need(strndup(begin + strlen(BEGIN), (size_t)(end - begin) - strlen(BEGIN))), *dashes;
    if ((dashes = strstr(name, "--"))) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    return name;
}

/* Default name of the model in the API. Release with free(). */
static char *name_of(const char *model) {
    struct stat info;
    char *path = stat(model, &info) == 0 ? realpath(model, NULL) : NULL;
    if (!path) return need(strdup(model)); /* ORG/NAME */
    char *name = name_in_cache(path);
    if (!name && strrchr(path, '/')[1]) name = need(strdup(strrchr(path, '/') + 1));
    free(path);
    return name ? name : need(strdup(model));
}

static void set_names(struct options *o, char **own) {
    *own = o->model_names.count ? NULL : name_of(o->model.name);
    o->serve.model_name = *own ? *own : o->model_names.items[0];
    o->serve.model_names = *own ? &o->serve.model_name : (const char *const *)o->model_names.items;
    o->serve.model_name_count = *own ? 1 : o->model_names.count;
    o->serve.model_path = o->model.name;
}

static void set_server(struct options *o) {
    o->serve.port = (int)o->port, o->serve.timeout = (int)o->timeout;
    o->serve.origins = (const char *const *)o->origins.items, o->serve.origin_count = o->origins.count;
    o->serve.hosts = (const char *const *)o->hosts.items, o->serve.host_count = o->hosts.count;
    o->serve.access_log = strcmp(o->access_log, "none") ? o->access_log : NULL;
    o->serve.engine.max_num_seqs = (int)o->max_num_seqs, o->serve.engine.max_queue = (int)o->max_queue;
    o->serve.engine.encoding_iterations = (int)o->encoding_iterations;
    o->serve.engine.kv_dtype = kv_dtype_name(o->model.kv_dtype);
    o->serve.encoding = (lckv_encoding)o->encoding;
    o->serve.stopping = stopping, o->serve.started = started, o->serve.user = o;
}

static int serve(struct options *o) {
    opened_model opened;
    char error[SERVE_ERROR_BYTES];
    char *key, *name, *costs = cost_table_path(o->cost_table);
    o->serve.engine.cost_table = costs;
    if (o->use_cpu) o->model.device = "cpu";
    int code = read_api_key("serve", o->api_key, o->api_key_file, &key);
    if (!code) code = open_model("serve", &o->model, false, &opened);
    if (!code) {
        set_names(o, &name);
        set_server(o);
        o->serve.api_key = key;
        if (opened.tokenizer) o->serve.tokenizer_name = model_tokenizer_name(&o->model);
        stop_on_scheduler_signals();
        code = serve_run(opened.model, &o->serve, error) ? EXIT_FINE : failure("serve", "%s", error);
        close_model(&opened);
        free(name);
    }
    free(key);
    free(costs);
    return code;
}

#else
static int serve(struct options *o) {
    (void)o;
    return failure("serve", "this lckv was built without libmicrohttpd, which lckv serve requires");
}
#endif

static int lead(void *user) {
    return serve(user);
}

static int follow(void *user) {
    struct options *o = user;
    if (o->use_cpu) o->model.device = "cpu";
    return follow_model(TABLE.command, &o->model);
}

int cmd_serve(int argc, char **argv) {
    struct options options = {.serve.engine = lckv_engine_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = ranks_run(TABLE.command, argv, &options.model.ranks, 1, lead, follow, &options);
    flags_free(&TABLE, &options);
    return code;
}
