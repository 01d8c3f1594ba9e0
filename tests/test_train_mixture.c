/* Weighted sources: their shares of an epoch, no repetition before all of a source was used, examples as a function of
 * seed and number, names with weights; and a run with a document mask. */
#include "data/mixture.h"
#include "data/sources/sources.h"

#include "train_run_fixture.h"

enum { SOURCES = 3, BLOCK = 4, MAX_BLOCKS = 100 };

static const double WEIGHTS[SOURCES] = {7, 2, 1};
static const int COUNTS[SOURCES] = {40, 60, 9};

/* Source s has blocks of one id each: 100 * s + block. */
static void open_mixture(bool shuffle, int64_t max_blocks, int32_t ids[SOURCES][MAX_BLOCKS * BLOCK], mixture *m) {
    OK(mixture_create(SOURCES, shuffle, 42, m));
    for (int s = 0; s < SOURCES; s++) {
        for (int i = 0; i < COUNTS[s] * BLOCK; i++) ids[s][i] = 100 * s + i / BLOCK;
        m->sources[s].name = "source";
        m->sources[s].weight = WEIGHTS[s];
        m->sources[s].blocks = blocks_of_ids(ids[s], BLOCK, COUNTS[s]);
    }
    OK(mixture_weigh(m, max_blocks));
}

static int read_id(const mixture *m, int64_t number) {
    int32_t ids[BLOCK], labels[BLOCK], lengths[BLOCK];
    int64_t count;
    example e = {ids, labels, lengths, 0, 0};
    OK(m->examples.read(&m->examples, number, &e));
    OK(m->examples.count_labels(&m->examples, number, &count));
    assert_true(e.tokens == BLOCK && e.sequences == 1 && e.lengths[0] == BLOCK && count == BLOCK - 1);
    assert_true(ids[0] == ids[3] && labels[0] == ids[1] && labels[3] == -1);
    return ids[0];
}

/* The first source is used up first: 40 blocks are 70 % of 57.14. The others have 11.43 and 5.71 blocks, rounded down.
 */
static void an_epoch_has_the_shares_that_were_asked_for(void **state) {
    (void)state;
    static const int64_t whole[SOURCES] = {40, 11, 5}, part[SOURCES] = {14, 4, 2};
    static int32_t ids[SOURCES][MAX_BLOCKS * BLOCK];
    for (int max_blocks = 0; max_blocks <= 20; max_blocks += 20) {
        mixture m;
        open_mixture(true, max_blocks, ids, &m);
        const int64_t *expected = max_blocks ? part : whole;
        assert_int_equal(m.examples.count, expected[0] + expected[1] + expected[2]);
        for (int64_t epoch = 0; epoch < 5; epoch++) {
            int64_t found[SOURCES] = {0};
            for (int64_t i = 0; i < m.examples.count; i++) found[read_id(&m, epoch * m.examples.count + i) / 100]++;
            assert_memory_equal(found, expected, sizeof found);
        }
        mixture_free(&m);
    }
}

/* Any 60 consecutive blocks from a multiple of 60 on, of the source with 60 blocks, are all of its blocks. */
static void a_source_is_seen_whole_before_it_is_seen_again(void **state) {
    (void)state;
    static int32_t ids[SOURCES][MAX_BLOCKS * BLOCK];
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        mixture m;
        open_mixture(shuffle, 0, ids, &m);
        int64_t seen[SOURCES] = {0};
        int times[SOURCES][MAX_BLOCKS] = {0};
        for (int64_t number = 0; number < 30 * m.examples.count; number++) {
            int id = read_id(&m, number), s = id / 100;
            assert_int_equal(times[s][id % 100]++, seen[s]++ / COUNTS[s]);
        }
        mixture_free(&m);
    }
}

static void examples_follow_from_their_number(void **state) {
    (void)state;
    static int32_t ids[SOURCES][MAX_BLOCKS * BLOCK];
    int first[200], again = 0, other = 0;
    mixture m;
    open_mixture(true, 0, ids, &m);
    for (int i = 0; i < 200; i++) first[i] = read_id(&m, i);
    for (int i = 199; i >= 0; i--) again += read_id(&m, i) == first[i];
    m.seed = 43;
    for (int i = 0; i < 200; i++) other += read_id(&m, i) == first[i];
    assert_int_equal(again, 200);
    assert_true(other < 50);
    mixture_free(&m);
}

static void a_source_that_would_give_nothing_is_named(void **state) {
    (void)state;
    int32_t ids[8] = {0};
    mixture m;
    OK(mixture_create(2, true, 42, &m));
    m.sources[0] = (mixture_source){.name = "a.txt", .weight = 0.9, .blocks = blocks_of_ids(ids, 4, 2)};
    m.sources[1] = (mixture_source){.name = "b.txt", .weight = 0.1, .blocks = blocks_of_ids(ids, 4, 2)};
    FAILS(mixture_weigh(&m, 0), LCKV_ERROR_FORMAT, "none of 'b.txt', whose share is 0.1");
    mixture_free(&m);
}

/* ---------------------------------------------------------------- names */

static void a_name_may_end_in_a_weight(void **state) {
    folder *r = *state;
    size_t length;
    assert_true(sources_weight("a/b.jsonl.zst:0.7", &length) == 0.7 && length == 13);
    assert_true(sources_weight("b/:3", &length) == 3 && length == 2);
    const char *const plain[] = {"a", "a:", ":1", "a:b", "a:0", "a:-1", "a:nan", "a:inf", "a:1e999", "a:0.5x", "a: 1"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        assert_true(sources_weight(plain[i], &length) == 0);
        assert_int_equal(length, strlen(plain[i]));
    }
    assert_true(sources_weight(put_text_in(r, "chapter:2", "x"), &length) == 0);
}

/* Two corpora of 12 and 40 rows, a block each: a mixture of equal parts has 12 of each in an epoch. */
static void a_run_takes_sources_with_weights(void **state) {
    run t;
    run_begin(&t, state);
    const char *large = write_ids(t.folder, "large.jsonl", 40, 16);
    char name[2][4096];
    const char *names[2] = {name[0], name[1]};
    snprintf(name[0], sizeof name[0], "%s:0.5", t.train);
    snprintf(name[1], sizeof name[1], "%s:0.5", large);
    t.options.train_files = names;
    t.options.train_file_count = 2;
    t.options.per_device_train_batch_size = 8;
    OK(run_go(&t));
    assert_int_equal(t.summary.train_blocks, 24);
    assert_int_equal(t.summary.train_tokens, 52 * 16);
    assert_int_equal(t.summary.steps_per_epoch, 3);
    assert_true(t.story.steps[5].loss < t.story.steps[0].loss);
}

/* Only the ratio of weights matters, also where their sum is no finite number. */
static void weights_have_any_size(void **state) {
    static const char *const weights[] = {"1e308", "0.5", "1e-300"};
    for (int i = 0; i < 3; i++) {
        run t;
        run_begin(&t, state);
        char name[2][4096];
        const char *names[2] = {name[0], name[1]};
        for (int j = 0; j < 2; j++) snprintf(name[j], sizeof name[j], "%s:%s", t.train, weights[i]);
        t.options.train_files = names;
        t.options.train_file_count = 2;
        OK(run_go(&t));
        assert_int_equal(t.summary.train_blocks, 24);
    }
}

static void all_sources_have_weights_or_none(void **state) {
    run t;
    run_begin(&t, state);
    char name[4096];
    const char *names[2] = {name, t.train};
    snprintf(name, sizeof name, "%s:0.5", t.train);
    t.options.train_files = names;
    t.options.train_file_count = 2;
    assert_int_equal(run_go(&t), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), "with a weight above 0 for all sources or for none, found '"));
    char without[4096];
    snprintf(without, sizeof without, "%s:0", t.train);
    names[1] = without;
    assert_int_equal(run_go(&t), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), ":0' without one"));
    t.options.train_file_count = 1;
    t.options.validation_split_percentage = 10;
    assert_int_equal(run_go(&t), LCKV_ERROR_ARGUMENT);
    assert_non_null(strstr(lckv_last_error(), "validation_split_percentage is not supported for sources with weights"));
}

/* ---------------------------------------------------------------- documents of a run */

/* Rows as long as blocks: the mask changes nothing. Blocks of two rows: it does. */
static void a_run_masks_documents(void **state) {
    double loss[2][2];
    for (int masked = 0; masked < 2; masked++)
        for (int rows = 1; rows <= 2; rows++) {
            run t;
            run_begin(&t, state);
            use_validation(&t, 4);
            t.options.block_size = 16 * rows;
            t.options.document_mask = masked;
            t.options.overwrite_output_dir = true;
            OK(run_go(&t));
            loss[masked][rows - 1] = t.result.eval_loss;
        }
    assert_true(loss[0][0] == loss[1][0]);
    assert_true(fabs(loss[0][1] - loss[1][1]) > 1e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_has_the_shares_that_were_asked_for),
        cmocka_unit_test(a_source_is_seen_whole_before_it_is_seen_again),
        cmocka_unit_test(examples_follow_from_their_number),
        cmocka_unit_test(a_source_that_would_give_nothing_is_named),
        IN_FOLDER(a_name_may_end_in_a_weight),
        IN_FOLDER(a_run_takes_sources_with_weights),
        IN_FOLDER(weights_have_any_size),
        IN_FOLDER(all_sources_have_weights_or_none),
        IN_FOLDER(a_run_masks_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
