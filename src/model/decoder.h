/* The forward pass, written once: plan or sequential, training or inference, any device, any architecture.
 *
 * It does not ask which of these it runs: a recording graph makes it training, and sequences of one row make it
 * decoding. reference/decoder.py defines every step. Papers: Wu and Tu, "Layer-Condensed KV Cache for Efficient
 * Inference of Large Language Models", ACL 2024; in general form, Wu, Wu and Tu, "A Systematic Study of Cross-Layer
 * KV Sharing", 2024. Leaves out: batches (batch.h), the cache (kv_cache.h), losses over steps (train). */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H

#include "model/batch.h"

/* Hidden states after the final norm, of the batch's wanted rows in order: compute type [wanted, hidden_size].
 * `cache` is the one that filled the batch, or NULL. *hidden is NULL if no row is wanted. */
int decoder_forward(const model *m, graph *g, const batch *b, kv_cache *cache, tensor **hidden);

/* The exact form in training: token by token through all layers, with gradients through every step. For batches
 * without a cache whose rows are all wanted. */
int decoder_forward_sequential(const model *m, graph *g, const batch *b, tensor **hidden);

/* f32 [rows, vocab_size]. */
int decoder_logits(const model *m, graph *g, tensor *hidden, tensor **logits);

/* The cross-entropy of the labels of the wanted rows, from their hidden states: *loss (f64, device) += scale * sum
 * of nll. If the graph records, gradients are added. nll and correct as in op_linear_cross_entropy; absent if not
 * needed. */
int decoder_loss(const model *m, graph *g, const batch *b, tensor *hidden, view scale, view loss, view nll,
                 view correct);

#endif
