/* lckv generate and score as programs: results on stdout, messages on stderr, exit codes, invalid flags,
 * Ctrl-C, a closed pipe. Uses a small random model with a tokenizer that the test creates. */
#include "program.h"

#include "model_folder.h"

#include <math.h>
#include <sys/file.h>
#include <sys/resource.h>

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)
#define GENERATE(f) "generate", "--model_name_or_path", in((f), "model")
#define SCORE(f) "score", "--model_name_or_path", in((f), "model")

static json_t *sequence_of(const json_t *result, size_t i) {
    return json_array_get(json_object_get(result, "sequences"), i);
}

static const char *text_of(const json_t *result, size_t i) {
    return json_string_value(json_object_get(sequence_of(result, i), "text"));
}

static void assert_ids(const json_t *ids, const int32_t *expected, size_t count) {
    assert_int_equal(json_array_size(ids), count);
    for (size_t i = 0; i < count; i++) assert_int_equal(json_integer_value(json_array_get(ids, i)), expected[i]);
}

/* ---------------------------------------------------------------- generate */

static void json_has_what_it_says(void **state) {
    const folder *f = *state;
    json_t *r = RUN_JSON(f, GENERATE(f), "--prompt", "a b", "--prompt_ids", "5,6,7", "--prompt-ids=8", "--length", "6",
                         "--num_return_sequences", "2", "--ignore_eos");
    assert_int_equal(json_object_size(r), 2);
    assert_true(json_is_object(json_object_get(r, "timing")));
    assert_int_equal(json_array_size(json_object_get(r, "sequences")), 6);
    const int32_t prompts[3][3] = {{1, 273, 274}, {5, 6, 7}, {8}};
    for (size_t i = 0; i < 6; i++) {
        const json_t *s = sequence_of(r, i);
        assert_int_equal(json_object_size(s), 5);
        assert_ids(json_object_get(s, "prompt_ids"), prompts[i / 2], i < 4 ? 3 : 1);
        assert_int_equal(json_array_size(json_object_get(s, "ids")), 6);
        assert_true(json_is_string(json_object_get(s, "text")));
        assert_string_equal(json_string_value(json_object_get(s, "finish_reason")), "length");
        assert_non_null(strstr("plan sequential", json_string_value(json_object_get(s, "encoding"))));
    }
    json_decref(r);
}

static void seeds_and_company(void **state) {
    const folder *f = *state;
    json_t *a = RUN_JSON(f, GENERATE(f), "--prompt", "the cat", "--prompt", "b", "--seed", "7");
    json_t *b = RUN_JSON(f, GENERATE(f), "--prompt=the cat", "--seed=7");
    json_t *c = RUN_JSON(f, GENERATE(f), "--prompt", "the cat", "--seed", "8");
    assert_true(json_equal(sequence_of(a, 0), sequence_of(b, 0)));
    assert_false(json_equal(sequence_of(b, 0), sequence_of(c, 0)));
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

static json_t *run_encoded(const folder *f, const char *flag, const char *value, const char *more) {
    json_t *r = RUN_JSON(f, GENERATE(f), "--prompt_ids", "5,6,7,200,9,30,11,120,13,14,150,16,17,18", "--length", "12",
                         "--temperature", "0", "--encoding", "plan", flag, value, more);
    json_t *ids = json_incref(json_object_get(sequence_of(r, 0), "ids"));
    json_decref(r);
    return ids;
}

/* A number of iterations gives the result of a model with this m + b. With a tolerance above every change, a loop ends
 * with its third iteration. */
static void runs_of_a_prompt(void **state) {
    const folder *f = *state;
    json_t *model = run_encoded(f, "--config_overrides", "forward_passes=4,backward_passes=1", "--seed=1");
    json_t *five = run_encoded(f, "--encoding_iterations", "5", "--seed=1"),
           *one = run_encoded(f, "--encoding_iterations", "1", "--seed=1");
    json_t *three = run_encoded(f, "--encoding_iterations", "3", "--seed=1");
    json_t *settled = run_encoded(f, "--encoding_tolerance", "0.999", "--encoding_iterations=50");
    assert_true(json_equal(model, five));
    assert_false(json_equal(five, one));
    assert_true(json_equal(settled, three));
    json_t *all[] = {model, five, one, three, settled};
    for (int i = 0; i < 5; i++) json_decref(all[i]);
}

/* Many prompts: their form is chosen by a table that is measured once, so that the second run repeats the first one. */
static void many_prompts_repeat(void **state) {
    const folder *f = *state;
    char *text[2], line[512];
    size_t bytes[2];
    FILE *prompts = fopen(in(f, "many.jsonl"), "w");
    for (int i = 0; i < 80; i++) {
        int length = snprintf(line, sizeof line, "{\"input_ids\": [1");
        for (int j = 1; j < 60; j++)
            length += snprintf(line + length, sizeof line - (size_t)length, ", %d", 2 + (i * 31 + j * 17) % 200);
        fprintf(prompts, "%s]}\n", line);
    }
    fclose(prompts);
    for (int i = 0; i < 2; i++) {
        const char *output = in(f, i ? "second.jsonl" : "first.jsonl");
        outcome o = RUN(f, GENERATE(f), "--prompt_file", in(f, "many.jsonl"), "--output_file", output, "--length", "3",
                        "--cost_table", in(f, "costs.json"), "--config_overrides", "max_position_embeddings=1024");
        if (o.code) fail_msg("%s", o.messages);
        outcome_free(&o);
        text[i] = get(output, &bytes[i]);
    }
    assert_non_null(strstr(text[0], "\"encoding\":\""));
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(text[0], text[1], bytes[0]);
    free(text[0]);
    char *table = get(in(f, "costs.json"), bytes);
    assert_non_null(strstr(table, "\"encoding\": \"sequential\""));
    free(table);
    free(text[1]);
}

static outcome run_lines(const folder *f) {
    return RUN(f, GENERATE(f), "--prompt_file", in(f, "p.jsonl"), "--output_file", in(f, "o.jsonl"), "--length", "6",
               "--num_return_sequences", "2", "--ignore_eos", "--temperature", "0");
}

/* Two processes that append to one file would mix their results. */
static void a_file_has_one_writer(void **state) {
    const folder *f = *state;
    size_t bytes;
    put(in(f, "p.jsonl"), "{\"input_ids\": [5]}\n", 19);
    FILE *other = fopen(in(f, "o.jsonl"), "w");
    assert_non_null(other);
    assert_int_equal(flock(fileno(other), LOCK_EX), 0);
    outcome o = run_lines(f);
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "another process is writing to"));
    outcome_free(&o);
    fclose(other);
    o = run_lines(f);
    assert_int_equal(o.code, 0);
    outcome_free(&o);
    char *text = get(in(f, "o.jsonl"), &bytes);
    assert_int_equal(strncmp(text, "{\"index\":0", 10), 0);
    free(text);
    unlink(in(f, "o.jsonl"));
}

/* One line per prompt. If the file already has some results, the rest is generated as if uninterrupted, also after a
 * torn last line; a file with results of other prompts is not changed. */
static void lines_are_gone_on_with(void **state) {
    const folder *f = *state;
    size_t bytes, again;
    put(in(f, "p.jsonl"),
        "{\"prompt\": \"the cat\"}\n{\"input_ids\": [5, 6, 7]}\n\n{\"text\": \"a b\"}\n{\"input_ids\": []}\n", 82);
    outcome o = run_lines(f);
    if (o.code) fail_msg("%s", o.messages);
    assert_string_equal(o.output, "");
    outcome_free(&o);
    char *all = get(in(f, "o.jsonl"), &bytes), *line = all;
    json_t *r = RUN_JSON(f, GENERATE(f), "--prompt", "the cat", "--prompt_ids", "5,6,7", "--prompt", "a b", "--length",
                         "6", "--num_return_sequences", "2", "--ignore_eos", "--temperature", "0");
    const size_t order[] = {0, 2, 1}; /* text comes before ids in the output */
    for (size_t i = 0; i < 4; i++) {
        char *end = strchr(line, '\n');
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(row, "index")), i);
        for (size_t j = 0; j < 2 && i < 3; j++) {
            const json_t *s = json_array_get(json_object_get(row, "sequences"), j);
            const json_t *t = sequence_of(r, 2 * order[i] + j);
            assert_true(json_equal(json_object_get(s, "ids"), json_object_get(t, "ids")));
            assert_string_equal(json_string_value(json_object_get(s, "finish_reason")), "length");
            assert_non_null(
                strstr(json_string_value(json_object_get(s, "text")), json_string_value(json_object_get(t, "text"))));
        }
        if (i == 3) assert_non_null(strstr(json_string_value(json_object_get(row, "error")), "at least one token"));
        json_decref(row);
        line = end + 1;
    }
    assert_string_equal(line, "");
    json_decref(r);
    for (size_t kept = 0; kept <= bytes; kept += bytes / 5) {
        put(in(f, "o.jsonl"), all, kept);
        o = run_lines(f);
        assert_int_equal(o.code, 0);
        outcome_free(&o);
        char *whole = get(in(f, "o.jsonl"), &again);
        assert_int_equal(again, bytes);
        assert_memory_equal(whole, all, bytes);
        free(whole);
    }
    put(in(f, "o.jsonl"), "{\"index\": 7}\n", 13);
    o = run_lines(f);
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "line 1: expected the result of prompt 0 of 4"));
    outcome_free(&o);
    put(in(f, "p.jsonl"), "{\"input_ids\": [5]}\n", 19); /* one of each */
    assert_int_equal(unlink(in(f, "o.jsonl")), 0);
    o = run_lines(f);
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.messages, "1 prompt: 1 prompt token,"));
    outcome_free(&o);
    o = RUN(f, GENERATE(f), "--prompt", "a", "--output_file", "x", "--json");
    assert_int_equal(o.code, 2);
    outcome_free(&o);
    free(all);
}

/* Printed text is the prompt followed by the text in JSON, with the space between them. */
static void text_streams(void **state) {
    const folder *f = *state;
    const char *words[] = {GENERATE(f), "--prompt", "the cat", "--prefix", "a ",           "--length", "30",
                           "--k",       "3",        "--seed",  "3",        "--ignore_eos", NULL,       NULL};
    outcome o = program_run(f, words);
    words[14] = "--json";
    json_t *r = program_json(f, words);
    const char *text = text_of(r, 0);
    size_t length = strlen(o.output), seam = length - strlen("the cat") - strlen(text) - 1;
    assert_int_equal(o.code, 0);
    if (strncmp(o.output, "the cat", 7) || seam > 1 || o.output[length - 1] != '\n')
        fail_msg("printed '%s', text is '%s'", o.output, text);
    assert_memory_equal(o.output + 7 + seam, text, strlen(text));
    assert_non_null(strstr(o.messages, "tokens/s"));
    outcome_free(&o);
    json_decref(r);
    o = RUN(f, GENERATE(f), "--prompt", "a", "--prompt", "b", "--length", "3");
    assert_true(!strncmp(o.output, "=== GENERATED SEQUENCE 1 ===\na", 30));
    assert_non_null(strstr(o.output, "\n=== GENERATED SEQUENCE 2 ===\nb"));
    outcome_free(&o);
}

static void stop_strings_and_eos(void **state) {
    const folder *f = *state;
    json_t *r = RUN_JSON(f, GENERATE(f), "--prompt", "the stop", "--length", "60", "--stop_token", "op", "--p", "1",
                         "--temperature", "3");
    assert_null(strstr(text_of(r, 0), "op"));
    json_decref(r);
    bool ended = false;
    for (int seed = 0; seed < 30 && !ended; seed++) {
        char number[16];
        snprintf(number, sizeof number, "%d", seed);
        r = RUN_JSON(f, GENERATE(f), "--prompt_ids", "9", "--length", "60", "--p", "1", "--temperature", "4", "--seed",
                     number);
        const json_t *ids = json_object_get(sequence_of(r, 0), "ids");
        size_t count = json_array_size(ids);
        ended = !strcmp(json_string_value(json_object_get(sequence_of(r, 0), "finish_reason")), "stop");
        for (size_t i = 0; i < count; i++) {
            bool eos = json_integer_value(json_array_get(ids, i)) == 2;
            assert_int_equal(eos, ended && i == count - 1);
        }
        json_decref(r);
    }
    assert_true(ended);
}

static void prompts_from_files(void **state) {
    const folder *f = *state;
    put_text(in(f, "prompt.txt"), "a b\n");
    put_text(in(f, "prompts.jsonl"), "{\"text\": \"a b\"}\n\n{\"input_ids\": [1, 273, 274]}\n");
    put_text(in(f, "bad.jsonl"), "{\"text\": \"a b\"}\n{\"text\": 5}\n");
    json_t *r = RUN_JSON(f, GENERATE(f), "--prompt_file", in(f, "prompt.txt"), "--prompt_file", in(f, "prompts.jsonl"),
                         "--prompt", "a b", "--temperature", "0");
    assert_int_equal(json_array_size(json_object_get(r, "sequences")), 4);
    for (size_t i = 1; i < 4; i++) assert_true(json_equal(sequence_of(r, 0), sequence_of(r, i)));
    json_decref(r);
    REFUSES(f, 1, "bad.jsonl, line 2: expected an object with prompt, text or input_ids", GENERATE(f), "--prompt_file",
            in(f, "bad.jsonl"));
    REFUSES(f, 1, "cannot read '", GENERATE(f), "--prompt_file", in(f, "absent.txt"));
}

/* It is read with U+FFFD. Text in JSON is an error instead, and valid text has no warning. */
static void text_that_is_not_utf8_causes_a_warning(void **state) {
    static const char RULE[] = "is not valid UTF-8: each ill-formed part is read as U+FFFD";
    const folder *f = *state;
    put_text(in(f, "latin1.txt"), "a b\na caf\xe9\n");
    put_text(in(f, "good.txt"), "a b\na caf\xc3\xa9\n");
    put_text(in(f, "latin1.jsonl"), "{\"text\": \"caf\xe9\"}\n");
    outcome all[] = {RUN(f, GENERATE(f), "--prompt_file", in(f, "latin1.txt")),
                     RUN(f, SCORE(f), "--file", in(f, "latin1.txt")), RUN(f, GENERATE(f), "--prompt", "a b\na caf\xe9"),
                     RUN(f, SCORE(f), "--text", "a b\na caf\xe9"), RUN(f, SCORE(f), "--file", in(f, "good.txt"))};
    static const char *const names[] = {"latin1.txt: line 2, byte 6 ", "latin1.txt: line 2, byte 6 ",
                                        "warning: --prompt: line 2, byte 6 ", "warning: --text: line 2, byte 6 "};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(all[i].code, 0);
        if (i == 4) assert_null(strstr(all[i].messages, "UTF-8"));
        if (i < 4 && (!strstr(all[i].messages, names[i]) || !strstr(all[i].messages, RULE)))
            fail_msg("%s", all[i].messages);
        outcome_free(&all[i]);
    }
    REFUSES(f, 1, "latin1.jsonl, line 1: ", SCORE(f), "--file", in(f, "latin1.jsonl"));
}

/* A conversation is the template's text, including special tokens, without an additional BOS. */
static void conversations_are_answered(void **state) {
    const folder *f = *state;
    static const char CHAT[] = "<s>{% for m in messages %}{{ m.content }} {% endfor %}"
                               "{% if add_generation_prompt %}the{% endif %}";
    put_text(in(f, "c.jsonl"), "{\"messages\": [{\"role\": \"user\", \"content\": \"the cat\"}]}\n");
    REFUSES(f, 1, "give one with --chat_template", GENERATE(f), "--prompt_file", in(f, "c.jsonl"));
    REFUSES(f, 1, "text or input_ids", "score", "--model_name_or_path", in(f, "model"), "--file", in(f, "c.jsonl"));
    put_text(in(f, "t.jinja"), CHAT);
    json_t *r = RUN_JSON(f, GENERATE(f), "--prompt_file", in(f, "c.jsonl"), "--chat_template", in(f, "t.jinja"),
                         "--prefix", "a b", "--temperature", "0");
    json_t *same = RUN_JSON(f, GENERATE(f), "--prompt", "the cat the", "--temperature", "0"); /* with BOS */
    assert_true(json_equal(sequence_of(r, 0), sequence_of(same, 0)));
    put_text(in(f, "model/chat_template.jinja"), "{{ raise_exception('no') }}");
    REFUSES(f, 1, "prompt 0: ", GENERATE(f), "--prompt_file", in(f, "c.jsonl"));
    json_decref(same);
    json_decref(r);
}

static void without_a_tokenizer(void **state) {
    const folder *f = *state;
    const char *tokenizer = in(f, "model/tokenizer.json");
    assert_int_equal(rename(tokenizer, in(f, "tokenizer.json")), 0);
    json_t *r = RUN_JSON(f, GENERATE(f), "--prompt_ids", "5,6", "--length", "4", "--temperature", "0", "--ignore_eos");
    assert_true(json_is_null(json_object_get(sequence_of(r, 0), "text")));
    outcome o = RUN(f, GENERATE(f), "--prompt_ids", "5,6", "--length", "4", "--temperature", "0", "--ignore_eos");
    const json_t *ids = json_object_get(sequence_of(r, 0), "ids");
    char expected[64] = "", *at = expected;
    for (size_t i = 0; i < 4; i++)
        at += sprintf(at, "%s%d", i ? "," : "", (int)json_integer_value(json_array_get(ids, i)));
    strcpy(at, "\n");
    assert_string_equal(o.output, expected);
    outcome_free(&o);
    json_decref(r);
    REFUSES(f, 1, "tokenizer.json", GENERATE(f), "--prompt", "a");
    REFUSES(f, 1, "tokenizer.json", GENERATE(f), "--prompt_ids", "5", "--stop_token", "a");
    r = RUN_JSON(f, GENERATE(f), "--prompt", "a", "--tokenizer_name", f->path);
    json_decref(r);
}

/* Reaching the maximum length ends a text with a warning; a sink cache has no limit. */
static void positions(void **state) {
    const folder *f = *state;
    outcome o = RUN(f, GENERATE(f), "--prompt_ids", "5,6", "--length", "100", "--ignore_eos", "--json");
    json_t *r;
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.messages, "warning: prompt 0 with 100 new tokens exceeds the model's 64 positions"));
    OK(json_parse(o.output, strlen(o.output), "stdout", &r));
    assert_int_equal(json_array_size(json_object_get(sequence_of(r, 0), "ids")), 62);
    json_decref(r);
    outcome_free(&o);
    r = RUN_JSON(f, GENERATE(f), "--prompt_ids", "5,6", "--length", "300", "--ignore_eos", "--sink_cache",
                 "--window_length", "16", "--num_sink_tokens", "3");
    assert_int_equal(json_array_size(json_object_get(sequence_of(r, 0), "ids")), 300);
    json_decref(r);
}

/* ---------------------------------------------------------------- score */

static void scores(void **state) {
    const folder *f = *state;
    put_text(in(f, "text.txt"), "the cat sat");
    json_t *a = RUN_JSON(f, SCORE(f), "--text", "the cat sat"), *b = RUN_JSON(f, SCORE(f), "--file", in(f, "text.txt"));
    assert_int_equal(json_object_size(a), 6);
    assert_true(json_equal(a, b));
    size_t count = json_array_size(json_object_get(a, "ids"));
    assert_int_equal(json_array_size(json_object_get(a, "logprobs")), count - 1);
    double sum = 0, nll = json_real_value(json_object_get(a, "mean_nll"));
    for (size_t i = 0; i + 1 < count; i++) sum -= json_real_value(json_array_get(json_object_get(a, "logprobs"), i));
    assert_true(fabs(sum / (double)(count - 1) - nll) < 1e-6);
    assert_true(fabs(log(json_real_value(json_object_get(a, "perplexity"))) - nll) < 1e-6);
    json_decref(a);
    json_decref(b);
    outcome o = RUN(f, SCORE(f), "--prompt_ids", "1", "2", "3");
    assert_true(!strncmp(o.output, "tokens      3\nmean_nll    ", 26));
    outcome_free(&o);
    a = RUN_JSON(f, SCORE(f), "--prompt_ids", "1"); /* there is no token before it */
    assert_true(json_is_null(json_object_get(a, "mean_nll")) && json_is_null(json_object_get(a, "perplexity")));
    assert_int_equal(json_integer_value(json_object_get(a, "tokens")), 1);
    assert_int_equal(json_integer_value(json_object_get(a, "scored_tokens")), 0);
    json_decref(a);
    for (int given = 1; given <= 3; given++) {
        static const char *const TOLD[] = {"1 token: nothing to score", "2 tokens, 1 scored, ", "3 tokens, 2 scored, "};
        o = RUN(f, SCORE(f), "--prompt_ids", "1", given > 1 ? "2" : NULL, given > 2 ? "3" : NULL);
        assert_non_null(strstr(o.messages, TOLD[given - 1]));
        outcome_free(&o);
    }
    REFUSES(f, 1, "found 0", SCORE(f), "--text", "", "--no_special_tokens");
    REFUSES(f, 2, "exactly one of --text, --file and --prompt_ids", SCORE(f), "--text", "a", "--prompt_ids", "1");
    REFUSES(f, 2, "exactly one of --text, --file and --prompt_ids", SCORE(f));
}

/* ---------------------------------------------------------------- invalid flags, signals, pipes */

static void wrong_flags(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "unknown flag \"--lenght\"; did you mean --length?", GENERATE(f), "--prompt", "a", "--lenght", "3");
    REFUSES(f, 2, "--length: expected at least 1, found 0", GENERATE(f), "--prompt", "a", "--length", "0");
    REFUSES(f, 2, "--p: expected a number from 0 to 1, found 2", GENERATE(f), "--prompt", "a", "--p", "2");
    REFUSES(f, 2, "--k: expected an integer, found \"1.5\"", GENERATE(f), "--prompt", "a", "--k", "1.5");
    REFUSES(f, 2, "--k: expected a number from 0 to 2147483647, found -1", GENERATE(f), "--prompt", "a", "--k", "-1");
    REFUSES(f, 2, "--seed: expected an integer of at most 64 bits, found 9223372036854775808", GENERATE(f), "--prompt",
            "a", "--seed", "9223372036854775808");
    outcome o = RUN(f, GENERATE(f), "--prompt", "a", "--seed", "9223372036854775807");
    assert_int_equal(o.code, 0);
    outcome_free(&o);
    REFUSES(f, 2, "--encoding: expected one of auto|plan|sequential", GENERATE(f), "--prompt", "a", "--encoding", "x");
    REFUSES(f, 2, "--prompt: expected a value", GENERATE(f), "--prompt", "--length", "3");
    REFUSES(f, 2, "--ignore_eos: expected True, False or no value", GENERATE(f), "--prompt", "a", "--ignore_eos=maybe");
    REFUSES(f, 2, "unexpected argument \"b\"; did you mean --prompt 'a b'?", GENERATE(f), "--prompt", "a", "b");
    REFUSES(f, 2, "--model_name_or_path is required", "generate", "--prompt", "a");
    REFUSES(f, 2, "no prompt given", GENERATE(f));
    REFUSES(f, 2, "--num_sink_tokens (9) must be less than --window_length (9)", GENERATE(f), "--prompt", "a",
            "--sink_cache", "--window_length", "9", "--num_sink_tokens", "9");
    REFUSES(f, 2, "expected token ids", GENERATE(f), "--prompt_ids", "1,x");
    REFUSES(f, 1, "the model has ids 0 to 276", GENERATE(f), "--prompt_ids", "277");
    REFUSES(f, 2, "unknown command \"generat\"; did you mean lckv generate?", "generat");
    REFUSES(f, 1, "device", GENERATE(f), "--prompt", "a", "--device", "abacus");
}

/* All new tokens count, including those from prefill; the rate is that of decode steps. */
static void new_tokens_are_counted(void **state) {
    static const char *const lengths[] = {"1", "2", "60"};
    static const char *const counts[] = {"decode: 1 token\n", "decode: 2 tokens, ", "decode: 60 tokens, "};
    const folder *f = *state;
    for (int i = 0; i < 3; i++) {
        outcome o = RUN(f, GENERATE(f), "--prompt_ids", "1,260,261", "--length", lengths[i], "--ignore_eos");
        assert_int_equal(o.code, 0);
        if (!strstr(o.messages, "prefill: 3 tokens, ") || !strstr(o.messages, counts[i])) fail_msg("%s", o.messages);
        outcome_free(&o);
    }
    json_t *a = RUN_JSON(f, GENERATE(f), "--prompt_ids", "1,260,261", "--length", "9", "--ignore_eos",
                         "--num_return_sequences", "2");
    const json_t *timing = json_object_get(a, "timing");
    double tokens = json_number_value(json_object_get(timing, "decode_tokens"));
    assert_int_equal(json_integer_value(json_object_get(timing, "new_tokens")), 18);
    assert_true(tokens == 16);
    double rate = json_number_value(json_object_get(timing, "decode_tokens_per_second"));
    double expected = tokens / json_number_value(json_object_get(timing, "decode_seconds"));
    assert_true(rate > 0.999 * expected && rate < 1.001 * expected);
    json_decref(a);
}

static void flags_are_read_as_people_type_them(void **state) {
    const folder *f = *state;
    json_t *a = RUN_JSON(f, GENERATE(f), "--prompt", "a", "--length", "1e1", "--ignore-eos", "True", "--k", "5");
    json_t *b = RUN_JSON(f, "generate", "--model-name-or-path", in(f, "model"), "--prompt=a", "--length=3",
                         "--length=10", "--ignore_eos", "--k=5", "--sink_cache", "False");
    assert_int_equal(json_array_size(json_object_get(sequence_of(a, 0), "ids")), 10);
    assert_true(json_equal(sequence_of(a, 0), sequence_of(b, 0)));
    json_decref(a);
    json_decref(b);
}

static void help_says_defaults_and_exceptions(void **state) {
    const folder *f = *state;
    outcome a = RUN(f, "help", "generate"), b = RUN(f, "generate", "--length", "x", "--help"), c = RUN(f, "help");
    assert_int_equal(a.code, 0);
    assert_string_equal(a.output, b.output);
    assert_non_null(strstr(a.output, "--repetition_penalty X"));
    assert_non_null(strstr(a.output, "(default 0.9)"));
    assert_non_null(strstr(a.output, "[unlike run_generation.py"));
    const char *const commands[] = {"inspect", "train", "convert", "generate", "score", "tokenize"};
    for (int i = 0; i < 6; i++) {
        assert_non_null(strstr(c.output, commands[i]));
        outcome o = RUN(f, "help", commands[i]);
        assert_int_equal(o.code, 0);
        assert_true(!strncmp(o.output, "usage: lckv ", 12));
        outcome_free(&o);
    }
    outcome_free(&a);
    outcome_free(&b);
    outcome_free(&c);
}

/* An endless stream that has started. */
static pid_t start_stream(const folder *f, int *reader) {
    const char *const words[] = {GENERATE(f),    "--prompt",        "a",  "--length", "1e15", "--ignore_eos",
                                 "--sink_cache", "--window_length", "16", NULL};
    int pipe_ends[2];
    char bytes[32];
    assert_int_equal(pipe(pipe_ends), 0);
    fcntl(pipe_ends[0], F_SETFD, FD_CLOEXEC);
    pid_t child = program_start(f, words, pipe_ends[1]);
    close(pipe_ends[1]);
    *reader = pipe_ends[0];
    size_t got = 0;
    while (got < sizeof bytes) {
        ssize_t n = read(*reader, bytes + got, sizeof bytes - got);
        assert_true(n > 0);
        got += (size_t)n;
    }
    return child;
}

static void ctrl_c_is_130(void **state) {
    const folder *f = *state;
    int reader;
    pid_t child = start_stream(f, &reader);
    char rest[4096];
    assert_int_equal(kill(child, SIGINT), 0);
    while (read(reader, rest, sizeof rest) > 0) continue;
    assert_int_equal(program_wait(child), 130);
    assert_file_says(in(f, "stderr"), "lckv generate: interrupted");
    close(reader);
}

static void a_reader_that_leaves_ends_it_quietly(void **state) {
    const folder *f = *state;
    int reader;
    size_t bytes;
    pid_t child = start_stream(f, &reader);
    close(reader);
    assert_int_equal(program_wait(child), 1);
    char *messages = get(in(f, "stderr"), &bytes);
    assert_string_equal(messages, "");
    free(messages);
}

static void a_full_disk_is_an_error(void **state) {
    const folder *f = *state;
    const char *const words[] = {SCORE(f), "--text", "a b", NULL};
    int full = open("/dev/full", O_WRONLY);
    if (full < 0) SKIP("there is no /dev/full");
    assert_int_equal(program_wait(program_start(f, words, full)), 1);
    assert_file_says(in(f, "stderr"), "lckv score: cannot write to standard output: No space left on device");
    close(full);
}

/* A limit on file sizes simulates a full disk. The message has the reason, and no line says that all is done. OpenMP
 * libraries may need a file of 1,024 bytes of shared memory. */
static void a_full_disk_is_an_error_of_files(void **state) {
    enum { LIMIT = 1100 };
    const folder *f = *state;
    struct rlimit before;
    char text[2000] = "";
    for (int i = 0; i < 100; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "the cat sat ");
    put_text(in(f, "text.txt"), text);
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        const char *const lines[] = {GENERATE(f),     "--prompt",         "a", "--num_return_sequences", "30",
                                     "--output_file", in(f, "out.jsonl"), NULL};
        const char *const log[] = {
            "eval", "--model_name_or_path", in(f, "model"), "--file", in(f, "text.txt"), "--output_dir", in(f, "out"),
            NULL};
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){LIMIT, before.rlim_max});
        int code = program_wait(program_start(f, i ? log : lines, STDOUT_FILENO));
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(code, 1);
        assert_file_says(in(f, "stderr"), i ? "/out/log.txt': File too large" : "/out.jsonl': File too large");
    }
    signal(SIGXFSZ, SIG_DFL);
}

/* An output path that is not a regular file is rejected at once and not replaced; /dev/stdout and the like are written
 * to. */
static void outputs_are_regular_files(void **state) {
    const folder *f = *state;
    static const char MAP[] = "<svg ";
    struct stat info;
    assert_int_equal(mkfifo(in(f, "pipe"), 0666), 0);
    OK(folder_create(in(f, "out")));
    assert_int_equal(mkfifo(in(f, "out/log.txt"), 0666), 0);
    put_text(in(f, "text.txt"), "the cat");
    alarm(60);
    REFUSES(f, 1, "is not a regular file: it is a named pipe", "inspect", "--model_name_or_path", in(f, "model"),
            "--svg", in(f, "pipe"));
    REFUSES(f, 1, "is not a regular file", SCORE(f), "--text", "a b", "--logits", in(f, "pipe"));
    REFUSES(f, 1, "log.txt': it is a pipe or a device", "eval", "--model_name_or_path", in(f, "model"), "--file",
            in(f, "text.txt"), "--output_dir", in(f, "out"));
    outcome o = RUN(f, "inspect", "--model_name_or_path", in(f, "model"), "--svg", "/dev/null");
    assert_int_equal(o.code, 0);
    assert_null(strstr(o.output, MAP));
    outcome_free(&o);
    o = RUN(f, "inspect", "--model_name_or_path", in(f, "model"), "--svg", "/dev/stdout");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.output, MAP));
    outcome_free(&o);
    alarm(0);
    assert_true(stat(in(f, "pipe"), &info) == 0 && S_ISFIFO(info.st_mode));
    assert_true(stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(json_has_what_it_says),
        WITH_MODEL(seeds_and_company),
        WITH_MODEL(runs_of_a_prompt),
        WITH_MODEL(many_prompts_repeat),
        WITH_MODEL(a_file_has_one_writer),
        WITH_MODEL(lines_are_gone_on_with),
        WITH_MODEL(text_streams),
        WITH_MODEL(stop_strings_and_eos),
        WITH_MODEL(prompts_from_files),
        WITH_MODEL(text_that_is_not_utf8_causes_a_warning),
        WITH_MODEL(conversations_are_answered),
        WITH_MODEL(without_a_tokenizer),
        WITH_MODEL(positions),
        WITH_MODEL(scores),
        WITH_MODEL(wrong_flags),
        WITH_MODEL(new_tokens_are_counted),
        WITH_MODEL(flags_are_read_as_people_type_them),
        IN_FOLDER(help_says_defaults_and_exceptions),
        WITH_MODEL(ctrl_c_is_130),
        WITH_MODEL(a_reader_that_leaves_ends_it_quietly),
        WITH_MODEL(a_full_disk_is_an_error),
        WITH_MODEL(a_full_disk_is_an_error_of_files),
        WITH_MODEL(outputs_are_regular_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
