/* Adds a LoRA adapter (model/adapter.h) by the options of a run (lckv_lora in lckv.h). */
#ifndef TRAIN_LORA_H
#define TRAIN_LORA_H

#include "lckv.h"
#include "model/model.h"

/* Adds an adapter, which is then what training changes; its values are undefined. Does nothing if `lora` is NULL.
 * LCKV_ERROR_ARGUMENT if a value is out of range or a target does not exist. */
int lora_add(model *m, const lckv_lora *lora);

#endif
