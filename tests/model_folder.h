/* A small random model with the small tokenizer in a temporary folder, for tests of the program. */
#ifndef TESTS_MODEL_FOLDER_H
#define TESTS_MODEL_FOLDER_H

#include "small_tokenizer.h"

static const char MODEL_FOLDER_CONFIG[] =
    "{\"model_type\":\"lckv-llama\",\"hidden_size\":24,\"intermediate_size\":36,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"num_hidden_layers\":4,"
    "\"layer_types\":\"0_2_2_3\",\"forward_passes\":2,\"backward_passes\":1,\"vocab_size\":277,"
    "\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"initializer_range\":0.3,"
    "\"eos_token_id\":2,\"torch_dtype\":\"float32\"}";

/* Test setup: FOLDER/model has weights, config and tokenizer; FOLDER/config.json is the original config. */
static inline int model_folder_open(void **state) {
    lckv_device *d;
    lckv_config *c;
    lckv_model *m;
    if (folder_open(state)) return -1;
    folder *f = *state, inside;
    snprintf(inside.path, sizeof inside.path, "%.480s/model", f->path);
    OK(folder_create(inside.path));
    put_text(in(f, "config.json"), MODEL_FOLDER_CONFIG);
    OK(lckv_device_open("cpu", 2, &d));
    OK(lckv_config_load(in(f, "config.json"), NULL, &c));
    OK(lckv_model_create(d, c, NULL, 1, &m));
    OK(lckv_model_save(m, inside.path, NULL));
    small_tokenizer_write(&inside);
    lckv_model_free(m);
    lckv_config_free(c);
    lckv_device_close(d);
    return 0;
}

#endif
