/* Options of a corpus (corpus.h), which its encoder (encoder.h) needs too. */
#ifndef DATA_CORPUS_OPTIONS_H
#define DATA_CORPUS_OPTIONS_H

#include "data/documents/document_reader.h"

typedef struct corpus_options {
    const char *const *paths; /* files of the corpus in order, see document_reader.h */
    int path_count;
    document_options documents;
    bool append_eos;              /* append EOS to each text, unless the tokenizer does */
    int64_t vocab_size;           /* of the model; ids must be below it or below the tokenizer's size */
    const char *tokenizer_folder; /* opened when the first text is read; NULL: none */
    const char *cache_folder;     /* token cache, created if absent; NULL: in the Hugging Face home */
    bool overwrite_cache;         /* encode again even if the cache has the corpus */
    int threads;                  /* for encoding; 0: all processors, at most 16 */
    bool (*go_on)(void *user,
                  double fraction); /* progress callback; false stops with LCKV_ERROR_INTERRUPTED. May be NULL */
    void *user;
} corpus_options;

#endif
