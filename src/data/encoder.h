/* Documents to token ids, in parallel: pieces of some hundred documents each are encoded by several threads while the
 * next ones are read; ids come out in the order of the documents, whatever the number of threads.
 *
 * Each thread has a tokenizer of its own. Leaves out: where ids go (token_writer.h), and where they are kept
 * (token_cache.h). */
#ifndef DATA_ENCODER_H
#define DATA_ENCODER_H

#include "data/corpus_options.h"
#include "data/token_writer.h"

/* Encodes all documents that the options name into the file `path`, see corpus.h. *t: as corpus_open() has it. */
int encode_corpus(const corpus_options *o, lckv_tokenizer **t, const char *path);

#endif
