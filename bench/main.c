/* bench train CONFIG [--batch N] [--block N] [--seconds S] [--threads N] [--bf16]
 *
 * Trains a model of random weights on random ids and, in turn with its steps, runs a plain matrix product through the
 * device's own entry (oneDNN where it was built with it), so that both are measured in one run while the machine
 * drifts. Prints one JSON object: tokens/s, needed FLOP/s (counted by the counting device, not by a formula), the
 * product's FLOP/s, and their ratio, medians over the turns. Leaves out: data, logging, checkpoints. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void) {
    fprintf(stderr, "usage: bench train CONFIG [--batch N] [--block N] [--seconds S] [--threads N] [--bf16]\n");
    return 2;
}

static int read_options(int argc, char **argv, bench_options *o) {
    *o = (bench_options){.config = argv[2], .batch = 4, .block = 512, .seconds = 60, .compute = DTYPE_F32};
    for (int i = 3; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--bf16")) {
            o->compute = DTYPE_BF16;
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
    if (argc < 3 || strcmp(argv[1], "train") || read_options(argc, argv, &o) < 0) return usage();
    if (bench_train(&o) >= 0) return 0;
    fprintf(stderr, "bench: %s\n", lckv_last_error());
    return 1;
}
