/* bench train|checkpointing CONFIG [--device D] [--batch N] [--block N] [--seconds S] [--threads N] [--bf16]
 * bench generate CONFIG [--device D] [--batch N] [--prompt N] [--length N] [--piece N] [--seconds S] [--threads N]
 *                       [--bf16]
 * bench prefix|encoding CONFIG [--device D] [--prompt N] [--piece N] [--seconds S] [--threads N] [--bf16]
 * bench together|server CONFIG [--device D] [--batch N] [--prompt N] [--length N] [--seconds S] [--threads N] [--bf16]
 *
 * train: a model of random weights on random ids and, in turn with its steps, a plain matrix product through the
 * device's own entry, so that both are measured in one run while the machine drifts. generate: prompts, then decoding,
 * of many sequences together, in turn with the product and a plain copy. checkpointing: steps with layers computed
 * again in turn with steps without, and the memory of each beside what was foreseen. prefix: a request
 * and another that begins with the same --prompt tokens. encoding: a prompt in a model with loops, and in one without.
 * together: sessions that decode together, and one. server: requests over HTTP, and to the engine. Each prints one JSON
 * object: tokens/s, and what it is compared with; medians over the turns. Leaves out: data, logging, checkpoints, text.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void) {
    fprintf(stderr, "usage: bench train|checkpointing|generate|prefix|encoding|together|server CONFIG [--device D] "
                    "[--batch N] [--block N] [--prompt "
                    "N] [--length N] "
                    "[--piece N] [--seconds S] [--threads N] [--bf16]\n");
    return 2;
}

static int read_options(int argc, char **argv, bench_options *o) {
    *o = (bench_options){.config = argv[2],
                         .device = "cpu",
                         .batch = 4,
                         .block = 512,
                         .prompt = 512,
                         .length = 64,
                         .seconds = 60,
                         .compute = DTYPE_F32};
    for (int i = 3; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--bf16")) {
            o->compute = DTYPE_BF16;
            continue;
        }
        if (!strcmp(argv[i], "--device")) {
            o->device = value;
            i++;
            continue;
        }
        int number = atoi(value);
        if (number < 1) return -1;
        if (!strcmp(argv[i], "--batch"))
            o->batch = number;
        else if (!strcmp(argv[i], "--block"))
            o->block = number;
        else if (!strcmp(argv[i], "--seconds"))
            o->seconds = number;
        else if (!strcmp(argv[i], "--prompt"))
            o->prompt = number;
        else if (!strcmp(argv[i], "--length"))
            o->length = number;
        else if (!strcmp(argv[i], "--piece"))
            o->piece = number;
        else if (!strcmp(argv[i], "--threads"))
            o->threads = number;
        else
            return -1;
        i++;
    }
    return 0;
}

int main(int argc, char **argv) {
    bench_options o;
    if (argc < 3 || read_options(argc, argv, &o) < 0) return usage();
    static const struct {
        const char *name;
        int (*run)(const bench_options *o);
    } benches[] = {{"train", bench_train},   {"checkpointing", bench_checkpointing}, {"generate", bench_generate},
                   {"prefix", bench_prefix}, {"encoding", bench_encoding},           {"together", bench_together},
                   {"server", bench_server}};
    enum { BENCHES = sizeof benches / sizeof *benches };
    int which = 0;
    while (which < BENCHES && strcmp(argv[1], benches[which].name)) which++;
    if (which == BENCHES) return usage();
    if (benches[which].run(&o) >= 0) return 0;
    fprintf(stderr, "bench: %s\n", lckv_last_error());
    return 1;
}
