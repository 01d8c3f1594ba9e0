/* A corpus: documents of files, encoded. They are encoded once and then kept in a folder, the token cache, so that the
 * next run on the same data starts at once.
 *
 * What was encoded is found by what it was made of: the bytes of the files, in their order, and what kinds their names
 * say they are; the tokenizer's files; and the options that change ids. To spare reading the files each time, those
 * whose path, size and time of change are known are taken for what they were.
 *
 *     FOLDER/KEY.ids       a token store (token_store.h); KEY: of all that it was made of
 *     FOLDER/KEY.lock      held by the process that makes it, so that others wait instead of making it too
 *     FOLDER/SEEN.source   holds the KEY of files that were seen; SEEN: of their paths, sizes and times
 *
 * Leaves out: encoding (encoder.h), blocks (blocks.h). */
#ifndef DATA_CORPUS_H
#define DATA_CORPUS_H

#include "data/documents.h"
#include "data/token_store.h"

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

/* Text is encoded as the tokenizer does by default, ids are taken as they are. *t is the tokenizer where one was read
 * before, or NULL; where there is text it is read into *t and the caller's, also on failure. A corpus without a single
 * id is LCKV_ERROR_FORMAT. *path, unless `path` is NULL, is the file it is kept in; release with free(). */
int corpus_open(const corpus_options *options, lckv_tokenizer **t, token_store *out, char **path);

#endif
