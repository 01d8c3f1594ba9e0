/* Options of a corpus (corpus.h), which its encoder (encoder.h) needs too. */
#ifndef DATA_CORPUS_OPTIONS_H
#define DATA_CORPUS_OPTIONS_H

#include "data/documents.h"

typedef struct corpus_options {
    const char *const *paths; /* documents.h says what they may be; one corpus, in this order */
    int path_count;
    document_options documents;
    bool append_eos;              /* behind each text, unless the tokenizer has put it there */
    int64_t vocab_size;           /* of the model: an id must lie below it, or below the tokenizer's size */
    const char *tokenizer_folder; /* read where the first text is met; NULL: there is none */
    const char *cache_folder;     /* made where it is not there; NULL: in the Hugging Face home, beside its hub */
    bool overwrite_cache;         /* encode anew even if it is there */
    int threads;                  /* that encode; 0: all processors, at most 16 */
    bool (*go_on)(void *user, double fraction); /* called now and then; false: LCKV_ERROR_INTERRUPTED. May be NULL */
    void *user;
} corpus_options;

#endif
