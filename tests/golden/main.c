/* golden [--device D] [--threads N] DIR...: checks everything in the expected.safetensors of each folder, in f32,
 * and logits and losses again with bf16 operands and, if the device knows the formats, with int8 weights, and logits
 * through a KV cache in int8. reference/README.md describes the tensors.
 *
 * A missing group of tensors is reported, and is not a failure. Exit status: 0 if all checks pass, 1 if one fails, 2
 * if the arguments are invalid. */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_checks(golden *g) {
    int (*const checks[])(golden *) = {golden_plan, golden_sequential, golden_streaming, golden_generate, golden_train};
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) TRY(checks[i](g));
    return LCKV_OK;
}

/* In f32 every expected tensor must be used by some check. */
static void report_unchecked(golden *g) {
    if (!golden_is_exact(g)) return;
    for (int i = 0; i < g->expected.count; i++)
        if (!g->checked[i]) golden_report(g, g->expected.entries[i].name, false, "expected, and not checked");
}

typedef struct golden_totals {
    int passed, failed, lacked;
} golden_totals;

/* Those of calls with a cache. */
static int run_cache_checks(golden *g) {
    TRY(golden_sequential(g));
    return golden_streaming(g);
}

/* `records`: of an earlier run, and then of this one. */
static void run_folder(device *d, const char *folder, dtype compute, dtype kv_type, enum golden_weights weights,
                       golden_record **records, golden_totals *totals) {
    golden g;
    int status = golden_open(d, folder, compute, kv_type, weights, &g);
    g.records = *records;
    if (status >= 0) status = kv_type == DTYPE_F32 ? run_checks(&g) : run_cache_checks(&g);
    if (status < 0)
        golden_report(&g, "run", false, "%s", lckv_last_error());
    else
        report_unchecked(&g);
    *records = g.records;
    totals->passed += g.passed;
    totals->failed += g.failed;
    totals->lacked += g.lacked;
    golden_close(&g);
}

static void run_all(device *d, const char *folder, golden_totals *totals) {
    golden_record *records = NULL;
    dtype int8;
    run_folder(d, folder, DTYPE_F32, DTYPE_F32, GOLDEN_STORED, &records, totals);
    run_folder(d, folder, DTYPE_BF16, DTYPE_F32, GOLDEN_STORED, &records, totals);
    if (kv_cache_choose_type(d, DTYPE_F32, "int8", &int8) >= 0)
        run_folder(d, folder, DTYPE_F32, int8, GOLDEN_STORED, &records, totals);
    if (d->formats.linear & DTYPE_BIT(DTYPE_INT8)) {
        run_folder(d, folder, DTYPE_F32, DTYPE_F32, GOLDEN_DEQUANTIZED, &records, totals);
        run_folder(d, folder, DTYPE_F32, DTYPE_F32, GOLDEN_INT8, &records, totals);
    }
    golden_free_records(records);
}

int main(int argc, char **argv) {
    const char *name = "cpu";
    int threads = 0, first = 1;
    golden_totals totals = {0};
    for (; first + 1 < argc && !strncmp(argv[first], "--", 2); first += 2) {
        if (!strcmp(argv[first], "--device"))
            name = argv[first + 1];
        else if (!strcmp(argv[first], "--threads"))
            threads = atoi(argv[first + 1]);
        else
            break;
    }
    if (first >= argc || argv[first][0] == '-') {
        fprintf(stderr, "usage: golden [--device cpu] [--threads N] DIR...\n");
        return 2;
    }
    device *d;
    if (device_open(name, threads, &d) < 0) {
        fprintf(stderr, "golden: %s\n", lckv_last_error());
        return 2;
    }
    for (int i = first; i < argc; i++) run_all(d, argv[i], &totals);
    device_close(d);
    if (totals.lacked)
        printf("%d group%s lacking in the folders and not checked\n", totals.lacked,
               totals.lacked == 1 ? " is" : "s are");
    printf("%d passed, %d failed\n", totals.passed, totals.failed);
    return totals.failed != 0;
}
