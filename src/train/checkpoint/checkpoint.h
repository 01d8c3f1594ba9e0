/* A training checkpoint: OUTPUT_DIR/checkpoint-STEP, from which a run goes on bit for bit.
 *
 *   config.json, model.safetensors, tokenizer files   a Hugging Face folder; weights lose nothing (masters, in f32)
 *                                                     (with use_peft the adapter: io/adapter_file.h)
 *   optimizer.safetensors                             the optimizer's moments (optimizer_file.h)
 *   training_state.json                               where the run is (run_state.h)
 *   checksums.json                                    of all the others (manifest.h)
 *
 * and what watchers put there. Leaves out: when one is written, and which are kept (between_steps.h, run_folder.h). */
#ifndef TRAIN_CHECKPOINT_CHECKPOINT_H
#define TRAIN_CHECKPOINT_CHECKPOINT_H

#include "train/trainer.h"

/* Writes the checkpoint of t->step. All processes call it, and process 0 writes. On failure what was begun is removed,
 * and those that stand still do. */
int train_checkpoint_write(lckv_trainer *t);

/* Where the run begins: t->resumed_from is the folder that `asked` names, or else the newest good one in the output
 * folder, or NULL. Damaged ones are named in warnings and passed over; that all of them are is an error. */
int train_checkpoint_choose(lckv_trainer *t, const char *asked);
/* Makes t->model from t->resumed_from. The options ask for t->config with `vocab_size` rows: LCKV_ERROR_ARGUMENT where
 * that is another model. */
int train_checkpoint_start(lckv_trainer *t, int64_t vocab_size);
/* With an adapter the model is that of the options, and t->resumed_from has the adapter alone: LCKV_ERROR_ARGUMENT
 * where it is of other options than t->model->adapter. */
int train_checkpoint_check_adapter(const lckv_trainer *t);
/* The rest of it, once there is a stepper. Nothing where t->resumed_from is NULL. */
int train_checkpoint_restore(lckv_trainer *t);

/* The weights alone of a checkpoint of this run, which trains no further. */
int train_checkpoint_weights(lckv_trainer *t, const char *folder);

/* Writes the model without the rest: a Hugging Face folder, or the adapter in peft's layout. */
int train_checkpoint_model(lckv_trainer *t, const char *folder);

#endif
