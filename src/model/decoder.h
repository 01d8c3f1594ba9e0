/* The forward pass, written once: plan or sequential, training or inference, any device, any architecture.
 *
 * Nothing in it asks which of these it is: a tape in the graph makes it training, sequences of one row make it
 * decoding. The meaning of every step is goldens/oracle.py's; the paper is Wu and Tu, "Layer-Condensed KV Cache for
 * Efficient Inference of Large Language Models", ACL 2024, and the general form "A Systematic Study of Cross-Layer KV
 * Sharing", 2024. Leaves out: what a batch is (batch.h), where KV is kept (kv_cache.h), losses over steps (train).
 */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H

#include "model/batch.h"

/* Hidden states after the last norm, of the batch's wanted rows in order: compute type [wanted, hidden_size].
 * `cache` is the one that filled the batch, or NULL. NULL in *hidden when no row is wanted. */
int decoder_forward(const model *m, graph *g, const batch *b, kv_cache *cache, tensor **hidden);

/* The exact form of training: token by token through all layers, with gradients through every step. For batches without
 * a cache whose rows are all wanted. */
int decoder_forward_sequential(const model *m, graph *g, const batch *b, tensor **hidden);

/* f32 [rows, vocab_size]. */
int decoder_logits(const model *m, graph *g, tensor *hidden, tensor **logits);

/* The cross-entropy of the labels of the batch's wanted rows, whose hidden states these are: *loss (f64, device) +=
 * scale * sum of nll. With a recording graph, gradients of it are added. nll and correct as in op_linear_cross_entropy,
 * absent if not wanted. */
int decoder_loss(const model *m, graph *g, const batch *b, tensor *hidden, view scale, view loss, view nll,
                 view correct);

#endif
