/* A corpus: documents of files, encoded. */
#ifndef TRAIN_CORPUS_H
#define TRAIN_CORPUS_H

#include "train/documents.h"
#include "train/token_store.h"

typedef struct corpus_options {
    const char *const *paths; /* documents.h says what they may be; one corpus, in this order */
    int path_count;
    document_options documents;
    bool append_eos;              /* behind each text, unless the tokenizer has put it there */
    int64_t vocab_size;           /* of the model: an id must lie below it, or below the tokenizer's size */
    const char *tokenizer_folder; /* read where the first text is met; NULL: there is none */
    bool (*go_on)(void *user, double fraction); /* called now and then; false: LCKV_ERROR_INTERRUPTED. May be NULL */
    void *user;
} corpus_options;

/* Text is encoded as the tokenizer does by default, ids are taken as they are. *t is the tokenizer where one was read
 * before, or NULL; where text asks for one it is read into *t and the caller's, also on failure. A corpus without a
 * single id is LCKV_ERROR_FORMAT. */
int corpus_read(const corpus_options *options, lckv_tokenizer **t, token_store *out);

#endif
