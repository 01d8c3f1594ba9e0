/* Splitting at matches, see split.h. */
#include "text/tokenizer/steps/split.h"

#include <stdlib.h>
#include <string.h>

bool split_behavior_named(const char *name, split_behavior *out) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = (split_behavior)i;
        return true;
    }
    return false;
}

/* The parts of a text in order: matches and the text between them. */
typedef struct part {
    size_t begin, end;
    bool is_match;
} part;

typedef struct splitting {
    const pieces *from;
    const piece *item;
    pieces *to;
    split_behavior behavior;
    part held;      /* the part that a later one may extend */
    bool has_held;  /* false: no part yet */
    bool was_match; /* the previous part was a match */
} splitting;

static int emit(const splitting *s, part p) {
    return pieces_add_text(s->to, piece_text(s->from, s->item) + p.begin, p.end - p.begin,
                           s->item->starts_text && p.begin == 0);
}

/* Whether `next` is merged with the previous part. */
static bool extends_held(const splitting *s, part next) {
    switch (s->behavior) {
    case SPLIT_MERGED_WITH_PREVIOUS:
        return next.is_match && !s->was_match;
    case SPLIT_MERGED_WITH_NEXT:
        return !next.is_match && s->was_match;
    case SPLIT_CONTIGUOUS:
        return next.is_match == s->was_match;
    default:
        return false;
    }
}

static int take_part(splitting *s, part next) {
    if (s->behavior == SPLIT_REMOVED && next.is_match) return LCKV_OK;
    if (s->has_held && extends_held(s, next)) {
        s->held.end = next.end;
    } else {
        if (s->has_held) TRY(emit(s, s->held));
        s->held = next;
        s->has_held = true;
    }
    s->was_match = next.is_match;
    return LCKV_OK;
}

int split_piece(pattern *p, split_behavior behavior, bool invert, const pieces *from, const piece *item, pieces *to) {
    splitting s = {.from = from, .item = item, .to = to, .behavior = behavior};
    pattern_scan scan = pattern_scan_start(p, piece_text(from, item), item->bytes);
    size_t end = 0;
    int more;
    while ((more = pattern_scan_next(p, &scan)) > 0) {
        if (end < scan.begin) TRY(take_part(&s, (part){end, scan.begin, invert}));
        TRY(take_part(&s, (part){scan.begin, scan.end, !invert}));
        end = scan.end;
    }
    TRY(more);
    if (end < item->bytes) TRY(take_part(&s, (part){end, item->bytes, invert}));
    return s.has_held ? emit(&s, s.held) : LCKV_OK;
}
