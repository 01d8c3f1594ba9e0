/* The program: lckv COMMAND [flags]. Commands are in cmd_*.c. */
#include "commands.h"
#include "flags.h"
#include "lckv.h"
#include "output.h"

#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} COMMANDS[] = {
    {"train", "trains a model, from its weights or from random ones", cmd_train},
    {"sft", "instruction tuning: conversations, prompts with completions, texts", cmd_sft},
    {"convert", "a checkpoint into another layer_types", cmd_convert},
    {"inspect", "what a config or a checkpoint is: layer map, plan, parameters, memory", cmd_inspect},
    {"generate", "text from prompts", cmd_generate},
    {"chat", "a conversation in the terminal", cmd_chat},
    {"score", "log-probabilities or logits of given text or ids", cmd_score},
    {"eval", "accuracy on the tasks of lm-evaluation-harness", cmd_eval},
    {"bench", "speed, the largest batch, latency over position, a server under load", cmd_bench},
    {"tokenize", "text to ids and back", cmd_tokenize},
    {"serve", "the OpenAI-style API over HTTP", cmd_serve},
    {"fetch", "a model or data set from a hub into the Hugging Face cache", cmd_fetch},
    {NULL, NULL, NULL},
};

static const struct command *find_command(const char *name) {
    for (const struct command *c = COMMANDS; c->name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}

static int unknown_command(const char *typed) {
    const char *names[sizeof COMMANDS / sizeof *COMMANDS + 1];
    int count = 0;
    for (const struct command *c = COMMANDS; c->name; c++) names[count++] = c->name;
    names[count++] = "help";
    names[count] = NULL;
    const char *nearest = nearest_name(typed, names);
    if (nearest)
        fprintf(stderr, "lckv: there is no command \"%s\"; the nearest is %s\n", typed, nearest);
    else
        fprintf(stderr, "lckv: there is no command \"%s\"; see lckv help\n", typed);
    return EXIT_USAGE;
}

static int print_commands(FILE *stream, int code) {
    fprintf(stream, "lckv %s: language models whose layers share keys and values\n\n", lckv_version());
    fprintf(stream, "usage: lckv COMMAND [flags]\n       lckv help COMMAND\n\n");
    for (const struct command *c = COMMANDS; c->name; c++) fprintf(stream, "  %-10s %s\n", c->name, c->summary);
    return code;
}

/* help [--markdown] [COMMAND]: the command itself is asked, whose table of flags nobody else knows. */
static int help(int argc, char **argv) {
    bool markdown = argc > 2 && !strcmp(argv[1], "--markdown");
    if (markdown) argc--, argv++;
    if (argc < 2) return print_commands(stdout, EXIT_FINE);
    const struct command *c = find_command(argv[1]);
    if (!c) return unknown_command(argv[1]);
    char asked[] = "--help", as_rows[] = "--markdown", *arguments[] = {argv[1], asked, as_rows, NULL};
    return c->run(markdown ? 3 : 2, arguments);
}

static int run(int argc, char **argv) {
    if (argc < 2) return print_commands(stderr, EXIT_USAGE);
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return help(argc - 1, argv + 1);
    if (!strcmp(argv[1], "--version")) {
        printf("lckv %s\n", lckv_version());
        return EXIT_FINE;
    }
    const struct command *c = find_command(argv[1]);
    return c ? c->run(argc - 1, argv + 1) : unknown_command(argv[1]);
}

int main(int argc, char **argv) {
    output_begin();
    return output_end(argc > 1 ? argv[1] : "", run(argc, argv));
}
