/* Cost tables whose choice between the plan and lockstep is known, and a folder to keep them in. */
#ifndef TESTS_COST_FIXTURE_H
#define TESTS_COST_FIXTURE_H

#include "base/files/file.h"
#include "generate/batcher/prefill.h"
#include "generate/costs/encoding_choice.h"

#include "engine_fixture.h"
#include "temp_folder.h"

/* Costs in which one of the two forms is a thousand times as expensive. */
static inline cost_table table_of(lckv_encoding cheap) {
    cost_table t = {0};
    for (int form = LCKV_ENCODING_PLAN; form <= LCKV_ENCODING_SEQUENTIAL; form++)
        for (int64_t rows = 1; rows <= 1024; rows *= 32)
            cost_table_add(&t, (lckv_step_cost){.encoding = (lckv_encoding)form,
                                                .rows = rows,
                                                .seconds = form == (int)cheap ? 1e-3 : 1});
    return t;
}

static const chunk_rules chunks = {PREFILL_SMALLEST_CHUNK, PREFILL_CHUNK_TOKENS, 0}; /* of an engine */

static inline void write_table(const fixture *f, const char *path, lckv_encoding cheap) {
    cost_table t = table_of(cheap);
    cost_key key;
    OK(cost_key_make(f->model, DTYPE_F32, DTYPE_F32, 0, &chunks, &key));
    OK(cost_table_store(path, &key, &t));
    cost_key_free(&key);
}

static char folder[PATH_BYTES], path[2 * PATH_BYTES];

static inline int make_folder(void **state) {
    (void)state;
    bool made = temp_folder_create(folder);
    snprintf(path, sizeof path, "%s/inside/costs.json", folder);
    return made ? 0 : -1;
}

static inline int remove_folder(void **state) {
    (void)state;
    remove_tree(folder);
    return 0;
}

#endif
