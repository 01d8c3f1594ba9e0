/* The normalizer "Precompiled": SentencePiece's table of replacements, as its models contain it.
 *
 * The table is a trie of the replaced texts, packed into a double array (Yata's darts-clone), and the NUL-terminated
 * replacements. Grapheme clusters of up to five bytes are looked up first, then single characters. As in the tokenizers
 * library, a cluster is replaced by the entry of its shortest prefix in the table. */
#ifndef TEXT_UNICODE_CHARSMAP_H
#define TEXT_UNICODE_CHARSMAP_H

#include "base/text/text_buffer.h"

typedef struct charsmap charsmap;

/* `base64`: the value of "precompiled_charsmap" in a tokenizer.json. Errors quote `name`. An empty table replaces
 * nothing. */
int charsmap_read(const char *base64, size_t bytes, const char *name, charsmap **out);
void charsmap_free(charsmap *map);

/* Appends `text` (valid UTF-8) with all replacements. */
int charsmap_apply(const charsmap *map, const char *text, size_t bytes, text_buffer *out);

#endif
