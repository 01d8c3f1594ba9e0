/* The BPE model of a tokenizer file: a piece of text (what the pre-tokenizer cut) becomes ids.
 *
 * Byte fallback, unknown tokens (fused or not) and ignore_merges are here; byte-level BPE is this model behind a
 * pre-tokenizer that writes bytes as characters. Left out, and refused: dropout, continuing_subword_prefix,
 * end_of_word_suffix. */
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
    pair_table joins;  /* (last character, first character) of the pairs that have a merge: long pieces are cut between
                        * others */
    bool fuse_unk, byte_fallback, ignore_merges;
    char *unk_token; /* NULL: unknown characters vanish */
    int32_t unk_id;
    int32_t byte_ids[256];                 /* of <0x00> to <0xFF>, for byte_fallback */
    int32_t character_ids[BPE_CHARACTERS]; /* of the first code points; the others are looked up */
    merge_work work;
    word_cache cache;
    size_t longest; /* bytes of the longest token that a character or a merge can become */
} bpe;

/* Reads the file's "model", putting its tokens into `v`, which must be empty and outlive the model. `name` is the file.
 * On failure too bpe_free() releases what was begun. */
int bpe_read(bpe *b, const json_t *model, vocabulary *v, const char *name);
void bpe_free(bpe *b);

/* Appends the ids of `text`, which must be valid UTF-8. */
int bpe_encode(bpe *b, const char *text, size_t bytes, id_list *out);

/* The id of a token of the model (not an added one), else NO_TOKEN. */
int32_t bpe_find(const bpe *b, const char *token, size_t bytes);

#endif
