/* Tokenizer classes of the transformers library: what a class adds to a tokenizer.json.
 *
 * `tokenizer_class` of tokenizer_config.json names the class, else that of config.json, else the model type does. A
 * class brings default special tokens, and some classes write their own post-processor. Leaves out: what the files of a
 * folder say themselves (folder_rules.h). */
#ifndef TEXT_TOKENIZER_TOKENIZER_CLASS_H
#define TEXT_TOKENIZER_TOKENIZER_CLASS_H

#include "base/status.h"

#include <jansson.h>

/* In the order in which transformers adds them to the vocabulary. */
enum { SPECIAL_BOS, SPECIAL_EOS, SPECIAL_UNK, SPECIAL_SEP, SPECIAL_PAD, SPECIAL_CLS, SPECIAL_MASK, SPECIAL_COUNT };

extern const char *const special_token_keys[SPECIAL_COUNT]; /* "bos_token" and so on */

typedef enum more_special { MORE_NONE, MORE_T5, MORE_XGLM, MORE_CODE_LLAMA } more_special;

/* How `add_prefix_space` of tokenizer_config.json changes tokenizer.json. */
typedef enum prefix_rule {
    PREFIX_FILE,       /* it does not */
    PREFIX_TOP,        /* a pre-tokenizer ByteLevel that stands alone gets the value, false where there is none */
    PREFIX_EVERYWHERE, /* the same, and true goes into every ByteLevel */
    PREFIX_REBUILT,    /* the class builds the prefix anew where a value is given */
} prefix_rule;

typedef struct tokenizer_class {
    const char *name;                   /* without "Fast"; "" where nothing names a class */
    const char *special[SPECIAL_COUNT]; /* the tokens of a config that does not name them */
    more_special more;                  /* further special tokens, numbered or named by keys of the config */
    bool own_tokens; /* special tokens given as strings get the flags of new ones, also where they are listed */
    bool surrounds;  /* add_bos_token and add_eos_token decide what surrounds a text, not the file's post-processor */
    bool adds_bos;   /* the default of add_bos_token */
    prefix_rule prefix;
} tokenizer_class;

/* The class of a folder. `config` is tokenizer_config.json, `model` config.json; NULL where they are absent. `*out` is
 * static. A class that builds its tokens in ways that lckv does not have, or that is code of the folder, is refused by
 * name; one that transformers does not know either adds nothing. Errors quote `name`. */
int tokenizer_class_of(const json_t *config, const json_t *model, const char *name, const tokenizer_class **out);

#endif
