/* lckv eval: the harness's tasks. */
#include "commands.h"
#include "eval_table.h"
#include "flags.h"
#include "lckv.h"
#include "model.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>

struct options {
    struct model_flags model;
    flag_list tasks;
    lckv_eval_options eval; /* most flags go straight into the library's options */
    const char *output;
    int64_t fewshot_seed;
    int encoding;
    bool json;
};

static const flag FLAGS[] = {
    {"model_name_or_path", FLAG_TEXT, NULL, "Model", "checkpoint: a folder or ORG/NAME",
     FLAG_INTO(struct options, model.name), .value = "NAME", .required = true},
    {"config_overrides", FLAG_TEXT, NULL, "Model", "changes to its config, such as forward_passes=3,sliding_window=64",
     FLAG_INTO(struct options, model.config_overrides), .value = "K=V,..."},
    {"tokenizer_name", FLAG_TEXT, NULL, "Model",
     "folder or ORG/NAME of the tokenizer; the model's own one unless given",
     FLAG_INTO(struct options, model.tokenizer_name), .value = "NAME"},
    {"torch_dtype", FLAG_CHOICE, "auto", "Model", "type of the weights in memory; auto: as they are stored",
     FLAG_INTO(struct options, model.torch_dtype), .choices = TORCH_DTYPES},
    {"bf16", FLAG_SWITCH, NULL, "Model", "compute in bfloat16: products, attention; else in float32",
     FLAG_INTO(struct options, eval.bf16)},

    {"tasks", FLAG_LIST, NULL, "Tasks",
     "hellaswag, openbookqa, winogrande, arc_challenge, arc_easy, boolq, piqa, mmlu, lambada_openai, sciq; or files "
     "(.json) that describe others",
     FLAG_INTO(struct options, tasks), .value = "TASK,..."},
    {"data_dir", FLAG_TEXT, NULL, "Tasks",
     "folder of the tasks' documents, such as piqa.jsonl.gz or piqa/validation.jsonl",
     FLAG_INTO(struct options, eval.data_dir), .value = "FOLDER"},
    {"num_fewshot", FLAG_INT, "-1", "Tasks", "examples before each document; -1: as the task says",
     FLAG_INTO(struct options, eval.num_fewshot), .min = -1, .max = 1000},
    {"fewshot_seed", FLAG_INT, "1234", "Tasks", "seed of the choice of examples",
     FLAG_INTO(struct options, fewshot_seed), .min = 0, .max = 4294967295.0},
    {"limit", FLAG_NUMBER, "0", "Tasks",
     "documents a task, the first ones; below 1: of so large a part of them; 0: all",
     FLAG_INTO(struct options, eval.limit), .min = 0, .max = 1e12},
    {"encoding", FLAG_CHOICE, "auto", "Tasks",
     "how tokens enter a model with loops: auto, plan: by the plan, as in training; sequential: one at a time, which "
     "is "
     "exact and slow",
     FLAG_INTO(struct options, encoding), .choices = "auto|plan|sequential"},

    {"output", FLAG_TEXT, NULL, "Output", "write the results there, in the layout of the harness's results file (JSON)",
     FLAG_INTO(struct options, output), .value = "FILE"},
    {"log_samples", FLAG_SWITCH, NULL, "Output",
     "with each document's context, continuations and log-likelihoods in the results",
     FLAG_INTO(struct options, eval.log_samples)},

    FLAG_JSON(struct options, json),
    FLAG_DEVICE(struct options, model.device),
    FLAG_THREADS(struct options, model.threads),
    {0},
};

static const flag_table TABLE = {
    "eval",
    "Asks a model the tasks of lm-evaluation-harness, in its words, and prints its table: accuracy with standard\n"
    "errors.",
    "--model_name_or_path NAME --tasks TASK,... --data_dir FOLDER",
    FLAGS,
};

static bool show(void *user, const lckv_eval_progress *p) {
    char left[32];
    (void)user;
    people_time(p->seconds_left, left);
    progress((double)p->done / (double)p->documents, "%s  %lld/%lld documents  %s left", p->task, (long long)p->done,
             (long long)p->documents, left);
    return !interrupted();
}

static int print_results(const struct options *o, const char *text) {
    json_t *results = json_loads(text, 0, NULL);
    if (!results) return failure(TABLE.command, "the results are not JSON");
    bool written = !o->json || print_json(results);
    if (!o->json) print_eval_tables(results);
    json_decref(results);
    return written ? EXIT_FINE : EXIT_FAILED;
}

static int run(const struct options *o, opened_model *m) {
    char *text;
    int status = lckv_eval(m->model, m->tokenizer, &o->eval, &text);
    progress_end();
    if (status < 0) return library_error(TABLE.command, status);
    int code = o->output ? write_file(TABLE.command, o->output, text) : EXIT_FINE;
    if (!code) code = print_results(o, text);
    lckv_free(text);
    return code;
}

static int eval(struct options *o) {
    opened_model m;
    lckv_eval_options *e = &o->eval;
    if (!o->tasks.count) return usage_error(TABLE.command, "--tasks names what is evaluated");
    if (!e->data_dir) return usage_error(TABLE.command, "--data_dir says where the tasks' documents are");
    e->tasks = (const char *const *)o->tasks.items;
    e->task_count = o->tasks.count;
    e->fewshot_seed = (uint32_t)o->fewshot_seed;
    e->encoding = (lckv_encoding)o->encoding;
    e->callback = show;
    int code = open_model(TABLE.command, &o->model, true, &m);
    if (!code) code = run(o, &m);
    close_model(&m);
    return code;
}

int cmd_eval(int argc, char **argv) {
    struct options options = {.eval = lckv_eval_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = eval(&options);
    flags_free(&TABLE, &options);
    return code;
}
