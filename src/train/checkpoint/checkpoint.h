/* A training checkpoint: OUTPUT_DIR/checkpoint-STEP, from which a run resumes bit for bit.
 *
 *   config.json, model.safetensors, tokenizer files   Hugging Face folder with the master weights, without loss
 *                                                     (with use_peft: the adapter, see io/adapter/adapter_save.h)
 *   loop_start.safetensors                            learned start of the loops, if one is trained
 *   optimizer.safetensors                             moments of the optimizer (optimizer_file.h)
 *   training_state.json                               progress of the run (training_state.h)
 *   checksums.json                                    checksums of all other files (manifest.h)
 *
 * and the files that observers write. Leaves out: when checkpoints are written (train/evaluate_and_save.h), and which
 * of them are deleted (run_folder.h). */
#ifndef TRAIN_CHECKPOINT_CHECKPOINT_H
#define TRAIN_CHECKPOINT_CHECKPOINT_H

#include "model/model.h"
#include "train/checkpoint/run_folder.h"
#include "train/checkpoint/training_state.h"
#include "train/observer.h"
#include "train/step/optimizer.h"

/* Where the files beside the weights come from. The trainer owns the strings. */
typedef struct model_origin {
    char *name;          /* model_name_or_path as given; NULL: none */
    char *source_folder; /* folder with generation_config.json: the checkpoint's, else the config's */
    char *code_folder;   /* folder of the config, with the *.py files of auto_map */
    char *tokenizer_folder;
    char *chat_template; /* text of the chat template to write; NULL: the tokenizer's own */
} model_origin;

/* What a checkpoint is made of. */
typedef struct checkpoint_contents {
    model *model;
    optimizer *optimizer; /* of the model's trainable weights; its master weights are the ones that are written */
    const model_origin *origin;
    const training_state *state;
    run_conditions conditions;
    const observers *observers;
    run_view view;
} checkpoint_contents;

/* Writes the checkpoint of state->step into the run folder. All ranks call it, and rank 0 writes. After a failure the
 * incomplete checkpoint is removed and all older ones are still there. */
int train_checkpoint_write(const checkpoint_contents *c, run_folder *to);

/* Writes the model alone: a Hugging Face folder, or an adapter in peft's layout. All ranks call it. */
int train_checkpoint_write_model(const checkpoint_contents *c, const char *folder);

/* Chooses the checkpoint to resume from: the folder `given`, or if that is NULL or "True" the newest valid checkpoint
 * of the run folder. *out is NULL if there is none (an error if `given` is set); release with free(). Damaged
 * checkpoints are skipped with a warning; it is an error if all are damaged. */
int train_checkpoint_choose(const run_folder *from, const char *given, char **out);

/* Loads the model of a checkpoint. LCKV_ERROR_ARGUMENT if it is not a model of `expected`. `divide`: as in
 * initial_model_load(). */
int train_checkpoint_load_model(device *d, const char *folder, const model_config *expected, const collectives *divide,
                                model **out);

/* LCKV_ERROR_ARGUMENT if the checkpoint is not of an adapter with the same options as `a`. */
int train_checkpoint_check_adapter(const adapter *a, const char *folder);

/* Reads the weights of a checkpoint of this run into the model and the optimizer's master weights. */
int train_checkpoint_read_weights(model *m, optimizer *o, const char *folder);

/* Reads the optimizer's moments and the progress. With an adapter also its weights, which
 * train_checkpoint_load_model() does not load. */
int train_checkpoint_restore(model *m, optimizer *o, const run_conditions *now, const char *folder,
                             training_state *out);

#endif
