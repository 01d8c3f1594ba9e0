/* BPE model of a tokenizer file: converts a segment of text (output of the pre-tokenizer) to ids.
 *
 * Implements byte fallback, unknown tokens (fused or not) and ignore_merges. Byte-level BPE is this model after a
 * pre-tokenizer that writes bytes as characters. dropout, continuing_subword_prefix and end_of_word_suffix are not
 * supported and rejected. */
#ifndef TEXT_SUBWORD_BPE_H
#define TEXT_SUBWORD_BPE_H

#include "text/subword/merge.h"
#include "text/subword/vocabulary.h"
#include "text/subword/word_cache.h"

#include <jansson.h>

enum { BPE_CHARACTERS = 0x800 };

typedef struct bpe {
    const vocabulary *vocabulary;
    pair_table merges; /* (left id, right id) -> merge_value() */
    pair_table joins;  /* (last character, first character) of pairs that have a merge; long segments are split between
                          other pairs */
    bool fuse_unk, byte_fallback, ignore_merges;
    char *unk_token; /* NULL: unknown characters are dropped */
    int32_t unk_id;
    int32_t byte_ids[256];                 /* of <0x00> to <0xFF>, for byte_fallback */
    int32_t character_ids[BPE_CHARACTERS]; /* of the first code points; others are looked up */
    merge_work work;
    word_cache cache;
    size_t longest; /* bytes of the longest token that a character or a merge can produce */
} bpe;

/* Reads the file's "model" and adds its tokens to `v`, which must be empty and outlive the model. `name` is the file.
 * Also on failure, bpe_free() releases what was allocated. */
int bpe_read(bpe *b, const json_t *model, vocabulary *v, const char *name);
void bpe_free(bpe *b);

/* Appends the ids of `text`, which must be valid UTF-8. */
int bpe_encode(bpe *b, const char *text, size_t bytes, id_list *out);

/* The id of a token of the model (not of an added token); NO_TOKEN if there is none. */
int32_t bpe_find(const bpe *b, const char *token, size_t bytes);

#endif
