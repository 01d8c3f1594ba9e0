/* A corpus: the encoded documents of some files. They are encoded once and stored in a folder, the token cache, so that
 * the next run on the same data starts immediately.
 *
 * An entry of the cache is found by a key of everything that it depends on: contents, order and extensions of the
 * files, the tokenizer's files, and the options that affect ids. To avoid reading the files each time, a second key
 * consists of their paths, sizes and modification times.
 *
 *     FOLDER/KEY.ids       token store (token_store.h); KEY: digest of everything it depends on
 *     FOLDER/KEY.lock      held by the process that encodes, so that others wait instead of encoding too
 *     FOLDER/SEEN.source   contains the KEY of known files; SEEN: digest of paths, sizes and times
 *
 * Leaves out: encoding (encoder.h), blocks (blocks.h). */
#ifndef DATA_CORPUS_H
#define DATA_CORPUS_H

#include "data/corpus_options.h"
#include "data/token_store.h"

/* Opens the token store of a corpus, and encodes the documents first if they are not in the cache. Text is encoded with
 * the tokenizer's special tokens; ids are used as they are. *t is a tokenizer that is open already, or NULL; if there
 * is text, the tokenizer is opened into *t and belongs to the caller, also on failure. LCKV_ERROR_FORMAT if the corpus
 * has no id. If `path` is not NULL, *path is the file of the token store; release with free(). */
int corpus_open(const corpus_options *options, lckv_tokenizer **t, token_store *out, char **path);

#endif
