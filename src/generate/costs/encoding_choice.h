/* Chooses, for the prompts that can start together, between the two forms of reading a prompt of a model with loops:
 * by the plan (in chunks, m + b iterations each), or in lockstep (one token of each prompt per step, exact).
 *
 * A step has a large part that does not depend on its rows, so that lockstep is cheap for many prompts and dear for
 * few. The shortest prompts are read in lockstep, the others by the plan, and the number of the former minimizes the
 * estimated time until all prompts are read. The estimates come from a cost table alone: the same table and the same
 * prompts give the same choice. */
#ifndef GENERATE_ENCODING_CHOICE_H
#define GENERATE_ENCODING_CHOICE_H

#include "generate/costs/cost_table.h"

/* Fewer sequences than this, running ones included, never run in lockstep. */
enum { CHOICE_MIN_ROWS = 8 };

typedef struct choice_prompt {
    int64_t exact_tokens, planned_tokens; /* left to read, in each form */
    int64_t depth, planned_depth;         /* tokens of its cached prefix, in each form */
    bool exact;                           /* the result */
} choice_prompt;

/* A sequence that takes one row of each step: it decodes, or is being read in lockstep. */
typedef struct choice_row {
    int64_t left, depth; /* tokens until it ends, and tokens so far */
} choice_row;

typedef struct choice_limits {
    int64_t step_tokens;
    chunk_rules chunks;
    /* Maximum seconds until the last prompt is read in lockstep. A longer time is allowed if the plan needs it, too. 0:
     * no limit. */
    double first_token;
    /* Maximum seconds of a lockstep step while other sequences decode; 0: those of a planned step of step_tokens. */
    double between_tokens;
    bool decoding; /* other sequences decode */
} choice_limits;

/* Sets prompts[i].exact. `rows` [row_count] are sorted in place. LCKV_ERROR_MEMORY. */
int encoding_choose(const cost_table *t, const choice_limits *limits, choice_row *rows, int row_count,
                    choice_prompt *prompts, int count);

/* Seconds to read prompts by the plan: first the first chunk of each, then the second one, and so on, in as few steps
 * as step_tokens allows. */
double choice_plan_seconds(const cost_table *t, const choice_limits *limits, const choice_prompt *prompts, int count);

#endif
