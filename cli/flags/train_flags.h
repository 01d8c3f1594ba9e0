/* Flags of lckv train, shared with lckv sft, and the struct that holds their values. Names, defaults and meaning are
 * those of run_clm.py and TrainingArguments (4.45). train_run.c checks combinations of flags. */
#ifndef CLI_TRAIN_FLAGS_H
#define CLI_TRAIN_FLAGS_H

#include "flags.h"
#include "lckv.h"

struct train_flags {
    const char *command;      /* name of the command, for messages */
    lckv_train_options train; /* set directly by most flags */
    lckv_lora lora;           /* shape of the adapter, set directly by the flags lora_* */
    /* Values of the flags with these names. */
    flag_list train_files, validation_files, report_to, lora_target_modules;
    flag_list args_file; /* words of the file of flags; text values point into them */
    int64_t threads, num_processes;
    double ddp_timeout;
    int metric_for_best_model; /* index of the choice; both choices select the loss */
    bool no_shuffle, use_cpu, no_cuda, use_sequential, json;
};

extern const flag_table TRAIN_FLAGS;

#endif
