/* lckv chat as a program: through a pseudo-terminal, and with turns from a file. Uses a small random model with a
 * tokenizer that the test creates. */
#include "program.h"

#include "model_folder.h"

#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <time.h>

#ifdef LCKV_EDIT
enum { EDITS = true };
#else
enum { EDITS = false };
#endif

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)
#define LONG_MODEL "--config_overrides", "max_position_embeddings=1024"
#define CHAT(f) "chat", "--model_name_or_path", in((f), "model"), "--temperature", "0"

static const char TEMPLATE[] = "{% for m in messages %}{{ bos_token if loop.first }}[{{ m.role }}]{{ m.content }}"
                               "{% endfor %}{% if add_generation_prompt %}[a]{% endif %}";

static void write_template(const folder *f) {
    put_text(in(f, "model/chat_template.jinja"), TEMPLATE);
    put_text(in(f, "model/tokenizer_config.json"), "{\"bos_token\": \"<s>\"}");
}

/* ---------------------------------------------------------------- turns from a file */

static const char QUESTIONS[] = "{\"question_id\": 81, \"category\": \"x\", \"turns\": [\"the cat sat on the cat\", "
                                "\"a b\"]}\n\n{\"question_id\": 82, \"turns\": [\"the cat on the cat\"]}\n";

static json_t *turn_of(const json_t *result, size_t i) {
    return json_array_get(json_object_get(result, "turns"), i);
}

static int64_t number_of(const json_t *turn, const char *key) {
    return json_integer_value(json_object_get(turn, key));
}

/* All turns are one conversation. Whole chunks of 64 tokens are processed only once. */
static void turns_are_one_conversation(void **state) {
    const folder *f = *state;
    put_text(in(f, "questions.jsonl"), QUESTIONS);
    json_t *r = RUN_JSON(f, CHAT(f), LONG_MODEL, "--questions", in(f, "questions.jsonl"), "--max_new_tokens", "40");
    assert_int_equal(json_array_size(json_object_get(r, "turns")), 3);
    const int ids[] = {81, 81, 82};
    for (size_t i = 0; i < 3; i++) {
        const json_t *turn = turn_of(r, i);
        int64_t before = i ? number_of(turn_of(r, i - 1), "prompt_tokens") : 0;
        assert_int_equal(number_of(turn, "question_id"), ids[i]);
        assert_true(number_of(turn, "prompt_tokens") > before);
        assert_true(number_of(turn, "new_tokens") > 0 && number_of(turn, "new_tokens") <= 40);
        assert_int_equal(number_of(turn, "cached_tokens"), before / 64 * 64);
    }
    json_decref(r);
}

/* A conversation longer than the context continues in a sink cache, and stops without one. */
static void sink_cache_has_no_end(void **state) {
    const folder *f = *state;
    text_buffer lines = {0};
    for (int i = 0; i < 6; i++) OK(text_append(&lines, QUESTIONS, strlen(QUESTIONS)));
    put_text(in(f, "questions.jsonl"), lines.data);
    text_free(&lines);
    json_t *r = RUN_JSON(f, CHAT(f), "--questions", in(f, "questions.jsonl"), "--max_new_tokens", "4", "--sink_cache",
                         "--window_length", "48", "--num_sink_tokens", "2");
    assert_int_equal(json_array_size(json_object_get(r, "turns")), 18);
    assert_true(number_of(turn_of(r, 17), "prompt_tokens") > 64);
    json_decref(r);
    outcome o = RUN(f, CHAT(f), "--questions", in(f, "questions.jsonl"), "--max_new_tokens", "4");
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "use --sink_cache"));
    outcome_free(&o);
}

/* The answer to the rendered text alone. */
static void assert_first_answer(const folder *f, const char *rendered, const char *const *more) {
    const char *words[40] = {CHAT(f), "--questions", in(f, "questions.jsonl"), "--max_new_tokens", "12", "--json"};
    int count = 10;
    while (*more) words[count++] = *more++;
    json_t *chat = program_json(f, words);
    const char *generate[] = {"generate",
                              "--model_name_or_path",
                              in(f, "model"),
                              "--prompt",
                              rendered,
                              "--no_special_tokens",
                              "--length",
                              "12",
                              "--temperature",
                              "0",
                              NULL,
                              NULL};
    outcome shown = program_run(f, generate); /* the prompt and its continuation */
    generate[10] = "--json";
    json_t *plain = program_json(f, generate);
    const json_t *sequence = json_array_get(json_object_get(plain, "sequences"), 0);
    assert_int_equal(number_of(turn_of(chat, 0), "prompt_tokens"),
                     json_array_size(json_object_get(sequence, "prompt_ids")));
    const char *answer = json_string_value(json_object_get(turn_of(chat, 0), "answer"));
    size_t bytes = strlen(shown.output) - 1, end = strlen(answer);
    assert_true(end > 0 && end < bytes);
    if (memcmp(shown.output + bytes - end, answer, end) != 0) fail_msg("answered '%s' to '%s'", answer, shown.output);
    outcome_free(&shown);
    json_decref(chat);
    json_decref(plain);
}

static void template_and_system_prompt_are_rendered(void **state) {
    const folder *f = *state;
    put_text(in(f, "questions.jsonl"), "{\"turns\": [\"the cat\"]}\n");
    write_template(f);
    assert_first_answer(f, "<s>[user]the cat[a]", (const char *const[]){NULL});
    assert_first_answer(f, "<s>[system]on[user]the cat[a]", (const char *const[]){"--system_prompt", "on", NULL});
    put_text(in(f, "other.jinja"), "<s>{{ messages[0].content }}:");
    assert_first_answer(f, "<s>the cat:", (const char *const[]){"--chat_template", in(f, "other.jinja"), NULL});
}

/* If a token of the answer is declared as EOS, the answer ends before it. */
static void eos_tokens_end_answers(void **state) {
    const folder *f = *state;
    put_text(in(f, "questions.jsonl"), "{\"turns\": [\"the cat\"]}\n");
    write_template(f);
    json_t *plain = RUN_JSON(f, "generate", "--model_name_or_path", in(f, "model"), "--prompt", "<s>[user]the cat[a]",
                             "--no_special_tokens", "--length", "12", "--temperature", "0");
    const json_t *ids = json_object_get(json_array_get(json_object_get(plain, "sequences"), 0), "ids");
    int32_t second = (int32_t)json_integer_value(json_array_get(ids, 1));
    size_t first_at = 0;
    while (json_integer_value(json_array_get(ids, first_at)) != second) first_at++;
    lckv_tokenizer *t;
    OK(lckv_tokenizer_open(in(f, "model"), &t));
    json_t *r = RUN_JSON(f, CHAT(f), "--questions", in(f, "questions.jsonl"), "--eos_tokens",
                         lckv_tokenizer_id_to_token(t, second));
    assert_int_equal(number_of(turn_of(r, 0), "new_tokens"), first_at + 1);
    lckv_tokenizer_free(t);
    json_decref(r);
    json_decref(plain);
    REFUSES(f, 2, "the tokenizer has no token 'zork'", CHAT(f), "--eos_tokens", "zork");
}

static void wrong_files_and_flags_are_refused(void **state) {
    const folder *f = *state;
    put_text(in(f, "bad.jsonl"), "{\"turns\": [\"a\"]}\n{\"turns\": [1]}\n");
    put_text(in(f, "bad.yaml"), "examples:\n  one: two\n  three: |\n");
    put_text(in(f, "bad.jinja"), "\n{% zork %}");
    outcome o = RUN(f, CHAT(f), "--questions", in(f, "bad.jsonl"), "--max_new_tokens", "2");
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "bad.jsonl: line 2: expected every turn to be a string"));
    outcome_free(&o);
    REFUSES(f, 1, "cannot read", CHAT(f), "--questions", in(f, "absent.jsonl"));
    REFUSES(f, 1, "bad.yaml: line 3: expected a text on one line", CHAT(f), "--examples_path", in(f, "bad.yaml"));
    REFUSES(f, 1, "bad.jinja: line 2: the statement {% zork %}", CHAT(f), "--chat_template", in(f, "bad.jinja"));
    REFUSES(f, 2, "--json requires --questions", CHAT(f), "--json");
    REFUSES(f, 2, "--num_sink_tokens", CHAT(f), "--sink_cache", "--window_length", "2");
}

/* ---------------------------------------------------------------- a terminal */

typedef struct terminal {
    pid_t child;
    int handle;
    text_buffer shown;
    size_t seen; /* position up to which expect() has read */
} terminal;

/* Reads until the words appear after those expected before; fails after a minute. */
static void expect(terminal *t, const char *words) {
    time_t end = time(NULL) + 60;
    char chunk[4096];
    while (true) {
        const char *found = t->shown.data ? strstr(t->shown.data + t->seen, words) : NULL;
        if (found) {
            t->seen = (size_t)(found - t->shown.data) + strlen(words);
            return;
        }
        struct pollfd ready = {.fd = t->handle, .events = POLLIN};
        poll(&ready, 1, 1000);
        ssize_t got = ready.revents ? read(t->handle, chunk, sizeof chunk) : 0;
        for (ssize_t i = 0; i < got; i++)
            if (!chunk[i]) chunk[i] = '?'; /* a random model may generate this too */
        if (got > 0) OK(text_append(&t->shown, chunk, (size_t)got));
        if (got < 0 || time(NULL) > end) fail_msg("'%s' did not come: %s", words, t->shown.data + t->seen);
    }
}

static terminal terminal_start(const char *const *words) {
    terminal t = {0};
    char *arguments[64] = {(char *)(uintptr_t)program_path()};
    int count = 1;
    while (*words) arguments[count++] = (char *)(uintptr_t)*words++;
    t.child = forkpty(&t.handle, NULL, NULL, NULL);
    if (t.child < 0) SKIP("this system has no pseudo-terminals (/dev/pts)");
    if (t.child) {
        expect(&t, "Ctrl-D to leave.");
        return t;
    }
    setenv("TERM", "xterm", 1);
    execv(arguments[0], arguments);
    _exit(99);
}

#define START(...) terminal_start((const char *const[]){__VA_ARGS__, NULL})

static void type(terminal *t, const char *keys) {
    assert_int_equal(write(t->handle, keys, strlen(keys)), strlen(keys));
}

/* libedit prints its prompt before it reads single keys. */
static void expect_prompt(terminal *t) {
    struct termios now;
    expect(t, "Human: ");
    for (int i = 0; i < 6000; i++) {
        assert_int_equal(tcgetattr(t->handle, &now), 0);
        if (!EDITS || !(now.c_lflag & ICANON)) return;
        usleep(10000);
    }
    fail_msg("the terminal takes whole lines");
}

/* Waits for the prompt and types a line. */
static void enter(terminal *t, const char *line) {
    expect_prompt(t);
    type(t, line);
    type(t, "\r");
}

static void terminal_end(terminal *t, int code) {
    char chunk[4096];
    while (read(t->handle, chunk, sizeof chunk) > 0) continue;
    assert_int_equal(program_wait(t->child), code);
    close(t->handle);
    text_free(&t->shown);
}

static json_t *saved(terminal *t, const folder *f, const char *name) {
    char line[600];
    json_t *all;
    snprintf(line, sizeof line, "save %s", in(f, name));
    enter(t, line);
    expect(t, "Saved to");
    OK(json_read_file(in(f, name), &all));
    return all;
}

static void assert_message(const json_t *all, size_t i, const char *role, const char *content) {
    const json_t *message = json_array_get(json_object_get(all, "messages"), i);
    assert_string_equal(json_string_value(json_object_get(message, "role")), role);
    if (content) assert_string_equal(json_string_value(json_object_get(message, "content")), content);
}

static void assert_messages(const json_t *all, size_t count) {
    assert_int_equal(json_array_size(json_object_get(all, "messages")), count);
}

static void text_may_be_other_than_utf8(void **state) {
    const folder *f = *state;
    terminal t = START(CHAT(f), LONG_MODEL, "--system_prompt", "caf\xe9", "--max_new_tokens", "4");
    json_t *all = saved(&t, f, "one.json");
    assert_message(all, 0, "system", "caf\xef\xbf\xbd");
    json_decref(all);
    enter(&t, "quit");
    terminal_end(&t, 0);
}

static void commands_do_what_they_say(void **state) {
    const folder *f = *state;
    put_text(in(f, "more.yaml"), "# mine\nexamples:\n  cat: the cat\n  dog:\n    text: \"a\\tb\"\n");
    terminal t = START(CHAT(f), LONG_MODEL, "--system_prompt", "be", "--max_new_tokens", "4", "--examples_path",
                       in(f, "more.yaml"));
    enter(&t, "the cat");
    expect(&t, "Assistant: ");
    json_t *all = saved(&t, f, "one.json");
    assert_messages(all, 3);
    assert_message(all, 0, "system", "be");
    assert_message(all, 1, "user", "the cat");
    assert_message(all, 2, "assistant", NULL);
    json_decref(all);

    enter(&t, "help");
    expect(&t, "set temperature=0.5;top_p=0.9");
    enter(&t, "set max_new_tokens=2;top_p=0.5");
    enter(&t, "set top_k=3;temperature=-1");
    expect(&t, "temperature: expected a number from 0");
    enter(&t, "/system you");
    expect(&t, "New conversation.");
    enter(&t, "example dog");
    expect(&t, "Assistant: ");
    enter(&t, "/example zork");
    expect(&t, "no example 'zork'");
    enter(&t, " clear"); /* a message */
    expect(&t, "Assistant: ");
    enter(&t, "/zork");
    expect(&t, "Unknown command '/zork'");
    all = saved(&t, f, "two.json");
    const json_t *settings = json_object_get(all, "settings");
    assert_int_equal(number_of(settings, "max_new_tokens"), 2);
    assert_int_equal(number_of(settings, "top_k"), 50);
    assert_true(json_real_value(json_object_get(settings, "top_p")) == 0.5);
    assert_messages(all, 5);
    assert_message(all, 0, "system", "you");
    assert_message(all, 1, "user", "a\tb");
    assert_message(all, 3, "user", "clear");
    json_decref(all);

    enter(&t, "reset");
    expect(&t, "New conversation.");
    all = saved(&t, f, "three.json");
    assert_int_equal(number_of(json_object_get(all, "settings"), "max_new_tokens"), 4);
    assert_messages(all, 1);
    assert_message(all, 0, "system", "be");
    json_decref(all);
    enter(&t, "example cat");
    enter(&t, "clear");
    expect(&t, "New conversation.");
    all = saved(&t, f, "four.json");
    assert_messages(all, 1);
    json_decref(all);
    enter(&t, "exit");
    terminal_end(&t, 0);
}

static void words_that_end(void **state) {
    static const char *const words[] = {"exit", "quit", "/exit", "/quit", "/bye"};
    const folder *f = *state;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        terminal t = START(CHAT(f), LONG_MODEL, "--max_new_tokens", "2");
        enter(&t, words[i]);
        terminal_end(&t, 0);
    }
    terminal t = START(CHAT(f), LONG_MODEL, "--max_new_tokens", "2");
    enter(&t, "bye"); /* without the slash it is a message */
    expect(&t, "Assistant: ");
    enter(&t, "help");
    expect(&t, "exit, quit");
    enter(&t, "quit");
    terminal_end(&t, 0);
}

/* An answer that would take practically forever. */
static void ctrl_c_stops_the_answer(void **state) {
    const folder *f = *state;
    terminal t = START(CHAT(f), "--sink_cache", "--window_length", "32", "--max_new_tokens", "100000000",
                       "--config_overrides", "eos_token_id=0");
    for (int i = 0; i < 2; i++) {
        enter(&t, i ? "the cat" : "a b");
        expect(&t, "Assistant: ");
        struct pollfd ready = {.fd = t.handle, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 60000), 1); /* it streams */
        type(&t, "\003");
    }
    expect_prompt(&t);
    type(&t, "not said\003");
    json_t *all = saved(&t, f, "stopped.json");
    assert_messages(all, 4);
    assert_message(all, 0, "user", "a b");
    assert_message(all, 1, "assistant", NULL);
    assert_message(all, 2, "user", "the cat");
    assert_true(json_string_length(json_object_get(json_array_get(json_object_get(all, "messages"), 1), "content")) >
                0);
    json_decref(all);
    expect_prompt(&t);
    type(&t, "\004"); /* Ctrl-D */
    terminal_end(&t, 0);
}

static void lines_are_edited_and_remembered(void **state) {
#ifdef LCKV_EDIT
    const folder *f = *state;
    terminal t = START(CHAT(f), LONG_MODEL, "--max_new_tokens", "2");
    enter(&t, "thee cat\033[D\033[D\033[D\033[D\177"); /* four to the left, and delete one */
    expect(&t, "Assistant: ");
    enter(&t, "\033[A"); /* previous line */
    expect(&t, "Assistant: ");
    json_t *all = saved(&t, f, "edited.json");
    assert_messages(all, 4);
    assert_message(all, 0, "user", "the cat");
    assert_message(all, 2, "user", "the cat");
    json_decref(all);
    enter(&t, "/exit");
    terminal_end(&t, 0);
#else
    (void)state;
    print_message("skipped: built without libedit\n");
    skip();
#endif
}

/* If a conversation exceeds the context, the message is dropped and the program continues. */
static void too_long_is_told(void **state) {
    const folder *f = *state;
    terminal t = START(CHAT(f), "--max_new_tokens", "8");
    enter(&t, "the cat sat on the cat the cat sat on the cat the cat sat on the cat the cat sat on the cat the cat sat "
              "on the cat the cat sat on the cat the cat sat on the cat the cat sat on the cat the cat sat on the cat");
    expect(&t, "type clear to start a new conversation, or use --sink_cache");
    json_t *all = saved(&t, f, "long.json");
    assert_messages(all, 0);
    json_decref(all);
    enter(&t, "exit");
    terminal_end(&t, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(turns_are_one_conversation),
        WITH_MODEL(sink_cache_has_no_end),
        WITH_MODEL(template_and_system_prompt_are_rendered),
        WITH_MODEL(eos_tokens_end_answers),
        WITH_MODEL(wrong_files_and_flags_are_refused),
        WITH_MODEL(text_may_be_other_than_utf8),
        WITH_MODEL(commands_do_what_they_say),
        WITH_MODEL(words_that_end),
        WITH_MODEL(ctrl_c_stops_the_answer),
        WITH_MODEL(lines_are_edited_and_remembered),
        WITH_MODEL(too_long_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
