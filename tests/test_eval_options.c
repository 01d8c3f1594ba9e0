/* Option structs of programs that were compiled with an older or a newer lckv.h: smaller and larger structs. */
#include "base/options.h"

#include "expect.h"

#include <string.h>

typedef struct old_options {
    size_t struct_size;
    int64_t length;
} old_options;

typedef struct known_options {
    size_t struct_size;
    int64_t length;
    double temperature;
} known_options;

typedef struct new_options {
    size_t struct_size;
    int64_t length;
    double temperature;
    const char *name;
} new_options;

static const known_options DEFAULTS = {.length = 20, .temperature = 0.5};

static int take(const void *given, known_options *taken) {
    *taken = DEFAULTS;
    return options_take(taken, sizeof *taken, given, "lckv_known_defaults");
}

static void callers_get_what_their_struct_has(void **state) {
    (void)state;
    known_options room[2]; /* only the old part of the struct belongs to the caller */
    memset(room, 0x5a, sizeof room);
    options_give(room, sizeof(old_options), &DEFAULTS, sizeof DEFAULTS);
    old_options old;
    memcpy(&old, room, sizeof old);
    assert_int_equal(old.struct_size, sizeof old);
    assert_int_equal(old.length, 20);
    for (size_t i = sizeof old; i < sizeof room; i++) assert_int_equal(((unsigned char *)room)[i], 0x5a);

    new_options newer;
    memset(&newer, 0x5a, sizeof newer);
    options_give(&newer, sizeof newer, &DEFAULTS, sizeof DEFAULTS);
    assert_int_equal(newer.struct_size, sizeof newer);
    assert_true(newer.length == 20 && newer.temperature == 0.5 && !newer.name);
}

static void fields_beyond_the_callers_struct_are_defaults(void **state) {
    (void)state;
    known_options o;
    const old_options old = {sizeof old, 7};
    assert_int_equal(take(&old, &o), LCKV_OK);
    assert_int_equal(o.struct_size, sizeof o);
    assert_true(o.length == 7 && o.temperature == 0.5);
    assert_int_equal(take(NULL, &o), LCKV_OK);
    assert_true(o.length == 20 && o.temperature == 0.5);
    const known_options same = {sizeof same, 8, 2};
    assert_int_equal(take(&same, &o), LCKV_OK);
    assert_true(o.length == 8 && o.temperature == 2);
}

static void fields_that_the_library_does_not_know_must_be_unset(void **state) {
    (void)state;
    known_options o;
    new_options newer = {sizeof newer, 7, 2, NULL};
    assert_int_equal(take(&newer, &o), LCKV_OK);
    assert_true(o.struct_size == sizeof o && o.length == 7 && o.temperature == 2);
    newer.name = "new";
    assert_int_equal(take(&newer, &o), LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "does not have"));
}

static void unfilled_options_are_named(void **state) {
    (void)state;
    known_options o, unfilled = {.length = 7};
    const size_t sizes[] = {0, 1, sizeof(size_t) - 1, (size_t)-1, (size_t)1 << 40};
    for (int i = 0; i < 5; i++) {
        unfilled.struct_size = sizes[i];
        assert_int_equal(take(&unfilled, &o), LCKV_ERROR_ARGUMENT);
        assert_non_null(strstr(lckv_last_error(), "options were not filled by lckv_known_defaults()"));
    }
}

/* Calls every function that takes options with a struct of zeros: the error names the function that fills it. */
static void every_function_names_its_defaults(void **state) {
    (void)state;
    void *out;
    lckv_memory memory;
    lckv_fetch_result fetched;
    lckv_tokenized tokenized;
    lckv_chat_text text;
    lckv_trainer *trainer;
    char *json;
    uint64_t id;
#define UNFILLED(call, name)                                                                                           \
    do {                                                                                                               \
        assert_int_equal(call, LCKV_ERROR_ARGUMENT);                                                                   \
        assert_non_null(strstr(lckv_last_error(), "not filled by lckv_" name "()"));                                   \
    } while (0)
    UNFILLED(lckv_model_open(NULL, "x", &(lckv_model_options){0}, (lckv_model **)&out), "model_defaults");
    UNFILLED(lckv_model_save(NULL, "x", &(lckv_save_options){0}), "save_defaults");
    UNFILLED(lckv_convert(&(lckv_convert_options){0}), "convert_defaults");
    UNFILLED(lckv_chat_template_render(NULL, &(lckv_chat){0}, &text), "chat_defaults");
    UNFILLED(lckv_fetch(&(lckv_fetch_options){0}, &fetched), "fetch_defaults");
    UNFILLED(lckv_tokenize(&(lckv_train_options){0}, &tokenized), "train_defaults");
    UNFILLED(lckv_trainer_create(&(lckv_train_options){0}, &trainer), "train_defaults");
    lckv_train_options train = lckv_train_defaults();
    train.tuning = &(lckv_tuning){0};
    UNFILLED(lckv_trainer_create(&train, &trainer), "tuning_defaults");
    train = lckv_train_defaults();
    train.lora = &(lckv_lora){0};
    UNFILLED(lckv_trainer_create(&train, &trainer), "lora_defaults");
    UNFILLED(lckv_generate(NULL, NULL, NULL, 0, &(lckv_generate_options){0}, (lckv_generation **)&out),
             "generate_defaults");
    UNFILLED(lckv_engine_create(NULL, NULL, &(lckv_engine_options){0}, (lckv_engine **)&out), "engine_defaults");
    UNFILLED(lckv_engine_submit(NULL, &(lckv_request){0}, &id), "request_defaults");
    UNFILLED(lckv_score(NULL, NULL, 0, &(lckv_score_options){0}, NULL), "score_defaults");
    UNFILLED(lckv_eval(NULL, NULL, &(lckv_eval_options){0}, &json), "eval_defaults");
    UNFILLED(lckv_perplexity_open(NULL, &(lckv_perplexity_options){0}, (lckv_perplexity **)&out),
             "perplexity_defaults");
    UNFILLED(lckv_memory_for_training(NULL, &(lckv_training_shape){0}, &memory), "training_shape_defaults");
    UNFILLED(lckv_memory_for_serving(NULL, &(lckv_serving_shape){0}, &memory), "serving_shape_defaults");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_get_what_their_struct_has),
        cmocka_unit_test(fields_beyond_the_callers_struct_are_defaults),
        cmocka_unit_test(fields_that_the_library_does_not_know_must_be_unset),
        cmocka_unit_test(unfilled_options_are_named),
        cmocka_unit_test(every_function_names_its_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
