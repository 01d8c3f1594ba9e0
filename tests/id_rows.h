/* Training data and a config for tests of the program: 12 documents of 16 ids below 32, as JSON lines. */
#ifndef TESTS_ID_ROWS_H
#define TESTS_ID_ROWS_H

#include <stdio.h>

/* A tiny config for these ids; LAYERS is a string, MORE has additional keys after a comma. */
#define ID_ROWS_CONFIG(LAYERS, MORE)                                                                                   \
    "{\"model_type\":\"lckv-llama\",\"hidden_size\":16,\"intermediate_size\":24,\"num_attention_heads\":2,"            \
    "\"num_key_value_heads\":1,\"num_hidden_layers\":" LAYERS ",\"vocab_size\":32,\"max_position_embeddings\":64,"     \
    "\"rms_norm_eps\":1e-5" MORE "}"

enum { ID_ROWS = 12, ID_ROW_LENGTH = 16, ID_ROWS_BYTES = 2048 };

static inline void id_rows(char text[ID_ROWS_BYTES]) {
    size_t at = 0;
    for (int row = 0; row < ID_ROWS; row++) {
        at += (size_t)snprintf(text + at, ID_ROWS_BYTES - at, "{\"input_ids\":[");
        for (int i = 0; i < ID_ROW_LENGTH; i++)
            at += (size_t)snprintf(text + at, ID_ROWS_BYTES - at, i ? ",%d" : "%d", (row * 7 + i) % 32);
        at += (size_t)snprintf(text + at, ID_ROWS_BYTES - at, "]}\n");
    }
}

#endif
