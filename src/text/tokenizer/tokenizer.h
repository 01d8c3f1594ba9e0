/* Tokenizer, as other rooms use it. lckv.h has the functions that work on it.
 *
 * Encoding has these stages, in order: split at added tokens; normalizer; split at added tokens that are searched for
 * in normalized text; pre-tokenizer; model (BPE or Unigram) for each piece; post-processor. Decoding is the
 * detokenizer. `truncation` and `padding` of a file are ignored, as in transformers: the caller decides about lengths.
 */
#ifndef TEXT_TOKENIZER_TOKENIZER_H
#define TEXT_TOKENIZER_TOKENIZER_H

#include "text/subword/bpe.h"
#include "text/subword/unigram.h"
#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/steps/added_tokens.h"
#include "text/tokenizer/steps/normalizer.h"
#include "text/tokenizer/steps/post_processor.h"
#include "text/tokenizer/steps/pre_tokenizer.h"

struct lckv_tokenizer {
    vocabulary vocabulary;
    bpe model;
    unigram unigram; /* used instead of `model` if it has tokens */
    added_tokens added;
    normalizer normalizer;
    pre_tokenizer pre_tokenizer;
    post_processor post_processor;
    detokenizer detokenizer;
    int32_t bos_id, eos_id;  /* NO_TOKEN if tokenizer_config.json names none */
    pieces pieces[2];        /* work space for encoding, reused between texts */
    text_buffer given, text; /* likewise: the text made valid; a piece during normalization */
};

/* tokenizer_file.c: fills a zeroed tokenizer from a GGUF file, or from FOLDER/tokenizer.json (or that file) and from
 * the files beside it (folder_rules.h). Also on failure, the caller frees what was allocated. */
int tokenizer_read(lckv_tokenizer *t, const char *folder_or_file);

/* The same from the content of a tokenizer.json; errors quote `name`. */
int tokenizer_read_parts(lckv_tokenizer *t, const json_t *root, const char *name);

/* Creates a second stream with the state of `from`, so that a common prefix of several texts is decoded once. */
int decode_stream_copy(const lckv_decode_stream *from, lckv_decode_stream **out);

#endif
