/* Instruction data: tokens of rows, trained tokens, packing, and runs. Losses against trl: test_train_trl.c. */
#include "data/tuning/tuning_set.h"
#include "data/tuning/tuning_text.h"

#include "base/rng.h"
#include "log_capture.h"
#include "model_folder.h"

#include <math.h>

static const char TEMPLATE[] = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ 'a' + m.content }}"
                               "{% else %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% endif %}"
                               "{% endfor %}{% if add_generation_prompt %}{{ '' }}{% endif %}";

/* The small tokenizer's names for BOS and EOS, and the template. */
static void write_template(const folder *f) {
    put_text(in(f, "model/tokenizer_config.json"), "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}");
    put_text(in(f, "template.jinja"), TEMPLATE);
}

typedef struct reading {
    lckv_tuning how;
    lckv_tokenizer *tokenizer;
    lckv_chat_template *chat_template;
    tuning_rows rows;
} reading;

static void begin(reading *r, const folder *f, bool with_template) {
    write_template(f);
    *r = (reading){.how = lckv_tuning_defaults()};
    OK(lckv_tokenizer_open(in(f, "model"), &r->tokenizer));
    if (with_template) OK(lckv_chat_template_open(in(f, "model"), in(f, "template.jinja"), &r->chat_template));
}

static int read_rows(reading *r, const folder *f, const char *text, int32_t longest) {
    const char *path = in(f, "rows.jsonl");
    put_text(path, text);
    const tuning_options o = {.how = &r->how,
                              .paths = &path,
                              .path_count = 1,
                              .tokenizer = r->tokenizer,
                              .chat_template = r->chat_template,
                              .longest = longest};
    tuning_rows_free(&r->rows);
    return tuning_rows_read(&o, &r->rows);
}

static void end(reading *r) {
    tuning_rows_free(&r->rows);
    lckv_chat_template_free(r->chat_template);
    lckv_tokenizer_free(r->tokenizer);
}

/* Checks that row `row` decodes to `text`, and which of its tokens are trained on: "x" in `learned`, else ".". */
static void expect_row(const reading *r, int64_t row, const char *text, const char *learned) {
    int64_t first = tuning_row_begin(&r->rows, row), count = r->rows.ends[row] - first;
    char *words, marks[128] = "";
    size_t bytes;
    OK(lckv_tokenizer_decode(r->tokenizer, r->rows.ids.ids + first, (size_t)count, false, &words, &bytes));
    for (int64_t i = 0; i < count; i++) marks[i] = r->rows.learned[first + i] ? 'x' : '.';
    marks[count] = 0;
    if (strcmp(words, text) || strcmp(marks, learned))
        fail_msg("row %d is \"%s\" %s, expected \"%s\" %s", (int)row, words, marks, text, learned);
    lckv_free(words);
}

/* ---------------------------------------------------------------- rows */

static void texts_end_in_eos_once(void **state) {
    reading r;
    begin(&r, *state, false);
    OK(read_rows(&r, *state, "{\"text\":\"a b\"}\n{\"text\":\"a b</s>\"}\n{\"input\":1,\"text\":\"\"}\n", 64));
    assert_int_equal(r.rows.count, 3);
    expect_row(&r, 0, "<s> a b</s>", "xxxx");
    expect_row(&r, 1, "<s> a b</s>", "xxxx");
    r.how.dataset_text_field = "said";
    OK(read_rows(&r, *state, "{\"said\":\"a\",\"text\":\"b\"}\n", 64));
    expect_row(&r, 0, "<s> a</s>", "xxx");
    end(&r);
}

static void completions_are_learned(void **state) {
    static const char row[] = "{\"prompt\":\"a b\",\"completion\":\" b a\"}\n";
    reading r;
    begin(&r, *state, false);
    OK(read_rows(&r, *state, row, 64));
    expect_row(&r, 0, "<s> a b b a</s>", "...xxx");
    r.how.completion_only_loss = LCKV_COMPLETION_LOSS_NO;
    OK(read_rows(&r, *state, row, 64));
    expect_row(&r, 0, "<s> a b b a</s>", "xxxxxx");
    r.how.completion_only_loss = LCKV_COMPLETION_LOSS_YES; /* texts do not change */
    OK(read_rows(&r, *state, "{\"text\":\"a b\"}\n", 64));
    expect_row(&r, 0, "<s> a b</s>", "xxxx");
    assert_int_equal(r.rows.mismatched, 0);
    /* "a " ends in a space that the whole text encodes together with what follows: the prompt has three tokens, of
     * which the whole text starts with two */
    OK(read_rows(&r, *state, "{\"prompt\":\"a \",\"completion\":\"b\"}\n", 64));
    assert_int_equal(r.rows.mismatched, 1);
    expect_row(&r, 0, "<s> a b</s>", "...x");
    end(&r);
}

static void conversations_are_put_into_words(void **state) {
    static const char talk[] = "{\"messages\":[{\"role\":\"user\",\"content\":\" the cat\"},"
                               "{\"role\":\"assistant\",\"content\":\" sat\"},{\"role\":\"user\",\"content\":\" on\"},"
                               "{\"role\":\"assistant\",\"content\":\" the\"}]}\n";
    static const char parts[] = "{\"prompt\":[{\"role\":\"user\",\"content\":\" the\"}],"
                                "\"completion\":[{\"role\":\"assistant\",\"content\":\" sat\"}]}\n";
    reading r;
    begin(&r, *state, true);
    OK(read_rows(&r, *state, talk, 64));
    for (int64_t i = 0; i < r.rows.ends[0]; i++) assert_true(r.rows.learned[i]);
    assert_int_equal(r.rows.endless, 0);
    r.how.assistant_only_loss = true;
    OK(read_rows(&r, *state, talk, 64));
    int64_t answers = 0, all = r.rows.ends[0];
    for (int64_t i = 0; i < all; i++) answers += r.rows.learned[i];
    assert_true(answers >= 4 && answers < all - 4); /* two words and two ends */
    assert_true(r.rows.learned[all - 1]);
    assert_int_equal(r.rows.ids.ids[all - 1], 2);
    OK(read_rows(&r, *state, parts, 64));
    r.how.assistant_only_loss = false;
    OK(read_rows(&r, *state, parts, 64));
    int64_t learned = 0;
    for (int64_t i = 0; i < r.rows.ends[0]; i++) learned += r.rows.learned[i];
    assert_true(learned >= 2 && learned < r.rows.ends[0]);
    end(&r);
}

/* As trl's maybe_convert_to_chatml: other keys, the same roles. Nulls count as absent. */
static void from_and_value_are_role_and_content(void **state) {
    static const char *const rows[][2] = {
        {"{\"conversations\":[{\"from\":\"user\",\"value\":\" the\"},{\"from\":\"assistant\",\"value\":\" sat\"}]}\n",
         "{\"messages\":[{\"role\":\"user\",\"content\":\" the\"},{\"role\":\"assistant\",\"content\":\" sat\"}]}\n"},
        {"{\"conversations\":[{\"from\":\"human\",\"value\":\" the\"},{\"from\":\"gpt\",\"value\":\" "
         "sat\"}],\"text\":\"a\"}\n",
         "{\"messages\":[{\"role\":\"human\",\"content\":\" the\"},{\"role\":\"gpt\",\"content\":\" sat\"}]}\n"},
        {"{\"conversations\":[{\"from\":\"user\",\"value\":\" "
         "on\"}],\"completion\":[{\"from\":\"assistant\",\"value\":\"a\"}],"
         "\"prompt\":[{\"from\":\"user\",\"value\":\" the\"}]}\n",
         "{\"prompt\":[{\"role\":\"user\",\"content\":\" "
         "the\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"a\"}]}\n"},
        {"{\"text\":null,\"prompt\":null,\"tools\":null,\"messages\":[{\"role\":\"user\",\"content\":\" "
         "the\",\"name\":null}]}\n",
         "{\"messages\":[{\"role\":\"user\",\"content\":\" the\"}]}\n"},
    };
    reading given, expected;
    begin(&given, *state, true);
    begin(&expected, *state, true);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OK(read_rows(&given, *state, rows[i][0], 64));
        OK(read_rows(&expected, *state, rows[i][1], 64));
        assert_int_equal(given.rows.ids.count, expected.rows.ids.count);
        assert_memory_equal(given.rows.ids.ids, expected.rows.ids.ids, given.rows.ids.count * sizeof(int32_t));
        assert_memory_equal(given.rows.learned, expected.rows.learned, given.rows.ids.count);
        assert_int_equal(given.rows.foreign, i == 1);
    }
    OK(read_rows(&given, *state, rows[1][0], 64));
    assert_string_equal(given.rows.foreign_role, "human");
    end(&given);
    end(&expected);
}

/* If a template rejects a role, the error states the role and the row. */
static void a_role_that_a_template_refuses_is_named(void **state) {
    reading r;
    begin(&r, *state, false);
    put_text(in(*state, "strict.jinja"), "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
                                         "{{ raise_exception('Unknown role!') }}{% endif %}{% endfor %}");
    OK(lckv_chat_template_open(in(*state, "model"), in(*state, "strict.jinja"), &r.chat_template));
    FAILS(read_rows(&r, *state, "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"the\"}]}\n", 64),
          LCKV_ERROR_ARGUMENT, "the row has the role 'gpt', which lckv passes to the template unchanged");
    end(&r);
}

/* The answer " b " of "a b a": its last space is part of the next token. */
static void tokens_across_the_end_of_an_answer_count(void **state) {
    reading r;
    begin(&r, *state, false);
    put_text(in(*state, "tight.jinja"),
             "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}{% generation %}"
             "{{ m.content }}{% endgeneration %}{{ 'a' }}{% endif %}{% endfor %}");
    OK(lckv_chat_template_open(in(*state, "model"), in(*state, "tight.jinja"), &r.chat_template));
    r.how.assistant_only_loss = true;
    OK(read_rows(&r, *state,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                 "{\"role\":\"assistant\",\"content\":\" b \"}]}\n",
                 64));
    expect_row(&r, 0, "a b a", ".xx");
    assert_int_equal(r.rows.endless, 1);
    end(&r);
}

/* Alpaca's prompt without a chat template, the template's text with one. */
static void alpacas_rows_are_prompts(void **state) {
    static const char rows[] = "{\"instruction\":\"the\",\"input\":\"cat\",\"output\":\"sat\"}\n"
                               "{\"instruction\":\"the\",\"input\":\"\",\"output\":\"sat\"}\n"
                               "{\"instruction\":\"the\",\"output\":\"sat\"}\n";
    lckv_tuning how = lckv_tuning_defaults();
    const tuning_source source = {.how = &how, .eos = "</s>", .where = "here"};
    json_t *row = json_pack("{ss ss ss}", "instruction", "the", "input", "cat", "output", "sat");
    tuning_text t;
    (void)state;
    OK(tuning_text_of_row(&source, row, &t));
    assert_string_equal(t.whole + t.prompt_bytes, "sat</s>");
    assert_memory_equal(t.whole, t.prompt, t.prompt_bytes);
    assert_non_null(strstr(t.prompt, ", paired with an input that provides further context. Write"));
    assert_non_null(strstr(t.prompt, ".\n\n### Instruction:\nthe\n\n### Input:\ncat\n\n### Response:"));
    tuning_text_free(&t);
    json_object_del(row, "input");
    OK(tuning_text_of_row(&source, row, &t));
    assert_non_null(strstr(t.prompt, "a task. Write a response that appropriately completes the request.\n\n###"));
    assert_null(strstr(t.prompt, "Input"));
    tuning_text_free(&t);
    json_decref(row);
    reading r;
    begin(&r, *state, true);
    OK(read_rows(&r, *state, rows, 64));
    assert_int_equal(r.rows.count, 3);
    assert_int_equal(r.rows.alpaca, 0);
    end(&r);
    begin(&r, *state, false);
    OK(read_rows(&r, *state, rows, 512));
    assert_int_equal(r.rows.alpaca, 3);
    end(&r);
}

/* Rendering one question and its answer gives the encoding of such rows. */
static void alpacas_template_says_alpacas_words(void **state) {
    lckv_tuning how = lckv_tuning_defaults();
    const tuning_source source = {.how = &how, .eos = "</s>", .where = "here"};
    lckv_chat_template *t;
    lckv_chat chat = lckv_chat_defaults();
    lckv_chat_text said;
    tuning_text row;
    json_t *given = json_pack("{ss ss}", "instruction", "the", "output", "sat");
    write_template(*state);
    put_text(in(*state, "alpaca.jinja"), TUNING_ALPACA_TEMPLATE);
    OK(lckv_chat_template_open(in(*state, "model"), in(*state, "alpaca.jinja"), &t));
    OK(tuning_text_of_row(&source, given, &row));
    chat.messages = "[{\"role\":\"user\",\"content\":\"the\"},{\"role\":\"assistant\",\"content\":\"sat\"}]";
    chat.return_assistant_tokens = true;
    OK(lckv_chat_template_render(t, &chat, &said));
    assert_string_equal(said.text, row.whole);
    assert_int_equal(said.assistant_count, 1);
    assert_int_equal(said.assistant[0].first, row.prompt_bytes);
    assert_int_equal(said.assistant[0].end, row.bytes);
    lckv_chat_text_free(&said);
    tuning_text_free(&row);
    lckv_chat_template_free(t);
    json_decref(given);
}

static void long_rows_are_cut_or_left_out(void **state) {
    static const char rows[] = "{\"text\":\"a b a b a b\"}\n{\"text\":\"a\"}\n{\"text\":\"b b a a\"}\n";
    reading r;
    begin(&r, *state, false);
    OK(read_rows(&r, *state, rows, 5));
    assert_int_equal(r.rows.count, 3);
    assert_int_equal(r.rows.cut, 2);
    expect_row(&r, 0, "<s> a b a b", "xxxxx");
    r.how.drop_long = true;
    OK(read_rows(&r, *state, rows, 5));
    assert_int_equal(r.rows.count, 1);
    assert_int_equal(r.rows.dropped, 2);
    FAILS(read_rows(&r, *state, rows, 2), LCKV_ERROR_FORMAT, "no row to train on, because all are too long");
    end(&r);
}

/* A prompt that fills the row leaves no token of the answer. */
static void rows_that_teach_nothing_are_counted(void **state) {
    static const char rows[] = "{\"prompt\":\"a b a b a b\",\"completion\":\" a\"}\n"
                               "{\"prompt\":\"a\",\"completion\":\" b\"}\n";
    reading r;
    begin(&r, *state, false);
    capture_log(LCKV_LOG_WARNING);
    OK(read_rows(&r, *state, rows, 64));
    assert_int_equal(r.rows.unlearned, 0);
    OK(read_rows(&r, *state, rows, 5));
    end_capture();
    assert_int_equal(r.rows.cut, 1);
    assert_int_equal(r.rows.unlearned, 1);
    if (!strstr(logged, "1 of 2 rows have no token to train on")) fail_msg("%s", logged);
    end(&r);
}

static void what_is_no_row_is_refused(void **state) {
    static const char *const rows[][2] = {
        {"{\"question\":\"the\"}\n",
         "rows.jsonl:1: expected messages, conversations, prompt and completion, 'text', or instruction"},
        {"{\"text\":\"the\"}\n{\"text\":7}\n", "rows.jsonl:2: expected"},
        {"{\"prompt\":\"the\",\"completion\":[]}\n", "rows.jsonl:1: prompt and completion: expected two texts"},
        {"{\"prompt\":\"the\"}\n", "prompt: expected a completion"},
        {"{\"input_ids\":[1,2]}\n", "does not read rows of token ids (input_ids)"},
        {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n", "preference training"},
        {"{\"messages\":\"the\",\"images\":[]}\n", "does not read images"},
        {"{\"messages\":\"the\"}\n", "messages: expected a list"},
        {"{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"}]}\n", "belong under the key messages"},
        {"{\"conversations\":[]}\n", "conversations: expected a list of messages with 'from'"},
        {"[1]\n", "expected an object"},
    };
    reading r;
    begin(&r, *state, false);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        FAILS(read_rows(&r, *state, rows[i][0], 64), LCKV_ERROR_FORMAT, rows[i][1]);
    FAILS(read_rows(&r, *state, "{\"messages\":[]}\n", 64), LCKV_ERROR_ARGUMENT, "has no chat template");
    r.how.assistant_only_loss = true;
    FAILS(read_rows(&r, *state, "{\"text\":\"the\"}\n", 64), LCKV_ERROR_ARGUMENT, "assistant_only_loss needs conv");
    end(&r);
    begin(&r, *state, true);
    r.how.assistant_only_loss = true;
    FAILS(read_rows(&r, *state, "{\"messages\":[{\"role\":\"user\",\"content\":\"the\"}]}\n", 64), LCKV_ERROR_FORMAT,
          "the template marks no answer in the row");
    end(&r);
}

/* ---------------------------------------------------------------- packing */

/* The example that trl documents. */
static void rows_are_packed_as_trl_documents_it(void **state) {
    (void)state;
    static const int32_t lengths[] = {3, 2, 3, 1};
    static const int64_t expected_order[] = {0, 3, 2, 1}, expected_begin[] = {0, 2, 3, 4};
    int64_t order[4], first[5];
    assert_int_equal(tuning_pack(lengths, 4, 4, order, first), 3);
    assert_memory_equal(order, expected_order, sizeof expected_order);
    assert_memory_equal(first, expected_begin, sizeof expected_begin);
}

/* Each row once, no bin over its size, and a bounded number of bins. */
static void every_row_is_packed(void **state) {
    (void)state;
    enum { COUNT = 700, SIZE = 50 };
    int32_t lengths[COUNT];
    int64_t order[COUNT], first[COUNT + 1], sum = 0;
    bool there[COUNT] = {false};
    for (int i = 0; i < COUNT; i++) {
        lengths[i] = 1 + (int32_t)(rng_uniform(1, 2, (uint64_t)i) * SIZE);
        sum += lengths[i];
    }
    int64_t bins = tuning_pack(lengths, COUNT, SIZE, order, first);
    assert_true(bins >= (sum + SIZE - 1) / SIZE && bins < 11 * sum / (9 * SIZE) + 2); /* 11/9: best fit decreasing */
    assert_int_equal(first[0], 0);
    assert_int_equal(first[bins], COUNT);
    for (int64_t b = 0; b < bins; b++) {
        int64_t used = 0;
        for (int64_t k = first[b]; k < first[b + 1]; k++) {
            assert_false(there[order[k]]);
            there[order[k]] = true;
            used += lengths[order[k]];
        }
        assert_true(used <= SIZE && used > 0);
    }
}

/* Packed or not, examples have the same rows with the same labels. */
static void packed_rows_are_the_same_rows(void **state) {
    reading r;
    tuning_set alone, packed;
    int32_t ids[64], labels[64], lengths[64], other_ids[64], other_labels[64], other_lengths[64];
    int64_t all[2] = {0, 0}, some;
    begin(&r, *state, false);
    OK(read_rows(&r, *state,
                 "{\"text\":\"a b a\"}\n{\"prompt\":\"a\",\"completion\":\" b b a a\"}\n{\"text\":\"b a\"}\n", 12));
    OK(tuning_set_make(&r.rows, 0, 3, 12, false, &alone));
    OK(tuning_set_make(&r.rows, 0, 3, 12, true, &packed));
    assert_int_equal(alone.examples.count, 3);
    assert_int_equal(packed.examples.count, 2);
    for (int64_t i = 0; i < 3; i++) {
        OK(alone.examples.count_labels(&alone.examples, i, &some));
        all[0] += some;
    }
    for (int64_t i = 0; i < 2; i++) {
        OK(packed.examples.count_labels(&packed.examples, i, &some));
        all[1] += some;
        example e = {ids, labels, lengths, 0, 0};
        OK(packed.examples.read(&packed.examples, i, &e));
        assert_int_equal(packed.examples.count_tokens(&packed.examples, i), e.tokens);
        for (int32_t k = 0, at = 0; k < e.sequences; at += lengths[k++]) {
            example row = {other_ids, other_labels, other_lengths, 0, 0};
            OK(alone.examples.read(&alone.examples, packed.order[packed.begin[i] + k], &row));
            assert_int_equal(row.tokens, lengths[k]);
            assert_memory_equal(ids + at, other_ids, (size_t)lengths[k] * sizeof *ids);
            assert_memory_equal(labels + at, other_labels, (size_t)lengths[k] * sizeof *labels);
            assert_int_equal(labels[at + lengths[k] - 1], -1);
        }
    }
    assert_int_equal(all[0], all[1]);
    tuning_set_free(&alone);
    tuning_set_free(&packed);
    end(&r);
}

/* ---------------------------------------------------------------- runs */

static lckv_train_options run_options(const folder *f, const lckv_tuning *how, const char *const *rows,
                                      const char *output) {
    lckv_train_options o = lckv_train_defaults();
    o.model_name_or_path = in(f, "model");
    o.tuning = how;
    o.train_files = rows;
    o.train_file_count = 1;
    o.output_dir = output;
    o.block_size = 32;
    o.per_device_train_batch_size = 2;
    o.max_steps = 8;
    o.learning_rate = 0.01;
    o.save_steps = 4;
    o.validation_split_percentage = 34;
    o.device = "cpu";
    o.threads = 1;
    return o;
}

static int go(const lckv_train_options *o, lckv_train_result *result) {
    lckv_trainer *t;
    int status = lckv_trainer_create(o, &t);
    if (status < 0) return status;
    status = lckv_trainer_run(t, result);
    lckv_trainer_free(t);
    return status;
}

static const char TALKS[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\" the\"},{\"role\":\"assistant\",\"content\":\" cat sat\"}]}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\" cat\"},{\"role\":\"assistant\",\"content\":\" on the cat\"}]}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\" sat\"},{\"role\":\"assistant\",\"content\":\" the\"}]}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\" on\"},{\"role\":\"assistant\",\"content\":\" the cat sat\"}]}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\" stop\"},{\"role\":\"assistant\",\"content\":\" cat\"}]}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\" the cat\"},{\"role\":\"assistant\",\"content\":\" sat on\"}]}\n";

static bool stop_after_five(void *user, const lckv_train_progress *p) {
    (void)user;
    return p->phase != LCKV_TRAIN_STEPPING || p->step != 5;
}

/* With and without an adapter and packing: a resumed run has the same bytes, and the checkpoint has the template. */
static void runs_go_on_and_carry_the_template(void **state) {
    for (int i = 0; i < 4; i++) {
        lckv_tuning how = lckv_tuning_defaults();
        char whole[PATH_BYTES], parts[PATH_BYTES], rows[PATH_BYTES], left[2 * PATH_BYTES], right[2 * PATH_BYTES];
        const char *path = rows;
        const char *file = i % 2 ? "adapter_model.safetensors" : "model.safetensors";
        write_template(*state);
        snprintf(whole, sizeof whole, "%.400s/whole%d", ((folder *)*state)->path, i);
        snprintf(parts, sizeof parts, "%.400s/parts%d", ((folder *)*state)->path, i);
        snprintf(rows, sizeof rows, "%.400s/rows.jsonl", ((folder *)*state)->path);
        put_text(rows, TALKS);
        how.chat_template = in(*state, "template.jinja");
        how.assistant_only_loss = true;
        how.packing = i >= 2;
        lckv_train_options o = run_options(*state, &how, &path, whole);
        lckv_train_result first, second;
        o.use_peft = i % 2;
        OK(go(&o, &first));
        o.output_dir = parts;
        o.callback = stop_after_five;
        FAILS(go(&o, &second), LCKV_ERROR_INTERRUPTED, "after step 5");
        o.callback = NULL;
        OK(go(&o, &second));
        snprintf(left, sizeof left, "%s/%s", whole, file);
        snprintf(right, sizeof right, "%s/%s", parts, file);
        assert_same_bytes(left, right);
        assert_true(first.eval_loss == second.eval_loss && isfinite(first.eval_loss));
        assert_true(first.tokens == second.tokens && first.tokens > 0 && first.tokens < 8 * 2 * 32);
        snprintf(left, sizeof left, "%s/chat_template.jinja", whole);
        assert_same_bytes(left, in(*state, "template.jinja"));
    }
}

static void rows_do_not_go_with_blocks(void **state) {
    lckv_tuning how = lckv_tuning_defaults();
    const char *rows = in(*state, "rows.jsonl");
    put_text(rows, TALKS);
    write_template(*state);
    lckv_train_options o = run_options(*state, &how, &rows, in(*state, "out"));
    o.document_mask = true;
    FAILS(go(&o, NULL), LCKV_ERROR_ARGUMENT, "document_mask is not supported");
    o.document_mask = false;
    how.dataset_text_field = "";
    FAILS(go(&o, NULL), LCKV_ERROR_ARGUMENT, "expected dataset_text_field");
    how.dataset_text_field = "text";
    FAILS(go(&o, NULL), LCKV_ERROR_ARGUMENT, "has no chat template; set chat_template to a file with one");
}

#define MODEL_TEST(f) cmocka_unit_test_setup_teardown(f, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        MODEL_TEST(texts_end_in_eos_once),
        MODEL_TEST(completions_are_learned),
        MODEL_TEST(conversations_are_put_into_words),
        MODEL_TEST(from_and_value_are_role_and_content),
        MODEL_TEST(a_role_that_a_template_refuses_is_named),
        MODEL_TEST(tokens_across_the_end_of_an_answer_count),
        MODEL_TEST(alpacas_rows_are_prompts),
        MODEL_TEST(alpacas_template_says_alpacas_words),
        MODEL_TEST(long_rows_are_cut_or_left_out),
        MODEL_TEST(rows_that_teach_nothing_are_counted),
        MODEL_TEST(what_is_no_row_is_refused),
        cmocka_unit_test(rows_are_packed_as_trl_documents_it),
        cmocka_unit_test(every_row_is_packed),
        MODEL_TEST(packed_rows_are_the_same_rows),
        MODEL_TEST(runs_go_on_and_carry_the_template),
        MODEL_TEST(rows_do_not_go_with_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
