/* Fuzz target: a GGUF file. Reads its config, its tokenizer and its chat template, and loads the model, whose tensors
 * limit its memory. */
#include "fuzz.h"

#include "config/model_config.h"
#include "io/hf_folder.h"

static int read_config(const char *path) {
    model_config *c;
    int status = config_read(path, NULL, &c);
    status = fuzz_end(status, !c);
    config_free(c);
    return status;
}

/* A file without a tokenizer is fine. */
static int read_tokenizer(const char *path) {
    lckv_tokenizer *t;
    lckv_chat_template *chat;
    int32_t *ids = NULL;
    size_t count = 0;
    int status = lckv_tokenizer_open(path, &t);
    status = fuzz_end(status, !t);
    if (status == LCKV_ERROR_FILE) return LCKV_OK;
    if (status >= 0) status = fuzz_end(lckv_tokenizer_encode(t, "ab  c1 <s>", 10, true, &ids, &count), true);
    for (size_t i = 0; i < count; i++) FUZZ_CHECK(lckv_tokenizer_id_to_token(t, ids[i]));
    if (status >= 0) {
        status = lckv_chat_template_open(path, NULL, &chat);
        status = fuzz_end(status, !chat);
        lckv_chat_template_free(chat);
    }
    lckv_free(ids);
    lckv_tokenizer_free(t);
    return status;
}

static int load(const char *path, dtype type) {
    checkpoint_load_options options = {.type = type};
    model *m;
    int status = checkpoint_load(fuzz_device(), path, &options, &m);
    status = fuzz_end(status, !m);
    model_free(m);
    return status;
}

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_clear();
    const char *path = fuzz_put("model.gguf", fuzz_all(data, size));
    int status = read_config(path);
    if (status >= 0) status = read_tokenizer(path);
    if (status >= 0) status = load(path, size % 2 ? DTYPE_F32 : DTYPE_COUNT);
    return status;
}
