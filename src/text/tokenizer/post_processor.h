/* The post-processor of a tokenizer file: the special tokens that stand before and behind a text.
 *
 * TemplateProcessing (its template for one text), BertProcessing and RobertaProcessing (one token at each end),
 * ByteLevel (which moves offsets alone: nothing here), and Sequence. Others are refused. */
#ifndef TEXT_TOKENIZER_POST_PROCESSOR_H
#define TEXT_TOKENIZER_POST_PROCESSOR_H

#include "text/subword/id_list.h"
#include "text/subword/vocabulary.h"

#include <jansson.h>

/* Before, and behind, a text: a template may name one list of ids again and again. */
enum { POST_PROCESSOR_MOST_IDS = 1000 };

typedef struct post_processor {
    id_list before, behind;
} post_processor; /* all zeros adds nothing */

/* `config` may be NULL or null. On failure too post_processor_free() releases what was begun. */
int post_processor_read(post_processor *p, const json_t *config, const vocabulary *v, const char *file);
void post_processor_free(post_processor *p);

#endif
