/* Shared parts of the golden runner, see main.c: a golden folder and its checks. */
#ifndef GOLDEN_GOLDEN_H
#define GOLDEN_GOLDEN_H

#include "io/tensors/safetensors.h"
#include "model/decoder.h"

typedef struct golden {
    const char *folder;
    device *device;
    dtype compute;
    dtype kv_type; /* of the KV cache; DTYPE_F32: `compute` */
    safetensors_file expected;
    bool *checked; /* [expected.count] whether a check has used the tensor */
    model *model;
    graph *graph;       /* with a tape */
    const int32_t *ids; /* of the main sequence */
    int32_t length;
    double largest_logit;    /* of the exact plan, for bf16's tolerance */
    double readme_tolerance; /* f32 tolerance that the folder's README.md states; 0: none stated */
    char lacking[64];        /* the group that was last reported as missing */
    int lacking_bytes;
    int passed, failed, lacked;
} golden;

int golden_open(device *d, const char *folder, dtype compute, dtype kv_type, golden *g);
void golden_close(golden *g);

/* The expected tensor, marked as checked; NULL if there is none with this name. */
const safetensors_entry *golden_expected(golden *g, const char *name);

/* Compares `found` with the expected tensor of this name, with the tolerance of reference/README.md (f32) or the
 * derived one (bf16 and int8, see compare.c); prints a line and counts. A tensor whose whole group is absent is
 * reported as missing. */
void golden_compare(golden *g, const char *name, const float *found, int64_t count);
/* Whether the folder lacks the whole group of `name`, which is then reported: where checking it is not worth the time.
 */
bool golden_lacks(golden *g, const char *name);
void golden_compare_ids(golden *g, const char *name, const int32_t *found, int64_t count);
void golden_report(golden *g, const char *name, bool good, const char *format, ...) PRINTF_LIKE(4, 5);

/* Reads a device tensor as floats. */
int golden_read(golden *g, view v, float *host);

/* The groups of checks. A negative status means that a check could not be run. */
int golden_plan(golden *g);       /* plan.* */
int golden_sequential(golden *g); /* sequential.*, second.logits */
int golden_streaming(golden *g);  /* streaming.logits */
int golden_generate(golden *g);   /* generate.* */
int golden_train(golden *g);      /* train.* */

#endif
