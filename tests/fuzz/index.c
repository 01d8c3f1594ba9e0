/* Fuzz target: model.safetensors.index.json, then the headers of up to two shards. */
#include "fuzz.h"

#include "io/tensors/checkpoint_files.h"

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size);
    checkpoint_files files;
    fuzz_clear();
    fuzz_put(CHECKPOINT_INDEX, fuzz_next(&rest));
    fuzz_put_tensors("model-00001-of-00002.safetensors", fuzz_next(&rest));
    fuzz_put_tensors("model-00002-of-00002.safetensors", fuzz_next(&rest));
    int status = checkpoint_files_open(fuzz_folder(), &files);
    status = fuzz_end(status, !files.source && !files.files && !files.tensors);
    for (int i = 0; i < files.count; i++)
        FUZZ_CHECK(checkpoint_files_find(&files, files.tensors[i].entry->name) == &files.tensors[i]);
    checkpoint_files_close(&files);
    return status;
}
