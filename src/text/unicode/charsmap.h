/* The normalizer "Precompiled": SentencePiece's table of what texts are replaced by, as its models carry it.
 *
 * The table is a trie of the replaced texts, packed into a double array (Yata's darts-clone), and the texts that they
 * become, each closed by NUL. It is looked up for whole grapheme clusters of up to five bytes, then for single
 * characters, and as in the tokenizers library a cluster becomes what its shortest beginning in the table becomes. */
#ifndef TEXT_UNICODE_CHARSMAP_H
#define TEXT_UNICODE_CHARSMAP_H

#include "base/text_buffer.h"

typedef struct charsmap charsmap;

/* `base64` is "precompiled_charsmap" of a tokenizer.json. Errors quote `name`. An empty table replaces nothing. */
int charsmap_read(const char *base64, size_t bytes, const char *name, charsmap **out);
void charsmap_free(charsmap *map);

/* Appends what `text` (valid UTF-8) becomes. */
int charsmap_apply(const charsmap *map, const char *text, size_t bytes, text_buffer *out);

#endif
