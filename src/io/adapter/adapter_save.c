/* Writing an adapter, see adapter_save.h. */
#include "io/adapter/adapter_save.h"

#include "io/adapter/adapter_file.h"
#include "io/tensors/staging.h"

#include <stdlib.h>

static json_t *target_modules(const adapter *a) {
    json_t *names = json_array();
    for (int bit = 0; names && bit < ADAPTER_KINDS; bit++)
        if (a->options.targets & (1u << bit)) json_array_append_new(names, json_string(adapter_target_name(bit)));
    return names;
}

static json_t *number(double value) {
    return value == (double)(int)value ? json_integer((int)value) : json_real(value);
}

/* The keys of peft's LoraConfig; those that lckv does not use have its defaults. */
static json_t *describe(const adapter *a, const char *base) {
    return json_pack("{ss sn ss? ss sb sb sb so sf sn sn si so ss sb sb s{} s{} sn sn sn}", "peft_type", "LORA",
                     "auto_mapping", "base_model_name_or_path", base, "bias", "none", "fan_in_fan_out", 0,
                     "inference_mode", 1, "init_lora_weights", 1, "lora_alpha", number(a->options.alpha),
                     "lora_dropout", a->options.dropout, "modules_to_save", "layers_to_transform", "r",
                     (int)a->options.rank, "target_modules", target_modules(a), "task_type", "CAUSAL_LM", "use_dora", 0,
                     "use_rslora", 0, "rank_pattern", "alpha_pattern", "layers_pattern", "revision",
                     "layer_replication");
}

static int item_values(void *user, int index, element_range range, void *bytes) {
    const adapter_save_options *o = user;
    return o->values(o->user, index, range, o->type, bytes);
}

static int stage_weights(staging *s, const adapter *a, const adapter_save_options *o, safetensors_item *items) {
    const params *p = a->weights;
    new_file *file;
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        items[i] = (safetensors_item){.name = w->name, .type = o->type, .shape = {w->rows, w->cols}, .dimensions = 2};
    }
    TRY(staging_begin(s, ADAPTER_WEIGHTS, &file));
    return safetensors_write(file, items, p->count, item_values, (void *)(uintptr_t)o);
}

int adapter_save(const adapter *a, const adapter_save_options *o, const char *folder) {
    staging s = {.folder = folder};
    safetensors_item *items = calloc((size_t)a->weights->count, sizeof *items);
    REQUIRE(items, LCKV_ERROR_MEMORY, "no memory for a list of %d tensors", a->weights->count);
    int status = folder_create(folder);
    if (status >= 0) status = staging_json(&s, ADAPTER_CONFIG, describe(a, o->base), JSON_SORT_KEYS);
    if (status >= 0 && o->tokenizer) status = staging_tokenizer(&s, o->tokenizer, o->chat_template);
    if (status >= 0) status = stage_weights(&s, a, o, items);
    if (status >= 0) status = staging_sync(&s);
    if (status >= 0) status = staging_commit(&s);
    staging_abandon(&s);
    free(items);
    return status;
}
