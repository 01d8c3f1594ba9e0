/* lckv tokenize as a program: a JSON line per text, decoding, invalid flags and lines, exit codes. */
#include "text_fixture.h"

#include "skipping.h"

#include <sys/stat.h>
#include <sys/wait.h>

enum { PATH_ROOM = 4096 };

static const char TOKENIZER[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": true}], \"pre_tokenizer\": null,\n"
    " \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, "
    "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [0]}}},\n"
    " \"decoder\": {\"type\": \"Fuse\"}, \"model\": {\"type\": \"BPE\", \"unk_token\": \"?\", "
    "\"vocab\": {\"<s>\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, \"?\": 4, \"\xC3\xA9\": 5, \"\\n\": 6}, \"merges\": [\"a "
    "b\"]}}";

typedef struct scene {
    char folder[64], program[PATH_ROOM];
} scene;

static int open_scene(void **state) {
    scene *s = calloc(1, sizeof *s);
    char file[PATH_ROOM];
    if (!s) return -1;
    snprintf(s->program, sizeof s->program, "%s", PROGRAM);
    strcpy(s->folder, "/tmp/lckv_text_XXXXXX");
    if (!mkdtemp(s->folder)) return -1;
    snprintf(file, sizeof file, "%s/tokenizer.json", s->folder);
    *state = s;
    return file_replace(file, TOKENIZER, strlen(TOKENIZER));
}

static int close_scene(void **state) {
    scene *s = *state;
    static const char *const files[] = {"tokenizer.json", "in", "out", "err", "text", "pipe", "pointer"};
    char file[PATH_ROOM];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(file, sizeof file, "%s/%s", s->folder, files[i]);
        unlink(file);
    }
    rmdir(s->folder);
    free(s);
    return 0;
}

static void put(const scene *s, const char *name, const char *text, size_t bytes) {
    char file[PATH_ROOM];
    snprintf(file, sizeof file, "%s/%s", s->folder, name);
    OK(file_replace(file, text, bytes));
}

static void assert_file(const scene *s, const char *name, const char *expected, bool whole) {
    char file[PATH_ROOM], *text;
    size_t bytes;
    snprintf(file, sizeof file, "%s/%s", s->folder, name);
    OK(file_read(file, &text, &bytes));
    if (whole ? strcmp(text, expected) != 0 : !strstr(text, expected))
        fail_msg("%s: '%s' should %s '%s'", name, text, whole ? "be" : "contain", expected);
    free(text);
}

/* Runs `lckv tokenize` with these flags (in shell syntax) and `input`; returns the exit code. */
static int run(const scene *s, const char *flags, const char *input) {
    char command[3 * PATH_ROOM];
    if (access(s->program, X_OK) != 0) {
        print_message("skipped: %s is not built\n", s->program);
        skip();
    }
    put(s, "in", input, strlen(input));
    snprintf(command, sizeof command, "cd %s && '%s' tokenize --tokenizer_name . %s < in > out 2> err", s->folder,
             s->program, flags);
    return WEXITSTATUS(system(command));
}

static void encodes(const scene *s, const char *flags, const char *input, const char *output) {
    int code = run(s, flags, input);
    if (code) assert_file(s, "err", "", true);
    assert_int_equal(code, 0);
    assert_file(s, "out", output, true);
}

static void refuses(const scene *s, int code, const char *flags, const char *input, const char *says) {
    assert_int_equal(run(s, flags, input), code);
    assert_file(s, "err", says, false);
}

static void test_text_and_file(void **state) {
    const scene *s = *state;
    encodes(s, "--text abab", "", "{\"ids\":[0,3,3]}\n");
    encodes(s, "--text abab --no_special_tokens", "", "{\"ids\":[3,3]}\n");
    encodes(s, "--text ''", "", "{\"ids\":[0]}\n");
    encodes(s, "--text '' --no-special-tokens", "", "{\"ids\":[]}\n");
    put(s, "text", "a\xFF\nab\n", 6); /* the line break is part of it; FF is neither UTF-8 nor a token */
    encodes(s, "--file text", "", "{\"ids\":[0,1,4,6,3,6]}\n");
}

static void test_json_lines(void **state) {
    const scene *s = *state;
    encodes(s, "--jsonl", "{\"text\": \"ab\"}\n\n{\"id\": 7, \"text\": \"\\u00e9\"}",
            "{\"ids\":[0,3]}\n{\"ids\":[0,5]}\n");
    encodes(s, "--jsonl", "", "");
    refuses(s, 1, "--jsonl", "{\"text\": \"ab\"}\n{\"text\": 1}\n", "line 2: expected an object with text");
    assert_file(s, "out", "{\"ids\":[0,3]}\n", true); /* the lines before */
    refuses(s, 1, "--jsonl", "{\"text\": \n", "line 1");
}

/* A named pipe is rejected without waiting; a redirection of the shell is read. */
static void test_pipes(void **state) {
    const scene *s = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/pipe", s->folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(60);
    refuses(s, 1, "--file pipe", "",
            "cannot read 'pipe': it is a pipe or a device, not a regular file; name /dev/stdin");
    refuses(s, 1, "--tokenizer_name pipe --text a", "", "'pipe' is neither a folder nor");
    refuses(s, 1, "--file /dev/zero", "", "it is a pipe or a device");
    refuses(s, 1, "--file .", "", "it is a folder");
    static const char POINTER[] = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    put(s, "pointer", POINTER, sizeof POINTER - 1);
    refuses(s, 1, "--file pointer", "", "it is a Git LFS pointer, not the file itself");
    snprintf(path, sizeof path, "%s/special_tokens_map.json",
             s->folder); /* a pipe beside tokenizer.json is rejected too */
    assert_int_equal(mkfifo(path, 0600), 0);
    refuses(s, 1, "--text a", "", "special_tokens_map.json' is not a regular file: it is a named pipe");
    assert_int_equal(unlink(path), 0);
    alarm(0);
}

static void test_standard_input(void **state) {
    const scene *s = *state;
    if (access("/dev/stdin", R_OK) != 0) SKIP("there is no /dev/stdin, which needs /proc");
    encodes(s, "--file /dev/stdin", "abab", "{\"ids\":[0,3,3]}\n");
    encodes(s, "--file /dev/fd/0", "abab", "{\"ids\":[0,3,3]}\n");
}

static void test_deep_json(void **state) {
    const scene *s = *state;
    char deep[3000];
    memset(deep, '[', 2500);
    deep[2500] = '\0';
    refuses(s, 1, "--jsonl", deep, "line 1: JSON nested more than 128 levels deep");
}

static void test_decode(void **state) {
    const scene *s = *state;
    encodes(s, "--decode", "{\"ids\": [0, 3, 5]}\n{\"ids\": []}\n", "{\"text\":\"<s>ab\xC3\xA9\"}\n{\"text\":\"\"}\n");
    encodes(s, "--decode --skip_special_tokens", "{\"ids\": [0, 3, 6]}\n", "{\"text\":\"ab\\n\"}\n");
    refuses(s, 1, "--decode", "{\"ids\": [7]}\n", "line 1: the tokenizer has no token with id 7");
    refuses(s, 1, "--decode", "{\"ids\": [4294967297]}\n", "line 1: expected an object with ids");
    refuses(s, 1, "--decode", "{\"ids\": [1.0]}\n", "line 1: expected an object with ids");
    refuses(s, 1, "--decode", "{\"ids\": 1}\n", "line 1: expected an object with ids");
}

static void test_wrong_usage(void **state) {
    const scene *s = *state;
    refuses(s, 2, "", "", "found 0");
    refuses(s, 2, "--text a --file b", "", "found 2");
    refuses(s, 2, "--decode --jsonl", "", "found 2");
    refuses(s, 2, "--decode --no_special_tokens", "", "--skip_special_tokens");
    refuses(s, 2, "--text a --skip_special_tokens", "", "--no_special_tokens");
    refuses(s, 2, "--text a --tokeniser_name x", "", "tokenizer_name");
    refuses(s, 1, "--file nothing", "", "nothing");
    refuses(s, 1, "--tokenizer_name nowhere --text a", "", "nowhere");
}

int main(void) {
#define IN_SCENE(test) cmocka_unit_test_setup_teardown(test, open_scene, close_scene)
    const struct CMUnitTest tests[] = {
        IN_SCENE(test_text_and_file),  IN_SCENE(test_json_lines), IN_SCENE(test_pipes),
        IN_SCENE(test_standard_input), IN_SCENE(test_deep_json),  IN_SCENE(test_decode),
        IN_SCENE(test_wrong_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
