/* lckv eval: tasks of lm-evaluation-harness, or the perplexity of long texts (eval_text.c). */
#include "cli/flags/flags.h"
#include "cli/open_model.h"
#include "cli/output/eval_table.h"
#include "cli/output/eval_text.h"
#include "cli/output/output.h"
#include "commands.h"
#include "lckv.h"

#include <stdlib.h>
#include <string.h>

/* Values of the flags. */
struct options {
    struct model_flags model;
    flag_list tasks;        /* names of tasks, or .json files */
    lckv_eval_options eval; /* set directly by most flags */
    struct eval_text text;  /* with --file */
    const char *output;     /* JSON file for the results; NULL: none */
    int64_t fewshot_seed;
    int encoding;           /* an lckv_encoding */
    const char *cost_table; /* file, or "none"; NULL: the default */
    bool bf16, json;
};

static const flag FLAGS[] = {
    FLAGS_MODEL(struct options, model, ""),
    {"torch_dtype", FLAG_CHOICE, "auto", "Model",
     "data type in memory of weights that are not quantized; auto keeps the type of the checkpoint",
     FLAG_INTO(struct options, model.torch_dtype), .choices = TORCH_DTYPES},
    FLAG_WEIGHT_DTYPE(struct options, model.weight_dtype, "Model"),
    {"bf16", FLAG_SWITCH, NULL, "Model", "compute in bfloat16 (matrix products, attention) instead of float32",
     FLAG_INTO(struct options, bf16)},
    FLAG_KV_DTYPE(struct options, model.kv_dtype, "Model"),

    {"tasks", FLAG_FILES, NULL, "Tasks",
     "tasks: hellaswag, openbookqa, winogrande, arc_challenge, arc_easy, boolq, piqa, mmlu, lambada_openai, sciq, or "
     ".json files that define other tasks; by default the first seven",
     FLAG_INTO(struct options, tasks), .value = "TASK,..."},
    {"data_dir", FLAG_TEXT, NULL, "Tasks",
     "folder with the documents of the tasks, such as piqa.jsonl or piqa/validation.jsonl",
     FLAG_INTO(struct options, eval.data_dir), .value = "FOLDER"},
    {"num_fewshot", FLAG_INT, "-1", "Tasks", "number of few-shot examples; -1 uses the default of the task",
     FLAG_INTO(struct options, eval.num_fewshot), .min = -1, .max = 1000},
    {"fewshot_seed", FLAG_INT, "1234", "Tasks", "random seed for choosing few-shot examples",
     FLAG_INTO(struct options, fewshot_seed), .min = 0, .max = 4294967295.0},
    {"limit", FLAG_NUMBER, "0", "Tasks", "maximum number of documents per task; below 1, a fraction; 0 uses all",
     FLAG_INTO(struct options, eval.limit), .min = 0, .max = 1e12},
    {"file", FLAG_FILES, NULL, "Texts",
     "text files to measure the perplexity of, instead of tasks: plain text, JSON lines with text or input_ids, or "
     "folders of .txt and .jsonl files",
     FLAG_INTO(struct options, text.files), .value = "FILE,..."},
    {"num_samples", FLAG_INT, "0", "Texts", "maximum number of texts; 0 uses all",
     FLAG_INTO(struct options, text.num_samples), .min = 0, .max = 1e12},
    {"num_eval_tokens", FLAG_INT, "0", "Texts", "maximum number of tokens to score; 0 scores all",
     FLAG_INTO(struct options, text.perplexity.num_eval_tokens), .min = 0, .max = 1e15},
    {"block_size", FLAG_INT, "0", "Texts", "window size in tokens; 0 uses max_position_embeddings",
     FLAG_INTO(struct options, text.perplexity.block_size), .min = 0, .max = 1 << 30},
    {"stride", FLAG_INT, "0", "Texts", "distance between windows in tokens; 0 uses half a window",
     FLAG_INTO(struct options, text.perplexity.stride), .min = 0, .max = 1 << 30},
    {"streaming", FLAG_SWITCH, NULL, "Texts",
     "score token by token through a sink cache that keeps only the first and the most recent tokens (StreamingLLM), "
     "instead of in windows",
     FLAG_INTO(struct options, text.perplexity.streaming)},
    {"window_length", FLAG_INT, "256", "Texts", "size of the sink cache in tokens, with --streaming",
     FLAG_INTO(struct options, text.perplexity.window_length), .min = 1, .max = 1 << 30},
    {"num_sink_tokens", FLAG_INT, "2", "Texts",
     "number of those tokens that are the first ones of the text, with --streaming",
     FLAG_INTO(struct options, text.perplexity.num_sink_tokens), .min = 0, .max = 1 << 30},
    {"start_position", FLAG_INT, "0", "Texts",
     "position offset of the first token after the sinks, as if that many tokens had been evicted, with --streaming",
     FLAG_INTO(struct options, text.perplexity.start_position), .min = 0, .max = 1e15},
    {"no_special_tokens", FLAG_SWITCH, NULL, "Texts", "do not add special tokens such as BOS",
     FLAG_INTO(struct options, text.no_special_tokens)},

    {"encoding", FLAG_CHOICE, "auto", "Prefill",
     "prefill of models with loops: plan iterates the loops over all tokens at once, as in training; sequential runs "
     "one "
     "token at a time, which is exact; auto uses sequential for tasks if it is faster for all documents together, else "
     "plan",
     FLAG_INTO(struct options, encoding), .choices = "auto|plan|sequential"},
    FLAG_COST_TABLE(struct options, cost_table, "Prefill"),

    {"output", FLAG_TEXT, NULL, "Output", "JSON file for the results, in the format of lm-evaluation-harness",
     FLAG_INTO(struct options, output), .value = "FILE"},
    {"output_dir", FLAG_TEXT, NULL, "Output",
     "with --file, folder for log.txt (negative log-likelihood of each token), ppl.txt, curve.csv and curve.svg (loss "
     "by position)",
     FLAG_INTO(struct options, text.output_dir), .value = "FOLDER"},
    {"log_samples", FLAG_SWITCH, NULL, "Output",
     "include the context, continuations and log-likelihoods of each document in the results",
     FLAG_INTO(struct options, eval.log_samples)},

    FLAGS_RANKS(struct options, model.ranks),

    FLAG_JSON(struct options, json),
    FLAG_DEVICE(struct options, model.device),
    FLAG_THREADS(struct options, model.threads),
    {0},
};

#define FILES_ARE_NAMED "the files given by --dataset_name or --file are read as they are"

/* Names of test_streaming.py and test_harness.py. */
static const foreign_flag FOREIGN[] = {
    {"sink_cache", FLAG_SWITCH, .alias_of = "streaming"},
    {"dataset_name", FLAG_LIST, .alias_of = "file"},
    {"dtype", FLAG_TEXT, .alias_of = "torch_dtype"},
    {"tokenizer_name_or_path", FLAG_TEXT, .alias_of = "tokenizer_name"},
    {"download_streaming", FLAG_SWITCH, .no_effect = "nothing is downloaded: " FILES_ARE_NAMED},
    {"task", FLAG_TEXT, .no_effect = FILES_ARE_NAMED},
    {"split", FLAG_TEXT, .no_effect = FILES_ARE_NAMED, .refused = FILES_ARE_NAMED "; name other files",
     .accepted = "test"},
    {"revision", FLAG_TEXT, .refused = "use lckv fetch --revision to fetch another revision", .accepted = "main"},
    {0},
};

static const char *const EXAMPLES[] = {
    "two tasks of lm-evaluation-harness, with documents from a folder",
    "lckv eval --model_name_or_path demo-model --data_dir documents --tasks hellaswag,piqa",
    "the perplexity of a long text",
    "lckv eval --model_name_or_path demo-model --file data/pride_and_prejudice.txt --num_eval_tokens 2000",
    NULL,
};

static const flag_table TABLE = {
    "eval",
    "Evaluates a model on tasks of lm-evaluation-harness, with the same prompts, and prints the same table of "
    "accuracies and standard errors. With --file, measures the perplexity of long texts instead, in windows or as a "
    "stream.",
    "--model_name_or_path NAME --data_dir FOLDER [--tasks TASK,...]",
    FLAGS,
    FOREIGN,
    .positional = "model_name_or_path",
    .examples = EXAMPLES,
};

/* Default tasks, those of test_harness.py. */
static const char *const SEVEN_TASKS[] = {"hellaswag", "openbookqa", "winogrande", "arc_challenge",
                                          "arc_easy",  "boolq",      "piqa"};

static bool show(void *user, const lckv_eval_progress *p) {
    char left[32], all[48];
    (void)user;
    if (!progress_due()) return !interrupted();
    human_time(p->seconds_left, left);
    progress((double)p->done / (double)p->documents, "%s  %lld/%s  %s left", p->task, (long long)p->done,
             human_quantity(p->documents, "document", all), left);
    return !interrupted();
}

static int print_results(const struct options *o, const char *text) {
    json_t *results = json_loads(text, 0, NULL);
    if (!results) return failure(TABLE.command, "the results are not valid JSON");
    bool written = !o->json || print_json(results);
    if (!o->json) print_eval_tables(results);
    json_decref(results);
    return written ? EXIT_FINE : EXIT_FAILED;
}

static int run(const struct options *o, opened_model *m) {
    char *text;
    progress(-1, "reading the tasks");
    int status = lckv_eval(m->model, m->tokenizer, &o->eval, &text);
    progress_end();
    if (status < 0) return library_error(TABLE.command, status);
    int code = o->output ? make_parent_folders(TABLE.command, o->output) : EXIT_FINE;
    if (!code && o->output) code = write_file(TABLE.command, o->output, text);
    if (!code) code = print_results(o, text);
    lckv_free(text);
    return code;
}

static int eval_tasks(struct options *o) {
    opened_model m;
    lckv_eval_options *e = &o->eval;
    if (!e->data_dir)
        return usage_error(TABLE.command, "--data_dir is required: the folder with the documents of the tasks");
    e->tasks = o->tasks.count ? (const char *const *)o->tasks.items : SEVEN_TASKS;
    e->task_count = o->tasks.count ? o->tasks.count : (int)(sizeof SEVEN_TASKS / sizeof *SEVEN_TASKS);
    e->fewshot_seed = (uint32_t)o->fewshot_seed;
    e->encoding = (lckv_encoding)o->encoding;
    e->bf16 = o->bf16;
    e->kv_dtype = kv_dtype_name(o->model.kv_dtype);
    e->callback = show;
    char *path = cost_table_path(o->cost_table);
    e->cost_table = path;
    int code = open_model(TABLE.command, &o->model, true, &m);
    if (!code) code = run(o, &m);
    close_model(&m);
    free(path);
    return code;
}

static int eval_long_texts(struct options *o) {
    lckv_perplexity_options *p = &o->text.perplexity;
    int code = p->streaming ? check_sink_cache(TABLE.command, p->num_sink_tokens, p->window_length) : EXIT_FINE;
    if (code) return code;
    if (p->block_size == 1) return usage_error(TABLE.command, "--block_size: expected 0 or at least 2, found 1");
    if (p->block_size && p->stride >= p->block_size)
        return usage_error(TABLE.command, "--stride (%lld) must be less than --block_size (%lld)", (long long)p->stride,
                           (long long)p->block_size);
    p->encoding = (lckv_encoding)o->encoding;
    p->bf16 = o->bf16;
    p->kv_dtype = kv_dtype_name(o->model.kv_dtype);
    o->text.json = o->json;
    return eval_texts(TABLE.command, &o->text, &o->model);
}

/* A flag of tasks with --file, or of texts without, would do nothing. */
static int check_kind(const struct options *o, bool has_tasks) {
    const lckv_perplexity_options *p = &o->text.perplexity, usual = lckv_perplexity_defaults();
    const struct {
        const char *name;
        bool of_tasks, given;
    } LIST[] = {
        {"num_fewshot", true, o->eval.num_fewshot >= 0},
        {"fewshot_seed", true, o->fewshot_seed != lckv_eval_defaults().fewshot_seed},
        {"limit", true, o->eval.limit != 0},
        {"log_samples", true, o->eval.log_samples},
        {"output", true, o->output},
        {"num_samples", false, o->text.num_samples},
        {"num_eval_tokens", false, p->num_eval_tokens},
        {"block_size", false, p->block_size},
        {"stride", false, p->stride},
        {"streaming", false, p->streaming},
        {"window_length", false, p->window_length != usual.window_length},
        {"num_sink_tokens", false, p->num_sink_tokens != usual.num_sink_tokens},
        {"start_position", false, p->start_position},
        {"no_special_tokens", false, o->text.no_special_tokens},
        {"output_dir", false, o->text.output_dir},
    };
    for (size_t i = 0; i < sizeof LIST / sizeof *LIST; i++)
        if (LIST[i].given && LIST[i].of_tasks != has_tasks)
            return usage_error(TABLE.command, "--%s has no effect %s --file", LIST[i].name,
                               has_tasks ? "without" : "with");
    return EXIT_FINE;
}

static int eval(struct options *o) {
    bool has_tasks = o->tasks.count || o->eval.data_dir, has_texts = o->text.files.count;
    if (has_tasks == has_texts)
        return usage_error(TABLE.command, "expected either --data_dir (with --tasks) or --file");
    int code = check_kind(o, has_tasks);
    if (code) return code;
    return has_tasks ? eval_tasks(o) : eval_long_texts(o);
}

static int lead(void *user) {
    return eval(user);
}

static int follow(void *user) {
    const struct options *o = user;
    return follow_model(TABLE.command, &o->model);
}

int cmd_eval(int argc, char **argv) {
    struct options options = {.eval = lckv_eval_defaults(), .text.perplexity = lckv_perplexity_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = ranks_run(TABLE.command, argv, &options.model.ranks, 1, lead, follow, &options);
    flags_free(&TABLE, &options);
    return code;
}
