/* A tokenizer, as the other rooms use it; lckv.h has the functions that work on it.
 *
 * Encoding runs the parts in this order: added tokens are cut out of the given text; the normalizer; added tokens that
 * are looked for in normalized text; the pre-tokenizer; the model (BPE or Unigram) on each piece; the post-processor.
 * Decoding is the detokenizer. `truncation` and `padding` of a file are left alone, as transformers does: lengths are
 * the caller's.
 */
#ifndef TEXT_TOKENIZER_TOKENIZER_H
#define TEXT_TOKENIZER_TOKENIZER_H

#include "text/subword/bpe.h"
#include "text/subword/unigram.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pre_tokenizer.h"

struct lckv_tokenizer {
    vocabulary vocabulary;
    bpe model;
    unigram unigram; /* in place of `model`, where it has tokens */
    added_tokens added;
    normalizer normalizer;
    pre_tokenizer pre_tokenizer;
    post_processor post_processor;
    detokenizer detokenizer;
    int32_t bos_id, eos_id;  /* NO_TOKEN where tokenizer_config.json names none */
    pieces pieces[2];        /* room for encoding, kept between texts */
    text_buffer given, text; /* likewise: the text made valid, a piece of it on its way through the normalizer */
};

/* tokenizer_file.c: fills a zeroed tokenizer from FOLDER/tokenizer.json (or that file), and from the files beside it
 * what they add to it (folder_rules.h). On failure too the caller frees what was begun. */
int tokenizer_read(lckv_tokenizer *t, const char *folder_or_file);

/* The same from what a tokenizer.json holds; errors quote `name`. */
int tokenizer_read_parts(lckv_tokenizer *t, const json_t *root, const char *name);

/* A second stream that goes on from where `from` is: several texts that begin alike are decoded once up to there. */
int decode_stream_copy(const lckv_decode_stream *from, lckv_decode_stream **out);

#endif
