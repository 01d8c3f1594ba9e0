/* Tokenizer classes of the transformers library: what a class adds to a tokenizer.json.
 *
 * The class is named by `tokenizer_class` of tokenizer_config.json, else by that of config.json, else by the model
 * type. A class has default special tokens, and some classes have their own post-processor. folder_rules.h reads what
 * the files of a folder say themselves. */
#ifndef TEXT_TOKENIZER_TOKENIZER_CLASS_H
#define TEXT_TOKENIZER_TOKENIZER_CLASS_H

#include "base/status.h"

#include <jansson.h>

/* In the order in which transformers adds them to the vocabulary. */
enum { SPECIAL_BOS, SPECIAL_EOS, SPECIAL_UNK, SPECIAL_SEP, SPECIAL_PAD, SPECIAL_CLS, SPECIAL_MASK, SPECIAL_COUNT };

extern const char *const special_token_keys[SPECIAL_COUNT]; /* "bos_token" etc. */

typedef enum more_special { MORE_NONE, MORE_T5, MORE_XGLM, MORE_CODE_LLAMA } more_special;

/* How `add_prefix_space` of tokenizer_config.json changes tokenizer.json. */
typedef enum prefix_rule {
    PREFIX_FILE,       /* not at all */
    PREFIX_TOP,        /* a pre-tokenizer that is a single ByteLevel gets the value, false if absent */
    PREFIX_EVERYWHERE, /* the same, and true is set in every ByteLevel */
    PREFIX_REBUILT,    /* the class rebuilds the prefix if a value is given */
} prefix_rule;

typedef struct tokenizer_class {
    const char *name;                   /* without "Fast"; "" if nothing names a class */
    const char *special[SPECIAL_COUNT]; /* defaults for tokens that the config does not name */
    more_special more;                  /* further special tokens, numbered or named by keys of the config */
    bool own_tokens; /* special tokens given as strings get the flags of new tokens, even if they are listed */
    bool surrounds;  /* add_bos_token and add_eos_token replace the file's post-processor */
    bool adds_bos;   /* default of add_bos_token */
    prefix_rule prefix;
} tokenizer_class;

/* The class of a folder. `config` is tokenizer_config.json, `model` is config.json; NULL if absent. *out is static. A
 * class that builds its tokens in unsupported ways, or that is Python code of the folder, is rejected by name. A class
 * that transformers does not know adds nothing. Errors quote `name`. */
int tokenizer_class_of(const json_t *config, const json_t *model, const char *name, const tokenizer_class **out);

#endif
