/* lckv score --dump: names and number of tensors, equality of the plan's last iteration and the exact form, and errors.
 * python_test.py compares the contents with the golden models. */
#include "program.h"

#include "generate/dump.h"
#include "io/tensors/safetensors.h"
#include "model_folder.h"

#include <math.h>

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)
#define SCORE(f) "score", "--model_name_or_path", in((f), "model"), "--device", "cpu", "--threads", "2"

enum { TOKENS = 8, HIDDEN = 24, KV = 12 };
static const char IDS[] = "5,6,7,200,9,30,11,120";

static void patterns(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        {"layers.*.{hidden,k}", "layers.3.k", true},  {"layers.*.{hidden,k}", "layers.3.attn", false},
        {"layers.{0,1?}.{k,v}", "layers.12.v", true}, {"layers.{0,1?}.{k,v}", "layers.1.v", false},
        {"layers.{,1}2.k", "layers.2.k", true},       {"layers.[0-2].k", "layers.2.k", true},
        {"layers.{0.k", "layers.{0.k", true},         {"", "layers.0.k", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (dump_matches(cases[i].pattern, cases[i].name) != cases[i].matches)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].name);
}

static void open_dump(const folder *f, const char *encoding, const char *more, safetensors_file *out) {
    outcome o = RUN(f, SCORE(f), "--prompt_ids", IDS, "--config_overrides", "forward_passes=9", "--encoding", encoding,
                    "--dump", "layers.*", in(f, "d.safetensors"), more);
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    outcome_free(&o);
    OK(safetensors_open(in(f, "d.safetensors"), out));
}

/* Four layers, 0_2_2_3: layers 1 and 2 form a loop; 0, 2 and 3 own slots. */
static void names_and_shapes(void **state) {
    const folder *f = *state;
    safetensors_file kept, runs;
    open_dump(f, "plan", "--json", &kept);
    assert_int_equal(kept.count, 4 * 2 + 3 * 2);
    const safetensors_entry *hidden = safetensors_find(&kept, "layers.3.hidden");
    assert_int_equal(hidden->shape[0], TOKENS);
    assert_int_equal(hidden->shape[1], HIDDEN);
    assert_int_equal(safetensors_find(&kept, "layers.2.k")->shape[1], KV);
    assert_null(safetensors_find(&kept, "layers.1.k"));
    open_dump(f, "plan", "--dump_iterations", &runs);
    /* layers 0 and 3 as before; for ten iterations two tensors each of layer 1, K and V each of layer 2, and two more
     * of the last */
    assert_int_equal(runs.count, 2 * 4 + 10 * 2 + 10 * 2 + 2);
    assert_non_null(safetensors_find(&runs, "layers.1.run.0.hidden"));
    assert_null(safetensors_find(&runs, "layers.2.run.8.hidden"));
    assert_memory_equal(safetensors_find(&runs, "layers.2.run.9.hidden")->data,
                        safetensors_find(&kept, "layers.2.hidden")->data, TOKENS * HIDDEN * 4);
    safetensors_close(&kept);
    safetensors_close(&runs);
}

/* Ten iterations are exact for eight tokens. Tolerance: sums of at most 36 terms, in another order, through four
 * layers. */
static void both_forms_agree(void **state) {
    const folder *f = *state;
    safetensors_file planned, exact;
    open_dump(f, "plan", "--json", &planned);
    open_dump(f, "sequential", "--json", &exact);
    assert_int_equal(planned.count, exact.count);
    for (int i = 0; i < planned.count; i++) {
        assert_string_equal(planned.entries[i].name, exact.entries[i].name);
        const float *a = (const void *)planned.entries[i].data, *b = (const void *)exact.entries[i].data;
        for (int64_t j = 0; j < planned.entries[i].elements; j++)
            if (!(fabsf(a[j] - b[j]) < 1e-4f))
                fail_msg("%s: %g, %g", planned.entries[i].name, (double)a[j], (double)b[j]);
    }
    safetensors_close(&planned);
    safetensors_close(&exact);
}

/* 8 bits of mantissa, at most some tens of successive roundings */
static void bfloat16_is_widened(void **state) {
    const folder *f = *state;
    safetensors_file wide, narrow;
    open_dump(f, "plan", "--json", &wide);
    open_dump(f, "plan", "--bf16", &narrow);
    const float *a = (const void *)safetensors_find(&wide, "layers.0.v")->data;
    const float *b = (const void *)safetensors_find(&narrow, "layers.0.v")->data;
    bool same = true;
    for (int i = 0; i < TOKENS * KV; i++) {
        assert_true(fabsf(a[i] - b[i]) <= 0.05f * (1 + fabsf(a[i])));
        same &= a[i] == b[i];
    }
    assert_false(same);
    safetensors_close(&wide);
    safetensors_close(&narrow);
}

static void what_is_refused(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "expected two values: NAMES FILE", SCORE(f), "--prompt_ids", IDS, "--dump", "layers.*");
    REFUSES(f, 2, "--dump_iterations requires --dump", SCORE(f), "--prompt_ids", IDS, "--dump_runs");
    outcome o = RUN(f, SCORE(f), "--prompt_ids", IDS, "--dump", "layer.*", in(f, "none.safetensors"));
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "no tensor matches 'layer.*'"));
    assert_false(file_exists(in(f, "none.safetensors")));
    outcome_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns),      WITH_MODEL(names_and_shapes), WITH_MODEL(both_forms_agree),
        WITH_MODEL(bfloat16_is_widened), WITH_MODEL(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
