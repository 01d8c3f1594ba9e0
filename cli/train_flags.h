/* The flags of lckv train (which lckv sft shares), and where their values go. Names, defaults and meaning are
 * run_clm.py's and TrainingArguments' (4.45). Leaves out: what they mean together, which train_run.c says. */
#ifndef CLI_TRAIN_FLAGS_H
#define CLI_TRAIN_FLAGS_H

#include "flags.h"
#include "lckv.h"

struct train_flags {
    const char *command;      /* its name, for messages */
    lckv_train_options train; /* most flags go straight into the library's options */
    lckv_lora lora;
    flag_list train_files, validation_files, report_to, lora_target_modules;
    flag_list args_file; /* the words that texts from a file of flags point into */
    int64_t threads;
    int metric_for_best_model; /* both of its names mean the loss */
    bool no_shuffle, use_cpu, no_cuda, json;
};

extern const flag_table TRAIN_FLAGS;

#endif
