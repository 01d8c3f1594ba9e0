/* Encodes documents in parallel: threads encode groups of some hundred documents while the next ones are read. The
 * result does not depend on the number of threads.
 *
 * Each thread has its own tokenizer. Leaves out: the format of the result (token_writer.h), and the token cache
 * (corpus.h). */
#ifndef DATA_ENCODER_H
#define DATA_ENCODER_H

#include "data/corpus_options.h"
#include "data/token_writer.h"

/* Encodes the documents of a corpus into the file `path`. *t: as in corpus_open(). */
int encode_corpus(const corpus_options *o, lckv_tokenizer **t, const char *path);

#endif
