/* Unknown flags and unexpected arguments: a suggested flag exists in that command and is accepted there. */
#include "cli_capture.h"

#include "cli/flags/flag_aliases.h"
#include "generate/sampling_parameters.h"

/* The flag after "did you mean --", with all that follows up to the question mark. NULL if there is no suggestion. */
static char *suggestion(const captured *c) {
    static char text[1024];
    const char *begin = strstr(c->messages, "did you mean --"), *end = strrchr(c->messages, '?');
    if (!begin) return NULL;
    assert_non_null(end);
    begin += strlen("did you mean ");
    snprintf(text, sizeof text, "%.*s", (int)(end - begin), begin);
    return text;
}

/* Whether `lckv help --markdown` lists this flag as one with an effect. */
static bool acts(const char *rows, const char *name, size_t length) {
    char row[128];
    snprintf(row, sizeof row, "| `--%.*s` | acts |", (int)length, name);
    return strstr(rows, row) != NULL;
}

static bool is_flag_of(const char *command, const char *typed) {
    captured c;
    CAPTURE(&c, command, "--help", "--check", typed, "3");
    return !strstr(c.messages, "unknown flag");
}

/* If there is a suggestion for `typed`, the command accepts it. */
static void check_suggestion(const char *command, const char *rows, const char *typed) {
    captured c;
    CAPTURE(&c, command, typed, "3");
    assert_int_equal(c.code, EXIT_USAGE);
    char *text = suggestion(&c);
    if (!text) {
        bool explains = strstr(c.messages, "\": ") || strstr(c.messages, "; see lckv help ");
        if (!explains) fail_msg("%s %s: %s", command, typed, c.messages);
        return;
    }
    char *value = strchr(text, ' ');
    size_t length = value ? (size_t)(value - text) : strlen(text);
    if (!acts(rows, text + 2, length - 2)) fail_msg("%s %s: %s is suggested", command, typed, text);
    if (!value) return;
    *value++ = '\0';
    CAPTURE(&c, command, "--help", "--check", text, value);
    if (c.code && !strstr(c.messages, "is required")) fail_msg("%s %s %s: %s", command, text, value, c.messages);
}

static void each_name_of_the_table_leads_to_a_flag_that_the_command_takes(void **state) {
    (void)state;
    captured rows;
    int names = 0;
    for (const struct cli_command *command = CLI_COMMANDS; command->name; command++) {
        CAPTURE(&rows, command->name, "--help", "--markdown");
        for (const flag_alias *a = FLAG_ALIASES; a->typed; a++) {
            for (const char *at = a->typed; *at; at += strspn(at, " "), names++) {
                char typed[128];
                size_t length = strcspn(at, " ");
                snprintf(typed, sizeof typed, "%s%.*s", *at == '-' ? "" : "--", (int)length, at);
                at += length;
                if (!is_flag_of(command->name, typed)) check_suggestion(command->name, rows.output, typed);
            }
        }
    }
    assert_true(names > 12 * 400);
}

static void no_name_stands_in_two_rows(void **state) {
    (void)state;
    for (const flag_alias *a = FLAG_ALIASES; a->typed; a++)
        for (const char *at = a->typed; *at; at += strspn(at, " ")) {
            size_t length = strcspn(at, " ");
            if (flag_alias_find(at, length) != a) fail_msg("%.*s stands in two rows", (int)length, at);
            at += length;
        }
}

/* Each row names flags of some command. A misspelled one would never be suggested. */
static void each_row_means_something(void **state) {
    (void)state;
    captured all[sizeof CLI_COMMANDS / sizeof *CLI_COMMANDS - 1];
    for (const struct cli_command *c = CLI_COMMANDS; c->name; c++)
        CAPTURE(&all[c - CLI_COMMANDS], c->name, "--help", "--markdown");
    for (const flag_alias *a = FLAG_ALIASES; a->typed; a++) {
        for (const char *at = a->meant; at && *at;) {
            size_t whole = strcspn(at, "|"), span = strcspn(at, " |"), colon = strcspn(at, ":");
            const char *name = colon < span ? at + colon + 1 : at;
            bool found = false;
            for (const struct cli_command *c = CLI_COMMANDS; c->name; c++) {
                bool other = colon < span && strncmp(at, c->name, colon) != 0;
                found |= !other && acts(all[c - CLI_COMMANDS].output, name, (size_t)(at + span - name));
            }
            if (!found) fail_msg("no command has the flag of '%.*s'", (int)whole, at);
            at += whole + (at[whole] == '|');
        }
    }
}

/* Fails unless the message contains this part. */
static void says(const char *part, const char *const *words) {
    captured c;
    capture(&c, words);
    assert_int_equal(c.code, EXIT_USAGE);
    if (!strstr(c.messages, part)) fail_msg("'%s' does not say '%s'", c.messages, part);
}
#define SAYS(part, ...) says((part), (const char *const[]){__VA_ARGS__, NULL})

static void what_people_type_is_understood(void **state) {
    (void)state;
    SAYS("unknown flag \"--lr\"; did you mean --learning_rate?", "train", "--lr", "3e-4");
    SAYS("did you mean --num_train_epochs?", "sft", "--epochs=3");
    SAYS("did you mean --per_device_train_batch_size?", "train", "--batch-size", "4");
    SAYS("did you mean --config_overrides layer_types=0_0_2_2?", "train", "--layer_types", "0_0_2_2");
    SAYS("did you mean --config_overrides layer_types=...?", "inspect", "--layer-types");
    SAYS("did you mean --config_overrides forward_passes=3?", "generate", "--forward_passes=3");
    SAYS("did you mean --length?", "generate", "--max-new-tokens", "5");
    SAYS("did you mean --max_new_tokens?", "chat", "--max_tokens", "5");
    SAYS("did you mean --max_model_len?", "serve", "--ctx_size", "512");
    SAYS("did you mean --block_size?", "train", "--context_length", "512");
    SAYS("did you mean --use_peft?", "sft", "--use_lora");
    SAYS("did you mean --adapter?", "chat", "--lora", "folder");
    SAYS("did you mean --temperature 0?", "generate", "--greedy");
    SAYS("did you mean --k?", "generate", "--top_k", "5");
    SAYS("did you mean --p?", "generate", "-top-p", "0.5");
    SAYS("did you mean --temperature?", "chat", "--temp", "0.5");
    SAYS("lckv has no beam search", "generate", "--num_beams", "4");
#define LISTED(name, KIND, in_request, in_generate, in_chat, valid_min, valid_max, valid, json_min, json_max, flag,    \
               ...)                                                                                                    \
    SAYS("--" #flag, "generate", "--typical_p", "0.5");
    SAMPLING_PARAMETERS(LISTED)
    SAYS("for lckv serve, set them in each request", "serve", "--temperature", "0.5");
    SAYS("did you mean --revision?", "fetch", "--branch", "x");
    SAYS("did you mean --repo_type dataset?", "fetch", "--dataset", "x");
    SAYS("HF_HUB_CACHE or HF_HOME set", "fetch", "--local_dir", "x");
    SAYS("did you mean --tensor_parallel?", "serve", "--tensor-parallel-size", "2");
    SAYS("lckv train --num_processes N", "train", "--tensor-parallel-size", "2");
    SAYS("--tensor_parallel N of lckv generate", "generate", "--num_gpus", "2");
}

static void misspelt_flags_lead_to_the_nearest(void **state) {
    (void)state;
    SAYS("did you mean --learning_rate?", "train", "--learnign_rate", "1");
    SAYS("did you mean --prompt?", "generate", "-prompt", "x");
    SAYS("did you mean --length?", "generate", "--max_new_token", "3"); /* under the name of another program */
    SAYS("did you mean --per_device_train_batch_size?", "train", "--train_batch_size", "3");
    SAYS("did you mean --model_name_or_path?", "generate", "--model_name", "x");
    SAYS("unknown flag \"--xyzzy\"; see lckv help train", "train", "--xyzzy");
    SAYS("see lckv help train", "train", "--deepspeeed", "x"); /* --deepspeed is refused */
    SAYS("a flag begins with two hyphens, --prompt", "generate", "\xE2\x80\x93prompt", "x");
    SAYS("a flag begins with two hyphens, --prompt", "generate", "\xE2\x80\x94prompt", "x");
}

static void stray_words_lead_to_their_flag(void **state) {
    (void)state;
    SAYS("unexpected argument \"m1\"; did you mean --model_name_or_path m1?", "generate", "m1");
    SAYS("did you mean --prompt 'Once upon'?", "generate", "--model_name_or_path", "m1", "Once upon");
    SAYS("did you mean --prompt 'Once upon'?", "generate", "Once upon");
    SAYS("unexpected argument \"big\"; did you mean --prompt 'Hello big world'?", "generate", "--prompt", "Hello",
         "big", "world", "--length", "3");
    SAYS("did you mean --train_file", "train", "--output_dir", "out", "corpus.txt");
    SAYS("did you mean --config_name", "bench", "m1");
    SAYS("did you mean --model_name_or_path", "inspect", "m1");
    SAYS("did you mean lckv help serve?", "serve", "help");
    SAYS("each value follows its flag", "fetch", "a/b", "c/d");
    captured c; /* the only argument without a flag that a command accepts */
    CAPTURE(&c, "fetch", "--help", "--check", "--repo_type", "dataset", "a/b");
    if (c.code) fail_msg("%s", c.messages);
}

static void letters_are_those_of_llama_cpp(void **state) {
    (void)state;
    captured c;
    CAPTURE(&c, "generate", "--help", "--check", "-m", "model", "-p", "Once", "-n", "5", "-s=1", "-t", "2");
    if (c.code) fail_msg("%s", c.messages);
    CAPTURE(&c, "bench", "--help", "--check", "-m", "model", "-p", "128,256", "-n", "32");
    if (c.code) fail_msg("%s", c.messages);
    CAPTURE(&c, "serve", "--help", "--check", "-m", "model", "-c", "512");
    if (c.code) fail_msg("%s", c.messages);
    SAYS("--model_name_or_path: expected a value", "generate", "-m");
    SAYS("--length: expected an integer, found \"x\"", "generate", "-n", "x");
    SAYS("lckv chat reads questions from", "chat", "-p", "x");
    SAYS("unknown flag \"-z\"; see lckv help generate", "generate", "-z");
}

/* All arguments of run_generation.py. */
static void the_scripts_arguments_are_known(void **state) {
    (void)state;
    captured c;
    CAPTURE(&c, "generate", "--help", "--check", "--model_type", "llama", "--model_name_or_path", "m", "--prompt", "a",
            "--length", "3", "--stop_token", "x", "--temperature", "0.5", "--repetition_penalty", "1.1", "--k", "5",
            "--p", "0.5", "--prefix", "a", "--padding_text", "b", "--xlm_language", "en", "--seed", "3", "--use_cpu",
            "--num_return_sequences", "2", "--fp16", "--jit");
    if (c.code) fail_msg("%s", c.messages);
}

static void former_names_of_flags_are_accepted(void **state) {
    (void)state;
    captured c;
    CAPTURE(&c, "generate", "--help", "--check", "-m", "model", "-p", "a", "--encoding_runs", "2");
    assert_int_equal(c.code, EXIT_FINE);
    CAPTURE(&c, "serve", "--help", "--check", "-m", "model", "--encoding-runs=2", "--prompt_piece", "32");
    assert_int_equal(c.code, EXIT_FINE);
    CAPTURE(&c, "score", "--help", "--check", "-m", "model", "--text", "a", "--dump", "*", "file", "--dump_runs");
    assert_int_equal(c.code, EXIT_FINE);
    CAPTURE(&c, "bench", "--help", "--check", "--measure", "runs", "--most_runs", "3");
    assert_int_equal(c.code, EXIT_FINE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_name_of_the_table_leads_to_a_flag_that_the_command_takes),
        cmocka_unit_test(no_name_stands_in_two_rows),
        cmocka_unit_test(each_row_means_something),
        cmocka_unit_test(what_people_type_is_understood),
        cmocka_unit_test(misspelt_flags_lead_to_the_nearest),
        cmocka_unit_test(stray_words_lead_to_their_flag),
        cmocka_unit_test(letters_are_those_of_llama_cpp),
        cmocka_unit_test(the_scripts_arguments_are_known),
        cmocka_unit_test(former_names_of_flags_are_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
