/* A learned start: what the slots of a loop hold before its first iteration, instead of zeros (docs/model.md).
 *
 * For each loop it is a small MLP. Its input is the RMS-normalized hidden states below the loop of a token and of the
 * two tokens before it; its output is the token's keys, which are then rotated, and values in each slot that a lookup
 * of the loop reads. A token before the first one of a call's sequence, which is where a piece of a prompt, a document
 * or a block starts, counts as zeros.
 *
 *     n = rms_norm(x);  c[i] = n[i], n[i - 1], n[i - 2]
 *     h = silu(c gate^T + gate_bias) * (c up^T);   k = rope(h k_proj^T + k_bias);   v = h v_proj^T + v_bias
 *
 * The exact slot does not depend on the start; only the number of iterations until it is reached does. Its weights are
 * a table of their own (params.h). Leaves out: the file (io/loop_start_file.h), fitting
 * (train/loop_start/fit_loop_start.h). */
#ifndef MODEL_LOOP_START_H
#define MODEL_LOOP_START_H

#include "model/params.h"

enum { LOOP_START_TOKENS = 3, LOOP_START_COLUMNS = 64 };

/* The output for one slot; NULL where no lookup reads the keys or the values. */
typedef struct loop_start_slot {
    int slot;
    tensor *k, *k_bias, *v, *v_bias;
} loop_start_slot;

typedef struct loop_start_net {
    int first_layer; /* of its loop */
    tensor *gate, *gate_bias, *up;
    loop_start_slot *slots; /* [slot_count] */
    int slot_count;
} loop_start_net;

/* Mean KL divergence of the next-token distribution from the exact form, in nats per token, on held-out text. Entry i
 * is for i + 1 iterations. */
typedef struct loop_start_kl {
    double zeros[LOOP_START_COLUMNS], start[LOOP_START_COLUMNS];
    int count;    /* 0: not measured */
    bool trained; /* the model has learned from loops that begin with the start only */
} loop_start_kl;

typedef struct loop_start {
    device *device;
    params *weights;      /* its own table, or that of the model if both are trained together */
    bool shared;          /* the latter */
    int first, count;     /* its entries of that table */
    void *initial;        /* device memory of the first values of shared entries; NULL: none */
    loop_start_net *nets; /* [net_count], by loop */
    int net_count;
    loop_start_slot *slots; /* of all nets */
    int64_t width;          /* columns of h */
    tensor unit;            /* f32 [1, hidden_size]: ones, the weight of the norm */
    loop_start_kl kl;
} loop_start;

/* Default width of the hidden layer. */
int64_t loop_start_default_width(const model_config *c);
/* The table for a model, without values. LCKV_ERROR_UNSUPPORTED if the model has no loop. */
int loop_start_create(device *d, const model_config *c, int64_t width, loop_start **out);
/* The same with entries at the end of the model's own table, so that one optimizer, checkpoint and set of shards serve
 * both. The values are f32 in memory of the start until params_enable_masters() or params_enable_values() has copied
 * them; then call loop_start_drop_initial(). */
int loop_start_attach(params *base, const model_config *c, int64_t width, loop_start **out);
void loop_start_drop_initial(loop_start *s);
void loop_start_free(loop_start *s); /* NULL is fine */
/* Initializes: matrices as a function of (seed, entry) with a deviation of 1 / sqrt(columns), biases 0, and the output
 * matrices 0, so that the start is zeros. The weights must have memory. */
int loop_start_randomize(loop_start *s, uint64_t seed);

/* The smallest number of iterations after which the output is at least as near to the exact form as after `iterations`
 * from zeros; `iterations` if the start has not been measured, or if the model has learned from loops that begin with
 * it. */
int loop_start_iterations(const loop_start *s, int iterations);

#endif
