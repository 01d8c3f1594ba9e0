/* The program: lckv COMMAND [flags]. Commands are in cmd_*.c. */
#include "cli/commands/commands.h"
#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "lckv.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} COMMANDS[] = {
    {"train", "train a model, from random weights or from a checkpoint", cmd_train},
    {"sft", "tune a model on conversations, prompts with completions, or texts", cmd_sft},
    {"convert", "convert a checkpoint to another layer map", cmd_convert},
    {"inspect", "show layer map, plan, parameters and memory of a config or checkpoint", cmd_inspect},
    {"generate", "continue prompts", cmd_generate},
    {"chat", "chat with a model in the terminal", cmd_chat},
    {"score", "print log-probabilities and logits of a text or of token ids", cmd_score},
    {"eval", "evaluate a model on tasks of lm-evaluation-harness, or on texts", cmd_eval},
    {"bench", "measure throughput, largest batch, latency, and a server under load", cmd_bench},
    {"tokenize", "encode text to token ids, and decode them", cmd_tokenize},
    {"serve", "serve an OpenAI-compatible API over HTTP", cmd_serve},
    {"fetch", "download a model or data set to the Hugging Face cache", cmd_fetch},
    {NULL, NULL, NULL},
};

static const struct command *find_command(const char *name) {
    for (const struct command *c = COMMANDS; c->name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}

/* Names of commands in other programs, for suggestions. */
static const struct {
    const char *typed, *meant;
} ALIASES[] = {
    {"pretrain", "train"},
    {"finetune", "sft"},
    {"fine-tune", "sft"},
    {"tune", "sft"},
    {"lora", "sft"},
    {"run", "generate"},
    {"complete", "generate"},
    {"completion", "generate"},
    {"infer", "generate"},
    {"sample", "generate"},
    {"predict", "generate"},
    {"cli", "chat"},
    {"talk", "chat"},
    {"server", "serve"},
    {"api", "serve"},
    {"perplexity", "eval"},
    {"ppl", "eval"},
    {"evaluate", "eval"},
    {"lm_eval", "eval"},
    {"benchmark", "bench"},
    {"tokenizer", "tokenize"},
    {"encode", "tokenize"},
    {"decode", "tokenize"},
    {"download", "fetch"},
    {"pull", "fetch"},
    {"info", "inspect"},
    {"show", "inspect"},
    {"plan", "inspect"},
    {"merge", "convert"},
    {"export", "convert"},
    {"logprobs", "score"},
    {"version", "--version"},
    {NULL, NULL},
};

static const char *nearest_command(const char *typed) {
    const char *names[sizeof COMMANDS / sizeof *COMMANDS + 1];
    int count = 0;
    for (int i = 0; ALIASES[i].typed; i++)
        if (!strcmp(ALIASES[i].typed, typed)) return ALIASES[i].meant;
    for (const struct command *c = COMMANDS; c->name; c++) names[count++] = c->name;
    names[count++] = "help";
    names[count] = NULL;
    return nearest_name(typed, names);
}

static int unknown_command(int argc, char **argv) {
    const char *typed = argv[0], *nearest = nearest_command(typed);
    for (int i = 1; i < argc && typed[0] == '-'; i++)
        if (find_command(argv[i])) {
            fprintf(stderr, "lckv: the command comes before its flags: lckv %s %s ...\n", argv[i], typed);
            return EXIT_USAGE;
        }
    if (nearest)
        fprintf(stderr, "lckv: unknown command \"%s\"; did you mean lckv %s?\n", typed, nearest);
    else
        fprintf(stderr, "lckv: unknown command \"%s\"; see lckv help\n", typed);
    return EXIT_USAGE;
}

static const char USAGE[] = "usage: lckv COMMAND [flags]\n"
                            "       lckv help COMMAND                   show flags and examples of a command\n"
                            "       lckv help --check COMMAND [flags]   check the flags without running the command\n"
                            "       lckv --version\n\n";

static int print_commands(void) {
    printf("lckv %s: language models whose layers share keys and values\n\n%s", lckv_version(), USAGE);
    for (const struct command *c = COMMANDS; c->name; c++) help_entry(c->name, c->summary);
    printf("\nExamples\n  lckv help generate\n"
           "  lckv generate --model_name_or_path demo-model --prompt \"Mr. Darcy\"\n");
    return EXIT_FINE;
}

static int version(void) {
    printf("lckv %s\n", lckv_version());
    return EXIT_FINE;
}

static bool is_help(const char *word) {
    return !strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h");
}

/* help [--markdown | --check] [COMMAND ...], where argv[0] is "help". Passes --help to the command, because only the
 * command knows its flags. */
static int help(int argc, char **argv) {
    char help_flag[] = "--help", *mode = argc > 2 && !strncmp(argv[1], "--", 2) && !is_help(argv[1]) ? argv[1] : NULL;
    if (mode) argc--, argv++;
    if (argc < 2 || is_help(argv[1])) return print_commands();
    const struct command *c = find_command(argv[1]);
    if (!c) return unknown_command(argc - 1, argv + 1);
    int count = 0;
    char **words = need(malloc((size_t)(argc + 3) * sizeof *words));
    words[count++] = argv[1];
    words[count++] = help_flag;
    if (mode) words[count++] = mode;
    for (int i = 2; i < argc && mode; i++) words[count++] = argv[i];
    words[count] = NULL;
    int code = c->run(count, words);
    free(words);
    return code;
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        print_commands();
        return EXIT_USAGE;
    }
    if (is_help(argv[1])) return help(argc - 1, argv + 1);
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) return version();
    const struct command *c = find_command(argv[1]);
    return c ? c->run(argc - 1, argv + 1) : unknown_command(argc - 1, argv + 1);
}

/* glibc keeps freed blocks of up to 32 MiB for later ones, and then needs more than the plan of a run counts. Larger
 * blocks than these go back to the system. */
static void return_freed_memory(void) {
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
#endif
}

int main(int argc, char **argv) {
    return_freed_memory();
    output_begin();
    return output_end(argc > 1 ? argv[1] : "", run(argc, argv));
}
