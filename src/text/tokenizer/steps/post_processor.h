/* The post-processor of a tokenizer file: the special tokens before and after a text.
 *
 * Supports TemplateProcessing (its template for a single text), BertProcessing and RobertaProcessing (one token at each
 * end), ByteLevel (which changes only offsets: nothing to do), and Sequence. Others are rejected. */
#ifndef TEXT_TOKENIZER_POST_PROCESSOR_H
#define TEXT_TOKENIZER_POST_PROCESSOR_H

#include "text/subword/id_list.h"
#include "text/subword/vocabulary.h"

#include <jansson.h>

/* Maximum number of ids before, and after, a text; a template can repeat a list of ids. */
enum { POST_PROCESSOR_MAX_IDS = 1000 };

typedef struct post_processor {
    id_list before, after;
} post_processor; /* all zeros: adds nothing */

/* `config` may be NULL or null. Also on failure, post_processor_free() releases what was allocated. */
int post_processor_read(post_processor *p, const json_t *config, const vocabulary *v, const char *file);
void post_processor_free(post_processor *p);

#endif
