/* lckv generate: continues prompts. The flags are those of run_generation.py. Text is streamed to standard output, or
 * printed as one JSON object at the end. */
#include "cli/flags/flags.h"
#include "cli/generate_lines.h"
#include "cli/open_model.h"
#include "cli/output/output.h"
#include "cli/prompts.h"
#include "commands.h"
#include "lckv.h"
#include "src/generate/sampling_parameters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEQUENCES_TOGETHER = 1 << 20 };

/* Values of the flags. */
struct options {
    struct model_flags model;
    flag_list prompts, prompt_files, prompt_ids; /* texts; files; token ids, "1,15,7" */
    const char *prefix;                          /* text before each text prompt */
    const char *stop;                            /* stop string; NULL: none */
    const char *model_type;                      /* ignored */
    const char *output_file, *chat_template;     /* files; NULL: none */
    bool no_special_tokens;
    lckv_generate_options generate; /* set directly by most flags */
    int64_t seed;
    int64_t num_return_sequences; /* samples per prompt */
    int64_t window_length;        /* tokens; used with sink_cache */
    int64_t encoding_iterations;  /* 0: the model's own number */
    int encoding;                 /* an lckv_encoding */
    const char *cost_table;       /* file, or "none"; NULL: the default */
    bool sink_cache, fp16, use_cpu, json;
};

#define SAMPLING_FLAG(name, KIND, in_request, in_generate, in_chat, valid_min, valid_max, valid, json_min, json_max,   \
                      flag, flag_min, flag_max, help)                                                                  \
    {#flag,           FLAG_##KIND,    #in_generate, "Sampling", help, FLAG_INTO(struct options, generate.name),        \
     .min = flag_min, .max = flag_max},

static const flag FLAGS[] = {
    FLAGS_MODEL(struct options, model, ". Required if there is text to encode or print"),
    {"torch_dtype", FLAG_CHOICE, "auto", "Model",
     "data type in memory of weights that are not quantized; auto keeps the type of the checkpoint",
     FLAG_INTO(struct options, model.torch_dtype), .choices = TORCH_DTYPES,
     .note = "run_generation.py uses float32 by default; here --bf16 sets the type of computation"},
    FLAG_WEIGHT_DTYPE(struct options, model.weight_dtype, "Model"),
    {"bf16", FLAG_SWITCH, NULL, "Model",
     "compute in bfloat16 (matrix products, attention, KV cache) instead of float32",
     FLAG_INTO(struct options, generate.bf16)},
    FLAG_KV_DTYPE(struct options, model.kv_dtype, "Model"),
    {"fp16", FLAG_SWITCH, NULL, "Model", "same as --torch_dtype float16", FLAG_INTO(struct options, fp16),
     .note = "unlike in run_generation.py, only the weights are float16; --bf16 sets the type of computation"},
    {"model_type", FLAG_TEXT, NULL, "Model", "accepted for compatibility and ignored; config.json has the model type",
     FLAG_INTO(struct options, model_type), .value = "TYPE"},

    {"prompt", FLAG_TEXTS, NULL, "Prompts", "text to continue", FLAG_INTO(struct options, prompts),
     .note = "unlike run_generation.py, lckv adds special tokens such as BOS, and does not ask for a missing prompt"},
    {"prompt_file", FLAG_TEXTS, NULL, "Prompts",
     "file of prompts: a text file is one prompt, without the final line break; in JSON lines (.jsonl, .ndjson, .json) "
     "each line is a prompt with prompt, text, input_ids or messages (a conversation to answer)",
     FLAG_INTO(struct options, prompt_files), .value = "FILE"},
    {"chat_template", FLAG_TEXT, NULL, "Prompts", "file with the Jinja chat template; by default the tokenizer's own",
     FLAG_INTO(struct options, chat_template), .value = "FILE"},
    {"prompt_ids", FLAG_IDS, NULL, "Prompts", "token ids to continue; nothing is added",
     FLAG_INTO(struct options, prompt_ids)},
    {"prefix", FLAG_TEXT, "", "Prompts", "text to put before each text prompt; not printed",
     FLAG_INTO(struct options, prefix)},
    {"no_special_tokens", FLAG_SWITCH, NULL, "Prompts", "do not add special tokens such as BOS to prompts",
     FLAG_INTO(struct options, no_special_tokens)},
    {"encoding", FLAG_CHOICE, "auto", "Prompts",
     "prefill of models with loops: plan iterates the loops over all tokens at once; sequential runs one token of each "
     "prompt at a time, which is exact; auto is sequential up to forward_passes + backward_passes tokens, and where "
     "many "
     "prompts together are faster that way",
     FLAG_INTO(struct options, encoding), .choices = "auto|plan|sequential"},
    FLAG_COST_TABLE(struct options, cost_table, "Prompts"),
    FLAGS_ENCODING_ITERATIONS(struct options, encoding_iterations, generate.encoding_tolerance, "Prompts"),

    {"length", FLAG_INT, "20", "Text",
     "maximum number of new tokens; without a sink cache the context length is a limit too",
     FLAG_INTO(struct options, generate.length), .min = 1, .max = INFINITY},
    {"stop_token", FLAG_TEXT, NULL, "Text", "string at which generation stops; not part of the output",
     FLAG_INTO(struct options, stop),
     .note = "unlike run_generation.py, lckv searches only new text, and stops generating there"},
    {"ignore_eos", FLAG_SWITCH, NULL, "Text", "continue after EOS tokens",
     FLAG_INTO(struct options, generate.ignore_eos)},
    {"num_return_sequences", FLAG_INT, "1", "Text", "number of samples per prompt",
     FLAG_INTO(struct options, num_return_sequences), .min = 1, .max = 1 << 20},

    /* clang-format off */
    SAMPLING_PARAMETERS(SAMPLING_FLAG)
    /* clang-format on */
    {"seed", FLAG_INT, "42", "Sampling", "random seed; the same seed gives the same text",
     FLAG_INTO(struct options, seed), .min = 0, .max = INFINITY},

    {"sink_cache", FLAG_SWITCH, NULL, "Streaming",
     "keep only the first and the most recent tokens in the KV cache (StreamingLLM), for text of any length in "
     "constant memory",
     FLAG_INTO(struct options, sink_cache)},
    {"window_length", FLAG_INT, "256", "Streaming", "size of the sink cache in tokens",
     FLAG_INTO(struct options, window_length), .min = 1, .max = 1 << 30},
    {"num_sink_tokens", FLAG_INT, "2", "Streaming", "number of those tokens that are the first ones of the sequence",
     FLAG_INTO(struct options, generate.num_sink_tokens), .min = 0, .max = 1 << 30},

    FLAGS_RANKS(struct options, model.ranks),

    {"output_file", FLAG_TEXT, NULL, "Common",
     "file for JSON lines, one per prompt in order, written as prompts finish; nothing is printed. An incomplete file "
     "is resumed",
     FLAG_INTO(struct options, output_file), .value = "FILE"},
    FLAG_JSON(struct options, json),
    FLAG_DEVICE(struct options, model.device),
    FLAG_THREADS(struct options, model.threads),
    {"use_cpu", FLAG_SWITCH, NULL, "Common", "same as --device cpu", FLAG_INTO(struct options, use_cpu)},
    {0},
};

/* The other flags of run_generation.py. */
static const foreign_flag FOREIGN[] = {
    {"padding_text", .alias_of = "prefix"},
    {"xlm_language", FLAG_TEXT, "applies to XLM models only, which lckv does not run"},
    {"jit", FLAG_SWITCH, "the program is compiled already"},
    {"no_cuda", .alias_of = "use_cpu"},
    {0},
};

static const char *const EXAMPLES[] = {
    "continue a text",
    "lckv generate --model_name_or_path demo-model --prompt \"Mr. Darcy\" --length 60",
    "greedy decoding, as JSON",
    "lckv generate --model_name_or_path demo-model --prompt \"It is a truth\" --temperature 0 --json",
    "many prompts from a file, one line of output per prompt",
    "lckv generate --model_name_or_path demo-model --prompt_file prompts.jsonl --output_file answers.jsonl",
    NULL,
};

static const flag_table TABLE = {
    "generate",
    "Continues prompts. Text is streamed to standard output; with several sequences, each is printed when it and those "
    "before it are complete. Special tokens are not printed. Without a tokenizer, token ids are printed. The last line "
    "on standard error reports prompt tokens, new tokens and their rates. The first token of a sequence comes from its "
    "prefill and counts there in the rates.",
    "--model_name_or_path NAME --prompt TEXT",
    FLAGS,
    FOREIGN,
    .positional = "model_name_or_path prompt",
    .examples = EXAMPLES,
};

/* ---------------------------------------------------------------- streaming to standard output */

/* Text of one sequence that is not printed yet. */
struct pending_text {
    char *text; /* [bytes] */
    size_t bytes;
    bool complete; /* the sequence has ended */
};

struct printer {
    const prompt_list *prompts;
    lckv_tokenizer *tokenizer;    /* NULL: ids are printed */
    int samples;                  /* samples per prompt */
    struct pending_text *pending; /* [sequences] */
    int sequences;                /* number of sequences: samples of all prompts */
    int current;                  /* index of the sequence being printed */
    bool started;                 /* the prompt of the current sequence is printed */
    bool silent;                  /* a JSON object is printed at the end instead */
    bool output_failed;           /* standard output cannot be written */
};

static bool print_text(const char *text) {
    return print_bytes(text, strlen(text));
}

/* Prints the prompt of the current sequence, after a heading if there are several sequences. */
static bool begin_sequence(struct printer *p) {
    const given_prompt *prompt = &p->prompts->items[p->current / p->samples];
    char label[64];
    snprintf(label, sizeof label, "=== GENERATED SEQUENCE %d ===\n", p->current + 1);
    p->started = true;
    if (p->sequences > 1 && !print_text(label)) return false;
    if (!p->tokenizer) return true;
    if (prompt->text && !prompt->messages) return print_bytes(prompt->text, prompt->text_bytes);
    char *text;
    size_t bytes;
    if (lckv_tokenizer_decode(p->tokenizer, prompt->ids, (size_t)prompt->count, true, &text, &bytes) < 0) return true;
    bool printed = print_bytes(text, bytes);
    lckv_free(text);
    return printed;
}

/* Prints the pending text of the current sequence, then that of the following ones while they are complete. */
static bool print_pending(struct printer *p) {
    while (p->current < p->sequences) {
        struct pending_text *w = &p->pending[p->current];
        if (p->sequences > 1 && !w->complete) break;
        if (!p->started && !begin_sequence(p)) return false;
        if (!print_bytes(w->text, w->bytes)) return false;
        w->bytes = 0;
        if (!w->complete) break;
        if (!print_text("\n")) return false;
        p->current++;
        p->started = false;
    }
    return print_flush();
}

static void append(struct pending_text *w, const char *text, size_t bytes) {
    w->text = need(realloc(w->text, w->bytes + bytes + 1));
    memcpy(w->text + w->bytes, text, bytes);
    w->bytes += bytes;
}

static bool on_token(void *user, const lckv_token *token) {
    struct printer *p = user;
    if (interrupted()) return false;
    if (!token || p->silent) return true;
    int at = token->prompt * p->samples + token->sample;
    struct pending_text *w = &p->pending[at];
    char id[16];
    bool first = !w->text;
    snprintf(id, sizeof id, first ? "%d" : ",%d", (int)token->id);
    if (p->tokenizer)
        append(w, token->text, token->text_bytes);
    else
        append(w, id, strlen(id));
    w->complete = token->finish != LCKV_FINISH_NONE;
    if (at == p->current) p->output_failed = !print_pending(p);
    return !p->output_failed;
}

/* ---------------------------------------------------------------- results */

static json_t *ids_json(const int32_t *ids, int64_t count) {
    json_t *array = json_array();
    for (int64_t i = 0; i < count; i++) json_array_append_new(array, json_integer(ids[i]));
    return array;
}

static double rate(double amount, double seconds) {
    return seconds > 0 ? amount / seconds : 0;
}

static int64_t new_tokens(const lckv_generation *g) {
    int64_t tokens = 0;
    for (int i = 0; i < g->count; i++) tokens += g->sequences[i].count;
    return tokens;
}

static json_t *timing_json(const lckv_generation *g) {
    return json_pack("{s:I, s:I, s:f, s:f, s:I, s:f, s:f, s:f}", "new_tokens", (json_int_t)new_tokens(g),
                     "prompt_tokens", (json_int_t)g->prompt_tokens, "prompt_seconds", g->prompt_seconds,
                     "prompt_tokens_per_second", rate((double)g->prompt_tokens, g->prompt_seconds), "decode_tokens",
                     (json_int_t)g->decode_tokens, "decode_seconds", g->decode_seconds, "decode_tokens_per_second",
                     rate((double)g->decode_tokens, g->decode_seconds), "decode_gigabytes_per_second",
                     rate(g->decode_bytes / 1e9, g->decode_seconds));
}

static void print_result(const lckv_generation *g, const prompt_list *prompts) {
    json_t *sequences = json_array();
    for (int i = 0; i < g->count; i++) {
        const lckv_sequence *s = &g->sequences[i];
        const given_prompt *p = &prompts->items[s->prompt];
        json_t *text = s->text ? json_stringn(s->text, s->text_bytes) : json_null();
        json_array_append_new(sequences,
                              json_pack("{s:o, s:o, s:o, s:s, s:s}", "prompt_ids", ids_json(p->ids, p->count), "ids",
                                        ids_json(s->ids, s->count), "text", text, "finish_reason",
                                        s->finish == LCKV_FINISH_STOP ? "stop" : "length", "encoding",
                                        encoding_name(s->encoding)));
    }
    json_t *result = json_pack("{s:o, s:o}", "sequences", sequences, "timing", timing_json(g));
    print_json(result);
    json_decref(result);
}

/* Writes "60 tokens, 2,058 tokens/s", without the rate if no time was measured. */
static void write_speed(char out[128], int64_t tokens, double tokens_per_second) {
    char count[48], speed[32];
    human_quantity(tokens, "token", count);
    if (tokens_per_second > 0)
        snprintf(out, 128, "%s, %s tokens/s", count, human_rate(tokens_per_second, speed));
    else
        snprintf(out, 128, "%s", count);
}

/* `decode` counts all new tokens, but its rate covers only steps that decode and nothing else: prefill produces the
 * first token of a sequence. */
static void notice_speed(const lckv_generation *g) {
    char prefill[128], decode[128], weights[64] = "";
    write_speed(prefill, g->prompt_tokens, rate((double)g->prompt_tokens, g->prompt_seconds));
    write_speed(decode, new_tokens(g), rate((double)g->decode_tokens, g->decode_seconds));
    if (g->decode_tokens)
        snprintf(weights, sizeof weights, ", %.2f GB/s of weights", rate(g->decode_bytes / 1e9, g->decode_seconds));
    notice("prefill: %s; decode: %s%s", prefill, decode, weights);
}

/* ---------------------------------------------------------------- the command */

static int generate_streaming(const struct options *o, const prompt_list *prompts, opened_model *m) {
    int samples = (int)o->num_return_sequences, sequences = prompts->count * samples;
    lckv_prompt *inputs = need(calloc((size_t)prompts->count, sizeof *inputs));
    struct printer printer = {.prompts = prompts,
                              .tokenizer = m->tokenizer,
                              .samples = samples,
                              .pending = need(calloc((size_t)sequences, sizeof(struct pending_text))),
                              .sequences = sequences,
                              .silent = o->json};
    for (int i = 0; i < prompts->count; i++) inputs[i] = (lckv_prompt){prompts->items[i].ids, prompts->items[i].count};
    lckv_generate_options generate = o->generate;
    generate.callback = on_token;
    generate.user = &printer;
    lckv_generation *result;
    int status = lckv_generate(m->model, m->tokenizer, inputs, prompts->count, &generate, &result);
    int code = EXIT_FINE;
    if (status < 0) code = printer.output_failed ? EXIT_FAILED : library_error(TABLE.command, status);
    if (!code && o->json) print_result(result, prompts);
    if (!code) notice_speed(result);
    lckv_generation_free(result);
    for (int i = 0; i < sequences; i++) free(printer.pending[i].text);
    free(printer.pending);
    free(inputs);
    return code;
}

static int read_prompts(const struct options *o, prompt_list *prompts) {
    int code = EXIT_FINE;
    for (int i = 0; i < o->prompts.count; i++)
        prompts_add_text(prompts, "--prompt", o->prompts.items[i], strlen(o->prompts.items[i]));
    for (int i = 0; i < o->prompt_files.count && !code; i++)
        code = prompts_add_file(TABLE.command, prompts, o->prompt_files.items[i], true);
    for (int i = 0; i < o->prompt_ids.count && !code; i++)
        code = prompts_add_ids(TABLE.command, prompts, o->prompt_ids.items[i]);
    if (code) return code;
    if (!prompts->count)
        return usage_error(TABLE.command, "no prompt given; use --prompt, --prompt_file or --prompt_ids");
    int64_t sequences = prompts->count * o->num_return_sequences;
    if (sequences <= MAX_SEQUENCES_TOGETHER || o->output_file) return EXIT_FINE;
    return usage_error(TABLE.command, "found %lld sequences, expected at most %d; use --output_file for more",
                       (long long)sequences, MAX_SEQUENCES_TOGETHER);
}

static int check(struct options *o) {
    lckv_generate_options *g = &o->generate;
    if (o->use_cpu) o->model.device = "cpu";
    if (o->fp16) o->model.torch_dtype = TORCH_DTYPE_FLOAT16;
    g->seed = (uint64_t)o->seed;
    g->kv_dtype = kv_dtype_name(o->model.kv_dtype);
    g->num_return_sequences = (int)o->num_return_sequences;
    g->encoding = (lckv_encoding)o->encoding;
    g->encoding_iterations = (int)o->encoding_iterations;
    g->stop = &o->stop;
    g->stop_count = o->stop ? 1 : 0;
    g->window_length = o->sink_cache ? o->window_length : 0;
    if (o->output_file && o->json) return usage_error(TABLE.command, "--output_file and --json cannot be combined");
    if (o->stop && !*o->stop) return usage_error(TABLE.command, "--stop_token is empty");
    return o->sink_cache ? check_sink_cache(TABLE.command, g->num_sink_tokens, o->window_length) : EXIT_FINE;
}

static int render_messages(const struct options *o, prompt_list *prompts) {
    lckv_chat_template *chat_template;
    if (!prompts_have_messages(prompts)) return EXIT_FINE;
    int code = open_chat_template(TABLE.command, &o->model, o->chat_template, &chat_template);
    if (!code && !chat_template)
        code = failure(
            TABLE.command,
            "the prompts contain messages, but the checkpoint has no chat template; give one with --chat_template");
    if (!code) code = prompts_render(TABLE.command, prompts, chat_template);
    lckv_chat_template_free(chat_template);
    return code;
}

static int generate(struct options *o) {
    prompt_list prompts = {.takes_messages = true};
    opened_model m = {0};
    char *path = cost_table_path(o->cost_table);
    int code = check(o);
    if (!code) code = read_prompts(o, &prompts);
    if (!code) code = render_messages(o, &prompts);
    if (!code) code = open_model(TABLE.command, &o->model, prompts_have_text(&prompts) || o->stop, &m);
    if (!code) code = prompts_encode(TABLE.command, &prompts, m.tokenizer, o->prefix, !o->no_special_tokens);
    o->generate.cost_table = path;
    if (!code && o->output_file)
        code = generate_lines(TABLE.command, &m, &prompts, &o->generate, o->output_file);
    else if (!code)
        code = generate_streaming(o, &prompts, &m);
    close_model(&m);
    prompts_free(&prompts);
    free(path);
    return code;
}

static int lead(void *user) {
    return generate(user);
}

static int follow(void *user) {
    struct options *o = user;
    int code = check(o);
    return code ? code : follow_model(TABLE.command, &o->model);
}

int cmd_generate(int argc, char **argv) {
    struct options options = {.generate = lckv_generate_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = ranks_run(TABLE.command, argv, &options.model.ranks, 1, lead, follow, &options);
    flags_free(&TABLE, &options);
    return code;
}
