/* The pre-tokenizer of a tokenizer file: splits normalized text into the words that the model encodes one by one.
 *
 * Supports Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer,
 * CharDelimiterSplit, FixedLength, UnicodeScripts, and Sequence, which is flattened. */
#ifndef TEXT_TOKENIZER_PRE_TOKENIZER_H
#define TEXT_TOKENIZER_PRE_TOKENIZER_H

#include "text/tokenizer/pieces.h"
#include "text/unicode/pattern.h"

typedef struct pre_tokenizer_step pre_tokenizer_step;

typedef struct pre_tokenizer {
    pre_tokenizer_step *steps;
    size_t count;
} pre_tokenizer; /* all zeros: does nothing */

/* `config` may be NULL or null. Also on failure, pre_tokenizer_free() releases what was allocated. */
int pre_tokenizer_read(pre_tokenizer *p, const json_t *config, const char *file);
void pre_tokenizer_free(pre_tokenizer *p);

/* Rejects what would require the position of each character in the given text: Metaspace with prepend_scheme "first"
 * after a split of text to which characters were added. `normalized`: there is a normalizer. */
int pre_tokenizer_check_first(const pre_tokenizer *p, bool normalized, const char *file);

/* Splits the pieces of `text` that are text. `spare`: work space. */
int pre_tokenizer_apply(const pre_tokenizer *p, pieces *text, pieces *spare);

#endif
