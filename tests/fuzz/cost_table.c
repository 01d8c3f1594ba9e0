/* Fuzz target: a file of cost tables. Estimates of an accepted table are finite, and do not fall with the number of
 * rows. The table can be stored and read again. */
#include "fuzz.h"

#include "generate/costs/cost_table.h"

#include <math.h>
#include <string.h>

static void estimate(const cost_table *t, lckv_encoding form) {
    double before = 0;
    for (double rows = 1; rows < 1e6; rows *= 3) {
        double seconds = cost_of_step(t, form, rows, 100);
        FUZZ_CHECK(isfinite(seconds) && seconds >= before);
        before = seconds;
    }
}

int fuzz_run(const uint8_t *data, size_t size) {
    const cost_key key = {.device = "d", .model = (char[]){"m"}};
    cost_table t, again;
    fuzz_clear();
    const char *path = fuzz_put("costs.json", fuzz_all(data, size));
    int status = cost_table_load(path, &key, &t);
    status = fuzz_end(status, t.count == 0);
    if (status < 0 || !t.count) return status;
    estimate(&t, LCKV_ENCODING_PLAN);
    estimate(&t, LCKV_ENCODING_SEQUENTIAL);
    FUZZ_CHECK(cost_table_store(path, &key, &t) >= 0);
    FUZZ_CHECK(cost_table_load(path, &key, &again) >= 0);
    FUZZ_CHECK(again.count == t.count);
    for (int i = 0; i < t.count; i++) FUZZ_CHECK(again.steps[i].rows == t.steps[i].rows);
    return status;
}
