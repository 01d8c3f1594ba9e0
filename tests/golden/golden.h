/* Shared parts of the golden runner, see main.c: a golden folder and its checks. */
#ifndef GOLDEN_GOLDEN_H
#define GOLDEN_GOLDEN_H

#include "io/tensors/safetensors.h"
#include "model/decoder.h"

/* Which weights a run has: those of the folder, or these quantized to int8, first dequantized in f32 and then as they
 * are. */
enum golden_weights { GOLDEN_STORED, GOLDEN_DEQUANTIZED, GOLDEN_INT8 };

/* A result of the run with dequantized weights. */
typedef struct golden_record {
    char name[64];
    float *values;
    int64_t count;
    struct golden_record *next;
} golden_record;

typedef struct golden {
    const char *folder;
    device *device;
    dtype compute;
    dtype kv_type; /* of the KV cache; DTYPE_F32: `compute` */
    enum golden_weights weights;
    struct golden_record *records; /* results with dequantized weights, for those with quantized ones */
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

int golden_open(device *d, const char *folder, dtype compute, dtype kv_type, enum golden_weights weights, golden *g);
void golden_close(golden *g);

/* Whether results are compared with f32's tolerance: gradients, training and greedy tokens too. */
bool golden_is_exact(const golden *g);

/* The expected tensor, marked as checked; NULL if there is none with this name. */
const safetensors_entry *golden_expected(golden *g, const char *name);

/* Compares `found` with the expected tensor of this name, with the tolerance of reference/README.md (f32) or the
 * derived one (bf16 and int8, see compare.c); prints a line and counts. A tensor whose whole group is absent is
 * reported as missing. */
void golden_compare(golden *g, const char *name, const float *found, int64_t count);
/* For runs with int8 weights. The loss with dequantized weights is compared with the expected one; its other
 * results are recorded, and those with quantized weights are compared with them. */
void golden_compare_quantized(golden *g, const char *name, const float *found, int64_t count);
void golden_free_records(golden_record *records);
/* Whether the folder lacks the whole group of `name`, which is then reported: where checking it is not worth the time.
 */
bool golden_lacks(golden *g, const char *name);
void golden_compare_ids(golden *g, const char *name, const int32_t *found, int64_t count);
void golden_report(golden *g, const char *name, bool good, const char *format, ...) PRINTF_LIKE(4, 5);

/* Number of layers that a hidden state passes through up to the logits, counting iterations. */
int golden_layers(const golden *g);

/* Reads a device tensor as floats. */
int golden_read(golden *g, view v, float *host);

/* The groups of checks. A negative status means that a check could not be run. */
int golden_plan(golden *g);       /* plan.* */
int golden_sequential(golden *g); /* sequential.*, second.logits */
int golden_streaming(golden *g);  /* streaming.logits */
int golden_generate(golden *g);   /* generate.* */
int golden_train(golden *g);      /* train.* */

#endif
