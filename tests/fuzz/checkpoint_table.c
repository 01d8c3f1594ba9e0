/* Fuzz target: config.json, then the header of model.safetensors. Loads the checkpoint. The tensors limit its memory.
 */
#include "fuzz.h"

#include "io/hf_folder.h"

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size);
    checkpoint_load_options options = {.type = size % 2 ? DTYPE_F32 : DTYPE_COUNT};
    model *m;
    fuzz_clear();
    fuzz_put("config.json", fuzz_next(&rest));
    fuzz_put_tensors("model.safetensors", rest);
    int status = checkpoint_load(fuzz_device(), fuzz_folder(), &options, &m);
    status = fuzz_end(status, !m);
    model_free(m);
    return status;
}
