/* lckv eval on texts: perplexity in windows or as a stream. */
#ifndef CLI_EVAL_TEXT_H
#define CLI_EVAL_TEXT_H

#include "cli/flags/flags.h"
#include "cli/open_model.h"
#include "lckv.h"

/* Values of the flags. */
struct eval_text {
    flag_list files;     /* paths of files and folders */
    int64_t num_samples; /* maximum number of texts; 0 uses all */
    lckv_perplexity_options perplexity;
    const char *output_dir; /* folder for log.txt, ppl.txt, curve.csv and curve.svg; NULL: none */
    bool no_special_tokens, json;
};

/* Reads, scores and prints. Returns 0, or an exit code after printing the error. */
int eval_texts(const char *command, const struct eval_text *flags, const struct model_flags *model);

#endif
