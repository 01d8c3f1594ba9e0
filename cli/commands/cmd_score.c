/* lckv score: log-probabilities and logits of a text, token by token. */
#include "cli/flags/flags.h"
#include "cli/open_model.h"
#include "cli/output/output.h"
#include "cli/output/timer.h"
#include "cli/prompts.h"
#include "commands.h"
#include "lckv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of the flags. */
struct options {
    struct model_flags model;
    const char *text, *file;     /* text to score, or file with it; NULL: none */
    flag_list prompt_ids;        /* token ids to score, "1,15,7" */
    flag_list dump;              /* patterns of names, and the file for the activations */
    lckv_score_options score;    /* set directly by most flags */
    int64_t window_length;       /* tokens; used with sink_cache */
    int encoding;                /* an lckv_encoding */
    int64_t encoding_iterations; /* 0: the model's own number */
    bool no_special_tokens, sink_cache, json;
};

static const flag FLAGS[] = {
    FLAGS_MODEL(struct options, model, ". Required if there is text to encode or print"),
    {"torch_dtype", FLAG_CHOICE, "auto", "Model",
     "data type in memory of weights that are not quantized; auto keeps the type of the checkpoint",
     FLAG_INTO(struct options, model.torch_dtype), .choices = TORCH_DTYPES},
    FLAG_WEIGHT_DTYPE(struct options, model.weight_dtype, "Model"),
    {"bf16", FLAG_SWITCH, NULL, "Model",
     "compute in bfloat16 (matrix products, attention, KV cache) instead of float32",
     FLAG_INTO(struct options, score.bf16)},
    FLAG_KV_DTYPE(struct options, model.kv_dtype, "Model"),

    {"text", FLAG_TEXT, NULL, "Input", "text to score", FLAG_INTO(struct options, text)},
    {"file", FLAG_TEXT, NULL, "Input", "file to score: plain text, or one JSON line with text or input_ids",
     FLAG_INTO(struct options, file), .value = "FILE"},
    {"prompt_ids", FLAG_IDS, NULL, "Input", "token ids to score", FLAG_INTO(struct options, prompt_ids)},
    {"no_special_tokens", FLAG_SWITCH, NULL, "Input", "do not add special tokens such as BOS",
     FLAG_INTO(struct options, no_special_tokens)},

    {"encoding", FLAG_CHOICE, "auto", "Prefill",
     "prefill of models with loops: plan iterates the loops over all tokens at once, as in training; sequential runs "
     "one token at a time, which is exact; auto is sequential up to forward_passes + backward_passes tokens, then plan",
     FLAG_INTO(struct options, encoding), .choices = "auto|plan|sequential"},
    FLAGS_ENCODING_ITERATIONS(struct options, encoding_iterations, score.encoding_tolerance, "Prefill"),
    {"sink_cache", FLAG_SWITCH, NULL, "Prefill",
     "score token by token through a sink cache that keeps only the first and the most recent tokens (StreamingLLM)",
     FLAG_INTO(struct options, sink_cache)},
    {"window_length", FLAG_INT, "256", "Prefill", "size of the sink cache in tokens",
     FLAG_INTO(struct options, window_length), .min = 1, .max = 1 << 30},
    {"num_sink_tokens", FLAG_INT, "2", "Prefill", "number of those tokens that are the first ones of the sequence",
     FLAG_INTO(struct options, score.num_sink_tokens), .min = 0, .max = 1 << 30},
    {"logits", FLAG_TEXT, NULL, "Prefill",
     "safetensors file for the logits: tensor `logits` [tokens, vocab_size], float32",
     FLAG_INTO(struct options, score.logits_file), .value = "FILE"},

    {"dump", FLAG_PAIR, NULL, "Activations",
     "names of activations to write, and the safetensors file for them; names are patterns such as "
     "'layers.*.{hidden,attn,k,v}'. hidden: residual stream after the layer; attn: attention output before o_proj; k, "
     "v: as cached, of slot owners only. Each is float32 [tokens, ..]",
     FLAG_INTO(struct options, dump), .value = "NAMES FILE"},
    {"dump_iterations", FLAG_SWITCH, NULL, "Activations",
     "with --dump, write every iteration of a loop (layers.1.run.0.hidden) instead of the last one only",
     FLAG_INTO(struct options, score.dump_iterations), .former = "dump_runs"},

    FLAGS_RANKS(struct options, model.ranks),

    FLAG_JSON(struct options, json),
    FLAG_DEVICE(struct options, model.device),
    FLAG_THREADS(struct options, model.threads),
    {0},
};

static const char *const EXAMPLES[] = {
    "perplexity of a text",
    "lckv score --model_name_or_path demo-model --text \"It is a truth universally acknowledged\"",
    "activations of the layers",
    "lckv score --model_name_or_path demo-model --text 'It is a truth' --dump 'layers.*.{hidden,k}' inside.safetensors",
    NULL,
};

static const flag_table TABLE = {
    "score",
    "Prints the mean negative log-likelihood (nats per token) and the perplexity of a text or of token ids; with "
    "--json also the log-probability of each token.",
    "--model_name_or_path NAME --text TEXT",
    FLAGS,
    .positional = "model_name_or_path text",
    .examples = EXAMPLES,
};

static bool show_progress(void *user, double fraction) {
    (void)user;
    if (progress_due()) progress(fraction, "scoring %3.0f %%", 100 * fraction);
    return !interrupted();
}

/* The first token has no context and is not scored. */
static double mean_nll(const float *logprobs, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum -= logprobs[i];
    return count ? sum / (double)count : NAN;
}

static void print_result(const given_prompt *p, const float *logprobs, bool json) {
    double nll = mean_nll(logprobs, p->count - 1);
    if (!json) {
        char line[128];
        snprintf(line, sizeof line, "tokens      %lld\nmean_nll    %.6f\nperplexity  %.4f\n", (long long)p->count, nll,
                 exp(nll));
        print_bytes(line, strlen(line));
        return;
    }
    json_t *ids = json_array(), *values = json_array();
    for (int64_t i = 0; i < p->count; i++) json_array_append_new(ids, json_integer(p->ids[i]));
    for (int64_t i = 0; i + 1 < p->count; i++) json_array_append_new(values, json_real(logprobs[i]));
    json_t *result = json_pack("{s:I, s:I, s:o, s:o, s:o, s:o}", "tokens", (json_int_t)p->count, "scored_tokens",
                               (json_int_t)(p->count - 1), "ids", ids, "logprobs", values, "mean_nll",
                               number_or_null(nll), "perplexity", number_or_null(exp(nll)));
    print_json(result);
    json_decref(result);
}

/* The first token has no context and is not scored. */
static void notice_speed(int64_t count, double seconds) {
    char tokens[48], scored[32], speed[32];
    human_quantity(count, "token", tokens);
    if (count == 1)
        notice("%s: nothing to score, because the first token has no context", tokens);
    else
        notice("%s, %s scored, %s tokens/s", tokens, human_grouped(count - 1, scored),
               human_rate((double)count / seconds, speed));
}

static int run(const struct options *o, const given_prompt *p, opened_model *m) {
    double start = timer_seconds();
    float *logprobs = need(calloc((size_t)p->count + 1, sizeof *logprobs));
    lckv_score_options score = o->score;
    score.go_on = show_progress;
    score.kv_dtype = kv_dtype_name(o->model.kv_dtype);
    int status = lckv_score(m->model, p->ids, p->count, &score, logprobs);
    progress_end();
    int code = status < 0 ? library_error(TABLE.command, status) : EXIT_FINE;
    if (!code) print_result(p, logprobs, o->json);
    if (!code) notice_speed(p->count, timer_seconds() - start);
    free(logprobs);
    return code;
}

static int read_text(const struct options *o, prompt_list *list) {
    int code = EXIT_FINE;
    if (o->text) prompts_add_text(list, "--text", o->text, strlen(o->text));
    if (o->file) code = prompts_add_file(TABLE.command, list, o->file, false);
    for (int i = 0; i < o->prompt_ids.count && !code; i++)
        code = prompts_add_ids(TABLE.command, list, o->prompt_ids.items[i]);
    if (code || list->count == 1) return code;
    return usage_error(TABLE.command, "expected exactly one of --text, --file and --prompt_ids, found %d texts",
                       list->count);
}

static int check(struct options *o) {
    lckv_score_options *s = &o->score;
    s->encoding = (lckv_encoding)o->encoding;
    s->encoding_iterations = (int)o->encoding_iterations;
    s->window_length = o->sink_cache ? o->window_length : 0;
    if (o->dump.count) s->dump = o->dump.items[0], s->dump_file = o->dump.items[1];
    if (s->dump_iterations && !s->dump) return usage_error(TABLE.command, "--dump_iterations requires --dump");
    return o->sink_cache ? check_sink_cache(TABLE.command, s->num_sink_tokens, o->window_length) : EXIT_FINE;
}

static int score(struct options *o) {
    prompt_list list = {0};
    opened_model m = {0};
    int code = check(o);
    if (!code) code = read_text(o, &list);
    if (!code) code = open_model(TABLE.command, &o->model, prompts_have_text(&list), &m);
    if (!code) code = prompts_encode(TABLE.command, &list, m.tokenizer, "", !o->no_special_tokens);
    if (!code) code = run(o, &list.items[0], &m);
    close_model(&m);
    prompts_free(&list);
    return code;
}

static int lead(void *user) {
    return score(user);
}

static int follow(void *user) {
    const struct options *o = user;
    return follow_model(TABLE.command, &o->model);
}

int cmd_score(int argc, char **argv) {
    struct options options = {.score = lckv_score_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = ranks_run(TABLE.command, argv, &options.model.ranks, 1, lead, follow, &options);
    flags_free(&TABLE, &options);
    return code;
}
