/* LoRA as the options of a run ask for it: see lckv_lora in lckv.h, and model/adapter.h. */
#ifndef TRAIN_LORA_H
#define TRAIN_LORA_H

#include "lckv.h"
#include "model/model.h"

/* Gives the model an adapter, which is what training will change then. NULL: none, nothing happens. Its values are
 * undefined. LCKV_ERROR_ARGUMENT: a value is out of range, or there is no matrix of a name. */
int lora_add(model *m, const lckv_lora *lora);

#endif
