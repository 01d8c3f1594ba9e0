/* Adding a LoRA adapter, see lora.h. */
#include "train/step/lora.h"

int lora_add(model *m, const lckv_lora *lora) {
    if (!lora) return LCKV_OK;
    adapter_options options = {.rank = lora->r, .alpha = lora->alpha, .dropout = lora->dropout};
    TRY(adapter_targets(lora->target_modules, lora->target_module_count, &options.targets));
    return adapter_create(m->params, &options, &m->adapter);
}
