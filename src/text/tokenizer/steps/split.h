/* Splits a piece of text at the matches of a pattern. The behavior says what becomes of the matches. */
#ifndef TEXT_TOKENIZER_SPLIT_H
#define TEXT_TOKENIZER_SPLIT_H

#include "text/tokenizer/pieces.h"
#include "text/unicode/pattern.h"

/* "the-final--countdown" split at "-": */
typedef enum split_behavior {
    SPLIT_REMOVED,              /* the final countdown       */
    SPLIT_ISOLATED,             /* the - final - - countdown */
    SPLIT_MERGED_WITH_PREVIOUS, /* the- final- - countdown   */
    SPLIT_MERGED_WITH_NEXT,     /* the -final - -countdown   */
    SPLIT_CONTIGUOUS,           /* the - final -- countdown  */
} split_behavior;

/* The behavior with this name in tokenizer files; false if there is none. */
bool split_behavior_named(const char *name, split_behavior *out);

/* Appends the parts of a piece of `from` to `to`. `invert`: exchanges matches and the text between them. */
int split_piece(pattern *p, split_behavior behavior, bool invert, const pieces *from, const piece *item, pieces *to);

#endif
