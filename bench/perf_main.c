/* The program `bench`: measures the speed of parts of lckv against a reference in the same run.
 *
 * bench speeds CONFIG [--device D] [--threads N]
 * bench train|checkpointing CONFIG [--device D] [--batch N] [--block N] [--seconds S] [--threads N] [--bf16]
 * bench exact CONFIG [--device D] [--batch N] [--step N] [--reference_step N] [--block N] [--seconds S] [--threads N]
 *                    [--bf16]
 * bench processes CONFIG [--device D] [--batch N] [--step N] [--block N] [--seconds S] [--bf16]
 * bench sums CONFIG [--device D]
 * bench generate CONFIG [--device D] [--batch N] [--prompt N] [--length N] [--chunk N] [--seconds S] [--threads N]
 *                       [--bf16] [--weight_dtype float|int8|int4]
 * bench few CONFIG [--device D] [--threads N]
 * bench prefix|encoding CONFIG [--device D] [--prompt N] [--chunk N] [--seconds S] [--threads N] [--bf16]
 * bench lockstep CONFIG [--device D] [--batch N] [--prompt N] [--chunk N] [--seconds S] [--threads N] [--bf16]
 * bench together|server CONFIG [--device D] [--batch N] [--prompt N] [--length N] [--seconds S] [--threads N] [--bf16]
 *
 *   speeds         reading memory, copying it, and large products in each format; CONFIG is not read
 *   train          training steps; reference: a matrix product
 *   checkpointing  training steps with gradient checkpointing, and their memory; reference: without
 *   exact          training steps of --step blocks, in micro-batches of --batch, with loops in the exact form, and
 *                  their memory; reference: the plan, in steps of --reference_step blocks (default: --step), whose
 *                  speed does not depend on this number
 *   processes      training on the processes that a launcher has started (RANK and WORLD_SIZE, as torchrun sets them);
 *                  with ZeRO 1 and ZeRO 3, and the time of a step in which rank 0 waits for others; reference: each
 *                  process alone with as large a share of a step
 *   sums           sums over such processes as in recorded steps of tensor parallelism, in microseconds, through peer
 *                  memory if the GPUs have it; reference: NCCL; CONFIG is not read
 *   generate       prefill and decoding of concurrent sequences; reference: a matrix product, a copy, reading memory
 *   few            products of 1 to 16 rows with the MLP's weights; reference: reading memory, a matrix product
 *   prefix         a request whose first --prompt tokens are cached; reference: the request that filled the cache
 *   encoding       prefill of a model with loops; reference: the model without sharing
 *   lockstep       --batch prompts of a model with loops together, token by token and as `auto` chooses; reference: by
 *                  the plan
 *   together       decoding of concurrent sequences; reference: one sequence
 *   server         requests over HTTP; reference: the same requests to the engine
 *
 * Measurement and reference alternate, so that drift of the machine affects both. Each prints one JSON object with
 * medians. Leaves out: data, logs, checkpoints, text. */
#include "perf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void) {
    fprintf(stderr,
            "usage: bench "
            "speeds|train|checkpointing|exact|processes|sums|generate|few|prefix|encoding|lockstep|together|server "
            "CONFIG "
            "[--device D] [--batch N] [--step N] [--reference_step N] [--block N] [--prompt N] [--length N] "
            "[--chunk N] [--seconds S] [--threads N] [--bf16] [--weight_dtype float|int8|int4]\n");
    return 2;
}

static int read_options(int argc, char **argv, perf_options *o) {
    *o = (perf_options){.config = argv[2],
                        .device = "cpu",
                        .weight_dtype = "float",
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
        if (!strcmp(argv[i], "--weight_dtype")) {
            o->weight_dtype = value;
            i++;
            continue;
        }
        int number = atoi(value);
        if (number < 1) return -1;
        if (!strcmp(argv[i], "--batch"))
            o->batch = number;
        else if (!strcmp(argv[i], "--step"))
            o->step = number;
        else if (!strcmp(argv[i], "--reference_step"))
            o->reference_step = number;
        else if (!strcmp(argv[i], "--block"))
            o->block = number;
        else if (!strcmp(argv[i], "--seconds"))
            o->seconds = number;
        else if (!strcmp(argv[i], "--prompt"))
            o->prompt = number;
        else if (!strcmp(argv[i], "--length"))
            o->length = number;
        else if (!strcmp(argv[i], "--chunk"))
            o->chunk = number;
        else if (!strcmp(argv[i], "--threads"))
            o->threads = number;
        else
            return -1;
        i++;
    }
    return 0;
}

int main(int argc, char **argv) {
    perf_options o;
    if (argc < 3 || read_options(argc, argv, &o) < 0) return usage();
    static const struct {
        const char *name;
        int (*run)(const perf_options *o);
    } measurements[] = {{"speeds", perf_speeds},
                        {"train", perf_training},
                        {"checkpointing", perf_checkpointing},
                        {"exact", perf_exact},
                        {"processes", perf_processes},
                        {"generate", perf_generation},
                        {"prefix", perf_prefix_cache},
                        {"encoding", perf_loop_prefill},
                        {"lockstep", perf_lockstep},
                        {"together", perf_concurrency},
                        {"server", perf_http},
                        {"few", perf_few_rows},
                        {"sums", perf_sums}};
    enum { COUNT = sizeof measurements / sizeof *measurements };
    int which = 0;
    while (which < COUNT && strcmp(argv[1], measurements[which].name)) which++;
    if (which == COUNT) return usage();
    if (measurements[which].run(&o) >= 0) return 0;
    fprintf(stderr, "bench: %s\n", lckv_last_error());
    return 1;
}
