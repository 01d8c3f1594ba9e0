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

#include "data/corpus_options.h"
#include "data/token_store.h"

/* Text is encoded as the tokenizer does by default, ids are taken as they are. *t is the tokenizer where one was read
 * before, or NULL; where there is text it is read into *t and the caller's, also on failure. A corpus without a single
 * id is LCKV_ERROR_FORMAT. *path, unless `path` is NULL, is the file it is kept in; release with free(). */
int corpus_open(const corpus_options *options, lckv_tokenizer **t, token_store *out, char **path);

#endif
