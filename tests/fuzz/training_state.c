/* Fuzz target: checksums.json of a training checkpoint, then its trainer_state.json. checksums.json may contain the
 * checksum of the second file. */
#include "fuzz.h"

#include "train/checkpoint/manifest.h"
#include "train/report/trainer_state.h"

#include <stdlib.h>

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size);
    history h = {0};
    fuzz_clear();
    fuzz_put("checksums.json", fuzz_next(&rest));
    fuzz_put("trainer_state.json", rest);
    int status = fuzz_end(trainer_state_read(&h, fuzz_folder()), true);
    history_clear(&h);
    return status < 0 ? status : fuzz_end(manifest_check(fuzz_folder()), true);
}
